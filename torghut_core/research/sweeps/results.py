"""Sets of a sweep are tried and ranked: by what figure, in which order, and what came out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from torghut_core.audit.values import plain
from torghut_core.catalog import did_you_mean
from torghut_core.errors import InputError
from torghut_core.research.performance.figures import FIGURES
from torghut_core.research.sweeps.search import Axis, ParameterSet, Search, value_text
from torghut_core.research.sweeps.sweep import Outcome, Sweep, Trial
from torghut_core.research.sweeps.table import TrialTable

BEST = 10
"""So many sets are listed as the best."""


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
        """How good a trial is, the higher the better; NaN without the figure, and where nothing was traded."""
        value = trial.figures.get(self.name, math.nan) if trial.counts.get("fills", 1) else math.nan
        return -value if self.is_minimized else value

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials that have a value, the best first, and of equals the one that was tried first."""
        has_value = [trial for trial in trials if not math.isnan(self.value(trial))]
        return sorted(has_value, key=lambda trial: (-self.value(trial), trial.number))


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
