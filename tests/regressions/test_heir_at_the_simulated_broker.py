"""A strategy that was handed a position could not leave it at the simulated broker, which still took it for the other's."""

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


def handed_over(closes, *heirs, stop=None, **broker):
    """The engine and the audit after a tape of which the position of `one` goes to `two` before the fifth bar."""
    protect = sell(15, order_type=OrderType.STOP, stop_price=stop, time_in_force=TimeInForce.GTC) if stop else None
    plans = instance("one", Plan(buy(15), None, protect)), instance("two", Plan(*[None] * 4, *heirs))
    audit = MemoryAuditStore()
    made = generation(*plans, broker=Simulated(Simulated.Params(**broker)))
    engine = Engine(made, "test", audit, Gates(trading_enabled=True))
    rows = [("ES", START + n * MINUTE, *[float(price)] * 4, 1000.0) for n, price in enumerate(closes)]
    head, rest = signal_batch(rows).split(4)
    engine.step(with_signals(head))
    engine.gateway.hand_over("one", "two", "ES")
    engine.step(with_signals(rest))
    audit.commit()
    return engine, [(row["strategy_id"], row["side"], row["state"]) for row in audit.orders("test")]


@pytest.mark.parametrize(
    ("closes", "given", "last"),
    [
        ([100] * 8, {"heirs": (close(),)}, ("two", "sell", "filled")),
        ([100] * 5 + [80] * 3, {"stop": 90}, ("one", "sell", "filled")),
        ([100] * 5 + [40] * 3, {"cash": "1000", "leverage": "alpaca"}, ("two", "sell", "filled")),
    ],
    ids=["close", "stop", "liquidation"],
)
def test_heir_gets_rid_of_what_it_was_given(closes, given, last):
    """By its own order, by the stop that came with the position, and by the broker's: no strategy holds anything then."""
    engine, orders = handed_over(closes, *given.pop("heirs", ()), **given)
    assert orders[-1] == last
    assert all(not position.quantity for position in engine.books.positions.values())
