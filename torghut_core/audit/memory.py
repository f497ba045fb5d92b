"""The audit in memory: for tests, and for runs whose records are thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from threading import RLock
from typing import Any

import msgspec

from torghut_core.audit.records import OF_ORDER, RowsQuery, position_of
from torghut_core.audit.rows import DONE, KEYS, MOMENTS, NUMBERED, Changes, Key, Record, Row, write_out
from torghut_core.audit.store import AuditStore
from torghut_core.model.trading import Position
from torghut_core.timestamps import SYSTEM_CLOCK, Clock


class MemoryAuditStore(AuditStore):
    """Keeps the same rows as a database does, in dicts, and makes them when they are first read.

    There is no ``audit_log``: no other process can write here.

    Examples
    --------
    >>> store = MemoryAuditStore()
    >>> store.record_control("kill", value=True, actor="ops")
    >>> store.control("kill")
    >>> store.commit()
    >>> store.control("kill")
    True
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(clock)
        self._reading = RLock()
        self._commits: list[list[Record]] = []
        self._tables: dict[str, dict[Key, Row]] = {table: {} for table in KEYS}
        self._seq = 0

    def commit(self) -> None:
        """Make readable what was recorded."""
        if self._pending:
            self._commits.append(self._pending)
            self._pending = []

    def close(self) -> None:
        """Commit; closing twice is harmless."""
        self.commit()

    def _is_used(self, account_label: str) -> bool:
        return account_label in self._labels

    def _stored_hashes(self, account_label: str) -> set[str]:  # noqa: ARG002 - nothing was here before this object
        return set()

    def _stored_orphans(self, account_label: str) -> set[str]:  # noqa: ARG002 - nor any order
        return set()

    def _last_generation(self) -> int:
        return 0

    def _read(self, query: RowsQuery) -> list[Row]:
        """See `Records._read`."""
        table, after, since = query.table, query.after, query.since
        with self._folded():
            found = self._select(table, **query.equal)
            if table not in NUMBERED:
                found.sort(key=lambda row: [row[column] for column in KEYS[table]])
            if query.newest_first:
                found.reverse()
            if after:
                found = [row for row in found if (row["id"] < after if query.newest_first else row["id"] > after)]
            if since is not None:
                found = [row for row in found if row[MOMENTS[table]] >= since]
            found = found[: query.limit]
            if table == "trade_decisions":
                for row in found:
                    write_out(row)
            return [dict(row) for row in found]

    def _fills(self, query: RowsQuery, of_order: dict[str, str]) -> list[Row]:
        """See `Records._fills`."""
        with self._reading:
            found = self._read(msgspec.structs.replace(query, limit=None))
            orders = self._tables["executions"]
            for event in found:
                order = orders[event["account"], event["client_order_id"]]
                for name in OF_ORDER:
                    event[name] = order[name]
        if of_order:
            found = [event for event in found if all(event[name] == value for name, value in of_order.items())]
        return found[: query.limit]

    def decisions_called(self, text: str, limit: int) -> list[tuple[str, str]]:
        """See `Records.decisions_called`."""
        with self._folded():
            called = {
                (row["account"], row["decision_hash"])
                for table, name in (("trade_decisions", "decision_hash"), ("executions", "client_order_id"))
                for row in self._tables[table].values()
                if row[name].startswith(text)
            }
        return sorted(called)[:limit]

    def rationales(self, account_label: str) -> dict[str, str]:
        """See `Records.rationales`."""
        with self._folded():
            found = self._select("trade_decisions", account=account_label)
            return {row["decision_hash"]: row["rationale"] for row in found}

    def replacements(self, account_label: str, client_order_id: str) -> list[Row]:
        """See `Records.replacements`."""
        found = self.decisions(account_label)
        return [row for row in found if row["params"].get("replaces") == client_order_id]

    def positions(self, account_label: str) -> dict[tuple[str, str], Position]:
        """See `Records.positions`."""
        with self._folded():
            held = {}
            for fill in self._select("execution_events", account=account_label, event="fill"):
                order = self._tables["executions"][account_label, fill["client_order_id"]]
                holder = order["strategy_id"] if fill["strategy_id"] is None else fill["strategy_id"]
                held[holder, order["symbol"]] = fill["id"], msgspec.convert(fill["payload"]["position"], Position)
            for row in self._select("position_snapshots", account=account_label):
                key = row["strategy_id"], row["symbol"]
                if row["strategy_id"] is not None and (key not in held or held[key][0] < row["id"]):
                    held[key] = row["id"], position_of(row)
        return {key: position for key, (_, position) in held.items()}

    def _orders(self, *, open_or_since: int | None = None, **equal: Any) -> list[tuple[Row, list[str]]]:
        """See `Records._orders`."""
        with self._reading:
            rows = self.rows("executions", **equal)
            if open_or_since is not None:
                rows = [row for row in rows if row["state"] not in DONE or row["last_update_at"] >= open_or_since]
            fills: dict[int, list[str]] = {row["id"]: [] for row in rows}
            for event in self.rows("execution_events", event="fill"):
                fills.get(event["execution_id"], []).append(event["fill_id"])
        return [(row, fills[row["id"]]) for row in rows]

    @contextmanager
    def _folded(self) -> Iterator[None]:
        """Fold all commits into rows, and keep other threads away meanwhile."""
        with self._reading:
            for commit in self._commits[:]:
                changes = Changes(self._select)
                changes.fold(commit)
                for seq, _, table, row in changes.versions(self._seq):
                    self._tables[table][tuple([row[column] for column in KEYS[table]])] = row
                    self._seq = seq
                del self._commits[0]
            yield

    def _select(self, table: str, **equal: Any) -> list[Row]:
        rows = self._tables[table]
        key = tuple([equal.get(column) for column in KEYS[table]])
        if None not in key:
            row = rows.get(key)
            candidates = [] if row is None else [row]
        else:
            candidates = list(rows.values())
        if not equal:
            return candidates
        of = itemgetter(*equal)
        wanted = of(equal)
        return [row for row in candidates if of(row) == wanted]
