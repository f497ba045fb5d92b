"""The ledger: every run adds a row, and variants are counted once."""

from __future__ import annotations

from contextlib import closing

import msgspec
import pytest

from torghut_core.errors import StateError
from torghut_core.research.experiments import Experiment, Ledger, new_run_id

RUN = Experiment(
    run_id="backtest-1",
    kind="backtest",
    created_at=1_000,
    author="ada",
    strategy="trend",
    params={"trend": {"fast": 5}},
    universe=["ES"],
    began_at=1,
    ended_at=2,
    catalog_digest="c",
    code_digest="p",
    code=[],
    data_digest="d",
    data=[],
    costs={"use": "simulated"},
    figures={"sharpe": 1.5, "sortino": None},
)


@pytest.fixture
def ledger(tmp_path):
    with closing(Ledger.open(tmp_path / "state")) as opened:
        yield opened


def other(**changes):
    return msgspec.structs.replace(RUN, **{"run_id": new_run_id("backtest")} | changes)


def test_what_is_added_is_found_again_as_it_was(ledger):
    """Every field comes back, times as nanoseconds and unknown figures as None."""
    ledger.add(RUN)
    assert ledger.find() == [RUN]


def test_rows_are_found_by_strategy_kind_time_and_beginning_of_their_id(ledger):
    """Each condition leaves out what does not meet it; the oldest row comes first."""
    late = other(run_id="sweep-2", kind="sweep", created_at=3_000, strategy="trend, reversion")
    for row in (late, RUN):
        ledger.add(row)
    assert ledger.find() == [RUN, late]
    assert ledger.find(strategy="trend") == [RUN, late]
    assert ledger.find(strategy="reversion") == [late]
    assert ledger.find(kind="backtest") == [RUN]
    assert ledger.find(since=2_000) == [late]
    assert ledger.find(run="sweep-") == [late]
    assert ledger.find(run="sw%") == []


def test_a_run_is_written_once(ledger):
    """A second row of a run is refused, and the first stays."""
    ledger.add(RUN)
    with pytest.raises(StateError):
        ledger.add(other(run_id=RUN.run_id, notes="again"))
    assert ledger.find() == [RUN]


def test_variants_are_those_of_all_runs_and_the_same_again_counts_once(ledger):
    """A sweep counts with all its sets, a repeated backtest with nothing, another span or other data with one."""
    sweep = other(kind="sweep", variants=100, params={"fast": [5, 10]})
    for row in (RUN, other(created_at=9), sweep, other(ended_at=3), other(data_digest="e"), other(strategy="else")):
        ledger.add(row)
    assert ledger.variants("trend", "d") == 102
    assert ledger.variants("trend") == 103


def test_the_ledger_is_open_to_several_at_once(tmp_path):
    """A second process adds rows while a first has it open."""
    with closing(Ledger.open(tmp_path)) as first, closing(Ledger.open(tmp_path)) as second:
        first.add(RUN)
        second.add(other())
        assert len(first.find()) == 2


def test_a_ledger_that_cannot_be_opened_says_where_it_is(tmp_path):
    """The error names the place."""
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match="state"):
        Ledger.open(tmp_path / "state")
