"""Makes the next generation beside the one that trades, and swaps them between two batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from torghut_core.catalog import Draft
from torghut_core.catalog.diff import diff
from torghut_core.errors import CatalogError, HandOverError
from torghut_core.generation import Generation, build, hand_over, validate_pipelines
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Journal
from torghut_core.reload.plan import Moment, Plan, ReloadOutcome, Status, waiting
from torghut_core.reload.settle import changed_rows, settle, unsettled
from torghut_core.reload.warm_up import enabled_again, warm_up
from torghut_core.signals import SignalDatabase
from torghut_core.telemetry import logs
from torghut_core.timestamps import SYSTEM_CLOCK, Clock
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

MOST_LOGGED = 50
"""Problems of one reload that are logged, each in a line."""

ATTEMPTS = 20
"""How often a plan is made anew, each time without what was wrong with it."""


class Reloader:
    """Moves an engine from generation to generation.

    Parameters
    ----------
    engine, audit, signals, gates : of the running loop.
    host : the plugins of the running generation.
    load : gives the plugins that may be used now: from the catalog's ``plugins.allow`` and the host before.
    defaults : limits of strategies that state none.
    actor, problems : who started the engine's generation, and why not all of its catalog trades.
    since : gives the earliest time from which rows of the signal store are this run's, ns; None for all of them.
    commit : makes durable what was recorded; `Journal.commit` where None.
    around : makes the context manager in which plugins give and take state, and observers learn of it: a watchdog's.
    clock : where it asks for the time.
    """

    def __init__(
        self,
        engine: Engine,
        audit: Journal,
        signals: SignalDatabase,
        gates: Gates,
        host: PluginHost,
        load: Callable[[Sequence[str], PluginHost], PluginHost],
        *,
        defaults: Limits,
        actor: str = "",
        problems: Sequence[str] = (),
        since: Callable[[], int | None] = lambda: None,
        commit: Callable[[], None] | None = None,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.host = host
        self._engine = engine
        self._audit = audit
        self._signals = signals
        self._gates = gates
        self._load = load
        self._defaults = defaults
        self._since = since
        self._commit = commit or audit.commit
        self._around = around
        self._clock = clock
        self._rejected: dict[tuple[str, str], tuple[str, str]] = {}
        outcome = ReloadOutcome.DEGRADED if problems else ReloadOutcome.STARTED
        self.status = Status(engine.generation, outcome)
        self._logged: Sequence[str] = ()
        on_invalid = engine.generation.catalog.on_invalid
        self._set_status(list(problems), [], on_invalid, outcome, actor=actor, since=self._clock.wall())

    def record(self, actor: str) -> None:
        """Write down what the engine trades as a generation, and trade it under its number; in the loop's thread."""
        engine, problems = self._engine, list(self.status.problems)
        generation = engine.generation
        outcome = ReloadOutcome.DEGRADED if problems else ReloadOutcome.STARTED
        number = self._audit.record_generation(generation.to_record() | {"problems": problems}, actor, outcome)
        self._audit.record_strategies(generation.strategy_rows(), "sync")
        engine.adopt(generation.numbered(number))
        self.status = replace(self.status, generation=engine.generation, actor=actor, since=self._clock.wall())

    def begin(self) -> Moment:
        """What `plan` starts from; in the loop's thread, between two batches."""
        engine = self._engine
        engine.roster.keep_signals()
        return Moment(
            engine.generation,
            frozenset(engine.books.holding),
            frozenset(engine.roster.quarantined),
            engine.books.now,
            engine.books.positions,
            engine.gateway.last_account,
        )

    def plan(self, draft: Draft, moment: Moment, *, releases: bool = False) -> Plan:
        """Make the next generation of what the catalog says; any thread.

        Parameters
        ----------
        releases : quarantined strategies get a new instance and trade again.

        Raises
        ------
        CatalogError : nothing of it can be applied.
        """
        running = moment.running
        host = self.host = self._load(draft.catalog.plugins.allow, self.host)
        if draft.catalog.pipelines != running.catalog.pipelines:
            draft = draft.without(validate_pipelines(draft.catalog, host))
        for _ in range(ATTEMPTS):
            catalog = settle(draft, running.catalog, moment.holding)
            renewed = enabled_again(running, catalog) | (moment.quarantined if releases else frozenset())
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
                warmed, graph = warm_up(generation, moment, fresh, self._signals, self._since())
            except CatalogError as error:
                draft = draft.without(error.problems)
                continue
            problems = [*map(str, draft.problems), *map(str, host.kept), *self._rejections(generation, host)]
            changes = diff(running.catalog, catalog).to_json()
            return Plan(
                generation,
                draft,
                problems,
                diff(catalog, unsettled(draft, catalog)).to_json()["changes"],
                warmed,
                graph,
                generation.to_record() | {"diff": changes, "problems": problems},
                changed_rows(running.strategy_rows(), generation.strategy_rows()),
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
        if not engine.roster.keeps_signals:
            return False
        if plan.waiting - engine.books.holding or self._changes_bars(plan, engine.books.holding - plan.moment.holding):
            return False
        began = self._clock.monotonic()
        outcome = ReloadOutcome.DEGRADED if plan.problems else ReloadOutcome.UNCHANGED
        changes: dict[str, Any] = {}
        if plan.generation.digest != engine.generation.digest or plan.renewed:
            try:
                with self._around():
                    hand_over(engine.generation, plan.generation, but=plan.fresh)
            except HandOverError as error:
                self._reject(error)
                return False
            outcome = ReloadOutcome.DEGRADED if plan.problems else ReloadOutcome.APPLIED
            self._swap(plan, actor, outcome)
            changes = {"actor": actor, "since": self._clock.wall()}
        engine.roster.forget_signals()
        pause_s = self._clock.monotonic() - began
        on_invalid = plan.draft.catalog.on_invalid
        self._set_status(plan.problems, plan.pending, on_invalid, outcome, pause_s=pause_s, **changes)
        return True

    def end(self) -> None:
        """Keep no signals for a plan any more: it is made, or takes too long to be waited for; in the loop's thread."""
        self._engine.roster.forget_signals()

    def refuse(self, error: CatalogError) -> None:
        """Change nothing, and say why in the status; in the loop's thread."""
        problems = [str(problem) for problem in error.problems]
        on_invalid = self._engine.generation.catalog.on_invalid
        self._set_status(problems, self.status.pending, on_invalid, ReloadOutcome.REFUSED)

    def reject_reverted(self) -> None:
        """Keep the old code of strategies whose new code failed in its first rows, until the code changes again."""
        for name, (digest, reason) in self._engine.reverted.items():
            self._rejected["strategy", name] = digest, f"its first rows failed: {reason}"
        self._engine.reverted.clear()

    @property
    def can_resume(self) -> bool:
        """Whether a change that waited for a strategy to be flat can be applied now."""
        return bool(waiting(self.status.pending) - self._engine.books.holding)

    def _swap(self, plan: Plan, actor: str, outcome: ReloadOutcome) -> None:
        engine, generation = self._engine, plan.generation
        number = self._audit.record_generation(plan.record, actor=actor, outcome=outcome)
        if plan.rows:
            self._audit.record_strategies(plan.rows, "merge")
        with self._around():
            positions = engine.adopt(generation.numbered(number), plan.warmed, plan.fresh, plan.graph)
        self._commit()
        logs.info("generation trades", generation=number, actor=actor, outcome=outcome, positions=positions)

    def _set_status(
        self,
        problems: list[str],
        pending: list[dict[str, Any]],
        on_invalid: str,
        outcome: ReloadOutcome,
        **changes: Any,
    ) -> None:
        """Publish the result of a reload, and restrict trading where the catalog says so in `on_invalid`."""
        at, is_good = self._clock.wall(), not problems
        _log_problems(self._logged, problems, outcome)
        self._logged = problems
        if is_good:
            changes["succeeded_at"] = at
        self.status = replace(
            self.status,
            generation=self._engine.generation,
            problems=problems,
            pending=pending,
            outcome=outcome,
            at=at,
            is_good=is_good,
            **changes,
        )
        is_open = is_good or on_invalid == "keep_last_good"
        before, gates = self._gates.restriction, self._gates
        gates.restriction = "" if is_open else "halt" if on_invalid == "halt" else "reduce_only"
        if gates.restriction != before:
            logs.warning("restriction by the catalog changed", restriction=gates.restriction or "none")

    def _reject(self, error: HandOverError) -> None:
        for (kind, name, _), made in self._engine.generation.made.items():
            if name == error.plugin:
                self._rejected[kind, name] = error.code_digest, error.reason
                logs.error("new code refused", plugin=name, reason=error.reason, old=made.plugin.code_digest)

    def _rejections(self, generation: Generation, host: PluginHost) -> list[str]:
        """Problems with code that is there, was rejected, and is therefore not used."""
        problems = []
        for (kind, name), (digest, reason) in self._rejected.items():
            made = generation.made.get((kind, name, 0))
            found = made and host.registry[kind].get(made.plugin.name)
            if made and found and found.code_digest == digest != made.plugin.code_digest:
                problems.append(f"{kind} {name!r}: {reason} (the old code stays in use; edit the plugin)")
        return problems

    def _changes_bars(self, plan: Plan, opened: Collection[str]) -> bool:
        """Whether a strategy that was flat when the plan was made, and gets other bars by it, now holds something."""
        steps = {each.name: each.step_ns for each in self._engine.generation.strategies}
        return any(
            each.name in opened and steps.get(each.name, each.step_ns) != each.step_ns
            for each in plan.generation.strategies
        )


def _log_problems(before: Sequence[str], now: Sequence[str], outcome: ReloadOutcome) -> None:
    """Log each problem of the catalog once, and once when it is over; files that were refused end no problem."""
    known, found = set(before), set(now)
    fresh = [problem for problem in now if problem not in known]
    gone = [] if outcome is ReloadOutcome.REFUSED else [problem for problem in before if problem not in found]
    for problem in fresh[:MOST_LOGGED]:
        logs.error("catalog problem", problem=problem, outcome=str(outcome))
    for problem in gone[:MOST_LOGGED]:
        logs.warning("catalog problem is over", problem=problem)
    unlisted = max(0, len(fresh) - MOST_LOGGED) + max(0, len(gone) - MOST_LOGGED)
    if unlisted:
        logs.error("further catalog problems", number=unlisted)
    if before and not now:
        logs.warning("the catalog is applied as it stands again")
