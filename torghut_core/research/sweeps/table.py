"""The trials of a sweep in its folder, from which it resumes.

While a sweep runs, finished trials are added as files in ``parts``, each of which is there as a whole or not at all; at the
end they become ``trials.parquet``. A sweep that was stopped or killed finds there what it has done, and does the rest.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from torghut_core.audit.values import plain
from torghut_core.errors import InputError, StateError
from torghut_core.files import open_lock
from torghut_core.research.performance.figures import FIGURES
from torghut_core.research.sweeps.search import Axis, ParameterSet, value_text
from torghut_core.research.sweeps.sweep import COUNTS, Outcome, Trial

PART_SECONDS = 2.0
"""What was tried in so many seconds is lost at most if the process is killed."""


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
            write_text(whose, json.dumps(wanted, indent=1))
        yield TrialTable(folder, axes).read()
    finally:
        os.close(lock)


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); give another --out, or remove the folder") from None


def write_text(path: Path, text: str) -> None:
    """Write a text that is there as a whole or not at all.

    Raises
    ------
    StateError : it cannot be written.
    """
    waiting = path.with_name(f"{path.name}.new")
    try:
        waiting.write_text(text, encoding="utf-8")
        waiting.replace(path)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror} (make room, and give the same command again)") from error
