"""The exchange: what it takes, what it fills, what it says of it."""

from datetime import date
from decimal import Decimal

import pytest
from torghut_testing.alpaca import FakeVenue, Refusal
from torghut_testing.alpaca.wire import EventIds, read_timestamp, timestamp


@pytest.fixture
def venue():
    made = FakeVenue(cash=10_000)
    made.set_price("BTC/USD", 100)
    made.set_price("AAPL", 10)
    return made


def names(venue):
    return [event["event"] for event in venue.events]


def refusal(call, *args, **kwargs):
    with pytest.raises(Refusal) as raised:
        call(*args, **kwargs)
    return raised.value.status, raised.value.body["message"]


def test_market_order_fills_at_the_price(venue):
    """A market order fills whole, at once, and moves money and units."""
    order = venue.place("BTC/USD", "buy", 2)
    assert (order["status"], order["filled_qty"], order["filled_avg_price"]) == ("filled", "2", "100")
    assert names(venue) == ["pending_new", "new", "fill"]
    assert venue.account()["cash"] == "9800"
    assert venue.position("BTC/USD")["qty"] == "2"


def test_answer_is_older_than_the_fill(venue):
    """What the API answers is the order as it was taken, although it is filled already."""
    answer = venue.submit({"symbol": "AAPL", "side": "buy", "qty": 1, "type": "market", "time_in_force": "day"})
    assert answer["status"] == "pending_new"
    assert venue.order(answer["id"])["status"] == "filled"


def test_order_for_dollars_buys_what_they_buy(venue):
    """An order for an amount has no quantity, and is filled when its dollars are spent."""
    venue.set_price("AAPL", 3)
    order = venue.place("AAPL", "buy", notional="10")
    assert (order["qty"], order["notional"], order["status"]) == (None, "10", "filled")
    assert order["filled_qty"] == "3.333333333"


@pytest.mark.parametrize(
    ("side", "fields", "still", "then"),
    [
        ("buy", {"type": "limit", "limit_price": "9"}, "9.01", "9"),
        ("sell", {"type": "limit", "limit_price": "11"}, "10.99", "11"),
        ("buy", {"type": "stop", "stop_price": "11"}, "10.99", "11"),
        ("sell", {"type": "stop", "stop_price": "9"}, "9.01", "9"),
        ("sell", {"type": "trailing_stop", "trail_price": "1"}, "9.01", "9"),
        ("sell", {"type": "trailing_stop", "trail_percent": "10"}, "9.01", "9"),
        ("buy", {"type": "trailing_stop", "trail_percent": "10"}, "10.99", "11"),
    ],
)
def test_price_decides(venue, side, fields, still, then):
    """An order with a price waits until the market is there, and not a cent longer."""
    venue.set_position("AAPL", 5 if side == "sell" else 0)
    order = venue.place("AAPL", side, 5, client_order_id="it", **fields)
    assert order["status"] == "new"
    venue.set_price("AAPL", still)
    assert venue.order("it")["status"] == "new"
    venue.set_price("AAPL", then)
    assert venue.order("it")["status"] == "filled"


def test_trail_follows_the_best_price(venue):
    """A trailing stop rises with the market and does not fall with it."""
    venue.set_position("AAPL", 1)
    venue.place("AAPL", "sell", 1, type="trailing_stop", trail_price="2", client_order_id="trail")
    venue.set_price("AAPL", 15)
    venue.set_price("AAPL", 14)
    assert (venue.order("trail")["hwm"], venue.order("trail")["stop_price"]) == ("15", "13")


def test_stop_limit_is_a_limit_order_once_triggered(venue):
    """The market jumps over stop and limit: nothing fills until it comes back to the limit."""
    venue.place("BTC/USD", "buy", 1, type="stop_limit", stop_price="110", limit_price="111", client_order_id="it")
    venue.set_price("BTC/USD", 120)
    assert venue.order("it")["status"] == "new"
    venue.set_price("BTC/USD", 109)
    assert venue.order("it")["filled_avg_price"] == "109"


def test_at_once_or_never(venue):
    """What wanted to trade at once and cannot is canceled."""
    for lasts in ("ioc", "fok"):
        assert venue.place("AAPL", "buy", 1, type="limit", limit_price="9", time_in_force=lasts)["status"] == "canceled"
    assert venue.place("AAPL", "buy", 1, type="limit", limit_price="10", time_in_force="ioc")["status"] == "filled"


def test_part_fills_by_script(venue):
    """A held symbol fills in the parts and at the prices that the script says."""
    venue.hold("AAPL")
    venue.place("AAPL", "buy", 10, client_order_id="it")
    assert venue.fill("it", 4, "9.5")["status"] == "partially_filled"
    venue.set_price("AAPL", 11)
    with pytest.raises(ValueError, match="6 left to fill, not 7"):
        venue.fill("it", 7)
    order = venue.fill("it")
    assert (order["status"], order["filled_avg_price"]) == ("filled", "10.4")
    assert [event.get("position_qty") for event in venue.events][-2:] == ["4", "10"]
    assert [(row["type"], row["cum_qty"], row["leaves_qty"]) for row in venue.activities()] == [
        ("partial_fill", "4", "6"),
        ("fill", "10", "0"),
    ]


def test_held_orders_go_on_when_released(venue):
    """An order stops in the state of the hold, and advances from there after it."""
    for at in ("pending_new", "accepted", "new"):
        venue.hold("AAPL", at)
        assert venue.place("AAPL", "buy", 1, client_order_id=at)["status"] == at
    venue.release("AAPL")
    assert {order["status"] for order in venue.orders()} == {"filled"}


def test_fill_after_the_cancel(venue):
    """A late fill counts, and the order is canceled still."""
    venue.hold("AAPL")
    venue.place("AAPL", "buy", 10, client_order_id="it")
    venue.cancel("it")
    with pytest.raises(ValueError, match="canceled"):
        venue.fill("it", 4)
    assert venue.fill("it", 4, late=True)["status"] == "canceled"
    assert venue.position("AAPL")["qty"] == "4"


@pytest.mark.parametrize(
    ("act", "status", "event"),
    [
        (lambda venue: venue.cancel("it"), "canceled", "canceled"),
        (lambda venue: venue.expire("it"), "expired", "expired"),
        (lambda venue: venue.reject("it", "halted"), "rejected", "rejected"),
        (lambda venue: venue.report("it", "done_for_day"), "done_for_day", "done_for_day"),
        (lambda venue: venue.report("it", "suspended"), "suspended", "suspended"),
        (lambda venue: venue.report("it", "restated"), "new", "restated"),
    ],
)
def test_other_ends(venue, act, status, event):
    """A script puts an order into every other state, and the update reports it."""
    venue.hold("AAPL")
    venue.place("AAPL", "buy", 1, client_order_id="it")
    assert act(venue)["status"] == status
    assert (names(venue)[-1], venue.events[-1]["order"]["status"]) == (event, status)


def test_what_ends_frees_what_it_took(venue):
    """Buying power that a working order takes comes back when it ends."""
    venue.place("BTC/USD", "buy", 50, type="limit", limit_price="90", client_order_id="it")
    assert venue.account()["buying_power"] == "5500"
    venue.cancel("it")
    assert venue.account()["buying_power"] == "10000"


def test_replacement_is_a_new_order(venue):
    """The new order has an id of its own, both name each other, and the old one is reported with its old price."""
    old = venue.place("AAPL", "buy", 10, type="limit", limit_price="9")
    new = venue.replace(old["id"], {"limit_price": "9.5"})
    after = venue.order(old["id"])
    assert (new["replaces"], after["replaced_by"], after["status"]) == (old["id"], new["id"], "replaced")
    assert names(venue)[-2:] == ["replaced", "new"]
    assert venue.events[-2]["order"]["limit_price"] == "9"
    venue.set_price("AAPL", "9.5")
    assert venue.order(new["id"])["status"] == "filled"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "order parameters are not changed"),
        ({"limit_price": "9", "qty": "10"}, "order parameters are not changed"),
        ({"limit_price": "0"}, "limit_price must be > 0"),
        ({"stop_price": "8"}, "limit orders must not have stop_price"),
        ({"time_in_force": "soon"}, "invalid time_in_force"),
        ({"limit_price": "9.5", "qty": "2000"}, "insufficient buying power"),
    ],
)
def test_replacement_that_is_refused(venue, changes, message):
    """A replacement is checked like an order, and the old one stays open as if there had been no request."""
    old = venue.place("AAPL", "buy", 10, type="limit", limit_price="9")
    assert refusal(venue.replace, old["id"], changes)[1] == message
    assert venue.orders() == [old]
    assert venue.account()["buying_power"] == "9910"


def test_replacement_of_a_trail(venue):
    """The distance of a trailing stop can be changed; what it has followed so far stays."""
    venue.set_position("AAPL", 1)
    old = venue.place("AAPL", "sell", 1, type="trailing_stop", trail_percent="50")
    venue.set_price("AAPL", 20)
    new = venue.replace(old["id"], {"trail": "25"})
    assert (new["trail_percent"], new["hwm"]) == ("25", "20")
    assert venue.order(new["id"])["stop_price"] == "15"


def test_replacement_is_for_the_rest(venue):
    """The quantity of a replacement counts what the old order has filled."""
    venue.hold("AAPL")
    old = venue.place("AAPL", "buy", 10)
    venue.fill(old["id"], 4)
    assert refusal(venue.replace, old["id"], {"qty": "4"}) == (422, "qty must be > filled_qty")
    assert venue.replace(old["id"], {"qty": "12"})["qty"] == "8"
    venue.release("AAPL")
    assert venue.position("AAPL")["qty"] == "12"


def test_fill_overtakes_the_replacement(venue):
    """An order that fills while its replacement is pending is filled, and the replacement is rejected."""
    venue.hold("AAPL")
    venue.slow_replaces = True
    old = venue.place("AAPL", "buy", 1, type="limit", limit_price="9")
    new = venue.replace(old["id"], {"limit_price": "8"})
    assert venue.order(old["id"])["status"] == "pending_replace"
    venue.fill(old["id"])
    assert (venue.order(old["id"])["status"], venue.order(new["id"])["status"]) == ("filled", "rejected")
    assert "order_replace_rejected" in names(venue)
    assert venue.account()["buying_power"] == "9990"


def test_pending_requests_wait_for_the_script(venue):
    """Cancels and replacements stay pending until they are confirmed or refused."""
    venue.slow_cancels = venue.slow_replaces = True
    order = venue.place("AAPL", "buy", 1, type="limit", limit_price="9")["id"]
    venue.request_cancel(order)
    assert refusal(venue.request_cancel, order) == (422, "order pending cancel")
    assert venue.reject_cancel(order)["status"] == "new"
    venue.replace(order, {"limit_price": "8"})
    assert venue.reject_replace(order)["status"] == "new"
    new = venue.replace(order, {"limit_price": "8.5"})["id"]
    assert venue.confirm_replace(order)["status"] == "new"
    venue.request_cancel(new)
    assert venue.cancel(new)["status"] == "canceled"
    assert names(venue)[2:] == [
        *("pending_cancel", "order_cancel_rejected"),
        *("pending_replace", "order_replace_rejected", "rejected"),
        *("pending_replace", "replaced", "new"),
        *("pending_cancel", "canceled"),
    ]


def test_client_order_id_is_unique(venue):
    """The same id again is refused, also after the first order is done, and also for a replacement."""
    venue.place("AAPL", "buy", 1, client_order_id="it")
    assert refusal(venue.place, "BTC/USD", "buy", 1, client_order_id="it") == (422, "client_order_id must be unique")
    other = venue.place("AAPL", "buy", 1, type="limit", limit_price="9")["id"]
    assert refusal(venue.replace, other, {"limit_price": "8", "client_order_id": "it"})[0] == 422


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"symbol": "NOPE"}, 422, 'asset "NOPE" not found'),
        ({"side": "long"}, 422, "invalid side"),
        ({"qty": "0"}, 422, "qty must be > 0"),
        ({"qty": "much"}, 422, "qty must be a number"),
        ({"qty": None}, 422, "qty or notional is required"),
        ({"notional": "5"}, 422, "only one of qty or notional is accepted"),
        ({"type": "limit"}, 422, "limit orders require limit_price"),
        ({"limit_price": "9"}, 422, "market orders must not have limit_price"),
        ({"type": "stop"}, 422, "stop orders require stop_price"),
        ({"type": "limit", "limit_price": "9.001"}, 422, "sub-penny"),
        ({"qty": "0.5", "time_in_force": "gtc"}, 422, "fractional orders must be DAY orders"),
        ({"extended_hours": True}, 422, "extended hours"),
        ({"type": "trailing_stop"}, 422, "trail_price"),
        ({"client_order_id": "x" * 129}, 422, "client_order_id"),
        ({"symbol": "BTC/USD", "time_in_force": "day"}, 422, "invalid crypto time_in_force"),
        ({"symbol": "BTC/USD", "time_in_force": "gtc", "type": "stop", "stop_price": "1"}, 422, "invalid order type"),
        ({"symbol": "BTC/USD", "time_in_force": "gtc", "side": "sell"}, 403, "insufficient balance for BTC"),
        ({"qty": "1001"}, 403, "insufficient buying power"),
        ({"side": "sell", "qty": "0.5"}, 422, "cannot be sold short"),
    ],
)
def test_what_is_not_allowed(venue, fields, status, message):
    """Each thing that the venue does not allow is refused by status and message, and nothing is left of it."""
    body = {"symbol": "AAPL", "side": "buy", "qty": "1", "type": "market", "time_in_force": "day", **fields}
    given, said = refusal(venue.submit, {name: value for name, value in body.items() if value is not None})
    assert given == status
    assert message in said
    assert venue.orders() == []


def test_units_are_sold_once(venue):
    """What a working order is about to sell cannot be sold by another."""
    venue.place("AAPL", "buy", 10)
    venue.place("AAPL", "sell", 6, type="limit", limit_price="20")
    with pytest.raises(Refusal) as raised:
        venue.place("AAPL", "sell", 5, type="limit", limit_price="20")
    assert raised.value.status == 403
    assert raised.value.body == {
        "code": 40310000,
        "message": "insufficient qty available for order (requested: 5, available: 4)",
        "available": "4",
        "existing_qty": "10",
        "held_for_orders": "6",
        "symbol": "AAPL",
    }
    assert venue.position("AAPL")["qty_available"] == "4"


def test_no_shorts_where_they_are_not_allowed():
    """An account without shorting cannot sell what it does not hold; one with it can."""
    venue = FakeVenue(shorting=False)
    assert refusal(venue.place, "AAPL", "sell", 1) == (403, "account is not allowed to short")
    venue = FakeVenue()
    venue.set_price("AAPL", 10)
    venue.place("AAPL", "sell", 1)
    assert (venue.position("AAPL")["qty"], venue.position("AAPL")["side"]) == ("-1", "short")
    assert venue.place("AAPL", "buy", 1)["position_intent"] == "buy_to_close"


def test_wash_trade_is_refused(venue):
    """An order that might meet an own one is refused; one that cannot is taken."""
    venue.set_position("BTC/USD", 5)
    venue.place("BTC/USD", "sell", 1, type="limit", limit_price="110")
    assert refusal(venue.place, "BTC/USD", "buy", 1)[1] == "potential wash trade detected. use complex orders"
    assert refusal(venue.place, "BTC/USD", "buy", 1, type="limit", limit_price="110")[0] == 403
    assert venue.place("BTC/USD", "buy", 1, type="limit", limit_price="109")["status"] == "filled"


def test_suspended_by_the_user(venue):
    """The switch in the account's settings refuses every new order."""
    venue.suspended_by_user = True
    assert refusal(venue.place, "AAPL", "buy", 1) == (403, "new orders are rejected by user request")
    assert venue.account()["trade_suspended_by_user"] is True


def test_crypto_fee_is_taken_in_kind():
    """A buy is charged in coins and a sell in dollars, and the update shows the position after it."""
    venue = FakeVenue(cash=1000, crypto_fee_bps=25)
    venue.set_price("BTC/USD", 100)
    venue.place("BTC/USD", "buy", 4)
    assert venue.events[-1]["position_qty"] == "3.99"
    assert venue.account()["cash"] == "600"
    assert refusal(venue.place, "BTC/USD", "sell", 4)[0] == 403
    venue.place("BTC/USD", "sell", "3.99")
    assert venue.account()["cash"] == "998.0025"
    assert venue.positions() == []


def test_market_hours(venue):
    """While the market is closed equities are accepted and wait, crypto trades, and the day's end expires the day's."""
    venue.close_market()
    assert venue.place("AAPL", "buy", 1, client_order_id="it")["status"] == "accepted"
    assert venue.place("BTC/USD", "buy", 1)["status"] == "filled"
    venue.open_market()
    assert venue.order("it")["status"] == "filled"
    venue.place("AAPL", "buy", 1, type="limit", limit_price="9", client_order_id="day")
    venue.place("AAPL", "buy", 1, type="limit", limit_price="9", time_in_force="gtc", client_order_id="gtc")
    venue.place("AAPL", "buy", 1, time_in_force="cls", client_order_id="cls")
    venue.close_market()
    assert [venue.order(key)["status"] for key in ("day", "gtc", "cls")] == ["expired", "new", "filled"]


def test_times_are_the_clock_with_its_skew():
    """The venue's timestamps are ahead of the clock by the skew, and its event ids rise all the same."""
    now = read_timestamp("2026-01-05T14:30:01.123456789Z")
    venue = FakeVenue(clock=lambda: now)
    venue.set_price("AAPL", 10)
    venue.place("AAPL", "buy", 1)
    venue.skew_ns = -3_600_000_000_000
    venue.place("AAPL", "buy", 1)
    assert venue.events[0]["timestamp"] == "2026-01-05T14:30:01.123456789Z"
    assert venue.events[3]["timestamp"] == "2026-01-05T13:30:01.123456789Z"
    assert venue.events[3]["at"] == "2026-01-05T13:30:01.123456Z"
    ids = [event["event_id"] for event in venue.events]
    assert ids == sorted(set(ids))


def test_orders_mix_zones_and_mean_the_same_instants():
    """Every other order is written partly at -04:00, as the real venue did, without changing when it was."""
    now = 1_767_623_401_123_450_000
    venue = FakeVenue(clock=lambda: now)
    venue.set_price("AAPL", 10)
    first, second = venue.place("AAPL", "buy", 1), venue.place("AAPL", "buy", 1)
    assert (first["created_at"], second["created_at"]) == (
        "2026-01-05T14:30:01.12345Z",
        "2026-01-05T10:30:01.12345-04:00",
    )
    assert second["filled_at"].endswith("Z")
    assert read_timestamp(second["created_at"]) == now


@pytest.mark.parametrize("at", [0, 1, 1_000_000_000, 1_767_623_401_000_000_010, 1_767_623_401_999_999_999])
def test_timestamps_are_read_as_written(at):
    """A time survives writing and reading to the nanosecond, in both zones."""
    assert read_timestamp(timestamp(at)) == read_timestamp(timestamp(at, new_york=True)) == at


def test_event_ids_rise_within_a_millisecond():
    """Ids are 26 characters and rise, also when the clock stops or goes back."""
    ids = EventIds()
    drawn = [ids.next(at) for at in (10**18, 10**18, 10**18, 10**17)]
    assert drawn == sorted(set(drawn))
    assert {len(one) for one in drawn} == {26}


def test_ids_are_unique(venue):
    """No two orders, executions, events or activities share an id."""
    for _ in range(50):
        venue.place("AAPL", "buy", 1)
    ids = [order["id"] for order in venue.orders()]
    ids += [order["client_order_id"] for order in venue.orders()]
    ids += [event["event_id"] for event in venue.events]
    ids += [event["execution_id"] for event in venue.events if "execution_id" in event]
    ids += [row["id"] for row in venue.activities()]
    assert len(set(ids)) == len(ids) == 50 + 50 + 150 + 100 + 50


def test_state_survives(venue):
    """A venue continues from the state that another one dumped: orders, money, units, prices and holds."""
    venue.place("BTC/USD", "buy", 2)
    venue.hold("AAPL")
    venue.place("AAPL", "buy", 10, client_order_id="it")
    venue.fill("it", 3)
    other = FakeVenue(cash=1)
    other.load(venue.dump())
    assert (other.account(), other.positions(), other.orders()) == (venue.account(), venue.positions(), venue.orders())
    assert other.activities() == venue.activities()
    assert other.fill("it")["status"] == "filled"
    other.place("BTC/USD", "buy", 1)
    assert other.events[0]["event_id"] > venue.events[-1]["event_id"]
    assert refusal(other.place, "AAPL", "buy", 1, client_order_id="it")[0] == 422


def test_money_adds_up(venue):
    """Whatever is traded, equity moves only with the price."""
    for side, qty, price in (("buy", "7", 100), ("sell", "3", 103), ("buy", "0.5", 98), ("sell", "4.5", 98)):
        venue.set_price("BTC/USD", price)
        marked = Decimal(venue.account()["equity"])
        venue.place("BTC/USD", side, qty)
        assert Decimal(venue.account()["equity"]) == marked
    assert venue.positions() == []
    assert venue.account()["cash"] == venue.account()["equity"] == "10001"


def test_calendar():
    """Sessions are weekdays except holidays, with early closes; the clock names the next open and close."""
    now = read_timestamp("2026-11-25T20:00:00Z")
    venue = FakeVenue(clock=lambda: now)
    venue.is_open = None
    venue.sessions.holidays.add(date(2026, 11, 26))
    venue.sessions.early_closes.add(date(2026, 11, 27))
    assert venue.clock() == {
        "timestamp": "2026-11-25T15:00:00-05:00",
        "is_open": True,
        "next_open": "2026-11-27T09:30:00-05:00",
        "next_close": "2026-11-25T16:00:00-05:00",
    }
    rows = venue.sessions.calendar(date(2026, 11, 25), date(2026, 11, 29))
    assert [(row["date"], row["close"]) for row in rows] == [("2026-11-25", "16:00"), ("2026-11-27", "13:00")]
