"""The stop that stops: whether orders may leave, kept where it can be read and turned whatever else has failed.

A control is kept in two places, in the audit database and in a file beside the state, and the strictest of the two
holds. What cannot be read holds as `halted`, for a wrong order is worse than no order.

Turning towards strict takes one place, the file first: it needs no server. A release takes both, the stricter one last
(the file, where they agree): a process that dies in between leaves that in force. A release replaces only what it has
seen, so that a stop that comes meanwhile stays:

- in the database the row is looked at in the transaction that writes;
- the file is replaced under a lock by one that was *staged* before the look. A halt waits for no lock, since the process
  that has it may be frozen: it puts its own file in place, takes away what is staged, so that a release which has looked
  already cannot replace it any more, and makes sure that its own is there.

A file is always put in place whole, by a rename. Where the disk is too full to write it, a halt puts an empty one there:
that cannot be read, and so it stops as well.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import msgspec

from torghut_core.errors import InputError, StateError
from torghut_core.model.trading import ControlState

if TYPE_CHECKING:
    from torghut_core.audit.visit import ControlReader

STATES: tuple[ControlState, ...] = get_args(ControlState)
"""The states, in order of strictness."""

CONTROL_FILE = "control.json"
"""The file's name in the state directory."""

ROW = "trading.control"
"""The row of ``controls`` in the audit database."""

POLL_SECONDS = 2.0
"""How long `Controls.poll` waits for the database."""

LOCK_SECONDS = 2.0
"""How long a turn that is no halt waits for another one."""

_LONGEST_TEXT = 1000
_LARGEST_FILE = 65536


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the switch stands, since when (`at`, ns), and who turned it why. `flatten` : positions are to be closed."""

    state: ControlState
    reason: str
    actor: str
    at: int
    flatten: bool = False

    def __post_init__(self) -> None:
        if self.flatten and self.state != "halted":
            raise ValueError("only `halted` can flatten")

    @property
    def rank(self) -> int:
        """How strict it is, 0 for `running`."""
        return STATES.index(self.state)

    def __str__(self) -> str:
        """One line, such as ``halted: fat finger (jane)``."""
        text = f"{self.state.replace('_', '-')}: {self.reason or 'no reason given'}"
        return f"{text} ({self.actor})" if self.actor else text


class ControlChange(NamedTuple):
    """What came of a turn: the control that holds now, where the wanted one was written, and why not elsewhere."""

    control: Control
    written: list[str]
    problems: list[str]


class _Seen(NamedTuple):
    """What a place holds: `raw` tells two contents apart, `problem` says why it cannot be read."""

    control: Control
    raw: object
    problem: str = ""


_NOTHING = _Seen(Control(state="running", reason="", actor="", at=0), None)
_UNCACHED: Any = object()


class Controls:
    """The control of one state directory; needs no lock of it, and works beside a running kernel.

    Before the first `poll` the database is not known, and so everything is halted.

    Parameters
    ----------
    path : the file, ``control.json`` in the state directory. ``control.lock`` and ``control.next`` lie beside it.
    database : the audit database, as `SqlAuditStore` takes it; None where there is none, then the file is all.
    clock : wall time, ns.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     controls = Controls(Path(folder) / "control.json", None)
    ...     _ = controls.turn("halted", reason="fat finger", actor="jane")
    ...     controls.refusal(is_exit=True, is_flattening=False)
    'halted: fat finger (jane)'
    """

    def __init__(self, path: Path, database: str | Path | None, clock: Callable[[], int] = time.time_ns) -> None:
        self.path = path
        self._name = str(path)  # `os.stat` of text is twice as fast
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._turns = 0
        self._row = _NOTHING if database is None else _unreadable("the audit database was not asked yet")
        self._silence = ""
        self._reader: ControlReader | None = None
        self._cached: tuple[Any, _Seen, Control] = (_UNCACHED, self._row, self._row.control)

    def current(self) -> Control:
        """The control that holds now. Costs one `stat` while nothing changes; any thread may call it."""
        try:
            found = os.stat(self._name)  # noqa: PTH116 - see above
            mark: Any = (found.st_mtime_ns, found.st_ino, found.st_size)
        except FileNotFoundError:
            mark = None
        except OSError:
            mark = _UNCACHED
        cached_mark, row, control = self._cached
        if mark == cached_mark and row is self._row and mark is not _UNCACHED:
            return control
        row = self._row
        seen, mark = self._read_file()
        control = _strictest(seen, row).control
        self._cached = (mark, row, control)
        return control

    def refusal(self, is_exit: bool, is_flattening: bool) -> str:
        """Why an order may not leave now: code and reason in a line; "" where it may.

        Parameters
        ----------
        is_exit : it only takes off the book.
        is_flattening : it is an exit that the kernel makes because positions are to be closed.
        """
        control = self.current()
        if control.state == "running":
            return ""
        passes = is_flattening and control.flatten if control.state == "halted" else is_exit or is_flattening
        return "" if passes else str(control)

    def poll(self) -> None:
        """Read the database; call it about once a second from a thread that may wait `POLL_SECONDS`. Never raises.

        Where the database does not answer, what it said last holds on, and `health` says so.
        """
        turns = self._turns
        row, silence = self._ask()
        with self._lock:
            if turns == self._turns:  # otherwise a turn knows better
                self._silence = silence
                if row.raw != self._row.raw or row.problem != self._row.problem:
                    self._row = row

    def health(self) -> list[str]:
        """What is wrong with the two places; empty where both can be read."""
        file, _ = self._read_file()
        return [problem for problem in (file.problem, self._row.problem, self._silence) if problem]

    def turn(
        self, state: ControlState, *, reason: str, actor: str, flatten: bool = False, releases: int | None = None
    ) -> ControlChange:
        """Turn the switch, in both places.

        A stricter state is reached when one place took it. A less strict one needs both, a reason and an actor, and
        replaces what this call found, and nothing that came meanwhile.

        Parameters
        ----------
        flatten : positions are to be closed; with `halted` only.
        releases : `at` of the control that a release is meant for; by default the one that holds when this is called.

        Raises
        ------
        InputError : a state that there is not, `flatten` without a halt, a release without reason or actor.
        StateError : no place took it; or it is a release, and one of the two did not, or something else holds by now.
            The message says what holds.
        """
        if state not in STATES:
            raise InputError(f"{state!r} is no state (there are {', '.join(STATES)})")
        if flatten and state != "halted":
            raise InputError(f"flatten with {state!r}: positions are closed when halted only (turn to 'halted')")
        reason, actor = _one_line(reason), _one_line(actor)
        file, _ = self._read_file()
        row, silence = (self._row, "") if state == "halted" else self._ask()  # a halt asks nobody
        newest = max(file.control.at, row.control.at)
        control = Control(state=state, reason=reason, actor=actor, at=max(self._clock(), newest + 1), flatten=flatten)
        if silence:  # it may be halted: only what is stricter than the file is no release then
            is_release = control.rank <= file.control.rank
        else:
            is_release = control.rank < max(file.control.rank, row.control.rank)
        if is_release:
            held = _strictest(file, row).control
            if not (reason and actor):
                raise InputError(f"a release from {held.state!r} needs a reason and an actor (give both)")
            if silence:
                raise StateError(f"nothing is released: {silence}")
            if releases not in (None, held.at):
                raise StateError(f"nothing is released, for something else holds by now: {held} (look, then release)")
            return self._release(control, file, row)
        return self._tighten(control)

    def close(self) -> None:
        """Let go of the database; closing twice is harmless."""
        if self._reader is not None:
            self._reader.close()

    def _tighten(self, control: Control) -> ControlChange:
        written, problems = [], []
        for place, write in self._places():
            try:
                problem = write(control, None)
                written.append(place)
            except StateError as error:
                problem = str(error)
            if problem:
                problems.append(f"{place}: {problem}")
        if not written:
            raise StateError(f"{control.state} is written nowhere: {'; '.join(problems)}")
        return ControlChange(self.current(), written, problems)

    def _release(self, control: Control, file: _Seen, row: _Seen) -> ControlChange:
        written: list[str] = []
        there = {"file": file, "database": row}
        places = sorted(self._places(), key=lambda place: (there[place[0]].control.rank, place[0] == "file"))
        for place, write in places:  # what is strictest goes last, for it holds until then
            try:
                write(control, there[place])
            except StateError as error:
                what = f"{control.state} is written to the {written[0]} only, so" if written else "nothing is released,"
                raise StateError(f"{what} this holds still: {self.current()}; {place}: {error}") from error
            written.append(place)
        return ControlChange(self.current(), written, [])

    def _places(self) -> list[tuple[str, Callable[[Control, _Seen | None], str]]]:
        places: list[tuple[str, Callable[[Control, _Seen | None], str]]] = [("file", self._write_file)]
        if self._database is not None:
            places.append(("database", self._write_row))
        return places

    # The database

    def _ask(self) -> tuple[_Seen, str]:
        """What the row holds; what it held last, and why, where nobody answers."""
        if self._database is None:
            return _NOTHING, ""
        try:
            with self._lock:
                if self._reader is None:
                    from torghut_core.audit.visit import ControlReader  # SQLAlchemy takes 0.4 s, a halt does not wait

                    self._reader = ControlReader(self._database, ROW)
            return _row(self._reader.read(POLL_SECONDS)), ""
        except ValueError as error:
            return _unreadable(f"the row {ROW} of the audit database cannot be read: {error}"), ""
        except Exception as error:  # whatever it is, who polls goes on
            return self._row, str(error) or type(error).__name__

    def _write_row(self, control: Control, seen: _Seen | None) -> str:
        from torghut_core.audit.visit import visit

        assert self._database is not None
        value = msgspec.to_builtins(control)
        visit(
            self._database,
            lambda store: store.turn_control(
                ROW, value, control.actor, lambda there: _check(control, seen, _row(there))
            ),
        )
        with self._lock:
            self._turns += 1
            self._row = _Seen(control, value)
            self._silence = ""
        return ""

    # The file

    def _read_file(self) -> tuple[_Seen, Any]:
        """What the file holds, and by what `current` sees that it is the same still."""
        try:
            descriptor = os.open(self._name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return _NOTHING, None
        except OSError as error:
            return _unreadable(f"{self.path} cannot be read: {error.strerror}"), _UNCACHED
        try:
            found = os.fstat(descriptor)
            raw = os.read(descriptor, _LARGEST_FILE)
            control = msgspec.json.decode(raw, type=Control)
        except OSError as error:
            return _unreadable(f"{self.path} cannot be read: {error.strerror}"), _UNCACHED
        except msgspec.MsgspecError as error:
            return _unreadable(f"{self.path} cannot be read: {error}", raw), _UNCACHED
        finally:
            os.close(descriptor)
        return _Seen(control, raw), (found.st_mtime_ns, found.st_ino, found.st_size)

    def _write_file(self, control: Control, seen: _Seen | None) -> str:
        """Put a file with the control in place; give what is missing in it, "" where nothing is."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if control.state == "halted":
                return self._halt(control)
            self._replace(control, seen)
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror} (free some space, make the folder writable)") from error
        return ""

    def _halt(self, control: Control) -> str:
        while True:
            descriptor, name = tempfile.mkstemp(".tmp", f"{self.path.name}.", self.path.parent)
            try:
                try:
                    _fill(descriptor, control)
                    problem = ""
                except OSError as error:
                    os.ftruncate(descriptor, 0)
                    problem = f"{error.strerror}: it halts, without reason and flatten (free some space, halt again)"
                finally:
                    os.close(descriptor)
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            self._staged.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
            if self._read_file()[0].control.state == "halted":
                return problem

    def _replace(self, control: Control, seen: _Seen | None) -> None:
        with self._turning():
            self._staged.unlink(missing_ok=True)  # of a process that died, perhaps another user's
            descriptor = os.open(self._staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                try:
                    _fill(descriptor, control)
                finally:
                    os.close(descriptor)
                _check(control, seen, self._read_file()[0])
                self._staged.rename(self.path)
            except FileNotFoundError:
                _check(control, seen, self._read_file()[0])
                raise StateError("a halt came meanwhile (look, then turn again)") from None
            finally:
                self._staged.unlink(missing_ok=True)
            _sync_folder(self.path.parent)

    @property
    def _staged(self) -> Path:
        return self.path.with_suffix(".next")

    @contextmanager
    def _turning(self) -> Iterator[None]:
        """Keep others from staging."""
        path = self.path.with_suffix(".lock")
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StateError(f"another process has held {path} for {LOCK_SECONDS:g} s (end it)") from None
                time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)


def _fill(descriptor: int, control: Control) -> None:
    """Write a file to the disk. Its time is the control's, which no other has: so no two files look the same."""
    left = memoryview(msgspec.json.encode(control) + b"\n")
    while left:
        left = left[os.write(descriptor, left) :]
    os.fchmod(descriptor, 0o644)  # the kernel may be another user's
    os.utime(descriptor, ns=(control.at, control.at))
    os.fsync(descriptor)


def _sync_folder(path: Path) -> None:
    with suppress(OSError):  # the file is in place, and some file systems cannot do this
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check(control: Control, seen: _Seen | None, there: _Seen) -> None:
    """Let a turn replace what is not stricter than itself, and a release what it has seen."""
    if there.control.rank > control.rank and (seen is None or there.raw != seen.raw):
        raise StateError(f"this came meanwhile: {there.control} (look at it, then turn again)")


def _row(value: Any) -> _Seen:
    if value is None:
        return _NOTHING
    try:
        return _Seen(msgspec.convert(value, Control), value)
    except msgspec.MsgspecError as error:
        return _unreadable(f"the row {ROW} of the audit database is no control: {error}", value)


def _unreadable(problem: str, raw: object = None) -> _Seen:
    return _Seen(Control(state="halted", reason=_one_line(problem), actor="", at=0), raw or problem, problem)


def _strictest(one: _Seen, other: _Seen) -> _Seen:
    """The stricter one; of two halts the one that cannot be read, else the newer."""
    return max(one, other, key=lambda seen: (seen.control.rank, bool(seen.problem), seen.control.at))


def _one_line(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode()
    return " ".join("".join(char if char.isprintable() else " " for char in clean).split())[:_LONGEST_TEXT]
