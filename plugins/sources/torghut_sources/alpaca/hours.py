"""When equities have to give data: the regular hours of the New York Stock Exchange, as exchange_calendars knows them."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Callable

from torghut_core import DAY, to_datetime

AHEAD = 370 * DAY


def regular_hours(wall: Callable[[], int]) -> Callable[[], bool]:
    """Tells whether a regular session is open at the time that `wall` gives, ns; the calendar is read here, and yearly."""
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
    """Opens and closes from a week before `now` on, and the time until which there are any."""
    from exchange_calendars import get_calendar

    start, end = (to_datetime(ts).date().isoformat() for ts in (now - 7 * DAY, now + AHEAD))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars 4.13 does what pandas 3.1 deprecates
        calendar = get_calendar("XNYS", start=start, end=end)
    return calendar.opens_nanos.tolist(), calendar.closes_nanos.tolist(), now + AHEAD - 7 * DAY
