"""The loop that trades goes first: the API works while it waits.

Threads of one process take turns at the interpreter. Whenever the loop has given it away, to write or to send something, it
would wait for the API's turn to end, many times in one batch. So the API lets the loop finish first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, sleep, thread_time  # themselves: a plugin may replace those of the module

POLL_S = 0.002
"""Seconds between two looks at whether the loop still works."""

MIN_WAIT_S = 0.03
"""How long a request waits for a loop that works, at least: longer than most batches take."""

API_SHARE = 0.1
"""What requests may take of the time where the loop never rests."""

SLICE_S = 0.0005
"""Seconds that the API's thread computes before it looks whether the loop works."""


class LoopPriority:
    """Holds the API up while the loop works.

    Parameters
    ----------
    is_busy : whether the loop works.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._mark = 0.0

    async def wait_for_loop(self, worked_s: float = 0.0) -> None:
        """Wait until the loop rests, but not so long that requests would get less than `API_SHARE` of a busy process.

        Parameters
        ----------
        worked_s : seconds that the API has computed since it last waited.
        """
        if not self._is_busy():
            return
        now = asyncio.get_running_loop().time
        end = now() + max(MIN_WAIT_S, worked_s * (1 / API_SHARE - 1))
        while self._is_busy() and now() < end:  # noqa: ASYNC110 - a loop that works has no time to say when it rests
            await asyncio.sleep(POLL_S)

    def block_for_loop(self) -> None:
        """Hold up the API's thread, with all that it does, while the loop works: four times as long as it has worked at most."""
        worked = thread_time() - self._mark
        if worked < SLICE_S:
            return
        end = monotonic() + 4 * min(worked, POLL_S)
        while self._is_busy() and monotonic() < end:
            sleep(SLICE_S)
        self._mark = thread_time()
