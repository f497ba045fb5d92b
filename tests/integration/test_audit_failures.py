"""Disks that are full, databases that are locked, damaged, read-only or none: the error says what to do about it."""

import errno
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from torghut_core.audit import SqlAuditStore, database
from torghut_core.errors import StateError


def write(store, first, last):
    for n in range(first, last):
        store.record_control(f"control-{n}", "x" * 1000, "ops")


@pytest.fixture
def store(tmp_path):
    """A store with one committed row."""
    store = SqlAuditStore(tmp_path / "audit.db")
    write(store, 0, 1)
    store.commit()
    yield store
    store.close()


def limit_pages(store, pages):
    """Let SQLite believe that the disk has room for so many pages."""
    store._engine.dispose()
    event.listen(store._engine, "connect", lambda connection, _: connection.execute(f"PRAGMA max_page_count = {pages}"))


def test_full_disk_writes_nothing_and_the_next_commit_tries_again(store):
    """A commit that does not fit is undone whole; what was there is readable, and nothing is forgotten."""
    limit_pages(store, 60)
    write(store, 1, 500)
    with pytest.raises(StateError, match=r"audit\.db: the disk is full \(free some space, then try again\)"):
        store.commit()
    assert [row["name"] for row in store.rows("controls")] == ["control-0"]
    assert store.verify() == []
    limit_pages(store, 1_000_000)
    store.commit()
    assert len(store.rows("controls")) == 500
    assert store.verify() == []


FULL = """
import resource, sys
from torghut_core.audit import SqlAuditStore
from torghut_core.errors import StateError
store = SqlAuditStore(sys.argv[1])
store.record_control("first", 1, "ops")
store.commit()
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
for n in range(1000):
    store.record_control(f"control-{n}", "x" * 1000, "ops")
try:
    store.commit()
except StateError as error:
    print(error)
print([row["name"] for row in store.rows("controls")], store.verify())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.close()
print(len(store.rows("controls")))
"""


def test_write_that_the_system_refuses_is_undone(tmp_path):
    """A limit on file sizes, set by the system and not by SQLite, ends in the same way."""
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("a limit on file sizes is set already")
    result = subprocess.run(
        [sys.executable, "-c", FULL, f"sqlite:///{tmp_path / 'audit.db'}"], capture_output=True, text=True, check=True
    )
    error, after, last = result.stdout.splitlines()
    assert "free some space" in error
    assert after == "['first'] []"
    assert last == "1001"


def test_locked_database_is_an_error_and_the_next_commit_writes(tmp_path, monkeypatch):
    """While another process holds the lock, a commit raises with the reason; afterwards it succeeds."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    with closing(SqlAuditStore(tmp_path / "audit.db")) as store:
        write(store, 0, 1)
        with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StateError, match=r"another process is writing to it \(let it finish, then try again\)"):
                store.commit()
            assert store.rows("controls") == []
        store.commit()
        assert len(store.rows("controls")) == 1


def test_database_locked_from_the_start_is_an_error(tmp_path, monkeypatch):
    """A database cannot be made while another process holds the file."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateError, match="another process is writing to it"):
            SqlAuditStore(tmp_path / "audit.db")


def test_file_that_is_no_database_is_left_alone(tmp_path):
    """Another file under the database's name is not touched."""
    path = tmp_path / "audit.db"
    path.write_text("dear diary " * 1000)
    with pytest.raises(StateError, match=r"audit\.db: it is not a SQLite database \(move the file away"):
        SqlAuditStore(path)
    assert path.read_text() == "dear diary " * 1000


def test_damaged_database_is_an_error(tmp_path):
    """Overwritten pages are an error that says so, not an empty answer."""
    path = tmp_path / "audit.db"
    with closing(SqlAuditStore(path)) as store:
        write(store, 0, 200)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size - size // 2))
    with closing(SqlAuditStore(path)) as store, pytest.raises(StateError, match="it is damaged"):
        store.rows("controls")


def test_missing_folder_is_an_error(tmp_path):
    """The error for a database in a missing folder says to make the folder."""
    with pytest.raises(StateError, match=r"it cannot be opened \(make its folder"):
        SqlAuditStore(tmp_path / "nowhere" / "audit.db")


READ_ONLY = """
import os, sys
from torghut_core.audit.sql import SqlAuditStore
from torghut_core.errors import StateError
if os.getuid() == 0:  # root may write everywhere
    os.setgid(65534)
    os.setuid(65534)
try:
    store = SqlAuditStore(sys.argv[1])
    store.record_control("kill", True, "ops")
    store.commit()
except StateError as error:
    print(error)
"""


@pytest.mark.parametrize("exists", [False, True])
def test_read_only_folder_is_an_error(exists):
    """Neither a new database nor an old one can be used in a read-only folder; the error says to make it writable."""
    with tempfile.TemporaryDirectory() as folder:  # not pytest's: another user has to reach it
        path = Path(folder) / "audit.db"
        if exists:
            SqlAuditStore(path).close()
            path.chmod(0o444)
        Path(folder).chmod(0o555)
        result = subprocess.run(
            [sys.executable, "-c", READ_ONLY, f"sqlite:///{path}"], capture_output=True, text=True, check=True
        )
        Path(folder).chmod(0o755)
    assert result.stdout.startswith(f"audit database {path}: it cannot be ")
    assert "writable" in result.stdout


def test_head_file_that_cannot_be_read_stops_the_commit(store):
    """Without a look at the head file nothing is written on top of the log; then it is."""
    path = store._file.path
    path.unlink()
    path.mkdir()
    write(store, 1, 2)
    with pytest.raises(StateError, match=r"audit\.head: Is a directory"):
        store.commit()
    assert len(store.rows("controls")) == 1
    path.rmdir()
    store.commit()
    assert len(store.rows("controls")) == 2


def test_head_file_that_cannot_be_written_is_an_error_after_the_commit(store, monkeypatch):
    """The commit is durable before its head file is written: the error says so, and nothing is written twice."""

    def full(_head):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(store, 1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(store._file, "write", full)
        with pytest.raises(StateError, match=r"everything is committed, but .*audit\.head: No space left"):
            store.commit()
    store.commit()
    assert [row["name"] for row in store.rows("controls")] == ["control-0", "control-1"]
