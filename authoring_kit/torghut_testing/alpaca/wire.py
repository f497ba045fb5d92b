"""Numbers, times and ids, as the venue writes them."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from torghut_core import SECOND

NEW_YORK = ZoneInfo("America/New_York")
_SUMMER_OFFSET = 4 * 3600
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]


def number(value: Decimal) -> str:
    """A decimal as plain text: no exponent, no trailing zeros.

    Examples
    --------
    >>> number(Decimal("1E+3")), number(Decimal("0.50")), number(Decimal("-0"))
    ('1000', '0.5', '0')
    """
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def optional_number(value: Decimal | None) -> str | None:
    """`number`; None stays None."""
    return None if value is None else number(value)


@lru_cache(maxsize=64)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def timestamp(at: int, *, micros: bool = False, new_york: bool = False) -> str:
    """A time as the venue writes it: the fraction without its trailing zeros, in UTC or at -04:00.

    Parameters
    ----------
    at : nanoseconds since the epoch.
    micros : cut to microseconds, as the venue does in some of its fields.

    Examples
    --------
    >>> timestamp(1_767_623_401_500_000_000), timestamp(1_767_623_401_000_000_000, new_york=True)
    ('2026-01-05T14:30:01.5Z', '2026-01-05T10:30:01-04:00')
    """
    seconds, fraction = divmod(at, SECOND)
    text = _second(seconds - _SUMMER_OFFSET if new_york else seconds)
    if micros:
        fraction -= fraction % 1000
    if fraction:
        text = f"{text}.{fraction:09d}".rstrip("0")
    return f"{text}-04:00" if new_york else f"{text}Z"


def optional_timestamp(at: int | None, *, new_york: bool = False) -> str | None:
    """`timestamp`; None stays None."""
    return None if at is None else timestamp(at, new_york=new_york)


def read_timestamp(text: str) -> int:
    """Nanoseconds since the epoch of a time, or of the start of a day, as a client writes it.

    Raises
    ------
    ValueError : neither an ISO time nor a date.

    Examples
    --------
    >>> read_timestamp("2026-01-05T10:30:01.000000001-04:00"), read_timestamp("1970-01-02")
    (1767623401000000001, 86400000000000)
    """
    text = text.replace(" ", "+")  # a "+" that the client did not escape
    head, dot, tail = text.partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))] if dot else ""
    moment = datetime.fromisoformat(head + tail[len(digits) :])
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    return int(moment.timestamp()) * SECOND + int(digits[:9].ljust(9, "0") if digits else 0)


def new_id() -> str:
    """A random UUID, as the venue names orders and executions."""
    return str(uuid.uuid4())


@lru_cache(maxsize=1024)
def asset_id(symbol: str) -> str:
    """The UUID of a symbol: always the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"torghut-testing/{symbol}"))


def activity_id(at: int) -> str:
    """An activity's id: its time in New York to the millisecond, and a UUID that no other message carries."""
    moment = datetime.fromtimestamp(at // SECOND, NEW_YORK)
    return f"{moment:%Y%m%d%H%M%S}{at % SECOND // 1_000_000:03d}::{new_id()}"


class EventIds:
    """Ids in the shape of ULIDs, each larger than the one before, whatever the clock does."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self, at: int) -> str:
        """The id of an event at `at`, nanoseconds since the epoch."""
        drawn = (at // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
        self.last = max(drawn, self.last + 1)
        return "".join(_PAIRS[self.last >> shift & 0x3FF] for shift in range(120, -1, -10))
