"""Timers of strategies: moments that recur, such as those of ``every("1Day", at="15:50", calendar="XNYS")``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from torghut_core.calendars import ROUND_THE_CLOCK, calendar_zone, check_calendar, exchange_sessions
from torghut_core.model.market import TIMEFRAMES, IntArray
from torghut_core.timestamps import DAY, MINUTE, from_datetime, to_datetime

_AT = re.compile(r"(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)|(?P<edge>open|close)(?P<offset>[+-]\d{1,3})?", re.ASCII)


class Timer(msgspec.Struct, frozen=True, gc=False):
    """A timer whose moment has passed: its name, and that moment, ns."""

    name: str
    moment: int


@dataclass(frozen=True)
class Every:
    """Moments that recur; made by `every`."""

    interval: str
    at: str
    calendar: str
    name: str

    def moments(self, since: int, until: int) -> IntArray:
        """The moments in ``(since, until]``, ns, rising; shape (n,)."""
        step = TIMEFRAMES[self.interval]
        if step < DAY:
            found = np.arange(since // step + 1, until // step + 1, dtype=np.int64) * step
        else:
            found = self._of_days(since, until)
            found = found[(found > since) & (found <= until)]
        if self.calendar == ROUND_THE_CLOCK or step >= DAY or not len(found):
            return found
        opens, closes = self._sessions(since, until)
        number = closes.searchsorted(found, "right")
        is_in = number < len(opens)
        is_in[is_in] = opens[number[is_in]] <= found[is_in]
        return found[is_in]

    def next(self, since: int) -> int:
        """The first moment after a time, ns."""
        ahead = DAY
        while not len(found := self.moments(since, since + ahead)):
            ahead *= 2
            if ahead > 64 * DAY:
                return since + ahead  # to be asked again then: the calendar may know no more sessions
        return int(found[0])

    def _of_days(self, since: int, until: int) -> IntArray:
        """The moments of these days, and of some before and after them."""
        opens, closes = self._sessions(since, until)
        at = _AT.fullmatch(self.at)
        assert at is not None
        if at["edge"]:
            edges = opens if at["edge"] == "open" else closes
            return edges + int(at["offset"] or 0) * MINUTE
        zone = ZoneInfo(calendar_zone(self.calendar))
        days = [to_datetime(close - 1).astimezone(zone) for close in closes.tolist()]
        hour, minute = int(at["hour"]), int(at["minute"])
        moments = [from_datetime(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)) for day in days]
        return np.array(moments, np.int64)

    def _sessions(self, since: int, until: int) -> tuple[IntArray, IntArray]:
        """Opens and closes of the sessions of these days, and of some before and after them."""
        first, last = since - 2 * DAY, until + 2 * DAY
        if self.calendar == ROUND_THE_CLOCK:
            opens = np.arange(first // DAY, last // DAY + 1, dtype=np.int64) * DAY
            return opens, opens + DAY
        years = [
            to_datetime(moment).year for moment in (first, last)
        ]  # whole years: few different calls, which are cached
        sessions = exchange_sessions(self.calendar, f"{years[0]:04}-01-01", f"{years[1]:04}-12-31")
        return sessions.opens, sessions.closes


def every(interval: str, at: str = "", calendar: str = ROUND_THE_CLOCK, name: str = "") -> Every:
    """Moments that recur, for `Strategy.timers`.

    Parameters
    ----------
    interval : a timeframe. ``5Min``: each multiple of five minutes since 1970, UTC; ``1Day``: once a day.
    at : only with ``1Day``: a time in the calendar's zone (``15:50``), or minutes from the session's open or close
        (``open+5``, ``close-10``); the open by default.
    calendar : an exchange calendar: moments outside of its sessions, or on days without one, are left out.
    name : by which the handler knows it; the other arguments by default, as in the example.

    Raises
    ------
    ValueError : an argument is none of these.

    Examples
    --------
    >>> every("1Day", at="15:50", calendar="XNYS").name
    '1Day 15:50 XNYS'
    """
    if interval not in TIMEFRAMES:
        raise ValueError(f"every({interval!r:.40}): no timeframe (use one of {', '.join(TIMEFRAMES)})")
    if at and TIMEFRAMES[interval] < DAY:
        raise ValueError(f"every({interval!r}, at={at!r:.40}): a time is of a day (write every('1Day', at=...))")
    if at and not _AT.fullmatch(at):
        raise ValueError(
            f"every({interval!r}, at={at!r:.40}): write '15:50', 'open', 'open+5', 'close' or 'close-10' (minutes)"
        )
    check_calendar(calendar)
    name = name or " ".join(part for part in (interval, at, "" if calendar == ROUND_THE_CLOCK else calendar) if part)
    return Every(interval, at or ("open" if TIMEFRAMES[interval] >= DAY else ""), calendar, name)
