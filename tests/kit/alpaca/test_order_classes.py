"""Orders of the classes bracket, oco and oto: what is taken, and how the orders of one request depend on each other."""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_testing.alpaca import FakeVenue, Refusal

from support.effort import examples

TARGET, STOP = {"limit_price": "12"}, {"stop_price": "9"}
PAIR = {"type": "limit", "time_in_force": "gtc", "order_class": "oco", "take_profit": TARGET, "stop_loss": STOP}
BRACKET = {"order_class": "bracket", "take_profit": TARGET, "stop_loss": STOP}


@pytest.fixture
def venue():
    made = FakeVenue(cash=10_000)
    made.set_price("AAPL", 10)
    made.set_price("BTC/USD", 100)
    return made


@pytest.fixture
def pair(venue):
    """A take-profit at 12 and a stop at 9 for the 10 shares that are held."""
    venue.set_position("AAPL", 10)
    return submitted(venue, "sell", client_order_id="ours", **PAIR)


def submitted(venue, side="buy", qty=10, **fields):
    body = {
        "symbol": "AAPL",
        "side": side,
        "qty": None if qty is None else str(qty),
        "type": "market",
        "time_in_force": "day",
        **fields,
    }
    return venue.submit({name: value for name, value in body.items() if value is not None})


def refused(call, *args, **kwargs):
    with pytest.raises(Refusal) as raised:
        call(*args, **kwargs)
    return raised.value.status, raised.value.body["code"], raised.value.body["message"]


def states(venue, *orders):
    return [venue.order(order["id"])["status"] for order in orders]


def told(venue):
    return [(event["event"], event["order"]["type"]) for event in venue.events]


# Pairs of exits.


def test_pair_is_a_take_profit_with_a_stop_as_its_leg(venue, pair):
    """The answer is the take-profit, with our client order id, and its leg is the stop, held, with an id of the venue's."""
    (stop,) = pair["legs"]
    assert (pair["client_order_id"], pair["type"], pair["limit_price"], pair["order_class"]) == (
        "ours",
        "limit",
        "12",
        "oco",
    )
    assert (stop["type"], stop["stop_price"], stop["status"], stop["order_class"]) == ("stop", "9", "held", "oco")
    assert stop["side"] == "sell"
    assert stop["qty"] == "10"
    assert stop["client_order_id"] not in ("", "ours")
    assert stop["submitted_at"] == pair["submitted_at"]
    assert states(venue, pair, stop) == ["new", "held"]
    assert told(venue) == [("pending_new", "limit"), ("held", "stop"), ("new", "limit")]


def test_limit_price_of_a_pair_is_that_of_the_take_profit(venue):
    """A limit price beside the take-profit's is not looked at."""
    venue.set_position("AAPL", 10)
    assert submitted(venue, "sell", **PAIR, limit_price="1")["limit_price"] == "12"


def test_stop_of_a_pair_may_have_a_limit(venue):
    """With a limit price the stop is a stop-limit order; a trail is dropped without a word."""
    venue.set_position("AAPL", 10)
    pair = submitted(venue, "sell", **PAIR | {"stop_loss": {**STOP, "limit_price": "8.5", "trail_percent": "5"}})
    (stop,) = pair["legs"]
    assert (stop["type"], stop["limit_price"], stop["trail_percent"]) == ("stop_limit", "8.5", None)


def test_target_of_a_pair_fills(venue, pair):
    """The stop is canceled, and the stream tells it."""
    venue.set_price("AAPL", 12)
    assert states(venue, pair, *pair["legs"]) == ["filled", "canceled"]
    assert told(venue)[3:] == [("fill", "limit"), ("canceled", "stop")]
    assert venue.positions() == []


def test_stop_of_a_pair_fills(venue, pair):
    """The take-profit is canceled first, since the units are held for it; then the stop works and fills."""
    venue.set_price("AAPL", 9)
    assert states(venue, pair, *pair["legs"]) == ["canceled", "filled"]
    assert told(venue)[3:] == [("canceled", "limit"), ("new", "stop"), ("fill", "stop")]
    assert venue.positions() == []


def test_stop_limit_of_a_pair_that_is_jumped_over(venue):
    """Once the stop price is reached the take-profit is gone, whether or not the stop's limit is there to fill."""
    venue.set_position("AAPL", 10)
    pair = submitted(venue, "sell", **PAIR | {"stop_loss": {"stop_price": "9", "limit_price": "8.5"}})
    venue.set_price("AAPL", 8)
    assert states(venue, pair, *pair["legs"]) == ["canceled", "new"]
    venue.set_price("AAPL", 13)
    assert states(venue, *pair["legs"]) == ["filled"]


@pytest.mark.parametrize("is_pair", [True, False])
def test_stop_that_replaces_its_take_profit(venue, is_pair):
    """With the switch, a stop that is reached ends the take-profit as an order that was replaced by the stop."""
    venue.stops_replace = True
    if is_pair:
        venue.set_position("AAPL", 10)
        target = submitted(venue, "sell", **PAIR)
        (stop,) = target["legs"]
    else:
        target, stop = submitted(venue, **BRACKET)["legs"]
    venue.set_price("AAPL", 9)
    assert states(venue, target, stop) == ["replaced", "filled"]
    assert venue.order(target["id"])["replaced_by"] == stop["id"]
    assert venue.orders("open") == []


def test_pair_of_a_short_position(venue):
    """To buy back, the take-profit is below the stop."""
    venue.set_position("AAPL", -10)
    prices = {"take_profit": {"limit_price": "8"}, "stop_loss": {"stop_price": "11"}}
    pair = submitted(venue, "buy", **PAIR | prices)
    venue.set_price("AAPL", 11)
    assert states(venue, pair, *pair["legs"]) == ["canceled", "filled"]


@pytest.mark.parametrize("which", [0, 1])
def test_cancel_of_one_cancels_the_pair(venue, pair, which):
    """Either of a pair takes the other with it, and a second cancel is refused."""
    orders = [pair, *pair["legs"]]
    venue.request_cancel(orders[which]["id"])
    assert states(venue, *orders) == ["canceled", "canceled"]
    assert refused(venue.request_cancel, orders[1 - which]["id"]) == (
        422,
        42210000,
        'order is already in "canceled" state',
    )
    assert venue.position("AAPL")["qty_available"] == "10"


def test_slow_cancel_of_a_pair(venue, pair):
    """While a cancel is pending the other order is as before; when it is rejected both are."""
    venue.slow_cancels = True
    (stop,) = pair["legs"]
    venue.request_cancel(stop["id"])
    assert states(venue, pair, stop) == ["new", "pending_cancel"]
    venue.reject_cancel(stop["id"])
    assert states(venue, pair, stop) == ["new", "held"]
    venue.request_cancel(pair["id"])
    venue.cancel(pair["id"])
    assert states(venue, pair, stop) == ["canceled", "canceled"]


def test_day_pair_expires_at_the_close(venue):
    """Both orders of a pair for the day expire; a pair that is good till canceled stays as it is."""
    venue.set_position("AAPL", 20)
    day, gtc = submitted(venue, "sell", **PAIR | {"time_in_force": "day"}), submitted(venue, "sell", **PAIR)
    venue.close_market()
    assert states(venue, day, *day["legs"]) == ["expired", "expired"]
    venue.set_price("AAPL", 9)
    assert states(venue, gtc, *gtc["legs"]) == ["new", "held"]
    venue.open_market()
    assert states(venue, gtc, *gtc["legs"]) == ["canceled", "filled"]


def test_pair_while_the_market_is_closed(venue):
    """The take-profit is accepted and the stop held until the session opens."""
    venue.set_position("AAPL", 10)
    venue.close_market()
    pair = submitted(venue, "sell", **PAIR)
    assert states(venue, pair, *pair["legs"]) == ["accepted", "held"]
    venue.open_market()
    assert states(venue, pair, *pair["legs"]) == ["new", "held"]


def test_part_of_the_target_shrinks_the_stop(venue, pair):
    """What the take-profit has sold, the stop does not sell any more."""
    venue.hold("AAPL")
    venue.fill(pair["id"], 4, 12)
    (stop,) = venue.order(pair["id"], nested=True)["legs"]
    assert (stop["qty"], stop["status"]) == ("6", "held")
    venue.fill(stop["id"], None, 9)
    assert states(venue, pair, stop) == ["canceled", "filled"]
    assert venue.positions() == []


def test_both_of_a_pair_fill(venue, pair):
    """In a fast market the other order may fill before it is canceled: a script lets it."""
    venue.set_price("AAPL", 12)
    venue.fill(pair["legs"][0]["id"], late=True)
    assert venue.position("AAPL")["qty"] == "-10"


def test_units_of_a_pair_are_held_once(venue, pair):
    """A pair holds its units once, and a second exit of them is refused, however it looks."""
    assert venue.position("AAPL")["qty_available"] == "0"
    with pytest.raises(Refusal) as raised:
        submitted(venue, "sell", type="stop", stop_price="8", time_in_force="gtc")
    assert (raised.value.status, raised.value.body) == (
        403,
        {
            "code": 40310000,
            "message": "insufficient qty available for order (requested: 10, available: 0)",
            "available": "0",
            "existing_qty": "10",
            "held_for_orders": "10",
            "symbol": "AAPL",
        },
    )
    assert refused(submitted, venue, "sell", **PAIR)[0] == 403
    assert refused(venue.close_position, "AAPL")[0] == 403


# Entries with legs.


def test_bracket_waits_for_its_entry(venue):
    """All of the entry has to fill before the take-profit works; the stop is held until it is needed."""
    venue.hold("AAPL")
    entry = submitted(venue, **BRACKET, client_order_id="ours")
    target, stop = entry["legs"]
    assert entry["client_order_id"] == "ours"
    assert [(leg["type"], leg["side"], leg["position_intent"]) for leg in entry["legs"]] == [
        ("limit", "sell", "sell_to_close"),
        ("stop", "sell", "sell_to_close"),
    ]
    venue.fill(entry["id"], 4)
    assert states(venue, entry, target, stop) == ["partially_filled", "held", "held"]
    with pytest.raises(ValueError, match="waits until"):
        venue.fill(stop["id"], 1)
    venue.fill(entry["id"])
    assert states(venue, entry, target, stop) == ["filled", "new", "held"]
    venue.release("AAPL")
    venue.set_price("AAPL", 8)
    assert states(venue, target, stop) == ["canceled", "filled"]


def test_legs_of_a_canceled_entry(venue):
    """The legs are canceled with it, even where a part of the entry has filled, which then has no protection."""
    venue.hold("AAPL")
    entry = submitted(venue, **BRACKET)
    venue.fill(entry["id"], 4)
    venue.request_cancel(entry["id"])
    assert states(venue, entry, *entry["legs"]) == ["canceled", "canceled", "canceled"]
    assert venue.position("AAPL")["qty_available"] == "4"


@pytest.mark.parametrize(
    ("leg", "price"),
    [({"stop_loss": STOP}, 9), ({"take_profit": TARGET}, 12), ({"stop_loss": {**STOP, "limit_price": "8"}}, 9)],
)
def test_entry_with_one_leg(venue, leg, price):
    """The leg of an oto order works as soon as the entry has filled."""
    entry = submitted(venue, order_class="oto", **leg)
    (only,) = entry["legs"]
    assert states(venue, entry, only) == ["filled", "new"]
    venue.set_price("AAPL", price)
    assert states(venue, only) == ["filled"]
    assert venue.positions() == []


def test_legs_of_a_simple_order_are_not_made(venue):
    """A simple order with prices for legs is taken without them."""
    for order_class in (None, "", "simple"):
        assert submitted(venue, **BRACKET | {"order_class": order_class}, qty=1)["legs"] is None
    assert len(venue.orders()) == 3


# What is refused.


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"order_class": "mleg"}, (422, 40010001, "invalid order_class")),
        ({"qty": "1.5"}, (422, 42210000, "fractional orders must be simple orders")),
        ({"qty": None, "notional": "20"}, (422, 42210000, "fractional orders must be simple orders")),
        ({"time_in_force": "ioc"}, (422, 40010001, 'bracket orders support only "day" or "gtc" time_in_force')),
        ({"extended_hours": True}, (403, 40310000, "bracket orders do not support extended hours trading")),
        ({"type": "stop", "stop_price": "11"}, (422, 40010001, "bracket orders must be market or limit orders")),
        ({"take_profit": None}, (422, 40010001, "bracket orders require take_profit.limit_price")),
        ({"stop_loss": {"trail_percent": "5"}}, (422, 40010001, "bracket orders require stop_loss.stop_price")),
        (
            {"stop_loss": {"stop_price": "13"}},
            (422, 42210000, "take_profit.limit_price must be > stop_loss.stop_price"),
        ),
        ({"side": "sell"}, (422, 42210000, "take_profit.limit_price must be < stop_loss.stop_price")),
        ({"stop_loss": {"stop_price": "10"}}, (422, 42210000, "stop_loss.stop_price must be <= base_price - 0.01")),
        (
            {"take_profit": {"limit_price": "10"}},
            (422, 42210000, "take_profit.limit_price must be >= base_price + 0.01"),
        ),
        ({"order_class": "oto"}, (422, 40010001, "oto orders require either take_profit or stop_loss")),
        ({"qty": "10000"}, (403, 40310000, "insufficient buying power")),
        (
            {"symbol": "BTC/USD", "time_in_force": "gtc"},
            (422, 42210000, "crypto orders not allowed for advanced order_class: otoco"),
        ),
        (
            {"order_class": "oco", "type": "limit"},
            (422, 42210000, "take_profit.limit_price must be < stop_loss.stop_price"),
        ),
        ({"order_class": "oco", "side": "sell"}, (422, 40010001, "oco orders must be limit orders")),
        (
            {"order_class": "oco", "side": "sell", "type": "limit", "limit_price": "12", "take_profit": None},
            (422, 40010001, "oco orders require take_profit.limit_price"),
        ),
        (
            {"order_class": "oco", "side": "sell", "type": "limit"},
            (422, 42210000, "oco orders must be exit orders"),
        ),
    ],
)
def test_what_is_not_allowed(venue, fields, answer):
    """Each thing that the venue does not allow is refused whole: no order of the request is left."""
    assert refused(submitted, venue, **BRACKET | fields) == answer
    assert venue.orders() == []


def test_entry_beside_a_position(venue):
    """What closes a position has no legs; what adds to it may have some."""
    venue.set_position("AAPL", -10)
    assert refused(submitted, venue, **BRACKET) == (422, 42210000, "bracket orders must be entry orders")
    venue.set_position("AAPL", 10)
    assert submitted(venue, **BRACKET)["legs"]


def test_price_that_a_stop_is_measured_from(venue):
    """A stop is below the entry's limit price and the market, and the refusal says by which."""
    with pytest.raises(Refusal) as raised:
        submitted(venue, **BRACKET, type="limit", limit_price="9")
    assert raised.value.body["base_price"] == "9"
    venue.set_position("AAPL", 10)
    with pytest.raises(Refusal) as raised:
        submitted(venue, "sell", **PAIR | {"stop_loss": {"stop_price": "10"}})
    assert raised.value.body["base_price"] == "10"


# Replacing.


def test_target_of_a_pair_is_replaced(venue, pair):
    """The new take-profit takes the place of the old one: the stop is its leg."""
    new = venue.replace(pair["id"], {"limit_price": "13", "client_order_id": "ours-2"})
    nested = venue.order(new["id"], nested=True)
    assert (new["replaces"], nested["status"], nested["order_class"]) == (pair["id"], "new", "oco")
    assert [leg["id"] for leg in nested["legs"]] == [pair["legs"][0]["id"]]
    venue.set_price("AAPL", 13)
    assert states(venue, pair, new, *pair["legs"]) == ["replaced", "filled", "canceled"]


def test_stop_of_a_pair_is_replaced(venue, pair):
    """A held stop can be moved: the new one is held as well, and may have a client order id."""
    (old,) = pair["legs"]
    new = venue.replace(old["id"], {"stop_price": "9.5", "client_order_id": "ours-stop"})
    (leg,) = venue.order(pair["id"], nested=True)["legs"]
    assert (leg["id"], leg["status"], leg["stop_price"], leg["client_order_id"]) == (
        new["id"],
        "held",
        "9.5",
        "ours-stop",
    )
    assert told(venue)[3:] == [("replaced", "stop"), ("held", "stop")]
    venue.set_price("AAPL", "9.5")
    assert states(venue, pair, old, new) == ["canceled", "replaced", "filled"]


def test_leg_of_a_bracket_is_replaced(venue):
    """The legs of a filled entry are replaced one by one, and stay a pair."""
    entry = submitted(venue, **BRACKET)
    target, stop = entry["legs"]
    higher = venue.replace(target["id"], {"limit_price": "13"})
    closer = venue.replace(stop["id"], {"stop_price": "9.5"})
    assert {leg["id"] for leg in venue.order(entry["id"], nested=True)["legs"]} == {higher["id"], closer["id"]}
    venue.set_price("AAPL", 13)
    assert states(venue, higher, closer) == ["filled", "canceled"]


def test_fill_overtakes_the_replacement_of_a_pair(venue, pair):
    """A replacement that is pending when the other order fills is rejected, and nothing is left open."""
    venue.slow_replaces = True
    (stop,) = pair["legs"]
    new = venue.replace(stop["id"], {"stop_price": "9.5"})
    assert states(venue, stop) == ["pending_replace"]
    venue.set_price("AAPL", 12)
    assert states(venue, pair, stop, new) == ["filled", "canceled", "rejected"]
    assert venue.orders("open") == []


def test_replacement_of_a_stop_that_shrinks_meanwhile(venue, pair):
    """A stop whose replacement is pending shrinks with its take-profit, and the new one is as small."""
    venue.hold("AAPL")
    venue.slow_replaces = True
    new = venue.replace(pair["legs"][0]["id"], {"stop_price": "9.5"})
    venue.fill(pair["id"], 4, 12)
    venue.confirm_replace(pair["legs"][0]["id"])
    assert (venue.order(new["id"])["qty"], venue.order(new["id"])["status"]) == ("6", "held")


@pytest.mark.parametrize(
    ("which", "changes", "message"),
    [
        (0, {"qty": "5"}, "qty of oco orders cannot be replaced"),
        (1, {"qty": "5"}, "qty of oco orders cannot be replaced"),
        (0, {"stop_price": "8"}, "limit orders must not have stop_price"),
        (1, {"limit_price": "8"}, "stop orders must not have limit_price"),
        (1, {"stop_price": "9"}, "order parameters are not changed"),
    ],
)
def test_replacement_in_a_pair_that_is_refused(venue, pair, which, changes, message):
    """Prices can be changed, each of its own order; the quantity cannot."""
    before = venue.orders()
    order = [pair, *pair["legs"]][which]
    assert refused(venue.replace, order["id"], changes) == (
        422,
        42210000 if "must" not in message else 40010001,
        message,
    )
    assert venue.orders() == before


def test_orders_that_cannot_be_replaced(venue):
    """An oto order, one for dollars, the quantity of a fractional one, and one that is only accepted stay as they are."""
    one = submitted(venue, order_class="oto", stop_loss=STOP)["legs"][0]
    assert refused(venue.replace, one["id"], {"stop_price": "8"})[2].endswith("not supported for oto orders")
    venue.request_cancel(one["id"])
    venue.hold("AAPL")
    dollars = submitted(venue, qty=None, notional="20")
    assert refused(venue.replace, dollars["id"], {"time_in_force": "gtc"})[2] == "notional orders cannot be replaced"
    part = submitted(venue, qty="1.5", type="limit", limit_price="9")
    assert refused(venue.replace, part["id"], {"qty": "2"})[2] == "qty of fractional orders cannot be replaced"
    assert venue.replace(part["id"], {"limit_price": "8"})["qty"] == "1.5"
    venue.close_market()
    venue.release("AAPL")
    waiting = submitted(venue, qty="2", type="limit", limit_price="9")
    assert refused(venue.replace, waiting["id"], {"qty": "3"})[2] == "cannot replace order in accepted status"


# Lists, and the state.


def test_lists_of_a_pair(venue, pair):
    """A held stop is not among the open orders, but under its take-profit where the list is nested."""
    (stop,) = pair["legs"]
    assert [order["id"] for order in venue.orders("open")] == [pair["id"]]
    assert [order["id"] for order in venue.orders("closed")] == [stop["id"]]
    assert [order["id"] for order in venue.orders("all")] == [pair["id"], stop["id"]]
    assert [order["legs"] for order in venue.orders("all")] == [None, None]
    (nested,) = venue.orders("open", nested=True)
    assert [leg["id"] for leg in nested["legs"]] == [stop["id"]]


def test_nested_list_of_a_filled_bracket(venue):
    """Once the entry has filled, the nested list of open orders does not show its legs; the flat one shows the take-profit."""
    entry = submitted(venue, **BRACKET)
    assert venue.orders("open", nested=True) == []
    assert [order["id"] for order in venue.orders("open")] == [entry["legs"][0]["id"]]


def test_pair_survives_a_restart(venue, pair):
    """A venue that continues from a dumped state knows what belongs together."""
    other = FakeVenue()
    other.load(venue.dump())
    assert other.orders("all", nested=True) == venue.orders("all", nested=True)
    other.set_price("AAPL", 9)
    assert states(other, pair, *pair["legs"]) == ["canceled", "filled"]


prices = st.integers(5, 15)
act = st.one_of(
    st.tuples(st.just("price"), prices),
    st.tuples(
        st.just("place"),
        st.sampled_from(["", "bracket", "oco", "oto"]),
        st.sampled_from(["buy", "sell"]),
        prices,
        prices,
    ),
    st.tuples(st.just("replace"), st.integers(0, 20), st.sampled_from(["limit_price", "stop_price"]), prices),
    st.tuples(st.just("fill"), st.integers(0, 20), st.integers(1, 10)),
    st.tuples(
        st.sampled_from(
            ["request_cancel", "cancel", "expire", "reject", "reject_cancel", "confirm_replace", "reject_replace"]
        ),
        st.integers(0, 20),
    ),
    st.tuples(st.sampled_from(["hold", "release", "open_market", "close_market", "restart"])),
    st.tuples(st.just("slow"), st.booleans()),
)


def do(venue, verb, *args):
    ids = [order["id"] for order in venue.orders()]
    match verb, args:
        case "price", (price,):
            venue.set_price("AAPL", price)
        case "place", (order_class, side, target, stop):
            parts = {"take_profit": {"limit_price": str(target)}, "stop_loss": {"stop_price": str(stop)}}
            if order_class == "oto":
                del parts["stop_loss" if target % 2 else "take_profit"]
            kind = "limit" if order_class == "oco" else "market"
            submitted(venue, side, 10, type=kind, order_class=order_class, time_in_force="gtc", **parts)
        case "slow", (is_slow,):
            venue.slow_cancels = venue.slow_replaces = is_slow
        case (("hold" | "release"), ()):
            getattr(venue, verb)("AAPL")
        case "restart", ():
            venue.load(venue.dump())
        case _, ():
            getattr(venue, verb)()
        case "replace", (index, name, price) if ids:
            venue.replace(ids[index % len(ids)], {name: str(price)})
        case "fill", (index, qty) if ids:
            venue.fill(ids[index % len(ids)], qty, 10)
        case _, (index,) if ids:
            getattr(venue, verb)(ids[index % len(ids)])


@examples(100)
@given(st.lists(act, min_size=10, max_size=40))
def test_exits_never_sell_more_than_there_is(acts):
    """Whatever is done, exits at the market are no larger than the position, and no pair has both of its orders there."""
    venue = FakeVenue(cash=20_000, shorting=False)
    venue.blocks_wash_trades = False
    venue.set_price("AAPL", 10)
    told = {}
    venue.listeners.append(lambda update: told.__setitem__(update["order"]["id"], update["order"]["status"]))
    for one in acts:
        with suppress(Refusal, ValueError):
            do(venue, *one)
        held = sum(Decimal(position["qty"]) for position in venue.positions())
        assert held >= 0
        if held:
            assert 0 <= Decimal(venue.position("AAPL")["qty_available"]) <= held
        for order in venue.orders("all", nested=True):
            working = [leg for leg in [order, *(order["legs"] or [])] if leg["status"] in ("new", "partially_filled")]
            assert len(working) <= 1
        for order in venue.orders():
            assert told.get(order["id"], "pending_new") == order["status"]
