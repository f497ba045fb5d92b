"""A gap in the stream: what to request from the history, and which of its answers are given out.

**What fills a gap** (`Gap`) is the history up to the first event of the stream after the gap, and `overlap` more, as
events overtake each other: the stream has all later ones. Each channel of each symbol is requested at a time of its own,
so beyond that one answer may have events that another lacks, and would make those late. While the stream sends nothing,
the gap ends where the history is known to be complete. An answer beyond that shows that the history is further than
assumed: then everything is requested again up to there, until no answer goes beyond.

**The bar** of a minute in progress is in the history too, and is left to the stream. The stream gave nothing before its
first event, so a minute that ended by then has no more trades than the history has.
"""

from __future__ import annotations

import numpy as np

from torghut_core import MINUTE
from torghut_sources.alpaca.events import Events


class Gap:
    """What is missing between two events of the stream, and how far it is filled. Times are the feed's, ns.

    Parameters
    ----------
    since : the time from which on something may be missing.
    listening : the earliest and the latest time at which the stream can have started again.
    overlap : how far events may overtake each other, ns.

    Attributes
    ----------
    complete_until : everything before this was taken, apart from what `overlap` allows to come later.
    goes_beyond : the answer shows that the history is further than assumed: the rest of the answer is of no use.
    is_filled : nothing is missing any more.
    """

    def __init__(self, since: int, listening: tuple[int, int], overlap: int) -> None:
        self.complete_until = self._since = since
        self._listening = listening
        self._overlap = overlap
        self._reached = self._edge = since
        self._has_first = self._has_doubts = False
        self.goes_beyond = self.is_filled = False

    def aim(self, first: int | None, certain: int, limit: int) -> tuple[int, int]:
        """Return what to request next: from a time up to, not including, another.

        Parameters
        ----------
        first : the first event of the stream after the gap; None while there is none.
        certain : the time up to which the history is complete, at least.
        limit : the latest time that an event can have.
        """
        self._has_first, self._has_doubts, self.goes_beyond = first is not None, False, False
        since = max(self._since, self.complete_until - self._overlap)
        if first is None:
            self._edge = max(self._reached, certain)
            return since, limit + 1
        self._edge = max(first, self._listening[0])  # the first may be one that the stream sent late
        return since, self._edge + self._overlap + 1

    def take(self, events: Events) -> Events:
        """Return the events of a part of the answer that are to be given out; parts come in order."""
        if not len(events):
            return events
        known, in_bars = events.known_ts(), events.parts[2][1]
        open_bars = in_bars[known[in_bars] > self._edge]
        happened = known.copy()
        happened[open_bars] -= MINUTE
        latest, end = int(happened.max()), self._edge + self._overlap
        if latest > end:
            self.goes_beyond, self._reached = True, latest
        if not self._has_first and (known[open_bars] <= self._listening[1]).any():
            self._has_doubts = True  # its minute may have ended before the stream started
        self.complete_until = max(self.complete_until, min(int(known[-1]), self._edge))
        is_inside = known <= end
        is_inside[open_bars] = False
        return events.take(np.flatnonzero(is_inside))

    def answered(self) -> None:
        """The answer was taken, to its end or until `goes_beyond`."""
        self.is_filled = not (self.goes_beyond or self._has_doubts)
