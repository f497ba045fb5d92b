"""A strategy that was handed a position could not leave it at the simulated broker, which still took it for the other's.

So it was with the legs of an entry that was filled after it was handed over; and a restart gave all open orders back to who had sent them,
where a stop protected nothing and was canceled.
"""

import pytest
from torghut_brokers import Simulated

from support.actions import Plan, buy, close, sell
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import OrderType, TimeInForce
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * SECOND


def handed_over(closes, *heirs, stop=None, acts=None, **broker):
    """The engine, its orders and the audit after a tape of which the position of `one` goes to `two` before the fifth bar."""
    protect = sell(15, order_type=OrderType.STOP, stop_price=stop, time_in_force=TimeInForce.GTC) if stop else None
    plans = instance("one", Plan(*(acts or (buy(15), None, protect)))), instance("two", Plan(*[None] * 4, *heirs))
    audit = MemoryAuditStore()
    made = generation(*plans, broker=Simulated(Simulated.Params(**broker)))
    engine = Engine(made, "test", audit, Gates(trading_enabled=True))
    rows = [("ES", START + n * MINUTE, *[float(price)] * 4, 1000.0) for n, price in enumerate(closes)]
    head, rest = signal_batch(rows).split(4)
    engine.step(with_signals(head))
    engine.gateway.hand_over("one", "two", "ES")
    engine.step(with_signals(rest))
    audit.commit()
    return engine, [(row["strategy_id"], row["side"], row["state"]) for row in audit.orders("test")], audit


@pytest.mark.parametrize(
    ("closes", "given", "last"),
    [
        ([100] * 8, {"heirs": (close(),)}, ("two", "sell", "filled")),
        ([100] * 5 + [80] * 3, {"stop": 90}, ("two", "sell", "filled")),
        ([100] * 5 + [40] * 3, {"cash": "1000", "leverage": "alpaca"}, ("two", "sell", "filled")),
    ],
    ids=["close", "stop", "liquidation"],
)
def test_heir_gets_rid_of_what_it_was_given(closes, given, last):
    """By its own order, by the stop that came with the position, and by the broker's: no strategy holds anything then."""
    engine, orders, _ = handed_over(closes, *given.pop("heirs", ()), **given)
    assert orders[-1] == last
    assert all(not position.quantity for position in engine.books.positions.values())


BRACKET = {"stop_loss": 90, "take_profit": 110}


@pytest.mark.parametrize("latency_ms", [0, 60_000])
@pytest.mark.parametrize(
    ("at", "terms"),
    [(0, {}), (3, {}), (2, {"order_type": OrderType.LIMIT, "limit_price": 95, "time_in_force": TimeInForce.GTC})],
    ids=["filled", "on its way", "at its limit"],
)
def test_brackets_protect_the_heir(at, terms, latency_ms):
    """Whether the entry was filled before it was handed over or after: its stop closes what the heir holds."""
    plan = [*[None] * at, buy(4, **BRACKET, **terms)]
    engine, orders, _ = handed_over([100] * 5 + [95] * 3 + [80] * 4, acts=plan, latency_ms=latency_ms)
    assert ("two", "sell", "filled") in orders
    assert all(not position.quantity for position in engine.books.positions.values())
    assert not engine.books.working


def test_heir_keeps_its_protection_over_a_restart():
    """The books of the next process have the legs with the position that they protect."""
    audit = handed_over([100] * 6, acts=[buy(4, **BRACKET)])[2]
    books = handed_over([100] * 5, acts=[None])[0].books
    books.restore(audit.positions("test"), audit.recent_orders("test", 0))
    assert books.positions["two", "ES"].quantity == 4
    legs = [
        (each.context.strategy_id, each.order.intent.strategy_id, each.order.remaining)
        for each in books.working.values()
    ]
    assert legs == [("two", "two", 4)] * 2
