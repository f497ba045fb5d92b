"""The feed's clock: what time it is where events are stamped, as far as they tell it.

An event was stamped before it came. So at any moment the feed's time is at least that of its last event and what passed
since; how much more cannot be known, and does not have to be. Times are the feed's, ns; moments are monotonic, seconds.
"""

from __future__ import annotations

from torghut_core import SECOND


class FeedClock:
    """Told what comes, it says what time it is.

    Parameters
    ----------
    known : up to when everything was given out before the start; None where nothing was.
    ahead : how far the time of day may be wrong, ns. It is asked for as `wall`, at the moment in question, and taken where
        the stream has told nothing yet.

    Attributes
    ----------
    latest : the latest time that anything had, of stream or history.
    whole : all before was given out, whatever may still be overtaken.
    """

    def __init__(self, known: int | None, ahead: int) -> None:
        self._ahead = ahead
        self.latest = self.whole = known
        self._latest_at: float | None = None
        self._heard: tuple[int, float] | None = None

    def hear(self, ts: int, moment: float) -> None:
        """The stream told an event of that time; it came at that moment, or before."""
        self.learn(ts, moment)
        if self.whole is None or ts >= self.whole:
            self.whole, self._heard = ts, (ts, moment)

    def learn(self, ts: int, moment: float) -> None:
        """An event of that time is known, whoever told it."""
        if self.latest is None or ts >= self.latest:
            self.latest, self._latest_at = ts, moment

    def fill(self, ts: int, moment: float) -> None:
        """All before that time is given out; it is that late at this moment, or later."""
        if self.whole is not None and ts <= self.whole:
            return
        self.whole = ts
        if self._heard is not None and self.at(moment, 0)[0] < ts:
            self._heard = (ts, moment)

    def go_on(self, moment: float) -> None:
        """What happened before is known, as far as anybody knows: from here on silence has a time."""
        if self._latest_at is None:
            self._latest_at = moment

    def at(self, moment: float, wall: int) -> tuple[int, int]:
        """The feed's time at a moment: the earliest and the latest that it can be, but for what events take to come."""
        if self._heard is None:
            return wall - self._ahead, wall + self._ahead
        ts, heard_at = self._heard
        now = ts + int((moment - heard_at) * SECOND)
        return now, now

    def silent_at(self, moment: float) -> int | None:
        """The feed's time at a moment up to which nothing came after `latest`; None where nothing is known yet."""
        if self.latest is None or self._latest_at is None:
            return None
        return self.latest + int(max(0.0, moment - self._latest_at) * SECOND)

    def limit(self, moment: float, wall: int) -> int:
        """The latest time that an event can have at a moment: `ahead` more than the clock that is furthest."""
        return max(wall, self.latest or 0, self.at(moment, wall)[0]) + self._ahead
