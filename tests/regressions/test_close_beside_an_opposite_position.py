"""A close stopped half way where another strategy held the other side of the symbol.

The account is short less than the strategy then, so the close is two orders: an exit of what the account is short, and an
entry of the rest when that has filled. The close took back its own second order, as one that stood in its way.
"""

import pytest
from torghut_brokers import Simulated

from support.actions import Plan, buy, close, sell
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * SECOND


@pytest.mark.parametrize(("first", "other"), [(buy(1), sell(2.5)), (sell(1), buy(2.5))])
def test_a_close_closes_all_that_its_strategy_holds(first, other):
    """And nothing of what the other one holds."""
    plans = instance("one", Plan(first)), instance("two", Plan(None, other, None, close()))
    made = generation(*plans, broker=Simulated(Simulated.Params()))
    engine = Engine(made, "test", MemoryAuditStore(), Gates(trading_enabled=True), allow_shorts=True)
    rows = [("ES", START + n * MINUTE, *[100.0] * 4, 1000.0) for n in range(8)]
    engine.step(with_signals(signal_batch(rows)))
    held = {strategy: position.quantity for (strategy, _), position in engine.books.positions.items()}
    assert abs(held["one"]) == 1
    assert held["two"] == 0
    assert not engine.books.working
