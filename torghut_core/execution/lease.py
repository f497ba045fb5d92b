"""One process trades an account: of all replicas that share an audit database, the one that holds the lease sends orders.

The lock is the database's: a session's advisory lock in Postgres, a locked file beside a SQLite database. A thread
confirms it every `INTERVAL_SECONDS`, and whoever is about to send asks `Lease.is_held`, which is true for
`VALID_SECONDS` after the last confirmation was *requested*, by a clock that also counts while the machine sleeps. So a
process that was cut off, frozen or suspended stops by itself, whatever it does not know.

The lock can pass on before its holder notices. Therefore a process that takes it over from one that did not give it back
waits as long as the old one may still count it as held. The holder, and whether it gave the lease back, is in the row of
``leases``: written when it is taken and given back, and covered by the audit log. In Postgres each confirmation also
checks that its own name is in that row: a pooler that lets two replicas share a session would give both the lock, but the
row has one name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from torghut_core.errors import StateError, Superseded
from torghut_core.files import keep_from_children, open_lock
from torghut_core.timestamps import Clock, format_timestamp, parse_timestamp

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

    from torghut_core.audit.visit import Visitor

INTERVAL_SECONDS = 0.5
"""How often a held lease is confirmed."""

VALID_SECONDS = 2.0
"""How long after the last confirmation a lease counts as held."""

MARGIN_SECONDS = 0.2
"""What a new holder waits on top: the clocks of two machines differ, and an order takes a moment to leave."""

_FOREVER = 100 * 365 * 86400.0  # a row that ends later than now was not given back
_BOOT_CLOCK = Clock(monotonic=partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)))
"""Its monotonic time also counts while the machine sleeps."""
_LOST = float("-inf")
_T = TypeVar("_T")
_IS_OURS = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid::bigint = $1::bigint AND objid::bigint = $2::bigint AND objsubid = 1
) AND EXISTS (SELECT FROM leases WHERE name = $3 AND holder = $4)
"""


def open_lease(database: str | Path, name: str, state: Path) -> Lease:
    """The lease of a name, not taken yet.

    Parameters
    ----------
    database : the audit database, as `SqlAuditStore` takes it.
    name : what only one may trade, such as an account's label.
    state : the state directory, in `Lease.holder`: it tells replicas on one machine apart.

    Raises
    ------
    InputError : no database that this can be.
    """
    from torghut_core.audit.database import audit_engine

    url = audit_engine(database).url
    if url.drivername.startswith("postgres"):
        return PostgresLease(database, name, state)
    return FileLease(database, name, state, Path(f"{url.database}.trader-{quote(name, safe='')}.lock"))


def holder_since(holder: str) -> int | None:
    """Since when the holder of a lease has it, by its name, ns; None where the name says none."""
    try:
        return parse_timestamp(holder.rpartition(" since ")[2])
    except ValueError:
        return None


class Lease(ABC):
    """A lease that one holder at a time has; any thread may ask `is_held`, take it and give it back."""

    def __init__(self, database: str | Path, name: str, state: Path, clock: Clock = _BOOT_CLOCK) -> None:
        self.name = name
        self.holder = ""
        """The holder when the lease was last requested: host, process, state directory, since when; "" where it was free."""
        self.problem = ""
        """Why it was lost; "" where it was not."""
        self._clock = clock
        self._database = database
        self._state = state.absolute()
        self._me = ""
        self._was_held = False
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        """Held by the thread that takes the lease or gives it back."""
        self._valid_until = _LOST
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_held(self) -> bool:
        """Whether an order may be sent now. Once false, it stays so until the lease is taken again."""
        now = self._clock.monotonic()
        if now < self._valid_until:
            return True
        with self._lock:
            if now < self._valid_until:  # confirmed just now
                return True
            self._valid_until = _LOST
            return False

    def acquire(self) -> bool:
        """Take the lease where it is free; takes a second or two where its last holder did not give it back.

        Returns
        -------
        Whether it is held now; where it is not, `holder` says who has it.

        Raises
        ------
        Superseded : it was lost, and another one has had it meanwhile.
        StateError : the database cannot be reached or written; the lease is not held.
        """
        with self._changing:
            return self.is_held or self._acquire()

    def _acquire(self) -> bool:
        self._end_thread()
        self._unlock()
        if not self._was_held:
            since = format_timestamp(self._clock.wall())
            self._me = f"{socket.gethostname()} process {os.getpid()} ({self._state}) since {since}"
        try:
            requested_at = self._lock_and_wait()
        except BaseException:
            self._unlock()
            raise
        if requested_at is None:
            self._unlock()
            self.holder = self._visit(lambda store: _holder(store, self.name))
            return False
        self.holder, self.problem, self._was_held = self._me, "", True
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._keep_confirming, args=(self._stop,), name=f"lease-{self.name}", daemon=True
        )
        with self._lock:
            self._valid_until = requested_at + VALID_SECONDS
        self._thread.start()
        return True

    def guard(self, connection: Connection) -> None:
        """Raise where another one has taken the lease since this one did; in a transaction, so that it is true to its end.

        Raises
        ------
        Superseded : another one has.
        """
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        query = f"SELECT holder FROM leases WHERE name = {mark}"  # noqa: S608 - ours
        self._require_mine(connection.exec_driver_sql(query, (self.name,)).scalar_one_or_none())

    def _require_mine(self, holder: str | None) -> None:
        if holder != self._me:
            self.holder = holder or ""
            raise Superseded(
                f"{self.name} is traded by {self.holder or 'no process'} (this one has lost the lease and writes nothing more:"
                " see whether that one is well, then start this one again)"
            )

    def release(self) -> None:
        """Give the lease back, so that the next holder need not wait; harmless where it is not held. Send nothing after that.

        Raises
        ------
        StateError : the row could not be written: the lease is free, and the next holder waits.
        """
        with self._changing:
            was_held = self.is_held
            self._was_held = False
            with self._lock:
                self._valid_until = _LOST
            self._end_thread()
            try:
                if was_held:
                    self._visit(lambda store: store.take_lease(self.name, self._me, 0))
            finally:
                self._unlock()
                self.holder = ""

    @abstractmethod
    def _try_lock(self) -> bool:
        """Lock; False where another one has it locked."""

    @abstractmethod
    def _loss(self, seconds: float) -> str:
        """Why it is not locked any more; "" where it is. `StateError` where that is unknown after so many seconds."""

    @abstractmethod
    def _unlock(self) -> None:
        """Unlock; harmless where it is not locked."""

    def _lock_and_wait(self) -> float | None:
        """Lock, and wait until no other process can count it as held; when that was confirmed, None where it is not ours."""
        if not self._try_lock():
            return None
        if self._was_held:
            self._require_mine(self._visit(lambda store: _holder(store, self.name)))
        if not self._visit(lambda store: _take_row(store, self.name, self._me, self._clock.wall())):
            time.sleep(VALID_SECONDS + MARGIN_SECONDS)
        requested_at = self._clock.monotonic()
        return None if self._loss(VALID_SECONDS) else requested_at

    def _keep_confirming(self, stop: threading.Event) -> None:
        """Confirm it again and again, until it is stopped or the lease is lost."""
        while not stop.wait(INTERVAL_SECONDS):
            requested_at = self._clock.monotonic()
            try:
                loss = self._loss(self._valid_until - requested_at)
            except StateError as error:
                loss = str(error)
            if stop.is_set():
                return
            with self._lock:
                if not loss and self._clock.monotonic() < self._valid_until:
                    self._valid_until = requested_at + VALID_SECONDS
                    continue
                self._valid_until = _LOST
                self.problem = loss or f"confirmed later than after {VALID_SECONDS:g} s"
            self._unlock()
            return

    def _visit(self, work: Callable[[Visitor], _T]) -> _T:
        from torghut_core.audit.visit import visit  # SQLAlchemy takes 0.4 s

        return visit(self._database, work)

    def _end_thread(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


class FileLease(Lease):
    """The lease beside a SQLite database: a file that one process has locked. The lock ends with its process."""

    def __init__(self, database: str | Path, name: str, state: Path, path: Path) -> None:
        super().__init__(database, name, state)
        self.path = path
        self._descriptor: int | None = None

    def _try_lock(self) -> bool:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = open_lock(self.path)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror} (make it and its folder writable)") from error
        return True

    def _loss(self, seconds: float) -> str:  # noqa: ARG002 - a file answers at once
        assert self._descriptor is not None
        try:
            there = self.path.stat()
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        return "" if os.path.samestat(there, os.fstat(self._descriptor)) else f"{self.path} was replaced"

    def _unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class PostgresLease(Lease):
    """The lease in a Postgres database: an advisory lock of a session of its own. The lock ends with its session.

    The server is configured to notice within a few seconds that a client has vanished, as a machine that lost its power.
    """

    def __init__(self, database: str | Path, name: str, state: Path) -> None:
        super().__init__(database, name, state)
        digest = hashlib.sha256(f"torghut trader {name}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        self._connection: psycopg.Connection | None = None

    def _try_lock(self) -> bool:
        import psycopg
        from sqlalchemy import make_url

        from torghut_core.audit.visit import bounded

        url = make_url(str(bounded(self._database))).set(drivername="postgresql+psycopg")
        _, options = url.get_dialect()().create_connect_args(url)
        keepalive = "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
        options["options"] = f"{options['options']} {keepalive}"
        try:
            self._connection = psycopg.connect(**options, autocommit=True)
        except psycopg.Error as error:
            raise _unreachable(error) from error
        keep_from_children(self._connection.fileno())
        return self._query("SELECT pg_try_advisory_lock($1::bigint)", VALID_SECONDS, self._key)

    def _loss(self, seconds: float) -> str:
        high, low = self._key >> 32 & 0xFFFFFFFF, self._key & 0xFFFFFFFF
        if self._query(_IS_OURS, seconds, high, low, self.name, self._me):
            return ""
        return "another session has it now"

    def _unlock(self) -> None:
        if self._connection is not None:
            with suppress(StateError):  # at once; otherwise when the server sees that the session is over
                self._query("SELECT pg_advisory_unlock($1::bigint)", INTERVAL_SECONDS, self._key)
            self._connection.close()
            self._connection = None

    def _query(self, query: str, seconds: float, *values: str | int) -> bool:
        """The server's answer to a query, within so many seconds: its driver would wait for ever.

        Raises
        ------
        StateError : it does not, or the session is over.
        """
        import psycopg

        assert self._connection is not None
        session = self._connection.pgconn
        deadline = self._clock.monotonic() + seconds
        try:
            session.send_query_params(query.encode(), [str(value).encode() for value in values])
            ready = select.poll()
            while True:
                is_sent = session.flush() == 0
                ready.register(session.socket, select.POLLIN if is_sent else select.POLLIN | select.POLLOUT)
                if not ready.poll(max(0.0, deadline - self._clock.monotonic()) * 1000):
                    raise StateError(f"the audit database does not answer within {max(0.0, seconds):.1f} s")
                session.consume_input()
                if session.is_busy():
                    continue
                result = session.get_result()
                while session.get_result() is not None:
                    pass
                if result is None or result.status != psycopg.pq.ExecStatus.TUPLES_OK:
                    raise StateError("the audit database: " + (result.get_error_message() if result else "no answer"))
                return result.get_value(0, 0) == b"t"
        except psycopg.Error as error:
            raise _unreachable(error) from error


def _unreachable(error: Exception) -> StateError:
    return StateError(
        f"the audit database: {' '.join(str(error).split())} (check that the database is running and reachable)"
    )


def _holder(store: Visitor, name: str) -> str:
    found = store.rows("leases", name=name)
    return str(found[0]["holder"]) if found else ""


def _take_row(store: Visitor, name: str, holder: str, now: int) -> bool:
    """Write down the new holder, who has the lock; whether the one before gave it back."""
    found = store.rows("leases", name=name)
    is_free = not found or found[0]["expires_at"] <= now
    if not is_free:
        store.take_lease(name, str(found[0]["holder"]), 0)
    if not store.take_lease(name, holder, _FOREVER):
        raise StateError(f"the lease {name!r} is not written down: the clock of this machine went back (try again)")
    return is_free
