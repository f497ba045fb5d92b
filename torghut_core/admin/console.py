"""A run as the admin API sees it: what it shows, and what it changes.

Every method is called from threads of the API's own. Reading takes what is there; what changes the run is done in the
loop's thread, between two batches, but for the operator's control: that needs no loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from torghut_core import catalog as catalogs
from torghut_core.audit import as_json
from torghut_core.catalog import json_schema
from torghut_core.catalog.diff import diff
from torghut_core.errors import CatalogError, InputError, StateError
from torghut_core.execution.controls import STATES, Control, ControlChange
from torghut_core.generation import Generation, validate
from torghut_core.telemetry.metrics import Measured, Metric, MetricSpec
from torghut_core.timestamps import SECOND, format_timestamp, parse_timestamp
from torghut_core.trading.roster import StrategyState
from torghut_core.trading.totals import StrategyTotals

if TYPE_CHECKING:
    from torghut_core.runtime.run import Run

ANSWER_SECONDS = 60.0
"""How long the loop may take to do what it is asked."""

RUN_METRICS = (
    MetricSpec(
        "control_rank", "Strictness of the operator's control: 0 running, 1 entries paused, 2 reduce only, 3 halted."
    ),
    MetricSpec("audit_writable", "0 while the audit database cannot be written, and entries wait."),
    MetricSpec("store_writable", "0 while the signal store does not take rows as fast as they come, and entries wait."),
    MetricSpec("orders_working", "Open orders."),
    MetricSpec("reload_pause_seconds", "Pause of the trading loop at the last reload, seconds."),
    MetricSpec("event_lag_seconds", "How far the loop's time is behind the clock, seconds."),
)
"""The metrics of a run that no part of it counts."""

T = TypeVar("T")


class Console:
    """Implements `admin.kernel.Kernel` for a run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done in the loop's thread, between two batches."""
        future = asyncio.run_coroutine_threadsafe(work, self._run.events)
        try:
            return future.result(ANSWER_SECONDS)
        except TimeoutError:
            future.cancel()
            raise StateError("the trading loop does not answer (see /healthz)") from None

    def reload(self, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        return self._ask(self._run.reload(actor))

    def rollback(self, to: int | None, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        number = self._run.engine.generation.number - 1 if to is None else to
        return self._ask(self._run.roll_back(number, actor))

    def status(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        status = self._run.reloader.status
        generation = status.generation
        return {
            "generation": generation.number,
            "digest": generation.digest,
            "since": format_timestamp(status.since),
            "actor": status.actor,
            "path": str(self._run.path),
            "degraded": bool(status.problems),
            "problems": list(status.problems),
            "pending": _fields(status.pending),
            "quarantined": self._run.engine.roster.quarantined,
            "restriction": self._run.gates.restriction,
            "pinned": self._run.is_pinned,
            "is_polling": self._run.watch.is_polling,
            "last_reload": {
                "at": format_timestamp(status.at),
                "outcome": status.outcome,
                "successful": status.is_good,
                "succeeded_at": format_timestamp(status.succeeded_at) if status.succeeded_at else None,
                "pause_ms": round(status.pause_s * 1000, 3),
            },
            "strategies": self._strategies(generation),
        }

    def _strategies(self, generation: Generation) -> list[dict[str, Any]]:
        engine = self._run.engine
        states = engine.roster.states()
        nothing = StrategyTotals()
        return [
            {
                "name": each.name,
                "use": each.use,
                "version": each.plugin.version,
                "code_digest": each.plugin.code_digest,
                "enabled": each.enabled,
                "state": states.get(each.name, StrategyState.TRADING),
                "symbols": list(each.symbols),
                "params": dict(each.params),
                "on_remove": each.on_remove,
                "rows": totals.rows,
                "decisions": totals.decisions,
                "fills": totals.fills,
            }
            for each in (*generation.strategies, *engine.roster.closing)
            for totals in (engine.totals.strategies.get(each.name, nothing),)
        ]

    # The trading.

    def kill(self, reason: str, *, flatten: bool, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        try:
            turned = self._run.controls.change("halted", reason=reason, actor=actor, flatten=flatten)
        finally:  # what works is taken back also where the stop can be written nowhere
            if self._run.venue is not None:
                self._run.venue.executor.cancel_all()
        return self._turned(turned)

    def unkill(self, reason: str, state: str, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        if state not in STATES:
            raise InputError(f"state {state!r} is not one of {', '.join(STATES)}")
        return self._turned(self._run.controls.change(state, reason=reason, actor=actor))

    def _turned(self, turned: ControlChange) -> dict[str, Any]:
        return {
            "control": self._control(turned.control),
            "written": turned.written,
            "problems": turned.problems,
            "orders_working": self._run.engine.working,
        }

    def _control(self, control: Control) -> dict[str, Any]:
        return {
            "state": control.state,
            "reason": control.reason,
            "actor": control.actor,
            "at": format_timestamp(control.at) if control.at else None,
            "flatten": control.flatten,
        }

    def reconcile(self, accept: Sequence[str], reason: str, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        if accept and not reason.strip():
            raise InputError("a difference is accepted with a reason only (give `reason`)")
        return self._ask(self._run.reconcile(accept, reason, actor))

    def trading(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        run = self._run
        engine, gates, venue, account = run.engine, run.gates, run.venue, run.engine.last_account
        return {
            "account": run.account,
            "broker": "simulated" if venue is None else "live" if gates.is_live else "paper",
            "enabled": gates.trading_enabled,
            "mode": gates.mode,
            "control": self._control(run.controls.current()),
            "restriction": gates.restriction,
            "unrecorded": gates.unrecorded,
            "equity": str(account.equity),
            "cash": str(account.cash),
            "buying_power": str(account.buying_power),
            "currency": account.currency,
            "positions": [
                {
                    "strategy": strategy,
                    "symbol": symbol,
                    "quantity": str(position.quantity),
                    "average_price": str(position.average_price),
                }
                for (strategy, symbol), position in sorted(engine.positions.items())
                if position.quantity
            ],
            "orders_working": engine.working,
            "generation": engine.generation.number,
            "now": format_timestamp(engine.now) if engine.now else None,
            "reconciliation": None if venue is None else venue.status(),
        }

    def trading_health(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        control, unrecorded = self._run.controls.current(), self._run.gates.unrecorded
        unstored = self._run.unstored
        checks = {
            "loop": self.health(),
            "venue": self._venue_problems(),
            "database": [unrecorded] if unrecorded else self._run.controls.health(),  # it is asked each second
            "store": [unstored] if unstored else [],
            "control": [str(control)] if control.state != "running" else [],
            "market_data": self._run.readiness.reasons(),
            "catalog": list(self._run.reloader.status.problems),
            "quarantine": [f"{name}: {reason}" for name, reason in sorted(self._run.engine.roster.quarantined.items())],
        }
        return {"ok": not any(checks.values()), "checks": checks}

    def _venue_problems(self) -> list[str]:
        venue = self._run.venue
        if venue is None:
            return []
        stale = 3 * self._run.settings.trading_reconcile_ms / 1000 + 5
        differences = [f"{symbol}: {said}" for symbol, said in sorted(venue.differences.items())]
        return venue.problems(stale) + differences

    def rows(
        self, table: str, *, symbol: str | None, since: str | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """See `admin.kernel.Kernel`."""
        equal = {} if symbol is None else {"symbol": symbol}
        try:
            moment = None if since is None else parse_timestamp(since)
            format_timestamp(moment or 0)  # its zone may take it out of the calendar
        except (ValueError, OverflowError) as error:
            raise InputError(f"since={since}: {error} (write it as 2026-01-05T14:30:00Z)") from None
        found = self._run.audit.rows(
            table, since=moment, after=before or 0, limit=limit, newest_first=True, account=self._run.account, **equal
        )
        return [as_json(row) for row in found]

    # The catalog.

    def catalog(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        return self._run.engine.generation.catalog.model_dump(mode="json")

    def generations(self, limit: int, before: int | None) -> list[dict[str, Any]]:
        """See `admin.kernel.Kernel`."""
        rows = self._run.audit.rows("catalog_generations", newest_first=True, limit=limit if before is None else 1)
        if before is not None:
            first = min(before, rows[0]["number"] + 1) - 1 if rows else 0
            numbers = range(first, max(0, first - limit), -1)
            rows = [row for number in numbers for row in self._run.audit.rows("catalog_generations", number=number)]
        return [as_json(row) for row in rows]

    def schema(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        return json_schema(self._run.reloader.host.params())

    def plugins(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        host = self._run.reloader.host
        names = ("kind", "name", "distribution", "version", "code_digest")
        failed = ("plugin", "distribution", "reason")
        return {
            "plugins": [{name: getattr(plugin, name) for name in names} for plugin in host.plugins()],
            "failures": [{name: getattr(failure, name) for name in failed} for failure in host.failures],
            "kept": [{name: getattr(failure, name) for name in failed} for failure in host.kept],
        }

    def health(self) -> list[str]:
        """See `admin.kernel.Kernel`."""
        silent = time.monotonic() - self._run.beat_at
        if silent <= self._run.settings.trading_stalled_seconds:
            return self._run.readiness.health()
        return [f"the trading loop has not come back for {silent:.0f} s"]

    def readiness(self) -> list[str]:
        """See `admin.kernel.Kernel`."""
        venue = self._run.venue
        stale = 3 * self._run.settings.trading_reconcile_ms / 1000 + 5
        reasons = self.health() + ([self._run.problem] if self._run.problem else [])
        reasons += venue.problems(stale) if venue is not None else []
        reasons += self._run.readiness.reasons()
        if self._run.gates.unrecorded:
            reasons.append(f"the audit database cannot be written: {self._run.gates.unrecorded}")
        if unstored := self._run.unstored:
            reasons.append(f"store: {unstored}")
        return reasons

    def gates(self) -> dict[str, str]:
        """See `admin.kernel.Kernel`."""
        return {name: "" if gate is None else gate.reason for name, gate in self._run.readiness.poll().items()}

    def validate(self, text: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        try:
            catalog = catalogs.load({"request": text})
            problems = validate(catalog, self._run.reloader.host)
        except CatalogError as error:
            return {"valid": False, "problems": [str(problem) for problem in error.problems], "diff": None}
        changes = diff(self._run.engine.generation.catalog, catalog).to_json()
        return {"valid": not problems, "problems": [str(problem) for problem in problems], "diff": changes}

    @property
    def metric_specs(self) -> tuple[MetricSpec, ...]:
        """See `admin.kernel.Kernel`."""
        return (*RUN_METRICS, *(spec for part in self._measured for spec in part.metric_specs))

    def metrics(self) -> Mapping[str, Metric]:
        """See `admin.kernel.Kernel`."""
        run, status = self._run, self._run.reloader.status
        numbers: dict[str, Metric] = {}
        for part in self._measured:
            numbers |= part.metrics()
        return numbers | {
            "control_rank": run.controls.current().rank,
            "audit_writable": float(not run.gates.unrecorded),
            "store_writable": float(not run.unstored),
            "orders_working": run.engine.working,
            "reload_pause_seconds": status.pause_s,
            "catalog_last_reload_success_timestamp_seconds": status.succeeded_at / SECOND,
            "event_lag_seconds": max(0.0, time.time() - run.engine.now / SECOND) if run.engine.now else 0.0,
        }

    @property
    def _measured(self) -> list[Measured]:
        run = self._run
        parts: list[Measured] = [run.source, run.universe, run.readiness, run.engine.totals]
        return parts if run.venue is None else [*parts, run.venue]


def _fields(pending: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What waits, a dict for each field or entry."""
    told = []
    for change in pending:
        place = f"{change['kind']} {change['name']}".strip()
        fields = change["fields"] or [{"key": change["action"], "timing": change["timing"], "effect": change["effect"]}]
        told += [{"old": None, "new": None} | field | {"key": f"{place} {field['key']}"} for field in fields]
    return told
