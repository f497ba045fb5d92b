"""A strategy that failed, or was taken out of the catalog, under `on_remove: freeze` kept its position and lost the stop of it."""

from support.actions import START, Plan, buy
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import OrderType, TimeInForce
from torghut_core.timestamps import MINUTE
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

CLOSES = [100, 100, 100, 100, 95, 80, 80]
BID = {"order_type": OrderType.LIMIT, "limit_price": 60, "time_in_force": TimeInForce.GTC}


def fail(_context):
    """Raise."""
    raise ValueError("a bug")


def left(*acts, is_taken_out=False):
    """The engine after the closes, with what was sold of its position; taken out before the fourth where it is."""
    audit = MemoryAuditStore()
    made = generation(instance("one", Plan(buy(2, stop_loss=90, take_profit=110), buy(1, **BID), *acts)))
    engine = Engine(made, "test", audit, Gates(trading_enabled=True))
    rows = [("ES", START + n * MINUTE, *[float(price)] * 4, 1000.0) for n, price in enumerate(CLOSES)]
    head, rest = signal_batch(rows).split(3)
    engine.step(with_signals(head))
    if is_taken_out:
        engine.adopt(generation(broker=made.broker, number=2))
    engine.step(with_signals(rest))
    audit.commit()
    states = [(row["side"], row["order_type"], row["state"]) for row in audit.orders("test")]
    return engine, states


def test_what_is_kept_keeps_its_stop():
    """The stop closes the position, whether its strategy has failed or is gone; its entries are canceled."""
    for engine, orders in (left(None, fail), left(is_taken_out=True)):
        assert ("sell", "stop", "filled") in orders
        assert ("buy", "limit", "canceled") in orders
        assert engine.books.positions["one", "ES"].quantity == 0
        assert not engine.books.working
