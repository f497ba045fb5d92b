"""Frames between the socket and whoever reads them: a bounded queue that knows where something is missing.

What comes after a gap waits behind it until the gap is being filled. When the connection is lost once more before that,
what waits is dropped: the history that will fill the gap has it too. So there is one gap at a time, and frames that are
taken follow each other without any.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice

MARK_S = 0.25
"""Between two frames of which it is noted when they came, seconds at least."""


class Inbox:
    """Frames in order of arrival.

    Parameters
    ----------
    max_frames, max_bytes : when it is full: the caller then stops reading until it `has_room`. It takes what comes all the
        same, as frames may be under way.
    """

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._came = 0
        self._marks: deque[tuple[int, float]] = deque()
        """Number of a frame and when it came, for one now and then."""
        self._max_frames, self._max_bytes = max_frames, max_bytes
        self._ready: deque[bytes] = deque()
        self._behind: deque[bytes] = deque()
        self._bytes = 0
        self._has_gap = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready) + len(self._behind)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def is_full(self) -> bool:
        """Whether to stop reading."""
        return self._bytes >= self._max_bytes or len(self) >= self._max_frames

    @property
    def has_room(self) -> bool:
        """Whether to read again: it is half empty."""
        return self._bytes * 2 <= self._max_bytes and len(self) * 2 <= self._max_frames

    @property
    def has_gap(self) -> bool:
        """Whether something is missing before all frames that can be taken later."""
        return self._has_gap

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to be taken, before any gap."""
        return bool(self._ready)

    def put(self, frame: bytes, at: float) -> None:
        """A frame came, at a monotonic time, seconds."""
        (self._behind if self._has_gap else self._ready).append(frame)
        self._bytes += len(frame)
        self._came += 1
        if not self._marks or at - self._marks[-1][1] >= MARK_S:
            self._marks.append((self._came, at))
        self._changed.set()

    def age(self, now: float) -> float:
        """How long the oldest frame has waited, give or take `MARK_S`, seconds; 0 where none waits."""
        oldest = self._came - len(self) + 1
        while len(self._marks) > 1 and self._marks[1][0] <= oldest:
            self._marks.popleft()
        return now - self._marks[0][1] if len(self) else 0.0

    def take(self, most: int) -> list[bytes]:
        """At most so many frames, before any gap; empty where there are none."""
        ready = self._ready
        frames = [ready.popleft() for _ in range(min(most, len(ready)))]
        self._bytes -= sum(map(len, frames))
        return frames

    def ready_from(self, place: int) -> Iterator[bytes]:
        """What can be taken, looked at only, from that place on."""
        return islice(self._ready, place, None)

    def put_back(self, frames: list[bytes]) -> None:
        """Frames were taken too early: they come first again."""
        self._ready.extendleft(reversed(frames))
        self._bytes += sum(map(len, frames))

    def lose(self) -> None:
        """Something is missing after all that has come."""
        self._bytes -= sum(map(len, self._behind))
        self._behind.clear()
        self._has_gap = True
        self._changed.set()

    def miss(self) -> None:
        """Something is missing before all that is here."""
        self._behind.extendleft(reversed(self._ready))
        self._ready.clear()
        self._has_gap = True
        self._changed.set()

    def bridge(self) -> None:
        """The gap is being filled: what waited behind it is next."""
        self._ready.extend(self._behind)
        self._behind.clear()
        self._has_gap = False

    def wake(self) -> None:
        """Let `changed` return."""
        self._changed.set()

    async def changed(self, seconds: float | None) -> None:
        """Wait for the next `put`, `lose`, `miss` or `wake` since this returned last, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()
