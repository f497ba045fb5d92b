"""When exchanges trade: the calendars of exchange_calendars, with their holidays, half days and changes of the clock.

exchange_calendars and pandas take a second to import, so both are imported when a calendar is first needed. The kernel
needs neither: a plugin that uses this module lists `exchange-calendars` in its dependencies.

A calendar that knows its holidays up to some year has no sessions after that: hours that would have to be guessed are none.
None has sessions before 1680 or after 2260.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torghut_core.timestamps import DAY, from_datetime

ROUND_THE_CLOCK = "24/7"
"""The calendar that is never closed, and whose sessions are the days of UTC."""

_FOREVER = 2**63 - 1

_EARLIEST, _LATEST = "1680-01-01", "2260-12-31"
"""The dates for which calendars are asked; pandas, which they are made of, fails near the ends of 64 bits of nanoseconds."""


class ExchangeSessions(NamedTuple):
    """Sessions of an exchange, oldest first; all times are ns.

    Attributes
    ----------
    opens, closes : shape (n,).
    break_starts, break_ends : shape (n,), the pause within a session; negative where it has none.
    until : the time from which on the calendar does not know its sessions.
    """

    opens: NDArray[np.int64]
    closes: NDArray[np.int64]
    break_starts: NDArray[np.int64]
    break_ends: NDArray[np.int64]
    until: int


def check_calendar(name: str) -> str:
    """Return the name of a calendar that exists.

    Raises
    ------
    ValueError : it does not; the message has the nearest name.

    Examples
    --------
    >>> check_calendar("XNYS")
    'XNYS'
    """
    if name not in (ROUND_THE_CLOCK, "XNYS"):  # these are known without the slow import
        from exchange_calendars import get_calendar_names

        names = get_calendar_names()
        if name not in names:
            nearest = difflib.get_close_matches(name, names, 1, 0)
            raise ValueError(f"{name!r} is no calendar of exchange_calendars (the nearest is {nearest[0]!r})")
    return name


@cache
def calendar_bounds(name: str) -> tuple[str | None, str | None]:
    """Return the first and the last date that a calendar knows, None where it knows all. The first call is slow."""
    with _calendar(name) as calendar:
        low, high = calendar.bound_min(), calendar.bound_max()
    return (None if low is None else low.date().isoformat(), None if high is None else high.date().isoformat())


@cache
def exchange_sessions(name: str, first: str, last: str) -> ExchangeSessions:
    """Return the sessions of a calendar from one date to another, both ISO dates such as ``2026-01-05``, both included."""
    low, high = calendar_bounds(name)
    first, until = max(first, low or _EARLIEST), _FOREVER
    high = min(high or _LATEST, _LATEST)
    if high < last:
        last, until = high, from_datetime(datetime.fromisoformat(high).replace(tzinfo=UTC)) + DAY
    if first >= last:
        nothing: NDArray[np.int64] = np.empty(0, np.int64)
        return ExchangeSessions(nothing, nothing, nothing, nothing, until)
    with _calendar(name, start=first, end=last) as found:
        return ExchangeSessions(
            found.opens_nanos, found.closes_nanos, found.break_starts_nanos, found.break_ends_nanos, until
        )


@contextmanager
def _calendar(name: str, **dates: str) -> Iterator[Any]:
    from exchange_calendars import get_calendar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars 4.13 does what pandas 3.1 deprecates
        yield get_calendar(name, **dates)
