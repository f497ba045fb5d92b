"""The hash chain over everything that is written, its anchors, and the check that finds changes made past it.

Every version of every row gets an entry in ``audit_log`` with the sha256 of the row's content as it is stored. Every
entry carries the hash of the entry before it and its own, sha256(previous hash + canonical JSON of the entry), so an
edited, inserted or missing entry shows. A cut tail does not show in the chain itself. Therefore the number and hash of
the newest entry, the *head*, are kept in two other places: in the row `HEAD_ROW` of ``controls``, written in the same
transaction, and beside a SQLite database in a small file with the suffix ``.head``, written right after it. After a crash
that file may be one commit behind the log; the log is never behind the file, and nothing is written on top of a log that
is. (A Postgres database has the row only: we cannot put files on its server.)

What this cannot do: there is no secret in it. A person who can write the database *and* the head file can compute a whole
new chain, with other rows, and both heads; one who can write the database can add well-formed entries at the end, as the
kernel does. Only a head that is kept where they cannot write helps against that: `SqlAuditStore.head` returns it, to be
logged or printed, and an entry whose hash differs from it is proof.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import Column, Connection, Table, Text, cast, select, type_coerce
from sqlalchemy.types import NullType

from torghut_core.audit.rows import KEYS
from torghut_core.audit.tables import COVERED, HEAD_ROW, THERE, TRIGGERS, audit_log, controls
from torghut_core.audit.types import Json, Money
from torghut_core.audit.values import json_text, json_value, time_text
from torghut_core.errors import StateError
from torghut_core.files import open_file, read_file
from torghut_core.model.trading import canonical_json

Stored: TypeAlias = Sequence[Any]
"""Values as they are stored, in the order of their table's columns; of a row without its `id`."""

ENTRY = tuple(column.name for column in audit_log.columns if column.name not in ("prev_hash", "hash"))
"""The columns of ``audit_log`` that an entry's hash is over."""


class Head(NamedTuple):
    """Where the log ends: number and hash of its newest entry."""

    seq: int
    hash: str


GENESIS = Head(0, "0" * 64)
"""The head of an empty log."""

_LARGEST_HEAD = 1000


class Finding(msgspec.Struct, frozen=True):
    """One difference from what was written.

    `table` and `row` say where (the row's key; in ``audit_log`` the number of an entry), `problem` what is wrong.
    """

    table: str
    row: str
    problem: str

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.problem}" if self.row else f"{self.table}: {self.problem}"


def row_hash(stored: Stored) -> str:
    """sha256 of a row as it is stored, hexadecimal.

    The `id` is not in it: it is the number of the row's first log entry, and `verify` compares the two.
    """
    return hashlib.sha256(_canonical(stored)).hexdigest()


def entry_hash(previous: str, stored: Stored) -> str:
    """The hash of a log entry with these values of the columns `ENTRY`, behind one with the hash `previous`."""
    return hashlib.sha256(previous.encode() + _canonical(stored)).hexdigest()


def _canonical(stored: Stored) -> bytes:
    """JSON without trailing nulls: a column that a later version adds, always as the last, changes no hash."""
    end = len(stored)
    while end and stored[end - 1] is None:
        end -= 1
    return canonical_json(stored[:end])


def row_key(table: str, row: Mapping[str, Any]) -> str:
    """The name of a row in the log: the values of its key, joined by slashes."""
    return "/".join([str(row[column]) for column in KEYS[table]])


class HeadFile:
    """The head beside the database: one line of fixed length, overwritten in place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Head | None:
        """The last head that was written; None where there is no file.

        Raises
        ------
        StateError : the file does not hold a head, or cannot be read.
        """
        try:
            line = read_file(self.path, _LARGEST_HEAD).decode("ascii", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror} (make it readable)") from error
        seq, _, digest = line.rstrip("\n").partition(" ")
        if not (seq.isdecimal() and len(digest) == len(GENESIS.hash)):
            raise StateError(f"{self.path} does not hold the head of an audit log (see `torghut audit verify`)")
        return Head(int(seq), digest)

    def write(self, head: Head) -> None:
        """Write a head. It is not synced to disk: a file that is behind does no harm.

        The first one is put in place whole: a file without a head, seen by another process or after a power cut, would
        look like tampering.
        """
        line = f"{head.seq:020d} {head.hash}\n".encode()
        is_new = not self.path.exists()
        path = self.path.with_name(f"{self.path.name}.{threading.get_native_id()}") if is_new else self.path
        descriptor = open_file(path, os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(descriptor, line, 0)
            if is_new:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            path.replace(self.path)


def read_head(connection: Connection, *, lock: bool = False) -> Head | None:
    """The head that ``controls`` keeps, locked for the transaction on request; None where it cannot be read."""
    is_locking = lock and connection.dialect.name == "postgresql"
    query = f"SELECT CAST(value AS TEXT) FROM controls WHERE name = '{HEAD_ROW}'{' FOR UPDATE' if is_locking else ''}"  # noqa: S608 - ours
    try:
        value = json_value(connection.exec_driver_sql(query).scalar_one_or_none())  # every commit asks: in plain SQL
        return None if value is None else Head(int(value["seq"]), str(value["hash"]))
    except (KeyError, TypeError, ValueError, msgspec.MsgspecError):
        return None


def is_entry(connection: Connection, head: Head) -> bool:
    """Whether this is in the log: the newest entry, or one that others follow."""
    if head == GENESIS:
        return False
    digest = connection.execute(select(audit_log.c.hash).where(audit_log.c.seq == head.seq)).scalar_one_or_none()
    return digest == head.hash


def stored_head(head: Head) -> Stored:
    """The row of ``controls`` that keeps a head, as it is stored."""
    return (HEAD_ROW, json_text(head._asdict()), "", time_text(0))


def verify(connection: Connection, file: HeadFile | None) -> list[Finding]:
    """Every difference from what was written, in the log and in the rows that it covers.

    The connection should see one state of the database throughout. This takes about 400 bytes of memory for each row that
    the log covers.
    """
    log = _Log()
    anchored, problem = _anchored(file)  # read before the database, since another process may be writing to both
    findings = [*_trigger_findings(connection), *log.read(connection)]
    findings += _head_findings(connection, log)
    if file is not None:
        findings += _anchor_findings(connection, log, file, anchored, problem)
    for table in COVERED:
        findings += log.compare(table, connection)
    return findings


class _Log:
    """The log, read once: its last entry, and the newest hash of each row."""

    def __init__(self) -> None:
        self.last = GENESIS
        self._rows: dict[str, dict[str, tuple[str, int]]] = {table: {} for table in KEYS}

    def read(self, connection: Connection) -> Iterator[Finding]:
        for entry in _stored_rows(connection, audit_log):
            seq, previous, digest = entry["seq"], entry["prev_hash"], entry["hash"]
            if seq != self.last.seq + 1:
                missing = f"{self.last.seq + 1} to {seq - 1}" if seq > self.last.seq + 2 else str(seq - 1)
                yield Finding("audit_log", missing, "missing")
            elif previous != self.last.hash:
                yield Finding("audit_log", str(seq), "does not follow from the entry before it")
            if entry_hash(str(previous), [entry[column] for column in ENTRY]) != digest:
                yield Finding("audit_log", str(seq), "edited: its content does not have its hash")
            self.last = Head(seq, digest)
            rows = self._rows.get(entry["table_name"])
            if rows is not None:
                key = entry["row_key"]
                rows[key] = (entry["row_hash"], rows[key][1] if key in rows else seq)

    def compare(self, table: Table, connection: Connection) -> Iterator[Finding]:
        """Compare the rows of a table with their hashes in the log."""
        name = table.name
        missing = self._rows[name]
        for row in _stored_rows(connection, table):
            key = row_key(name, row)
            number = row.pop("id", None)
            stored = tuple(row.values())
            if table is controls and key == HEAD_ROW:
                head = read_head(connection)
                if head is not None and stored != stored_head(head):
                    yield Finding(name, key, "edited")
                continue
            logged = missing.pop(key, None)
            if logged is None:
                yield Finding(name, key, "inserted: it is not in the log")
                continue
            digest, first = logged
            if row_hash(stored) != digest:
                yield Finding(name, key, "edited: its content does not have the hash in the log")
            if number is not None and number != first:
                yield Finding(name, key, f"edited: its id is {number} and was {first}")
        for key in missing:
            yield Finding(name, key, "missing: it is in the log")


def _head_findings(connection: Connection, log: _Log) -> Iterator[Finding]:
    head = read_head(connection)
    if head is None:
        yield Finding("controls", HEAD_ROW, "missing or unreadable")
    elif head.seq > log.last.seq:
        yield Finding("audit_log", "", f"cut: it ends at {log.last.seq}, but {HEAD_ROW} in controls is {head.seq}")
    elif head != log.last:
        yield Finding("audit_log", "", f"its last entry is not the one in {HEAD_ROW} of controls ({head.seq})")


def _anchored(file: HeadFile | None) -> tuple[Head | None, str]:
    """The head in the file, and why it cannot be read, "" where it can."""
    try:
        return (None if file is None else file.read()), ""
    except StateError as error:
        return None, str(error)


def _anchor_findings(
    connection: Connection, log: _Log, file: HeadFile, anchored: Head | None, problem: str
) -> Iterator[Finding]:
    problem = problem or file_problem(connection, anchored, file.path)
    if problem:
        yield Finding("audit_log", "", problem)
    elif anchored is None and log.last != GENESIS:
        yield Finding("audit_log", "", f"{file.path} is missing, so a cut tail may not show")


def file_problem(connection: Connection, head: Head | None, path: Path) -> str:
    """Why the log cannot be the one that a head file belongs to; "" where it can."""
    if head is None or head == GENESIS:
        return ""
    digest = connection.execute(select(audit_log.c.hash).where(audit_log.c.seq == head.seq)).scalar_one_or_none()
    if digest is None:
        return f"cut: entry {head.seq}, the newest according to {path}, is missing"
    return "" if digest == head.hash else f"entry {head.seq} is not the one in {path}"


def _trigger_findings(connection: Connection) -> Iterator[Finding]:
    dialect = connection.dialect.name
    there = {name: tuple(made) for name, *made in connection.exec_driver_sql(THERE[dialect])}
    for name, made in TRIGGERS[dialect].items():
        if there.get(name) != made:
            problem = "was replaced by one that does something else" if name in there else "is missing"
            yield Finding("audit_log", "", f"the trigger {name}, which refuses changes, {problem}")


def _stored_rows(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    """Rows in key order as they are stored, by column, columns in the order of the table."""
    columns = [_as_stored(column, connection.dialect.name) for column in table.columns]
    statement = select(*columns).order_by(*table.primary_key)
    rows = connection.execute(statement, execution_options={"yield_per": 2000})
    names = list(rows.keys())
    for row in rows:
        yield dict(zip(names, row, strict=True))


def _as_stored(column: Column[Any], dialect: str) -> Any:
    if dialect == "postgresql" and isinstance(column.type, Json | Money):
        return cast(column, Text).label(column.name)
    return type_coerce(column, NullType()).label(column.name)
