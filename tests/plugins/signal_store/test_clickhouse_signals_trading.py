"""What the loop trades on while it catches up with the signal store."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

from support.generations import generation, instance
from tests.plugins.signal_store.conftest import SECOND, T0, Stored, Story, store_rows
from torghut_core import Strategy
from torghut_core.audit import MemoryAuditStore
from torghut_core.runtime.run import batch_checks
from torghut_core.signals import MemorySignalStore
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.loop import Loop

MINUTE = 60 * SECOND


class Flip(Strategy):
    """Buys when flat, closes when long."""

    def on_signal(self, signal, context):
        del signal
        return context.buy(1, because="flat") if context.is_flat else context.close(because="long")


def trades_of(played):
    """Trade a story as `torghut run` does, to its end; the minute and side of every order, and the denials by code."""
    made = generation(instance("flip", Flip(Flip.Params())), source=played.source)
    audit, gates = MemoryAuditStore(), Gates(trading_enabled=True)
    engine = Engine(made, "test-1", audit, gates)
    checks = partial(batch_checks, played.source, str, gates, SimpleNamespace(batch=nullcontext))
    loop = Loop(made, engine, audit, MemorySignalStore(), checks)
    played._trade = loop.step
    played.run()
    allowed = {row["decision_hash"] for row in audit.orders("test-1")}
    orders = [
        ((row["event_ts"] - T0) // MINUTE, row["action"])
        for row in audit.decisions("test-1")
        if row["decision_hash"] in allowed
    ]
    return orders, engine.totals.denials


def test_old_rows_make_no_entry_and_fresh_ones_do():
    """TA was away for four hours and catches up: what is held is sold at once, and bought again only on rows of now."""

    def deliver(*minutes):
        def add(story):
            story.wall = T0 + (minutes[-1] + 1) * MINUTE + 10 * SECOND
            store_rows(story.store, [Stored("ES", minute, step=MINUTE) for minute in minutes])

        return add

    orders, denials = trades_of(Story([deliver(0), deliver(*range(1, 241)), []]))

    assert orders == [(0, "buy"), (1, "sell"), (239, "buy"), (240, "sell")]
    assert denials == {"not-ready": 237}
