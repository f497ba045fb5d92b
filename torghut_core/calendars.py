"""When exchanges trade: the calendars of exchange_calendars, with their holidays, half days and changes of the clock.

exchange_calendars and pandas take a second to import, so both are imported when a calendar is first needed. The kernel
needs neither: a plugin that uses this module lists `exchange-calendars` in its dependencies.

A calendar that knows its holidays up to some year has no sessions after that: hours that would have to be guessed are none.
None has sessions before 1680 or after 2260.
"""

from __future__ import annotations

import difflib
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from torghut_core.timestamps import DAY, HOUR, from_datetime, to_datetime

T = TypeVar("T")
ROUND_THE_CLOCK = "24/7"
"""The calendar that is never closed, and whose sessions are the days of UTC."""

PAIRS_AND_US_EQUITIES: Mapping[str, str] = MappingProxyType({"*/*": ROUND_THE_CLOCK, "*": "XNYS"})
"""The calendars of a venue that lists crypto pairs (``BTC/USD``) and equities of the USA."""

LONGEST_DAY = 25 * HOUR
"""From midnight to midnight, where clocks are set back."""

DAY_ZONES = (
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Athens",
    "Australia/Sydney",
    "Pacific/Auckland",
)
"""Time zones that change their clocks, for days that do not begin at midnight UTC: the first in which a day begins at midnight
is the zone of that day."""

_FOREVER = 2**63 - 1
_YEAR = 366 * DAY

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


class Session(NamedTuple):
    """A session of an exchange, or a day of UTC: from its open to before its close, ns."""

    opens: int
    closes: int


def check_calendar(name: str) -> str:
    """Return the name of a calendar that exists.

    Raises
    ------
    ValueError : it does not, and the message has the nearest name; or exchange_calendars fails to make it.

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
        try:
            _sessions_of_decade(name, 202)
        except Exception as error:  # whatever a calendar of theirs raises: NotImplementedError, ValueError
            raise ValueError(
                f"exchange_calendars cannot make {name!r}: {type(error).__name__}, {str(error)[:80]}"
            ) from error
    return name


Calendars: TypeAlias = dict[str, Annotated[str, AfterValidator(check_calendar)]]
"""Type of a parameter: exchange calendar by symbol or pattern of symbols (``*`` and ``?``); the first match counts."""


@cache
def calendar_bounds(name: str) -> tuple[str | None, str | None]:
    """Return the first and the last date that a calendar knows, None where it knows all. The first call is slow."""
    with _calendar(name) as calendar:
        low, high = calendar.bound_min(), calendar.bound_max()
    return (None if low is None else low.date().isoformat(), None if high is None else high.date().isoformat())


@cache
def calendar_zone(name: str) -> str:
    """Return the time zone of a calendar."""
    if name == ROUND_THE_CLOCK:
        return "UTC"
    with _calendar(name) as calendar:
        return str(calendar.tz)


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


def session_at(name: str, ts: int) -> Session | None:
    """Return the session that a time (ns) is in, or else the next one; None where the calendar knows none. Ignores pauses.

    Examples
    --------
    >>> session_at("24/7", 3 * DAY + 1)
    Session(opens=259200000000000, closes=345600000000000)
    """
    if name == ROUND_THE_CLOCK:
        day = ts // DAY * DAY
        return Session(day, day + DAY)
    opens, closes = _sessions_of_decade(name, to_datetime(ts).year // 10)
    number = bisect_right(closes, ts)
    return Session(opens[number], closes[number]) if number < len(opens) else None


@cache
def _sessions_of_decade(name: str, decade: int) -> tuple[list[int], list[int]]:
    """Return opens and closes of a decade and of the years beside it, which depend on nothing else."""
    known = exchange_sessions(name, f"{10 * decade - 1:04}-01-01", f"{10 * decade + 10:04}-12-31")
    return known.opens.tolist(), known.closes.tolist()


@contextmanager
def _calendar(name: str, **dates: str) -> Iterator[Any]:
    from exchange_calendars import get_calendar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars 4.13 does what pandas 3.1 deprecates
        yield get_calendar(name, **dates)


def calendar_of(symbol: str, calendars: Mapping[str, str]) -> str | None:
    """Return the calendar of a symbol: that of the first pattern (``*`` and ``?``) that matches it, None where none does.

    Examples
    --------
    >>> calendar_of("SPY", {"*/*": "24/7", "SP*": "XNYS"}), calendar_of("BTC-PERP", {"SP*": "XNYS"})
    ('XNYS', None)
    """
    return first_match(symbol, calendars)


def first_match(symbol: str, by_pattern: Mapping[str, T]) -> T | None:
    """Return what the first pattern (``*`` and ``?``) that matches a symbol has; None where none does.

    Examples
    --------
    >>> first_match("ES", {"E*": 50, "*": 1}), first_match("ES", {"NQ": 20})
    (50, None)
    """
    return next((value for pattern, value in by_pattern.items() if fnmatchcase(symbol, pattern)), None)


class BarEnds:
    """When bars are complete. A day is as long as its calendar and its time zone make it, 23 to 25 hours and a session of any length.

    A bar of one or more days whose symbol has an exchange calendar ends with the last session in it. Round the clock, and
    where there is no session, it ends so many midnights later: of UTC if it begins at one, or else of the first of
    `DAY_ZONES` in which it begins at midnight. Other bars end a step after their start.

    Parameters
    ----------
    calendars : calendar name by symbol pattern, see `calendar_of`; a symbol without one trades round the clock.
    """

    def __init__(self, calendars: Mapping[str, str] = {}) -> None:
        self._calendars = dict(calendars)
        self._known: dict[str, tuple[int, int, ExchangeSessions]] = {}
        """By calendar, the times that its sessions here cover, and these."""

    def of(
        self, names: Sequence[str], symbol: NDArray[np.int64], event_ts: NDArray[np.int64], step: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the ends of bars.

        Parameters
        ----------
        names : of the symbols, by number.
        symbol, event_ts, step : shape (n,), numbers, starts and lengths, the latter two ns; a day is 24 hours in `step`.

        Returns
        -------
        Shape (n,), ns.
        """
        ends = event_ts + step
        rows = np.flatnonzero((step >= DAY) & (step % DAY == 0))
        if not len(rows):
            return ends
        calendars = {int(number): self._calendar(names[number]) for number in np.unique(symbol[rows])}
        numbering = list(dict.fromkeys(calendars.values()))
        numbers = np.zeros(len(names), np.int64)
        for number, name in calendars.items():
            numbers[number] = numbering.index(name)
        for number, calendar in enumerate(numbering):
            own = rows[numbers[symbol[rows]] == number]
            if calendar == ROUND_THE_CLOCK:
                own = own[event_ts[own] % DAY != 0]
            for length in np.unique(step[own]).tolist():
                same = own[step[own] == length]
                starts, place = np.unique(event_ts[same], return_inverse=True)
                found = [self._end(start, length // DAY, calendar) for start in starts.tolist()]
                ends[same] = np.array(found, np.int64)[place]
        return ends

    def end(self, symbol: str, event_ts: int, step: int) -> int:
        """Return the end of one bar, as `of`."""
        if step < DAY or step % DAY:
            return event_ts + step
        return self._end(event_ts, step // DAY, self._calendar(symbol))

    def _calendar(self, symbol: str) -> str:
        return calendar_of(symbol, self._calendars) or ROUND_THE_CLOCK

    def _end(self, start: int, days: int, calendar: str) -> int:
        if calendar != ROUND_THE_CLOCK:
            sessions = self._sessions(calendar, start, start + days * DAY)
            first = int(np.searchsorted(sessions.closes, start, side="right"))
            # A session may open two hours before the midnight at which its own day begins.
            last = int(np.searchsorted(sessions.opens, start + days * DAY - 2 * HOUR)) - 1
            if last >= first:
                return int(sessions.closes[last])
        return _later_midnight(start, days)

    def _sessions(self, calendar: str, first: int, last: int) -> ExchangeSessions:
        since, until, sessions = self._known.get(calendar, (0, 0, None))
        if sessions is None or first < since or last >= until:
            year = first - first % _YEAR
            bounds = [year - _YEAR, year + 10 * _YEAR] if sessions is None else [since, until]
            since, until = min(bounds[0], year - _YEAR), max(bounds[1], last + _YEAR)
            sessions = exchange_sessions(calendar, *(to_datetime(at).date().isoformat() for at in (since, until)))
            since, until = since + 30 * DAY, until - 30 * DAY
            self._known[calendar] = since, until, sessions
        return sessions


@lru_cache(maxsize=65_536)
def _later_midnight(start: int, days: int) -> int:
    """Return the midnight `days` days after the one at `start`, or so many times 24 hours later where that is none."""
    if start % DAY:
        for name in DAY_ZONES:
            local = to_datetime(start).astimezone(ZoneInfo(name))
            if not (local.hour or local.minute or local.second or local.microsecond):
                midnight = (local.replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=ZoneInfo(name))
                return min(from_datetime(midnight), _FOREVER)
    return start + days * DAY
