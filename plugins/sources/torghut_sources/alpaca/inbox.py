"""Frames between the socket and whoever reads them: a bounded queue that knows where something is missing.

What comes after a gap waits behind it until the gap is being filled. When something is lost once more before that, behind
it or before it, what waits between the two is dropped: the history that will fill the gap has it too. So there is one gap
at a time, and frames that are taken follow each other without any.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice

NEVER = float("inf")
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
        """Number of a frame and when it came, for one now and then; once there is one, there is always one."""
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
        """Bytes that wait."""
        return self._bytes

    @property
    def is_full(self) -> bool:
        """Whether to stop reading."""
        return self._bytes >= self._max_bytes or len(self._ready) + len(self._behind) >= self._max_frames

    @property
    def has_room(self) -> bool:
        """Whether to read again: it is half empty."""
        return self._bytes * 2 <= self._max_bytes and len(self) * 2 <= self._max_frames

    @property
    def has_gap(self) -> bool:
        """Whether something is missing before all frames that can be taken later."""
        return self._has_gap

    def put(self, frame: bytes, at: float) -> None:
        """A frame came, at a monotonic time, seconds."""
        self._came += 1
        if at - self._marked_at >= MARK_S:
            self._mark(at)
        (self._behind if self._has_gap else self._ready).append(frame)
        self._bytes += len(frame)
        self._changed.set()

    def age(self, now: float) -> float:
        """How long the oldest frame has waited, give or take `MARK_S`, seconds; 0 where none waits. Any thread may ask."""
        waiting = len(self)
        if not waiting:
            return 0.0
        marks = self._marks.copy()  # the loop changes them meanwhile
        is_own = len(marks) > 1 and marks[1][0] <= self._came - waiting + 1
        return now - marks[is_own][1]

    def came_by(self, now: float) -> float:
        """When all that was taken had come at the latest: right to `MARK_S`, and never later than `now`; -inf before."""
        return min(now, self._marks[0][1] + MARK_S) if self._marks else -NEVER

    def take(self, most: int) -> list[bytes]:
        """At most so many frames, before any gap; empty where there are none."""
        ready = self._ready
        frames = [ready.popleft() for _ in range(min(most, len(ready)))]
        self._bytes -= sum(map(len, frames))
        if len(self._marks) > 1:
            self._forget_marks()
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
        self._came -= len(self._behind)
        self._drop(self._behind)
        self._has_gap = True
        self._changed.set()

    def miss(self) -> None:
        """Something is missing before all that is here."""
        if self._has_gap:
            self._drop(self._ready)
        else:
            self._behind, self._ready = self._ready, self._behind
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

    def _drop(self, frames: deque[bytes]) -> None:
        """The history that fills the gap has these too."""
        self._bytes -= sum(map(len, frames))
        frames.clear()
        while len(self._marks) > 1 and self._marks[-1][0] > self._came:
            self._marks.pop()
        self._forget_marks()
        self._marked_at = -NEVER

    def _mark(self, at: float) -> None:
        """The frame that comes now has a mark."""
        if len(self):
            self._marks.append((self._came, at))
        else:
            self._marks = deque([(self._came, at)])
        self._marked_at = at

    def _forget_marks(self) -> None:
        """Those of frames that do not wait any more, but for the last."""
        taken = self._came - len(self)
        while len(self._marks) > 1 and self._marks[1][0] <= taken:
            self._marks.popleft()
