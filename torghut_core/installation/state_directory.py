"""The state directory: holds the embedded stores and is owned by one process at a time."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from torghut_core.errors import InputError, StateError
from torghut_core.files import open_file, open_lock


class StateDirectory:
    """A directory with ``audit.db``, ``signals/``, ``control.json`` and a lock against a second process.

    Raises
    ------
    InputError : its path has a ``?``, which ends the path in an address of a database: the audit would be elsewhere.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, StateDirectory(folder) as state:
    ...     state.audit_url.startswith("sqlite:///")
    True
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if "?" in str(path):
            raise InputError(f"state directory {path}: its path may have no ? (give another --state)")
        self.owner = ""
        self.owned_since = 0
        self._lock: int | None = None

    @property
    def audit_url(self) -> str:
        """SQLAlchemy URL of the audit database in this directory."""
        return f"sqlite:///{self.path / 'audit.db'}"

    @property
    def signals_path(self) -> Path:
        """Folder of the embedded signal store."""
        return self.path / "signals"

    @property
    def control_path(self) -> Path:
        """File of the operator's control (running, halted, ...), read and written without the lock."""
        return self.path / "control.json"

    @property
    def exists(self) -> bool:
        """Whether it has a store of an earlier run."""
        return (self.path / "audit.db").exists() or self.signals_path.exists()

    def acquire(self) -> None:
        """Create the directory if it is missing, and own it until `release`.

        Raises
        ------
        StateError : another process owns it (the message names it), or it cannot be written.
        """
        if not self.try_acquire():
            raise StateError(
                f"state directory {self.path} is in use by {self.owner} (let it finish, or give another --state)"
            )

    def try_acquire(self) -> bool:
        """As `acquire`; False where another process owns it: `owner` then says which, and `owned_since` since when (ns).

        Raises
        ------
        StateError : it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = open_lock(self.path / "lock")
        except OSError as error:
            raise StateError(
                f"state directory {self.path}: {error.strerror} (make it writable or give another --state)"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            self.owned_since = os.fstat(descriptor).st_mtime_ns
            os.close(descriptor)
            return False
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} ({command})\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise StateError(f"state directory {self.path}: {error.strerror} (free some space)") from error
        self._lock = descriptor
        return True

    def find_owner(self) -> str:
        """Who owns the directory now, "" where nobody does; changes nothing there.

        Raises
        ------
        StateError : the lock cannot be read.
        """
        try:
            descriptor = open_file(self.path / "lock")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise StateError(f"state directory {self.path}: {error.strerror} (run this as its user)") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        finally:
            os.close(descriptor)
        return ""

    def release(self) -> None:
        """Give up the lock, so that another process may own it; releasing twice is harmless."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
