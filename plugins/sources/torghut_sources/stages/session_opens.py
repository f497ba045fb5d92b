"""When trading sessions open: 00:00 UTC for what trades round the clock, else by an exchange's calendar.

A calendar is loaded when a symbol needs it, as the import takes a second. A calendar that knows its holidays up to some
year has no sessions after that: an open that would have to be guessed is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from torghut_core import DAY, ROUND_THE_CLOCK, IntArray, calendar_of, exchange_sessions, to_datetime
from torghut_core.stages import kernel

SPAN = np.dtype([("calendar", np.int64), ("open", np.int64), ("next", np.int64)])
"""State: the number of a calendar, and the session that was found last, from its open to the next one, ns."""

YEAR = 366 * DAY
NEVER = -(2**63)
ALWAYS = 2**63 - 1

NO_CALENDAR = 0
EVERY_DAY = 1
FIRST_EXCHANGE = 2
"""Numbers of calendars; those of exchanges count from the last one."""


@kernel
def session_open(span: Any, opens: IntArray, ends: IntArray, ts: int) -> int:
    """Return the latest open of a span's calendar at or before `ts`; `NEVER` where there is none."""
    if span.open <= ts < span.next:
        return int(span.open)
    span.open = NEVER
    span.next = ALWAYS
    exchange = span.calendar - FIRST_EXCHANGE
    if span.calendar == EVERY_DAY:
        span.open = ts // DAY * DAY
        span.next = span.open + DAY
    elif exchange >= 0 and ts < ends[exchange]:
        low, high = 0, opens.shape[1]
        while low < high:
            middle = (low + high) // 2
            if opens[exchange, middle] <= ts:
                low = middle + 1
            else:
                high = middle
        if low > 0:
            span.open = opens[exchange, low - 1]
        span.next = ends[exchange]
        if low < opens.shape[1]:
            span.next = min(span.next, opens[exchange, low])
    return int(span.open)


class SessionOpens:
    """Session opens of the calendars of symbols.

    Parameters
    ----------
    calendars : calendar name by symbol pattern (``*`` and ``?``); the first pattern that matches a symbol counts; a
        symbol without a match has no sessions.

    Attributes
    ----------
    opens, closes : shape (calendars in use, any), rising times of opens and closes, ns, padded with `ALWAYS`.
    ends : shape (calendars in use,), the time from which a calendar's sessions are not known, ns.
    first, until : the times that `opens` covers; call `cover` before asking for others.
    """

    def __init__(self, calendars: Mapping[str, str]) -> None:
        self._calendars = dict(calendars)
        self._in_use: list[str] = []
        self.opens: IntArray = np.empty((0, 0), np.int64)
        self.closes: IntArray = np.empty((0, 0), np.int64)
        self.ends: IntArray = np.empty(0, np.int64)
        self.first, self.until = NEVER, ALWAYS

    def calendar(self, symbol: str) -> int:
        """Return the number of a symbol's calendar, for `SPAN`."""
        name = calendar_of(symbol, self._calendars)
        if name is None:
            return NO_CALENDAR
        if name == ROUND_THE_CLOCK:
            return EVERY_DAY
        if name not in self._in_use:
            self._in_use.append(name)
            self.first, self.until = ALWAYS, NEVER
        return FIRST_EXCHANGE + self._in_use.index(name)

    def cover(self, ts: int) -> None:
        """Load opens for a time, and some years around it."""
        year = ts - ts % YEAR
        self.first = max(NEVER, min(self.first, year - YEAR))
        self.until = min(ALWAYS, max(self.until, year + 10 * YEAR))
        dates = [to_datetime(at).date().isoformat() for at in (self.first - 30 * DAY, self.until + 30 * DAY)]
        known = [exchange_sessions(name, *dates) for name in self._in_use]
        self.ends = np.array([each.until for each in known], np.int64)
        self.opens, self.closes = _padded([each.opens for each in known]), _padded([each.closes for each in known])


def _padded(columns: list[IntArray]) -> IntArray:
    """Return columns as the rows of one array, shape (columns, longest), padded with `ALWAYS`."""
    rows = np.full((len(columns), max(map(len, columns))), ALWAYS, np.int64)
    for row, column in zip(rows, columns, strict=True):
        row[: len(column)] = column
    return rows
