"""The venue's calendar: when a session opens and closes in New York."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from torghut_core import SECOND
from torghut_testing.alpaca.wire import NEW_YORK, timestamp

OPEN = time(9, 30)
CLOSE = time(16)
EARLY_CLOSE = time(13)


class Sessions:
    """Every weekday from 09:30 to 16:00 except `holidays`; on `early_closes` to 13:00. Both sets may be changed."""

    def __init__(self) -> None:
        self.holidays: set[date] = set()
        self.early_closes: set[date] = set()

    def is_session(self, day: date) -> bool:
        """Whether the market opens on a day."""
        return day.weekday() < 5 and day not in self.holidays

    def days(self, start: date, end: date) -> Iterator[date]:
        """The days with a session from `start` to `end`, both included."""
        for offset in range((end - start).days + 1):
            day = start + timedelta(days=offset)
            if self.is_session(day):
                yield day

    def bounds(self, day: date) -> tuple[datetime, datetime]:
        """When the session of a day opens and closes."""
        close = EARLY_CLOSE if day in self.early_closes else CLOSE
        return datetime.combine(day, OPEN, NEW_YORK), datetime.combine(day, close, NEW_YORK)

    def is_open(self, at: int) -> bool:
        """Whether the market is open at `at`, nanoseconds since the epoch."""
        now = datetime.fromtimestamp(at // SECOND, NEW_YORK)
        opened, closed = self.bounds(now.date())
        return self.is_session(now.date()) and opened <= now < closed

    def clock(self, at: int, *, is_open: bool) -> dict[str, object]:
        """The body of the venue's clock route."""
        now = datetime.fromtimestamp(at // SECOND, NEW_YORK)
        days = [self.bounds(day) for day in self.days(now.date(), now.date() + timedelta(days=14))]
        # Seconds come from the zone, the fraction from the nanoseconds: datetime has microseconds only.
        fraction = timestamp(at).partition(".")[2].rstrip("Z")
        whole, zone = now.isoformat()[:19], now.isoformat()[19:]
        return {
            "timestamp": f"{whole}.{fraction}{zone}" if fraction else f"{whole}{zone}",
            "is_open": is_open,
            "next_open": next(opened for opened, _ in days if opened > now).isoformat(),
            "next_close": next(closed for _, closed in days if closed > now).isoformat(),
        }

    def calendar(self, start: date, end: date) -> list[dict[str, str]]:
        """The body of the venue's calendar route."""
        rows = []
        for day in self.days(start, end):
            opened, closed = self.bounds(day)
            settled = next(self.days(day + timedelta(days=1), day + timedelta(days=14)))
            rows.append(
                {
                    "date": day.isoformat(),
                    "open": f"{opened:%H:%M}",
                    "close": f"{closed:%H:%M}",
                    "session_open": "0400",
                    "session_close": "2000",
                    "settlement_date": settled.isoformat(),
                }
            )
        return rows
