"""The feed's clock: what time it is at the venue, estimated from the events' timestamps.

An event was stamped before it arrived. So at any moment the feed's time is at least that of its last event plus what has
passed since; how much more cannot be known, and does not have to be. Times are the feed's, ns; moments are monotonic,
seconds.
"""

from __future__ import annotations

from torghut_core import SECOND


class FeedClock:
    """Estimates the venue's time from the events that arrive.

    Parameters
    ----------
    known : the time up to which everything was given out before the start; None where nothing was.
    ahead : how far the time of day may be wrong, ns. The time of day is given as `wall`, at the moment in question, and
        used while the stream has sent nothing yet.

    Attributes
    ----------
    latest : the latest time of any event, of stream or history.
    complete_until : everything before this was given out, except for events that may still overtake each other.
    """

    def __init__(self, known: int | None, ahead: int) -> None:
        self._ahead = ahead
        self.latest = self.complete_until = known
        self._latest_at: float | None = None
        self._received: tuple[int, float] | None = None

    def receive(self, ts: int, moment: float) -> None:
        """The stream sent an event of that time; it arrived at that moment, or before."""
        self.observe(ts, moment)
        if self.complete_until is None or ts >= self.complete_until:
            self.complete_until, self._received = ts, (ts, moment)

    def observe(self, ts: int, moment: float) -> None:
        """An event of that time is known, from the stream or the history."""
        if self.latest is None or ts >= self.latest:
            self.latest, self._latest_at = ts, moment

    def complete(self, ts: int, moment: float) -> None:
        """Everything before `ts` was given out; at this moment the feed's time is `ts` or later."""
        if self.complete_until is not None and ts <= self.complete_until:
            return
        self.complete_until = ts
        if self._received is not None and self.at(moment, 0)[0] < ts:
            self._received = (ts, moment)

    def resume(self, moment: float) -> None:
        """Everything so far is known: from this moment on a silent feed has a time."""
        if self._latest_at is None:
            self._latest_at = moment

    def at(self, moment: float, wall: int) -> tuple[int, int]:
        """The feed's time at a moment: the earliest and the latest that it can be, apart from how long events travel."""
        if self._received is None:
            return wall - self._ahead, wall + self._ahead
        ts, received_at = self._received
        now = ts + int((moment - received_at) * SECOND)
        return now, now

    def silent_at(self, moment: float) -> int | None:
        """The feed's time at a moment up to which nothing arrived after `latest`; None where nothing is known yet."""
        if self.latest is None or self._latest_at is None:
            return None
        return self.latest + int(max(0.0, moment - self._latest_at) * SECOND)

    def limit(self, wall: int) -> int:
        """The latest time that an event can have: `ahead` more than the time of day. No event moves it."""
        return wall + self._ahead
