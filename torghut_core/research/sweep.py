"""Many parameter sets of one catalog on one tape; each is the backtest that it would be alone.

What all have in common is done once: the catalog is read, the plugins are loaded, the tape is checked and kept in memory.
`Sweep.evaluate` is the seam: whatever searches, or tests out of sample, hands it sets and gets a `Trial` for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from pydantic import ValidationError

from torghut_core.catalog import Catalog, StrategyEntry
from torghut_core.catalog.problems import Marks
from torghut_core.errors import CatalogError, InputError, PluginError, Problem, TorghutError, reason_of
from torghut_core.generation import Generation, build
from torghut_core.installation.open import load_plugins
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost
from torghut_core.research.backtests import Backtest, days_calendar, load_catalog, on_tapes, run_backtest
from torghut_core.research.compiled import Simulator, reasons
from torghut_core.research.compiled.reasons import of_gates
from torghut_core.research.figures import Traded, figures, trading_days
from torghut_core.research.kept_tape import KeptTape
from torghut_core.research.performance import Curve, account_curve
from torghut_core.research.replay import gates_of
from torghut_core.research.search import Axis, ParameterSet, first_sets, one_strategy, parse_axis
from torghut_core.research.trips import round_trips, trip_arrays
from torghut_core.research.workers import Lost, Processes
from torghut_core.timestamps import EARLIEST, LATEST
from torghut_core.trading.gates import Gates

COUNTS = ("decisions", "denied", "orders", "fills")
"""What is counted of each trial, as `Result` has it."""


OF_SLIPPAGE = ("slippage", "costs", "costs_bps", "slippage_share_pct", "costs_of_gain_pct")
"""Figures that compiled code does not have."""


class Outcome(StrEnum):
    """What came out of a trial."""

    DONE = "done"
    INVALID = "invalid"
    """The catalog does not accept the set."""
    FAILED = "failed"
    """A plugin raised, or the process died."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter set, tried.

    Attributes
    ----------
    number : its place among the sets, from 0.
    params : the set.
    outcome, reason : whether there are figures, and if not why.
    figures : the run in figures; empty unless it is done.
    counts : `COUNTS`.
    curve : equity over the run, where it was asked for.
    """

    number: int
    params: ParameterSet
    outcome: Outcome = Outcome.DONE
    reason: str = ""
    figures: Mapping[str, float] = {}
    counts: Mapping[str, int] = {}
    curve: Curve | None = None


class _Task(NamedTuple):
    number: int
    params: ParameterSet
    has_curve: bool
    since: int
    until: int


@dataclass(frozen=True)
class Runner:
    """Runs one set after the other, in this process.

    Attributes
    ----------
    catalog : on tapes, see `on_tapes`.
    host : its plugins.
    tape : what each set is traded on.
    axes : what the paths of a set mean.
    gates, allow_shorts, limits : as `run_backtest` and `build` take them.
    """

    catalog: Catalog
    host: PluginHost
    tape: KeptTape
    axes: tuple[Axis, ...]
    gates: Gates
    allow_shorts: bool
    limits: Limits

    def params(self, params: ParameterSet) -> dict[str, dict[str, Any]]:
        """The parameters of a set by strategy, where it has nothing else."""
        found: dict[str, dict[str, Any]] = {}
        for axis in self.axes:
            if axis.path in params:
                found.setdefault(axis.strategy, {})[axis.keys[1]] = params[axis.path]
        return found

    def generation(self, params: ParameterSet) -> Generation:
        """Build what trades a set.

        Raises
        ------
        CatalogError : the catalog, or a plugin, does not accept it.
        """
        changes: dict[str, dict[str, Any]] = {}
        entries = {entry.name: entry for entry in self.catalog.strategies}
        for axis in self.axes:
            if axis.path in params:
                content = changes.setdefault(axis.strategy, entries[axis.strategy].model_dump())
                for key in axis.keys[:-1]:
                    content = content.setdefault(key, {})
                content[axis.keys[-1]] = params[axis.path]
        changed = (_entry(entry, changes[entry.name]) if entry.name in changes else entry for entry in entries.values())
        generation = build(self.catalog.with_(strategies=tuple(changed)), self.host, defaults=self.limits)
        return replace(generation, source=self.tape)

    def first_generation(self) -> Generation:
        """Build the first set that is valid.

        Raises
        ------
        InputError : none is.
        """
        reason = ""
        for params in first_sets(self.axes):
            try:
                return self.generation(params)
            except CatalogError as error:
                reason = reason or _reason(error)
        raise InputError(f"no set is valid, the first one because of {reason}")

    def run(self, params: ParameterSet, since: int = EARLIEST, until: int = LATEST) -> Backtest:
        """Run the backtest of a set; takes and raises what `generation` and `run_backtest` do."""
        return run_backtest(
            self.generation(params),
            gates=msgspec.structs.replace(self.gates),
            allow_shorts=self.allow_shorts,
            name="sweep",
            since=since,
            until=until,
        )

    def trial(self, task: _Task) -> Trial:
        """Try a set; nothing that its plugins do is raised."""
        number, params, has_curve, since, until = task
        made = partial(Trial, number=number, params=params)
        try:
            done = self.run(params, since, until)
        except CatalogError as error:
            return made(outcome=Outcome.INVALID, reason=_reason(error))
        except TorghutError as error:
            return made(outcome=Outcome.FAILED, reason=str(error))
        except Exception as error:  # a fault of ours belongs to its trial too, and others go on
            return made(outcome=Outcome.FAILED, reason=reason_of(error))
        if done.totals.failures:
            return made(
                outcome=Outcome.FAILED, reason="; ".join(f"{name}: {why}" for name, why in done.totals.failures.items())
            )
        counts = {name: getattr(done.result, name) for name in COUNTS}
        return made(figures=done.statistics, counts=counts, curve=done.curve() if has_curve else None)


class Compiled:
    """Runs single sets in compiled code, see `compiled.Simulator`; those that it does not say exactly by the loop.

    Figures that need the prices that were decided at, of slippage and of costs with it, are not computed.
    """

    def __init__(self, runner: Runner, generation: Generation) -> None:
        self._runner = runner
        self._simulator = Simulator(
            generation, runner.host, gates=msgspec.structs.replace(runner.gates), allow_shorts=runner.allow_shorts
        )
        self._strategies = generation.strategies
        self._calendar = days_calendar(generation)
        self._instruments = generation.instruments
        self._multipliers = {symbol: self._instruments[symbol].multiplier for symbol in self._simulator.symbols}

    def prepare(self, sets: Sequence[ParameterSet]) -> None:
        """Compute the features of sets, once for all of them; one that is not prepared takes a pass over the tape of its own."""
        with suppress(Exception):  # the trial of a set says what is wrong with it
            self._simulator.prepare(changed for changed in map(self._runner.params, sets) if self._is_accepted(changed))

    def _is_accepted(self, changed: Mapping[str, Mapping[str, Any]]) -> bool:
        for each in self._strategies:
            try:
                each.plugin.parameters({**each.params, **changed.get(each.name, {})})
            except (ValidationError, PluginError):
                return False
        return True

    def trial(self, task: _Task) -> Trial:
        """Try a set; see `Runner.trial`."""
        simulator, params = self._simulator, task.params
        try:
            run = simulator.run(self._runner.params(params))
        except Exception:  # the loop says what is wrong with it
            return self._runner.trial(task)
        if run.needs_loop:
            return self._runner.trial(task)
        rows = simulator.fill_rows(run)
        curve = account_curve(float(simulator.starting_cash), simulator.series, rows, self._multipliers)
        notional = sum(self._instruments[row["symbol"]].notional(row["quantity"], row["price"]) for row in rows)
        traded = Traded(fills=len(rows), notional=float(notional), fees=float(sum(row["fee"] for row in rows)))
        found = figures(
            curve.event_ts,
            curve.equity,
            float(simulator.starting_cash),
            days=trading_days(curve.event_ts, self._calendar),
            trips=trip_arrays(round_trips(rows, self._multipliers), simulator.series),
            traded=traded,
            exposure=curve.exposure,
        )
        counts = {"decisions": run.decisions, "denied": run.denied, "orders": run.orders, "fills": run.filled}
        return Trial(
            number=task.number,
            params=params,
            figures={name: value for name, value in found.items() if name not in OF_SLIPPAGE},
            counts=counts,
            curve=curve if task.has_curve else None,
        )


class Sweep:
    """Sets of one catalog on one tape, evaluated in whichever way is quickest; see `open_sweep`.

    Attributes
    ----------
    runner : runs a single set.
    generation : of the first set that is valid.
    way : how sets are evaluated, for people: "on 2 workers".
    """

    def __init__(self, runner: Runner, workers: int) -> None:
        self.runner = runner
        self.generation = runner.first_generation()
        self._workers = workers
        self._processes: Processes | None = None
        self._compiled: Compiled | None = None
        on_workers = f"on {workers} worker{'s' if workers > 1 else ''}"
        why = list(self._reasons())
        if not why:
            self._compiled = Compiled(runner, runner.first_generation())
            self.way = f"in compiled code, {on_workers}"
        else:
            more = f", and {len(why) - 1} more" if len(why) > 1 else ""
            self.way = f"{on_workers}, because {why[0]}{more}"

    def _reasons(self) -> Iterator[str]:
        """Why not in compiled code."""
        for axis in self.runner.axes:
            if axis.keys[0] != "params" or len(axis.keys) > 2:
                yield f"{axis.path} is not a parameter of a strategy alone"
        yield from reasons(self.generation)
        yield from of_gates(self.runner.gates)
        if self.runner.tape.has_others:
            yield "the tape has trades or quotes (bars alone are compiled)"

    def evaluate(
        self,
        sets: Iterable[ParameterSet],
        *,
        has_curve: bool = False,
        since: int = EARLIEST,
        until: int = LATEST,
    ) -> Iterator[Trial]:
        """Yield a trial for each set, in their order.

        Parameters
        ----------
        sets : taken as they are needed.
        has_curve : whether each trial has its equity curve.
        since, until : the part of the tape that is traded, as `run_backtest` takes it.
        """
        first = 0
        early: dict[int, Trial] = {}
        for task, result in self._run(sets, has_curve, since, until):
            is_lost = isinstance(result, Lost)
            early[task.number] = _lost(task, result) if is_lost else result
            while first in early:
                yield early.pop(first)
                first += 1

    def _run(
        self, sets: Iterable[ParameterSet], has_curve: bool, since: int, until: int
    ) -> Iterator[tuple[_Task, Any]]:
        """Have the sets tried in this way, or on workers where that cannot be."""
        compiled = self._compiled if (since, until) == (EARLIEST, LATEST) else None
        if compiled is not None:  # what a process knows when it begins is shared: its features above all
            sets = list(sets)
            compiled.prepare(sets)
            processes = Processes(compiled.trial, self._workers)
        else:
            processes = self._processes = self._processes or Processes(self.runner.trial, self._workers)
        try:
            yield from processes.run(
                _Task(number, params, has_curve, since, until) for number, params in enumerate(sets)
            )
        finally:
            if processes is not self._processes:
                processes.close()

    def close(self) -> None:
        """End the workers."""
        if self._processes is not None:
            self._processes.close()


@contextmanager
def open_sweep(
    catalog: Path | Mapping[str, str],
    tapes: Sequence[Path],
    axes: Sequence[str],
    *,
    strategy: str | None = None,
    workers: str | None = None,
    actions: Sequence[Path] = (),
    settings: Settings | None = None,
) -> Iterator[Sweep]:
    """Open a sweep; its workers live inside the ``with`` block.

    Parameters
    ----------
    catalog : catalog file or folder, or texts by file name.
    tapes : what to trade on; empty for those that the catalog's own source names.
    axes : what is varied, as `parse_axis` takes it.
    strategy : trades alone; all of the catalog's where None.
    workers : how many processes; one for each processor where None.
    actions : tapes of corporate actions; empty for those that the catalog's own source names.
    settings : of the environment where None.

    Raises
    ------
    CatalogError, InputError, TapeError : catalog, axes or tapes are wrong.
    """
    settings = settings or load_settings()
    parsed = load_catalog(catalog)
    host = load_plugins(settings, parsed.plugins.allow)
    source: dict[str, Any] = {"actions": [str(tape) for tape in actions]} if actions else {}
    parsed = on_tapes(parsed if strategy is None else one_strategy(parsed, strategy), host, tapes, **source)
    parsed_axes = tuple(parse_axis(axis, parsed, host) for axis in axes)
    twice = [axis.path for place, axis in enumerate(parsed_axes) if _place(axis) in map(_place, parsed_axes[:place])]
    if twice:
        raise InputError(f"--set {twice[0]}: is given twice (list all its values in one)")
    tape = _kept(parsed, host)
    runner = Runner(
        catalog=parsed.placed(Marks({}), {}),  # a value of a set is at no place in the files
        host=host,
        tape=tape,
        axes=parsed_axes,
        gates=gates_of(settings),
        allow_shorts=settings.trading_allow_shorts,
        limits=settings.limits,
    )
    sweep = Sweep(runner, _count(workers))
    try:
        yield sweep
    finally:
        sweep.close()


def _count(workers: str | None) -> int:
    if workers is None:
        return len(os.sched_getaffinity(0))
    if not (workers.isascii() and workers.isdigit() and int(workers)):
        raise InputError(f"--workers {workers}: is not a number of processes")
    return int(workers)


def _kept(catalog: Catalog, host: PluginHost) -> KeptTape:
    """The tape of a catalog, checked and read; parameters of strategies may still be missing."""
    source = build(catalog.with_(strategies=()), host).source
    if source is None:
        raise InputError("the catalog has no `trading` pipeline with a source and a broker: nothing to trade on")
    source.check()
    return KeptTape.of(source)


def _entry(entry: StrategyEntry, content: Mapping[str, Any]) -> StrategyEntry:
    try:
        return StrategyEntry.model_validate(content).moved(entry.place)
    except ValidationError as error:
        problems = [
            Problem("", 0, 0, ".".join(map(str, details["loc"])), details["msg"])
            for details in error.errors(include_url=False)
        ]
        raise CatalogError(problems) from None


def _lost(task: _Task, lost: Lost) -> Trial:
    return Trial(number=task.number, params=task.params, outcome=Outcome.FAILED, reason=lost.reason)


def _place(axis: Axis) -> tuple[str, tuple[str, ...]]:
    return axis.strategy, axis.keys


def _reason(error: CatalogError) -> str:
    """The problems without their places, which have other values."""
    return "; ".join(
        f"{problem.key.partition('].')[2] or problem.key}: {problem.message}"
        + (f" ({problem.hint})" if problem.hint else "")
        for problem in error.problems
    )
