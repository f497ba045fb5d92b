"""Reading and locking files that others may have put there: an operator, another process, a mounted volume.

Whatever has the name of a file may be a pipe, whose opening waits for a writer that never comes, or a device, which never
ends. So only regular files are opened, without waiting, and no more is read than a file of its kind may have.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_CHUNK = 1 << 20


def open_file(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file, or a link to one, without waiting; give the descriptor.

    Raises
    ------
    FileNotFoundError : there is none.
    OSError : it cannot be opened, or is no regular file; `strerror` says what it is.
    """
    try:
        _check(path, os.stat(path).st_mode)  # noqa: PTH116 - takes text, too; before it is opened, for a device may act on that
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o644)
    try:
        _check(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_lock(path: str | Path, flags: int = os.O_RDWR) -> int:
    """Open a file to be locked, made where it is missing; it is never a link. Raises as `open_file` does."""
    descriptor = open_file(path, flags | os.O_CREAT | os.O_NOFOLLOW)
    keep_from_children(descriptor)
    return descriptor


_KEPT: dict[int, tuple[int, int]] = {}
"""Descriptors, and what each stands for: it may have been closed, and the number given to something else."""


def keep_from_children(descriptor: int) -> None:
    """Close a descriptor in processes that are forked from this one.

    A lock is held as long as any process has the descriptor open: one that a plugin has forked would hold it after this one
    was killed, and nobody could trade.
    """
    _KEPT[descriptor] = _identity(descriptor)


def _close_kept() -> None:
    for descriptor, identity in _KEPT.items():
        with suppress(OSError):
            if _identity(descriptor) == identity:
                os.close(descriptor)
    _KEPT.clear()


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


os.register_at_fork(after_in_child=_close_kept)


def read_file(path: str | Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises
    ------
    FileNotFoundError : there is none.
    OSError : it cannot be read, is no regular file, or has more bytes; `strerror` says which.
    """
    descriptor = open_file(path)
    try:
        return read_open(descriptor, path, most)
    finally:
        os.close(descriptor)


def read_open(descriptor: int, path: str | Path, most: int) -> bytes:
    """Read an open file from where it stands; otherwise as `read_file`."""
    if os.fstat(descriptor).st_size > most:
        raise _too_large(path, most)
    content = b""
    while chunk := os.read(descriptor, _CHUNK):
        content += chunk
        if len(content) > most:
            raise _too_large(path, most)
    return content


def _check(path: str | Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        what = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"it is {what}, not a regular file", str(path))


def _too_large(path: str | Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
