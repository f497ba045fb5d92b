"""The operator's control: whether orders may be sent, kept where it can be read and changed whatever else has failed.

A control is kept in two places, in the audit database and in a file beside the state, and the stricter of the two
applies. What cannot be read counts as `halted`, for a wrong order is worse than no order.

A change to a stricter state takes one place, the file first: it needs no server. A release takes both, the stricter one
last (the file, where they agree): a process that dies in between leaves that in force. A release replaces only what it has
seen, so that a stop that comes meanwhile stays:

- in the database the row is read in the transaction that writes;
- the file is replaced under a lock by one that was *staged* before the file was read. A halt waits for no lock, since the
  process that has it may be frozen: it puts its own file in place, removes what is staged, so that a release which has
  read the file already cannot replace it any more, and makes sure that its own is there.

A file is always put in place whole, by a rename, whatever has its name: a halt even moves a folder out of the way. Where
the disk is too full to write it, a halt puts an empty one there: that cannot be read, and so it stops as well. Where
nothing can be put in its place, a halt overwrites the file that is there: half a control cannot be read either.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import msgspec

from torghut_core.errors import InputError, StateError
from torghut_core.files import open_file, open_lock, read_open
from torghut_core.model.trading import ControlState
from torghut_core.timestamps import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from torghut_core.audit.visit import ControlReader

STATES: tuple[ControlState, ...] = get_args(ControlState)
"""The states, in order of strictness."""

ROW = "trading.control"
"""The row of ``controls`` in the audit database."""

SETTING = "setting"
"""The actor of a halt by ``TRADING_KILL_SWITCH_ENABLED`` or ``TRADING_EMERGENCY_STOP_ENABLED``."""

POLL_SECONDS = 2.0
"""How long `Controls.poll` waits for the database."""

LOCK_SECONDS = 2.0
"""How long a change that is no halt waits for another one."""

LATEST = 2**62
"""The largest `at` of a control, ns: in the year 2116. A larger one is of no clock."""

_LONGEST_TEXT = 1000
_LARGEST_FILE = 65536
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A state, since when (`at`, ns), and who changed to it and why. `flatten`: positions are to be closed."""

    state: ControlState
    reason: str
    actor: str
    at: Annotated[int, msgspec.Meta(ge=0, le=LATEST)]
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


_CONTROL = msgspec.json.Decoder(Control)
"""Made here, and not in the threads that read: two that are the first to ask msgspec for a type end the process."""


class ControlChange(NamedTuple):
    """The result of a change: the control that applies now, where the wanted one was written, and why not elsewhere."""

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
    """The control of one state directory; needs no lock on it, and works beside a running kernel.

    Before the first `poll` the row in the database is unknown, and so everything is halted.

    Parameters
    ----------
    path : the file, ``control.json`` in the state directory. ``control.lock`` and ``control.next`` lie beside it.
    database : the audit database, as `SqlAuditStore` takes it; None where there is none, then only the file counts.
    clock : where it asks for the time.
    halted_by : the setting that halts trading as long as this process lives; "" where none does.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     controls = Controls(Path(folder) / "control.json", None)
    ...     _ = controls.change("halted", reason="fat finger", actor="jane")
    ...     controls.refusal(is_exit=True, is_flattening=False)
    'halted: fat finger (jane)'
    """

    def __init__(
        self, path: Path, database: str | Path | None, clock: Clock = SYSTEM_CLOCK, *, halted_by: str = ""
    ) -> None:
        self.path = path
        self._halted_by = halted_by
        self._name = str(path)  # `os.stat` of text is twice as fast
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._changes = 0
        self._row = _NOTHING if database is None else _unreadable("the audit database was not asked yet")
        self._silence = ""
        self._reader: ControlReader | None = None
        self._cached: tuple[Any, _Seen, Control] = (_UNCACHED, self._row, self._row.control)

    def current(self) -> Control:
        """The control that applies now. Costs one `stat` while nothing changes; any thread may call it."""
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
        if self._halted_by and control.state != "halted":
            control = Control(state="halted", reason=f"{self._halted_by} is true", actor=SETTING, at=control.at)
        self._cached = (mark, row, control)
        return control

    def halt_by_setting(self) -> None:
        """Write down that a setting halts trading, where one does and nobody else has halted it.

        Raises
        ------
        StateError : it could be written nowhere.
        """
        self.poll()
        if self._halted_by and self._recorded().state != "halted":
            self.change("halted", reason=f"{self._halted_by} is true", actor=SETTING)

    def _recorded(self) -> Control:
        return _strictest(self._read_file()[0], self._row).control

    def refusal(self, is_exit: bool, is_flattening: bool) -> str:
        """Why an order may not be sent now: code and reason in a line; "" where it may.

        Parameters
        ----------
        is_exit : it only reduces a position.
        is_flattening : it is an exit that the kernel makes because positions are to be closed.
        """
        control = self.current()
        if control.state == "running":
            return ""
        passes = is_flattening and control.flatten if control.state == "halted" else is_exit or is_flattening
        return "" if passes else str(control)

    def poll(self) -> None:
        """Read the database; call it about once a second from a thread that may wait `POLL_SECONDS`. Never raises.

        Where the database does not answer, its last row stays in force, and `health` says so.
        """
        changes = self._changes
        row, silence = self._poll_row()
        with self._lock:
            if changes == self._changes:  # otherwise a change knows better
                self._silence = silence
                if row.raw != self._row.raw or row.problem != self._row.problem:
                    self._row = row

    def health(self) -> list[str]:
        """What is wrong with the two places; empty where both can be read."""
        file, _ = self._read_file()
        return [problem for problem in (file.problem, self._row.problem, self._silence) if problem]

    def change(
        self, state: ControlState, *, reason: str, actor: str, flatten: bool = False, releases: int | None = None
    ) -> ControlChange:
        """Change the control, in both places.

        A stricter state applies once it is written in one place. A less strict one needs both, a reason and an actor, and
        replaces what this call found, and nothing that came meanwhile.

        Parameters
        ----------
        flatten : positions are to be closed; with `halted` only.
        releases : `at` of the control that a release is meant for; by default the one that applies when this is called.

        Raises
        ------
        InputError : an unknown state, `flatten` without a halt, a release without reason or actor.
        StateError : it was written nowhere; or it is a release, and one place failed, another control applies by now, or a
            setting halts trading. The message says what applies.
        """
        if state not in STATES:
            raise InputError(f"unknown state {state!r} (choose one of {', '.join(STATES)})")
        if flatten and state != "halted":
            raise InputError(f"flatten with {state!r}: positions are closed only when halted (change to 'halted')")
        if self._halted_by and state != "halted":
            raise StateError(
                f"nothing is released: {self._halted_by} is true (set it to false, and start this process again)"
            )
        reason, actor = _one_line(reason), _one_line(actor)
        file, _ = self._read_file()
        row, silence = (self._row, "") if state == "halted" else self._poll_row()  # a halt waits for no server
        at = min(max(self._clock.wall(), file.control.at + 1, row.control.at + 1), LATEST)
        control = Control(state=state, reason=reason, actor=actor, at=at, flatten=flatten)
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
                raise StateError(
                    f"nothing is released: another control applies by now: {held} (check it, then release)"
                )
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
            except Exception as error:  # whatever it is, it does not undo what is written
                problem = str(error) or type(error).__name__
            if problem:
                problems.append(f"{place}: {problem}")
        if not written:
            raise StateError(f"{control.state} could not be written anywhere: {'; '.join(problems)}")
        return ControlChange(self.current(), written, problems)

    def _release(self, control: Control, file: _Seen, row: _Seen) -> ControlChange:
        written: list[str] = []
        there = {"file": file, "database": row}
        places = sorted(self._places(), key=lambda place: (there[place[0]].control.rank, place[0] == "file"))
        for place, write in places:  # the strictest goes last, for it applies until then
            try:
                write(control, there[place])
            except StateError as error:
                what = f"{control.state} is written to the {written[0]} only" if written else "nothing is released"
                raise StateError(f"{what}, this still applies: {self.current()}; {place}: {error}") from error
            written.append(place)
        return ControlChange(self.current(), written, [])

    def _places(self) -> list[tuple[str, Callable[[Control, _Seen | None], str]]]:
        places: list[tuple[str, Callable[[Control, _Seen | None], str]]] = [("file", self._write_file)]
        if self._database is not None:
            places.append(("database", self._write_row))
        return places

    # The database

    def _poll_row(self) -> tuple[_Seen, str]:
        """What the row holds; where the database does not answer, what it held last, and why."""
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
        except Exception as error:  # whatever it is, polling continues
            return self._row, str(error) or type(error).__name__

    def _write_row(self, control: Control, seen: _Seen | None) -> str:
        from torghut_core.audit.visit import visit

        assert self._database is not None
        value = msgspec.to_builtins(control)
        visit(
            self._database,
            lambda store: store.change_control(
                ROW, value, control.actor, lambda there: _check(control, seen, _row(there))
            ),
        )
        with self._lock:
            self._changes += 1
            self._row = _Seen(control, value)
            self._silence = ""
        return ""

    # The file

    def _read_file(self) -> tuple[_Seen, Any]:
        """What the file holds, and the mark by which `current` sees that it has not changed."""
        try:
            descriptor = open_file(self._name)
        except FileNotFoundError:
            return _NOTHING, None
        except OSError as error:
            return _unreadable(f"{self.path} cannot be read: {error.strerror}"), _UNCACHED
        raw = None
        try:
            found = os.fstat(descriptor)
            raw = read_open(descriptor, self.path, _LARGEST_FILE)
            control = _CONTROL.decode(raw)
        except OSError as error:
            return _unreadable(f"{self.path} cannot be read: {error.strerror}"), _UNCACHED
        except (ValueError, RecursionError) as error:
            return _unreadable(f"{self.path} cannot be read: {error}", raw), _UNCACHED
        finally:
            os.close(descriptor)
        return _Seen(control, raw), (found.st_mtime_ns, found.st_ino, found.st_size)

    def _write_file(self, control: Control, seen: _Seen | None) -> str:
        """Put a file with the control in place; what is missing in it, "" where nothing is."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if control.state == "halted":
                return self._halt(control)
            self._replace(control, seen)
        except OSError as error:
            place = error.filename2 or error.filename or self.path
            hint = "move it away, free some space, or make the folder writable"
            raise StateError(f"{place}: {error.strerror} ({hint})") from error
        return ""

    def _halt(self, control: Control) -> str:
        while True:
            try:
                problem = self._put(control)
            except OSError as error:
                try:
                    lack = self._overwrite(control)
                except OSError:
                    raise error from None
                problem = lack or f"{error.strerror}: halted, by overwriting the file that was there"
            try:
                self._staged.unlink(missing_ok=True)
            except OSError as error:
                problem = f"{self._staged}: {error.strerror}: a release that is under way may follow (halt again)"
            _sync_folder(self.path.parent)
            if self._read_file()[0].control.state == "halted":
                return problem

    def _put(self, control: Control) -> str:
        """Put a file in place of whatever is there; what is missing in it, "" where nothing is."""
        descriptor, name = tempfile.mkstemp(".tmp", f"{self.path.name}.", self.path.parent)
        try:
            lack = _fill_or_empty(descriptor, control)
            try:
                Path(name).replace(self.path)
            except IsADirectoryError:
                _exchange(name, self.path)
                return lack or f"a folder was there: it is {name} now"
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return lack

    def _overwrite(self, control: Control) -> str:
        """Write into the file that is there: until it is whole, it cannot be read. Returns as `_put` does."""
        descriptor = open_file(self.path, os.O_WRONLY | os.O_NOFOLLOW)
        os.ftruncate(descriptor, 0)
        return _fill_or_empty(descriptor, control)

    def _replace(self, control: Control, seen: _Seen | None) -> None:
        with self._staging():
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
                raise StateError("a halt came meanwhile (check it, then try again)") from None
            finally:
                self._staged.unlink(missing_ok=True)
            _sync_folder(self.path.parent)

    @property
    def _staged(self) -> Path:
        return self.path.with_suffix(".next")

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Keep others from staging."""
        path = self.path.with_suffix(".lock")
        descriptor = open_lock(path, os.O_RDONLY)
        try:
            deadline = self._clock.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock.monotonic() > deadline:
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


def _fill_or_empty(descriptor: int, control: Control) -> str:
    """Write and close a file; one that cannot be written is left empty. What is missing in it then, "" otherwise."""
    try:
        _fill(descriptor, control)
    except OSError as error:
        os.ftruncate(descriptor, 0)
        return f"{error.strerror}: halted, but without the reason and flatten (free some space, halt again)"
    else:
        return ""
    finally:
        os.close(descriptor)


def _exchange(name: str, path: Path) -> None:
    """Exchange two names in one step, so that there is no moment without a control."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None or rename(_HERE, os.fsencode(name), _HERE, os.fsencode(path), _EXCHANGE):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _sync_folder(path: Path) -> None:
    with suppress(OSError):  # the file is in place, and some file systems cannot do this
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check(control: Control, seen: _Seen | None, there: _Seen) -> None:
    """Let a change replace what is not stricter than itself, and a release what it has seen."""
    if there.control.rank > control.rank and (seen is None or there.raw != seen.raw):
        raise StateError(f"this came meanwhile: {there.control} (check it, then try again)")


def _row(value: Any) -> _Seen:
    if value is None:
        return _NOTHING
    try:
        return _Seen(msgspec.convert(value, Control), value)
    except msgspec.MsgspecError as error:
        return _unreadable(f"the row {ROW} of the audit database is not a control: {error}", value)


def _unreadable(problem: str, raw: object = None) -> _Seen:
    return _Seen(Control(state="halted", reason=_one_line(problem), actor="", at=0), raw or problem, problem)


def _strictest(one: _Seen, other: _Seen) -> _Seen:
    """The stricter one; of two halts the one that cannot be read, else the newer."""
    return max(one, other, key=lambda seen: (seen.control.rank, bool(seen.problem), seen.control.at))


def _one_line(text: str) -> str:
    clean = text.encode("utf-8", "replace").decode()
    return " ".join("".join(char if char.isprintable() else " " for char in clean).split())[:_LONGEST_TEXT]
