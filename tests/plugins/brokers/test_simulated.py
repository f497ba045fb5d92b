"""The simulated broker: hand-computed lives of orders, what it refuses, its books, and its laws on random streams."""

import itertools
import json
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers import register_brokers, simulated
from torghut_brokers.margin import Margin
from torghut_brokers.matching import PlacedOrder
from torghut_brokers.resting import Resting
from torghut_brokers.simulated import Simulated

from support.effort import examples, many
from support.simulated import (
    BTC,
    ETH,
    HOUR,
    MIDNIGHT,
    NAN,
    SECOND,
    T0,
    bar,
    broker,
    intent,
    quote,
    reported,
    tape,
    tick,
    trade,
)
from torghut_core import (
    Account,
    Bars,
    Batch,
    Charge,
    IllegalTransition,
    OrderEvent,
    OrderState,
    OrderType,
    Position,
    Purpose,
    Report,
    Side,
    SymbolTable,
    money,
    parse_timestamp,
)


def limit(side, price, **fields):
    return intent(side, order_type="limit", limit_price=price, **fields)


def stop(side, price, **fields):
    return intent(side, order_type="stop", stop_price=price, **fields)


def stop_limit(side, at, price, **fields):
    return intent(side, order_type="stop_limit", stop_price=at, limit_price=price, **fields)


def trailing(side, **fields):
    return intent(side, order_type="trailing_stop", **fields)


def life(order, events, known=0, **params):
    """What is reported of an order that is submitted after the first `known` of the events."""
    subject, batch = broker(**params), tape(*events)
    subject.advance(batch, 0, known)
    subject.submit(order)
    subject.advance(batch, known, batch.stop)
    accepted, *rest = reported(subject.updates())
    assert accepted == ("accept", 0)
    return rest


def fill(second, price, quantity="2"):
    return "fill", second, quantity, price


def case(name, order, events, *expected, known=0, **params):
    """An order, submitted after the first `known` of the events, and what is reported of it after its acceptance."""
    return pytest.param(order, events, known, params, list(expected), id=name)


MARKET = [
    case("buy-trade", intent("buy"), [trade(1, 25741.02)], fill(1, "25741.02")),
    case("sell-trade", intent("sell"), [trade(1, 25741.02)], fill(1, "25741.02")),
    case("buy-slips-up", intent("buy"), [trade(1, 25741.02)], fill(1, "25766.76102"), slippage={"*": {"bps": 10}}),
    case("sell-slips-down", intent("sell"), [trade(1, 25741.02)], fill(1, "25715.27898"), slippage={"*": {"bps": 10}}),
    case("buy-at-ask", intent("buy"), [quote(1, 25740.98, 25741.1)], fill(1, "25741.1"), slippage={"*": {"bps": 10}}),
    case(
        "sell-at-bid", intent("sell"), [quote(1, 25740.98, 25741.1)], fill(1, "25740.98"), slippage={"*": {"bps": 10}}
    ),
    case(
        "known-quote-just-fresh",
        intent("buy"),
        [quote(-4, 25740.98, 25741.1), trade(1, 25750)],
        fill(1, "25741.1"),
        known=1,
        slippage={"*": {"bps": 10}},
    ),
    case(
        "known-quote-stale",
        intent("buy"),
        [quote(-4.001, 25740.98, 25741.1), trade(1, 25750)],
        fill(1, "25750"),
        known=1,
    ),
    case(
        "known-quote-stale-by-parameter",
        intent("buy"),
        [quote(-1, 25740.98, 25741.1), trade(0.5, 25750)],
        fill(0.5, "25750"),
        known=1,
        quote_max_age_ms=1000,
    ),
    case("quote-without-ask", intent("buy"), [quote(1, 25740.98, NAN), trade(2, 25745)], fill(2, "25745")),
    case("bid-alone-may-be-a-stub", intent("sell"), [quote(1, 0.01, NAN), trade(2, 25745)], fill(2, "25745")),
    case(
        "bar-open",
        intent("buy"),
        [bar(0, 25741.02, 25750, 25730, 25745)],
        fill(0, "25766.76102"),
        slippage={"*": {"bps": 10}},
    ),
    case(
        "bar-with-fresh-quote",
        intent("buy"),
        [quote(-2, 25740.98, 25741.1), bar(0, 25750, 25760, 25740, 25755)],
        fill(0, "25741.1"),
        known=1,
    ),
    case(
        "bar-that-began-before",
        intent("sell"),
        [bar(-30, 25000, 25800, 24000, 25700), bar(30, 25741.02, 25750, 25730, 25745)],
        fill(30, "25741.02"),
    ),
    case("trade-that-happened-before", intent("buy"), [trade(-1, 25000), trade(1, 25741.02)], fill(1, "25741.02")),
    case("same-instant", intent("buy"), [trade(0, 25741.02)], fill(0, "25741.02")),
    case("other-symbol", intent("buy"), [trade(1, 1630.5, symbol=ETH), trade(2, 25741.02)], fill(2, "25741.02")),
    case("no-price", intent("buy"), [trade(1, NAN), trade(2, 25741.02)], fill(2, "25741.02")),
    *[
        case(f"whole-{tif}", intent("buy", time_in_force=tif), [trade(1, 25741.02)], fill(1, "25741.02"))
        for tif in ("gtc", "ioc", "fok")
    ],
]

LIMIT = [
    case("buy-trade-at-limit", limit("buy", "25741"), [trade(1, 25741.02), trade(2, 25741)], fill(2, "25741")),
    case(
        "resting-gets-no-better",
        limit("buy", "25741"),
        [trade(1, 25745), trade(2, 25730)],
        fill(2, "25741"),
        slippage={"*": {"bps": 10}},
    ),
    case("sell-resting-gets-no-better", limit("sell", "25741"), [trade(1, 25740), trade(2, 25755)], fill(2, "25741")),
    case("marketable-takes-the-trade", limit("buy", "25741"), [trade(1, 25730)], fill(1, "25730")),
    case(
        "marketable-slips-to-the-limit-at-worst",
        limit("buy", "25741"),
        [trade(1, 25730)],
        fill(1, "25741"),
        slippage={"*": {"bps": 10}},
    ),
    case(
        "marketable-takes-the-touch",
        limit("buy", "25741"),
        [quote(1, 25738, 25739)],
        fill(1, "25739"),
        slippage={"*": {"bps": 10}},
    ),
    case(
        "marketable-against-a-known-quote",
        limit("buy", "25741"),
        [quote(-1, 25739, 25740), trade(1, 25742)],
        fill(1, "25740"),
        known=1,
    ),
    case(
        "touch-comes-to-the-resting",
        limit("buy", "25741"),
        [quote(1, 25740, 25742), quote(2, 25738, 25739)],
        fill(2, "25741"),
    ),
    case(
        "bid-comes-to-the-seller",
        limit("sell", "25741"),
        [quote(1, 25740, 25742), quote(2, 25741, 25743)],
        fill(2, "25741"),
    ),
    case("bar-low", limit("buy", "25741"), [bar(0, 25745, 25750, 25741, 25748)], fill(0, "25741")),
    case("bar-high", limit("sell", "25749"), [bar(0, 25745, 25750, 25740, 25748)], fill(0, "25749")),
    case("bar-not-reached", limit("buy", "25741"), [bar(0, 25745, 25750, 25742, 25748)]),
    case(
        "bar-gaps-through",
        limit("buy", "25741"),
        [bar(0, 25745, 25750, 25744, 25748), bar(60, 25700, 25720, 25690, 25710)],
        fill(60, "25700"),
    ),
    case("low-before-it-came", limit("buy", "25741"), [bar(-30, 25745, 25750, 24000, 25748)]),
    case("ioc-off", limit("buy", "25741", time_in_force="ioc"), [trade(1, 25745), trade(2, 25730)], ("canceled", 1)),
    case("fok-off", limit("buy", "25741", time_in_force="fok"), [trade(1, 25745), trade(2, 25730)], ("canceled", 1)),
    case("ioc-on", limit("buy", "25741", time_in_force="ioc"), [trade(1, 25740)], fill(1, "25740")),
    case(
        "ioc-bar-open",
        limit("buy", "25741", time_in_force="ioc"),
        [bar(0, 25740, 25750, 25735, 25748)],
        fill(0, "25740"),
    ),
    case(
        "ioc-does-not-wait-for-the-low",
        limit("buy", "25741", time_in_force="ioc"),
        [bar(0, 25745, 25750, 25740, 25748)],
        ("canceled", 0),
    ),
]

STOP = [
    case("buy-trade-through", stop("buy", "25750"), [trade(1, 25740), trade(2, 25753)], fill(2, "25753")),
    case(
        "buy-slips",
        stop("buy", "25750"),
        [trade(1, 25749.99), trade(2, 25753)],
        fill(2, "25778.753"),
        slippage={"*": {"bps": 10}},
    ),
    case("sell", stop("sell", "25730"), [trade(1, 25731), trade(2, 25730)], fill(2, "25730")),
    case(
        "ask-through",
        stop("buy", "25750"),
        [quote(1, 25748, 25749), quote(2, 25750, 25752)],
        fill(2, "25752"),
        slippage={"*": {"bps": 10}},
    ),
    case("bid-through", stop("sell", "25730"), [quote(1, 25731, 25735), quote(2, 25729, 25733)], fill(2, "25729")),
    case("bar-opens-beyond", stop("buy", "25750"), [bar(0, 25760, 25770, 25740, 25745)], fill(0, "25760")),
    case("bar-high", stop("buy", "25750"), [bar(0, 25740, 25755, 25735, 25745)], fill(0, "25750")),
    case("bar-opens-below", stop("sell", "25730"), [bar(0, 25710, 25745, 25700, 25725)], fill(0, "25710")),
    case(
        "bar-low-slips",
        stop("sell", "25730"),
        [bar(0, 25740, 25745, 25720, 25725)],
        fill(0, "25704.27"),
        slippage={"*": {"bps": 10}},
    ),
    case("bar-not-reached", stop("sell", "25730"), [bar(0, 25740, 25745, 25731, 25735)]),
]

STOP_LIMIT = [
    case("within-the-limit", stop_limit("buy", "25750", "25752"), [trade(1, 25751)], fill(1, "25751")),
    case(
        "slips-to-the-limit-at-worst",
        stop_limit("buy", "25750", "25752"),
        [trade(1, 25751)],
        fill(1, "25752"),
        slippage={"*": {"bps": 10}},
    ),
    case(
        "beyond-the-limit-rests",
        stop_limit("buy", "25750", "25752"),
        [trade(1, 25760), trade(2, 25755), trade(3, 25748)],
        fill(3, "25752"),
    ),
    case("limit-sleeps-until-triggered", stop_limit("buy", "25750", "25752"), [trade(1, 25745), trade(2, 25740)]),
    case("bar-high", stop_limit("buy", "25750", "25752"), [bar(0, 25740, 25765, 25735, 25760)], fill(0, "25750")),
    case(
        "low-of-a-bar-that-triggered-inside-does-not-count",
        stop_limit("buy", "25750", "25748"),
        [bar(0, 25745, 25765, 25740, 25760), bar(60, 25760, 25765, 25747, 25755)],
        fill(60, "25748"),
    ),
    case("sell-at-bid", stop_limit("sell", "25730", "25728"), [quote(1, 25729, 25733)], fill(1, "25729")),
]

TRAILING = [
    case(
        "sell-follows-the-high",
        trailing("sell", trail_price="10"),
        [trade(1, 25740), trade(2, 25755), trade(3, 25745.01), trade(4, 25744)],
        fill(4, "25744"),
    ),
    case(
        "buy-follows-the-low",
        trailing("buy", trail_pct="0.1"),
        [trade(1, 25740), trade(2, 25700), trade(3, 25725), trade(4, 25726)],
        fill(4, "25726"),
    ),
    case(
        "sell-follows-the-bid",
        trailing("sell", trail_price="10"),
        [quote(1, 25740, 25760), quote(2, 25750, 25765), quote(3, 25740, 25745)],
        fill(3, "25740"),
    ),
    case(
        "high-of-a-bar-counts-from-the-next-on",
        trailing("sell", trail_price="10"),
        [bar(0, 25740, 25760, 25735, 25758), bar(60, 25755, 25757, 25748, 25752)],
        fill(60, "25750"),
    ),
    case(
        "bar-opens-beyond",
        trailing("sell", trail_price="10"),
        [bar(0, 25740, 25760, 25735, 25758), bar(60, 25745, 25757, 25740, 25752)],
        fill(60, "25745"),
    ),
    case(
        "open-of-a-bar-counts-at-once",
        trailing("sell", trail_price="10"),
        [bar(0, 25740, 25760, 25735, 25758), bar(60, 25780, 25785, 25765, 25770)],
        fill(60, "25770"),
    ),
    case(
        "first-bar-against-its-open",
        trailing("sell", trail_price="10"),
        [bar(0, 25740, 25760, 25729, 25735)],
        fill(0, "25730"),
    ),
]

PARTIAL = [
    case(
        "market-over-trades",
        intent("buy"),
        [trade(1, 25741, size=1), trade(2, 25742, size=0.5), trade(3, 25743, size=9)],
        fill(1, "25741", "0.5"),
        fill(2, "25742", "0.25"),
        fill(3, "25743", "1.25"),
        participation="0.5",
    ),
    case(
        "market-over-bars",
        intent("buy"),
        [bar(0, 25741, 25750, 25730, 25745, volume=3), bar(60, 25745, 25750, 25730, 25745, volume=3)],
        fill(0, "25741", "1.5"),
        fill(60, "25745", "0.5"),
        participation="0.5",
    ),
    case(
        "size-at-the-touch",
        intent("sell"),
        [quote(1, 25740, 25741, bid_size=2, ask_size=100), quote(2, 25739, 25741, bid_size=9)],
        fill(1, "25740", "1"),
        fill(2, "25739", "1"),
        participation="0.5",
    ),
    case(
        "limit-keeps-resting",
        limit("buy", "25741"),
        [trade(1, 25745), trade(2, 25741, size=2), trade(3, 25742, size=9), trade(4, 25740, size=9)],
        fill(2, "25741", "1"),
        fill(4, "25741", "1"),
        participation="0.5",
    ),
    case(
        "triggered-stop-goes-on-as-market",
        stop("buy", "25750"),
        [trade(1, 25753, size=1), trade(2, 25740, size=9)],
        fill(1, "25753", "0.5"),
        fill(2, "25740", "1.5"),
        participation="0.5",
    ),
    case(
        "no-volume-no-fill",
        intent("buy"),
        [trade(1, 25741, size=0), trade(2, 25742, size=9)],
        fill(2, "25742"),
        participation="0.5",
    ),
    case("whole-without-participation", intent("buy"), [trade(1, 25741, size=0.001)], fill(1, "25741")),
    case(
        "ioc-rest-is-canceled",
        intent("buy", time_in_force="ioc"),
        [trade(1, 25741, size=1), trade(2, 25741, size=9)],
        fill(1, "25741", "0.5"),
        ("canceled", 1),
        participation="0.5",
    ),
    case(
        "fok-not-whole",
        intent("buy", time_in_force="fok"),
        [trade(1, 25741, size=3.99), trade(2, 25741, size=9)],
        ("canceled", 1),
        participation="0.5",
    ),
    case(
        "fok-whole",
        intent("buy", time_in_force="fok"),
        [trade(1, 25741, size=4)],
        fill(1, "25741"),
        participation="0.5",
    ),
    case(
        "never-back-in-time",
        intent("buy"),
        [trade(2, 25741, size=1), trade(1, 25000, size=9), trade(3, 25743, size=9)],
        fill(2, "25741", "0.5"),
        fill(3, "25743", "1.5"),
        participation="0.5",
    ),
    case(
        "not-in-a-longer-bar-of-the-same-time",
        intent("buy"),
        [bar(0, 25741, 25750, 25730, 25745, volume=1), bar(0, 25741, 25750, 25730, 25745, volume=99, step=3600)],
        fill(0, "25741", "0.5"),
        participation="0.5",
    ),
    case(
        "resting-takes-no-known-touch",
        limit("buy", "25741"),
        [quote(1, 25739, 25740, ask_size=1), bar(2, 25750, 25760, 25745, 25755)],
        fill(1, "25740", "0.5"),
        participation="0.5",
    ),
]

DAY = [
    case("next-day", limit("buy", "25741"), [trade(HOUR, 25745), trade(9 * HOUR, 25740)], ("expired", MIDNIGHT)),
    case(
        "at-the-end-itself", limit("buy", "25741"), [trade(HOUR, 25745), trade(MIDNIGHT, 25740)], ("expired", MIDNIGHT)
    ),
    case("no-event-all-day", intent("buy"), [trade(9 * HOUR, 25740)], ("expired", MIDNIGHT)),
    case(
        "second-before",
        limit("buy", "25741"),
        [trade(HOUR, 25745), trade(MIDNIGHT - 1, 25740)],
        fill(MIDNIGHT - 1, "25741"),
    ),
    case(
        "last-bar-of-the-day",
        limit("buy", "25741"),
        [bar(0, 25745, 25750, 25744, 25748), bar(MIDNIGHT - 60, 25745, 25750, 25740, 25748)],
        fill(MIDNIGHT - 60, "25741"),
    ),
    case(
        "first-bar-of-the-next-day",
        limit("buy", "25741"),
        [bar(0, 25745, 25750, 25744, 25748), bar(MIDNIGHT, 25745, 25750, 25740, 25748)],
        ("expired", MIDNIGHT),
    ),
    case(
        "close-of-an-exchange",
        limit("buy", "25741"),
        [trade(1, 25745), trade(HOUR, 1630.5, symbol=ETH), trade(5 * HOUR, 25740)],
        ("expired", 4 * HOUR),
        calendars={"BTC/*": "XNYS"},
    ),
    case(
        "shown-by-another-symbol",
        limit("buy", "25741"),
        [trade(1, 25745), trade(9 * HOUR, 1630.5, symbol=ETH)],
        ("expired", MIDNIGHT),
    ),
    case("clock-tick", limit("buy", "25741"), [trade(1, 25745), tick(MIDNIGHT)], ("expired", MIDNIGHT)),
    case(
        "meets-nothing-while-its-last-bar-is-awaited",
        limit("buy", "25741"),
        [bar(0, 25745, 25750, 25744, 25748), trade(MIDNIGHT + 5, 25700), tick(MIDNIGHT + 59.9)],
    ),
    case(
        "ends-when-its-last-bar-is-known",
        limit("buy", "25741"),
        [bar(0, 25745, 25750, 25744, 25748), trade(MIDNIGHT + 5, 25700), tick(MIDNIGHT + 60)],
        ("expired", MIDNIGHT),
    ),
    case(
        "gtc-lives-on",
        limit("buy", "25741", time_in_force="gtc"),
        [trade(HOUR, 25745), trade(99 * HOUR, 25740)],
        fill(99 * HOUR, "25741"),
    ),
]


@pytest.mark.parametrize(
    ("order", "events", "known", "params", "expected"),
    [*MARKET, *LIMIT, *STOP, *STOP_LIMIT, *TRAILING, *PARTIAL, *DAY],
)
def test_order_meets_events(order, events, known, params, expected):
    """Each kind of order, at each kind of event, under each time in force, does what was computed by hand."""
    assert life(order, events, known, **params) == expected


def friday(events, symbol="ACME", order=None, **params):
    """Life of an order of a Friday evening, 23:00 UTC, after the close; seconds count from Friday, 2023-09-08, 00:00 UTC."""
    start = 2 * 24 * HOUR + MIDNIGHT
    moved = [(kind, symbol, begin + start, known + start, values) for kind, _, begin, known, values in events]
    subject, batch = broker(**params), tape(*moved)
    subject.submit(order or intent("buy", second=start + 23 * HOUR, symbol=symbol))
    subject.advance(batch, 0, batch.stop)
    return [(event, second - start, *rest) for event, second, *rest in reported(subject.updates())[1:]]


MONDAY = 3 * 24 * HOUR


@pytest.mark.parametrize("calendars", [{}, {"AC*": "XNYS"}], ids=["without", "with"])
@pytest.mark.parametrize(
    ("step", "begin"),
    [(24 * HOUR, 4 * HOUR), (24 * HOUR, 0), (HOUR, 13 * HOUR), (1800, 13.5 * HOUR), (60, 13.5 * HOUR)],
)
def test_order_placed_while_the_market_is_closed_is_for_the_next_session(step, begin, calendars):
    """A DAY order of Friday evening fills at Monday's open, in daily bars and in short ones, with a calendar or without."""
    monday = bar(MONDAY + begin, 110, 112, 109, 111, step=step)
    assert friday([monday], calendars=calendars) == [("fill", MONDAY + begin, "2", "110")]


def test_order_of_a_closed_market_waits_for_the_open_of_its_calendar():
    """Prints before the open fill nothing; a limit order takes part in the open, at a better price than its limit."""
    events = [trade(MONDAY + 12 * HOUR, 90), trade(MONDAY + 13.5 * HOUR, 95), trade(MONDAY + 14 * HOUR, 80)]
    order = limit("buy", "100", second=2 * 24 * HOUR + MIDNIGHT + 23 * HOUR, symbol="ACME")
    assert friday(events, calendars={"*": "XNYS"}) == [("fill", MONDAY + 13.5 * HOUR, "2", "95")]
    assert friday(events, order=order, calendars={"*": "XNYS"}) == [("fill", MONDAY + 13.5 * HOUR, "2", "95")]


def test_day_order_of_the_next_session_ends_with_it():
    """An order of Friday evening that Monday does not reach is gone on Tuesday."""
    order = limit("buy", "100", second=2 * 24 * HOUR + MIDNIGHT + 23 * HOUR, symbol="ACME")
    events = [bar(MONDAY + day * 24 * HOUR + 4 * HOUR, 110 - 20 * day, 112, 90, 111, step=24 * HOUR) for day in (0, 1)]
    events[0] = bar(MONDAY + 4 * HOUR, 110, 112, 109, 111, step=24 * HOUR)
    assert friday(events, order=order, calendars={"*": "XNYS"}) == [("expired", MONDAY + 20 * HOUR)]
    assert friday(events, order=order) == [("expired", MONDAY + 24 * HOUR)]


@pytest.mark.parametrize(
    ("placed", "session"),
    [
        ("2024-07-02T20:00:00Z", ("2024-07-03T13:30:00Z", "2024-07-03T17:00:00Z")),  # at the close; then a half day
        ("2024-07-03T16:59:59Z", ("2024-07-03T13:30:00Z", "2024-07-03T17:00:00Z")),
        ("2024-07-03T17:00:00Z", ("2024-07-05T13:30:00Z", "2024-07-05T20:00:00Z")),  # a holiday between
        ("2024-11-01T21:00:00Z", ("2024-11-04T14:30:00Z", "2024-11-04T21:00:00Z")),  # the clock changes
        ("2024-03-09T05:00:00Z", ("2024-03-11T13:30:00Z", "2024-03-11T20:00:00Z")),
    ],
)
def test_sessions_are_those_of_the_calendar(placed, session):
    """Holidays, half days and changes of the clock are the exchange's, for the first and the last event of an order."""
    opens, closes = (Fraction(parse_timestamp(text) - T0, SECOND) for text in session)
    second = Fraction(parse_timestamp(placed) - T0, SECOND)
    early, late = max(second, opens - 1), closes
    order = limit("buy", "100", second=second, symbol="SPY")
    subject = broker(calendars={"SPY": "XNYS"})
    subject.submit(order)
    events = [trade(early, 101 if second >= opens else 1, symbol="SPY"), trade(closes - 1, 101, symbol="SPY")]
    subject.advance(tape(*events, trade(late, 1, symbol="SPY")), 0, 3)
    assert reported(subject.updates())[1:] == [("expired", closes)]


def test_good_till_canceled_order_rests_through_the_night():
    """It fills in sessions alone, on whichever day."""
    order = limit("buy", "100", second=0, symbol="SPY", time_in_force="gtc")
    events = [trade(1, 101, symbol="SPY"), trade(5 * HOUR, 99, symbol="SPY"), trade(22 * HOUR, 99, symbol="SPY")]
    assert life(order, events, calendars={"SPY": "XNYS"}) == [fill(22 * HOUR, "100")]


def test_order_beyond_the_calendar_is_rejected():
    """Where a calendar knows no session any more, an order says so and does not wait for ever."""
    subject = broker(calendars={"*": "XSHG"})
    far = msgspec.structs.replace(intent(symbol="ACME"), decided_at=parse_timestamp("2199-01-01T00:00:00Z"))
    subject.submit(far)
    (report,) = subject.updates()
    assert (report.event, report.reason) == (
        OrderEvent.REJECTED,
        "the calendar of ACME knows no session from then on",
    )


TRAIL = trailing("sell", trail_price="10")


@pytest.mark.parametrize(
    ("before", "stop_at"),
    [
        (trade(-1, 25760), "25750"),
        (bar(-60, 25700, 25790, 25690, 25760), "25750"),
        (quote(-1, 25760, 25790), "25750"),
    ],
    ids=["trade", "bar", "quote"],
)
def test_trailing_stop_starts_at_the_market_of_its_arrival(before, stop_at):
    """What it follows first is the last price known when it came, not the first event after that."""
    events = [before, trade(10, 25751), trade(11, float(stop_at))]
    assert life(TRAIL, events, known=1) == [fill(11, stop_at)]


def test_bar_of_trades_that_were_seen_tells_nothing_new():
    """A trailing stop that trades have moved does not meet the bar that they made; nor does any other order."""
    trades = [trade(1, 25740), trade(2, 25760), trade(30, 25755)]
    own = bar(0, 25740, 25760, 25740, 25755)
    later = [trade(61, 25751), trade(62, 25750)]
    assert life(TRAIL, [*trades, own, *later]) == [fill(62, "25750")]
    assert life(limit("buy", "25745"), [trade(-1, 25750), *trades[1:], own, trade(61, 25745)], known=1) == [
        fill(61, "25745")
    ]


def test_trailing_stop_that_a_quote_has_moved_does_not_meet_a_bar_begun_before():
    """The bar's open was before the quote that moved the stop above it."""
    events = [quote(1, 25740, 25741), quote(30, 25760, 25761), bar(0, 25740, 25762, 25740, 25758), trade(61, 25750)]
    assert life(TRAIL, events) == [fill(61, "25750")]


def test_event_out_of_order_is_not_met():
    """A trade that comes after a later one of its symbol fills nothing."""
    events = [trade(-1, 25760), trade(2, 25755), trade(1, 25700), trade(3, 25741)]
    assert life(limit("buy", "25741"), events, known=1) == [fill(3, "25741")]


def test_resting_limit_order_gets_no_improvement_from_the_first_event():
    """One that does not cross the market when it comes rests at once, and fills at its limit; an IOC is canceled."""
    for seen in (trade(-1, 100), quote(-1, 99, 100), bar(-60, 99, 101, 98, 100)):
        assert life(limit("buy", "90"), [seen, trade(1, 89.95)], known=1) == [fill(1, "90")]
        assert life(limit("buy", "90", time_in_force="ioc"), [seen, trade(1, 89.95)], known=1) == [("canceled", 1)]
        assert life(limit("buy", "101"), [seen, trade(1000, 99.5)], known=1) == [fill(1000, "99.5")]


def test_replaced_limit_order_is_compared_with_the_market_again():
    """A new limit that still does not cross rests, at that price."""
    subject, batch = broker(), tape(trade(1, 100), trade(2, 94))
    subject.submit(limit("buy", "90"))
    subject.advance(batch, 0, 1)
    subject.replace("tg-1", limit_price=Decimal(95))
    subject.advance(batch, 1, 2)
    assert reported(subject.updates())[2:] == [("fill", 2, "2", "95")]


@pytest.mark.parametrize("time_in_force", ["ioc", "fok"])
@pytest.mark.parametrize(
    ("second", "calendars", "expected"),
    [
        (4 * HOUR - 1, {"BTC/*": "XNYS"}, ("canceled", 4 * HOUR)),
        (4 * HOUR, {"BTC/*": "XNYS"}, ("fill", 21.5 * HOUR, "2", "101")),
        (MIDNIGHT - 1, {}, ("fill", 21.5 * HOUR, "2", "101")),
    ],
    ids=["in the session's last second", "after its close", "round the clock"],
)
def test_order_that_cannot_wait_ends_with_its_session(time_in_force, second, calendars, expected):
    """What is immediate is not filled the next morning; what comes while the market is closed is for the next session."""
    params = {"calendars": calendars} if calendars else {}
    subject, batch = broker(**params), tape(trade(second, 100), trade(21.5 * HOUR, 101))
    subject.advance(batch, 0, 1)
    subject.submit(intent(second=second, time_in_force=time_in_force))
    subject.advance(batch, 1, 2)
    assert reported(subject.updates())[1:] == [expected]


def test_triggered_stop_limit_order_is_compared_with_the_market_again():
    """Once triggered it is a limit order: a new limit that crosses the market pays the market's price, at worst the limit."""
    subject, batch = broker(), tape(trade(1, 100), trade(2, 105), trade(3, 107))
    subject.submit(intent(order_type="stop_limit", stop_price="104", limit_price="104", time_in_force="gtc"))
    subject.advance(batch, 0, 2)
    subject.replace("tg-1", limit_price=Decimal(108))
    subject.advance(batch, 2, 3)
    assert reported(subject.updates())[2:] == [("fill", 3, "2", "107")]


def test_stop_pays_a_worse_fresh_quote():
    """A stop that a trade triggers buys at the ask above it, and at the trade's price where the ask is below."""
    for order, bid, ask, paid in (
        (stop("buy", "100"), 99, 100.1, "100.1"),
        (stop("buy", "100"), 99, 99.9, "100"),
        (stop("sell", "100"), 99.9, 101, "99.9"),
        (stop("sell", "100"), 100.1, 101, "100"),
        (stop_limit("buy", "100", "100.2"), 99, 100.1, "100.1"),
        (trailing("sell", trail_price="0.1"), 99.9, 101, "99.8"),
    ):
        assert life(order, [quote(-1, bid, ask), trade(1, 99.8 if paid == "99.8" else 100)], known=1) == [fill(1, paid)]
    assert life(stop("buy", "100"), [quote(-5, 99, 100.1), trade(1, 100)], known=1) == [fill(1, "100")]
    assert life(stop_limit("buy", "100", "100.05"), [quote(-1, 99, 100.1), trade(1, 100)], known=1) == []


@pytest.mark.parametrize(
    "order", [intent("buy"), limit("buy", "25741"), stop("buy", "25741"), trailing("buy", trail_price="1")]
)
def test_event_without_volume_fills_and_triggers_nothing(order):
    """A bar in which nothing was traded, a trade of nothing and a touch without units are met by no order."""
    empty = [bar(0, 25741, 25750, 25700, 25741, volume=0), trade(61, 25741, size=0), quote(62, 25741, 25741, 0, 0)]
    assert life(order, empty) == []


def test_liquidity_of_an_event_is_shared():
    """Two orders together take the share of an event's volume, the older one first; each side of a quote has its own."""
    subject, batch = broker(participation="0.1"), tape(trade(1, 100, size=100), quote(2, 99, 100, 10, 20))
    for name, side in (("tg-1", "buy"), ("tg-2", "sell"), ("tg-3", "buy")):
        subject.submit(intent(side, "8", name))
    subject.advance(batch, 0, 2)
    fills = [(each.client_order_id, each.fill.quantity) for each in subject.updates() if each.fill]
    assert fills == [("tg-1", 8), ("tg-2", 2), ("tg-2", 1), ("tg-3", 2)]


def test_trade_and_its_bar_give_their_volume_once():
    """What trades have given, the bar made of them does not give again."""
    events = [
        trade(1, 100, size=10),
        trade(2, 100, size=10),
        bar(0, 100, 100, 100, 100, volume=20),
        trade(61, 100, size=4),
    ]
    filled = life(intent("buy", "100"), events, participation="0.5")
    assert filled == [("fill", 1, "5", "100"), ("fill", 2, "5", "100"), ("fill", 61, "2", "100")]


def test_no_part_of_a_step_is_filled():
    """Shares of a volume are cut to nine decimals; a finer order is refused."""
    assert life(
        intent("buy", "1"), [trade(1, 100, size=0.1), trade(2, 100, size=1e-9)], participation="0.333333333"
    ) == [("fill", 1, "0.033333333", "100")]
    subject = broker()
    subject.submit(intent(quantity="0.1000000000000000055"))
    (report,) = subject.updates()
    assert report.reason == "quantity 0.1000000000000000055 has more than nine decimals"


def test_daily_bar_fills_a_day_order():
    """An order decided at a daily bar's end fills at the next one's open, though its day is over when that is known."""
    day = 24 * HOUR
    first = bar(MIDNIGHT, 25741, 25800, 25700, 25750, step=day)
    order = intent("buy", second=MIDNIGHT)
    subject, batch = broker(), tape(first)
    subject.submit(order)
    subject.advance(batch, 0, 1)
    assert reported(subject.updates())[1:] == [("fill", MIDNIGHT, "2", "25741")]


def test_daily_bar_of_an_exchange_fills_a_day_order():
    """A New York day begins at 04:00 UTC and ends after the UTC day has: its bar still fills a DAY order."""
    day, start = 24 * HOUR, 12 * HOUR
    order = limit("buy", "165", second=start, symbol="SPY")
    batch = tape(
        bar(start, 168, 169, 164, 168, step=day, symbol="SPY"),
        bar(start + day, 168, 169, 160, 168, step=day, symbol="SPY"),
    )
    subject = broker()
    subject.submit(order)
    subject.advance(batch, 0, 2)
    assert reported(subject.updates())[1:] == [("fill", start, "2", "165")]


def test_event_that_decided_is_not_met():
    """An order that is submitted after an event meets the next one, though both are of the same instant."""
    assert life(intent("buy"), [trade(0, 25000), trade(0, 25741.02)], known=1) == [("fill", 0, "2", "25741.02")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"quantity": "0"}, "quantity 0 is not positive"),
        ({"quantity": "-1"}, "quantity -1 is not positive"),
        ({"quantity": "NaN"}, "quantity NaN is not positive"),
        ({"order_type": "limit"}, "a limit order takes limit_price, not none"),
        ({"order_type": "limit", "limit_price": "0"}, "limit_price 0 is not positive"),
        ({"order_type": "limit", "limit_price": "Infinity"}, "limit_price Infinity is not positive"),
        ({"limit_price": "25741"}, "a market order takes no price, not limit_price"),
        ({"order_type": "stop", "limit_price": "25741"}, "a stop order takes stop_price, not limit_price"),
        (
            {"order_type": "stop_limit", "stop_price": "25741"},
            "a stop_limit order takes limit_price and stop_price, not stop_price",
        ),
        (
            {"order_type": "trailing_stop", "trail_price": "1", "trail_pct": "1"},
            "a trailing_stop order takes trail_price or trail_pct, not trail_price and trail_pct",
        ),
        ({"order_type": "trailing_stop", "trail_pct": "100"}, "trail_pct 100 is not below 100"),
        (
            {"order_type": "stop", "stop_price": "25741", "time_in_force": "ioc"},
            "a stop order waits for its trigger and cannot be ioc",
        ),
    ],
)
def test_bad_order_is_rejected(fields, reason):
    """An order that no venue could take is rejected with what is wrong, and is not among the working ones."""
    subject = broker()
    subject.submit(intent(**{"quantity": "2", **fields}))
    (report,) = subject.updates()
    assert (report.event, report.reason) == (OrderEvent.REJECTED, reason)
    assert subject.is_idle
    assert not subject.orders()
    batch = tape(trade(1, 25741.02))
    subject.advance(batch, 0, 1)
    assert subject.positions() == {}


@pytest.mark.parametrize(
    "params",
    [
        {"fees": {"*": {"bps": "-1"}}},
        {"slippage": {"*": {"bps": "5000"}}},
        {"participation": "0"},
        {"participation": "1.1"},
        {"calendars": {"*": "XNYX"}},
        {"time_in_force": "ioc"},
        {"cash": "NaN"},
        {"latency_ms": -1},
        {"leverage": "2"},
        {"leverage": {"*": {"times": 2, "maintenance_pct": 60}}},
        {"interest": {"loan": 5}},
    ],
)
def test_bad_parameter_is_refused(params):
    """A parameter out of its bounds, or unknown, does not make a broker."""
    with pytest.raises(pydantic.ValidationError):
        Simulated.Params(**params)


def test_package_registers_the_broker():
    """The broker comes under the name that catalogs say."""
    registered = {}
    register_brokers(registered.__setitem__)
    assert registered["simulated"] is Simulated
    assert Simulated.capabilities.simulated


def test_same_order_again_does_nothing():
    """An id is taken once, while it works and when it is done."""
    subject, batch = broker(), tape(trade(1, 25741), trade(2, 25742))
    subject.submit(intent())
    subject.submit(intent())
    subject.advance(batch, 0, 1)
    subject.submit(intent())
    subject.advance(batch, 1, 2)
    assert reported(subject.updates()) == [("accept", 0), ("fill", 1, "2", "25741")]


def test_accepted_order_is_among_the_working_ones():
    """What works is listed, oldest first, with what is filled; what is done is not."""
    subject, batch = broker(participation=1), tape(trade(1, 25741, size=1))
    subject.submit(intent(name="tg-1"))
    subject.submit(limit("buy", "25000", name="tg-2"))
    subject.submit(intent(name="tg-3", quantity="1", symbol=ETH))
    subject.advance(batch, 0, 1)
    assert [(order.intent.client_order_id, order.state, order.filled_quantity) for order in subject.orders()] == [
        ("tg-1", OrderState.PARTIALLY_FILLED, 1),
        ("tg-2", OrderState.ACCEPTED, 0),
        ("tg-3", OrderState.ACCEPTED, 0),
    ]
    assert not subject.is_idle


def test_fill_names_its_order():
    """A fill has the order's id, symbol and side, an id made of the order's, and no slippage, which is the kernel's."""
    subject, batch = broker(participation=1), tape(trade(1, 25741, size=1), trade(2, 25741, size=1))
    subject.submit(intent("sell"))
    subject.advance(batch, 0, 2)
    accepted, *reports = subject.updates()
    assert accepted.venue_order_id == "sim-tg-1"
    assert [(each.fill.client_order_id, each.fill.fill_id, each.fill.symbol, each.fill.side) for each in reports] == [
        ("tg-1", "tg-1:1", BTC, Side.SELL),
        ("tg-1", "tg-1:2", BTC, Side.SELL),
    ]
    assert all(each.fill.slippage is None for each in reports)


def test_cancel_takes_the_order_off():
    """A canceled order meets no further event; canceling it again, or an unknown order, does nothing."""
    subject, batch = broker(), tape(trade(1, 25745), trade(2, 25740))
    subject.submit(limit("buy", "25741"))
    subject.advance(batch, 0, 1)
    subject.cancel("tg-1")
    subject.cancel("tg-1")
    subject.cancel("tg-unknown")
    subject.advance(batch, 1, 2)
    assert reported(subject.updates()) == [("accept", 0), ("canceled", 1)]


def test_replaced_order_meets_the_market_anew():
    """The new limit counts from then on, may be marketable at once, and is in the report and among the orders."""
    subject, batch = broker(), tape(trade(1, 25745), trade(2, 25744))
    subject.submit(limit("buy", "25741"))
    subject.advance(batch, 0, 1)
    subject.replace("tg-1", quantity=Decimal(3), limit_price=Decimal(25750))
    assert [(order.state, order.intent.limit_price) for order in subject.orders()] == [(OrderState.REPLACED, 25750)]
    subject.advance(batch, 1, 2)
    reports = subject.updates()
    assert reported(reports) == [("accept", 0), ("replaced", 1), ("fill", 2, "3", "25744")]
    assert reports[1].intent == limit("buy", "25750", quantity="3")


def test_replaced_order_does_not_meet_a_bar_that_began_before():
    """What the bar's low did before the change came is no use to the new limit."""
    subject, batch = broker(), tape(trade(30, 25745), bar(0, 25745, 25750, 25700, 25745))
    subject.submit(limit("buy", "25600"))
    subject.advance(batch, 0, 1)
    subject.replace("tg-1", limit_price=Decimal(25741))
    subject.advance(batch, 1, 2)
    assert reported(subject.updates())[1:] == [("replaced", 30)]


def test_moved_stop_triggers_at_its_new_price():
    """A replaced stop is tried at the price that was asked for last."""
    subject, batch = broker(), tape(trade(1, 25745), trade(2, 25751), trade(3, 25761))
    subject.submit(stop("buy", "25750"))
    subject.advance(batch, 0, 1)
    subject.replace("tg-1", stop_price=Decimal(25760))
    subject.advance(batch, 1, 3)
    assert reported(subject.updates())[2:] == [("fill", 3, "2", "25761")]


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"quantity": Decimal(1)}, "quantity 1 is filled already"),
        ({"limit_price": Decimal(-1)}, "limit_price -1 is not positive"),
        ({"stop_price": Decimal(1)}, "a limit order takes limit_price, not limit_price and stop_price"),
    ],
)
def test_bad_replace_is_refused_and_the_order_works_on(terms, reason):
    """Terms that no venue could take leave the order as it was."""
    subject, batch = broker(participation=1), tape(trade(1, 25741, size=1), trade(2, 25740, size=1))
    subject.submit(limit("buy", "25741"))
    subject.advance(batch, 0, 1)
    subject.replace("tg-1", **terms)
    subject.advance(batch, 1, 2)
    reports = subject.updates()
    assert reported(reports)[2:] == [("replace_rejected", 1), ("fill", 2, "1", "25741")]
    assert reports[2].reason == reason


def test_replace_of_an_order_that_is_done_does_nothing():
    """Asking too late is harmless."""
    subject, batch = broker(), tape(trade(1, 25741))
    subject.submit(intent())
    subject.advance(batch, 0, 1)
    subject.replace("tg-1", quantity=Decimal(3))
    assert reported(subject.updates())[-1] == ("fill", 1, "2", "25741")


def test_replaced_day_order_ends_with_its_first_day():
    """A change gives an order no second day."""
    subject, batch = broker(), tape(trade(1, 25745), trade(MIDNIGHT - 1, 25745), trade(MIDNIGHT + 1, 25700))
    subject.submit(limit("buy", "25741"))
    subject.advance(batch, 0, 2)
    subject.replace("tg-1", limit_price=Decimal(25742))
    subject.advance(batch, 2, 3)
    assert reported(subject.updates())[2:] == [("expired", MIDNIGHT)]


def test_latency_delays_the_order():
    """An order is accepted, and meets events, from its arrival on, and is not reported before."""
    subject, batch = broker(latency_ms=500), tape(trade(0.4, 25000), trade(0.5, 25741))
    subject.submit(intent())
    assert [order.state for order in subject.orders()] == [OrderState.SUBMITTED]
    subject.advance(batch, 0, 1)
    assert subject.updates() == []
    subject.advance(batch, 1, 2)
    assert reported(subject.updates()) == [("accept", 0.5), ("fill", 0.5, "2", "25741")]


def test_latency_counts_for_the_start_of_a_bar():
    """A bar that began while the order travelled is not met."""
    subject = broker(latency_ms=500)
    batch = tape(bar(0, 25000, 26000, 24000, 25000), bar(60, 25741, 25750, 25730, 25745))
    subject.submit(intent())
    subject.advance(batch, 0, 2)
    assert reported(subject.updates())[1:] == [("fill", 60, "2", "25741")]


def test_bad_order_is_rejected_when_it_arrives():
    """The venue checks an order when it arrives."""
    subject, batch = broker(latency_ms=500), tape(trade(1, 25741))
    subject.submit(intent(quantity="0"))
    assert subject.updates() == []
    subject.advance(batch, 0, 1)
    assert reported(subject.updates()) == [("rejected", 0.5)]


def test_order_fills_while_its_cancel_travels():
    """A cancel takes as long as an order; one that comes too late changes nothing."""
    subject, batch = broker(latency_ms=500), tape(trade(1, 25745), trade(1.4, 25740), trade(2, 25741))
    subject.submit(limit("buy", "25741"))
    subject.advance(batch, 0, 1)
    subject.cancel("tg-1")
    subject.cancel("tg-1")
    assert [order.state for order in subject.orders()] == [OrderState.PENDING_CANCEL]
    subject.advance(batch, 1, 3)
    assert reported(subject.updates()) == [("accept", 0.5), ("fill", 1.4, "2", "25741")]


def test_cancel_arrives_before_the_next_event():
    """A cancel that arrives at the time of an event comes before the event."""
    subject, batch = broker(latency_ms=500), tape(trade(1, 25745), trade(1.5, 25740))
    subject.submit(limit("buy", "25741"))
    subject.advance(batch, 0, 1)
    subject.cancel("tg-1")
    subject.advance(batch, 1, 2)
    assert reported(subject.updates()) == [("accept", 0.5), ("canceled", 1.5)]


def test_change_of_an_order_that_is_being_canceled_is_illegal():
    """A replace after a cancel raises, because it would be lost."""
    subject = broker(latency_ms=500)
    subject.submit(limit("buy", "25741"))
    subject.cancel("tg-1")
    with pytest.raises(IllegalTransition):
        subject.replace("tg-1", quantity=Decimal(3))


def test_account_follows_the_last_price():
    """Equity is cash and positions at the last trade, bar close or middle of bid and ask; buying power is cash."""
    events = [trade(1, 25741), trade(2, 25742.5), quote(3, 25743, 25744), quote(4, 25743, NAN), bar(0, 1, 9, 1, 25745)]
    equities = []
    subject, batch = broker(cash="60000", currency="EUR"), tape(*events)
    subject.submit(intent())
    for at in range(len(events)):
        subject.advance(batch, at, at + 1)
        equities.append(subject.account().equity - 60_000)
    assert equities == [0, 3, 5, 5, 8]
    assert subject.account() == Account(Decimal(8518), Decimal(60008), Decimal(8518), "EUR")


def test_exit_closes_what_its_strategy_holds():
    """Units of another strategy are not sold by an exit, though the account has them."""
    subject, batch = broker(), tape(trade(1, 100), trade(2, 90))
    for name, strategy in (("tg-1", "one"), ("tg-2", "other")):
        subject.submit(msgspec.structs.replace(intent(name=name), strategy_id=strategy))
    subject.advance(batch, 0, 1)
    leave = msgspec.structs.replace(intent("sell", "4", "tg-3", second=1), strategy_id="one", purpose=Purpose.EXIT)
    subject.submit(leave)
    subject.advance(batch, 1, 2)
    assert reported(subject.updates())[-1] == ("fill", 2, "2", "90")
    assert subject.positions()[BTC].quantity == 2


def test_short_sale_is_booked():
    """Selling what is not held brings cash and a negative position, whose value falls with the price."""
    subject, batch = broker(), tape(trade(1, 25741), trade(2, 25740), trade(3, 25739))
    subject.submit(intent("sell", quantity="1"))
    subject.advance(batch, 0, 2)
    assert subject.account() == Account(Decimal(125741), Decimal(100001), Decimal(125741))
    subject.submit(intent("buy", quantity="1", name="tg-2", second=2))
    subject.advance(batch, 2, 3)
    assert subject.account() == Account(Decimal(100002), Decimal(100002), Decimal(100002))
    assert subject.positions() == {BTC: Position(realized_pnl=Decimal(2))}


def test_other_symbols_are_marked_over_long_stretches():
    """Last prices are right after a stretch without orders, of whatever length, also of a symbol that fell silent."""
    events = [trade(1, 25741), trade(1, 1630.5, symbol=ETH)]
    events += [trade(2 + n, 25741 + n / 4) for n in range(1000)]
    subject, batch = broker(), tape(*events, trade(2000, 1700, symbol="SOL/USD"))
    subject.submit(intent(quantity="1"))
    subject.submit(intent(quantity="1", name="tg-2", symbol=ETH))
    subject.advance(batch, 0, 2)
    subject.advance(batch, 2, batch.stop)
    assert subject.account().equity == 100_000 + Decimal("249.75")


def test_price_of_a_new_position_is_that_of_the_event_that_opened_it():
    """A position that opens at a quote is worth the middle of it, not an older trade of the same stretch."""
    subject, batch = broker(), tape(trade(1, 25000), quote(2, 25740, 25750))
    subject.submit(intent(second=1.5))
    subject.advance(batch, 0, 2)
    assert subject.account().equity == 99_990


def test_symbol_that_comes_up_later_is_watched():
    """An order waits for a symbol that no batch has yet, through long stretches, and meets it when it comes."""
    subject, first = broker(), tape(*[trade(1 + n, 25741 + n) for n in range(100)])
    subject.submit(limit("sell", "30000", name="tg-1"))
    subject.submit(limit("buy", "1650", name="tg-2", symbol=ETH))
    subject.advance(first, 0, 100)
    events = [trade(200 + n, 1700 - n, symbol=ETH) for n in range(100)]
    subject.advance(tape(*events, symbols=first.symbols, start=100), 100, 200)
    assert reported(subject.updates())[2:] == [("fill", 250, "2", "1650")]


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("make", "near", "far", "sign"),
    [
        (lambda price, **fields: limit("buy", price, **fields), "25731", "25701", -1),
        (lambda price, **fields: limit("sell", price, **fields), "25751", "25781", 1),
        (lambda price, **fields: stop("sell", price, **fields), "25731", "25701", -1),
        (lambda price, **fields: stop("buy", price, **fields), "25751", "25781", 1),
    ],
)
def test_orders_do_not_hide_each_other(make, near, far, sign, first, quoted):
    """Of two orders the nearer one fills first, in a long stretch too, whichever came first."""
    prices = [25741 + sign * max(0, n - 100) * 0.25 for n in range(200)]
    events = [quote(1 + n, price, price) if quoted else trade(1 + n, price) for n, price in enumerate(prices)]
    subject, batch = broker(), tape(*events)
    for price in ((near, far), (far, near))[first]:
        subject.submit(make(price, name=f"tg-{price}"))
    subject.advance(batch, 0, batch.stop)
    assert reported(subject.updates())[2:] == [("fill", 141, "2", near)]


def test_thousands_of_round_trips_are_exact():
    """After 20,000 round trips, a tenth of them in a quick run, with fees and slippage, equity is what exact fractions give, far below the cent."""
    count = 2 * many(20_000, quick=2_000)
    rng = np.random.default_rng(5)
    opens = np.round(25741 + rng.integers(-50, 51, count).cumsum() / 100, 2)
    minutes = np.arange(count) * 60 * SECOND + T0
    bars = Bars.from_columns(
        at=np.arange(count),
        event_ts=minutes,
        step=np.full(count, 60 * SECOND),
        **dict.fromkeys(("open", "high", "low", "close"), opens),
        volume=np.ones(count),
    )
    symbols = SymbolTable()
    symbols.number(BTC)
    batch = Batch.of(symbols, 0, minutes + 60 * SECOND, bars=bars)
    subject = broker(fees={"*": {"bps": "2.5"}}, slippage={"*": {"bps": "0.5"}})
    cash = Fraction(100_000)
    for at in range(count):
        side, sign = (("buy", 1), ("sell", -1))[at % 2]
        subject.submit(intent(side, quantity="0.03", name=f"tg-{at}", second=60 * at))
        subject.advance(batch, at, at + 1)
        paid = Fraction(str(opens[at])) * (1 + sign * Fraction("0.00005")) * Fraction("0.03")
        cash -= sign * paid + paid * Fraction("0.00025")
    account = subject.account()
    assert account.equity == account.cash
    assert abs(Fraction(account.equity) - cash) < Fraction(1, 10**9)
    assert len([report for report in subject.updates() if report.fill]) == count


# -- laws, on random streams ----------------------------------------------------------------------------------------


NEW_YORKS_CLOSE = 4 * HOUR


class Stream:
    """A random stream of trades, quotes and bars of two symbols across midnight or a close, and what is asked on the way."""

    def __init__(self, seed, count=250, *, borrows=False):
        dice = random.Random(seed)
        prices = {BTC: 25741.0, ETH: 1630.5}
        clock = dice.choice([MIDNIGHT, MIDNIGHT, NEW_YORKS_CLOSE]) - dice.choice([5, 60, 400])
        events = []
        for _ in range(count):
            clock = round(clock + dice.choice([0, 0, 0.001, 0.25, 1, 3, 9]), 3)
            symbol = dice.choice([BTC, BTC, ETH])
            prices[symbol] = price = round(prices[symbol] * (1 + dice.gauss(0, 0.0005)), 2)
            kind = dice.random()
            late = dice.choice([0, 0, 0, 1.5])
            if kind < 0.45:
                events.append(trade(clock - late, price, dice.choice([0, 0.1, 1, 5]), symbol))
            elif kind < 0.75:
                missing = dice.random()
                bid, ask = price - 0.5 if missing > 0.1 else NAN, price + 0.5 if missing < 0.9 else NAN
                events.append(quote(clock - late, bid, ask, 1, 2, symbol))
            elif kind < 0.97:
                step = dice.choice([5, 60])
                begin = clock // step * step - step
                opened = round(price * (1 + dice.gauss(0, 0.0003)), 2)
                high, low = max(opened, price) + 1, min(opened, price) - 1
                events.append(bar(begin, opened, high, low, price, 10, step, symbol, known=clock))
            else:
                events.append(tick(clock))
        self.events = events
        self.batch = tape(*events)
        self.params = {
            "fees": dice.choice([{"*": {"bps": "2.5", "minimum": "1", "decimals": 4}}, "alpaca"]),
            "slippage": dice.choice(
                [{}, {"*": {"bps": "1", "spread_bps": "1", "impact_bps": dice.choice(["0", "4"])}}]
            ),
            "latency_ms": dice.choice([0, 0, 700]),
            "participation": dice.choice([None, None, "0.3"]),
            "calendars": dice.choice([{"*/*": "24/7"}, {"BTC/*": "24/7"}, {"ETH/*": "XNYS"}]),
        }
        self.asked = {}
        for number in range(dice.randrange(1, 25)):
            at = dice.randrange(count - 1)
            self.asked.setdefault(at, []).append(self._request(dice, number, at, prices))
        if borrows:
            kept = {"times": 100, "maintenance_pct": dice.choice(["0.5", "1"])}
            self.params |= {
                "cash": dice.choice(["500", "2000"]),
                "leverage": {"*": kept},
                "interest": {"loan_pct": "7", "borrow_pct": {"BTC/*": "3"}},
            }

    def _request(self, dice, number, at, prices):
        name = f"tg-{dice.randrange(number + 1)}"
        what = dice.random()
        if what < 0.12:
            return "cancel", (name,)
        if what < 0.24:
            return "replace", (name, Decimal(dice.choice(["-1", "1", "4"])))
        symbol = dice.choice([BTC, ETH])
        near = Decimal(round(prices[symbol] * (1 + dice.gauss(0, 0.001)), 2)).quantize(Decimal("0.01"))
        kind = dice.choice(list(OrderType))
        prices = {
            OrderType.MARKET: {},
            OrderType.LIMIT: {"limit_price": near},
            OrderType.STOP: {"stop_price": near},
            OrderType.STOP_LIMIT: {"stop_price": near, "limit_price": near + dice.choice([-1, 0, 1])},
            OrderType.TRAILING_STOP: dice.choice([{"trail_price": near / 1000}, {"trail_pct": Decimal("0.05")}]),
        }[kind]
        order = intent(
            dice.choice(["buy", "sell"]),
            str(dice.choice([1, 2, "0.5"])),
            f"tg-{number}",
            symbol=symbol,
            order_type=kind,
            time_in_force=dice.choice(["day", "day", "gtc", "gtc", "ioc", "fok"]),
            **prices,
        )
        return "submit", (msgspec.structs.replace(order, decided_at=self.batch.now.item(at)),)

    def run(self, stops, batches=(), reloads=(), few=simulated.FEW_EVENTS, upto=None, *, is_quick=False):
        """(reports, accounts at what is asked and at the end, the rest of the books) of a run cut at `stops`.

        One that `is_quick` does not stop where the broker says that it has nothing to report.
        """
        upto = self.batch.stop if upto is None else upto
        pieces, rest = [], self.batch
        for position in sorted(position for position in set(batches) if 0 < position < self.batch.stop):
            piece, rest = rest.split(position)
            pieces.append(piece)
        pieces.append(rest)
        ends = {*stops, *reloads, *(at + 1 for at in self.asked), *(piece.stop for piece in pieces), upto}
        subject, reports, accounts, first = broker(**self.params), [], [], 0
        with mock.patch.object(simulated, "FEW_EVENTS", few):
            for end in sorted(end for end in ends if 0 < end <= upto):
                piece = next(piece for piece in pieces if piece.start <= first < piece.stop)
                is_asked = end - 1 in self.asked or end in reloads or end in (piece.stop, upto)
                if is_quick and not is_asked and end <= subject.quiet_to(piece, first):
                    continue
                subject.advance(piece, first, end)
                first = end
                for method, arguments in self.asked.get(end - 1, ()):
                    try:
                        getattr(subject, method)(*arguments)
                    except IllegalTransition as error:
                        reports.append(str(error))
                    accounts.append(subject.account())
                if end in reloads:
                    state = json.loads(json.dumps(subject.save_state()))
                    subject = broker(**self.params)
                    subject.load_state(state, Simulated.state_version)
                reports += subject.updates()
        return reports, [*accounts, subject.account()], subject.save_state()

    def single(self):
        """The run in which events come one by one."""
        return self.run(range(self.batch.stop))


seeds = st.integers(0, 2**32)
positions = st.lists(st.integers(1, 249), max_size=6)


@examples(150)
@given(seeds, positions, positions, st.sampled_from([1, 3, simulated.FEW_EVENTS]), st.booleans())
def test_chunking_changes_nothing(seed, stops, batches, few, borrows):
    """However events are shown, one by one or in long stretches, in one batch or in many, the reports and books agree."""
    stream = Stream(seed, borrows=borrows)
    assert stream.run(stops, batches, few=few) == stream.single()


@examples(150)
@given(seeds, positions, positions, st.booleans())
def test_events_are_quiet_where_the_broker_says_so(seed, stops, batches, borrows):
    """Shown only when something may happen, or is asked, it reports and books as one that is shown every event."""
    stream = Stream(seed, borrows=borrows)
    assert stream.run([*stops, *range(250)], batches, is_quick=True) == stream.single()


@examples(150)
@given(seeds)
def test_orders_that_an_event_does_not_reach_have_nothing_to_do_with_it(seed):
    """Were each event met by every order of its symbol, the reports and books would be the same."""

    def everybody(orders, events, row):
        return [(placed, events.view(row, placed.is_buy)) for placed in sorted(orders, key=PlacedOrder.sort_key)]

    stream = Stream(seed)
    with mock.patch.object(Resting, "reached", everybody):
        expected = stream.single()
    assert stream.run([]) == expected


@examples(150)
@given(seeds)
def test_prices_within_the_bounds_of_the_margin_liquidate_nothing(seed):
    """Were the margin checked at each event of what is held, the reports and books would be the same."""

    def everywhere(margin, cash, worths, prices, leaving):
        return dict.fromkeys(worths, (simulated.INFINITY, -simulated.INFINITY))

    stream = Stream(seed, borrows=True)
    with mock.patch.object(Margin, "bounds", everywhere):
        expected = stream.single()
    assert stream.run([]) == expected


def test_orders_far_away_are_not_looked_at():
    """Two thousand bids below the market, and an order for each trade: what is met is what a trade reaches."""
    subject, met = broker(), []
    for number in range(2000):
        subject.submit(limit("buy", f"{1 + number / 1000}", name=f"tg-far-{number}", time_in_force="gtc"))
    batch = tape(*(trade(second, 25741.0) for second in range(1, 101)))
    subject.advance(batch, 0, 1)  # where the first of them is met, each finds its place
    meet = subject._meet
    with mock.patch.object(subject, "_meet", lambda placed, *seen: met.append(placed) or meet(placed, *seen)):
        for at in range(1, 100):
            subject.submit(intent(name=f"tg-near-{at}", second=at))
            subject.advance(batch, at, at + 1)
    assert len(met) == 99


@examples(60)
@given(seeds, positions, st.booleans())
def test_saving_and_loading_changes_nothing(seed, reloads, borrows):
    """A broker that resumes from saved state, through JSON, reports and books as one that never stopped."""
    stream = Stream(seed, borrows=borrows)
    assert stream.run([], reloads=reloads) == stream.single()


@examples(60)
@given(seeds, st.integers(1, 249), st.booleans())
def test_later_events_change_nothing_earlier(seed, upto, borrows):
    """What was reported and booked up to a position does not depend on what the batch holds after it."""
    stream = Stream(seed, borrows=borrows)
    expected = stream.run([], upto=upto)
    stream.batch = tape(*stream.events[:upto])
    assert stream.run([], upto=upto) == expected


@examples(60)
@given(seeds)
def test_symbols_do_not_affect_each_other(seed):
    """Without the orders of the one symbol, those of the other fill as before."""
    stream = Stream(seed)

    def fills():
        reports, *_ = stream.single()
        return [each.fill for each in reports if not isinstance(each, str) and each.fill and each.fill.symbol == BTC]

    expected = fills()
    stream.asked = {
        at: [(what, with_) for what, with_ in asked if what != "submit" or with_[0].symbol == BTC]
        for at, asked in stream.asked.items()
    }
    assert fills() == expected


@examples(60)
@given(seeds)
def test_cash_and_positions_are_the_sum_of_the_fills(seed):
    """Cash is what it was, less what was bought and paid in fees, plus what was sold; so are the positions."""
    reports, accounts, state = Stream(seed).single()
    fills = [each.fill for each in reports if not isinstance(each, str) and each.fill]
    cash, held = Decimal(100_000), {}
    for fill in fills:
        signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
        cash -= signed * fill.price + fill.fee
        held[fill.symbol] = held.get(fill.symbol, 0) + signed
    assert accounts[-1].cash == cash
    assert {symbol: Decimal(each["quantity"]) for symbol, each in state["positions"].items()} == held


@examples(60)
@given(seeds)
def test_no_fill_is_better_than_its_limit_or_before_its_order(seed):
    """Limits hold, nothing is filled before it arrived, and never more than was asked."""
    stream = Stream(seed)
    terms = {
        with_[0].client_order_id: with_[0]
        for asked in stream.asked.values()
        for what, with_ in asked
        if what == "submit"
    }
    latency = stream.params["latency_ms"] * 1_000_000
    filled = {}
    for report in stream.single()[0]:
        if isinstance(report, str) or report.fill is None:
            terms |= {} if isinstance(report, str) or report.intent is None else {report.client_order_id: report.intent}
            continue
        fill, order = report.fill, terms[report.client_order_id]
        assert fill.event_ts >= order.decided_at + latency
        if order.limit_price is not None:
            assert fill.price <= order.limit_price if fill.side is Side.BUY else fill.price >= order.limit_price
        filled[fill.client_order_id] = filled.get(fill.client_order_id, 0) + fill.quantity
        assert filled[fill.client_order_id] <= order.quantity


def test_random_streams_do_something():
    """The laws above are tried on streams in which every kind of report comes up."""
    seen, own, charges = set(), 0, 0
    for seed in range(60):
        reports = [each for each in Stream(seed, borrows=seed % 2).single()[0] if not isinstance(each, str)]
        charges += sum(isinstance(each, Charge) for each in reports)
        reports = [each for each in reports if isinstance(each, Report)]
        own += sum(each.client_order_id.startswith("liquidation") and each.fill is not None for each in reports)
        seen |= {each.event for each in reports}
    assert own > 5
    assert charges > 1
    assert seen >= set(OrderEvent) - {
        OrderEvent.SUBMIT,
        OrderEvent.CANCEL,
        OrderEvent.REPLACE,
        OrderEvent.CANCEL_REJECTED,
    }


SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "crypto"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the recorded data is not beside the project")
def test_recorded_trades_and_quotes_fill_at_the_touch():
    """On Binance's tape, market orders pay the last quote's touch when it is fresh, else the trade: by a plain loop."""
    rows = []
    for kind, name in (("trade", "trades_binance_btcusdt_20210108"), ("quote", "quotes_binance_btcusdt_20210108")):
        table = pq.read_table(SHARED / f"{name}.parquet")
        rows += [(row["event_ts"].value, kind, row) for row in table.to_pylist()]
    rows.sort(key=lambda row: row[0])
    events = []
    for event_ts, kind, row in rows:
        second = Fraction(event_ts - T0, SECOND)
        if kind == "trade":
            events.append(trade(second, row["price"], row["size"]))
        else:
            events.append(quote(second, row["bid_price"], row["ask_price"], row["bid_size"], row["ask_size"]))
    batch = tape(*events)
    subject, expected, touch = broker(cash="10000000"), [], None
    for at, (kind, _, second, _, values) in enumerate(events[:-1]):
        if kind == "quote":
            touch = second, values["ask_price"], values["bid_price"]
        if at % 7:
            continue
        side = ("buy", "sell")[at % 2]
        subject.submit(intent(side, "0.1", f"tg-{at}", second))
        next_kind, _, then, _, found = events[at + 1]
        price = found.get("price")
        if next_kind == "quote":
            price = found["ask_price" if side == "buy" else "bid_price"]
        elif touch is not None and then - touch[0] <= 5:
            price = touch[1 if side == "buy" else 2]
        expected.append(money(price))
        subject.advance(batch, at + 1, at + 2)
    fills = [report.fill for report in subject.updates() if report.fill]
    assert [fill.price for fill in fills] == expected
    assert len(fills) == 351


def test_fill_prices_are_the_decimals_of_the_tape():
    """No binary rest gets into money: 0.1 is a tenth."""
    assert life(intent("buy"), [trade(1, 0.1)]) == [("fill", 1, "2", "0.1")]
    assert list(itertools.chain(*life(limit("sell", "0.3"), [trade(1, 0.1), trade(2, 0.3)]))) == ["fill", 2, "2", "0.3"]
