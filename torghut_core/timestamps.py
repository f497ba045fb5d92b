"""Time as torghut keeps it: integers, nanoseconds since 1970-01-01T00:00:00Z.

`datetime` stops at microseconds and venues print nanoseconds, so time is an `int` everywhere and becomes text
(RFC 3339, UTC, "Z") at the edges, here. Whoever asks for the time is given a `Clock` when it is made, so that a test can
set it; nobody calls `time.time_ns` or `time.monotonic` directly.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EARLIEST = -(2**63)
"""Before every time that can be kept, ns."""
LATEST = 2**63 - 1
"""After every such time, ns."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a part of the kernel asks for the time. The default is the machine's.

    Attributes
    ----------
    wall : the time of day, ns since 1970; it jumps when the machine's clock is set.
    monotonic : seconds that only grow, for waits and ages; meaningless outside this process.

    Examples
    --------
    >>> stopped = Clock(wall=lambda: 5 * SECOND, monotonic=lambda: 0.0)
    >>> stopped.wall(), stopped.monotonic()
    (5000000000, 0.0)
    """

    wall: Callable[[], int] = time.time_ns
    monotonic: Callable[[], float] = time.monotonic


SYSTEM_CLOCK = Clock()
"""The machine's clock: the default of every `clock` parameter."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)", re.ASCII)


def parse_timestamp(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 timestamp with a zone.

    Raises
    ------
    ValueError : no zone, more than nine fraction digits, or no timestamp at all.

    Examples
    --------
    >>> parse_timestamp("2026-01-05T14:30:00.000000001Z")
    1767623400000000001
    >>> parse_timestamp("2026-01-05T09:30:00-05:00") == parse_timestamp("2026-01-05T14:30:00Z")
    True
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 timestamp with a zone, like 2026-01-05T14:30:00.123Z")
    day, clock, fraction, zone = match.groups()
    offset = "+00:00" if zone in "Zz" else zone
    whole = (datetime.fromisoformat(f"{day}T{clock}{offset}") - _EPOCH) // timedelta(seconds=1)
    return whole * SECOND + int((fraction or "").ljust(9, "0"))


def format_timestamp(ns: int) -> str:
    """RFC 3339 text of a time, with as many fraction digits as it needs (0, 3, 6 or 9).

    Examples
    --------
    >>> format_timestamp(1767623400000000001)
    '2026-01-05T14:30:00.000000001Z'
    >>> format_timestamp(1767623400500000000)
    '2026-01-05T14:30:00.500Z'
    """
    seconds, fraction = divmod(ns, SECOND)
    minutes, second = divmod(seconds, 60)
    day, minute = divmod(minutes, 24 * 60)
    text = f"{_date(day)}T{_CLOCK[minute]}:{_TWO_DIGITS[second]}"
    if not fraction:
        return text + "Z"
    digits = f"{fraction:09d}"
    if digits.endswith("000000"):
        digits = digits[:3]
    elif digits.endswith("000"):
        digits = digits[:6]
    return f"{text}.{digits}Z"


_TWO_DIGITS = [f"{number:02d}" for number in range(60)]
_CLOCK = [f"{hour}:{minute}" for hour in _TWO_DIGITS[:24] for minute in _TWO_DIGITS]
"""The minutes of a day: numbers are slow to format, and every decision has a time."""


@lru_cache(maxsize=64)
def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).date().isoformat()


def to_datetime(ns: int) -> datetime:
    """The aware UTC `datetime` of a time; digits below a microsecond are cut."""
    return _EPOCH + timedelta(microseconds=ns // MICROSECOND)


def from_datetime(moment: datetime) -> int:
    """Nanoseconds since the epoch of an aware `datetime`.

    Raises
    ------
    ValueError : `moment` has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no zone: use an aware datetime")
    return ((moment - _EPOCH) // timedelta(microseconds=1)) * MICROSECOND
