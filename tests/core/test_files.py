"""What stands in a file's place is opened only if it is a regular file, and read only as far as such a file may go."""

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from torghut_core import Environment, SettingsError
from torghut_core.admin.client import connect
from torghut_core.audit import SqlAuditStore
from torghut_core.environment import secret
from torghut_core.errors import StateError
from torghut_core.execution.lease import FileLease
from torghut_core.files import open_file, open_lock, read_file
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.market_data.jangar import _read as read_universe
from torghut_core.market_data.snapshots import SnapshotStore
from torghut_core.plugin_host.code import Disk


def put_socket(path):
    with closing(socket.socket(socket.AF_UNIX)) as there:
        there.bind(str(path))


def put_huge(path):
    path.touch()
    os.truncate(path, 1 << 40)


THINGS = {
    "it is a pipe, not a regular file": os.mkfifo,
    "it is a socket, not a regular file": put_socket,
    "it is a device, not a regular file": lambda path: path.symlink_to("/dev/zero"),
    "Is a directory": Path.mkdir,
    "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
}
HUGE = {"bytes": put_huge}

each_thing = pytest.mark.parametrize(("told", "put"), THINGS.items(), ids=list(THINGS))
each_thing_or_huge = pytest.mark.parametrize(
    ("told", "put"), (THINGS | HUGE).items(), ids=[*THINGS, "a file without end"]
)


def test_regular_file_is_read_up_to_its_bound(tmp_path):
    """A file of as many bytes as it may have is read, by a link too; one more is an error that says how many."""
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    file.write_bytes(b"x" * 1000)
    assert read_file(link, 1000) == b"x" * 1000
    with pytest.raises(OSError, match="it has more than 999 bytes"):
        read_file(str(link), 999)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none", 1000)


def test_file_that_grows_while_it_is_read_is_bounded():
    """A file that says it is empty, and is not, is read no further than its bound."""
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_file("/proc/self/status", 10)
    assert b"Name:" in read_file("/proc/self/status", 1 << 20)


@each_thing
def test_nothing_but_a_regular_file_is_opened(tmp_path, told, put):
    """Neither to read nor to write nor to lock; nothing waits, and no descriptor is left open."""
    put(tmp_path / "thing")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_RDWR):
        with pytest.raises(OSError, match=told):
            open_file(tmp_path / "thing", flags)
    with pytest.raises(OSError, match=told):
        open_lock(tmp_path / "thing")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_lock_is_never_a_link(tmp_path):
    """Who may make links in a folder cannot have another file emptied or locked."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"):
        open_lock(tmp_path / "lock")
    with pytest.raises(StateError, match="state directory"):
        StateDirectory(tmp_path).acquire()
    assert (tmp_path / "precious").read_text() == "precious"


class Sea(Environment):
    sea_key: SecretStr | None = None


@each_thing_or_huge
def test_secret_that_is_no_file_is_an_error(tmp_path, monkeypatch, told, put):
    """A setting's secret and a plugin's are errors with the name of the variable and what stands there."""
    put(tmp_path / "key")
    monkeypatch.setenv("SEA_KEY_FILE", str(tmp_path / "key"))
    for read in (Sea.read, lambda: secret("SEA_KEY")):
        with pytest.raises(SettingsError, match=f"^SEA_KEY_FILE: .*{told}"):
            read()


def test_secret_that_is_no_text_is_an_error(tmp_path, monkeypatch):
    """Bytes that are not UTF-8 are no secret; the message does not show them."""
    (tmp_path / "key").write_bytes(b"secret\xff")
    monkeypatch.setenv("SEA_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="it is not UTF-8") as caught:
        secret("SEA_KEY")
    assert "secret\\" not in str(caught.value)


@each_thing_or_huge
def test_address_of_the_kernel_that_is_no_file_is_an_error(tmp_path, told, put):
    """`admin.json` of another kind holds up no command."""
    put(tmp_path / "admin.json")
    with pytest.raises(StateError, match=told):
        connect(None, tmp_path, None)


def test_address_of_the_kernel_that_is_nested_without_end_is_an_error(tmp_path):
    """A file that no kernel wrote is an error, not a traceback."""
    (tmp_path / "admin.json").write_text("[" * 60_000)
    with pytest.raises(StateError, match="not as torghut wrote it"):
        connect(None, tmp_path, None)


@each_thing
def test_lock_that_is_no_file_is_an_error(tmp_path, told, put):
    """A start names the state directory's lock, or the account's, and what stands there."""
    put(tmp_path / "lock")
    with pytest.raises(StateError, match=told):
        StateDirectory(tmp_path).acquire()
    with pytest.raises(StateError, match=told):
        FileLease(tmp_path / "audit.db", "paper", tmp_path, tmp_path / "lock")._try_lock()


@each_thing_or_huge
def test_list_of_symbols_that_is_no_file_is_not_used(tmp_path, told, put):
    """The stored universe is left aside, with a reason."""
    put(tmp_path / "universe.json")
    symbols, problem = read_universe(tmp_path / "universe.json", "equity", 10)
    assert symbols is None
    assert told in problem


@each_thing_or_huge
def test_head_of_the_audit_log_that_is_no_file_is_an_error(tmp_path, told, put):
    """Nothing is written on a log whose head cannot be read; the commit does not wait for it."""
    store = SqlAuditStore(tmp_path / "audit.db")
    (tmp_path / "audit.head").unlink()
    put(tmp_path / "audit.head")
    store.record_control("drill", 1, "jane")
    with pytest.raises(StateError, match=told):
        store.commit()
    with pytest.raises(StateError, match=told):
        store.close()


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir, put_huge])
def test_snapshot_that_is_no_file_is_an_error(tmp_path, put):
    """A stage does not start cold because something else stands in its snapshot's place."""
    store = SnapshotStore(str(tmp_path))
    put(tmp_path / "ta.snapshot")
    with pytest.raises(StateError, match=r"ta\.snapshot: "):
        store.load("ta")


@each_thing
def test_plugin_that_is_no_file_is_a_trouble(tmp_path, told, put):
    """A folder of plugins with something else in it is not read, and says why."""
    put(tmp_path / "drill.py")
    code, _ = Disk({}).folder(tmp_path, {})
    assert told in code.trouble


def test_process_that_a_plugin_has_forked_holds_no_lock(tmp_path):
    """It held the state directory and the lease after the kernel was gone, and nobody could trade."""

    def open_lease():
        return FileLease(tmp_path / "audit.db", "paper", tmp_path, tmp_path / "trader.lock")

    with closing(SqlAuditStore(tmp_path / "audit.db")):
        pass
    first, lease = StateDirectory(tmp_path / "state"), open_lease()
    first.acquire()
    assert lease.acquire()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)  # until the test ends
        os._exit(0)
    try:
        second, other = StateDirectory(tmp_path / "state"), open_lease()
        assert not second.try_acquire()
        assert not other.acquire()
        first.release()
        lease.release()
        assert second.try_acquire()
        assert other.acquire()
        second.release()
        other.release()
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)
