"""A database that goes away, comes back, falls silent or is locked: nothing is lost, doubled, or waited for too long."""

import contextlib
import os
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import event

from torghut_core.audit import MemoryAuditStore, SqlAuditStore, sql
from torghut_core.audit import database as database_module
from torghut_core.audit.database import audit_engine
from torghut_core.errors import StateError

BOUND = 4.0
"""Seconds within which a probe has answered, whatever the database does: 2.5 and what a busy machine adds."""


class Proxy:
    """A port that forwards to a Postgres server's socket, until a test cuts the line or silences it.

    `cut_at` is what a client says when the line is cut: before the server hears it, or, with `is_heard`, after the
    server has done it and before the client hears so.
    """

    def __init__(self, path):
        self.cut_at = b""
        self.is_heard = False
        self.is_mute = False
        self.cuts = 0
        self._path = path
        self._ends = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                self._ends += client, server
                line = {"is_over": False}
                threading.Thread(target=self._pass_on, args=(client, server, line, True), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, line, False), daemon=True).start()

    def _pass_on(self, source, target, line, is_client):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.is_mute:
                    continue
                if is_client and self.cut_at and self.cut_at in data:
                    self.cut_at = b""
                    self.cuts += 1
                    line["is_over"] = True
                    if not self.is_heard:
                        break
                elif line["is_over"]:
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def line(postgres):
    """A new audit database's URL through a proxy, the proxy, and the URL without it."""
    url = postgres()
    there = sqlalchemy.make_url(url)
    with closing(Proxy(f"{there.query['host']}/.s.PGSQL.{there.port or 5432}")) as proxy:
        through = there.set(host="127.0.0.1", port=proxy.port, query={})
        yield through.render_as_string(hide_password=False), proxy, url


@contextmanager
def locked(database):
    """Another process holds what every commit has to write."""
    if isinstance(database, str):
        with psycopg.connect(database.replace("+psycopg", "")) as other:
            other.execute("SELECT * FROM controls WHERE name = 'audit.head' FOR UPDATE")
            yield
            other.rollback()
    else:
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield


@contextmanager
def within(seconds):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize("is_heard", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("said", [b"FOR UPDATE", b"venue_order_id", b"UPDATE controls", b"COMMIT\0"])
def test_line_that_is_cut_in_a_commit_loses_and_doubles_nothing(line, opened, make, said, is_heard):
    """Wherever the line breaks, before the server hears of it or after it is done: the next commit makes it right."""
    url, proxy, straight = line
    store = opened(url)
    make.trade(store, 1)
    store.commit()
    make.trade(store, 2)
    proxy.cut_at, proxy.is_heard = said, is_heard
    with pytest.raises(StateError, match=r"audit database .*\(check that the database is running and reachable\)"):
        store.commit()
    assert proxy.cuts == 1
    is_there = is_heard and said == b"COMMIT\0"
    with closing(SqlAuditStore(straight)) as other:
        assert len(other.fills()) == (2 if is_there else 1)
        other.record_control("kill", value=True, actor="ops")  # the log goes on meanwhile
    make.trade(store, 3)
    store.commit()
    store.commit()
    assert [fill["client_order_id"] for fill in store.fills()] == [row["client_order_id"] for row in store.orders()]
    assert len(store.fills()) == len(store.decisions()) == 3
    assert len(store.rows("execution_events")) == 6
    assert store.verify() == []


def test_backend_that_is_terminated_in_a_commit_loses_and_doubles_nothing(postgres, opened, make):
    """An administrator ends the connection in the middle of a commit, again and again: each row is there once."""
    url = postgres()
    store = opened(url)
    ends = []

    def terminate(connection, _cursor, statement, *_rest):
        if ends and statement.startswith(ends[0]):
            ends.pop(0)
            pid = connection.connection.driver_connection.info.backend_pid
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    event.listen(store._engine, "before_cursor_execute", terminate)
    for n, statement in enumerate(["INSERT INTO trade_decisions", "INSERT INTO audit_log", "UPDATE controls"]):
        make.trade(store, n)
        ends.append(statement)
        with pytest.raises(StateError, match="audit database"):
            store.commit()
        assert ends == []
        assert len(store.decisions()) == n
        store.commit()
        assert len(store.decisions()) == len(store.fills()) == n + 1
    assert store.verify() == []


def test_server_that_is_stopped_and_started_is_written_to_again(postgres, postgres_server, opened, make):
    """While the server is down a commit says so at once and keeps what was recorded; once it is up, the next one works."""
    store = opened(postgres())
    make.trade(store, 1)
    store.commit()
    assert store.probe() == ""
    make.trade(store, 2)
    postgres_server.stop()
    try:
        with within(BOUND), pytest.raises(StateError, match="check that the database is running and reachable"):
            store.commit()
        with within(BOUND), pytest.raises(StateError, match="audit database"):
            store.positions("paper-1")
        with within(BOUND):
            assert "check that the database is running and reachable" in store.probe()
        make.trade(store, 3)
        with pytest.raises(StateError):
            store.commit()
    finally:
        postgres_server.ensure_postgres_running()
    assert store.probe() == ""
    store.commit()
    assert len(store.decisions()) == len(store.fills()) == 3
    assert store.verify() == []


def test_probe_of_a_server_that_is_silent_is_bounded(line, opened, monkeypatch):
    """A server that accepts and never answers is reported in time, by one probe and not by ever more of them."""
    monkeypatch.setattr(sql, "PROBE_SECONDS", 0.1)
    url, proxy, _ = line
    store = opened(url)
    proxy.is_mute = True
    threads = threading.active_count()
    with within(BOUND):
        reasons = {store.probe() for _ in range(5)}
        assert store._probe.result(BOUND) != ""  # as far as the driver is concerned, the connection timed out
    assert len(reasons) == 1
    assert "it does not answer (check that the database is running and reachable)" in reasons.pop()
    assert threading.active_count() <= threads + 3  # the probe's, and the proxy's two for its connection
    proxy.is_mute = False
    monkeypatch.undo()
    assert store.probe() == ""


def test_connections_give_up_a_dead_server_within_seconds(line):
    """The socket gives up what the server does not acknowledge; the server does not keep our locks for long."""
    url, _, _ = line
    engine = audit_engine(url)
    with engine.connect() as connection:
        number = connection.connection.driver_connection.pgconn.socket
        with socket.socket(fileno=os.dup(number)) as wire:
            assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 2
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6000
        assert connection.connection.driver_connection.info.get_parameters()["connect_timeout"] == "2"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "5s"
    engine.dispose()


def test_what_the_dsn_says_of_its_connections_counts(line):
    """An operator's own time limits in ``DB_DSN`` are kept."""
    url, _, _ = line
    engine = audit_engine(f"{url}?connect_timeout=7&application_name=mine")
    with engine.connect() as connection:
        parameters = connection.connection.driver_connection.info.get_parameters()
        assert (parameters["connect_timeout"], parameters["application_name"]) == ("7", "mine")
    engine.dispose()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_name_of_postgres_will_do(postgres, scheme):
    """A DSN may name the driver or not."""
    url = sqlalchemy.make_url(postgres()).set(drivername=scheme).render_as_string(hide_password=False)
    with closing(SqlAuditStore(url)) as store:
        assert store.probe() == ""


def test_probe_leaves_what_is_recorded_alone(store, make):
    """To ask whether the database can be written makes nothing durable, nothing readable and nothing suspect."""
    make.trade(store)
    assert store.probe() == ""
    assert store.decisions() == []
    store.commit()
    assert store.probe() == ""
    assert len(store.decisions()) == 1
    if not isinstance(store, MemoryAuditStore):
        assert store.verify() == []


def test_probe_in_another_thread_does_not_disturb_commits(store, make):
    """Health is asked for while the loop trades: both get what they want."""
    over = threading.Event()

    def ask():
        answers = {store.probe()}
        while not over.is_set():
            answers.add(store.probe())
        return answers

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            for n in range(20):
                make.trade(store, n)
                store.commit()
        finally:
            over.set()
        assert asking.result() == {""}
    assert len(store.fills()) == 20


def test_locked_database_is_reported_by_probe_and_commit(database, opened, make, monkeypatch):
    """A lock of another process is waited for briefly, then reported; once it is released, nothing has been lost."""
    monkeypatch.setattr(database_module, "PROBE_TIMEOUT_MS", 50)
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 50)
    store = opened(database)
    make.trade(store)
    with locked(database), within(BOUND):
        assert "another process is writing to it" in store.probe()
        with pytest.raises(StateError, match=r"another process is writing to it \(let it finish, then try again\)"):
            store.commit()
        assert store.fills() == []
    assert store.probe() == ""
    store.commit()
    assert len(store.fills()) == 1


def test_read_only_server_is_reported_by_the_probe(postgres, opened, make):
    """A standby answers queries and refuses writes: the probe says so."""
    url = postgres()
    store = opened(url)
    name = sqlalchemy.make_url(url).database
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            assert "it cannot be written (connect to the primary server" in store.probe()
        finally:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert store.probe() == ""


def test_probe_misses_the_head(database, opened):
    """An audit whose head was taken away cannot be written to, and the probe says what to look at."""
    store = opened(database)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM controls WHERE name = 'audit.head'")
    assert "run `torghut audit verify`" in store.probe()
