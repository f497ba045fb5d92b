"""When a venue trades: its sessions, split at pauses, and joined where one follows the other without a pause.

What is loaded depends on the time in question and never on today, so that the same question has the same answer on any
day.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from typing import NamedTuple

from torghut_core import exchange_sessions, to_datetime


class TradingHours(NamedTuple):
    """Periods in which a venue trades without a pause, ns, rising: from an open to before its close."""

    opens: list[int]
    closes: list[int]

    def around(self, now: int, after_open: int, before_close: int) -> tuple[int, int] | None:
        """Return the period that contains `now`, or else the next one, shortened at both ends, ns; None where none is known."""
        for number in range(bisect_right(self.closes, now), len(self.closes)):
            start, end = self.opens[number] + after_open, self.closes[number] - before_close
            if start < end and now < end:
                return start, end
        return None


def trading_hours(name: str, now: int) -> TradingHours:
    """Return the trading hours of a calendar around a time: at least from the month before its year to the month after."""
    return _hours_of_year(name, to_datetime(now).year)


@cache
def _hours_of_year(name: str, year: int) -> TradingHours:
    known = exchange_sessions(name, f"{year - 1:04}-12-01", f"{year + 1:04}-01-31")
    edges = zip(
        known.opens.tolist(),
        known.break_starts.tolist(),
        known.break_ends.tolist(),
        known.closes.tolist(),
        strict=True,
    )
    found = TradingHours([], [])
    for opened, paused, resumed, closed in edges:
        for first, stop in ((opened, paused), (resumed, closed)) if paused > 0 else ((opened, closed),):
            if found.closes and first <= found.closes[-1]:  # this session follows the last one without a pause
                found.closes[-1] = stop
            else:
                found.opens.append(first)
                found.closes.append(stop)
    return found
