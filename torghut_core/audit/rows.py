"""Records as rows: a function for each kind of record folds it into a commit's `Changes`.

A row is a dict with a value for every column of its table: times in nanoseconds, money as `Decimal`, JSON as plain
values. Both stores fold with these functions, so they keep the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from torghut_core.audit.values import clean_text, decimal_text, json_value, plain, short_text
from torghut_core.model.order_state import is_done
from torghut_core.model.trading import (
    Account,
    Charge,
    Decision,
    Intent,
    Order,
    OrderState,
    Outcome,
    Position,
    Report,
    Verdict,
)
from torghut_core.timestamps import format_timestamp

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[Any, ...]
Select: TypeAlias = Callable[..., list[Row]]
Record: TypeAlias = tuple[Any, ...]
"""What one call recorded: the name of its kind, and the arguments of its fold. (The name and not the function: the garbage
collector soon stops tracking tuples of plain values.)"""
Action: TypeAlias = Literal["insert", "update"]

KEYS: dict[str, tuple[str, ...]] = {
    "strategies": ("name",),
    "catalog_generations": ("number",),
    "trade_decisions": ("account", "decision_hash"),
    "llm_decision_reviews": ("id",),
    "executions": ("account", "client_order_id"),
    "execution_events": ("id",),
    "position_snapshots": ("id",),
    "trade_cursor": ("account", "source"),
    "controls": ("name",),
    "leases": ("name",),
}
"""The tables in the order in which a commit writes them (a decision before its order before its fills), each with the
columns of its key."""

NUMBERED = ("trade_decisions", "llm_decision_reviews", "executions", "execution_events", "position_snapshots")
"""Tables whose rows have an `id`: the `seq` of the `audit_log` entry of their first version."""

_DENY = Outcome.DENY

DONE = tuple(str(state) for state in OrderState if is_done(state))
"""States from which an order does not come back."""

SETTLED: dict[str, Callable[[Row], bool]] = {
    "trade_decisions": lambda row: row["status"] == "denied" or row["executed_at"] is not None,
    "executions": lambda row: row["state"] in DONE,
    "trade_cursor": lambda _row: False,
}
"""By table that later commits change rows of, whether they hardly change this one any more."""

MOMENTS = {
    "trade_decisions": "event_ts",
    "executions": "last_update_at",
    "execution_events": "event_ts",
    "position_snapshots": "at",
}
"""The column that ``since`` is compared with."""

INTEREST = "interest"
"""The `reason` of a row of ``position_snapshots`` that records interest."""

_TIMES = frozenset(
    {
        "at",
        "created_at",
        "decided_at",
        "event_ts",
        "executed_at",
        "expires_at",
        "last_update_at",
        "submitted_at",
        "updated_at",
    }
)
_STRATEGY = ("name", "use", "version", "enabled", "base_timeframe", "symbols", "params", "on_remove")
_SNAPSHOT: Row = dict.fromkeys(
    (
        "id",
        "account",
        "at",
        "symbol",
        "quantity",
        "average_price",
        "realized_pnl",
        "fees",
        "cash",
        "equity",
        "buying_power",
        "currency",
        "strategy_id",
        "reason",
    )
)
_ENCODER = msgspec.json.Encoder(enc_hook=clean_text)  # a broker's own type of value: its text will do


def as_json(row: Row) -> Row:
    """A row with times and money as text, so that it can be JSON."""
    return {
        name: format_timestamp(value)
        if name in _TIMES and isinstance(value, int)
        else decimal_text(value)
        if isinstance(value, Decimal)
        else value
        for name, value in row.items()
    }


def struct_json(struct: msgspec.Struct) -> bytes:
    """JSON of a struct, money and enums as text; a value that JSON does not have becomes its text."""
    try:
        return _ENCODER.encode(struct)
    except UnicodeEncodeError:  # a lone surrogate in a venue's text
        return _ENCODER.encode(plain(msgspec.to_builtins(struct, enc_hook=clean_text)))


class Unwritten(NamedTuple):
    """The value of a column as it was recorded, and what makes plain values of it: to be called where it is read."""

    make: Callable[[Any], Any]
    recorded: Any


def write_out(row: Row) -> None:
    """Make plain values of what a row of ``trade_decisions`` has as it was recorded, in place."""
    for name in ("verdicts", "signal", "inputs"):
        value = row[name]
        if type(value) is Unwritten:
            row[name] = value.make(value.recorded)


class Changes:
    """The rows that one commit writes: the last version of each, inserts and updates apart.

    Parameters
    ----------
    select : reads what was committed before: ``select(table, **equal)``.
    recent : rows of earlier commits by table, as they are now; other rows are selected.
    """

    def __init__(self, select: Select, recent: Mapping[str, Mapping[Key, Row]] = MappingProxyType({})) -> None:
        self.moved: set[Key] = set()
        """Account label, strategy and symbol of the strategies' positions among this commit's snapshots."""
        self._select = select
        self._recent = recent
        self._rows: dict[str, dict[Key, Row]] = {table: {} for table in KEYS}
        self._updates: dict[str, set[Key]] = {table: set() for table in KEYS}

    def fold(self, records: Iterable[Record]) -> None:
        """Fold records, in the order in which they were recorded."""
        for kind, *values in records:
            _FOLDS[kind](self, *values)

    def get(self, table: str, key: Key) -> Row | None:
        """The row as it is now; None where there is none. Do not change it in place."""
        row = self._rows[table].get(key)
        if row is None and table in self._recent:
            row = self._recent[table].get(key)
        if row is None:
            found = self._select(table, **dict(zip(KEYS[table], key, strict=True)))
            row = found[0] if found else None
        return row

    def remember(self, recent: dict[str, dict[Key, Row]], most: int) -> None:
        """Keep the rows of this commit in `recent`, the last `most` of each table; not those that are settled.

        A decision is also settled with an order of it.
        """
        for table, is_settled in SETTLED.items():
            known = recent[table]
            for key, row in self._rows[table].items():
                known.pop(key, None)  # to the end
                if not is_settled(row):
                    known[key] = row
                elif table == "executions":
                    recent["trade_decisions"].pop((row["account"], row["decision_hash"]), None)
            while len(known) > most:
                del known[next(iter(known))]

    def all(self, table: str) -> list[Row]:
        """Every row of a table as it is now."""
        rows = {tuple([row[column] for column in KEYS[table]]): row for row in self._select(table)}
        return list((rows | self._rows[table]).values())

    def insert(self, table: str, key: Key, row: Row) -> None:
        """Add a row that is certainly new."""
        self._rows[table][key] = row

    def append(self, table: str, row: Row) -> None:
        """Add a row to a table whose key is its `id`."""
        rows = self._rows[table]
        rows[(len(rows),)] = row

    def edit(self, table: str, key: Key) -> Row | None:
        """The row, to be changed in place into its next version; None where there is none."""
        rows = self._rows[table]
        if key not in rows:
            stored = self.get(table, key)
            if stored is None:
                return None
            rows[key] = dict(stored)
            self._updates[table].add(key)
        return rows[key]

    def put(self, table: str, key: Key, row: Row) -> None:
        """Add a row, or change the one that is there into it."""
        there = self.edit(table, key)
        if there is None:
            self.insert(table, key, row)
        else:
            there.update(row)

    def versions(self, seq: int) -> Iterator[tuple[int, Action, str, Row]]:
        """Each row with the number of its log entry, counting from `seq` + 1; a new row's `id` is that number.

        A decision may have values that are `Unwritten`, see `write_out`.
        """
        for table, rows in self._rows.items():
            if table == "execution_events":  # its orders are in this commit too, and have their numbers by now
                orders = self._rows["executions"]
                for row in rows.values():
                    row["execution_id"] = orders[row["account"], row["client_order_id"]]["id"]
            updates = self._updates[table]
            is_numbered = table in NUMBERED
            for key, row in rows.items():
                seq += 1
                if key in updates:
                    yield seq, "update", table, row
                    continue
                if is_numbered:
                    row["id"] = seq
                yield seq, "insert", table, row


def _fold_strategies(changes: Changes, at: int, entries: Sequence[Row], mode: str) -> None:
    """Write the entries that differ from the stored ones; mode ``sync`` disables those that are not listed."""
    rows = [
        {
            "name": entry["name"],
            "use": entry.get("use", entry["name"]),
            "version": entry.get("version"),
            "enabled": bool(entry.get("enabled", True)),
            "base_timeframe": entry.get("base_timeframe"),
            "symbols": entry.get("symbols", []),
            "params": entry.get("params", {}),
            "limits": {key: value for key, value in entry.items() if key not in _STRATEGY},
            "on_remove": entry.get("on_remove"),
            "updated_at": at,
        }
        for entry in entries
    ]
    if mode == "sync":
        listed = {row["name"] for row in rows}
        others = [row for row in changes.all("strategies") if row["name"] not in listed]
        rows += [row | {"enabled": False, "updated_at": at} for row in others]
    for row in rows:
        before = changes.get("strategies", (row["name"],))
        if before is None or before | {"updated_at": at} != row:
            changes.put("strategies", (row["name"],), row)


def _fold_generation(changes: Changes, at: int, number: int, content: Row, actor: str, outcome: str) -> None:
    """Record a generation; what has no column of its own is in `content`."""
    changes.insert(
        "catalog_generations",
        (number,),
        {
            "number": number,
            "digest": str(content.get("digest", "")),
            "diff": content.get("diff"),
            "content": {key: value for key, value in content.items() if key not in ("digest", "diff")},
            "actor": clean_text(actor),
            "outcome": clean_text(outcome),
            "created_at": at,
        },
    )


def _fold_decision(
    changes: Changes,
    at: int,
    decision: Decision,
    signal: Row,
    verdicts: Sequence[Verdict],
    intent: Intent | None,
    inputs: msgspec.Struct | None,
) -> None:
    """Record a decision, and with an intent its order."""
    changes.insert(
        "trade_decisions",
        (decision.account, decision.decision_hash),
        {
            "id": None,
            "account": decision.account,
            "strategy_id": decision.strategy_id,
            "symbol": decision.symbol,
            "event_ts": decision.event_ts,
            "decided_at": decision.decided_at,
            "action": str(decision.action),
            "params": decision.params,
            "rationale": short_text(decision.because),
            "price": decision.price,
            "decision_hash": decision.decision_hash,
            "generation": decision.generation,
            "status": "denied" if is_denied(decision, verdicts, intent) else "allowed",
            "verdicts": Unwritten(_verdicts, verdicts),
            "signal": Unwritten(_signal, signal),
            "created_at": at,
            "executed_at": None,
            "inputs": None if inputs is None else Unwritten(_inputs, inputs),
        },
    )
    if intent is not None:
        _fold_leg(changes, intent)


def is_denied(decision: Decision, verdicts: Sequence[Verdict], intent: Intent | None) -> bool:
    """Whether nothing follows from a decision; one that replaces an order has no order of its own."""
    return intent is None and not (decision.replaces and all(verdict.outcome is not _DENY for verdict in verdicts))


def _fold_leg(changes: Changes, intent: Intent) -> None:
    """Record an order that is about to be sent."""
    row = _order(intent.account, intent) | _progress(Order(intent=intent), intent.decided_at)
    changes.insert("executions", (intent.account, intent.client_order_id), row)


def _fold_owner(changes: Changes, account_label: str, client_order_id: str, strategy_id: str) -> None:
    """Record that an order is another strategy's from now on."""
    row = changes.edit("executions", (account_label, client_order_id))
    if row is not None:
        row["strategy_id"] = strategy_id


def _verdicts(verdicts: Sequence[Verdict]) -> Any:
    try:
        return msgspec.to_builtins(verdicts)
    except TypeError:  # a rule's own type of value: its text will do
        fields = [msgspec.structs.asdict(verdict) for verdict in verdicts]
        return [{name: None if value is None else clean_text(value) for name, value in row.items()} for row in fields]


def _inputs(inputs: msgspec.Struct) -> Any:
    return json_value(struct_json(inputs))


def _signal(signal: Row) -> Row:
    row = {name: value if type(value) is not float or isfinite(value) else None for name, value in signal.items()}
    event_ts = row.get("event_ts")
    return row | {"event_ts": format_timestamp(event_ts)} if type(event_ts) is int else row


def _fold_report(
    changes: Changes, account_label: str, order: Order, report: Report, position: Position, strategy_id: str | None
) -> None:
    """Record a report, and the order as it is after it."""
    fill, intent = report.fill, order.intent
    holder = intent.strategy_id if strategy_id is None else strategy_id
    changes.append(
        "execution_events",
        {
            "id": None,
            "account": account_label,
            "execution_id": None,
            "client_order_id": report.client_order_id,
            "event": str(report.event),
            "event_ts": report.event_ts,
            "state": str(order.state),
            "reason": short_text(report.reason),
            "fill_id": None if fill is None else clean_text(fill.fill_id),
            "quantity": None if fill is None else fill.quantity,
            "price": None if fill is None else fill.price,
            "fee": None if fill is None else fill.fee,
            "slippage": None if fill is None else fill.slippage,
            "payload": {"venue_order_id": clean_text(report.venue_order_id), "position": msgspec.to_builtins(position)},
            "strategy_id": None if holder == intent.strategy_id else holder,
        },
    )
    if fill is not None and (account_label, holder, intent.symbol) in changes.moved:
        # A commit numbers its snapshots after its events, and this fill came after the snapshot.
        _fold_position(changes, account_label, holder, intent.symbol, position, report.event_ts, "filled")
    key = (account_label, report.client_order_id)
    row = changes.edit("executions", key)
    if row is None:
        row = _order(account_label, intent)
        changes.insert("executions", key, row)
    is_first_fill = fill is not None and not row.get("filled_quantity")
    row.update(_progress(order, report.event_ts))
    if row["submitted_at"] is None:
        row["submitted_at"] = report.event_ts
    if fill is not None and is_first_fill:
        decision = changes.edit("trade_decisions", (account_label, intent.decision_hash))
        if decision is not None:
            decision["executed_at"] = fill.event_ts


def _order(account_label: str, intent: Intent) -> Row:
    """The columns that stay the same over the life of an order."""
    return {
        "id": None,
        "account": account_label,
        "decision_hash": intent.decision_hash,
        "client_order_id": intent.client_order_id,
        "strategy_id": intent.strategy_id,
        "symbol": intent.symbol,
        "side": str(intent.side),
        "order_type": str(intent.order_type),
        "time_in_force": str(intent.time_in_force),
        "decided_at": intent.decided_at,
        "submitted_at": None,
        "purpose": str(intent.purpose),
        "bracket": None if intent.bracket is None else msgspec.to_builtins(intent.bracket),
        "parent": intent.parent or None,
        "parent_fill": clean_text(intent.parent_fill) or None,
    }


def _progress(order: Order, at: int) -> Row:
    """The columns that change: by fills and reports, and the terms when the order is replaced."""
    intent = order.intent
    return {
        "venue_order_id": clean_text(order.venue_order_id),
        "quantity": intent.quantity,
        "limit_price": intent.limit_price,
        "stop_price": intent.stop_price,
        "trail_price": intent.trail_price,
        "trail_pct": intent.trail_pct,
        "state": str(order.state),
        "filled_quantity": order.filled_quantity,
        "average_price": order.average_price,
        "fees": order.fees,
        "reason": short_text(order.reason),
        "last_update_at": at,
    }


def _fold_review(
    changes: Changes, at: int, account_label: str, decision_hash: str, advisor: str, verdict: Verdict, details: Row
) -> None:
    """Record an advisor's verdict on a decision."""
    changes.append(
        "llm_decision_reviews",
        {
            "id": None,
            "account": account_label,
            "decision_hash": decision_hash,
            "advisor": advisor,
            "outcome": str(verdict.outcome),
            "code": clean_text(verdict.code),
            "quantity": verdict.quantity,
            "details": details,
            "created_at": at,
        },
    )


def _fold_account(
    changes: Changes, account_label: str, account: Account, positions: dict[str, Position], at: int
) -> None:
    """Record cash and equity in a row without a symbol, and each position in a row of its symbol."""
    money = {
        "cash": account.cash,
        "equity": account.equity,
        "buying_power": account.buying_power,
        "currency": account.currency,
    }
    changes.append("position_snapshots", _SNAPSHOT | {"account": account_label, "at": at} | money)
    for symbol, position in positions.items():
        changes.append("position_snapshots", _position_row(account_label, at, symbol, position))


def _position_row(account_label: str, at: int, symbol: str, position: Position) -> Row:
    return _SNAPSHOT | {
        "account": account_label,
        "at": at,
        "symbol": symbol,
        "quantity": position.quantity,
        "average_price": position.average_price,
        "realized_pnl": position.realized_pnl,
        "fees": position.fees,
    }


def _fold_position(
    changes: Changes, account_label: str, strategy_id: str, symbol: str, position: Position, at: int, reason: str
) -> None:
    """Record a strategy's position that changed without a fill."""
    row = _position_row(account_label, at, symbol, position) | {
        "strategy_id": strategy_id,
        "reason": clean_text(reason),
    }
    changes.append("position_snapshots", row)
    changes.moved.add((account_label, strategy_id, symbol))


def _fold_charge(changes: Changes, account_label: str, charge: Charge) -> None:
    """Record interest, in a row of no strategy; its symbol is "" where money was borrowed."""
    row = {"account": account_label, "at": charge.event_ts, "symbol": charge.symbol, "fees": charge.amount}
    changes.append("position_snapshots", _SNAPSHOT | row | {"reason": INTEREST})


def _fold_cursor(changes: Changes, at: int, account_label: str, source: str, cursor: Row) -> None:
    """Record from where a source resumes."""
    row = {"account": account_label, "source": source, "cursor": cursor, "updated_at": at}
    changes.put("trade_cursor", (account_label, source), row)


def _fold_control(changes: Changes, at: int, name: str, value: Any, actor: str) -> None:
    """Record the value of a control."""
    changes.put("controls", (name,), {"name": name, "value": value, "actor": clean_text(actor), "updated_at": at})


def _fold_lease(changes: Changes, at: int, name: str, holder: str, expires_at: int) -> None:
    """Give the lease to `holder`, unless another one still holds it."""
    held = changes.get("leases", (name,))
    if held is None or held["holder"] == holder or held["expires_at"] <= at:
        changes.put("leases", (name,), {"name": name, "holder": holder, "expires_at": expires_at})


_FOLDS: dict[str, Callable[..., None]] = {
    "strategies": _fold_strategies,
    "generation": _fold_generation,
    "decision": _fold_decision,
    "leg": _fold_leg,
    "owner": _fold_owner,
    "report": _fold_report,
    "review": _fold_review,
    "account": _fold_account,
    "position": _fold_position,
    "charge": _fold_charge,
    "cursor": _fold_cursor,
    "control": _fold_control,
    "lease": _fold_lease,
}
