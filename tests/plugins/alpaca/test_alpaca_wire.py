"""Alpaca's messages in torghut's words: each recorded one, and some that were not recorded."""

import json
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests
from torghut_brokers.alpaca import wire
from torghut_brokers.alpaca.refusals import error_of
from torghut_brokers.alpaca.rest import _Answer
from torghut_brokers.alpaca.stream import _decoded
from torghut_testing import intent

from torghut_core import (
    Order,
    OrderState,
    OrderType,
    Position,
    Side,
    TimeInForce,
    Unanswered,
    parse_timestamp,
    reports_of,
)

SHARED = Path(__file__).parents[4] / "shared" / "data" / "alpaca"
needs_shared = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded messages are not beside the project"),
]


def recorded(file):
    path = SHARED / file
    return {item["name"]: item["message"] for item in json.loads(path.read_text())} if path.is_file() else {}


REST, STREAM = recorded("rest_trading.json"), recorded("trade_updates.json")


def order(**fields):
    """An order as the venue shows it."""
    given = {
        "id": "id-1",
        "client_order_id": "tg-1",
        "symbol": "BTC/USD",
        "asset_class": "crypto",
        "side": "buy",
        "type": "limit",
        "time_in_force": "gtc",
        "status": "new",
        "qty": "5",
        "filled_qty": "0",
        "filled_avg_price": None,
        "limit_price": "100",
        "stop_price": None,
        "submitted_at": "2026-01-05T14:30:00Z",
        "updated_at": "2026-01-05T14:30:01.12345Z",
        "replaces": None,
        "replaced_by": None,
    }
    return wire.read_order(given | fields)


def legs(*changes):
    """An order and what took its place, one after the other."""
    names = [f"id-{number}" for number in range(1, len(changes) + 1)]
    made = []
    for number, fields in enumerate(changes):
        chain = {
            "id": names[number],
            "client_order_id": "tg-1" if not number else f"tg-1-r{number + 1}",
            "replaces": names[number - 1] if number else None,
            "replaced_by": names[number + 1] if number + 1 < len(changes) else None,
        }
        made.append(order(**chain | fields))
    return made


# Recorded


class TestRecorded:
    pytestmark = needs_shared

    def test_every_stream_message_is_read_or_refused(self):
        """No recorded message breaks the reader: trade updates become statuses, and what lacks an order a ValueError."""
        read = {}
        for name, message in STREAM.items():
            try:
                update = wire.read_update(message.get("data", message))
            except ValueError:
                continue
            read[name] = wire.status_of([update.order], update)
        assert set(read) == {"pending_new", "new", "fill", "fill_2022"}
        assert [status.order.state for status in read.values()] == [
            OrderState.ACCEPTED,
            OrderState.ACCEPTED,
            OrderState.FILLED,
            OrderState.FILLED,
        ]

    def test_fill_of_the_stream(self):
        """The execution keeps its id, its nanoseconds and every digit."""
        update = wire.read_update(STREAM["fill"]["data"])
        status = wire.status_of([update.order], update)
        assert status.fill.fill_id == "a0b4b946-3ed9-4fd6-bb10-d1c5f28415aa"
        assert (status.fill.quantity, status.fill.price) == (Decimal("129.7"), Decimal("0.0851119"))
        assert status.fill.event_ts == parse_timestamp("2026-09-18T13:24:50.019957863Z")
        assert status.fill.side is Side.SELL
        assert status.fill.client_order_id == "ccxt_214efabb8ba04f9fbda29883611402a6"
        assert (status.order.filled_quantity, status.order.average_price) == (Decimal("129.7"), Decimal("0.0851119"))

    def test_mixed_zones_and_a_pair_without_its_slash(self):
        """One object with times in two zones, and ``SOLUSD`` for ``SOL/USD``."""
        update = wire.read_update(STREAM["fill_2022"]["data"])
        made = wire.status_of([update.order], update).order
        assert made.intent.symbol == "SOL/USD"
        assert made.updated_at == parse_timestamp("2022-04-19T17:45:05.027690731Z")
        assert made.intent.decided_at == parse_timestamp("2022-04-19T17:45:04.980944666Z")

    def test_orders(self):
        """Older and newer shapes; an order for money has no quantity but what it got."""
        old, bought = wire.read_order(REST["order_object_new_2019"]), wire.read_order(REST["order_object_accepted"])
        assert wire.joined([old]).intent.quantity == Decimal(1)
        assert wire.joined([old]).intent.symbol == "SPY"
        assert wire.joined([bought]).intent.quantity == 0
        assert wire.joined([bought]).state is OrderState.ACCEPTED

    def test_account(self):
        """Negative cash is real; buying power is what needs no loan, unless loans are wanted."""
        account = wire.read_account(REST["account"])
        careful, bold = (wire.account_of(account, use_margin=use_margin) for use_margin in (False, True))
        assert (careful.cash, careful.equity) == (Decimal("-23140.2"), Decimal("103820.56"))
        assert (careful.buying_power, bold.buying_power) == (Decimal("7386.56"), Decimal("262113.632"))
        assert (careful.number, careful.currency, careful.day_start_equity) == (
            "010203ABCD",
            "USD",
            Decimal("103529.24"),
        )

    def test_positions(self):
        """A position by its symbol."""
        assert wire.positions_of(REST["position_list"]) == {"AAPL": Position(Decimal(5), Decimal("100.0"))}


# Orders


@pytest.mark.parametrize(("status", "state"), wire.STATES.items())
def test_every_status_has_a_state(status, state):
    """What the venue calls it, in torghut's states."""
    assert wire.joined([order(status=status)]).state is state


def test_unknown_status_is_of_an_order_that_works():
    """A status that is new to us is no end: the order is still there."""
    assert wire.joined([order(status="contemplated")]).state is OrderState.ACCEPTED
    filled = order(status="contemplated", filled_qty="2", filled_avg_price="99")
    assert wire.joined([filled]).state is OrderState.PARTIALLY_FILLED


def test_stop_price_of_a_trailing_stop_is_not_its_term():
    """The venue moves it with the market; taken for a term it would look like a change."""
    made = wire.joined([order(type="trailing_stop", stop_price="95", limit_price=None, trail_percent="5")])
    assert made.intent.order_type is OrderType.TRAILING_STOP
    assert (made.intent.stop_price, made.intent.trail_pct) == (None, Decimal(5))


@pytest.mark.parametrize(
    "fields",
    [
        {"qty": "NaN"},
        {"filled_qty": "-1"},
        {"filled_avg_price": "Infinity"},
        {"qty": "1e+999999999"},
        {"limit_price": "1e-999999999"},
        {"qty": "many"},
        {"id": ""},
        {"symbol": 7},
    ],
)
def test_impossible_order_is_refused(fields):
    """Nonsense is an error, and no position."""
    with pytest.raises(ValueError, match=r"\S"):
        order(**fields)


@pytest.mark.parametrize(
    "fields", [{"side": None}, {"side": "hold"}, {"type": "mleg"}, {"symbol": None}, {"updated_at": "now"}]
)
def test_unknown_kind_of_others_order_is_left_out(fields):
    """An order of a kind that is not known here does not hide the others of the list."""
    good = {name: getattr(order(), name) for name in wire.WireOrder.__struct_fields__}
    orders, problems = wire.read_orders([good, good | {"id": "odd"} | fields, good])
    assert [found.id for found in orders] == ["id-1", "id-1"]
    assert len(problems) == 1
    assert "odd" in problems[0]


def test_legs_are_one_order():
    """What is filled adds up over the legs, at the mean price, under the first id and the newest leg's terms."""
    made = wire.joined(
        legs(
            {"status": "replaced", "filled_qty": "2", "filled_avg_price": "100"},
            {"status": "replaced", "qty": "3", "limit_price": "101", "filled_qty": "1", "filled_avg_price": "101"},
            {
                "qty": "4",
                "limit_price": "103",
                "filled_qty": "1",
                "filled_avg_price": "103",
                "status": "partially_filled",
            },
        )
    )
    assert made.intent.client_order_id == "tg-1"
    assert made.venue_order_id == "id-3"
    assert (made.filled_quantity, made.average_price) == (Decimal(4), Decimal(101))
    assert (made.intent.quantity, made.intent.limit_price) == (Decimal(7), Decimal(103))
    assert made.state is OrderState.PARTIALLY_FILLED


@pytest.mark.parametrize("status", ["rejected", "pending_new", "accepted"])
def test_leg_that_is_not_in_force_does_not_count(status):
    """A change that was refused, or is under way, leaves the order as it was."""
    made = wire.joined(legs({"status": "pending_replace"}, {"status": status, "limit_price": "200"}))
    assert (made.venue_order_id, made.intent.limit_price) == ("id-1", Decimal(100))
    assert made.state is OrderState.PENDING_REPLACE


def test_change_of_a_partly_filled_order_is_one_report():
    """The kernel hears of new terms once, and of no fill twice."""
    known = Order(
        intent=intent("tg-1", quantity=5, order_type=OrderType.LIMIT, limit_price=Decimal(100)),
        state=OrderState.PARTIALLY_FILLED,
        venue_order_id="id-1",
        filled_quantity=Decimal(2),
        average_price=Decimal(100),
    )
    chain = legs(
        {"status": "replaced", "filled_qty": "2", "filled_avg_price": "100"}, {"qty": "3", "limit_price": "101"}
    )
    (report,) = reports_of(known, wire.status_of(chain))
    assert report.event.value == "replaced"
    assert (report.intent.quantity, report.intent.limit_price) == (Decimal(5), Decimal(101))


# The stream


def update(**fields):
    given = {"event": "fill", "timestamp": "2026-01-05T14:30:01Z", "execution_id": "x", "price": "1", "qty": "1"}
    shown = order(status="partially_filled", filled_qty="1", filled_avg_price="1")
    body = {name: getattr(shown, name) for name in wire.WireOrder.__struct_fields__}
    return wire.read_update(given | {"order": body} | fields)


def test_fill_carries_the_base_id():
    """A fill of a later leg carries the first `client_order_id`."""
    chain = legs({"status": "replaced"}, {"filled_qty": "1", "filled_avg_price": "1"})
    assert wire.status_of(chain, update()).fill.client_order_id == "tg-1"


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "canceled"},
        {"event": "restated"},
        {"execution_id": None},
        {"qty": None},
        {"qty": "NaN"},
        {"price": "1e+999999999"},
        {"timestamp": None},
    ],
)
def test_other_events_have_no_fill(fields):
    """An update that lacks a field of an execution, and one of an unknown event, is a status with totals and no fill."""
    received = update(**fields)
    status = wire.status_of([received.order], received)
    assert status.fill is None
    assert status.order.filled_quantity == 1


@pytest.mark.parametrize("message", [None, [], "text", {}, {"event": "fill"}, {"event": "fill", "order": {}}])
def test_message_without_an_order_is_refused(message):
    """Whatever comes, it is a ValueError."""
    with pytest.raises(ValueError, match=r"\S"):
        wire.read_update(message)


# What is sent


def test_order_goes_out_as_text():
    """Every number is text with all its digits, and nothing is there that was not asked for."""
    asked = intent("tg-1", "sell", "0.000100", order_type=OrderType.STOP_LIMIT, limit_price=Decimal("1E+3"))
    body = wire.body_of(asked)
    assert body == {
        "symbol": "BTC/USD",
        "qty": "0.000100",
        "side": "sell",
        "type": "stop_limit",
        "time_in_force": TimeInForce.DAY,
        "client_order_id": "tg-1",
        "limit_price": "1000",
    }
    assert all(type(value) is str for value in body.values())


@pytest.mark.parametrize(
    ("symbol", "order_type", "highest", "expected"),
    [
        ("AAPL", OrderType.MARKET, "101.679", ("limit", "101.67")),
        ("AAPL", OrderType.MARKET, "0.12345", ("limit", "0.1234")),
        ("BTC/USD", OrderType.MARKET, "100.0000000019", ("limit", "100.000000001")),
        ("AAPL", OrderType.STOP, "101.679", ("stop_limit", "101.67")),
        ("AAPL", OrderType.TRAILING_STOP, "101.679", ("trailing_stop", None)),
        ("AAPL", OrderType.MARKET, None, ("market", None)),
    ],
)
def test_highest_price_is_the_limit_at_the_venue(symbol, order_type, highest, expected):
    """An order that must not be filled above a price goes out with a limit that is at most that price."""
    bound = None if highest is None else Decimal(highest)
    body = wire.body_of(intent("tg-1", symbol=symbol, order_type=order_type, highest_price=bound))
    assert (body["type"], body.get("limit_price")) == expected


@pytest.mark.parametrize(
    "fields", [{"client_order_id": "tg-2"}, {"side": "sell"}, {"qty": "6"}, {"symbol": "ETH/USD"}, {"qty": None}]
)
def test_answer_about_another_order_is_none(fields):
    """Only the order that was asked for is an answer."""
    asked = intent("tg-1", quantity=5)
    assert wire.is_answer_to(order(), asked)
    assert not wire.is_answer_to(order(**fields), asked)


# The rest


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ("BTCUSD", "crypto", "BTC/USD"),
        ("BTC/USD", "crypto", "BTC/USD"),
        ("USDTUSD", "crypto", "USDT/USD"),
        ("BTCUSDT", "crypto", "BTC/USDT"),
        ("ETHBTC", "crypto", "ETH/BTC"),
        ("ETHUSDC", "crypto", "ETH/USDC"),
        ("USDC", "crypto", "USDC"),
        ("AUSD", "us_equity", "AUSD"),
    ],
)
def test_symbols(given, kind, expected):
    """A pair gets its slash; a share whose name ends in USD does not."""
    assert wire.symbol_of(given, kind) == expected


@pytest.mark.parametrize("quantity", ["5", "-5"])
def test_short_position_is_negative(quantity):
    """Whether or not the venue writes the sign."""
    held = {"symbol": "AAPL", "qty": quantity, "avg_entry_price": "10", "asset_class": "us_equity", "side": "short"}
    assert wire.positions_of([held])["AAPL"].quantity == -5


def test_sessions_are_in_new_york():
    """The calendar's hours are local ones, winter and summer."""
    days = [{"date": day, "open": "09:30", "close": "16:00"} for day in ("2026-01-05", "2026-07-06")]
    assert wire.sessions_of(days, ZoneInfo("America/New_York")) == [
        (parse_timestamp("2026-01-05T14:30:00Z"), parse_timestamp("2026-01-05T21:00:00Z")),
        (parse_timestamp("2026-07-06T13:30:00Z"), parse_timestamp("2026-07-06T20:00:00Z")),
    ]


@pytest.mark.parametrize(
    "money", [{"cash": "NaN"}, {"equity": "Infinity"}, {"buying_power": None}, {"cash": "1e+999999999"}]
)
def test_account_that_is_no_number_is_refused(money):
    """Risk rules never see an account that is not finite."""
    given = {"account_number": "1", "status": "ACTIVE", "cash": "1", "equity": "1", "buying_power": "1"}
    with pytest.raises(ValueError, match=r"\S"):
        wire.read_account(given | money)


@pytest.mark.parametrize("body", [20_000 * b"[", 20_000 * b'{"a":', b"\xff", b'{"a":1e' + 5_000 * b"9" + b"}", b"{"])
def test_answer_that_no_decoder_can_read_is_no_answer(body):
    """JSON that nests too deeply, or is none, ends neither the stream of updates nor the request that it answers."""
    assert not _decoded(body)
    assert str(error_of(400, {}, body, 0.0)) == "HTTP 400 without a JSON answer"
    answer = requests.Response()
    answer.status_code = 200
    with pytest.raises(Unanswered):
        _Answer(answer, body).json()
