"""An indicator that fails stops the strategies that use it, at the row where it failed, and nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.simulated import Simulated

from support import features as support_features
from support.effort import examples
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core import MINUTE, Indicator, Strategy
from torghut_core.audit import MemoryAuditStore
from torghut_core.features import close, gap, indicator
from torghut_core.plugin_host.watchdog import Overrun
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.roster import StrategyState

ROWS, LAST_GOOD = 20, 11


class Failing(Indicator):
    """Fails at its twelfth value of a symbol."""

    state = ("count",)

    def __init__(self, params):
        super().__init__(params)
        self.count = 0

    def update(self, close):
        self.count += 1
        if self.count > LAST_GOOD:
            raise RuntimeError("out of numbers")
        return close


class Endless(Indicator):
    """Never returns."""

    def update(self, close):
        while True:
            pass


class Reader(Strategy):
    """Buys, and closes, at each row by turns; asks for one feature."""

    def __init__(self, feature):
        super().__init__(self.Params())
        self.feature, self.rows = feature, []

    def features(self):
        return {"value": self.feature}

    def on_signal(self, signal, context):
        self.rows.append((signal.symbol, signal.event_ts))
        return context.close(because="long") if context.is_long else context.buy(1, because="flat")


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The indicators above beside the others."""
    monkeypatch.setitem(support_features.INDICATORS, "failing", Failing)
    monkeypatch.setitem(support_features.INDICATORS, "endless", Endless)


def batch():
    rows = [
        (symbol, support_features.START + minute * MINUTE, 100.0, 102.0, 99.0, 100.5 + minute % 3, 100.0)
        for minute in range(ROWS)
        for symbol in ("A", "B")
    ]
    return signal_batch(rows)


def traded(asked, cuts=(), on_remove="freeze", **others):
    """An engine and its readers after the tape: one for each feature that is asked for."""
    readers = {name: Reader(feature) for name, feature in (asked | others).items()}
    made = generation(
        *(instance(name, reader, symbols=("A",), on_remove=on_remove) for name, reader in sorted(readers.items()))
    )
    engine = Engine(made, "test-1", MemoryAuditStore(), Gates(trading_enabled=True))
    left = batch()
    for position in sorted({*cuts} & {*range(1, left.stop)}):
        head, left = left.split(position)
        engine.step(with_signals(head))
    engine.step(with_signals(left))
    return engine, readers


def test_its_users_are_quarantined_by_name_and_others_trade_on():
    """They are shown the rows before; others, with features and without, decide as if it was not there."""
    good = {"good": gap()["gap"]}
    alone, _ = traded(good)
    engine, readers = traded(good | {"bad": indicator("failing"), "worse": indicator("failing").shift(1) + close})
    assert engine.roster.quarantined == dict.fromkeys(("bad", "worse"), "RuntimeError: out of numbers")
    assert engine.roster.states()["good"] is StrategyState.TRADING
    assert [len(readers[name].rows) for name in ("bad", "worse", "good")] == [LAST_GOOD, LAST_GOOD - 1, ROWS]
    assert good_decisions(engine) == good_decisions(alone) != []


def good_decisions(engine):
    """What the strategy called good has decided."""
    engine._audit.commit()
    rows = [row for row in engine._audit.decisions("test-1") if row["strategy_id"] == "good"]
    return [(row["decision_hash"], row["params"]) for row in rows]


@examples(60, quick=8)
@given(st.sets(st.integers(1, 2 * ROWS)), st.sampled_from(["freeze", "flatten"]), st.booleans())
def test_where_it_fails_does_not_depend_on_how_the_stream_is_cut(cuts, on_remove, is_optional):
    """Its users have decided on the rows before, also in the same batch, and their positions go at the same moment."""
    feature = indicator("failing") + close
    asked = {"bad": feature.optional if is_optional else feature, "good": gap()["gap"]}
    whole, _ = traded(asked, on_remove=on_remove)
    parts, _ = traded(asked, cuts, on_remove)
    assert parts.digest == whole.digest
    assert whole.roster.quarantined.keys() == {"bad"}
    held = whole.books.context("bad", "A").position.quantity
    assert held == (0 if on_remove == "flatten" else 1)


def test_one_that_does_not_return_is_interrupted():
    """It is charged with the time that it takes, and stops its users alone."""
    readers = {"bad": Reader(indicator("endless")), "good": Reader(gap()["gap"])}
    made = generation(
        *(instance(name, reader, symbols=("A",)) for name, reader in readers.items()),
        broker=Simulated(Simulated.Params(cash=100_000)),
    )
    engine = Engine(made, "test-1", MemoryAuditStore(), Gates(trading_enabled=True))
    dog = engine.watchdog(0.05)
    with dog.installed(), dog.batch():
        engine.step(batch())
    assert list(engine.roster.quarantined) == ["bad"]
    assert Overrun.__name__ in engine.roster.quarantined["bad"]
    assert len(readers["good"].rows) == ROWS
