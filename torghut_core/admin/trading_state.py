"""How trading stands on a state directory, in one value: a process that trades fills it, or its database does.

`torghut status`, the first lines of `doctor` and `catalog status`, the start line of `run` and ``/trading/status`` all
show this, so that no two of them can say different things.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from torghut_core.audit import Records, as_json
from torghut_core.execution.committer import CURSOR
from torghut_core.execution.controls import Control, Controls
from torghut_core.installation.open import audit_url, existing_audit
from torghut_core.installation.settings import Settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import Decision, Order, Position
from torghut_core.plugin_host.running_plugin import last_crash
from torghut_core.timestamps import DAY, HOUR, MINUTE, SECOND, SYSTEM_CLOCK, Clock, format_timestamp, parse_timestamp

SHOWN = 5
"""Orders and positions that are listed in a line; of further ones the number."""

EFFECTS = {
    "halted": "no order is sent",
    "reduce_only": "exits are sent, entries are not, and open ones are canceled",
    "pause_entries": "exits are sent, entries are not",
    "halt": "no order is sent until the catalog is right",
}
"""What a control, or a restriction by the catalog, does."""

SERVICE = "working"
"""The role of a process that has no account: `torghut forward` and `torghut ta`."""

AT_START = ("control", "catalog", "quarantine")
"""Subjects that say something before anything was traded."""

ACTORS = {"watch": "file watcher", "plugins": "plugin code watcher", "start": "start", "torghut": "kernel"}
"""Who a generation was changed by, in words; people go by their own name."""


class TradingState(msgspec.Struct, kw_only=True):
    """How trading stands, as JSON values; times are RFC 3339 text, null where there is none.

    Attributes
    ----------
    running : whether a process runs there.
    silent : why that process cannot be asked, "" where it answers; the rest is then what the database knows.
    died : how the last process ended, where that was not in good order.
    account, broker : what is traded, and whether it is ``simulated``, ``paper`` or ``live``.
    role : ``trading``, ``standby`` or ``disabled``, or `SERVICE`; `standby` says why it does not trade, with `reason`.
    generation, digest, since, actor, catalog : what trades, since when, who changed it, and where it is written.
    strategies : names of what it trades.
    control : the operator's: `state`, `reason`, `actor`, `at`, `flatten`.
    restriction : by the catalog: ``""``, ``reduce_only`` or ``halt``.
    fallback : why the files of the catalog are not used, and an earlier generation trades; "" where they are.
    checks : by subject, the reasons why trading is not well.
    positions : what each strategy holds.
    open_orders : orders that are not done.
    last_event : the market's time of the last event that was traded on.
    last_decision : `decision_hash`, `strategy_id`, `symbol`, `action`, `quantity`, `decided_at`, `status`.
    state_from : the market's time up to which stages, features and strategies resumed from the process before; null where they
        began anew.
    last_error : time and text of the last error that this process has logged.
    """

    running: bool = True
    silent: str = ""
    died: str = ""
    account: str = ""
    broker: str = ""
    role: str = ""
    standby: dict[str, Any] | None = None
    generation: int | None = None
    digest: str = ""
    since: str | None = None
    actor: str = ""
    catalog: str = ""
    strategies: list[str] = []
    control: dict[str, Any] = {}
    restriction: str = ""
    fallback: str = ""
    checks: dict[str, list[str]] = {}
    positions: list[dict[str, Any]] = []
    open_orders: list[dict[str, Any]] = []
    last_event: str | None = None
    last_decision: dict[str, Any] | None = None
    state_from: str | None = None
    last_error: str | None = None

    @property
    def reasons(self) -> list[str]:
        """Why it is not well: halted, degraded, stale, silent or dead."""
        found = [self.silent] if self.silent else []
        found += [self.died] if self.died and not self.running else []
        return found + [f"{subject}: {reason}" for subject, reasons in self.checks.items() for reason in reasons]

    @property
    def is_well(self) -> bool:
        """Whether a process runs, and nothing is wrong with it."""
        return self.running and not self.reasons

    @property
    def headline(self) -> str:
        """What is to be known first."""
        control = self.control.get("state", "running")
        if self.silent:
            return f"not answering: {self.silent}"
        if not self.running:
            return f"dead: {self.died}; nothing trades" if self.died else "not running: nothing trades"
        if self.standby is not None:
            return f"{self.role}: {self.standby.get('reason', '')}"
        if control != "running":
            return f"{_control_text(self.control)}: {EFFECTS[control]}"
        if self.restriction:
            return f"restricted: {EFFECTS[self.restriction]}"
        reasons = self.reasons
        rest = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return f"{self.role}, not well: {reasons[0]}{rest}" if reasons else self.role

    def at_start(self) -> TradingState:
        """The same of a process that starts: what its market data has to wait for is no trouble yet."""
        known = {subject: self.checks[subject] for subject in AT_START if subject in self.checks}
        return msgspec.structs.replace(self, checks=known)

    @property
    def first_line(self) -> str:
        """The headline; a fallback to an earlier generation comes before it."""
        return f"fallback: {self.fallback}; {self.headline}" if self.fallback else self.headline

    def lines(self, clock: Clock = SYSTEM_CLOCK) -> list[str]:
        """Everything, in lines for a person; of a process that does not trade what there is."""
        if self.role == SERVICE:
            return [self.first_line, *self.reasons]
        found = [self.first_line, self._traded(), f"control: {_control_text(self.control)}"]
        found += [reason for reason in self.reasons if not reason.startswith("control: ")]
        held = [f"{each['symbol']} {each['quantity']} ({each['strategy'] or 'no strategy'})" for each in self.positions]
        found.append(f"positions: {_listed(held)}")
        found.append(f"open orders: {_listed(_order_text(each) for each in self.open_orders)}")
        none = "none since the start" if self.running else "none recorded"
        found.append(f"last event: {_with_age(self.last_event, clock) if self.last_event else none}")
        found.append(f"last decision: {_decision_text(self.last_decision, clock) if self.last_decision else none}")
        found.append(f"states: resumed from those of {self.state_from}" if self.state_from else "")
        found.append(f"last error: {self.last_error or none}" if self.running else "")
        return [line for line in found if line]

    def _traded(self) -> str:
        if self.generation is None:
            return "nothing has traded there yet"
        count = len(self.strategies)
        names = f" ({_listed(self.strategies)})" if count else ""
        return (
            f"{self.broker or 'last'} account {self.account or 'unknown'}: {count or 'no'} "
            f"{'strategy' if count == 1 else 'strategies'}{names}, generation {self.generation}, digest {self.digest[:12]}, "
            f"since {self.since}, changed by: {ACTORS.get(self.actor, self.actor)}"
        )


def control_fields(control: Control) -> dict[str, Any]:
    """The operator's control, as JSON values."""
    return {
        "state": control.state,
        "reason": control.reason,
        "actor": control.actor,
        "at": format_timestamp(control.at) if control.at else None,
        "flatten": control.flatten,
    }


def position_fields(strategy: str, symbol: str, position: Position) -> dict[str, Any]:
    """What a strategy holds in a symbol, as JSON values."""
    return {
        "strategy": strategy,
        "symbol": symbol,
        "quantity": str(position.quantity),
        "average_price": str(position.average_price),
    }


def order_fields(order: Order) -> dict[str, Any]:
    """An open order, as JSON values."""
    intent = order.intent
    prices = {name: getattr(intent, name) for name in ("limit_price", "stop_price")}
    return {
        "client_order_id": intent.client_order_id,
        "strategy": intent.strategy_id,
        "symbol": intent.symbol,
        "side": str(intent.side),
        "quantity": str(intent.quantity),
        "filled_quantity": str(order.filled_quantity),
        "order_type": str(intent.order_type),
        **{name: None if price is None else str(price) for name, price in prices.items()},
        "purpose": str(intent.purpose),
        "state": str(order.state),
    }


def decision_fields(decision: Decision, is_allowed: bool) -> dict[str, Any]:
    """A decision, as JSON values."""
    return {
        "decision_hash": decision.decision_hash,
        "strategy_id": decision.strategy_id,
        "symbol": decision.symbol,
        "action": str(decision.action),
        "quantity": str(decision.quantity),
        "decided_at": format_timestamp(decision.decided_at),
        "status": "allowed" if is_allowed else "denied",
    }


def recorded_state(settings: Settings, path: Path) -> TradingState:
    """How trading stood on a state directory when it was last written down there.

    Raises
    ------
    NotFoundError : nothing was ever kept there.
    StateError : the database cannot be read.
    """
    directory = StateDirectory(path)
    with existing_audit(settings, path) as audit:
        with closing(Controls(directory.control_path, audit_url(settings, directory))) as controls:
            controls.poll()
            control, problems = controls.current(), controls.health()
        found = audit.rows("catalog_generations", newest_first=True, limit=1)
        generation = as_json(found[0]) if found else {}
        content = generation.get("content") or {}
        account = _last_account(audit)
        decisions = audit.decisions(account, newest_first=True, limit=1) if account else []
        quarantined = [
            f"{row['name'].removeprefix('quarantine.')}: {row['value']}"
            for row in audit.rows("controls")
            if row["name"].startswith("quarantine.") and row["value"] is not None
        ]
        cursor = (audit.cursor(account, CURSOR) if account else None) or {}
        orders = audit.recent_orders(account, 2**63 - 1) if account else []
        positions = audit.positions(account) if account else {}
    checks = {
        "control": [] if control.state == "running" else [str(control)],
        "database": problems,
        "catalog": list(content.get("problems") or []),
        "quarantine": quarantined,
    }
    return TradingState(
        running=False,
        died=last_crash(path, is_running=False),
        account=account,
        generation=generation.get("number"),
        digest=generation.get("digest", ""),
        since=generation.get("created_at"),
        actor=generation.get("actor", ""),
        strategies=[each["name"] for each in content.get("strategies") or [] if "name" in each],
        control=control_fields(control),
        checks=checks,
        positions=[position_fields(*key, position) for key, position in sorted(positions.items()) if position.quantity],
        open_orders=[order_fields(order) for order in orders if not is_done(order.state)],
        last_event=format_timestamp(cursor["now"]) if cursor.get("now") else None,
        last_decision=_recorded_decision(as_json(decisions[0])) if decisions else None,
    )


def _recorded_decision(row: dict[str, Any]) -> dict[str, Any]:
    """What `decision_fields` gives, out of a row."""
    names = ("decision_hash", "strategy_id", "symbol", "action", "decided_at", "status")
    return {name: row[name] for name in names} | {"quantity": row["params"]["quantity"]}


def _last_account(records: Records) -> str:
    """The account that was written down last, "" where none was."""
    newest = [
        (row["id"], row["account"])
        for table in ("trade_decisions", "executions", "position_snapshots")
        for row in records.rows(table, newest_first=True, limit=1)
    ]
    if newest:
        return str(max(newest)[1])
    cursors = [(row["updated_at"], row["account"]) for row in records.rows("trade_cursor")]
    return str(max(cursors)[1]) if cursors else ""


def _control_text(control: dict[str, Any]) -> str:
    state = control.get("state", "running").replace("_", "-")
    at, actor = control.get("at"), control.get("actor")
    if at is None and state == "running":
        return "running (never changed)"
    who = f" ({actor})" if actor else ""
    since = f" since {at}" if at else ""
    flatten = ", and positions are closed" if control.get("flatten") else ""
    return f"{state}: {control.get('reason') or 'no reason given'}{who}{since}{flatten}"


def _order_text(order: dict[str, Any]) -> str:
    price = order["limit_price"] or order["stop_price"]
    at = f" at {price}" if price else ""
    return (
        f"{order['client_order_id']} {order['side']} {order['quantity']} {order['symbol']} {order['order_type']}{at}"
        f" ({order['strategy'] or 'no strategy'}, {order['state']})"
    )


def _decision_text(decision: dict[str, Any], clock: Clock) -> str:
    return (
        f"{_with_age(decision['decided_at'], clock)} {decision['strategy_id']} {decision['action']} {decision['quantity']}"
        f" {decision['symbol']}, {decision['status']}, {decision['decision_hash'][:12]}"
    )


def _with_age(at: str, clock: Clock) -> str:
    age = clock.wall() - parse_timestamp(at)
    return f"{at} ({_duration(age)} ago)" if age >= 0 else at


def _duration(ns: int) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "min")):
        if ns >= 2 * unit:
            return f"{ns // unit:,} {name}"
    return f"{ns // SECOND} s"


def _listed(texts: Iterable[str]) -> str:
    found = list(texts)
    rest = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (", ".join(found[:SHOWN]) + rest) or "none"
