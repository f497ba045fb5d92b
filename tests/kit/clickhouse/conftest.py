"""One server for all tests of a file, and a client that speaks to it."""

import contextlib

import clickhouse_connect
import pytest
import urllib3
from torghut_testing.clickhouse import ClickHouseProcess


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A server that runs as long as the file's tests."""
    pytest.importorskip("chdb", reason="the engine behind the server is torghut[embedded]")
    with ClickHouseProcess(tmp_path_factory.mktemp("clickhouse") / "data") as process:
        yield process


@pytest.fixture
def clickhouse(running):
    """The server, with nothing wrong."""
    yield running
    running.listen_again()
    running.clear()
    running.set_disks()


@pytest.fixture
def connect():
    """A function that makes clients with connections of their own, which are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(clickhouse, **options):
            pool = urllib3.PoolManager()
            stack.callback(pool.clear)
            client = clickhouse_connect.get_client(
                dsn=clickhouse.url,
                autogenerate_session_id=False,
                pool_mgr=pool,
                **options,
            )
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def client(clickhouse, connect):
    """A client, and an empty table ``t`` of ``x Int64, s String``."""
    made = connect(clickhouse)
    made.command("DROP TABLE IF EXISTS t")
    made.command(
        "CREATE TABLE t (x Int64, s String) ENGINE = MergeTree ORDER BY x"
        " SETTINGS non_replicated_deduplication_window = 100"
    )
    return made
