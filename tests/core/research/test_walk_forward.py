"""Parameters are chosen on days that come before those that test them, and nothing of a test reaches its choice."""

import json
import re
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core import cli
from torghut_core.errors import InputError
from torghut_core.research.belief.judge import Answer
from torghut_core.research.experiments import Ledger
from torghut_core.research.performance.figures import Days, daily_returns
from torghut_core.research.sweeps.sweep import open_sweep
from torghut_core.research.walk_forward.files import equity_table, trial_table, write
from torghut_core.research.walk_forward.page import write_walk_forward
from torghut_core.research.walk_forward.walk import (
    NONE,
    Plan,
    _on_same_days,
    _tested,
    grid,
    rank_correlation,
    run_walk_forward,
)
from torghut_core.timestamps import HOUR, SECOND

T0 = 1_767_225_600 * SECOND
TEXT = """
version: 1
pipelines:
  trading:
    source: {use: replay, params: {paths: [], bar_step: 1Hour}}
    stages: [{use: microbars}, {use: resample, params: {timeframes: [1Hour]}}, {use: indicators}]
    broker: {use: simulated, params: {cash: "10000", fees: {"*": {bps: "1"}}}}
strategies:
  - {name: trend, use: tsmom, base_timeframe: 1Hour, symbols: [BTC/USD], params: {notional: "5000", target_vol_bps: 60}}
"""
AXES = ["params.lookback=4:20:8", "params.vol_bars=20,40"]
PLAN = Plan(train=12, test=5, purge=1)


def tape(path, days=30, seed=4):
    """Hours that trend for a while and turn, written as a tape; the first days are the same however many there are."""
    drawn = np.random.default_rng(seed).normal(0, 0.005, 24 * days + 4)
    close = (100 * np.exp(np.cumsum(np.convolve(drawn, np.ones(5) / 2, "valid")))).round(2)
    columns = dict.fromkeys(("open", "high", "low", "close"), close) | {"volume": np.full(len(close), 100.0)}
    times = pa.array(T0 + np.arange(len(close)) * HOUR).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"symbol": ["BTC/USD"] * len(close), "event_ts": times, **columns}), path)
    return path


def walked(path, axes=AXES, plan=PLAN, **options):
    with open_sweep({"trend.yaml": TEXT}, [path], axes, workers="1") as sweep:
        return run_walk_forward(sweep, grid(sweep), plan, **options)


@pytest.fixture(scope="module")
def hours(tmp_path_factory):
    return tape(tmp_path_factory.mktemp("tape") / "hours.parquet")


@pytest.fixture(scope="module")
def done(hours):
    return walked(hours)


def test_what_comes_after_a_fold_changes_nothing_in_it(done, tmp_path):
    """On a tape that ends with a fold, this fold and all before it choose and earn the same, to the bit."""
    for number in (1, 2):
        last = int(done.folds[number - 1].fold.tests[0][-1])
        cut = walked(tape(tmp_path / f"{number}.parquet", days=last + 1))
        assert len(cut.folds) == number
        assert cut.returns.tolist() == done.returns[: last + 1].tolist()
        for ours, theirs in zip(cut.folds, done.folds, strict=False):
            assert (ours.best, ours.trained, ours.tested) == (theirs.best, theirs.trained, theirs.tested)
        assert cut.out_of_sample[1].tolist() == done.out_of_sample[1][: len(cut.out_of_sample[1])].tolist()


def test_each_fold_is_traded_with_the_set_that_was_best_before_it(done, hours):
    """The best of the days that were chosen on, and its own backtest's returns on the days that follow."""
    with open_sweep({"trend.yaml": TEXT}, [hours], AXES, workers="1") as sweep:
        for trained, each in zip(done.trained, done.folds, strict=True):
            assert each.best == int(np.nanargmax(trained))
            alone = sweep.runner.run(done.trials[each.best].params)
            returns = daily_returns(alone.curve().equity, float(alone.starting_cash), alone.days)
            assert done.returns[:, each.best] == pytest.approx(returns)
    tested, returns = done.out_of_sample
    assert tested.tolist() == list(range(PLAN.train + PLAN.purge, 30))
    assert done.equity[-1] == pytest.approx(10_000 * np.prod(1 + returns))
    assert done.figures["total_return_pct"] == pytest.approx(100 * (np.prod(1 + returns) - 1))


def test_only_round_trips_of_tested_days_count(done):
    """What a set earned where it was chosen proves nothing: round trips end on days that were tested."""
    first = done.ends[PLAN.train + PLAN.purge - 1]
    assert len(done.trips.profit) > 3
    assert (done.trips.exited_at > first).all()
    assert done.belief.trades == len(done.trips.profit)
    assert done.belief.answer is Answer.UNKNOWN


def test_combinations_make_several_paths(hours):
    """Each part is tested in several folds, so there are as many paths, each of all days."""
    found = walked(hours, plan=Plan(parts=4, tested=2, purge=1, embargo=1))
    assert len(found.folds) == 6
    assert len(found.path_values) == 3
    assert len(found.out_of_sample[0]) == 30


def test_sets_that_cannot_be_traded_are_counted(hours):
    """A value that the strategy refuses is no crash, and none that can be traded is an error with the reason."""
    found = walked(hours, ["params.lookback=1,8,16"])
    assert (len(found.trials), len(found.refused)) == (2, 1)
    assert found.to_json()["refused"] == 1
    with pytest.raises(InputError, match=r"no set is valid, .*lookback"):
        walked(hours, ["params.lookback=1"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": Plan(train=40, test=5)}, "30 days are too few to train on 40"),
        ({"objective": "fees"}, "--objective fees: sets are chosen by one of sharpe, sortino"),
    ],
)
def test_what_cannot_be_done_is_said(hours, options, message):
    """Too few days, or a figure that is no objective."""
    with pytest.raises(InputError, match=re.escape(message)):
        walked(hours, **options)


def test_sets_with_other_days_stand_side_by_side():
    """A set that trades other symbols may have other days: a day that it has not earns it nothing."""

    def of(first, returns):
        dates = np.arange(first, first + len(returns)).astype("datetime64[D]")
        return Days(np.arange(len(returns)), dates, 365), np.arange(first, first + len(returns)), np.array(returns)

    days, ends, returns = _on_same_days([of(10, [0.1, 0.2]), of(11, [0.3, 0.4])])
    assert days.dates.astype(int).tolist() == [10, 11, 12]
    assert ends.tolist() == [10, 11, 12]
    assert returns.T.tolist() == [[0.1, 0.2, 0.0], [0.0, 0.3, 0.4]]


def test_of_equals_the_first_is_chosen_and_of_nothing_none():
    """The choice does not depend on chance, and without any value there is none: the fold stays without a position."""
    fold = PLAN.folds(20)[0]
    assert _tested(fold, np.array([np.nan, 2.0, 2.0]), np.array([0.0, 1.0, 5.0])).best == 1
    nothing = _tested(fold, np.array([np.nan, np.nan]), np.array([0.0, 1.0]))
    assert (nothing.best, nothing.median) == (NONE, 0.5)
    assert np.isnan([nothing.trained, nothing.tested, nothing.agreement]).all()


def test_ranks_agree_as_spearman_has_it():
    """Equal values share their places."""
    ranked = rank_correlation(np.array([1.0, 2.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0]))
    assert ranked == pytest.approx(0.948683, abs=1e-6)
    assert np.isnan(rank_correlation(np.array([1.0, 1.0]), np.array([1.0, 2.0])))


def test_the_folder_has_everything(done, tmp_path):
    """Result, tables and page; a folder with something in it is refused, and nothing half written is left."""
    result = done.to_json() | {"run_id": "walk-forward-1"}
    write(tmp_path / "run", done, result, "A walk <forward>")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "equity.parquet",
        "page.html",
        "result.json",
        "trials.parquet",
    ]
    read = json.loads((tmp_path / "run" / "result.json").read_text())
    assert read["folds"][0]["train"] == [["2026-01-01", "2026-01-12"]]
    assert read["folds"][0]["test"] == [["2026-01-14", "2026-01-18"]]
    assert read["belief"]["sentence"] == done.belief.sentence
    with pytest.raises(InputError, match="is not empty"):
        write(tmp_path / "run", done, result, "again")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_tables_are_those_of_the_result(done):
    """Equity by day with its fold and set, and each set in each fold, of which one is chosen."""
    equity, trials = equity_table(done), trial_table(done)
    assert equity["equity"].to_pylist() == pytest.approx(done.equity.tolist())
    assert equity["drawdown"].to_numpy().min() == pytest.approx(done.figures["max_drawdown_pct"] / 100)
    assert trials.num_rows == len(done.folds) * len(done.trials)
    assert trials["is_chosen"].to_pylist().count(True) == len(done.folds)


def test_the_page_shows_the_sentence_and_each_fold(done, tmp_path):
    """It is one file with nothing from elsewhere, and what people named is escaped."""
    write_walk_forward(tmp_path / "page.html", "A walk <forward>", done, done.to_json())
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "A walk &lt;forward&gt;" in text
    assert done.belief.sentence.split(":")[0] in text
    assert text.count("class='chosen'") == len(done.folds)
    assert "http" not in text.replace("http-equiv", "")


def ran(monkeypatch, *arguments):
    """The exit code of `torghut walk-forward`."""
    monkeypatch.setattr("sys.argv", ["torghut", "walk-forward", *map(str, arguments)])
    return cli._run()


def test_the_command_writes_prints_and_enters_the_ledger(hours, tmp_path, monkeypatch, capsys):
    """The summary ends with the sentence; a walk of the same in another way is one more trial, and the same again is none."""
    (tmp_path / "trend.yaml").write_text(TEXT)
    common = [hours, "--catalog", tmp_path / "trend.yaml", "--state", tmp_path / "state", "--workers", "1"]
    common += ["--set", "params.lookback=4,8"]
    days = ["--train", "12d", "--test", "5d", "--purge", "1d"]

    assert ran(monkeypatch, *common, *days, "--out", tmp_path / "first") == 0
    printed = capsys.readouterr()
    assert "2 parameter sets on 1 worker" in printed.err
    assert "; train 12d, test 5d, purge 1d\n" in printed.err
    assert "Too little to tell from luck" in printed.out
    assert (tmp_path / "first" / "page.html").exists()

    assert ran(monkeypatch, *common, "--combinatorial", "3,1", "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert second["belief"]["trials"] == 2
    assert len(second["folds"]["figures"]) == 3
    monkeypatch.setattr("sys.argv", ["torghut", "report", second["run_id"], "--state", str(tmp_path / "state")])
    assert cli._run() == 0
    assert f"{second['run_id']}: {second['belief']['sentence']}" in capsys.readouterr().out

    assert ran(monkeypatch, *common, *days, "--json") == 0
    assert json.loads(capsys.readouterr().out)["belief"]["trials"] == 2
    with closing(Ledger.open(tmp_path / "state")) as ledger:
        rows = ledger.find(kind="walk-forward")
        assert [row.variants for row in rows] == [2, 2, 2]
        assert rows[1].run_id == second["run_id"]
        assert rows[1].folder == str(tmp_path / "state" / "walk-forwards" / second["run_id"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "say how days are divided: --train 180d --test 30d, or --combinatorial 6,2"),
        ("--train 10d", "say how days are divided"),
        ("--train 10d --test 5", "--test 5: is not a number of trading days (as in 30d)"),
        ("--combinatorial 6", "--combinatorial 6: is not of the form N,K (as in 6,2)"),
        ("--combinatorial 6,2 --train 10d", "leave out --train and --test"),
        ("--train 10d --test 5d", "nothing is varied"),
    ],
)
def test_what_is_missing_is_said(arguments, message, hours, tmp_path, monkeypatch, capsys):
    """Before anything runs: exit code 2, and what to write."""
    (tmp_path / "trend.yaml").write_text(TEXT)
    common = [hours, "--catalog", tmp_path / "trend.yaml", "--state", tmp_path / "state"]
    assert ran(monkeypatch, *common, *arguments.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "state" / "walk-forwards").exists()
