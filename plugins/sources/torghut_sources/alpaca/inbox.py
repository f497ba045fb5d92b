"""Frames between the socket and the decoder: a bounded queue that knows where data is missing.

Frames after a gap wait until the gap is being filled. When more is lost before that, after the gap or before it, the frames
between the two are dropped: the history that will fill the gap has them too. So there is one gap at a time, and frames
that are taken follow each other without one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice

NEVER = float("inf")
MARK_S = 0.25
"""Shortest time between two frames whose arrival is recorded, seconds."""


class Inbox:
    """Frames in order of arrival.

    Parameters
    ----------
    max_frames, max_bytes : when it is full: the caller then stops reading until it `has_room`. Frames that arrive all the
        same are taken, as some may be under way.
    """

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._arrived = 0
        self._marks: deque[tuple[int, float]] = deque()
        """Number and time of arrival of a frame now and then; once there is one, there is always one."""
        self._marked_at = -NEVER
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
        """Bytes of the frames that wait."""
        return self._bytes

    @property
    def is_full(self) -> bool:
        """Whether the caller has to stop reading."""
        return self._bytes >= self._max_bytes or len(self._ready) + len(self._behind) >= self._max_frames

    @property
    def has_room(self) -> bool:
        """Whether the caller may read again: at least half of it is empty."""
        return self._bytes * 2 <= self._max_bytes and len(self) * 2 <= self._max_frames

    @property
    def has_gap(self) -> bool:
        """Whether data is missing before the frames that wait behind the gap."""
        return self._has_gap

    def put(self, frame: bytes, at: float) -> None:
        """Add a frame that arrived at a monotonic time, seconds."""
        self._arrived += 1
        if at - self._marked_at >= MARK_S:
            self._mark(at)
        (self._behind if self._has_gap else self._ready).append(frame)
        self._bytes += len(frame)
        self._changed.set()

    def age(self, now: float) -> float:
        """How long the oldest frame has waited, give or take `MARK_S`, seconds; 0 where none waits. Callable from any thread."""
        waiting = len(self)
        if not waiting:
            return 0.0
        marks = self._marks.copy()  # the event loop changes them meanwhile
        is_own = len(marks) > 1 and marks[1][0] <= self._arrived - waiting + 1
        return now - marks[is_own][1]

    def came_by(self, now: float) -> float:
        """When the last frame that was taken arrived at the latest: to within `MARK_S`, never after `now`; -inf before the first."""
        return min(now, self._marks[0][1] + MARK_S) if self._marks else -NEVER

    def take(self, most: int) -> list[bytes]:
        """Take at most so many frames, of those before any gap; empty where there are none."""
        ready = self._ready
        frames = [ready.popleft() for _ in range(min(most, len(ready)))]
        self._bytes -= sum(map(len, frames))
        if len(self._marks) > 1:
            self._forget_marks()
        return frames

    def ready_from(self, place: int) -> Iterator[bytes]:
        """Iterate over the frames that can be taken, from that place on, without taking them."""
        return islice(self._ready, place, None)

    def put_back(self, frames: list[bytes]) -> None:
        """Put frames that were taken back to the front."""
        self._ready.extendleft(reversed(frames))
        self._bytes += sum(map(len, frames))

    def lose(self) -> None:
        """Data is missing after everything that has arrived."""
        self._arrived -= len(self._behind)
        self._drop(self._behind)
        self._has_gap = True
        self._changed.set()

    def miss(self) -> None:
        """Data is missing before everything that waits."""
        if self._has_gap:
            self._drop(self._ready)
        else:
            self._behind, self._ready = self._ready, self._behind
        self._has_gap = True
        self._changed.set()

    def bridge(self) -> None:
        """The gap is being filled: what waited behind it comes next."""
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

    def _drop(self, frames: deque[bytes]) -> None:
        """Drop frames: the history that fills the gap has them too."""
        self._bytes -= sum(map(len, frames))
        frames.clear()
        while len(self._marks) > 1 and self._marks[-1][0] > self._arrived:
            self._marks.pop()
        self._forget_marks()
        self._marked_at = -NEVER

    def _mark(self, at: float) -> None:
        """Record when the frame that is added now arrived."""
        if len(self):
            self._marks.append((self._arrived, at))
        else:
            self._marks = deque([(self._arrived, at)])
        self._marked_at = at

    def _forget_marks(self) -> None:
        """Drop the marks of frames that were taken, all but the last."""
        taken = self._arrived - len(self)
        while len(self._marks) > 1 and self._marks[1][0] <= taken:
            self._marks.popleft()
