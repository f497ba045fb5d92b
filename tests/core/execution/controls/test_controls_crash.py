"""Changes of the control that are interrupted: an unfinished release releases nothing, and no stop is lost."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.effort import examples
from torghut_core.audit import SqlAuditStore
from torghut_core.errors import StateError
from torghut_core.execution import controls as module
from torghut_core.execution.controls import ROW, STATES, Controls, _check, _row, _Seen

VICTIM = """
import os, signal, sys
from pathlib import Path
from torghut_core.audit.visit import Visitor
from torghut_core.execution.controls import Controls

def fatal(owner, name, counter, number):
    real = getattr(owner, name)
    def call(*arguments, **options):
        if counter[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        counter[0] += 1
        return real(*arguments, **options)
    setattr(owner, name, call)

for line in sys.stdin:
    state, number = line.split()
    victim = os.fork()
    if not victim:
        counter = [0]
        controls = Controls(Path(sys.argv[1]), sys.argv[2])
        controls.poll()
        for owner, names in (os, "open write fsync utime pwrite"), (Path, "replace rename unlink"), (Visitor, "commit"):
            for name in names.split():
                fatal(owner, name, counter, int(number))
        controls.change(state, reason="next", actor="joe")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]), flush=True)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("halted", "running"),
        pytest.param("running", "halted", marks=pytest.mark.proof),
        pytest.param("running", "pause_entries", marks=pytest.mark.proof),
        pytest.param("halted", "reduce_only", marks=pytest.mark.proof),
    ],
)
def test_turn_killed_at_any_point(tmp_path, sqlite, before, after):
    """SIGKILL before each call to the system and to the database: the strict state holds or the turn is done.

    Afterwards whoever turns again succeeds, and the audit's chain is whole.
    """
    path = tmp_path / "control.json"
    command = [sys.executable, "-c", VICTIM, str(path), sqlite]
    deaths, outcomes = 0, set()
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as nursery,
        closing(Controls(path, sqlite)) as controls,
    ):
        while True:
            controls.poll()
            controls.change(before, reason="drill", actor="jane")
            nursery.stdin.write(f"{after} {deaths}\n")
            status = int(nursery.stdout.readline())
            with closing(Controls(path, sqlite)) as fresh:
                fresh.poll()
                held = fresh.current()
                with closing(SqlAuditStore(sqlite)) as store:
                    places = json.loads(path.read_bytes())["state"], store.control(ROW)["state"]
                    assert held.state == max(places, key=STATES.index)
                    assert held.state in (before, after)
                    if held.state != before and STATES.index(after) < STATES.index(before):
                        assert places == (after, after), "released before it was written in both places"
                    outcomes.add((status, held.state))
                    assert fresh.change(after, reason="again", actor="jane").control.state == after
                    assert store.verify() == []
            if status == 0:
                break
            deaths += 1
        nursery.stdin.close()
    assert outcomes == {(-9, before), (-9, after), (0, after)}
    assert deaths > 10


class Crash(BaseException):
    """The process was killed."""


def test_halt_that_dies_while_it_overwrites_the_file_is_a_halt(tmp_path, monkeypatch):
    """Where no new file can be made, a halt that dies at any step leaves the old control, or one that cannot be read."""
    path, outcomes = tmp_path / "control.json", []
    for number in range(100):
        Controls(path, None).change("running", reason="over", actor="joe")
        left = [number]

        def step(*arguments, real, left=left, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Crash
            return real(*arguments, **options)

        with monkeypatch.context() as dying:
            dying.setattr(module.tempfile, "mkstemp", no_room)
            for name in ("ftruncate", "write", "fchmod", "utime", "fsync"):
                dying.setattr(os, name, partial(step, real=getattr(os, name)))
            try:
                Controls(path, None).change("halted", reason="drill", actor="jane")
            except Crash:
                outcomes.append(Controls(path, None).current().state)
            else:
                break
    assert outcomes == ["running", *["halted"] * 5]
    assert Controls(path, None).current().reason == "drill"


def no_room(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


class Process(Controls):
    """Controls whose database is a list's item, and which fail on demand, before or after a place is written."""

    def __init__(self, path, cell):
        super().__init__(path, "cell")
        self.cell = cell
        self.fault = None

    def _poll_row(self):
        if self.fault == "silent":
            return self._row, "silent"
        return _row(self.cell[0]), ""

    def _write_row(self, control, seen):
        self._fail("row", "before")
        if self.fault == "silent":
            raise StateError("silent")
        _check(control, seen, _row(self.cell[0]))
        self.cell[0] = module.msgspec.to_builtins(control)
        self._row = _Seen(control, self.cell[0])
        self._fail("row", "after")
        return ""

    def _write_file(self, control, seen):
        self._fail("file", "before")
        problem = super()._write_file(control, seen)
        self._fail("file", "after")
        return problem

    def _fail(self, place, moment):
        if self.fault == ("crash", place, moment):
            raise Crash
        if self.fault == ("refuse", place):
            raise StateError("refused")


FAULTS = [
    None,
    None,
    "silent",
    *(("crash", place, moment) for place in ("row", "file") for moment in ("before", "after")),
    ("refuse", "row"),
    ("refuse", "file"),
]


NO_CONTROLS = [
    lambda path: path.write_text(""),
    lambda path: path.write_text("stop"),
    lambda path: path.write_text('{"state":"running","reason":"","actor":"","at":1e30}'),
    lambda path: path.write_text('{"state":"running","reason":"","actor":"","at":-1}'),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to(path),
    os.mkfifo,
]
"""What may be put in the file's place, and is no control."""


class Operators(RuleBasedStateMachine):
    """Two processes change one control with faults; a model says what is in each place."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "control.json"
        self.cell = [None]
        self.processes = [self.fresh(), self.fresh()]
        self.file = self.row = 0  # ranks
        self.floor = 0  # what was acknowledged, and not released since

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def fresh(self):
        process = Process(self.path, self.cell)
        process.poll()
        return process

    @rule(number=st.integers(0, 1), state=st.sampled_from(STATES), fault=st.sampled_from(FAULTS))
    def turn(self, number, state, fault):
        process, rank = self.processes[number], STATES.index(state)
        silent = fault == "silent"
        is_release = rank <= self.file if silent and rank < 3 else rank < max(self.file, self.row)
        order = ["row", "file"] if is_release and self.row <= self.file else ["file", "row"]
        written, crashed = [], False
        if not (silent and is_release):
            for place in order:
                if fault == ("crash", place, "before"):
                    crashed = True
                    break
                is_taken = fault != ("refuse", place) and not (silent and place == "row")
                if not is_release and getattr(self, place) > rank:  # the silent row may be stricter
                    is_taken = False
                if is_taken:
                    setattr(self, place, rank)
                    written.append(place)
                if fault == ("crash", place, "after"):
                    crashed = True
                    break
                if is_release and not is_taken:
                    break
        process.fault = fault
        outcome = "done"
        try:
            process.change(state, reason="r", actor="a")
        except StateError:
            outcome = "refused"
        except Crash:
            outcome = "crashed"
            self.processes[number] = self.fresh()
        process.fault = None
        is_done = len(written) == 2 if is_release else bool(written)
        assert outcome == ("crashed" if crashed else "done" if is_done else "refused")
        if is_release:
            self.floor = rank if len(written) == 2 else self.floor
        elif outcome == "done":
            self.floor = max(self.floor, rank)

    @rule(put=st.sampled_from(NO_CONTROLS))
    def corrupt_file(self, put):
        self.path.unlink(missing_ok=True)
        put(self.path)
        self.file = 3

    @rule(value=st.sampled_from(["stop", {}, {"state": "running"}]))
    def corrupt_row(self, value):
        self.cell[0] = value
        self.row = 3

    @rule(number=st.integers(0, 1))
    def poll(self, number):
        self.processes[number].poll()
        assert self.processes[number].current().rank == max(self.file, self.row)

    @invariant()
    def the_strictest_holds(self):
        if hasattr(self, "path"):
            held = self.fresh().current().rank
            assert held == max(self.file, self.row)
            assert held >= self.floor
            for process in self.processes:  # the file is seen at once, the row at the next poll
                assert process.current().rank >= self.file


TestOperators = Operators.TestCase
TestOperators.settings = examples(100, stateful_step_count=15)
