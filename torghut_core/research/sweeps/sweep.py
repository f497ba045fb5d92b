"""Many parameter sets of one catalog on one tape; each is the backtest that it would be alone.

What all have in common is done once: the catalog is read, the plugins are loaded, the tape is checked and kept in memory.
`Sweep.evaluate` is the seam: whatever searches, or tests out of sample, hands it sets and gets a `Trial` for each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from pydantic import ValidationError

from torghut_core import catalog as catalogs
from torghut_core.catalog import Catalog, StrategyEntry
from torghut_core.catalog.problems import Marks
from torghut_core.errors import CatalogError, InputError, PluginError, Problem, TorghutError, reason_of
from torghut_core.generation import Generation, build
from torghut_core.installation.open import load_plugins
from torghut_core.installation.settings import Settings, load_settings
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost
from torghut_core.research.backtests import Backtest, days_calendar, load_catalog, on_tapes, run_backtest, watched
from torghut_core.research.compiled import Simulator, reasons
from torghut_core.research.compiled.reasons import of_gates
from torghut_core.research.kept_tape import KeptTape
from torghut_core.research.performance.curve import Curve, account_curve
from torghut_core.research.performance.figures import Traded, figures, trading_days
from torghut_core.research.performance.trips import round_trips, trip_arrays
from torghut_core.research.replay import gates_of
from torghut_core.research.sweeps.search import Axis, ParameterSet, first_sets, one_strategy, parse_axis
from torghut_core.research.sweeps.workers import Lost, Processes
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


class Task(NamedTuple):
    """A set to be tried: its number, and what `Sweep.evaluate` was asked for."""

    number: int
    params: ParameterSet
    has_curve: bool
    since: int
    until: int


@dataclass(frozen=True)
class Job:
    """What a sweep is of, but for the tape: values alone, for this process and those elsewhere.

    Attributes
    ----------
    files : texts of the catalog, by file name.
    strategy : trades alone; all where None.
    tapes : paths; empty for those of the catalog.
    actions : paths of corporate actions, likewise.
    axes : what is varied, as `parse_axis` takes it.
    gates, allow_shorts, limits : as `run_backtest` and `build` take them.
    """

    files: Mapping[str, str]
    strategy: str | None
    tapes: tuple[str, ...]
    actions: tuple[str, ...]
    axes: tuple[str, ...]
    gates: Gates
    allow_shorts: bool
    limits: Limits

    def runner(self, settings: Settings, tape: KeptTape | None = None) -> Runner:
        """Make what runs its sets: on `tape`, or on its own tapes, which are checked and read.

        Raises
        ------
        CatalogError, InputError, TapeError : see `open_sweep`.
        """
        parsed = load_catalog(self.files)
        host = load_plugins(settings, parsed.plugins.allow)
        parsed = parsed if self.strategy is None else one_strategy(parsed, self.strategy)
        source: dict[str, Any] = {"actions": list(self.actions)} if self.actions else {}
        parsed = on_tapes(parsed, host, [Path(tape) for tape in self.tapes], **source)
        axes = tuple(parse_axis(axis, parsed, host) for axis in self.axes)
        twice = [axis.path for place, axis in enumerate(axes) if _place(axis) in map(_place, axes[:place])]
        if twice:
            raise InputError(f"--set {twice[0]}: is given twice (list all its values in one)")
        tape = tape or _kept(parsed, host)
        # a value of a set is at no place in the files
        return Runner(job=self, catalog=parsed.placed(Marks({}), {}), host=host, tape=tape, axes=axes)


@dataclass(frozen=True)
class Runner:
    """Runs one set after the other, in this process.

    It can be pickled, with the tape: where it arrives, it is made anew of the plugins that are installed there, and raises where
    these have other code.

    Attributes
    ----------
    job : what it was made of.
    catalog : on tapes, see `on_tapes`.
    host : its plugins.
    tape : what each set is traded on.
    axes : what the paths of a set mean.
    """

    job: Job
    catalog: Catalog
    host: PluginHost
    tape: KeptTape
    axes: tuple[Axis, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.job, self.tape, self.first_generation().digest)

    def prepare(self, sets: Sequence[ParameterSet]) -> None:
        """Do nothing: its sets share the tape alone."""

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
        generation = build(self.catalog.with_(strategies=tuple(changed)), self.host, defaults=self.job.limits)
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
            gates=msgspec.structs.replace(self.job.gates),
            allow_shorts=self.job.allow_shorts,
            name="sweep",
            since=since,
            until=until,
        )

    def trial(self, task: Task) -> Trial:
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

    def __init__(self, runner: Runner) -> None:
        generation = runner.first_generation()
        self._runner = runner
        self._simulator = Simulator(
            generation,
            runner.host,
            gates=msgspec.structs.replace(runner.job.gates),
            allow_shorts=runner.job.allow_shorts,
        )
        self._strategies = generation.strategies
        self._calendar = days_calendar(generation)
        self._instruments = generation.instruments
        self._multipliers = {symbol: self._instruments[symbol].multiplier for symbol in self._simulator.symbols}

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self._runner,)

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

    def trial(self, task: Task) -> Trial:
        """Try a set; see `Runner.trial`."""
        simulator, params = self._simulator, task.params
        try:
            with watched() as around, around():
                run = simulator.run(self._runner.params(params), since=task.since, until=task.until)
        except Exception:  # the loop says what is wrong with it
            return self._runner.trial(task)
        if run.needs_loop:
            return self._runner.trial(task)
        rows = simulator.fill_rows(run)
        series = simulator.series(run)
        curve = account_curve(float(simulator.starting_cash), series, rows, self._multipliers)
        notional = sum(self._instruments[row["symbol"]].notional(row["quantity"], row["price"]) for row in rows)
        traded = Traded(fills=len(rows), notional=float(notional), fees=float(sum(row["fee"] for row in rows)))
        found = figures(
            curve.event_ts,
            curve.equity,
            float(simulator.starting_cash),
            days=trading_days(curve.event_ts, self._calendar),
            trips=trip_arrays(round_trips(rows, self._multipliers), series),
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


class Workers(Protocol):
    """Processes, here or elsewhere, that try sets; `str` says which, for people: "on 2 workers"."""

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Trial | Lost]]:
        """Yield each task with its trial, or `Lost`, in the order in which they are done."""

    def close(self) -> None:
        """End all processes, whatever they are at."""


class Forks:
    """Processes of this machine, see `Processes`."""

    def __init__(self, work: Runner | Compiled, count: int) -> None:
        self._work = work
        self._count = count
        self._processes = Processes(work.trial, count) if isinstance(work, Runner) else None

    def __str__(self) -> str:
        return f"on {self._count} worker{'s' if self._count > 1 else ''}"

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Trial | Lost]]:
        """See `Workers.run`."""
        if self._processes is not None:
            yield from self._processes.run(tasks)
            return
        given = list(tasks)
        self._work.prepare([task.params for task in given])
        processes = Processes(
            self._work.trial, self._count
        )  # what a process knows when it begins is shared: the features
        try:
            yield from processes.run(given)
        finally:
            processes.close()

    def close(self) -> None:
        """See `Workers.close`."""
        if self._processes is not None:
            self._processes.close()


def connect(address: str, work: Runner | Compiled) -> Workers:
    """Connect to workers elsewhere: those of the entry point of the group ``torghut.workers`` that the address begins with.

    Raises
    ------
    InputError : no installed distribution has such workers.
    """
    scheme = address.partition("://")[0]
    for point in entry_points(group="torghut.workers", name=scheme):
        workers: Workers = point.load()(address, work)
        return workers
    raise InputError(f"--workers {address}: workers of {scheme}:// are not installed (see docs/ray.md)")


class Sweep:
    """Sets of one catalog on one tape, evaluated in whichever way is quickest; see `open_sweep`.

    Attributes
    ----------
    runner : runs a single set.
    generation : of the first set that is valid.
    way : how sets are evaluated, for people: "on 2 workers".
    """

    def __init__(self, runner: Runner, workers: str | None = None) -> None:
        self.runner = runner
        self.generation = runner.first_generation()
        why = list(self._reasons())
        self._work = runner if why else Compiled(runner)
        self._workers: Workers
        if workers is not None and "://" in workers:
            self._workers = connect(workers, self._work)
        else:
            self._workers = Forks(self._work, _count(workers))
        more = f", and {len(why) - 1} more" if len(why) > 1 else ""
        self.way = f"{self._workers}, because {why[0]}{more}" if why else f"in compiled code, {self._workers}"

    def _reasons(self) -> Iterator[str]:
        """Why not in compiled code."""
        for axis in self.runner.axes:
            if axis.keys[0] != "params" or len(axis.keys) > 2:
                yield f"{axis.path} is not a parameter of a strategy alone"
        yield from reasons(self.generation)
        yield from of_gates(self.runner.job.gates)
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
        tasks = (Task(number, params, has_curve, since, until) for number, params in enumerate(sets))
        for task, result in self._workers.run(tasks):
            early[task.number] = _lost(task, result) if isinstance(result, Lost) else result
            while first in early:
                yield early.pop(first)
                first += 1

    def close(self) -> None:
        """End the workers."""
        self._workers.close()


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
    workers : how many processes, one for each processor where None; or the address of a cluster, such as ``ray://local``.
    actions : tapes of corporate actions; empty for those that the catalog's own source names.
    settings : of the environment where None.

    Raises
    ------
    CatalogError, InputError, TapeError : catalog, axes or tapes are wrong.
    """
    settings = settings or load_settings()
    job = Job(
        files=catalogs.read(catalog) if isinstance(catalog, Path) else dict(catalog),
        strategy=strategy,
        tapes=tuple(map(str, tapes)),
        actions=tuple(map(str, actions)),
        axes=tuple(axes),
        gates=gates_of(settings),
        allow_shorts=settings.trading_allow_shorts,
        limits=settings.limits,
    )
    sweep = Sweep(job.runner(settings), workers)
    try:
        yield sweep
    finally:
        sweep.close()


def _arrived(job: Job, tape: KeptTape, digest: str) -> Runner:
    """The runner of another process.

    Raises
    ------
    InputError : it has other code here.
    """
    runner = job.runner(load_settings(), tape)
    if runner.first_generation().digest != digest:
        raise InputError(
            "the plugins, or Torghut, have other code on this worker than where the sweep began (install the same)"
        )
    return runner


def _count(workers: str | None) -> int:
    if workers is None:
        return len(os.sched_getaffinity(0))
    if not re.fullmatch(r"[1-9][0-9]{0,2}", workers, re.ASCII):
        raise InputError(f"--workers {workers:.40}: is not a number of processes, from 1 to 999")
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


def _lost(task: Task, lost: Lost) -> Trial:
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
