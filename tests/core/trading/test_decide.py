"""`decide`: targets for many rows at once are the same decisions as row by row, in the same orders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import features as made
from support.effort import examples
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core import MINUTE, Strategy
from torghut_core.audit import MemoryAuditStore
from torghut_core.features import ema
from torghut_core.plugin_host.watchdog import Overrun
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

ROWS = 60


class ByRow(Strategy):
    """Long above its average, short below by half, nothing before a price of 90."""

    def features(self):
        return {"average": ema(3)}

    def on_signal(self, signal, context):
        if signal.close < 90:
            return None
        if signal.close == signal.average:
            return context.close(because="even")
        units = 2 if signal.close > signal.average else -0.5
        return context.target(units, because="above" if units > 0 else "below")


class AtOnce(ByRow):
    """The same, with whole columns."""

    def decide(self, columns):
        above, even = columns.close > columns.average, columns.close == columns.average
        units = np.where(even, 0, np.where(above, 2, -0.5))
        units[columns.close < 90] = np.nan
        return units, np.where(even, "even", np.where(above, "above", "below"))


def traded(cls, cuts=(), seed=1, watch=None):
    """An engine after a tape of two symbols that is cut at these positions."""
    prices = np.random.default_rng(seed).choice([88.0, 95.0, 100.0, 100.5, 101.0, 104.0], 2 * ROWS)
    rows = [
        (symbol, made.START + minute * MINUTE, price, price + 1, price - 1, price, 100.0)
        for minute in range(ROWS)
        for symbol, price in zip(("A", "B"), prices[2 * minute :].tolist(), strict=False)
    ]
    engine = Engine(
        generation(instance("one", cls(cls.Params()), symbols=("A", "B"))),
        "test-1",
        MemoryAuditStore(),
        Gates(trading_enabled=True),
        allow_shorts=True,
    )
    left = signal_batch(rows)
    for position in sorted({*cuts} & {*range(1, left.stop)}):
        head, left = left.split(position)
        engine.step(with_signals(head))
    if watch is None:
        engine.step(with_signals(left))
    else:
        dog = engine.watchdog(watch)
        with dog.installed(), dog.batch():
            engine.step(with_signals(left))
    return engine


@examples(100, quick=10)
@given(st.sets(st.integers(1, 2 * ROWS)), st.integers(0, 99))
def test_targets_of_whole_batches_are_the_decisions_of_rows(cuts, seed):
    """However the stream is cut: decisions, orders, fills and reasons are the same, to the last."""
    by_row = traded(ByRow, seed=seed)
    assert by_row.totals.fills > 5
    assert traded(AtOnce, cuts, seed).digest == by_row.digest


class FailsAt(AtOnce):
    """Cannot take a price of 104."""

    def decide(self, columns):
        if (columns.close == 104).any():
            raise RuntimeError("too high")
        return super().decide(columns)


@examples(40, quick=6)
@given(st.sets(st.integers(1, 2 * ROWS)))
def test_one_that_fails_has_decided_on_the_rows_before(cuts):
    """It is quarantined at the row that it cannot take, whatever rows come with that."""
    whole = traded(FailsAt)
    assert whole.roster.quarantined == {"one": "RuntimeError: too high"}
    assert traded(FailsAt, cuts).digest == whole.digest


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda columns: 1.0, "not a finite number, or NaN, for each of 1 rows"),
        (lambda columns: np.full(len(columns), np.inf), "not a finite number"),
        (lambda columns: (np.ones(len(columns)), ["a", "b", "c"]), "3 reasons for 1 rows"),
        (lambda columns: columns.clsoe, "there is no column 'clsoe': there are symbol, event_ts, open, high"),
        (lambda columns: columns.close.sort(), "read-only"),
    ],
)
def test_what_is_no_target_is_named(answer, reason):
    """The reason says what it gave, or what there is."""
    cls = type("Wrong", (ByRow,), {"decide": lambda self, columns: answer(columns)})
    assert reason in traded(cls).roster.quarantined["one"]


def test_one_that_does_not_return_is_interrupted():
    """As any other handler."""

    def endless(self, columns):
        while True:
            pass

    engine = traded(type("Endless", (ByRow,), {"decide": endless}), watch=0.05)
    assert Overrun.__name__ in engine.roster.quarantined["one"]


def test_what_is_held_or_on_its_way_is_no_decision():
    """A target that stays leads to one order; zero closes."""

    class Once(Strategy):
        def decide(self, columns):
            minute = (columns.event_ts - made.START) // MINUTE
            return np.where(minute < 30, 3, 0)

    engine = traded(Once)
    engine._audit.commit()
    decisions = [(row["symbol"], row["params"]["quantity"]) for row in engine._audit.decisions("test-1")]
    assert sorted(decisions) == [("A", "3"), ("A", "3"), ("B", "3"), ("B", "3")]
    assert all(not view.position.quantity for view in engine.books.held)
