"""What a sweep leaves in its folder: every trial, the best ones, a page. From the trials it resumes.

While a sweep runs, finished trials are added as files in ``parts``, each of which is there as a whole or not at all; at the
end they become ``trials.parquet``. A sweep that was stopped or killed finds there what it has done, and does the rest.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from torghut_core.audit.values import plain
from torghut_core.catalog import content_digest, did_you_mean
from torghut_core.errors import InputError, StateError
from torghut_core.files import open_lock
from torghut_core.research.belief.judge import Belief
from torghut_core.research.experiments import Experiment, Ledger, tried
from torghut_core.research.performance.figures import FIGURES
from torghut_core.research.run_folder import RESULT, read_run
from torghut_core.research.sweeps.page import write_sweep
from torghut_core.research.sweeps.search import Axis, ParameterSet, Search, value_text
from torghut_core.research.sweeps.sweep import COUNTS, Outcome, Sweep, Trial

BEST = 10
"""So many sets are listed as the best."""

PART_SECONDS = 2.0
"""What was tried in so many seconds is lost at most if the process is killed."""


@dataclass(frozen=True)
class Objective:
    """The figure by which trials are compared.

    Attributes
    ----------
    name : of the figure.
    is_minimized : whether lower is better.
    """

    name: str
    is_minimized: bool = False

    def __post_init__(self) -> None:
        """Refuse a figure that trials do not have."""
        if self.name not in FIGURES:
            raise InputError(f"--objective: there is no figure {self.name!r} ({did_you_mean(self.name, FIGURES)})")

    def value(self, trial: Trial) -> float:
        """How good a trial is, the higher the better; NaN without the figure."""
        value = trial.figures.get(self.name, math.nan)
        return -value if self.is_minimized else value

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials that have a value, the best first, and of equals the one that was tried first."""
        has_value = [trial for trial in trials if not math.isnan(self.value(trial))]
        return sorted(has_value, key=lambda trial: (-self.value(trial), trial.number))


class TrialTable:
    """The trials of a sweep in its folder, where it owns everything while the ``with`` block of `open_table` lasts.

    Attributes
    ----------
    folder : where.
    trials : by number, those that are there.
    """

    def __init__(self, folder: Path, axes: Sequence[Axis]) -> None:
        self.folder = folder
        self.trials: dict[int, Trial] = {}
        self._axes = axes
        self._fresh: list[Trial] = []
        self._written = time.monotonic()
        self._parts = folder / "parts"

    def read(self) -> Self:
        """Read what is there."""
        files = [*sorted(self._parts.glob("*.parquet")), self.folder / "trials.parquet"]
        for file in files:
            if file.exists():
                for row in pq.read_table(file).to_pylist():
                    self.trials[row["number"]] = _trial(row)
        return self

    def add(self, trial: Trial) -> None:
        """Add a trial; it is on the disk `PART_SECONDS` later."""
        self.trials[trial.number] = trial
        self._fresh.append(trial)
        if time.monotonic() - self._written > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time."""
        if self._fresh:
            self._parts.mkdir(exist_ok=True)
            name = f"{self._fresh[0].number:09}.parquet"
            _write(self._parts / name, self._table(self._fresh))
            self._fresh.clear()
        self._written = time.monotonic()

    def finish(self, sets: Mapping[int, ParameterSet]) -> None:
        """Make one file of the parts, in the order of the sets."""
        self.flush()
        trials = [msgspec.structs.replace(self.trials[number], params=sets[number]) for number in sorted(sets)]
        _write(self.folder / "trials.parquet", self._table(trials))
        shutil.rmtree(self._parts, ignore_errors=True)

    def _table(self, trials: Sequence[Trial]) -> pa.Table:
        columns: dict[str, pa.Array] = {
            "number": pa.array([trial.number for trial in trials], pa.int64()),
            "outcome": pa.array([str(trial.outcome) for trial in trials], pa.string()),
            "reason": pa.array([trial.reason for trial in trials], pa.string()),
        }
        for axis in self._axes:
            columns[axis.path] = _column(axis, [trial.params[axis.path] for trial in trials])
        for name in COUNTS:
            columns[name] = pa.array([trial.counts.get(name) for trial in trials], pa.int64())
        for name in FIGURES:
            if name not in columns:
                columns[name] = pa.array([trial.figures.get(name) for trial in trials], pa.float64())
        return pa.table(columns)


def _column(axis: Axis, values: Sequence[Any]) -> pa.Array:
    """The values of an axis, as numbers where all that are tried are numbers."""
    kinds = {type(value) for value in axis.values}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int}:
        return pa.array(values, pa.int64())
    if kinds <= {int, Decimal}:
        return pa.array([float(value) for value in values], pa.float64())
    return pa.array([value_text(value) for value in values], pa.string())


def _trial(row: Mapping[str, Any]) -> Trial:
    """The trial of a row, without its set: the search knows it, with all digits."""
    is_done = row["outcome"] == Outcome.DONE
    figures = {name: float(row[name]) for name in FIGURES if row.get(name) is not None} if is_done else {}
    counts = {name: row[name] for name in COUNTS} if is_done else {}
    return Trial(
        number=row["number"],
        params={},
        outcome=Outcome(row["outcome"]),
        reason=row["reason"],
        figures=figures,
        counts=counts,
    )


def _write(path: Path, table: pa.Table) -> None:
    """Write a file that is there as a whole or not at all."""
    waiting = path.with_name(f"{path.name}.new")
    try:
        with waiting.open("wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(path)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror} (make room, and give the same command again)") from error


_FIRST = (".lock", "sweep.json.new")
"""What a sweep that was killed at its very beginning leaves."""


@contextmanager
def open_table(folder: Path, identity: Mapping[str, Any], axes: Sequence[Axis]) -> Iterator[TrialTable]:
    """Open the folder of a sweep, a new one or one that was not finished; nobody else writes there meanwhile.

    Parameters
    ----------
    folder : made where it is missing.
    identity : what the sweep is of; one with another identity is refused.

    Raises
    ------
    InputError : the folder has something else.
    StateError : it cannot be written, or another sweep is at work there.
    """
    whose = folder / "sweep.json"
    wanted = json.loads(msgspec.json.encode(plain(identity)))
    try:
        if not whose.exists() and folder.exists() and any(file.name not in _FIRST for file in folder.iterdir()):
            raise InputError(f"{folder} is not empty, and has no sweep (give another --out)")
        folder.mkdir(parents=True, exist_ok=True)
        lock = open_lock(folder / ".lock")
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror} (give another --out)") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"{folder}: another process is at work on this sweep (wait for its end)") from None
        if whose.exists():
            found = _read_identity(whose)
            changed = [name for name in wanted if found.get(name) != wanted[name]]
            if changed:
                raise InputError(
                    f"{folder} has another sweep: its {', '.join(changed)} differ (give another --out, or remove it)"
                )
        else:
            _write_text(whose, json.dumps(wanted, indent=1))
        yield TrialTable(folder, axes).read()
    finally:
        os.close(lock)


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); give another --out, or remove the folder") from None


class SweepResult(msgspec.Struct, kw_only=True):
    """A sweep that has run, or was stopped.

    Attributes
    ----------
    trials : in the order of the sets; those that are there.
    total : how many there are in all.
    fresh : how many of them this call has run.
    objective : by what they are compared.
    axes : what was varied.
    way : how they were evaluated.
    is_complete : whether all of them are there; not after Ctrl-C.
    """

    trials: list[Trial]
    total: int
    fresh: int
    objective: Objective
    axes: tuple[Axis, ...]
    way: str
    is_complete: bool

    @property
    def best(self) -> list[Trial]:
        """The best trials, the best one first."""
        return self.objective.ranked(self.trials)

    @property
    def outcomes(self) -> dict[str, int]:
        """How many trials came out in each way."""
        counted = Counter(trial.outcome for trial in self.trials)
        return {str(outcome): counted[outcome] for outcome in Outcome}

    @property
    def reasons(self) -> dict[str, int]:
        """Why trials have no figures, the most frequent reason first."""
        return dict(Counter(trial.reason for trial in self.trials if trial.reason).most_common())

    def to_json(self) -> dict[str, Any]:
        """Everything but the trials that are not among the best, as JSON values."""
        return {
            "objective": self.objective.name,
            "is_minimized": self.objective.is_minimized,
            "axes": {axis.path: [value_text(value) for value in axis.values] for axis in self.axes},
            "sets": self.total,
            "is_complete": self.is_complete,
            "trials": len(self.trials),
            **self.outcomes,
            "reasons": dict(list(self.reasons.items())[:BEST]),
            "way": self.way,
            "best": [
                {
                    "number": trial.number,
                    "params": plain(trial.params),
                    "figures": {name: None if math.isnan(value) else value for name, value in trial.figures.items()},
                    "counts": trial.counts,
                }
                for trial in self.best[:BEST]
            ],
        }


def run_sweep(
    sweep: Sweep,
    search: Search,
    objective: Objective,
    table: TrialTable,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> SweepResult:
    """Try every set of a search that is not in the table yet, and write the table.

    Whatever interrupts it, what was tried is in the table, and the next call does the rest: with the same result, for a search
    learns in the order of the sets. After Ctrl-C it returns what there is.
    """
    sets: dict[int, ParameterSet] = {}
    fresh = 0
    is_complete = False
    try:
        while given := search.ask():
            numbers = range(len(sets), len(sets) + len(given))
            sets |= dict(zip(numbers, given, strict=True))
            missing = [number for number in numbers if number not in table.trials]
            on_progress(len(sets) - len(missing))
            tried = sweep.evaluate(sets[number] for number in missing)
            for done, (number, trial) in enumerate(zip(missing, tried, strict=True), 1):
                table.add(msgspec.structs.replace(trial, number=number))
                fresh += 1
                on_progress(len(sets) - len(missing) + done)
            search.tell([objective.value(table.trials[number]) for number in numbers])
        is_complete = True
    except KeyboardInterrupt:
        pass  # said by who asked for it
    finally:
        table.flush()
    if is_complete:
        table.finish(sets)
    trials = [
        msgspec.structs.replace(table.trials[number], params=sets[number]) for number in sets if number in table.trials
    ]
    return SweepResult(
        trials=trials,
        total=search.total,
        fresh=fresh,
        objective=objective,
        axes=sweep.runner.axes,
        way=sweep.way,
        is_complete=is_complete,
    )


def identity(sweep: Sweep, search: str, plan: Search, seed: int, objective: Objective) -> dict[str, Any]:
    """What a sweep is of: equal for two that give the same trials."""
    runner = sweep.runner
    of = _experiment(sweep)
    job = runner.job
    settings = [msgspec.structs.asdict(job.gates), job.allow_shorts, msgspec.structs.asdict(job.limits)]
    return {
        "catalog": of.catalog_digest,
        "code": of.code_digest,
        "tapes": of.data_digest,
        "settings": content_digest(plain(settings)),
        "strategies": of.strategy,
        "values": {axis.path: [value_text(value) for value in axis.values] for axis in runner.axes},
        "search": search,
        "seed": None if search == "grid" else seed,
        "sets": plan.total,
        "objective": [objective.name, objective.is_minimized] if search == "tpe" else None,
    }


def folder_name(identity: Mapping[str, Any]) -> str:
    """The name of a sweep's folder where none is given: the same for the same sweep, so that it resumes."""
    return f"sweep-{content_digest(plain(identity))[:12]}"


def keep(folder: Path, done: SweepResult, sweep: Sweep, search: str, state: Path) -> dict[str, Any]:
    """Write ``result.json`` and ``page.html``, add the sweep to the ledger of the state directory, and return the result.

    Raises
    ------
    StateError : something cannot be written; what could be is there.
    """
    best = done.best
    goal = f"{'lowest' if done.objective.is_minimized else 'highest'} {done.objective.name} of {search}"
    experiment = _experiment(
        sweep,
        figures=best[0].figures if best else {},
        params={axis.path: [value_text(value) for value in axis.values] for axis in done.axes},
        variants=max(1, len(done.trials)),
        selection=goal,
        folder=str(folder.absolute()),
    )
    believed = _belief(done, sweep, tried(state, experiment)) if best else None
    path = folder / RESULT
    if not done.fresh and path.exists():
        before = read_run(folder)
        same = {name: getattr(before, name) for name in ("run_id", "created_at", "author")}
        experiment = msgspec.structs.replace(experiment, **same)
    result = experiment.to_json() | done.to_json() | {"belief": believed.to_json() if believed else None}
    _write_text(path, json.dumps(result, indent=1))
    title = f"Sweep of {experiment.strategy}"
    facts = {name: result[name] for name in _FACTS}
    write_sweep(folder / "page.html", done, facts, title, believed.sentence if believed else "")
    with closing(Ledger.open(state)) as ledger:
        if not ledger.find(run=experiment.run_id):  # a call before this one may have failed at the ledger
            ledger.add(experiment)
    return result


_FACTS = (
    *("run_id", "created_at", "author", "strategy", "universe", "began_at", "ended_at", "selection", "costs"),
    *("catalog_digest", "code_digest", "data_digest"),
)
"""What of the result the page lists."""


def _experiment(sweep: Sweep, **fields: Any) -> Experiment:
    generation = replace(sweep.generation, source=sweep.runner.tape.source, catalog=sweep.runner.catalog)
    tape = sweep.runner.tape
    given = {"figures": {}, "params": {}} | fields
    return Experiment.of(generation, "sweep", began_at=tape.began_at, ended_at=tape.ended_at, **given)


def _belief(done: SweepResult, sweep: Sweep, trials: int) -> Belief:
    """How far the best set can be believed, in view of all that were tried: here, and before."""
    best = sweep.runner.run(done.best[0].params)
    sharpes = np.array([trial.figures.get("sharpe", math.nan) for trial in done.trials])
    sharpes = sharpes[np.isfinite(sharpes)]
    variance = float(sharpes.var(ddof=1)) / best.days.per_year if len(sharpes) > 1 else None
    return best.belief(trials, variance=variance)


def _write_text(path: Path, text: str) -> None:
    waiting = path.with_name(f"{path.name}.new")
    try:
        waiting.write_text(text, encoding="utf-8")
        waiting.replace(path)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror} (make room, and give the same command again)") from error
