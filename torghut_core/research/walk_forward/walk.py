"""Parameters that are chosen on some days and tested on others, fold by fold, as they would have been in time.

Each parameter set runs once, over the whole tape: what it had earned by the end of a day depends on nothing later, so a fold
takes the days that it needs from that run, and nothing of its test can reach its choice. Features are warm in every fold for the
same reason, and a set begins a fold with what it holds by then: where the choice changes from one fold to the next, the positions
change with it, at the last prices of the day before and without the costs of that. See docs/belief.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import msgspec
import numpy as np

from torghut_core.audit.values import plain
from torghut_core.errors import InputError
from torghut_core.model.market import FloatArray, IntArray
from torghut_core.research.backtests import days_calendar
from torghut_core.research.belief.judge import Belief, judge
from torghut_core.research.belief.overfitting import Overfitting, measure_overfitting
from torghut_core.research.performance.figures import Dates, Days, Trips, daily_returns, figures, trading_days
from torghut_core.research.sweeps.search import ParameterSet, new_search
from torghut_core.research.sweeps.sweep import Outcome, Sweep, Trial
from torghut_core.research.walk_forward.folds import Fold, combinatorial, joined_paths, walk_forward
from torghut_core.timestamps import DAY

OBJECTIVES = ("sharpe", "sortino", "calmar", "omega", "total_return_pct", "cagr_pct", "max_drawdown_pct")
"""By what a set can be chosen: figures of daily returns, of which more is better."""

NONE = -1
"""In place of a set's number: no set had a value to be chosen by."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How days are divided, all lengths in trading days.

    Attributes
    ----------
    train, test, purge : see `folds.walk_forward`.
    parts, tested : see `folds.combinatorial`; walks forward where 0.
    embargo : of combinations alone: walking forward, nothing is chosen on that follows a test.
    """

    train: int = 0
    test: int = 0
    purge: int = 0
    embargo: int = 0
    parts: int = 0
    tested: int = 0

    def folds(self, days: int) -> list[Fold]:
        """The folds of so many days.

        Raises
        ------
        InputError : the days are too few.
        """
        if self.parts:
            return combinatorial(days, self.parts, self.tested, self.purge, self.embargo)
        return walk_forward(days, self.train, self.test, self.purge)

    def __str__(self) -> str:
        days = [f"{name} {getattr(self, name)}d" for name in ("purge", "embargo") if getattr(self, name)]
        way = (
            [f"{self.tested} of {self.parts} parts tested in every combination"]
            if self.parts
            else [f"train {self.train}d", f"test {self.test}d"]
        )
        return ", ".join(way + days)


class TestedFold(msgspec.Struct, frozen=True, kw_only=True):
    """A fold, and what came out of it.

    Attributes
    ----------
    fold : its days.
    best : the number of the set that was chosen, or `NONE`.
    trained, tested : its objective on the days that it was chosen on, and on those that it was tested on.
    median : of all sets, the objective on the tested days: what a choice by chance would have had.
    agreement : how alike the sets are ranked on both, from -1 to 1 (Spearman); NaN where they cannot be ranked.
    """

    __test__ = False  # not one of pytest's

    fold: Fold
    best: int
    trained: float
    tested: float
    median: float
    agreement: float


@dataclass(frozen=True, kw_only=True)
class WalkForward:
    """What choosing parameters and then trading them would have given.

    Attributes
    ----------
    plan, objective : how days are divided, and by what sets are chosen.
    trials : the sets that could be tried, in order; their numbers here are places in this list.
    refused : those that could not, each with its reason.
    days : of the tape; `ends` is when each was over, ns.
    returns : shape (d, n), of each day and set.
    trained, tested : shape (f, n), the objective of each fold and set.
    folds : what was chosen in each, and what it was worth.
    cash : of the account at the beginning.
    trips : round trips of the chosen sets that ended on a day that they were tested on (of `paths[0]`).
    earlier : how many walks forward of the same strategies and data were made before.
    """

    plan: Plan
    objective: str
    trials: list[Trial]
    refused: list[Trial]
    days: Days
    ends: IntArray
    returns: FloatArray
    trained: FloatArray
    tested: FloatArray
    folds: list[TestedFold]
    cash: float
    trips: Trips
    earlier: int = 0

    @cached_property
    def paths(self) -> list[list[tuple[int, int]]]:
        """See `folds.joined_paths`."""
        return joined_paths([each.fold for each in self.folds])

    @cached_property
    def out_of_sample(self) -> tuple[IntArray, FloatArray]:
        """The numbers of the days that were tested, in order, and the returns of the sets that were chosen for them."""
        return self._joined(self.paths[0])

    @cached_property
    def equity(self) -> FloatArray:
        """The account at the end of each day of `out_of_sample`, had it traded what was chosen."""
        return _growth(self.out_of_sample[1]) * self.cash

    @cached_property
    def figures(self) -> dict[str, float]:
        """Figures of `out_of_sample`."""
        tested, _ = self.out_of_sample
        days = Days(np.arange(len(tested)), self.days.dates[tested], self.days.per_year)
        return figures(self.ends[tested], self.equity, self.cash, days=days, trips=self.trips)

    @cached_property
    def path_values(self) -> FloatArray:
        """The objective of each path of tests: one walking forward, several of combinations."""
        dates, per_year = self.days.dates, self.days.per_year
        return np.array(
            [
                _value(returns, dates[tested], per_year, self.objective)
                for tested, returns in map(self._joined, self.paths)
            ]
        )

    @cached_property
    def overfitting(self) -> Overfitting:
        """Of choosing among these sets, over all days; see `overfitting.measure_overfitting`."""
        return measure_overfitting(self.returns)

    @cached_property
    def belief(self) -> Belief:
        """Whether `out_of_sample` can be told from luck.

        No set was chosen by these days, so they are one trial, and one more for each walk forward before it (`earlier`).
        """
        return judge(
            self.out_of_sample[1],
            self.trips.profit,
            self.days.per_year,
            trials=1 + self.earlier,
            overfitting=self.overfitting,
        )

    @property
    def changes(self) -> int:
        """How often the choice was another one than in the fold before."""
        chosen = [each.best for each in self.folds]
        return sum(one != other for one, other in itertools.pairwise(chosen))

    def params(self, number: int) -> ParameterSet | None:
        """The set of a number; None of `NONE`."""
        return None if number == NONE else self.trials[number].params

    def to_json(self) -> dict[str, Any]:
        """Everything but arrays, as JSON values; None where a number is not known."""
        dates = self.days.dates
        found: dict[str, Any] = _finite(
            {
                "plan": msgspec.to_builtins(self.plan),
                "objective": self.objective,
                "sets": len(self.trials) + len(self.refused),
                "refused": len(self.refused),
                "reasons": sorted({trial.reason for trial in self.refused})[:10],
                "days": len(dates),
                "per_year": self.days.per_year,
                "folds": [
                    {
                        "train": _spans(each.fold.train, dates),
                        "test": [span for part in each.fold.tests for span in _spans(part, dates)],
                        "train_days": len(each.fold.train),
                        "test_days": sum(map(len, each.fold.tests)),
                        "params": plain(self.params(each.best)),
                        "trained": each.trained,
                        "tested": each.tested,
                        "median": each.median,
                        "agreement": each.agreement,
                    }
                    for each in self.folds
                ],
                "changes": self.changes,
                "trained": _mean([each.trained for each in self.folds]),
                "tested": _mean([each.tested for each in self.folds]),
                "median": _mean([each.median for each in self.folds]),
                "agreement": _mean([each.agreement for each in self.folds]),
                "paths": self.path_values.tolist(),
                "figures": self.figures,
                "overfitting": self.overfitting._asdict(),
                "belief": self.belief.to_json(),
            }
        )
        return found

    def _joined(self, path: Sequence[tuple[int, int]]) -> tuple[IntArray, FloatArray]:
        parts = [(self.folds[fold].best, self.folds[fold].fold.tests[place]) for fold, place in path]
        returns = [np.zeros(len(days)) if best == NONE else self.returns[days, best] for best, days in parts]
        return np.concatenate([days for _, days in parts]), np.concatenate(returns)


def run_walk_forward(
    sweep: Sweep,
    sets: Sequence[ParameterSet],
    plan: Plan,
    objective: str = "sharpe",
    *,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> WalkForward:
    """Try all sets, choose one in each fold, and test it.

    Parameters
    ----------
    sweep : runs the sets.
    sets : what to choose from.
    plan : how days are divided.
    objective : one of `OBJECTIVES`.
    on_progress : called with the number of sets that are done.

    Raises
    ------
    InputError : no such objective; no set can be traded; the tape has too few days.
    """
    if objective not in OBJECTIVES:
        raise InputError(f"--objective {objective}: sets are chosen by one of {', '.join(OBJECTIVES)}")
    trials: list[Trial] = []
    refused: list[Trial] = []
    columns: list[tuple[Days, IntArray, FloatArray]] = []
    calendar, broker = days_calendar(sweep.generation), sweep.generation.broker
    assert broker is not None
    cash = float(broker.account().cash)
    for done, trial in enumerate(sweep.evaluate(sets, has_curve=True), 1):
        if trial.outcome is not Outcome.DONE or trial.curve is None:
            refused.append(trial)
        else:
            at, equity = trial.curve.event_ts, trial.curve.equity
            days = trading_days(at, calendar)
            if not columns:
                plan.folds(len(days.dates))  # too few days are said before all sets are tried
            columns.append((days, at[days.last], daily_returns(equity, cash, days)))
            trials.append(msgspec.structs.replace(trial, curve=None))
        on_progress(done)
    if not trials:
        why = f": {refused[0].reason}" if refused else ""
        raise InputError(f"none of {len(sets):,} parameter sets can be traded{why}")
    days, ends, returns = _on_same_days(columns)
    folds = plan.folds(len(days.dates))
    trained = np.array([_values(returns[fold.train], days, fold.train, objective) for fold in folds])
    parts = [np.concatenate(fold.tests) for fold in folds]
    tested = np.array([_values(returns[part], days, part, objective) for part in parts])
    chosen = [_tested(*row) for row in zip(folds, trained, tested, strict=True)]
    return WalkForward(
        plan=plan,
        objective=objective,
        trials=trials,
        refused=refused,
        days=days,
        ends=ends,
        returns=returns,
        trained=trained,
        tested=tested,
        folds=chosen,
        cash=cash,
        trips=_trips(sweep, trials, chosen, ends),
    )


def _on_same_days(columns: Sequence[tuple[Days, IntArray, FloatArray]]) -> tuple[Days, IntArray, FloatArray]:
    """The returns of runs as columns, on the days of all of them: sets may differ in their symbols, and so in their days."""
    dates = np.unique(np.concatenate([days.dates for days, _, _ in columns]))
    ends = np.zeros(len(dates), np.int64)
    returns = np.zeros((len(dates), len(columns)))
    for number, (days, at, own) in enumerate(columns):
        place = np.searchsorted(dates, days.dates)
        ends[place] = np.maximum(ends[place], at)
        returns[place[: len(own)], number] = own  # after a total loss there is nothing to trade with
    return Days(np.arange(len(dates)), dates, max(days.per_year for days, _, _ in columns)), ends, returns


def _values(returns: FloatArray, days: Days, numbers: IntArray, objective: str) -> list[float]:
    """The objective of each set on some days; `returns` are theirs alone."""
    return [_value(column, days.dates[numbers], days.per_year, objective) for column in returns.T]


def _value(returns: FloatArray, dates: Dates, per_year: int, objective: str) -> float:
    days = Days(np.arange(len(returns)), dates, per_year)
    return figures(days.last * DAY, _growth(returns), 1.0, days=days)[objective]


def _growth(returns: FloatArray) -> FloatArray:
    """What 1 becomes."""
    return cast("FloatArray", np.cumprod(1 + returns))


def _tested(fold: Fold, trained: FloatArray, tested: FloatArray) -> TestedFold:
    """Choose the best set of a fold, of equals the first."""
    has_value = ~np.isnan(trained)
    best = int(np.argmax(np.where(has_value, trained, -np.inf))) if has_value.any() else NONE
    known = tested[~np.isnan(tested)]
    return TestedFold(
        fold=fold,
        best=best,
        trained=math.nan if best == NONE else float(trained[best]),
        tested=math.nan if best == NONE else float(tested[best]),
        median=float(np.median(known)) if len(known) else math.nan,
        agreement=rank_correlation(trained, tested),
    )


def rank_correlation(one: FloatArray, other: FloatArray) -> float:
    """How alike two lists rank the same things (Spearman), from -1 to 1; NaN where fewer than two are known, or all are equal.

    Examples
    --------
    >>> rank_correlation(np.array([1.0, 2.0, 5.0, np.nan]), np.array([2.0, 4.0, 9.0, 1.0]))
    1.0
    """
    known = ~(np.isnan(one) | np.isnan(other))
    first, second = _ranks(one[known]), _ranks(other[known])
    if len(first) < 2 or not first.std() or not second.std():
        return math.nan
    return round(float(np.corrcoef(first, second)[0, 1]), 12)


def _ranks(values: FloatArray) -> FloatArray:
    """The place of each in order; those that are equal share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[place]


def _trips(sweep: Sweep, trials: Sequence[Trial], folds: Sequence[TestedFold], ends: IntArray) -> Trips:
    """The round trips of the chosen sets that ended on a day that they were tested on; each of these sets runs once more."""
    owner = np.full(len(ends), NONE)
    for fold, place in joined_paths([each.fold for each in folds])[0]:
        owner[folds[fold].fold.tests[place]] = folds[fold].best
    found: list[tuple[int, int, float]] = []
    for number in sorted(set(owner.tolist()) - {NONE}):
        for trip in sweep.runner.run(trials[number].params).round_trips():
            day = min(int(np.searchsorted(ends, trip.exited_at)), len(ends) - 1)
            if owner[day] == number:
                found.append((trip.entered_at, trip.exited_at, float(trip.profit)))
    found.sort(key=lambda trip: trip[1])
    columns = list(zip(*found, strict=True)) or [(), (), ()]
    return Trips(np.array(columns[0], np.int64), np.array(columns[1], np.int64), np.array(columns[2], float))


def grid(sweep: Sweep) -> list[ParameterSet]:
    """Every combination of the values of a sweep's axes.

    Raises
    ------
    InputError : nothing is varied.
    """
    search = new_search("grid", sweep.runner.axes, None, 0)
    sets: list[ParameterSet] = []
    while given := search.ask():
        sets += given
    return sets


def _spans(days: IntArray, dates: Dates) -> list[list[str]]:
    """Days as stretches, each the first and the last date."""
    stretches = np.split(days, np.flatnonzero(np.diff(days) > 1) + 1) if len(days) else []
    return [[str(dates[part[0]]), str(dates[part[-1]])] for part in stretches]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _finite(value: Any) -> Any:
    """The same with None for each number that is none."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
