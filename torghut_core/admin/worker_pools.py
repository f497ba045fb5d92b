"""How much the API asks of the kernel at a time: a pool of workers for each kind of call, so that none holds up another kind.

The kernel's methods may wait, for a lock or for a whole reload, so each is called from a thread of its own. In the kernel's
process every call that computes slows the loop that trades. So few run at a time, and the others wait in line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial, wraps
from typing import Any

PROBES, STOPS, CHANGES, READS, QUERIES, CHECKS = 3, 8, 4, 1, 1, 1
"""How many calls of each kind the kernel answers at a time, see `WorkerPools`."""

CALLS_AT_ONCE = PROBES + STOPS + CHANGES + READS + QUERIES + CHECKS
"""How many calls it answers at a time in all."""


class TooManyRequests(Exception):
    """A request that is refused because too many others wait: 429."""


class WorkerPool:
    """Calls of one kind. As a decorator it makes a handler of a route run in it.

    Parameters
    ----------
    workers : how many calls run at a time.
    queue : how many wait for a worker, shared ones counting as one; further ones raise `TooManyRequests`.
    is_shared : whether calls of a handler with the same arguments are the same for all who ask: of those one runs at a time,
        and those that wait share the next.
    """

    def __init__(self, workers: int, queue: int, *, is_shared: bool = False) -> None:
        self._workers = asyncio.Semaphore(workers)
        self._places = queue
        self._is_shared = is_shared
        self._shared: dict[Hashable, asyncio.Task[Any]] = {}
        self._alone: dict[Hashable, asyncio.Lock] = {}

    def __call__(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Make a handler of a route run in this pool."""

        @wraps(handler)
        async def served(**arguments: Any) -> Any:
            call = partial(handler, **arguments)
            return await (self.share(call, (handler, *arguments.items())) if self._is_shared else self.run(call))

        return served

    async def run(self, call: Callable[[], Any]) -> Any:
        """Make a call when it is its turn, and give its result."""
        return await self._run(call, lambda: None)

    async def share(self, call: Callable[[], Any], key: Hashable) -> Any:
        """Give the result of one call for all who ask for it, by the same key, before it begins."""
        task = self._shared.get(key)
        if task is None:
            task = self._shared[key] = asyncio.ensure_future(self._run_shared(call, key))
        return await asyncio.shield(task)

    async def _run_shared(self, call: Callable[[], Any], key: Hashable) -> Any:
        async with self._alone.setdefault(key, asyncio.Lock()):
            try:
                return await self._run(call, lambda: self._shared.pop(key))
            finally:
                if key not in self._shared:  # nobody waits
                    del self._alone[key]

    async def _run(self, call: Callable[[], Any], on_turn: Callable[[], object]) -> Any:
        try:
            if self._workers.locked():
                if not self._places:
                    raise TooManyRequests("too many of these requests wait already (try again in a second)")
                self._places -= 1
                try:
                    await self._workers.acquire()
                finally:
                    self._places += 1
            else:
                await self._workers.acquire()
        finally:
            on_turn()
        try:
            return await asyncio.to_thread(call)
        finally:
            self._workers.release()


class WorkerPools:
    """The pools of one API.

    Attributes
    ----------
    probes : health, readiness and metrics. They have no parameters, so none is ever refused.
    stops : stops; none is ever refused: at most `connections.MAX_CONNECTIONS` come at a time.
    changes : what else an operator changes; each may take as long as a reload.
    reads : what is in memory.
    queries : what is asked of a database.
    checks : of catalogs, each in a process of its own.
    """

    def __init__(self) -> None:
        self.probes = WorkerPool(PROBES, 3, is_shared=True)
        self.stops = WorkerPool(STOPS, 1 << 20)
        self.changes = WorkerPool(CHANGES, 16)
        self.reads = WorkerPool(READS, 16, is_shared=True)
        self.queries = WorkerPool(QUERIES, 32, is_shared=True)
        self.checks = WorkerPool(CHECKS, 4)
