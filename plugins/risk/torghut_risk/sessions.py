"""When a venue trades, by the calendars of exchange_calendars with their holidays, half days and changes of the clock.

Its import takes a second, so it happens only when a calendar is needed. A calendar that knows its holidays up to some
year has no sessions after that: hours that would have to be guessed are none. What is loaded depends on the time that
is asked about and never on today, so that the same question has the same answer on any day.
"""

from __future__ import annotations

import difflib
import warnings
from bisect import bisect_right
from functools import cache
from typing import NamedTuple

from torghut_core import to_datetime

ROUND_THE_CLOCK = "24/7"
"""The calendar that is never closed."""


class Sessions(NamedTuple):
    """Stretches of time in which a venue trades without a pause, ns, rising: from an open to before its close."""

    opens: list[int]
    closes: list[int]

    def hours(self, now: int, after_open: int, before_close: int) -> tuple[int, int] | None:
        """The stretch that `now` is in, or else the next one, cut by so many ns at its ends; None where none is known."""
        for number in range(bisect_right(self.closes, now), len(self.closes)):
            start, end = self.opens[number] + after_open, self.closes[number] - before_close
            if start < end and now < end:
                return start, end
        return None


def check_calendar(name: str) -> str:
    """The name of a calendar that exists.

    Raises
    ------
    ValueError : it does not; the message has the nearest name.
    """
    if name not in (ROUND_THE_CLOCK, "XNYS"):  # these are known without the slow import
        from exchange_calendars import get_calendar_names

        names = get_calendar_names()
        if name not in names:
            nearest = difflib.get_close_matches(name, names, 1, 0)
            raise ValueError(f"{name!r} is no calendar of exchange_calendars (the nearest is {nearest[0]!r})")
    return name


def sessions(name: str, now: int) -> Sessions:
    """Sessions of a calendar around a time: at least from the month before its year to the month after."""
    return _sessions_of_year(name, to_datetime(now).year)


@cache
def load_bounds(name: str) -> tuple[str | None, str | None]:
    """First and last date that a calendar knows, None where it knows all; the first call is slow."""
    from exchange_calendars import get_calendar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars 4.13 does what pandas 3.1 deprecates
        calendar = get_calendar(name)
        low, high = calendar.bound_min(), calendar.bound_max()
    return (None if low is None else low.date().isoformat(), None if high is None else high.date().isoformat())


@cache
def _sessions_of_year(name: str, year: int) -> Sessions:
    from exchange_calendars import get_calendar

    low, high = load_bounds(name)
    start, end = max(f"{year - 1:04}-12-01", low or ""), min(f"{year + 1:04}-01-31", high or "9999")
    if start >= end:
        return Sessions([], [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see above
        calendar = get_calendar(name, start=start, end=end)
        edges = zip(
            calendar.opens_nanos.tolist(),
            calendar.break_starts_nanos.tolist(),
            calendar.break_ends_nanos.tolist(),
            calendar.closes_nanos.tolist(),
            strict=True,
        )
    found = Sessions([], [])
    for opened, paused, resumed, closed in edges:
        for first, stop in ((opened, paused), (resumed, closed)) if paused > 0 else ((opened, closed),):
            if found.closes and first <= found.closes[-1]:  # the venue goes from one session into the next
                found.closes[-1] = stop
            else:
                found.opens.append(first)
                found.closes.append(stop)
    return found
