"""Which plugin is running, recorded where it outlives the process: after `os._exit`, a crash of native code or a kill.

The record is a small file in the state directory, mapped into memory, so that writing it is no system call; the kernel of the
operating system keeps what was written when a process dies. It is removed at an orderly end.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from torghut_core.files import read_file
from torghut_core.telemetry import logs

_LENGTH = 128
LOOP, LOADER, _BEFORE = (slice(start, start + _LENGTH) for start in range(0, 3 * _LENGTH, _LENGTH))
"""Where the loop notes the plugin that it calls, the loader the one that it imports or makes, and what was found at the start."""

NO_PLUGIN = bytes(_LENGTH)

FILE = "running-plugin"
_SIZE = 3 * _LENGTH


class _Record:
    """The record of this process; `memory` is a file's content between `recorded_in` and the end, and of no file otherwise."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, _SIZE, flags=mmap.MAP_PRIVATE)


RECORD = _Record()


@lru_cache(maxsize=1024)
def label(kind: str, name: str) -> bytes:
    """What is recorded of a plugin."""
    return f"{kind} {name}".encode()[:_LENGTH].ljust(_LENGTH, b"\0")


@contextmanager
def recorded_in(folder: Path) -> Iterator[str]:
    """Keep the record in a file of a state directory; give what a process that died has left there, "" where none did."""
    path = folder / FILE
    died = _crash(path)
    try:
        path.unlink(missing_ok=True)  # it may be anything
        path.write_bytes(NO_PLUGIN + NO_PLUGIN + died.encode()[:_LENGTH].ljust(_LENGTH, b"\0"))
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), _SIZE)
    except OSError as error:
        logs.warning("the running plugin is not recorded", file=str(path), error=error.strerror)
        yield died
        return
    RECORD.memory = memory
    try:
        yield died
    finally:
        RECORD.memory = mmap.mmap(-1, _SIZE, flags=mmap.MAP_PRIVATE)
        path.unlink(missing_ok=True)


def last_crash(folder: Path, *, is_running: bool) -> str:
    """How the last process on a state directory died, "" where it ended in order; the one before a running one."""
    path = folder / FILE
    return _read(path, _BEFORE) if is_running else _crash(path)


def _read(path: Path, part: slice) -> str:
    """A part of the record; "" where there is no file that could be one."""
    try:
        return read_file(path, _SIZE)[part].rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


def _crash(path: Path) -> str:
    if not path.is_file():
        return ""
    loop, loader = _read(path, LOOP), _read(path, LOADER)
    named = " and ".join(each for each in (loop, loader) if each)
    return f"the last process died while {named} was running" if named else "the last process was killed, or crashed"
