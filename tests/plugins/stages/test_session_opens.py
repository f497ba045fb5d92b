"""When sessions open: by UTC day, by exchange calendar with its clock changes, holidays and half days."""

import numpy as np
import pytest
from torghut_sources.stages.session_opens import NEVER, SPAN, SessionOpens, session_open

from torghut_core import check_calendar, format_timestamp, parse_timestamp


def opened(calendar, *moments):
    """The open of the session at each moment, as text; None where there is none."""
    sessions = SessionOpens({"*": calendar})
    span = np.zeros(1, SPAN)
    span[0]["calendar"] = sessions.calendar("X")
    found = []
    for moment in moments:
        ts = parse_timestamp(moment)
        if not sessions.first <= ts < sessions.until:
            sessions.cover(ts)
        open_ = session_open(span[0], sessions.opens, sessions.ends, ts)
        found.append(None if open_ == NEVER else format_timestamp(open_))
    return found


CASES = {
    "round the clock": ("24/7", "2026-03-29T23:59:59.999Z", "2026-03-29T00:00:00Z"),
    "midnight opens": ("24/7", "2026-03-30T00:00:00Z", "2026-03-30T00:00:00Z"),
    "winter": ("XNYS", "2026-01-05T20:00:00Z", "2026-01-05T14:30:00Z"),
    "summer": ("XNYS", "2026-07-06T20:00:00Z", "2026-07-06T13:30:00Z"),
    "first bar of the session": ("XNYS", "2026-01-05T14:30:00Z", "2026-01-05T14:30:00Z"),
    "before the open: the session before": ("XNYS", "2026-01-05T14:29:59Z", "2026-01-02T14:30:00Z"),
    "day after the clock changed": ("XNYS", "2026-03-09T14:00:00Z", "2026-03-09T13:30:00Z"),
    "day before the clock changed": ("XNYS", "2026-03-06T14:45:00Z", "2026-03-06T14:30:00Z"),
    "holiday": ("XNYS", "2025-11-27T18:00:00Z", "2025-11-26T14:30:00Z"),
    "half day, after its close": ("XNYS", "2025-11-28T19:00:00Z", "2025-11-28T14:30:00Z"),
    "closed by law (2025-01-09)": ("XNYS", "2025-01-09T18:00:00Z", "2025-01-08T14:30:00Z"),
    "futures open the evening before": ("CMES", "2013-09-02T03:00:00Z", "2013-09-01T22:00:00Z"),
    "futures in winter": ("CMES", "2026-01-05T23:30:00Z", "2026-01-05T23:00:00Z"),
}


@pytest.mark.parametrize(("calendar", "moment", "expected"), CASES.values(), ids=CASES)
def test_moment_belongs_to_the_last_session_that_opened(calendar, moment, expected):
    """A moment belongs to the latest session that has opened."""
    assert opened(calendar, moment) == [expected]


def test_time_may_run_for_years_and_back():
    """What is covered grows with the data, in both directions."""
    moments = ["2001-01-03T15:00:00Z", "2024-07-01T15:00:00Z", "1995-07-03T15:00:00Z"]
    assert opened("XNYS", *moments) == ["2001-01-03T14:30:00Z", "2024-07-01T13:30:00Z", "1995-07-03T13:30:00Z"]


def test_calendar_that_ends_has_no_sessions_after():
    """A calendar whose holidays are known for some years only is not guessed on."""
    from exchange_calendars.exchange_calendar_xshg import XSHGExchangeCalendar

    year = XSHGExchangeCalendar.bound_max().year
    known, unknown = opened("XSHG", f"{year}-06-15T06:00:00Z", f"{year + 1}-06-15T06:00:00Z")
    assert known == f"{year}-06-15T01:30:00Z"
    assert unknown is None


def test_first_pattern_that_fits_counts():
    """Patterns are tried in order; a symbol that none fits has no sessions."""
    sessions = SessionOpens({"ES": "CMES", "*/*": "24/7", "A*": "XNYS"})
    assert sessions.calendar("ES") == sessions.calendar("ES") != sessions.calendar("AAPL")
    assert sessions.calendar("BTC/USD") == 1
    assert sessions.calendar("ZZZ") == 0


def test_unknown_calendar_names_the_nearest():
    """A misspelt calendar is an error that names the one that was meant."""
    with pytest.raises(ValueError, match="'CMES'"):
        check_calendar("CMESS")


def test_calendar_that_cannot_be_made_is_an_error_at_once(monkeypatch):
    """Some of exchange_calendars' own fail; a catalog that names one is refused, and nothing fails in the loop."""

    def fail(*_arguments, **_dates):
        raise NotImplementedError("implemented by subclasses")

    monkeypatch.setattr("exchange_calendars.get_calendar", fail)
    with pytest.raises(ValueError, match="exchange_calendars cannot make 'XBUD': NotImplementedError, implemented"):
        check_calendar("XBUD")


@pytest.mark.parametrize("calendar", ["XNYS", "24/7"])
@pytest.mark.parametrize("year", [1677, 1678, 1700, 2260, 2261, 2262])
def test_far_years_have_sessions_or_none(calendar, year):
    """A time near the ends of 64 bits of nanoseconds, which pandas cannot hold, has no session; none raises."""
    (found,) = opened(calendar, f"{year}-{'12-30' if year < 1700 else '04-11'}T20:00:00Z")
    if calendar == "24/7" or 1700 <= year <= 2260:
        assert found.startswith(str(year))
    elif year > 2260:
        assert found is None
