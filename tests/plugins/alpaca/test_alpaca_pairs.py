"""The legs of a bracket at Alpaca: a stop and a take-profit are one order of the class oco, each known by its own id."""

from decimal import Decimal

import msgspec
import pytest
from torghut_brokers.alpaca import Alpaca, pairs, terms
from torghut_testing import decision
from torghut_testing.alpaca import Fault

from support.waiting import until
from torghut_core import (
    Bracket,
    DuplicateOrder,
    OrderRefused,
    OrderState,
    OrderType,
    Purpose,
    Side,
    Throttled,
    Unanswered,
)

STOP, PROFIT = "tg-1-s1", "tg-1-p1"
POST = {"method": "POST", "path": "/v2/orders"}
PATIENT = {"timeout_seconds": 30.0}


@pytest.fixture
def broker(kit):
    """One that waits for answers on a slow machine too: none of these tests is about time."""
    return kit.connect(**PATIENT)


@pytest.fixture
def legs(fake, kit):
    """The stop at 9 and the take-profit at 12 of the ten shares that are held; each names the other."""
    fake.venue.set_price("AAPL", 10)
    fake.venue.set_position("AAPL", 10)
    given = {"symbol": "AAPL", "purpose": Purpose.EXIT, "parent": "tg-1", "parent_fill": "1"}
    stop = kit.order(STOP, "sell", "10", order_type=OrderType.STOP, stop_price=Decimal(9), **given)
    profit = kit.order(PROFIT, "sell", "10", order_type=OrderType.LIMIT, limit_price=Decimal(12), **given)
    replace = msgspec.structs.replace
    return {STOP: replace(stop, partner=profit), PROFIT: replace(profit, partner=stop)}


@pytest.fixture
def pair(broker, legs):
    broker.submit(legs[STOP])
    return broker


def bodies(fake):
    return [msgspec.json.decode(request.body) for request in fake.requests if request.method == "POST"]


def shown(broker):
    return {order.intent.client_order_id: order.state for order in broker.orders()}


def reported(broker, number, wanted):
    """Wait until the stream has said that an order is in a state."""
    seen = []

    def is_said():
        seen.extend((each.order.intent.client_order_id, each.order.state) for each in broker.updates())
        return (number, wanted) in seen

    until(is_said)
    assert all(name in (STOP, PROFIT) for name, _ in seen), "no update has an id of the venue's"


@pytest.mark.parametrize("first", [STOP, PROFIT])
def test_two_legs_are_one_order(fake, broker, legs, first):
    """Whichever comes first brings both; the other one is found there."""
    status = broker.submit(legs[first])
    assert status.order.intent.client_order_id == first
    assert status.order.state == OrderState.ACCEPTED
    second = PROFIT if first == STOP else STOP
    with pytest.raises(DuplicateOrder):
        broker.submit(legs[second])
    assert broker.find(second).order.intent.client_order_id == second
    body = bodies(fake)[0]
    assert body["order_class"] == "oco"
    assert (body["client_order_id"], body["type"], body["side"]) == (PROFIT, "limit", "sell")
    assert (body["take_profit"], body["stop_loss"]) == ({"limit_price": "12"}, {"stop_price": "9"})
    assert shown(broker) == {STOP: OrderState.ACCEPTED, PROFIT: OrderState.ACCEPTED}


@pytest.mark.parametrize(
    "changes",
    [
        {"partner": None},
        {"quantity": Decimal("9.5")},
        {"order_type": OrderType.TRAILING_STOP, "stop_price": None, "trail_price": Decimal(1)},
        {"symbol": "BTC/USD"},
        {"client_order_id": "tg-1-s1r2"},
    ],
)
def test_what_is_sent_alone(legs, changes):
    """Only two legs of one quantity, in whole shares, whose ids belong together."""
    assert pairs.pair_of(legs[STOP]) is not None
    assert pairs.pair_of(msgspec.structs.replace(legs[STOP], **changes)) is None


@pytest.mark.parametrize(("price", "filled", "ended"), [(9, STOP, PROFIT), (12, PROFIT, STOP)])
@pytest.mark.parametrize("is_replacing", [False, True])
def test_one_leg_ends_the_other(fake, pair, price, filled, ended, is_replacing):
    """The venue does it, in either of the ways that were reported, and both are said under our ids."""
    fake.venue.stops_replace = is_replacing
    fake.venue.set_price("AAPL", price)
    reported(pair, filled, OrderState.FILLED)
    assert pair.find(filled).order.state == OrderState.FILLED
    assert pair.find(ended).order.state == OrderState.CANCELED
    assert pair.find(ended).order.filled_quantity == 0
    assert shown(pair) == {}
    assert pair.positions() == {}


def test_end_of_the_stop_is_said(fake, pair):
    """Under its id, though the venue's message has another."""
    fake.venue.set_price("AAPL", 12)
    reported(pair, STOP, OrderState.CANCELED)


def test_another_process_knows_the_stop(fake, kit, pair):
    """Its name follows from that of the take-profit, also once the stop works alone."""
    other = kit.connect(**PATIENT)
    assert shown(other) == {STOP: OrderState.ACCEPTED, PROFIT: OrderState.ACCEPTED}
    assert kit.connect(**PATIENT).find(STOP).order.intent.stop_price == 9
    fake.venue.hold("AAPL")
    stop = fake.venue.order(PROFIT, nested=True)["legs"][0]["id"]
    fake.venue.fill(stop, 4, 9)
    last = kit.connect(**PATIENT)
    assert shown(last) == {STOP: OrderState.PARTIALLY_FILLED}
    assert last.find(PROFIT).order.state == OrderState.CANCELED
    assert {order.intent.client_order_id for order in last.done_since(0)} == {PROFIT}


def test_part_of_the_take_profit(fake, pair):
    """The stop is shown with what is left, and asking for that is no request."""
    fake.venue.hold("AAPL")
    fake.venue.fill(PROFIT, 4, 12)
    assert pair.find(STOP).order.intent.quantity == 6
    sent = len(fake.requests)
    pair.replace(STOP, Decimal(6))
    assert {request.method for request in fake.requests[sent:]} == {"GET"}
    assert 6 in [each.order.intent.quantity for each in pair.updates() if each.order.intent.client_order_id == STOP]
    stop = fake.venue.order(PROFIT, nested=True)["legs"][0]["id"]
    fake.venue._book.find(stop).qty = Decimal(10)  # a venue that is slow to make it smaller
    with pytest.raises(Throttled):
        pair.replace(STOP, Decimal(6))


@pytest.mark.parametrize("name", [STOP, PROFIT])
def test_a_leg_gets_another_price(fake, pair, name):
    """It stays the order that it was, and its pair a pair; a full-length id leaves room for the number of the change."""
    price = {"stop_price": Decimal("9.5")} if name == STOP else {"limit_price": Decimal(13)}
    pair.replace(name, **price)
    found = pair.find(name).order
    assert {term: getattr(found.intent, term) for term in price} == price
    assert shown(pair) == {STOP: OrderState.ACCEPTED, PROFIT: OrderState.ACCEPTED}
    fake.venue.set_price("AAPL", "9.5" if name == STOP else 13)
    reported(pair, name, OrderState.FILLED)


def test_change_of_a_leg_whose_id_is_long(fake, broker, legs):
    """The name of a change stays within the length that the venue documents."""
    stem = "tg-" + "ab" * 20
    stop, profit = (msgspec.structs.replace(legs[leg], client_order_id=f"{stem}-{leg[-2:]}") for leg in (STOP, PROFIT))
    broker.submit(msgspec.structs.replace(stop, partner=profit))
    broker.replace(stop.client_order_id, stop_price=Decimal("9.5"))
    assert broker.find(stop.client_order_id).order.intent.stop_price == Decimal("9.5")
    assert all(len(order["client_order_id"]) <= 48 for order in fake.venue.orders())


@pytest.mark.parametrize("name", [STOP, PROFIT])
def test_cancel_of_one_cancels_both(fake, pair, name):
    """The venue does not let one of a pair stay; asking for the second is no error."""
    pair.cancel(name)
    pair.cancel(PROFIT if name == STOP else STOP)
    reported(pair, STOP, OrderState.CANCELED)
    assert shown(pair) == {}


def test_quantity_of_a_pair_is_refused(pair):
    """As the venue does: the kernel then takes the leg back."""
    with pytest.raises(OrderRefused):
        pair.replace(STOP, Decimal(5))


def test_pair_whose_fill_is_not_booked_yet(fake, broker, legs):
    """Second hand: just after the entry the venue does not know the position. It is asked again."""
    fake.venue.set_position("AAPL", 0)
    with pytest.raises(Throttled):
        broker.submit(legs[STOP])


def test_stop_that_the_market_has_passed(fake, broker, legs):
    """A pair is refused then. The stop goes alone and fills at once; the take-profit is refused."""
    fake.venue.set_price("AAPL", "8.5")
    with pytest.raises(OrderRefused):
        broker.submit(legs[PROFIT])
    broker.submit(legs[STOP])
    until(lambda: broker.find(STOP).order.state == OrderState.FILLED)


def test_lost_answer_to_a_pair(fake, broker, legs):
    """The order that was placed all the same is found by either id."""
    fake.faults.add(Fault.cut(after=True, **POST))
    with pytest.raises(Unanswered):
        broker.submit(legs[STOP])
    assert {broker.find(name).order.intent.client_order_id for name in (STOP, PROFIT)} == {STOP, PROFIT}
    assert broker.find("tg-2-s1") is None


def test_pair_of_another_program(fake, broker, legs):
    """Its orders keep the ids that they have, and are foreign."""
    prices = {"take_profit": {"limit_price": "12"}, "stop_loss": {"stop_price": "9"}}
    order = fake.venue.place("AAPL", "sell", 10, type="limit", order_class="oco", client_order_id="theirs", **prices)
    stop = fake.venue.order(order["id"], nested=True)["legs"][0]["client_order_id"]
    assert set(shown(broker)) == {"theirs", stop}


def bracket_of(symbol="AAPL", quantity="10", time_in_force="day", **given):
    prices = {name: Decimal(price) for name, price in given.items()}
    return decision(symbol=symbol, quantity=quantity, time_in_force=time_in_force, bracket=Bracket(**prices))


@pytest.mark.parametrize(
    ("asked", "objection"),
    [
        ({"stop_loss": "9", "take_profit": "12"}, ""),
        ({"trail": "1"}, ""),
        ({"trail": "1", "take_profit": "12"}, ""),
        ({"stop_loss": "9", "quantity": "1.5"}, "stop_loss for a fraction"),
        ({"stop_loss": "9.001"}, "stop_loss 9.001 is not a multiple of 0.01"),
        ({"stop_loss": "90", "symbol": "BTC/USD", "time_in_force": "gtc"}, ""),
        ({"take_profit": "90", "symbol": "BTC/USD", "time_in_force": "gtc"}, ""),
        ({"stop_loss": "90", "take_profit": "120", "symbol": "BTC/USD", "time_in_force": "gtc"}, ""),
        ({"trail": "1", "symbol": "BTC/USD", "time_in_force": "gtc"}, "trail for crypto"),
    ],
)
def test_brackets_that_the_venue_holds(asked, objection):
    """What it does not hold is denied with the decision, not when the fill is there."""
    assert Alpaca(Alpaca.Params()).objection(bracket_of(**asked)) == objection


@pytest.mark.parametrize(("side", "stop", "limit"), [(Side.SELL, "90", "85.5"), (Side.BUY, "110", "115.5")])
def test_stop_of_crypto(fake, kit, broker, side, stop, limit):
    """The venue has stop-limit orders only: the stop has room, and is reported as ours."""
    fake.venue.set_position("BTC/USD", 5)
    intent = kit.order("tg-1-s1", side, "5", order_type=OrderType.STOP, stop_price=Decimal(stop), purpose=Purpose.EXIT)
    assert terms.limit_beyond(intent) == Decimal(limit)
    broker.submit(intent)
    (body,) = bodies(fake)
    assert (body["type"], Decimal(body["stop_price"]), Decimal(body["limit_price"])) == (
        "stop_limit",
        Decimal(stop),
        Decimal(limit),
    )
