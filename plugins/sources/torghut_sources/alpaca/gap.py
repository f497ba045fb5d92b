"""A gap in the stream: what to ask of the history, and what of its answers is given out.

**What fills a gap** (`Gap`) is the history up to the first event that the stream tells behind it, and `overlap` more, as
events overtake each other: of the rest the stream has all. Each channel of each symbol is asked at a time of its own, so
beyond that one may have what another lacks, and it would make that late. While the stream tells nothing, the edge is how
far the history can be known to be told. An answer beyond that shows that it is later than thought, and all are asked again
up to there, until no answer goes beyond.

**A bar** of a minute that goes on still is in the history too, and is left to the stream. Nothing came by the stream before
its first event, so a minute that ended by then has no more trades than the history knows.
"""

from __future__ import annotations

import numpy as np

from torghut_core import MINUTE
from torghut_sources.alpaca.events import Events


class Gap:
    """What is missing between two events of the stream, and how far it is found. Times are the feed's, ns.

    Parameters
    ----------
    since : from when on something may be missing.
    listening : the earliest and the latest that it may have been when the stream was listened to again.
    overlap : how far events may overtake each other, ns.

    Attributes
    ----------
    whole : all before was taken, whatever `overlap` lets come later.
    goes_beyond : the answer says that it is later than thought: the rest of it is of no use.
    is_filled : nothing is missing any more.
    """

    def __init__(self, since: int, listening: tuple[int, int], overlap: int) -> None:
        self.whole = self._since = since
        self._listening = listening
        self._overlap = overlap
        self._told = self._edge = since
        self._has_first = self._has_doubts = False
        self.goes_beyond = self.is_filled = False

    def aim(self, first: int | None, certain: int, limit: int) -> tuple[int, int]:
        """What to ask next, from and up to, not including.

        Parameters
        ----------
        first : the first event that the stream told behind the gap; None while there is none.
        certain : up to when the history tells all, at least.
        limit : the latest time that can be.
        """
        self._has_first, self._has_doubts, self.goes_beyond = first is not None, False, False
        since = max(self._since, self.whole - self._overlap)
        if first is None:
            self._edge = max(self._told, certain)
            return since, limit + 1
        self._edge = max(first, self._listening[0])  # the first may be one that was told late
        return since, self._edge + self._overlap + 1

    def take(self, events: Events) -> Events:
        """What is given out of a part of the answer; parts come in order."""
        if not len(events):
            return events
        known, in_bars = events.known_ts(), events.parts[2][1]
        open_bars = in_bars[known[in_bars] > self._edge]
        happened = known.copy()
        happened[open_bars] -= MINUTE
        latest, end = int(happened.max()), self._edge + self._overlap
        if latest > end:
            self.goes_beyond, self._told = True, latest
        if not self._has_first and (known[open_bars] <= self._listening[1]).any():
            self._has_doubts = True  # it may have ended before there was a stream to tell it
        self.whole = max(self.whole, min(int(known[-1]), self._edge))
        is_inside = known <= end
        is_inside[open_bars] = False
        return events.take(np.flatnonzero(is_inside))

    def answered(self) -> None:
        """The answer was taken, to its end or until it went beyond."""
        self.is_filled = not (self.goes_beyond or self._has_doubts)
