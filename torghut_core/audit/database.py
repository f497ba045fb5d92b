"""Opening an audit database: its engine, its version, and errors that say what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from torghut_core.audit.chain import GENESIS
from torghut_core.audit.tables import HEAD_ROW, REVISIONS, alembic_version, controls, metadata
from torghut_core.errors import InputError, StateError

if TYPE_CHECKING:
    import psycopg

BUSY_TIMEOUT_MS = 5000
"""How long to wait for a database that another process is writing to, milliseconds."""

PROBE_TIMEOUT_MS = 1500
"""The same for a probe, which only checks whether the database can be written."""

POSTGRES = {
    "connect_timeout": 2,  # seconds, the least that libpq knows
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 6000,  # milliseconds
    "application_name": "torghut",
}
"""Options of a connection to Postgres, unless the DSN sets them: a dead server or network is detected within seconds, and
not within the two hours that TCP would wait."""

_VANISHED = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 2}
"""The server's side of it, in seconds: the locks of a trader whose machine has died do not stop the next one."""

_POOLED: dict[str, Any] = {"max_overflow": -1}
_UNPOOLED: dict[str, Any] = {"poolclass": NullPool}
_UPGRADE_LOCK = 7_483_647_001  # any number that only this program locks on a Postgres server
_REASONS = {
    "SQLITE_FULL": "the disk is full (free some space, then try again)",
    "SQLITE_BUSY": "another process is writing to it (let it finish, then try again)",
    "SQLITE_LOCKED": "another process is writing to it (let it finish, then try again)",
    "SQLITE_READONLY": "it cannot be written (make the file and its folder writable, or give another --state)",
    "SQLITE_CANTOPEN": "it cannot be opened (make its folder, and make it writable, or give another --state)",
    "SQLITE_NOTADB": "it is not a SQLite database (move the file away, or give another --state)",
    "SQLITE_CORRUPT": "it is damaged (restore it from a backup)",
    "SQLITE_IOERR": "the disk fails or is full (free some space or check the disk, then try again)",
    "53100": "the disk is full (free some space, then try again)",
    "55P03": "another process is writing to it (let it finish, then try again)",
    "25006": "it cannot be written (connect to the primary server, as a user that may write)",
    "42501": "it cannot be written (connect as a user that may write)",
}


WAL_PAGES = 4000
"""After so many pages that SQLite has written ahead, the next commit copies them into the file."""


def audit_engine(database: str | Path, *, is_probe: bool = False, wal_pages: int = WAL_PAGES) -> Engine:
    """An engine for a SQLite file (a path, or a URL ``sqlite:///...``) or a Postgres DSN; nothing is opened yet.

    SQLite writes ahead of its file (WAL), so readers and the writer do not wait for each other, and syncs at each
    commit: what was committed before an order was sent is there after a power cut. A pooled connection to Postgres is
    tried before it is used, and made anew when the server has been restarted. Any thread may use the engine, and none
    waits for another's connection. The engine of a probe keeps no connection and gives up sooner.

    Raises
    ------
    InputError : `database` is not a database of a known kind.
    """
    try:
        url = make_url(database) if isinstance(database, str) else URL.create("sqlite", database=str(database))
    except (ArgumentError, ValueError) as error:  # a port that is no number
        raise InputError("the audit database's address is not a URL (use postgresql://user@host/name)") from error
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        if find_spec("psycopg") is None:
            raise InputError("a Postgres audit database needs psycopg: pip install 'torghut[postgres]'")
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            paramstyle="format",  # tuples for executemany
            json_deserializer=_as_is,  # JSON as the text that it is stored as: the column type reads it
            connect_args={name: value for name, value in POSTGRES.items() if name not in url.query},
            **(_UNPOOLED if is_probe else _POOLED | {"pool_pre_ping": True}),
        )
        event.listen(engine, "connect", partial(_set_up_postgres, is_probe))
        return engine
    if url.drivername not in ("sqlite", "sqlite+pysqlite") or url.database in (None, "", ":memory:"):
        shown = url.render_as_string(hide_password=True)
        raise InputError(f"{shown} is not an audit database (use sqlite:///path or postgresql://user@host/name)")
    engine = create_engine(url, **(_UNPOOLED if is_probe else _POOLED))
    event.listen(engine, "connect", partial(_set_up_sqlite, is_probe, wal_pages))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _as_is(value: str) -> str:
    return value


def _set_up_postgres(is_probe: bool, connection: psycopg.Connection, _record: object) -> None:
    patience = PROBE_TIMEOUT_MS if is_probe else BUSY_TIMEOUT_MS
    values = _VANISHED | {"lock_timeout": patience}
    if is_probe:
        values["statement_timeout"] = patience * 4 // 3  # the lock's is the one that says what is wrong
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in values.items())
    connection.execute(f"SELECT {calls}".encode())
    connection.commit()


def _set_up_sqlite(is_probe: bool, wal_pages: int, connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin too late and end too early; `_begin_sqlite` does it
    connection.execute(f"PRAGMA busy_timeout = {PROBE_TIMEOUT_MS if is_probe else BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -16384")  # the indexes on hashes are written in random places
    connection.execute(f"PRAGMA wal_autocheckpoint = {wal_pages}")  # then a page is copied into the file less often


def _begin_sqlite(connection: Connection) -> None:
    is_writer = connection.get_execution_options().get("is_writer", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes, all or nothing.

    Raises
    ------
    StateError : it could not be written.
    """
    with explained(engine), engine.execution_options(is_writer=True).begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that reads, and sees one state of the database throughout.

    Raises
    ------
    StateError : it could not be read.
    """
    with explained(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Turn errors of the database into `StateError`, with its address and the fix."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StateError(f"audit database {place(engine)}: {_reason(error)}") from error


def place(engine: Engine) -> str | None:
    """A database's address, for messages: without a password, which may be among a URL's options too."""
    url = engine.url
    if engine.dialect.name == "sqlite":
        return url.database
    return url.set(query={name: url.query[name] for name in ("host", "port") if name in url.query}).render_as_string()


def _reason(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    if isinstance(error, IntegrityError):
        return f"another process has written to it meanwhile (run only one): {_first_line(cause)}"
    if isinstance(error, NoSuchModuleError):
        return str(error)
    file_code = getattr(cause, "sqlite_errorname", None)
    code = file_code or getattr(cause, "sqlstate", None) or ""
    hint = "restore it from a backup" if file_code else "check that the database is running and reachable"
    return _REASONS.get("_".join(code.split("_")[:2]), f"{_first_line(cause)} ({hint})")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def prepare(engine: Engine) -> None:
    """Give a database this version's tables: create them in an empty one, migrate an older one.

    Raises
    ------
    StateError : it was written by a newer version or by another program, or cannot be read or written.
    """
    with reading(engine) as connection:
        if _revision(connection) == REVISIONS[-1]:
            return
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))  # another process may be migrating it
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
        revision = _revision(connection)
        if revision is None:
            _create(connection)
        elif revision in REVISIONS[:-1]:
            from torghut_core.audit.migration import migrate

            migrate(connection)
        elif revision != REVISIONS[-1]:
            raise StateError(
                f"audit database {place(engine)} has version {revision}, and this torghut supports"
                f" versions up to {REVISIONS[-1]} (install the newer torghut that wrote it, or restore a backup)"
            )


def upgrade(database: str | Path) -> str:
    """Create a database, or migrate one of any older version to this version's tables; return that version.

    Raises
    ------
    StateError : as in `prepare`.
    """
    engine = audit_engine(database)
    try:
        prepare(engine)
    finally:
        engine.dispose()
    return REVISIONS[-1]


def _revision(connection: Connection) -> str | None:
    """The version of the tables; None where there are none."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        return connection.execute(select(alembic_version)).scalar_one_or_none() or "unknown"
    if tables:
        raise StateError(
            f"audit database {place(connection.engine)} has tables of another program"
            f" ({', '.join(sorted(tables)[:3])}): give torghut a database of its own"
        )
    return None


def _create(connection: Connection) -> None:
    """Create the tables as the migrations would; a test compares the two. Alembic takes 0.6 s to load."""
    metadata.create_all(connection)
    connection.execute(controls.insert().values(name=HEAD_ROW, value=GENESIS._asdict(), actor="", updated_at=0))
    connection.execute(alembic_version.insert().values(version_num=REVISIONS[-1]))
