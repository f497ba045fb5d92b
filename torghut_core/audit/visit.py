"""Short visits to the audit database beside a running kernel: open it, do one thing, and never wait long.

A frozen server answers no query and ends none, and no option of its client bounds that. So each visit is made in a daemon
thread of its own, and its caller stops waiting after a while.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, make_url, select

from torghut_core.audit.database import audit_engine, reading
from torghut_core.audit.records import RowsQuery
from torghut_core.audit.sql import SqlAuditStore, select_rows
from torghut_core.audit.tables import controls
from torghut_core.concurrency import DaemonThreads
from torghut_core.errors import StateError

VISIT_SECONDS = 8.0
"""How long a visit may take; longer than the wait for a SQLite database that is being written."""

_T = TypeVar("_T")
_threads = DaemonThreads()


class Visitor(SqlAuditStore):
    """A store for one visit: `close` drops what was not committed."""

    def change_control(self, name: str, value: Any, actor: str, allow: Callable[[Any], None]) -> None:
        """Change a control, in one transaction with a check of its present value.

        Parameters
        ----------
        allow : is called with the value that would be replaced, None where there is none, while no other process can
            write; where it raises, nothing is written.
        """

        def guard(connection: Connection) -> None:
            found = select_rows(connection, RowsQuery("controls", equal={"name": name}))
            allow(found[0]["value"] if found else None)

        self.guard = guard
        self.record_control(name, value, actor)
        self.commit()

    def close(self) -> None:
        """Let go."""
        self.drop()
        super().close()


def visit(database: str | Path, work: Callable[[Visitor], _T]) -> _T:
    """Open the database, work with it, close it; takes `VISIT_SECONDS` at most.

    Raises
    ------
    StateError : it cannot be opened, or does not answer in time; in the latter case the work may still be done later.
    """

    def call() -> _T:
        store = Visitor(bounded(database))
        try:
            return work(store)
        finally:
            store.close()

    future: Future[_T] = _threads.submit(call)
    return _await(future, VISIT_SECONDS)


def bounded(database: str | Path) -> str | Path:
    """The database's address, with time limits of seconds for a Postgres server and the network to it."""
    url = make_url(database) if isinstance(database, str) else None
    if url is None or not url.drivername.startswith("postgres"):
        return database
    options = f"{url.query.get('options', '')} -c statement_timeout=4000".strip()
    query = {"connect_timeout": "2", "tcp_user_timeout": "4000", "options": options}
    return url.update_query_dict(query).render_as_string(hide_password=False)


class ControlReader:
    """Reads one control, over a connection that is kept.

    Parameters
    ----------
    database : as `SqlAuditStore` takes it; one that does not exist yet has no control.
    name : the row's name in ``controls``.
    """

    def __init__(self, database: str | Path, name: str) -> None:
        self._database = database
        self._name = name
        self._engine: Engine | None = None
        self._reading: Future[Any] | None = None

    def read(self, seconds: float) -> Any:
        """The value; None where there is none.

        Raises
        ------
        StateError : the database cannot be read, or does not answer within `seconds`.
        ValueError : the row has a value that this program cannot have written.
        """
        if self._reading is None or self._reading.done():
            self._reading = _threads.submit(self._read)
        return _await(self._reading, seconds)

    def close(self) -> None:
        """Let go of the connection; the next `read` makes another one."""
        if self._engine is not None:
            self._engine.dispose()

    def _read(self) -> Any:
        if self._engine is None:
            self._engine = audit_engine(bounded(self._database))
        url = self._engine.url
        if self._engine.dialect.name == "sqlite" and not Path(str(url.database)).exists():
            return None
        try:
            with reading(self._engine) as connection:
                return connection.execute(select(controls.c.value).where(controls.c.name == self._name)).scalar()
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error


def _await(future: Future[_T], seconds: float) -> _T:
    try:
        return future.result(seconds)
    except TimeoutError:
        raise StateError(
            f"the audit database does not answer within {seconds:g} s (check that the database is running and reachable;"
            " the change may still be made)"
        ) from None
