"""The audit in a database: SQLite by default, Postgres by DSN."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Table, bindparam, exists, func, insert, literal, or_, select, update

from torghut_core.audit.chain import Finding, Head, HeadFile, entry_hash, file_problem, read_head, row_hash, row_key, verify
from torghut_core.audit.database import audit_engine, explained, prepare, reading, writing
from torghut_core.audit.rows import KEYS, MOMENTS, NUMBERED, Changes, Row
from torghut_core.audit.store import AuditRecords
from torghut_core.audit.tables import COVERED, HEAD_ROW, audit_log, catalog_generations, controls, executions, metadata, trade_decisions
from torghut_core.errors import InputError, StateError

ACTOR = "torghut"
"""Who writes a row that names nobody."""


class SqlAuditStore(AuditRecords):
    """Keeps the audit in a database, every version of every row in the hash chain (see `chain`).

    A commit that fails writes nothing and keeps what was recorded: the next commit tries again.

    Parameters
    ----------
    database : path of a SQLite file, or a URL (``sqlite:///path``, ``postgresql://user@host/name``). An empty database
        gets the tables, an older one is migrated.
    clock : wall time, ns.

    Raises
    ------
    InputError : no database that this can be.
    StateError : it cannot be opened, or was written by a newer version.
    """

    def __init__(self, database: str | Path, clock: Callable[[], int] = time.time_ns) -> None:
        super().__init__(clock)
        self._engine = audit_engine(database)
        try:
            prepare(self._engine)
        except BaseException:
            self._engine.dispose()
            raise
        dialect = self._engine.dialect
        self._writers = {table.name: _Writer(table, dialect) for table in COVERED}
        self._log_writer = _Writer(audit_log, dialect)
        path = self._engine.url.database
        self._file = HeadFile(Path(path).with_suffix(".head")) if dialect.name == "sqlite" and path else None
        self._is_anchored = False

    def commit(self) -> None:
        """Make durable what was recorded since the last commit, in one transaction.

        Raises
        ------
        StateError : disk full, database locked or gone; nothing of this commit was written, and what was is readable.
            Or the log was cut: nothing is written on top of that.
        """
        if not self._pending:
            return
        with writing(self._engine) as connection:
            head = read_head(connection, lock=True)
            if head is None:
                raise StateError(f"the audit log's head is gone from controls (see `torghut audit verify`)")
            if self._file is not None and not self._is_anchored:
                self._check_anchor(connection, head)
            changes = Changes(self._select)
            for fold, *record in self._pending:
                fold(changes, *record)
            head = self._write(connection, changes, head)
        self._pending = []
        if self._file is not None:
            try:
                self._file.write(head)
            except OSError as error:
                raise StateError(f"committed, but {self._file.path}: {error.strerror} (make it writable)") from error
            self._is_anchored = True
