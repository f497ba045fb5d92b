"""The API's connections: none keeps the others from being made.

A client that is idle, sends slowly or does not read is disconnected after a while; and at once, when there are too many.
"""

from __future__ import annotations

import asyncio
import re
import resource
from collections import Counter, deque
from contextlib import suppress
from enum import Enum
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from torghut_core.admin.auth import Guard

MAX_CONNECTIONS = 768
"""Connections at a time, where the process may open four times as many files; else a quarter of those."""

WANTED_FILES = 4096
"""Open files that a process should be allowed."""

MAX_QUEUED = 128
"""Requests that wait to be parsed, one of each connection; as many more of operators."""

URGENT = (b"GET /healthz", b"GET /readyz", b"POST /trading/kill")
"""Beginnings of requests that never wait: probes and stops."""

SCRAPE = b"GET /metrics"
"""Beginning of a request that has a place beyond `MAX_QUEUED`, among the first `MAX_SCRAPES`."""

MAX_SCRAPES = 16
"""Places beyond `MAX_QUEUED` that scrapes may take too; the rest is left to operators."""

_BODY = b'{"error": "too many requests at a time (try again in a second)"}'
REFUSAL = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)
"""The answer to a request beyond `MAX_QUEUED`, in full: it costs next to nothing."""

SWEEP_SECONDS = 0.5
"""Seconds between two looks at all connections."""

_AUTHORIZATION = re.compile(rb"\r\nauthorization:[ \t]*([^\r\n]*)", re.IGNORECASE)


class Phase(Enum):
    """What a connection waits for."""

    REQUEST = "the client's next request, whole"
    BODY = "the rest of a request's body"
    WORK = "the kernel's answer"
    READER = "the client to take an answer"


LIMITS = {Phase.REQUEST: 5.0, Phase.BODY: 10.0, Phase.READER: 20.0}
"""Seconds that a connection may stay in a phase; nothing limits how long the kernel takes."""


class Connection(H11Protocol):
    """A connection that `connections` watch over."""

    def __init__(self, *arguments: Any, connections: Connections, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.seen: tuple[Phase, object] = (Phase.REQUEST, None)
        self.since = self.loop.time()
        self.is_queued = False
        self._all = connections

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._all.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._phase() is Phase.BODY or data.startswith(URGENT):
            super().data_received(data)
        else:
            self._all.queue(self, data)

    def receive(self, data: bytes) -> None:
        """Take what was queued."""
        self.is_queued = False
        if not self.transport.is_closing():
            self.flow.resume_reading()
            super().data_received(data)

    def refuse(self) -> None:
        """Answer that there are too many requests, and close it."""
        self.transport.write(REFUSAL)
        self.transport.close()

    @property
    def peer(self) -> str:
        """The address at the other end."""
        return self.client[0] if self.client else ""

    def observe(self, now: float) -> None:
        """Note in which phase it is."""
        found = self._phase(), self.cycle  # each request has a cycle of its own
        if found != self.seen:
            self.seen, self.since = found, now

    def is_overdue(self, now: float) -> bool:
        """Whether it has been in its phase for too long; not while what it has sent is queued here."""
        self.observe(now)
        return not self.is_queued and now - self.since > LIMITS.get(self.seen[0], float("inf"))

    def _phase(self) -> Phase:
        if self.transport.get_write_buffer_size():
            return Phase.READER
        if self.cycle is None or self.cycle.response_complete:
            return Phase.REQUEST
        return Phase.BODY if self.cycle.more_body else Phase.WORK

    def abort(self) -> None:
        """Close it at once, whatever is unsent."""
        self.transport.abort()


class Connections:
    """All connections of a server; `guard` knows who is an operator."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._queue: deque[tuple[Connection, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._all: dict[Connection, None] = {}
        self._most = min(MAX_CONNECTIONS, _files() // 4)

    def add(self, connection: Connection) -> None:
        """Take a new one; if they are too many, abort the one that waits longest for its client, of whoever has most."""
        self._all[connection] = None
        if len(self._all) <= self._most:
            return
        now = asyncio.get_running_loop().time()
        for each in self._all:
            each.observe(now)
        of_peers = Counter(each.peer for each in self._all)
        waiting = [each for each in self._all if each.seen[0] is not Phase.WORK and each is not connection]
        waiting.sort(key=lambda each: (-of_peers[each.peer], each.since))
        some = waiting[: max(1, self._most // 32)]  # not one at a time: to find them costs as much as a request
        for each in some or [connection]:
            self.discard(each)
            each.abort()

    def discard(self, connection: Connection) -> None:
        """Forget one."""
        self._all.pop(connection, None)

    def queue(self, connection: Connection, data: bytes) -> None:
        """Have a connection take data when it is its turn; it reads no more until then."""
        waiting = len(self._queue)
        if (
            waiting < MAX_QUEUED
            or (waiting < MAX_QUEUED + MAX_SCRAPES and data.startswith(SCRAPE))
            or (waiting < 2 * MAX_QUEUED and self._is_of_operator(data))
        ):
            connection.flow.pause_reading()
            connection.is_queued = True
            self._queue.append((connection, data))
            self._arrived.set()
        else:
            connection.refuse()

    def _is_of_operator(self, data: bytes) -> bool:
        found = _AUTHORIZATION.search(data)
        return found is not None and self._guard.is_operator(found[1].decode("latin-1"))

    async def serve(self) -> None:
        """Let connections take what is queued, one after the other."""
        while True:
            while self._queue:
                connection, data = self._queue.popleft()
                connection.receive(data)
                await asyncio.sleep(0)  # what it has begun runs, and what is urgent comes between
            self._arrived.clear()
            await self._arrived.wait()

    async def watch(self) -> None:
        """Abort whichever has been in a phase for too long, again and again; time for which this process was stalled counts for nobody."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SWEEP_SECONDS
            await asyncio.sleep(SWEEP_SECONDS)
            now = loop.time()
            for each in self._all:
                each.since += now - due
            for each in [each for each in self._all if each.is_overdue(now)]:
                each.abort()


def _files() -> int:
    """How many files the process may open, after asking for `WANTED_FILES`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return WANTED_FILES if soft == resource.RLIM_INFINITY else soft
