"""Takes what a source yields, one piece at a time, with time for other work in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Intake(Generic[T]):
    """Waits for the next piece, up to a time limit, until it is stopped.

    A piece that came is always returned, also when the stop comes at the same time: so the caller has everything that
    the source's cursor counts as yielded.

    Parameters
    ----------
    pieces : a source's iterator.
    stopped : set when no more pieces are to be taken.
    """

    def __init__(self, pieces: AsyncIterator[T], stopped: asyncio.Event) -> None:
        self._pieces = pieces
        self._is_stopped = stopped.is_set
        self._stopped = asyncio.ensure_future(stopped.wait())
        self._next: asyncio.Task[T | None] | None = None
        self.is_over = False

    @property
    def is_waiting(self) -> bool:
        """Whether everything that the source has yielded was taken."""
        return self._next is None or not self._next.done()

    async def take(self, seconds: float) -> T | None:
        """The next piece; None when it did not come in time, or when there is none any more (`is_over`)."""
        if self._next is None:
            if self._is_stopped():
                self.is_over = True
                return None
            self._next = asyncio.create_task(self._step())
        await asyncio.wait([self._next, self._stopped], timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        if self._stopped.done() and not self._next.done():
            await self._give_up()
        if not self._next.done():
            return None
        task, self._next = self._next, None
        if task.cancelled():
            self.is_over = True
            return None
        piece = task.result()
        self.is_over = piece is None
        return piece

    async def close(self) -> None:
        """Take no more pieces."""
        self._stopped.cancel()
        if self._next is not None:
            await self._give_up()

    async def _give_up(self) -> None:
        assert self._next is not None
        self._next.cancel()
        await asyncio.wait([self._next])

    async def _step(self) -> T | None:
        return await anext(self._pieces, None)
