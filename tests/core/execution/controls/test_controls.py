"""The stop that stops: what each state lets pass, and what holds when one of its two places has failed."""

import errno
import itertools
import json
import os
import socket
import sqlite3
import tempfile
import threading
import time
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core.audit import SqlAuditStore, visit
from torghut_core.audit import database as audit_database
from torghut_core.errors import InputError, StateError
from torghut_core.execution import controls as module
from torghut_core.execution.controls import LATEST, ROW, STATES, Control, Controls
from torghut_core.timestamps import Clock

WHO = {"reason": "drill", "actor": "jane"}


@pytest.fixture
def opened():
    """Open controls as a process of its own would, after a poll of the database; close them at the end."""
    there = []

    def open_controls(path, database):
        there.append(Controls(path, database))
        there[-1].poll()
        return there[-1]

    yield open_controls
    for controls in there:
        controls.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "control.json"


@pytest.fixture
def controls(opened, path, sqlite):
    return opened(path, sqlite)


def row_of(database):
    with closing(SqlAuditStore(database)) as store:
        return store.control(ROW)


def write_row(database, value):
    with closing(SqlAuditStore(database)) as store:
        store.record_control(ROW, value, "someone")


def state_of(path):
    return json.loads(path.read_bytes())["state"]


def fill_disk(monkeypatch, after=0):
    """Let a file take so many more bytes; then the disk is full."""
    real, left = os.write, [after]

    def write(descriptor, content):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = real(descriptor, bytes(content)[: left[0]])
        left[0] -= taken
        return taken

    monkeypatch.setattr(module.os, "write", write)


@contextmanager
def no_folder(path):
    """Put a file where the folder should be: nothing can be written there."""
    path.parent.parent.mkdir(exist_ok=True, parents=True)
    if path.parent.exists():
        path.parent.rename(path.parent.with_name("away"))
    path.parent.write_text("")
    yield
    path.parent.unlink()
    if path.parent.with_name("away").exists():
        path.parent.with_name("away").rename(path.parent)


# What passes


@pytest.mark.parametrize(
    ("state", "flatten", "entry", "exit", "flattening"),
    [
        ("running", False, True, True, True),
        ("pause_entries", False, False, True, True),
        ("reduce_only", False, False, True, True),
        ("halted", False, False, False, False),
        ("halted", True, False, False, True),
    ],
)
def test_each_state_lets_its_orders_pass(controls, state, flatten, entry, exit, flattening):
    """Entries pass while running, exits unless halted, and flattening orders also in a halt that flattens."""
    controls.change(state, flatten=flatten, **WHO)
    line = f"{state.replace('_', '-')}: drill (jane)"
    for passes, kind in ((entry, (False, False)), (exit, (True, False)), (flattening, (True, True))):
        assert controls.refusal(*kind) == ("" if passes else line)


def test_refusal_is_one_line(controls):
    """Whatever the reason contains, a refusal is one short printable line."""
    controls.change("halted", reason="fat\nfinger\x1b[31m \ud800" + "!" * 5000, actor="ja\nne")
    line = controls.refusal(is_exit=True, is_flattening=False)
    assert line.startswith("halted: fat finger [31m ?!!!")
    assert line.endswith("(ja ne)")
    assert line.isprintable()
    assert len(line) < 1100


def test_no_control_is_running(controls, path):
    """Without a file and without a row the state is running."""
    assert controls.current().state == "running"
    assert controls.refusal(is_exit=False, is_flattening=False) == ""
    assert controls.health() == []
    assert not path.exists()


def test_before_the_first_poll_everything_is_halted(path, sqlite):
    """A process that has not read the database yet sends nothing."""
    controls = Controls(path, sqlite)
    assert controls.refusal(is_exit=True, is_flattening=True).startswith("halted: the audit database was not asked yet")
    assert Controls(path, None).refusal(is_exit=False, is_flattening=False) == ""


# Turning


@pytest.mark.parametrize(("before", "after"), list(itertools.product(STATES, STATES)))
def test_every_transition_is_seen_everywhere(opened, path, sqlite, before, after):
    """A change from each state to each is in file and database, and seen by a process that starts, and one that runs."""
    controls, other = opened(path, sqlite), opened(path, sqlite)
    controls.change(before, **WHO)
    turned = controls.change(after, reason="next", actor="joe")
    assert turned.control == Control(state=after, reason="next", actor="joe", at=turned.control.at)
    assert sorted(turned.written) == ["database", "file"]
    assert turned.problems == []
    other.poll()
    assert controls.current() == other.current() == opened(path, sqlite).current() == turned.control
    assert row_of(sqlite)["state"] == state_of(path) == after


def test_changes_are_in_the_audit_log(controls, database, opened, path):
    """Each change is an entry with its actor, and the chain is intact."""
    controls = opened(path, database)
    controls.change("halted", reason="drill", actor="jane", flatten=True)
    controls.change("running", reason="over", actor="joe")
    with closing(SqlAuditStore(database)) as store:
        log = store.rows("controls", name=ROW)
        assert [(row["value"]["state"], row["actor"]) for row in log] == [("running", "joe")]
        assert store.verify() == []
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        query = f"SELECT actor FROM audit_log WHERE table_name = 'controls' AND row_key = '{ROW}' ORDER BY seq"
        assert connection.exec_driver_sql(query).scalars().all()[-2:] == ["jane", "joe"]


def test_another_machine_sees_the_row(opened, tmp_path, database):
    """A replica with the same database and another state directory halts, and resumes, at its next poll."""
    here, there = opened(tmp_path / "a" / "control.json", database), opened(tmp_path / "b" / "control.json", database)
    here.change("halted", **WHO)
    assert there.current().state == "running"
    there.poll()
    assert there.current().state == "halted"
    here.change("running", **WHO)
    there.poll()
    assert there.current().state == "running"


@pytest.mark.parametrize("fields", [{"reason": "", "actor": "jane"}, {"reason": "over", "actor": " \n"}])
def test_release_needs_reason_and_actor(controls, fields):
    """A release needs a reason and an actor; a stop does not."""
    controls.change("halted", reason="", actor="")
    with pytest.raises(InputError, match="a release from 'halted' needs a reason and an actor"):
        controls.change("pause_entries", **fields)
    assert str(controls.current()) == "halted: no reason given"


def test_nonsense_is_refused(controls):
    """An unknown state, and `flatten` without a halt, are errors that name the valid values."""
    with pytest.raises(InputError, match=r"unknown state 'stopped' \(choose one of running, pause_entries"):
        controls.change("stopped", **WHO)
    with pytest.raises(InputError, match="positions are closed only when halted"):
        controls.change("reduce_only", flatten=True, **WHO)


def test_newer_of_two_halts_says_whether_to_flatten(controls):
    """A second halt may start the flattening, and end it."""
    for flatten in (False, True, False):
        controls.change("halted", flatten=flatten, **WHO)
        assert controls.current().flatten is flatten


def test_release_of_what_was_replaced_is_refused(controls):
    """A release of the control that the operator saw does not release a newer one."""
    first = controls.change("halted", reason="drill", actor="jane").control
    second = controls.change("halted", reason="fire", actor="joe").control
    with pytest.raises(StateError, match=r"another control applies by now: halted: fire \(joe\)"):
        controls.change("running", releases=first.at, **WHO)
    assert controls.change("running", releases=second.at, **WHO).control.state == "running"


def test_times_go_up(path, sqlite):
    """Each change has a later time than the one before, whatever the clock says."""
    controls = Controls(path, sqlite, clock=Clock(wall=lambda: 5))
    controls.poll()
    times = [controls.change(state, **WHO).control.at for state in ("halted", "halted", "running", "pause_entries")]
    assert times == sorted(set(times))
    controls.close()


# A place that has failed


@pytest.mark.parametrize(
    "content", [b"", b"stop", b"{", b'{"state": "running"}', b"\x00" * 10, b" " * 100_000, b'{"state": "on"}', b"null"]
)
def test_file_of_nonsense_halts(controls, path, content):
    """A file that is not a control halts with a reason, and the next change replaces it."""
    path.parent.mkdir()
    path.write_bytes(content)
    assert controls.refusal(is_exit=True, is_flattening=True).startswith(f"halted: {path} cannot be read")
    assert len(controls.health()) == 1
    assert controls.change("running", **WHO).control.state == "running"
    assert controls.health() == []


def test_file_with_an_unknown_field_or_a_contradiction_halts(controls, path):
    """A misspelt key, and `flatten` without a halt, make a file invalid: it halts."""
    path.parent.mkdir()
    good = {"state": "running", "reason": "", "actor": "", "at": 1}
    for wrong in ({"flaten": True}, {"flatten": True}):
        path.write_text(json.dumps(good | wrong))
        assert controls.current().state == "halted"
    path.write_text(json.dumps(good))
    assert controls.current().state == "running"


def put_folder(path):
    path.mkdir()
    (path / "kept").touch()


def put_socket(path):
    with closing(socket.socket(socket.AF_UNIX)) as there:
        there.bind(str(path))


def put_control(path, **fields):
    path.write_text(json.dumps({"state": "running", "reason": "", "actor": "", "at": 1} | fields))


THINGS = {
    "a folder": put_folder,
    "a pipe": os.mkfifo,
    "a socket": put_socket,
    "a link to a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "a link to a folder": lambda path: path.symlink_to("/tmp"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a huge file": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "a control and much behind it": lambda path: put_control(path, reason=" " * 70_000),
    "a control of no clock": lambda path: put_control(path, at=10**30),
    "a control of no integer": lambda path: path.write_text('{"state":"running","reason":"","actor":"","at":1e30}'),
    "a control of the last nanosecond": lambda path: put_control(path, at=2**63 - 1),
    "a control beyond it": lambda path: put_control(path, at=2**64),
    "a control before all time": lambda path: put_control(path, at=-(2**63) - 1),
    "a control with half a nanosecond": lambda path: put_control(path, at=0.5),
    "a deep list": lambda path: path.write_text('{"state":' + "[" * 30_000),
}
"""What may stand in the place of the control, and is none."""


@pytest.mark.parametrize("thing", THINGS)
def test_whatever_stands_in_the_place_of_the_control_halts_and_a_halt_replaces_it(controls, opened, path, thing):
    """What is no control halts, without waiting for it; a halt puts its own there, and a release then succeeds."""
    path.parent.mkdir()
    THINGS[thing](path)
    assert controls.refusal(is_exit=True, is_flattening=True).startswith(f"halted: {path} cannot be read")
    assert len(controls.health()) == 1
    turned = controls.change("halted", flatten=True, **WHO)
    assert turned.written == ["file", "database"]
    assert turned.control == opened(path, None).current() == controls.current()
    assert (turned.control.reason, turned.control.flatten) == ("drill", True)
    assert controls.health() == []
    assert controls.change("running", **WHO).control.state == opened(path, None).current().state == "running"


def test_folder_that_a_halt_moved_away_is_kept(controls, path):
    """The answer names where the folder is now, with what was in it."""
    path.parent.mkdir()
    put_folder(path)
    turned = controls.change("halted", **WHO)
    moved = next(path.parent.glob("*.tmp"))
    assert turned.problems == [f"file: a folder was there: it is {moved} now"]
    assert (moved / "kept").exists()


def test_there_is_no_moment_without_a_control_while_a_folder_is_moved_away(path):
    """A kernel that looks at any time sees a halt: the folder's, then the operator's."""
    path.parent.mkdir()
    seen, controls, is_over = set(), Controls(path, None), threading.Event()

    def look():
        while not is_over.is_set():
            seen.add(controls.current().state)

    put_folder(path)
    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(50):
        Controls(path, None).change("halted", **WHO)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            (Path(folder) / "it").mkdir()
            module._exchange(f"{folder}/it", path)
    is_over.set()
    thread.join()
    assert seen == {"halted"}


@pytest.mark.parametrize("thing", THINGS)
def test_whatever_stands_beside_the_control_a_halt_is_written(controls, path, thing, monkeypatch):
    """Neither the lock nor what a release stages holds up a halt; a release fails in time, and names what is wrong."""
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    for name in ("control.lock", "control.next"):
        path.parent.mkdir(exist_ok=True)
        THINGS[thing](path.with_name(name))
    turned = controls.change("halted", **WHO)
    assert turned.written == ["file", "database"]
    assert state_of(path) == "halted"
    with suppress(StateError):
        controls.change("running", **WHO)
    assert controls.change("halted", **WHO).written == ["file", "database"]


def test_pipe_in_the_place_of_the_lock_is_named(controls, path):
    """A release does not wait for what opens a pipe: it says what stands in the lock's place."""
    controls.change("halted", **WHO)
    os.mkfifo(path.with_name("control.lock"))
    with pytest.raises(StateError, match=r"control.lock: it is a pipe, not a regular file \(move it away"):
        controls.change("running", **WHO)
    assert controls.current().state == "halted"


@pytest.mark.parametrize("name", ["mkstemp", "replace"])
def test_halt_overwrites_where_no_file_can_be_put(controls, opened, path, monkeypatch, name):
    """Without room for a new file, or where the file is a mount of its own, the one that is there is overwritten."""
    controls.change("running", **WHO)

    def fail(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(module.tempfile if name == "mkstemp" else Path, name, fail)
    turned = controls.change("halted", flatten=True, **WHO)
    assert turned.written == ["file", "database"]
    assert turned.problems == ["file: Device or resource busy: halted, by overwriting the file that was there"]
    assert turned.control == opened(path, None).current()
    assert turned.control.flatten


def test_halt_never_overwrites_what_a_link_names(opened, path, tmp_path, monkeypatch):
    """A link in the control's place is replaced, and never followed to write."""
    other = tmp_path / "other"
    other.write_text("precious")
    path.parent.mkdir()
    path.symlink_to(other)
    monkeypatch.setattr(module.tempfile, "mkstemp", lambda *_: _raise(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StateError, match="could not be written anywhere"):
        opened(path, None).change("halted", **WHO)
    monkeypatch.undo()
    opened(path, None).change("halted", **WHO)
    assert other.read_text() == "precious"


@given(
    content=st.binary(max_size=200)
    | st.builds(
        lambda fields: json.dumps(fields).encode(),
        st.fixed_dictionaries(
            {
                "state": st.sampled_from(STATES) | st.text(),
                "reason": st.text(),
                "actor": st.text(),
                "at": st.integers() | st.floats() | st.sampled_from([0, LATEST - 1, LATEST, LATEST + 1, 2**63, 2**64]),
            },
            optional={"flatten": st.booleans() | st.none()},
        ),
    ),
    flatten=st.booleans(),
)
@examples(2000, quick=40, deadline=None)
def test_no_content_of_the_file_keeps_a_halt_away(tmp_path_factory, content, flatten):
    """Whatever the file holds, nothing raises; it is a control or a halt; a halt and then a release replace it."""
    path = tmp_path_factory.mktemp("state") / "control.json"
    path.write_bytes(content)
    controls = Controls(path, None)
    assert controls.current().state in STATES
    halt = controls.change("halted", flatten=flatten, **WHO).control
    assert Controls(path, None).current() == halt
    assert (halt.reason, halt.flatten) == ("drill", flatten)
    assert controls.change("running", **WHO).control == Controls(path, None).current()


def test_after_the_latest_time_controls_still_change(path):
    """A control of the largest time is one, and is replaced by others of the same time."""
    path.parent.mkdir()
    put_control(path, at=LATEST)
    controls = Controls(path, None)
    assert controls.current().state == "running"
    for state in ("halted", "running", "halted", "reduce_only"):
        assert controls.change(state, **WHO).control.state == Controls(path, None).current().state == state


def test_row_of_no_clock_halts_and_is_replaced(controls, sqlite):
    """A time in the database that no clock gives halts as nonsense does, and a halt replaces it."""
    for at in (10**30, -1, 2**63, 0.5, 1e30):
        write_row(sqlite, {"state": "running", "reason": "", "actor": "", "at": at})
        controls.poll()
        assert controls.current().state == "halted"
        assert controls.change("halted", **WHO).written == ["file", "database"]
        assert controls.change("running", **WHO).control.state == "running"


def test_file_that_may_not_be_read_halts_until_it_may(controls, path, monkeypatch):
    """Without permission to read the file everything is halted; with it again the file's state holds."""
    controls.change("running", **WHO)
    real = os.open

    def refuse(name, *arguments):
        if name == str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, *arguments)

    monkeypatch.setattr(module.os, "open", refuse)
    assert controls.health() == [f"{path} cannot be read: Permission denied"]
    path.touch()
    assert controls.current().state == "halted"
    monkeypatch.undo()
    assert controls.current().state == "running"


def test_unwritable_folder_leaves_the_database(controls, path, sqlite, opened):
    """If the file cannot be written, a stop is written to the database at once, and a release is refused."""
    with no_folder(path):
        turned = controls.change("halted", **WHO)
        assert turned.written == ["database"]
        assert "Not a directory" in turned.problems[0] or "File exists" in turned.problems[0]
        assert row_of(sqlite)["state"] == "halted"
        with pytest.raises(StateError, match="this still applies: halted"):
            controls.change("running", **WHO)
        assert controls.current().state == "halted"
    write_row(sqlite, row_of(sqlite) | {"state": "halted"})
    assert opened(path, sqlite).current().state == "halted"


@pytest.mark.parametrize("room", [0, 20])
def test_full_disk_halts(controls, path, sqlite, opened, monkeypatch, room):
    """With a full disk an empty file halts, and the answer says so."""
    controls.change("running", **WHO)
    with monkeypatch.context() as full:
        fill_disk(full, room)
        turned = controls.change("halted", flatten=True, **WHO)
    assert turned.written == ["file", "database"]
    assert "No space left on device: halted, but without the reason and flatten" in turned.problems[0]
    assert path.read_bytes() == b""
    assert opened(path, None).current().state == "halted"
    assert list(path.parent.glob("*.tmp")) == []


def test_full_disk_releases_nothing(controls, path, sqlite, monkeypatch):
    """A release that cannot be written to the file changes nothing, and can be repeated later."""
    controls.change("halted", **WHO)
    with monkeypatch.context() as full:
        fill_disk(full, 20)
        with pytest.raises(StateError, match=r"this still applies: halted: drill \(jane\); file: .*No space left"):
            controls.change("running", reason="over", actor="joe")
    assert controls.current().state == state_of(path) == "halted"
    assert controls.change("running", reason="over", actor="joe").control.state == "running"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["control.json", "control.lock"]


@pytest.mark.parametrize("value", ["stop", {"state": "on"}, {"state": "running"}, [], 7])
def test_row_of_nonsense_halts(controls, path, sqlite, value):
    """A row that is not a control halts, and the next change replaces it."""
    write_row(sqlite, value)
    controls.poll()
    assert controls.refusal(is_exit=True, is_flattening=True).startswith(f"halted: the row {ROW}")
    assert controls.change("running", **WHO).control.state == "running"
    assert controls.health() == []


def test_row_that_is_no_json_halts(controls, sqlite):
    """A row whose JSON is broken halts; a new halt is written to the file, and a release is refused."""
    controls.change("running", **WHO)
    with closing(sqlite3.connect(sqlite.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE controls SET value = '{' WHERE name = ?", (ROW,))
    controls.poll()
    assert controls.current().state == "halted"
    turned = controls.change("halted", **WHO)
    assert turned.written == ["file"]
    assert "audit verify" in turned.problems[0]
    with pytest.raises(StateError, match="nothing is released"):
        controls.change("running", **WHO)


def test_unreachable_database_leaves_the_file(opened, path):
    """Without a server a stop, and a stricter one, is written to the file within the call; a release is refused."""
    controls = opened(path, "postgresql://me:s3cret@127.0.0.1:1/none")
    assert controls.current().state == "halted"
    turned = controls.change("pause_entries", **WHO)
    assert turned.written == ["file"]
    assert "s3cret" not in turned.problems[0]
    assert state_of(path) == "pause_entries"
    assert controls.change("halted", **WHO).written == ["file"]
    for state in ("reduce_only", "running"):
        with pytest.raises(StateError, match="nothing is released: audit database"):
            controls.change(state, **WHO)
    assert state_of(path) == "halted"
    assert "connection" in controls.health()[1]


def test_running_needs_the_database(opened, path):
    """A file that says running is not enough: the database may say halted."""
    opened(path, None).change("running", **WHO)
    with pytest.raises(StateError, match="nothing is released"):
        opened(path, "postgresql://127.0.0.1:1/none").change("running", **WHO)


def test_stop_that_cannot_be_written_is_an_error(opened, path):
    """If neither file nor database can be written, the error has both reasons."""
    controls = opened(path, "postgresql://127.0.0.1:1/none")
    with (
        no_folder(path),
        pytest.raises(StateError, match=r"halted could not be written anywhere: file: .*; database: "),
    ):
        controls.change("halted", **WHO)


def test_lost_database_keeps_its_last_state(controls, path, sqlite, monkeypatch):
    """While the database is away its last state holds, `health` says so, and a new stop holds by the file."""
    controls.change("pause_entries", **WHO)
    path.unlink()

    def silent(engine):
        raise StateError("audit database: gone")

    with monkeypatch.context() as patched:
        patched.setattr(visit, "reading", silent)
        controls.poll()
        assert controls.current().state == "pause_entries"
        assert controls.health() == ["audit database: gone"]
        controls.change("halted", **WHO)
    controls.poll()
    assert controls.health() == []


def test_poll_gives_up_on_a_database_that_hangs(controls, monkeypatch):
    """A server that hangs blocks neither poll nor change, gets no second query meanwhile, and counts once it answers."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(visit, "VISIT_SECONDS", 0.05)
    asked, answer, real = [], threading.Event(), visit.reading

    @contextmanager
    def hang(engine):
        asked.append(threading.current_thread())
        answer.wait(10)
        with real(engine) as connection:
            yield connection

    controls.change("pause_entries", **WHO)
    monkeypatch.setattr(visit, "reading", hang)
    started = time.monotonic()
    controls.poll()
    controls.poll()
    assert len(asked) == 1
    assert "does not answer within 0.05 s" in controls.health()[0]
    assert controls.current().state == "pause_entries"
    assert time.monotonic() - started < 2
    answer.set()
    asked[0].join()
    controls.poll()
    assert controls.health() == []


def test_frozen_server_delays_no_halt(opened, path, postgres):
    """With a frozen server a halt is in the file within the call, and in the row once the server resumes."""
    controls = opened(path, postgres)
    engine = sqlalchemy.create_engine(postgres, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:  # as a kernel that was frozen in the middle of a commit
        connection.exec_driver_sql("SELECT * FROM controls FOR UPDATE")
        started = time.monotonic()
        worker = threading.Thread(target=controls.change, args=("halted",), kwargs=WHO)
        worker.start()
        while controls.current().state != "halted":
            assert time.monotonic() - started < 1
        controls.poll()
    worker.join()
    assert controls.current().state == "halted"
    assert row_of(postgres)["state"] == "halted"


def test_locked_sqlite_leaves_the_file(controls, sqlite, monkeypatch):
    """While another process locks the database, a stop holds by the file at once; a release waits until its time-out."""
    monkeypatch.setattr(audit_database, "BUSY_TIMEOUT_MS", 100)
    with closing(sqlite3.connect(sqlite.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        controls.change("pause_entries", **WHO)
        connection.execute("BEGIN IMMEDIATE")
        controls.poll()
        assert controls.health() == []
        turned = controls.change("halted", **WHO)
        assert turned.written == ["file"]
        assert "another process is writing to it" in turned.problems[0]
        with pytest.raises(StateError, match="nothing is released, this still applies: halted"):
            controls.change("running", **WHO)
        assert controls.current().state == "halted"
        connection.execute("ROLLBACK")
    assert controls.change("running", **WHO).control.state == "running"


def test_strictest_of_the_two_holds(opened, path, sqlite):
    """Of file and row the stricter one holds, for each pair of states."""
    controls = opened(path, sqlite)
    for file, row in itertools.product(STATES, STATES):
        fields = {"reason": "x", "actor": "y", "at": 1}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"state": file} | fields))
        write_row(sqlite, {"state": row} | fields)
        controls.poll()
        assert controls.current().state == max(file, row, key=STATES.index)


# Costs


def test_current_reads_the_file_only_when_it_changed(controls, path, monkeypatch):
    """While nothing changes, `current` opens no file; each change is seen at once."""
    controls.change("pause_entries", **WHO)
    controls.current()
    reads = []
    real = Controls._read_file
    monkeypatch.setattr(Controls, "_read_file", lambda self: reads.append(1) or real(self))
    for _ in range(100):
        controls.current()
    assert reads == []
    Controls(path, None).change("halted", **WHO)
    assert controls.current().state == "halted"
    path.unlink()
    assert controls.current().state == "pause_entries"


def test_current_is_cheap(controls):
    """`current` is called before each broker call: it takes microseconds, here with a margin for a busy machine."""
    controls.change("running", **WHO)
    best = min(_seconds(controls.current, 2000) for _ in range(5)) / 2000
    assert best < 20e-6


def _seconds(call, times):
    started = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - started


def test_halt_needs_no_database_code(path, sqlite, monkeypatch):
    """A halt is in the file before any code of the database runs, and holds even if that is broken."""
    seen = []
    monkeypatch.setattr(visit, "visit", lambda *_: seen.append(path.exists()) or _raise(RuntimeError("broken")))
    turned = Controls(path, sqlite).change("halted", **WHO)
    assert (turned.written, turned.problems) == (["file"], ["database: broken"])
    assert seen == [True]
    assert state_of(path) == "halted"


def _raise(error):
    raise error


# Changes at the same time


def test_halt_that_comes_while_a_release_is_written_stays(controls, opened, path, sqlite, monkeypatch):
    """A halt at any step of another process's release holds, and the release is an error that names the halt."""
    for step in ("_write_row", "_write_file"):
        for before in (True, False):
            controls.change("halted", **WHO)
            other, real = opened(path, sqlite), getattr(Controls, step)

            def write(self, control, seen, other=other, real=real, before=before):
                if self is not controls:
                    return real(self, control, seen)
                if before:
                    other.change("halted", reason="fire", actor="joe")
                problem = real(self, control, seen)
                if not before:
                    other.change("halted", reason="fire", actor="joe")
                return problem

            monkeypatch.setattr(Controls, step, write)
            is_over = (step, before) == ("_write_file", False)
            error = r"this came meanwhile: halted: fire \(joe\)"
            with nullcontext() if is_over else pytest.raises(StateError, match=error):
                controls.change("running", **WHO)
            monkeypatch.undo()
            controls.poll()
            assert str(controls.current()) == str(opened(path, sqlite).current()) == "halted: fire (joe)"


@pytest.mark.parametrize("step", ["open", "write", "fsync", "utime", "rename", "unlink"])
def test_halt_within_the_replacement_of_the_file_stays(path, monkeypatch, step):
    """A halt at any system call of another process's release holds, and does not wait for the release."""
    number = 0
    while True:
        path.parent.mkdir(exist_ok=True)
        releasing, halting, calls = Controls(path, None), Controls(path, None), itertools.count()
        seen = releasing.change("halted", **WHO).control.at
        owner = module.Path if step in ("rename", "unlink") else module.os
        real, is_in = getattr(owner, step), [False]

        def intercepted(*arguments, real=real, is_in=is_in, calls=calls, halting=halting, number=number, **options):
            if not is_in[0] and next(calls) == number:
                is_in[0] = True
                halting.change("halted", reason="fire", actor="joe")
            return real(*arguments, **options)

        monkeypatch.setattr(owner, step, intercepted)
        try:
            releasing.change("running", releases=seen, **WHO)
        except StateError:
            assert is_in[0]
        monkeypatch.undo()
        if not is_in[0]:
            assert number
            break
        assert str(halting.current()) == "halted: fire (joe)", number
        number += 1


def test_halt_that_is_replaced_at_once_comes_back(path, monkeypatch):
    """If a release that has not seen a halt replaces it, the halting process writes its halt again."""
    controls, real = Controls(path, None), Path.unlink
    controls.change("running", **WHO)
    looked = path.read_bytes()

    def unlink(self, missing_ok=False):
        if self.suffix == ".next":
            monkeypatch.undo()
            self.write_bytes(looked)
            self.rename(path)
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert controls.change("halted", **WHO).control.state == "halted"
    assert Path.unlink is real
    assert state_of(path) == "halted"


def test_pause_does_not_soften_a_halt_that_came_meanwhile(controls, opened, path, sqlite, monkeypatch):
    """A change to a stricter state leaves a still stricter one that came meanwhile."""
    other, real = opened(path, sqlite), Controls._tighten

    def tighten(self, control):
        if self is controls:
            other.change("halted", reason="fire", actor="joe")
        return real(self, control)

    monkeypatch.setattr(Controls, "_tighten", tighten)
    with pytest.raises(
        StateError, match=r"pause_entries could not be written anywhere: file: this came meanwhile: halted: fire"
    ):
        controls.change("pause_entries", **WHO)
    controls.poll()
    assert str(controls.current()) == "halted: fire (joe)"


def test_halt_waits_for_no_lock(controls, path, monkeypatch):
    """While another process holds the file's lock, a halt is written; any other change is refused after a time-out."""
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    controls.change("pause_entries", **WHO)
    with controls._staging():
        with pytest.raises(StateError, match=r"control.lock for 0.05 s \(end it\)"):
            controls.change("running", **WHO)
        assert controls.change("halted", **WHO).problems == []
    assert controls.change("running", **WHO).control.state == "running"


def test_poll_does_not_undo_a_change_that_was_made_meanwhile(controls, path, monkeypatch):
    """A row that a poll read before a change does not replace the change."""
    real = Controls._poll_row

    def ask(self):
        answer = real(self)
        monkeypatch.undo()
        with no_folder(path):
            self.change("halted", **WHO)
        return answer

    monkeypatch.setattr(Controls, "_poll_row", ask)
    controls.poll()
    assert controls.current().state == "halted"


def test_halt_among_many_changes_stays(path, sqlite, opened):
    """While other processes change the control as fast as they can, each only what it has seen, a halt holds."""
    first, second, third = (opened(path, sqlite) for _ in range(3))
    is_halted, turns = threading.Event(), []

    def turn(controls, state):
        while (seen := controls.current()).state != "halted":
            with suppress(StateError):
                controls.change(state, releases=seen.at, **WHO)
                turns.append(state)
            controls.poll()
        is_halted.wait(10)
        with suppress(StateError):
            controls.change(state, releases=seen.at - 1, **WHO)

    threads = [
        threading.Thread(target=turn, args=arguments) for arguments in ((first, "reduce_only"), (second, "running"))
    ]
    for thread in threads:
        thread.start()
    while len(turns) < 10:
        time.sleep(0.001)
    third.change("halted", reason="fire", actor="joe")
    is_halted.set()
    for thread in threads:
        thread.join()
    assert state_of(path) == row_of(sqlite)["state"] == "halted"
    assert str(opened(path, sqlite).current()) == "halted: fire (joe)"
    with closing(SqlAuditStore(sqlite)) as store:
        assert store.verify() == []
