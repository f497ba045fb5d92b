"""A run as the admin API sees it: what it shows, and what it changes.

Every method is called from threads of the API's own. Reading takes what is there; what changes the run is done in the
loop's thread, between two batches, but for the operator's control: that needs no loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from torghut_core.admin.catalog_check import check_catalog
from torghut_core.admin.readiness import Readiness
from torghut_core.admin.trading_state import (
    TradingState,
    control_fields,
    decision_fields,
    order_fields,
    position_fields,
)
from torghut_core.audit import Records, as_json, list_rows
from torghut_core.audit.listing import Kind
from torghut_core.catalog import json_schema
from torghut_core.errors import InputError, StateError
from torghut_core.execution.controls import STATES, ControlChange, Controls
from torghut_core.execution.standby import Standby
from torghut_core.execution.venue import SimulatedVenue, Venue
from torghut_core.generation import Generation
from torghut_core.plugin_host import PluginHost
from torghut_core.reload.follower import Follower
from torghut_core.reload.reloader import Reloader
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Measured, Metric, MetricSpec
from torghut_core.timestamps import SECOND, SYSTEM_CLOCK, Clock, format_timestamp
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates
from torghut_core.trading.roster import StrategyState
from torghut_core.trading.totals import StrategyTotals

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
    """Implements `admin.kernel.Kernel` for a run.

    Parameters
    ----------
    account_label, path : the account, and the catalog's file or folder.
    plugin_folders : as `PluginHost.load` takes them.
    standby : says whether this process trades it.
    engine, gates, controls, venue, follower, reloader, audit : the parts of the run.
    checks : whether the market data can be traded on.
    measured : the parts whose numbers `metrics` gives.
    unstored : gives why rows are not stored, "" while they are.
    resumed_from : gives the loop time of the snapshot that the states are from, ns; 0 where they began anew.
    events : the event loop of the thread that trades.
    silent_s : gives the seconds since that loop last ran.
    stalled_s : seconds of that after which the process is unhealthy.
    is_stopping : whether a signal has asked the process to end.
    clock : where it asks for the time.
    """

    def __init__(
        self,
        *,
        account_label: str,
        path: Path,
        plugin_folders: Sequence[Path],
        standby: Standby,
        engine: Engine,
        gates: Gates,
        controls: Controls,
        venue: Venue | SimulatedVenue,
        follower: Follower,
        reloader: Reloader,
        audit: Records,
        checks: Readiness,
        measured: Sequence[Measured],
        unstored: Callable[[], str],
        resumed_from: Callable[[], int],
        events: asyncio.AbstractEventLoop,
        silent_s: Callable[[], float],
        stalled_s: float,
        is_stopping: Callable[[], bool],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._label = account_label
        self._path = path
        self._folders = plugin_folders
        self._standby = standby
        self._engine = engine
        self._gates = gates
        self._controls = controls
        self._venue = venue
        self._follower = follower
        self._reloader = reloader
        self._audit = audit
        self._checks = checks
        self._measured = measured
        self._unstored = unstored
        self._resumed_from = resumed_from
        self._events = events
        self._silent_s = silent_s
        self._stalled_s = stalled_s
        self._is_stopping = is_stopping
        self._clock = clock
        self._schema: tuple[PluginHost, dict[str, Any]] | None = None

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done in the loop's thread, between two batches."""
        future = asyncio.run_coroutine_threadsafe(work, self._events)
        try:
            return future.result(ANSWER_SECONDS)
        except TimeoutError:
            future.cancel()
            raise StateError("the trading loop does not answer (see /healthz)") from None

    def _require_trading(self) -> None:
        """Refuse what only the process that trades can do."""
        if self._standby.reason:
            raise StateError(self._standby.reason)

    def reload(self, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        return self._call(self._follower.reload(actor))

    def rollback(self, to: int | None, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        self._require_trading()
        number = self._engine.generation.number - 1 if to is None else to
        return self._call(self._follower.roll_back(number, actor))

    def status(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        status = self._reloader.status
        generation = status.generation
        return {
            "generation": generation.number,
            "digest": generation.digest,
            "since": format_timestamp(status.since),
            "actor": status.actor,
            "standby": self._standby.reason,
            "path": str(self._path),
            "degraded": bool(status.problems),
            "problems": list(status.problems),
            "pending": _pending_fields(status.pending),
            "quarantined": self._engine.roster.quarantined,
            "restriction": self._gates.restriction,
            "pinned": self._follower.is_pinned,
            "is_polling": self._follower.is_polling,
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
        engine = self._engine
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
            change = self._controls.change("halted", reason=reason, actor=actor, flatten=flatten)
        finally:  # open orders are canceled also where the stop could not be written anywhere
            self._venue.cancel_all()
        return self._changed(change)

    def unkill(self, reason: str, state: str, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        if state not in STATES:
            raise InputError(f"state {state!r} is not one of {', '.join(STATES)}")
        return self._changed(self._controls.change(state, reason=reason, actor=actor))

    def _changed(self, change: ControlChange) -> dict[str, Any]:
        return {
            "control": control_fields(change.control),
            "written": change.written,
            "problems": change.problems,
            "role": self._standby.role,
            "orders_working": len(self._engine.books.working),
        }

    def reconcile(self, accept: Sequence[str], reason: str, actor: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        if accept and not reason.strip():
            raise InputError("a difference is accepted with a reason only (give `reason`)")
        self._require_trading()
        return self._call(self._venue.reconcile_now(accept, reason, actor))

    def trading(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        engine, gates, account = self._engine, self._gates, self._engine.gateway.last_account
        state, reconciliation = self.state(), self._venue.status()
        fields: dict[str, Any] = msgspec.to_builtins(state)
        return fields | {
            "summary": state.lines(self._clock),
            "last_run_at": format_timestamp(self._clock.wall() - round(self._silent_s() * SECOND)),
            "last_reconcile_at": (reconciliation or {}).get("at"),
            "llm": {"enabled": False},
            "enabled": gates.trading_enabled,
            "mode": gates.mode,
            "unrecorded": gates.unrecorded,
            "equity": str(account.equity),
            "cash": str(account.cash),
            "buying_power": str(account.buying_power),
            "currency": account.currency,
            "orders_working": len(engine.books.working),
            "now": format_timestamp(engine.books.now) if engine.books.now else None,
            "reconciliation": reconciliation,
        }

    def state(self) -> TradingState:
        """How trading stands; any thread."""
        engine, gates, standby = self._engine, self._gates, self._standby
        status, books = self._reloader.status, engine.books
        return TradingState(
            account=self._label,
            broker="simulated" if self._venue.is_simulated else "live" if gates.is_live else "paper",
            role=str(standby.role),
            standby=standby.status(),
            generation=engine.generation.number,
            digest=status.generation.digest,
            since=format_timestamp(status.since),
            actor=status.actor,
            catalog=str(self._path),
            strategies=[each.name for each in engine.generation.strategies],
            control=control_fields(self._controls.current()),
            restriction=gates.restriction,
            fallback=self._fallback,
            checks=self._health_checks(list(self._venue.problems) if standby.is_trading else []),
            positions=[
                position_fields(*key, position)
                for key, position in sorted(books.positions.items())
                if position.quantity
            ],
            open_orders=[order_fields(working.order) for working in list(books.working.values())],
            last_event=format_timestamp(engine.market_time) if engine.market_time else None,
            last_decision=decision_fields(*engine.last_decision) if engine.last_decision else None,
            state_from=format_timestamp(resumed_from) if (resumed_from := self._resumed_from()) else None,
            last_error=logs.last_error(),
        )

    @property
    def _fallback(self) -> str:
        """Why an earlier generation trades in place of what the files say, "" where it does not."""
        status = self._reloader.status
        if not self._follower.is_refused:
            return ""
        number, problems = status.generation.number, status.problems
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return (
            f"catalog {self._path} is refused, generation {number} trades on: {problems[0] if problems else ''}{rest}"
        )

    def trading_health(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        checks = self._health_checks(self._venue_problems)
        return {"ok": not any(checks.values()), "checks": checks}

    def _health_checks(self, venue: list[str]) -> dict[str, list[str]]:
        """By subject, the reasons why trading is not well; `venue` has those of the venue."""
        control, unrecorded, unstored = self._controls.current(), self._gates.unrecorded, self._unstored()
        differences = [f"{symbol}: {difference}" for symbol, difference in sorted(self._venue.differences.items())]
        quarantined = sorted(self._engine.roster.quarantined.items())
        return {
            "loop": self.health(),
            "venue": [*venue, *differences],
            "database": [unrecorded] if unrecorded else self._controls.health(),  # it is polled each second
            "store": [unstored] if unstored else [],
            "control": [str(control)] if control.state != "running" else [],
            "market_data": self._checks.reasons(),
            "catalog": list(self._reloader.status.problems),
            "quarantine": [f"{name}: {reason}" for name, reason in quarantined],
        }

    def rows(
        self,
        kind: Kind,
        *,
        symbol: str | None = None,
        strategy: str | None = None,
        since: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[dict[str, Any]]:
        """See `admin.kernel.Kernel`."""
        choice: dict[str, Any] = {"symbol": symbol, "strategy": strategy, "since": since, "before": before}
        return list_rows(self._audit, kind, account=self._label, **choice, limit=limit)

    # The catalog.

    def catalog(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        return self._engine.generation.catalog.model_dump(mode="json")

    def generations(self, limit: int, before: int | None) -> list[dict[str, Any]]:
        """See `admin.kernel.Kernel`."""
        rows = self._audit.rows("catalog_generations", newest_first=True, limit=limit if before is None else 1)
        if before is not None:
            first = min(before, rows[0]["number"] + 1) - 1 if rows else 0
            numbers = range(first, max(0, first - limit), -1)
            rows = [row for number in numbers for row in self._audit.rows("catalog_generations", number=number)]
        return [as_json(row) for row in rows]

    def schema(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        host = self._reloader.host
        if self._schema is None or self._schema[0] is not host:  # making it takes longer than many a batch
            self._schema = host, json_schema(host.params())
        return self._schema[1]

    def plugins(self) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        host = self._reloader.host
        failed = ("plugin", "distribution", "reason")
        return {
            "plugins": [plugin.to_record() for plugin in host.plugins()],
            "failures": [{name: getattr(failure, name) for name in failed} for failure in host.failures],
            "kept": [{name: getattr(failure, name) for name in failed} for failure in host.kept],
        }

    def health(self) -> list[str]:
        """See `admin.kernel.Kernel`."""
        silent_s = self._silent_s()
        if silent_s <= self._stalled_s:
            return self._checks.health() if self._standby.is_trading else []
        return [f"the trading loop has not come back for {silent_s:.0f} s"]

    def readiness(self) -> list[str]:
        """See `admin.kernel.Kernel`."""
        reasons = [*self.health(), *(["stopping"] if self._is_stopping() else [])]
        reasons += [*self._venue_problems, *self._checks.reasons()]
        if self._gates.unrecorded:
            reasons.append(f"the audit database cannot be written: {self._gates.unrecorded}")
        if unstored := self._unstored():
            reasons.append(f"store: {unstored}")
        return reasons

    def gates(self) -> dict[str, str]:
        """See `admin.kernel.Kernel`."""
        standby = self._standby
        first = {} if standby.is_trading else {str(standby.role): standby.reason}
        if not self._venue.is_simulated:
            first["venue"] = "; ".join(self._venue.problems) if standby.is_trading else ""
        if fallback := self._fallback:
            first["catalog"] = fallback
        return first | {name: "" if gate is None else gate.reason for name, gate in self._checks.poll().items()}

    def error_class(self) -> str:
        """See `admin.kernel.Kernel`."""
        return self._checks.error_class()

    @property
    def _venue_problems(self) -> list[str]:
        standby = self._standby
        return list(self._venue.problems) if standby.is_trading else [f"{standby.role}: {standby.reason}"]

    def validate(self, text: str) -> dict[str, Any]:
        """See `admin.kernel.Kernel`."""
        return check_catalog(text, self._engine.generation.catalog, self._folders)

    @property
    def metric_specs(self) -> tuple[MetricSpec, ...]:
        """See `admin.kernel.Kernel`."""
        return (*RUN_METRICS, *(spec for part in self._measured for spec in part.metric_specs))

    def metrics(self) -> Mapping[str, Metric]:
        """See `admin.kernel.Kernel`."""
        status, now = self._reloader.status, self._engine.books.now
        return {name: number for part in self._measured for name, number in part.metrics().items()} | {
            "control_rank": self._controls.current().rank,
            "audit_writable": float(not self._gates.unrecorded),
            "store_writable": float(not self._unstored()),
            "orders_working": len(self._engine.books.working),
            "reload_pause_seconds": status.pause_s,
            "catalog_last_reload_success_timestamp_seconds": status.succeeded_at / SECOND,
            "event_lag_seconds": max(0.0, (self._clock.wall() - now) / SECOND) if now else 0.0,
        }


def _pending_fields(pending: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What waits, a dict for each field or entry."""
    found = []
    for change in pending:
        place = f"{change['kind']} {change['name']}".strip()
        fields = change["fields"] or [{"key": change["action"], "timing": change["timing"], "effect": change["effect"]}]
        found += [{"old": None, "new": None} | field | {"key": f"{place} {field['key']}"} for field in fields]
    return found
