"""The API works while the loop that trades waits.

Threads of one process take turns at the interpreter. Whenever the loop has given it away, to write or to send something, it
would wait for the API's turn to end, many times in one batch. So the API lets the loop finish first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

POLL_S = 0.003
"""Seconds between two looks at whether the loop still works."""

SHARE = 0.1
"""What the API may take of the time where the loop never rests."""


class Courtesy:
    """How the API lets the loop go first.

    Parameters
    ----------
    is_busy : whether the loop works.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy

    async def give_way(self, worked_s: float) -> None:
        """Wait until the loop rests, but not so long that the API would get less than `SHARE` of a busy process.

        Parameters
        ----------
        worked_s : seconds that the API has computed since it last gave way.
        """
        if not self._is_busy():
            return
        now = asyncio.get_running_loop().time
        end = now() + worked_s * (1 / SHARE - 1)
        while self._is_busy() and now() < end:  # noqa: ASYNC110 - a loop that works has no time to say when it rests
            await asyncio.sleep(POLL_S)
