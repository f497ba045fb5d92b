"""From what the catalog says now to what trades: the next generation, made beside the one that trades.

    texts -> draft (entries that are right) -> settled catalog (with what stays as it is) -> generation -> warm -> swap

Everything before the swap is `Reloader.plan`, which may run in another thread while the loop trades; the swap is
`Reloader.take_up`, between two batches. What is wrong with an entry keeps that entry as it was and is told in `problems`;
what is wrong with the file as a whole changes nothing.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pyarrow as pa

from torghut_core.catalog import Catalog, Draft, StrategyEntry, Use
from torghut_core.catalog.diff import diff
from torghut_core.errors import CatalogError, HandOverError, StateError, reason_of
from torghut_core.generation import Generation, StrategyInstance, build, hand_over, has_same_terms, validate_pipelines
from torghut_core.model.market import signal_type, window_size
from torghut_core.model.trading import Account, Limits, Position
from torghut_core.plugin_host import PluginHost
from torghut_core.plugin_host.watchdog import FROM_PLUGINS
from torghut_core.ports import AccountView, AuditStore, Context
from torghut_core.signals.schema import KEY
from torghut_core.signals.store import Selection, SignalDatabase
from torghut_core.telemetry import logs
from torghut_core.trading.engine import EMPTY, Engine
from torghut_core.trading.risk_engine import Gates

Entry = TypeVar("Entry", bound=Use)
Warmth = Mapping[str, Mapping[str, tuple[int, int]]]
"""By strategy and symbol: how many rows it was shown, and the `event_ts` of the last."""

ATTEMPTS = 20
"""So often a plan is made anew, each time without what was wrong with it."""


@dataclass(frozen=True)
class Moment(AccountView):
    """What a plan has to know of the loop, as it was between two batches."""

    running: Generation
    holding: frozenset[str]
    quarantined: frozenset[str]
    now: int
    positions: Mapping[tuple[str, str], Position]
    books: Account

    def account(self) -> Account:
        """The account when it was last asked for: what a strategy that only warms up has to do with it."""
        return self.books


@dataclass(frozen=True)
class Plan:
    """The next generation, ready to trade.

    Attributes
    ----------
    generation : what is to trade; the running one where nothing that trades is different.
    draft : what the catalog says, as far as it is right.
    problems : why not all of it is taken up, a line each.
    pending : differences that wait for a flat position or a restart, as `CatalogDiff.to_json` has them.
    warmed : what new instances were shown.
    record, rows : what the audit database gets: the generation, and the rows of ``strategies`` that differ.
    moment : the loop when the plan was begun.
    renewed : strategies that get a new instance though nothing of them has changed.
    fresh : strategies whose new instance has no use for the state of the old one.
    """

    generation: Generation
    draft: Draft
    problems: list[str]
    pending: list[dict[str, Any]]
    warmed: Warmth
    record: dict[str, Any]
    rows: list[dict[str, Any]]
    moment: Moment
    renewed: frozenset[str]
    fresh: frozenset[str]


@dataclass(frozen=True)
class Status:
    """How the catalog and what trades stand to each other: a value, so that who reads it sees one moment.

    Attributes
    ----------
    generation : what trades.
    problems : why the catalog is not taken up as it stands, or not all of it; empty when it is.
    pending : what waits for a flat position or a restart.
    actor : who brought the generation that trades.
    since : wall clock at which it began, ns.
    outcome, is_good, at, pause_s : of the last reload; the pause is that of the loop.
    succeeded_at : wall clock of the last reload that took everything up, ns.
    """

    generation: Generation
    problems: list[str] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)
    actor: str = ""
    since: int = 0
    outcome: str = ""
    is_good: bool = True
    at: int = 0
    pause_s: float = 0.0
    succeeded_at: int = 0


class Reloader:
    """Brings an engine from generation to generation.

    Parameters
    ----------
    engine, audit, signals, gates : of the running loop.
    host : the plugins of the running generation.
    load : gives the plugins that may be used now: from the catalog's ``plugins.allow`` and the host before.
    defaults : limits of strategies that state none.
    since : gives the earliest time from which rows of the signal store are this run's, ns; None for all of them.
    commit : makes durable what was recorded; `AuditStore.commit` where None.
    """

    def __init__(
        self,
        engine: Engine,
        audit: AuditStore,
        signals: SignalDatabase,
        gates: Gates,
        host: PluginHost,
        load: Callable[[Sequence[str], PluginHost], PluginHost],
        *,
        defaults: Limits,
        since: Callable[[], int | None] = lambda: None,
        commit: Callable[[], None] | None = None,
    ) -> None:
        self.status = Status(engine.generation)
        self.host = host
        self._engine = engine
        self._audit = audit
        self._signals = signals
        self._gates = gates
        self._load = load
        self._defaults = defaults
        self._since = since
        self._commit = commit or audit.commit
        self._rejected: dict[tuple[str, str], tuple[str, str]] = {}

    def start(self, problems: list[str], actor: str, outcome: str, on_invalid: str) -> None:
        """Note the generation that the engine began with."""
        self._note(problems, [], on_invalid, outcome, actor=actor, since=time.time_ns())

    def begin(self) -> Moment:
        """What `plan` starts from; in the loop's thread, between two batches."""
        engine = self._engine
        engine.keep_signals()
        return Moment(
            engine.generation,
            frozenset(engine.holding),
            frozenset(engine.quarantined),
            engine.now,
            engine.positions,
            engine.last_account,
        )

    def plan(self, draft: Draft, moment: Moment, *, releases: bool = False) -> Plan:
        """Make the next generation of what the catalog says; any thread.

        Parameters
        ----------
        releases : quarantined strategies get a new instance and trade again.

        Raises
        ------
        CatalogError : nothing of it can be taken up.
        """
        running = moment.running
        host = self.host = self._load(draft.catalog.plugins.allow, self.host)
        if draft.catalog.pipelines != running.catalog.pipelines:
            draft = draft.without(validate_pipelines(draft.catalog, host))
        for _ in range(ATTEMPTS):
            catalog = settle(draft, running.catalog, moment.holding)
            renewed = _woken(running, catalog) | (moment.quarantined if releases else frozenset())
            fresh = renewed | moment.quarantined
            rejected = {key: digest for key, (digest, _) in self._rejected.items()}
            try:
                generation = build(
                    catalog,
                    host,
                    defaults=self._defaults,
                    previous=running,
                    renewed=renewed,
                    rejected=rejected,
                )
                warmed = self._warm(generation, moment, fresh)
            except CatalogError as error:
                draft = draft.without(error.problems)
                continue
            problems = [*map(str, draft.problems), *map(str, host.kept), *self._told_of(generation, host)]
            wanted = catalog.with_(
                pipelines=catalog.pipelines if "pipelines" in draft.left_out else draft.catalog.pipelines,
                strategies=tuple(_wanted(entry, draft.catalog) for entry in catalog.strategies),
            )
            changes = diff(running.catalog, catalog).to_json()
            return Plan(
                generation,
                draft,
                problems,
                diff(catalog, wanted).to_json()["changes"],
                warmed,
                generation.to_record() | {"diff": changes, "problems": problems},
                _different(running.strategy_rows(), generation.strategy_rows()),
                moment,
                renewed,
                fresh,
            )
        raise CatalogError(draft.problems)

    def apply(self, plan: Plan, actor: str) -> bool:
        """Let the plan's generation trade from the next event on; in the loop's thread, between two batches.

        Returns
        -------
        False where the plan has to be made anew: positions were opened or closed meanwhile that it depends on, new code
        does not take over the state of the old, or the plan was given up.
        """
        engine = self._engine
        if not engine.keeps_signals:
            return False
        waiting = {change["name"] for change in plan.pending if change["kind"] == "strategy"}
        if waiting - engine.holding or self._turned(plan, engine.holding - plan.moment.holding):
            return False
        began = time.perf_counter()
        outcome = "degraded" if plan.problems else "unchanged"
        news: dict[str, Any] = {}
        if plan.generation.digest != engine.generation.digest or plan.renewed:
            try:
                hand_over(engine.generation, plan.generation, but=plan.fresh)
            except HandOverError as error:
                self._reject(error)
                return False
            outcome = "degraded" if plan.problems else "taken up"
            self._swap(plan, actor, outcome)
            news = {"actor": actor, "since": time.time_ns()}
        engine.forget_signals()
        pause_s = time.perf_counter() - began
        self._note(plan.problems, plan.pending, plan.draft.catalog.on_invalid, outcome, pause_s=pause_s, **news)
        return True

    def end(self) -> None:
        """No plan is under way any more, or the one that is takes too long to be waited for; in the loop's thread."""
        self._engine.forget_signals()

    def refuse(self, error: CatalogError) -> None:
        """Nothing is taken up: note why; in the loop's thread."""
        problems = [str(problem) for problem in error.problems]
        if problems != self.status.problems:
            logs.error("catalog refused", problems=problems)
        self._note(problems, self.status.pending, self._engine.generation.catalog.on_invalid, "refused")

    def go_back(self) -> None:
        """Keep the old code of strategies whose new code failed in its first rows, until the code changes again."""
        for name, (digest, reason) in self._engine.reverted.items():
            self._rejected["strategy", name] = digest, f"its first rows failed: {reason}"
        self._engine.reverted.clear()

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for a strategy that is flat now."""
        waiting = {change["name"] for change in self.status.pending if change["kind"] == "strategy"}
        return bool(waiting) and bool(waiting - self._engine.holding)

    def _swap(self, plan: Plan, actor: str, outcome: str) -> None:
        engine, generation = self._engine, plan.generation
        number = self._audit.record_generation(plan.record, actor=actor, outcome=outcome)
        if plan.rows:
            self._audit.record_strategies(plan.rows, "merge")
        told = engine.adopt(generation.numbered(number), plan.warmed, plan.fresh)
        self._commit()
        logs.info("generation trades", generation=number, actor=actor, outcome=outcome, positions=told)

    def _note(
        self, problems: list[str], pending: list[dict[str, Any]], on_invalid: str, outcome: str, **news: Any
    ) -> None:
        at, is_good = time.time_ns(), not problems
        if is_good:
            news["succeeded_at"] = at
        self.status = replace(
            self.status,
            generation=self._engine.generation,
            problems=problems,
            pending=pending,
            outcome=outcome,
            at=at,
            is_good=is_good,
            **news,
        )
        is_open = is_good or on_invalid == "keep_last_good"
        self._gates.restriction = "" if is_open else "halt" if on_invalid == "halt" else "reduce_only"

    def _reject(self, error: HandOverError) -> None:
        for (kind, name, _), made in self._engine.generation.made.items():
            if name == error.plugin:
                self._rejected[kind, name] = error.code_digest, error.reason
                logs.error("new code refused", plugin=name, reason=error.reason, old=made.plugin.code_digest)

    def _told_of(self, generation: Generation, host: PluginHost) -> list[str]:
        """Problems with code that is there, was rejected, and is therefore not used."""
        told = []
        for (kind, name), (digest, reason) in self._rejected.items():
            made = generation.made.get((kind, name, 0))
            found = made and host.registry[kind].get(made.plugin.name)
            if made and found and found.code_digest == digest != made.plugin.code_digest:
                told.append(f"{kind} {name!r}: {reason} (the old code goes on; edit the plugin)")
        return told

    def _turned(self, plan: Plan, opened: Collection[str]) -> bool:
        """Whether a strategy that was flat when the plan was made, and gets other bars by it, now holds something."""
        steps = {each.name: each.step_ns for each in self._engine.generation.strategies}
        return any(
            each.name in opened and steps.get(each.name, each.step_ns) != each.step_ns
            for each in plan.generation.strategies
        )

    def _warm(self, generation: Generation, moment: Moment, fresh: Collection[str]) -> Warmth:
        """Show new instances what the signal store has.

        Raises
        ------
        CatalogError : one of them raised.
        """
        before = {each.name: each for each in moment.running.strategies if each.name not in fresh}
        new = [each for each in generation.strategies if each.warmup and not _goes_on(before.get(each.name), each)]
        if not new:
            return EMPTY
        try:
            self._signals.flush()
            rows = {each.name: history(self._signals, each, self._since(), moment.now) for each in new}
        except StateError as error:
            logs.warning("no history to warm up with, strategies wait for what comes", error=str(error))
            return EMPTY
        warmed = {}
        for instance in new:
            try:
                warmed[instance.name] = self._show(instance, rows[instance.name], moment)
            except FROM_PLUGINS as error:  # a plugin may raise anything
                entry = next(each for each in generation.catalog.strategies if each.name == instance.name)
                message = f"strategy {instance.use!r} cannot be warmed up: {reason_of(error)}"
                problem = generation.catalog.marks.problem(f"{entry.place}.use", message, "fix the plugin")
                raise CatalogError([problem]) from error
        return warmed

    def _show(
        self, instance: StrategyInstance, rows: list[tuple[Any, ...]], moment: Moment
    ) -> dict[str, tuple[int, int]]:
        """Hand rows to a strategy; nothing comes of its answers."""
        make = signal_type(instance.columns)
        shown: dict[str, tuple[int, int]] = {}
        views: dict[str, Context] = {}
        for event_ts, symbol, close, *values in rows:
            view = views.get(symbol)
            if view is None:
                view = views[symbol] = Context(instance.name, symbol, "", moment)
                view.position = moment.positions.get((instance.name, symbol), view.position)
            view.event_ts, view.now, view.price = event_ts, event_ts + instance.step_ns, close
            instance.strategy.on_signal(make(symbol, event_ts, *values), view)
            shown[symbol] = shown.get(symbol, (0, 0))[0] + 1, event_ts
        return shown


def _different(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``strategies`` that are not as they were; those that are gone are disabled."""
    before = {row["name"]: row for row in old}
    gone = before.keys() - {row["name"] for row in new}
    changed = [row for row in new if before.get(row["name"]) != row]
    return changed + [before[name] | {"enabled": False} for name in sorted(gone)]


def _woken(running: Generation, catalog: Catalog) -> frozenset[str]:
    """Strategies that are to trade again and remember something: while they were disabled they saw nothing."""
    asleep = {each.name for each in running.strategies if not each.enabled and each.warmup}
    return frozenset(entry.name for entry in catalog.strategies if entry.enabled and entry.name in asleep)


def _goes_on(old: StrategyInstance | None, new: StrategyInstance) -> bool:
    """Whether a strategy needs no history: it is the same instance, or gets the state of the old code."""
    return old is not None and (old.strategy is new.strategy or has_same_terms(old, new))


def history(signals: SignalDatabase, instance: StrategyInstance, since: int | None, now: int) -> list[tuple[Any, ...]]:
    """The last rows of its symbols that a strategy would have been shown, as many as it needs to be warm.

    Returns
    -------
    A tuple of event_ts (ns), symbol, close and the values of the strategy's columns per row, oldest first. Rows without
    a stored bar are left out: their close is not known.
    """
    until, rows = now - instance.step_ns + 1, instance.warmup + 1
    selection = Selection(None, window_size(instance.step_ns), since, until, rows)
    bars = signals.newest("microbars", (*KEY, "c"), instance.symbols, selection)
    closes = dict(zip(_keys(bars), bars["c"].to_pylist(), strict=True))
    found = signals.newest("signals", (*KEY, *instance.columns), instance.symbols, selection)
    columns = [found[column].to_pylist() for column in instance.columns]
    return sorted(
        (event_ts, symbol, closes[event_ts, symbol], *values)
        for (event_ts, symbol), *values in zip(_keys(found), *columns, strict=True)
        if (event_ts, symbol) in closes and None not in values
    )


def _keys(table: pa.Table) -> list[tuple[int, str]]:
    return list(zip(table["event_ts"].cast("int64").to_pylist(), table["symbol"].to_pylist(), strict=True))


def settle(draft: Draft, running: Catalog, holding: Collection[str]) -> Catalog:
    """The catalog that can trade next: what `draft` says, with what has to stay as `running` has it.

    Pipelines stay. An entry that was left out stays as it was, and a strategy that holds something keeps its bars. Under
    `mode: merge`, and where the name of a wrong entry cannot be read, nothing that is no longer listed is taken out.

    Parameters
    ----------
    holding : strategies that hold a position or have an order out.
    """
    wanted = draft.catalog
    before = {entry.name: entry for entry in running.strategies}
    lost = {name for place, name in draft.left_out.items() if place.startswith("strategies")}
    stays_all = wanted.mode == "merge" or None in lost
    strategies = [_with_its_bars(entry, before.get(entry.name), holding) for entry in wanted.strategies]
    listed = {entry.name for entry in strategies}
    strategies += [_kept(entry) for name, entry in before.items() if name not in listed and (stays_all or name in lost)]
    return wanted.with_(
        pipelines=running.pipelines,
        strategies=tuple(strategies),
        risk=_settled("risk", draft, wanted.risk, running.risk),
        advisors=_settled("advisors", draft, wanted.advisors, running.advisors),
        observers=_settled("observers", draft, wanted.observers, running.observers),
    )


def _settled(key: str, draft: Draft, wanted: Sequence[Use], running: Sequence[Use]) -> tuple[Use, ...]:
    """A list of plugins in its order, with the running entries in the places of those that were left out."""
    left_out = {_number(place): use for place, use in draft.left_out.items() if place.startswith(f"{key}[")}
    if not left_out:
        return tuple(wanted)
    listed = Counter(entry.use for entry in wanted)
    spare: list[Use] = []
    for entry in running:
        if listed[entry.use]:
            listed[entry.use] -= 1
        else:
            spare.append(entry)
    placed = [(_number(entry.place), entry) for entry in wanted]
    for number, use in sorted(left_out.items()):
        for entry in [entry for entry in spare if use is None or entry.use == use]:
            spare.remove(entry)
            placed.append((number, _kept(entry)))
            if use is not None:
                break
    return tuple(entry for _, entry in sorted(placed, key=lambda each: each[0]))


def _number(place: str) -> int:
    found = re.search(r"\[(\d+)\]", place)
    return int(found[1]) if found else 0


def _kept(entry: Entry) -> Entry:
    """The entry as one of the running generation, that stands in no file."""
    return entry.moved("")


def _with_its_bars(entry: StrategyEntry, before: StrategyEntry | None, holding: Collection[str]) -> StrategyEntry:
    if before is None or before.base_timeframe == entry.base_timeframe or entry.name not in holding:
        return entry
    return entry.model_copy(update={"base_timeframe": before.base_timeframe})


def _wanted(entry: StrategyEntry, catalog: Catalog) -> StrategyEntry:
    return next((each for each in catalog.strategies if each.name == entry.name), entry)
