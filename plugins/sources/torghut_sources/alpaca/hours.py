"""When equities have to give data: the regular hours of the New York Stock Exchange."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from torghut_core import DAY, exchange_sessions, to_datetime

AHEAD = 370 * DAY


def regular_hours(wall: Callable[[], int]) -> Callable[[], bool]:
    """Return a function that says whether a session is open at the time of `wall`, ns; the calendar is read here, and yearly."""
    opens, closes, known_until = _sessions(wall())

    def is_open() -> bool:
        nonlocal opens, closes, known_until
        now = wall()
        if now >= known_until:
            opens, closes, known_until = _sessions(now)
        place = bisect_right(opens, now) - 1
        return place >= 0 and now < closes[place]

    return is_open


def _sessions(now: int) -> tuple[list[int], list[int], int]:
    """Return opens and closes from a week before `now` on, and the time up to which they are known."""
    start, end = (to_datetime(ts).date().isoformat() for ts in (now - 7 * DAY, now + AHEAD))
    known = exchange_sessions("XNYS", start, end)
    return known.opens.tolist(), known.closes.tolist(), now + AHEAD - 7 * DAY
