"""Prints and quotes that say nothing about the price: the simulated venue behaves as if they had not been there."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.simulated import Simulated

from support.effort import examples
from torghut_core import Batch, Intent, OrderType, Quotes, Side, SymbolTable, Trades, parse_timestamp

SECOND = 1_000_000_000
T0 = parse_timestamp("2024-06-05T14:00:00Z")
LEFT_OUT = [("100000", False), ("W", False), ("4", False), ("@,T,I", False), (" ,B", False), ("M", False), ("", True)]
STUBS = [
    (0.01, 199_999.99),
    (0.01, 100.0),
    (100.0, 199_999.99),
    (95.0, 105.0),
    (101.0, 100.0),
    (0.01, 0.0),
    (np.nan, 199_999.99),
]


def batch_of(events):
    """Trades (price, conditions) and quotes (bid, ask) of SPY, one a second; None is a clock tick."""
    symbols = SymbolTable()
    symbols.number("SPY")
    trades, quotes = [], []
    for at, event in enumerate(events):
        row = {"at": at, "event_ts": T0 + at * SECOND}
        if event is not None and isinstance(event[1], tuple):
            trades.append(row | {"price": event[0], "size": 100.0, "conditions": symbols.condition(*event[1])})
        elif event is not None:
            quotes.append(row | {"bid_price": event[0], "ask_price": event[1], "bid_size": 100.0, "ask_size": 100.0})

    def table(kind, rows):
        return kind.from_columns(**{name: [row[name] for row in rows] for name in (rows or [{}])[0]})

    now = T0 + SECOND * np.arange(len(events))
    return Batch.of(symbols, 0, now, table(Trades, trades), table(Quotes, quotes))


def order(order_type, side, name, **prices):
    return Intent(
        client_order_id=name,
        decision_hash="",
        account="test",
        strategy_id="test",
        symbol="SPY",
        side=Side(side),
        quantity=Decimal(100),
        decided_at=T0,
        order_type=OrderType(order_type),
        **{price: Decimal(value) for price, value in prices.items()},
    )


ORDERS = [
    order("market", "buy", "m"),
    order("limit", "buy", "l", limit_price="97"),
    order("limit", "sell", "h", limit_price="103"),
    order("stop", "sell", "s", stop_price="96"),
    order("stop", "buy", "t", stop_price="104"),
    order("stop_limit", "sell", "u", stop_price="97", limit_price="96"),
    order("trailing_stop", "sell", "v", trail_price="2"),
]


def outcome(events, orders, size):
    """What is reported of the orders, and the account after each second that a tick or a counting event has."""
    subject, batch = Simulated(Simulated.Params(participation="1")), batch_of(events)
    for each in orders:
        subject.submit(each)
    equities = []
    for first in range(0, len(batch), size):
        subject.advance(batch, first, min(first + size, len(batch)))
        equities.append(subject.account().equity)
    return [(report.client_order_id, report.event, report.fill) for report in subject.updates()], equities


COUNTING = st.one_of(
    st.tuples(st.integers(95, 105).map(float), st.sampled_from([("", False), ("@,F", False), ("@,B", False)])),
    st.integers(95, 105).map(lambda price: (price - 0.25, price + 0.25)),
)
WITHOUT_A_PRICE = st.one_of(
    st.tuples(st.sampled_from([0.01, 60.0, 80.0, 150.0, 1e6]), st.sampled_from(LEFT_OUT)), st.sampled_from(STUBS)
)


@given(st.data(), st.sampled_from([1, 7, 100]))
@examples(150)
def test_nothing_comes_of_an_event_without_a_price(data, size):
    """Orders of every type, and the account, are as if a clock had ticked in its place."""
    events = data.draw(st.lists(st.one_of(COUNTING, WITHOUT_A_PRICE.map(lambda event: (event,))), max_size=40))
    orders = data.draw(st.lists(st.sampled_from(ORDERS), unique=True, max_size=4))
    noisy = [event[0] if len(event) == 1 else event for event in events]
    silent = [None if len(event) == 1 else event for event in events]
    reports, equities = outcome(noisy, orders, size)
    assert (reports, equities) == outcome(silent, orders, size)
    assert reports == outcome(noisy, orders, len(noisy) + 1)[0]


def test_stub_quote_marks_no_position():
    """A position is worth its last good price, above and below; the next good quote marks it again."""
    events = [(100.0, ("", False)), (0.01, 199_999.99), (0.01, 0.02), (100.99, 101.01)]
    assert outcome(events, ORDERS[:1], 1)[1] == [100_000, 100_000, 100_000, 100_100]


@pytest.mark.parametrize("conditions", LEFT_OUT)
def test_stop_is_not_triggered_by_a_print_without_a_price(conditions):
    """A stop at 96 stays where an average of 80 is printed."""
    reports, equities = outcome(
        [(100.0, ("", False)), (80.0, conditions), (100.0, ("", False))], [ORDERS[0], ORDERS[3]], 1
    )
    assert [name for name, _, fill in reports if fill] == ["m"]
    assert equities[-1] == 100_000
