"""The audit in a database: SQLite by default, Postgres by DSN."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Table,
    Text,
    bindparam,
    cast,
    exists,
    func,
    insert,
    or_,
    select,
    union,
    update,
)

from torghut_core.audit.chain import (
    GENESIS,
    Finding,
    Head,
    HeadFile,
    Stored,
    entry_hash,
    file_problem,
    is_entry,
    read_head,
    row_hash,
    row_key,
    stored_head,
    verify,
)
from torghut_core.audit.database import WAL_PAGES, audit_engine, explained, place, prepare, reading, writing
from torghut_core.audit.records import OF_ORDER, RowsQuery, position_of
from torghut_core.audit.rows import DONE, KEYS, MOMENTS, NUMBERED, SETTLED, Action, Changes, Key, Row, write_out
from torghut_core.audit.store import AuditStore
from torghut_core.audit.tables import (
    COVERED,
    HEAD_ROW,
    audit_log,
    catalog_generations,
    controls,
    execution_events,
    executions,
    metadata,
    position_snapshots,
    trade_decisions,
)
from torghut_core.audit.types import Json
from torghut_core.audit.values import json_text, time_text
from torghut_core.concurrency import DaemonThreads
from torghut_core.errors import StateError
from torghut_core.model.trading import Position, canonical_json
from torghut_core.timestamps import SYSTEM_CLOCK, Clock

MANY_PAGES = 65_536
"""Pages that SQLite writes ahead at most where `tidy` is called: 256 MiB."""

RECENT_ROWS = 4096
"""Decisions that wait for a fill, and orders that are not done, that are kept in memory at most, for later reports."""

ACTOR = "torghut"
"""The actor of a row that names none."""

PROBE_SECONDS = 2.5
"""How long `SqlAuditStore.probe` waits for a database that does not answer at all."""

_AT_ONCE = 1000  # orders whose fills one query asks for


class SqlAuditStore(AuditStore):
    """Keeps the audit in a database, every version of every row in the hash chain (see `chain`).

    A commit that fails writes nothing and keeps what was recorded: the next commit retries.

    Parameters
    ----------
    database : path of a SQLite file, or a URL (``sqlite:///path``, ``postgresql://user@host/name``). An empty database
        gets the tables, an older one is migrated.
    clock : for the columns that say when a row was written.
    is_tidied : the caller calls `tidy` now and then, so that no commit has to do its work.

    Raises
    ------
    InputError : `database` is not a database of a known kind.
    StateError : it cannot be opened, or was written by a newer version.
    """

    def __init__(self, database: str | Path, clock: Clock = SYSTEM_CLOCK, *, is_tidied: bool = False) -> None:
        super().__init__(clock)
        self._engine = audit_engine(database, wal_pages=MANY_PAGES if is_tidied else WAL_PAGES)
        dialect = self._engine.dialect
        path = self._engine.url.database
        self._file = HeadFile(Path(path).with_suffix(".head")) if dialect.name == "sqlite" and path else None
        self._database = database
        self._probing = Lock()
        self._probe: Future[str] | None = None
        self._recent: dict[str, dict[Key, Row]] = {table: {} for table in SETTLED}
        """Rows that reports are likely to change: no other process writes the rows of this store's accounts in these tables."""
        self._attempt: Head | None = None
        """The head after the last commit, where that has failed, and maybe is there all the same."""
        self._attempted = 0
        """How many of the pending records are in it."""
        self._writers = {table.name: _Writer(table, dialect) for table in (*COVERED, audit_log)}
        try:
            prepare(self._engine)
            if self._file is not None and not self._file.path.exists() and self.head() == GENESIS:
                self._anchor(GENESIS)
        except BaseException:
            self._engine.dispose()
            raise

    def commit(self) -> None:
        """Make durable what was recorded since the last commit, in one transaction.

        Raises
        ------
        StateError : disk full, database locked or gone; nothing of this commit was written, and what was is readable.
            Or the log was cut: nothing is written on top of it.
        """
        if not self._pending:
            return
        with writing(self._engine) as connection:
            head = self._locked_head(connection)
            if self.guard is not None:
                self.guard(connection)
            if self._attempt is not None and is_entry(connection, self._attempt):
                # The last commit failed and is there all the same, perhaps followed by others: the connection broke at its end.
                del self._pending[: self._attempted]
                self._attempted = 0
                for known in self._recent.values():
                    known.clear()  # it has changed what these were
            changes = Changes(partial(_select_equal, connection), self._recent)
            changes.fold(self._pending)
            head = self._write(connection, changes, head)
            self._attempt, self._attempted = head, len(self._pending)
        changes.remember(self._recent, RECENT_ROWS)
        self._pending = []
        self._attempt = None
        self._anchor(head)

    def drop(self) -> None:
        """See `AuditStore.drop`."""
        super().drop()
        self._attempted = 0

    def tidy(self) -> None:
        """Copy what SQLite has written ahead into its file, while another thread may write; from any thread.

        A commit that has to do it takes ten milliseconds longer.
        """
        if self._engine.dialect.name != "sqlite":
            return
        with explained(self._engine):
            connection = self._engine.raw_connection()
            try:
                # Rows that are written meanwhile are soon copied too, and then the write-ahead log starts anew.
                for _ in range(3):
                    _, pages, copied = connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    if pages == copied:
                        break
            except sqlite3.Error as error:
                raise StateError(f"audit database {place(self._engine)}: {error}") from error
            finally:
                connection.close()

    def close(self) -> None:
        """Commit and let go; closing twice is harmless."""
        try:
            self.commit()
        finally:
            self._engine.dispose()

    def probe(self) -> str:
        """See `AuditStore.probe`.

        It writes: it rewrites the head's row, which every commit reads first and writes last, unchanged. A probe that hangs
        is abandoned in its thread, and no second one is started beside it.
        """
        with self._probing:
            if self._probe is None or self._probe.done():
                self._probe = DaemonThreads().submit(self._touch)
            probe = self._probe
        try:
            return probe.result(PROBE_SECONDS)
        except TimeoutError:
            return f"audit database {place(self._engine)}: it does not answer (check that the database is running and reachable)"

    @cached_property
    def _prober(self) -> Engine:
        return audit_engine(self._database, is_probe=True)

    def _touch(self) -> str:
        head = controls.c.name == HEAD_ROW
        try:
            with writing(self._prober) as connection:
                found = connection.execute(update(controls).where(head).values(actor=controls.c.actor)).rowcount
        except StateError as error:
            return str(error)
        return "" if found else "the head of the audit log is missing from controls (run `torghut audit verify`)"

    def head(self) -> Head | None:
        """The head of the log, worth keeping where a writer of this database cannot write; None where it is missing."""
        with reading(self._engine) as connection:
            return read_head(connection)

    def verify(self) -> list[Finding]:
        """Every difference from what was written, in the log and in the rows that it covers."""
        with reading(self._engine) as connection:
            return verify(connection, self._file)

    def _locked_head(self, connection: Connection) -> Head:
        head = read_head(connection, lock=True)
        if head is None:
            raise StateError("the head of the audit log is missing from controls (run `torghut audit verify`)")
        if self._file is not None:
            anchored = self._file.read()
            problem = "" if anchored == head else file_problem(connection, anchored, self._file.path)
            if problem:
                raise StateError(
                    f"audit log {problem} (run `torghut audit verify`; if you restored an older database on purpose,"
                    f" move {self._file.path} away)"
                )
        return head

    def _anchor(self, head: Head) -> None:
        if self._file is None:
            return
        try:
            self._file.write(head)
        except OSError as error:
            raise StateError(
                f"everything is committed, but {self._file.path}: {error.strerror} (make it writable)"
            ) from error

    def _write(self, connection: Connection, changes: Changes, head: Head) -> Head:
        """Write the rows, then their log entries, then the new head."""
        seq, digest = head
        at = time_text(self._now())
        batches: dict[tuple[str, Action], list[Stored]] = {}
        log: list[Stored] = []
        for seq, action, table, row in changes.versions(head.seq):
            if table == trade_decisions.name:
                write_out(row)
            writer = self._writers[table]
            stored = writer.stored(row)
            content = stored[1:] if "id" in row else stored
            actor, account = row.get("actor") or ACTOR, row.get("account")
            entry = (seq, at, actor, account, action, table, row_key(table, row), row_hash(content))
            previous, digest = digest, entry_hash(digest, entry)
            log.append((*entry, previous, digest))
            batches.setdefault((table, action), []).append(stored)
        if not log:  # a lease that another one holds, strategies that are stored already
            return head
        for (table, action), rows in batches.items():
            self._writers[table].write(connection, action, rows)
        self._writers[audit_log.name].write(connection, "insert", log)
        head = Head(seq, digest)
        self._writers[controls.name].write(connection, "update", [stored_head(head)])
        return head

    def _is_used(self, account_label: str) -> bool:
        if account_label in self._labels:
            return True
        with reading(self._engine) as connection:
            rows = (exists().where(table.c.account == account_label) for table in COVERED if "account" in table.c)
            return bool(connection.execute(select(or_(*rows))).scalar_one())

    def _stored_hashes(self, account_label: str) -> set[str]:
        column = trade_decisions.c.decision_hash
        with reading(self._engine) as connection:
            return set(connection.execute(select(column).where(trade_decisions.c.account == account_label)).scalars())

    def _stored_orphans(self, account_label: str) -> set[str]:
        decided = exists().where(
            trade_decisions.c.account == account_label, trade_decisions.c.decision_hash == executions.c.decision_hash
        )
        statement = select(executions.c.client_order_id).where(executions.c.account == account_label, ~decided)
        with reading(self._engine) as connection:
            return set(connection.execute(statement).scalars())

    def _last_generation(self) -> int:
        with reading(self._engine) as connection:
            return connection.execute(select(func.max(catalog_generations.c.number))).scalar_one() or 0

    def _read(self, query: RowsQuery) -> list[Row]:
        """See `Records._read`."""
        with reading(self._engine) as connection:
            return select_rows(connection, query)

    def _fills(self, query: RowsQuery, of_order: dict[str, str]) -> list[Row]:
        """See `Records._fills`."""
        columns = [executions.c[name].label(f"order_{name}") for name in OF_ORDER]
        conditions = [executions.c.id == execution_events.c.execution_id]
        conditions += [executions.c[name] == value for name, value in of_order.items()]
        with reading(self._engine) as connection:
            rows = select_rows(connection, query, *conditions, beside=columns)
        return [row | {name: row.pop(f"order_{name}") for name in OF_ORDER} for row in rows]

    def _orders(self, *, open_or_since: int | None = None, **equal: Any) -> list[tuple[Row, list[str]]]:
        """See `Records._orders`."""
        conditions: list[ColumnElement[bool]] = []
        if open_or_since is not None:
            conditions = [or_(executions.c.state.not_in(DONE), executions.c.last_update_at >= open_or_since)]
        order, fill_id = execution_events.c.execution_id, execution_events.c.fill_id
        with reading(self._engine) as connection:
            rows = select_rows(connection, RowsQuery(executions.name, equal=equal), *conditions)
            fills: dict[int, list[str]] = {row["id"]: [] for row in rows}
            numbers = list(fills)
            for first in range(0, len(numbers), _AT_ONCE):
                statement = (
                    select(order, fill_id)
                    .where(order.in_(numbers[first : first + _AT_ONCE]), execution_events.c.event == "fill")
                    .order_by(execution_events.c.id)
                )
                for number, fill in connection.execute(statement):
                    fills[number].append(fill)
        return [(row, fills[row["id"]]) for row in rows]

    def positions(self, account_label: str) -> dict[tuple[str, str], Position]:
        """See `Records.positions`."""
        events, snapshots = execution_events.c, position_snapshots.c
        holder = func.coalesce(events.strategy_id, executions.c.strategy_id).label("strategy_id")
        newest = (
            select(holder, executions.c.symbol, func.max(events.id).label("id"))
            .join(executions, executions.c.id == events.execution_id)
            .where(events.account == account_label, events.event == "fill")
            .group_by(holder, executions.c.symbol)
            .subquery()
        )
        fills = select(newest, events.payload).join(execution_events, events.id == newest.c.id)
        moved = (
            select(func.max(snapshots.id))
            .where(snapshots.account == account_label, snapshots.strategy_id.is_not(None))
            .group_by(snapshots.strategy_id, snapshots.symbol)
        )
        held: dict[tuple[str, str], tuple[int, Position]] = {}
        with reading(self._engine) as connection, _readable("execution_events or position_snapshots"):
            for strategy_id, symbol, number, payload in connection.execute(fills):
                held[strategy_id, symbol] = number, msgspec.convert(payload["position"], Position)
            for row in connection.execute(select(position_snapshots).where(snapshots.id.in_(moved))).mappings():
                key = row["strategy_id"], row["symbol"]
                if key not in held or held[key][0] < row["id"]:
                    held[key] = row["id"], position_of(dict(row))
        return {key: position for key, (_, position) in held.items()}

    def decisions_called(self, text: str, limit: int) -> list[tuple[str, str]]:
        """See `Records.decisions_called`."""
        called = union(
            *(
                select(column.table.c.account, column.table.c.decision_hash).where(
                    func.substr(column, 1, len(text)) == text
                )
                for column in (trade_decisions.c.decision_hash, executions.c.client_order_id)
            )
        )
        with reading(self._engine) as connection:
            rows = connection.execute(called.order_by("account", "decision_hash").limit(limit))
            return [(account, decision_hash) for account, decision_hash in rows]

    def rationales(self, account_label: str) -> dict[str, str]:
        """See `Records.rationales`."""
        columns = trade_decisions.c
        chosen = select(columns.decision_hash, columns.rationale).where(columns.account == account_label)
        with reading(self._engine) as connection:
            return {row.decision_hash: row.rationale for row in connection.execute(chosen)}

    def replacements(self, account_label: str, client_order_id: str) -> list[Row]:
        """See `Records.replacements`."""
        written = canonical_json({"replaces": client_order_id})[1:-1].decode()
        is_named = cast(trade_decisions.c.params, Text).contains(written, autoescape=True)
        with reading(self._engine) as connection:
            return select_rows(connection, RowsQuery("trade_decisions", equal={"account": account_label}), is_named)


def select_rows(
    connection: Connection,
    query: RowsQuery,
    *conditions: ColumnElement[bool],
    beside: Sequence[ColumnElement[Any]] = (),
) -> list[Row]:
    """The rows that a query asks for and that meet the conditions; `beside` are columns of other tables."""
    table = query.table
    source = metadata.tables[table]
    order = [source.c.id] if table in NUMBERED else [source.c[column] for column in KEYS[table]]
    statement = select(source, *beside).where(*conditions)
    statement = statement.order_by(*(column.desc() if query.newest_first else column for column in order))
    for name, value in query.equal.items():
        statement = statement.where(source.c[name] == value)
    if query.after:
        statement = statement.where(source.c.id < query.after if query.newest_first else source.c.id > query.after)
    if query.since is not None:
        statement = statement.where(source.c[MOMENTS[table]] >= query.since)
    if source is controls:
        statement = statement.where(controls.c.name != HEAD_ROW)
    with _readable(table):
        return [dict(row) for row in connection.execute(statement.limit(query.limit)).mappings()]


def _select_equal(connection: Connection, table: str, **equal: Any) -> list[Row]:
    return select_rows(connection, RowsQuery(table, equal=equal))


@contextmanager
def _readable(table: str) -> Iterator[None]:
    """Name the table that has a value which this program cannot have written."""
    try:
        yield
    except (ArithmeticError, KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise StateError(f"a row of {table} cannot be read: {error} (run `torghut audit verify`)") from error


class _Writer:
    """Writes rows of one table: each value becomes text once, and that text is hashed and sent."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        keys = KEYS.get(table.name, ())
        self._encoders = {
            column.name: json_text  # a row's values are plain already
            if isinstance(column.type, Json)
            else column.type.dialect_impl(dialect).bind_processor(dialect)
            for column in table.columns
        }
        changed = [name for name in self._encoders if name not in (*keys, "id")]
        statement = (
            update(table)
            .where(*(table.c[name] == bindparam(f"{name}_is") for name in keys))
            .values({name: bindparam(name) for name in changed})
        )
        compiled = statement.compile(dialect=dialect)
        names = list(self._encoders)
        self._update = str(compiled)
        self._update_order = [names.index(name.removesuffix("_is")) for name in compiled.positiontup or ()]
        self._insert = str(insert(table).compile(dialect=dialect))

    def stored(self, row: Row) -> Stored:
        """A row as it is stored: its values in the order of the columns."""
        return tuple([row[name] if encode is None else encode(row[name]) for name, encode in self._encoders.items()])

    def write(self, connection: Connection, action: Action, rows: list[Stored]) -> None:
        """Insert or update stored rows."""
        if action == "insert":
            connection.exec_driver_sql(self._insert, rows)
        else:
            order = self._update_order
            connection.exec_driver_sql(self._update, [tuple([row[place] for place in order]) for row in rows])
