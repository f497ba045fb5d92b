"""A sweep: what is varied, that each trial is the backtest that it would be alone, and that nothing stops the others."""

import itertools
import os
import pickle
import signal
from contextlib import closing
from decimal import Decimal
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.effort import many
from support.sweeps import CATALOG, COLUMNS, write_place, write_plugins
from torghut_core.errors import InputError, StateError
from torghut_core.installation.settings import load_settings
from torghut_core.research import load_catalog, open_sweep, run_backtest, tape_generation
from torghut_core.research.experiments import Ledger
from torghut_core.research.sweeps.files import folder_name, identity, keep
from torghut_core.research.sweeps.results import Objective, run_sweep
from torghut_core.research.sweeps.search import Axis, new_search
from torghut_core.research.sweeps.sweep import OF_SLIPPAGE, Outcome, Runner, Task, Trial
from torghut_core.research.sweeps.table import open_table
from torghut_core.timestamps import EARLIEST, HOUR, LATEST, parse_timestamp

BEGAN = parse_timestamp("2026-01-05T00:00:00Z")
"""The start of the tape's first bar, ns."""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """The folder of the plugin: one for all tests, for a process imports it once."""
    return write_plugins(tmp_path_factory.mktemp("plugins"))


@pytest.fixture
def place(tmp_path, monkeypatch, plugins):
    """A folder with a catalog, the plugin that it trades and a tape."""
    monkeypatch.setenv("TORGHUT_PLUGIN_PATH", str(plugins))
    return write_place(tmp_path)


def opened(place, *axes, **options):
    return open_sweep(place / "catalog.yaml", [place / "bars.parquet"], axes, **{"workers": "2"} | options)


def grid(sweep):
    axes = sweep.runner.axes
    return [
        dict(zip([axis.path for axis in axes], values, strict=True))
        for values in itertools.product(*(axis.values for axis in axes))
    ]


def swept(place, *axes, folder="out", search="grid", trials=None, seed=0, objective="sharpe", **options):
    """Run a sweep as the command does; its result, and the table's file."""
    with opened(place, *axes, **options) as sweep:
        plan = new_search(search, sweep.runner.axes, trials, seed)
        goal = Objective(objective)
        whose = identity(sweep, search, plan, seed, goal)
        with open_table(place / folder, whose, sweep.runner.axes) as table:
            done = run_sweep(sweep, plan, goal, table)
            kept = keep(place / folder, done, sweep, search, place / "state")
    return done, kept


def rows(place, folder="out"):
    return pq.read_table(place / folder / "trials.parquet")


def test_what_trades_nothing_is_no_best():
    """A set that lost something is before one that did nothing, and has no rank."""

    def trial(number, gain, fills):
        return Trial(number=number, params={}, figures={"total_return_pct": gain}, counts={"fills": fills})

    ranked = Objective("total_return_pct").ranked([trial(0, 0.0, 0), trial(1, -2.0, 4), trial(2, -1.0, 2)])
    assert [each.number for each in ranked] == [2, 1]


# What is varied.


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("5:20:5", (5, 10, 15, 20)),
        ("5:19:5", (5, 10, 15)),
        ("0.1:0.3:0.1", (Decimal("0.1"), Decimal("0.2"), Decimal("0.3"))),
        ("20,50,100", (20, 50, 100)),
        ("7", (7,)),
    ],
)
def test_values_are_exact(place, values, expected):
    """A range has both its ends, and decimals are what is written."""
    with opened(place, f"params.quantity={values}") as sweep:
        (axis,) = sweep.runner.axes
    assert [(type(value), value) for value in axis.values] == [(type(value), value) for value in expected]


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("params.fats=1,2", "params.fast, params.slow"),
        ("timeframe=1Min", "base_timeframe"),
        ("name=a,b", "nothing to vary"),
        ("strategies.two.params.fast=1", "there are: one"),
        ("params.fast", "PATH=VALUES"),
        ("params.fast=", "has no values"),
        ("params.fast=5:1:1", "range without values"),
        ("params.fast=1:5:0", "range without values"),
        ("params.fast=a:b:c", "not a range"),
        ("params.fast=1:2000000000:1", "at most"),
        ("params.fast=3,3", "twice"),
        ("params.fast=[1", "not closed"),
    ],
)
def test_what_cannot_be_varied_is_an_error_that_says_what_can(place, axis, said):
    """A wrong name lists what there is; wrong values say what is wrong with them."""
    with pytest.raises(InputError, match=f"--set {axis[:8].replace('.', '[.]')}.*{said}"), opened(place, axis):
        pass


def test_of_several_strategies_one_is_named(place):
    """Without a name the error has those that there are; with it each may be varied."""
    text = CATALOG + "  - {name: two, use: swept, base_timeframe: 1Hour, symbols: [SPY]}\n"
    (place / "catalog.yaml").write_text(text)
    with pytest.raises(InputError, match=r"one, two.*--strategy NAME.*strategies\.NAME\.params\.fast"):
        opened(place, "params.fast=3").__enter__()
    with opened(place, "params.fast=3", strategy="two") as sweep:
        assert [entry.name for entry in sweep.runner.catalog.strategies] == ["two"]
    with opened(place, "strategies.two.params.fast=3,4", "strategies.one.params.slow=30") as sweep:
        (trial, _) = sweep.evaluate(grid(sweep))
        assert trial.outcome is Outcome.DONE


# Trials.


def test_each_trial_is_the_backtest_that_it_would_be_alone(place):
    """Figures, counts and curve are those of the same catalog on the same tape, built anew."""
    with opened(place, "params.fast=3,8", "params.quantity=1.5", "cooldown_seconds=0,86400") as sweep:
        trials = list(sweep.evaluate(grid(sweep), has_curve=True))
    assert len(trials) == 4
    settings = load_settings()
    for trial in trials:
        fast, cooldown = trial.params["params.fast"], trial.params["cooldown_seconds"]
        entry = f'params: {{fast: {fast}, quantity: "1.5"}}, cooldown_seconds: {cooldown}'
        text = CATALOG.replace("params: {fast: 12}", entry)
        from torghut_core.installation.open import load_plugins

        catalog = load_catalog({"a.yaml": text})
        host = load_plugins(settings, catalog.plugins.allow)
        alone = run_backtest(tape_generation(catalog, [place / "bars.parquet"], host))
        assert trial.counts == {name: getattr(alone.result, name) for name in trial.counts}
        assert trial.counts["fills"] > 3
        assert {name: repr(value) for name, value in trial.figures.items()} == {
            name: repr(value) for name, value in alone.statistics.items()
        }
        assert trial.curve.equity.tolist() == alone.curve().equity.tolist()


@pytest.mark.parametrize(
    ("since", "until"),
    [(None, None), (200, None), (200, 500), (300, 300)],
)
def test_compiled_code_gives_the_same_trials(place, monkeypatch, since, until):
    """Counts, curve and figures of a strategy that decides on columns are the loop's, but for slippage, in parts of a tape too."""
    try_by_loop = Runner.trial

    def by_loop(runner, task):
        trial = try_by_loop(runner, task)
        assert trial.outcome is Outcome.INVALID, "compiled code trades every set that is valid"
        return trial

    span = (
        EARLIEST if since is None else BEGAN + since * HOUR,
        LATEST if until is None else BEGAN + until * HOUR,
    )
    (place / "catalog.yaml").write_text(COLUMNS)
    axes = "params.fast=3,8,200", "params.slow=20,40", "params.quantity=1.5,3", "params.stop=0,0.01"
    with opened(place, *axes) as sweep:
        sets = grid(sweep)
        assert sweep.way == "in compiled code, on 2 workers"
        loop = [sweep.runner.trial(Task(n, params, True, *span)) for n, params in enumerate(sets)]
        monkeypatch.setattr(Runner, "trial", by_loop)
        trials = list(sweep.evaluate(sets, has_curve=True, since=span[0], until=span[1]))
    if until is None or until != since:
        assert len({trial.counts.get("fills") for trial in trials}) > 3
    for trial, other in zip(trials, loop, strict=True):
        assert (trial.number, trial.params, trial.outcome, trial.reason) == (
            other.number,
            other.params,
            other.outcome,
            other.reason,
        )
        assert trial.counts == other.counts
        own = {name: repr(float(value)) for name, value in trial.figures.items()}
        of_loop = {name: repr(float(value)) for name, value in other.figures.items() if name not in OF_SLIPPAGE}
        assert own == of_loop
        if trial.curve is not None:
            assert trial.curve.equity.tolist() == other.curve.equity.tolist()


def test_a_set_that_fails_in_compiled_code_fails_alone(place):
    """An error and `os._exit` in `decide` are of their own trials; the others are there."""
    (place / "catalog.yaml").write_text(COLUMNS)
    with opened(place, "params.fault='',exit,raise", "params.fast=3,4") as sweep:
        assert "compiled" in sweep.way
        trials = list(sweep.evaluate(grid(sweep)))
    assert [trial.outcome for trial in trials] == ["done", "done", *["failed"] * 4]
    assert "exit code 7" in trials[2].reason
    assert "as asked" in trials[4].reason


def test_a_set_that_does_not_return_fails_alone(place, monkeypatch):
    """`decide` is interrupted in compiled code and in the loop, also where it is asked about a few rows only."""
    monkeypatch.setattr("torghut_core.research.backtests.LONGEST_CALL_S", 0.2)
    (place / "catalog.yaml").write_text(COLUMNS)
    with opened(place, "params.fault='',endless,endless alone") as sweep:
        assert "compiled" in sweep.way
        trials = list(sweep.evaluate(grid(sweep)))
    assert [trial.outcome for trial in trials] == ["done", "failed", "failed"]
    assert all("more than 0.2 s of one call" in trial.reason for trial in trials[1:])


@pytest.mark.parametrize("workers", ["0", "-1", "1.5", "²", "1000", "9" * 5000, ""])
def test_a_number_of_workers_that_is_none_is_refused(place, workers):
    """It is said before anything runs, and no machine is brought down by a zero too many."""
    with pytest.raises(InputError, match=r"--workers .*from 1 to 999"):
        opened(place, "params.fast=3,4", workers=workers).__enter__()


def test_what_cannot_be_compiled_is_said(place):
    """The way says why it is on workers."""
    with opened(place, "params.fast=3,4") as sweep:
        assert sweep.way == "on 2 workers, because strategy one does not decide on whole batches (docs/decide.md)"
    (place / "catalog.yaml").write_text(COLUMNS.replace("strategies:", "risk: [{use: market-hours}]\nstrategies:"))
    with opened(place, "params.fast=3,4") as sweep:
        assert "rule market-hours" in sweep.way
    (place / "catalog.yaml").write_text(COLUMNS)
    with opened(place, "symbols=[SPY]") as sweep:
        assert sweep.way == "on 2 workers, because symbols is not a parameter of a strategy alone"


def test_a_set_that_is_not_valid_is_counted_with_its_reason(place):
    """The others are tried."""
    with opened(place, "params.fast=3,30", "params.slow=20,200") as sweep:
        trials = list(sweep.evaluate(grid(sweep)))
    assert [trial.outcome for trial in trials] == [Outcome.DONE, *[Outcome.INVALID] * 3]
    assert "fast is below slow" in trials[2].reason
    assert "at most 100, not 200" in trials[1].reason


def test_no_valid_set_is_an_error(place):
    """Nothing would be tried, so the reason is said at once."""
    with pytest.raises(InputError, match=r"no set is valid.*at most 100"):
        opened(place, "params.slow=200,300").__enter__()


def test_a_worker_that_dies_fails_its_trial_alone(place, capfd):
    """`os._exit` in a strategy, an error and a print each concern their own set."""
    with opened(place, "params.fault='',exit,raise,print", "params.fast=3,4,5") as sweep:
        trials = list(sweep.evaluate(grid(sweep)))
        again = list(sweep.evaluate(grid(sweep)[:3]))
    assert [trial.number for trial in trials] == list(range(12))
    outcomes = {(trial.params["params.fault"], trial.outcome) for trial in trials}
    assert outcomes == {("", "done"), ("exit", "failed"), ("raise", "failed"), ("print", "done")}
    assert "exit code 7" in trials[3].reason
    assert "one: ValueError: as asked" in trials[6].reason
    assert again == trials[:3]
    assert capfd.readouterr().out == ""


def test_sets_that_are_not_asked_for_leave_nothing_behind(place):
    """Who stops early gets the right trials the next time."""
    with opened(place, "params.fast=3:14:1") as sweep:
        first = next(iter(sweep.evaluate(grid(sweep))))
        assert [trial.params["params.fast"] for trial in sweep.evaluate(grid(sweep)[5:8])] == [8, 9, 10]
    assert first.params == {"params.fast": 3}


@pytest.mark.parametrize("catalog", [CATALOG, COLUMNS], ids=["loop", "compiled"])
def test_work_travels(place, catalog):
    """What tries sets can be sent to another process, with its arrays in memory that nobody may write to."""
    (place / "catalog.yaml").write_text(catalog)
    with opened(place, "params.fast=3,4") as sweep:
        parts = []
        sent = pickle.dumps(sweep._work, protocol=5, buffer_callback=parts.append)
        work = pickle.loads(sent, buffers=[bytes(part.raw()) for part in parts])
        task = Task(0, {"params.fast": 4}, False, EARLIEST, LATEST)
        assert repr(work.trial(task)) == repr(sweep._work.trial(task))


def test_other_code_elsewhere_is_refused(place):
    """A worker whose plugins differ from those of the sweep does not try its sets."""
    with opened(place, "params.fast=3,4") as sweep:
        sent = pickle.dumps(sweep.runner)
        assert sweep.generation.digest.encode() in sent
        with pytest.raises(InputError, match="other code"):
            pickle.loads(sent.replace(sweep.generation.digest.encode(), b"0" * 64))


def test_workers_that_are_not_installed(place):
    """The error says what is missing, before anything runs."""
    with pytest.raises(InputError, match=r"workers of moon:// are not installed"):
        opened(place, "params.fast=3,4", workers="moon://base").__enter__()


# Searches.


def values_of(search, objective):
    given = []
    while sets := search.ask():
        search.tell([objective(each) for each in sets])
        given += sets
    return given


AXES = (
    Axis("a", "one", ("params", "a"), tuple(range(30))),
    Axis("b", "one", ("params", "b"), ("x", "y", "z")),
    Axis("c", "one", ("params", "c"), (Decimal("0.1"), Decimal("0.2"))),
)


@pytest.mark.parametrize("name", ["random", "tpe"])
@pytest.mark.parametrize("trials", [20, 1000])
def test_a_search_repeats_itself_and_no_set(name, trials):
    """The same seed gives the same sets, each once, at most all that there are."""

    def objective(each):
        return -abs(each["a"] - 7) + (each["b"] == "y")

    if trials > many(500, 100) and name == "tpe":
        trials = 180
        axes = (*AXES[1:], Axis("a", "one", ("params", "a"), tuple(range(4))))
    else:
        axes = AXES
    given = values_of(new_search(name, axes, trials, 3), objective)
    assert given == values_of(new_search(name, axes, trials, 3), objective)
    assert given != values_of(new_search(name, axes, trials, 4), objective) or len(given) < trials
    size = np.prod([len(axis.values) for axis in axes])
    assert len(given) == len({tuple(each.items()) for each in given}) == min(trials, size)


def test_the_estimator_finds_what_is_good_sooner_than_chance():
    """Of 60 sets of 900 the best one is nearer to the best there is."""
    axes = (AXES[0], Axis("d", "one", ("params", "d"), tuple(range(30))))

    def objective(each):
        return -((each["a"] - 21) ** 2) - (each["d"] - 4) ** 2

    best = {
        name: np.mean(
            [max(map(objective, values_of(new_search(name, axes, 60, seed), objective))) for seed in range(5)]
        )
        for name in ("random", "tpe")
    }
    assert best["tpe"] > best["random"]


# The folder.


@pytest.mark.parametrize(("search", "trials"), [("grid", None), ("random", 9), ("tpe", 20)])
def test_the_table_does_not_depend_on_the_workers(place, search, trials):
    """The same seed gives the same bytes with one worker and with three."""
    axes = "params.fast=3:9:1", "params.slow=8,20,40"
    for folder, workers in (("a", "1"), ("b", "3")):
        swept(place, *axes, folder=folder, search=search, trials=trials, workers=workers)
    assert (place / "a" / "trials.parquet").read_bytes() == (place / "b" / "trials.parquet").read_bytes()
    assert rows(place, "a").num_rows == (trials or 21)


def test_a_finished_sweep_is_not_run_again_and_sorts_by_another_figure(place):
    """The same command, with another objective too, only reads; the ledger has one row, with all its variants."""
    from torghut_core.research.experiments import Ledger

    done, kept = swept(place, "params.fast=3:9:1", "params.slow=8,40")
    again, other = swept(place, "params.fast=3:9:1", "params.slow=8,40", objective="fees")
    assert (done.fresh, again.fresh) == (14, 0)
    assert again.best[0].figures["fees"] == max(trial.figures["fees"] for trial in again.trials if trial.figures)
    assert [trial.params for trial in again.trials] == [trial.params for trial in done.trials]
    assert other["run_id"] == kept["run_id"]
    ledger = Ledger.open(place / "state")
    (row,) = ledger.find(kind="sweep")
    ledger.close()
    assert (row.run_id, row.variants, row.params) == (
        kept["run_id"],
        14,
        {"params.fast": [str(fast) for fast in range(3, 10)], "params.slow": ["8", "40"]},
    )
    assert kept["invalid"] == 2
    assert kept["belief"]["trials"] == len(done.trials)
    assert "from luck" in kept["belief"]["sentence"]
    assert "drawMap(data)" in (place / "out" / "page.html").read_text()


def test_another_sweep_is_refused(place):
    """A folder has the trials of one sweep, and of nothing else."""
    swept(place, "params.fast=3,4")
    with pytest.raises(InputError, match="another sweep: its values, sets differ"):
        swept(place, "params.fast=3,4,5")
    (place / "full").mkdir()
    (place / "full" / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        swept(place, "params.fast=3,4", folder="full")


def test_a_sweep_that_was_killed_at_its_very_beginning_begins_again(place):
    """What it leaves before it has said what it is of is no other sweep's; a file of that which is damaged is named."""
    (place / "out").mkdir()
    (place / "out" / ".lock").touch()
    (place / "out" / "sweep.json.new").write_text('{"catal')
    done, _ = swept(place, "params.fast=3,4")
    assert done.is_complete
    (place / "out" / "sweep.json").write_text("")
    with pytest.raises(InputError, match=r"sweep\.json: is damaged .*remove the folder"):
        swept(place, "params.fast=3,4")


def test_a_sweep_that_the_ledger_did_not_take_is_added_the_next_time(place, monkeypatch):
    """It is in the ledger once, with the id that is in its folder, however often the command is given."""
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", Mock(side_effect=StateError("is locked")))
        with pytest.raises(StateError, match="is locked"):
            swept(place, "params.fast=3,4")
    for _ in range(2):
        done, kept = swept(place, "params.fast=3,4")
        assert done.fresh == 0
    with closing(Ledger.open(place / "state")) as ledger:
        assert [row.run_id for row in ledger.find()] == [kept["run_id"]]


def test_two_do_not_write_in_one_folder(place):
    """The second one is refused while the first is at work."""
    with opened(place, "params.fast=3,4") as sweep:
        plan = new_search("grid", sweep.runner.axes, None, 0)
        whose = identity(sweep, "grid", plan, 0, Objective("sharpe"))
        with (
            open_table(place / "out", whose, sweep.runner.axes),
            pytest.raises(StateError, match="another process"),
            open_table(place / "out", whose, sweep.runner.axes),
        ):
            pass
        assert folder_name(whose) == folder_name(dict(whose))


def test_a_killed_sweep_resumes_to_the_same_table(place, monkeypatch):
    """Killed by SIGKILL in the middle, the same call gives the bytes of one that nothing stopped, and runs only the rest."""
    monkeypatch.setattr("torghut_core.research.sweeps.table.PART_SECONDS", 0.0)
    axes = "params.fast=3:9:1", "params.slow=8,20,40"
    swept(place, *axes, folder="whole", search="tpe", trials=20)
    child = os.fork()
    if not child:  # a process like that of the command, killed between two trials

        def killed_at_ten(self, trial):
            self.flush()
            if len(self.trials) == 10:
                os.kill(os.getpid(), signal.SIGKILL)

        from torghut_core.research.sweeps.table import TrialTable

        add = TrialTable.add
        TrialTable.add = lambda self, trial: (add(self, trial), killed_at_ten(self, trial))
        try:
            swept(place, *axes, folder="killed", search="tpe", trials=20)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (place / "killed" / "trials.parquet").exists()
    done, _ = swept(place, *axes, folder="killed", search="tpe", trials=20)
    assert 0 < done.fresh == 20 - 10
    assert (place / "killed" / "trials.parquet").read_bytes() == (place / "whole" / "trials.parquet").read_bytes()


def test_ctrl_c_keeps_what_is_done(place, monkeypatch):
    """It ends cleanly, says that it is not complete, adds to the ledger, and goes on the next time."""
    from torghut_core.research.sweeps.table import TrialTable

    add = TrialTable.add

    def stopped(self, trial):
        add(self, trial)
        if len(self.trials) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrialTable, "add", stopped)
        done, kept = swept(place, "params.fast=3:9:1")
    assert (done.is_complete, len(done.trials), kept["is_complete"]) == (False, 4, False)
    done, kept = swept(place, "params.fast=3:9:1")
    assert (done.is_complete, done.fresh, len(done.trials)) == (True, 3, 7)
