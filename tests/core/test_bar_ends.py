"""When bars are complete: days of 23 and 25 hours, sessions of exchanges, and everything else a step after its start."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core import DAY, HOUR, MINUTE, BarEnds, format_timestamp, from_datetime, parse_timestamp
from torghut_core.calendars import exchange_sessions


def end(start, step=DAY, symbol="BTC/USD", **calendars):
    return format_timestamp(BarEnds(calendars).end(symbol, parse_timestamp(start), step))


@pytest.mark.parametrize(
    ("start", "complete"),
    [
        ("2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),  # New York, 25 hours
        ("2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"),  # 23 hours
        ("2024-11-03T05:00:00Z", "2024-11-04T06:00:00Z"),  # Chicago
        ("2024-10-26T23:00:00Z", "2024-10-28T00:00:00Z"),  # London
        ("2024-10-05T14:00:00Z", "2024-10-06T13:00:00Z"),  # Sydney
        ("2024-03-31T00:00:00Z", "2024-04-01T00:00:00Z"),  # UTC has no such days
        ("2024-11-04T16:00:00Z", "2024-11-05T16:00:00Z"),  # nor has Singapore
        ("2024-11-04T05:17:00Z", "2024-11-05T05:17:00Z"),  # no midnight that is known
        ("1968-10-27T04:00:00Z", "1968-10-28T05:00:00Z"),
    ],
)
def test_a_day_ends_at_the_next_midnight_of_its_own_zone(start, complete):
    """A daily bar of what trades round the clock is complete 23, 24 or 25 hours after its start."""
    assert end(start) == complete


@pytest.mark.parametrize(
    ("start", "complete"),
    [
        ("2024-11-04T05:00:00Z", "2024-11-04T21:00:00Z"),  # midnight in New York
        ("2024-11-04T00:00:00Z", "2024-11-04T21:00:00Z"),  # the date alone
        ("2024-11-04T14:30:00Z", "2024-11-04T21:00:00Z"),  # the open
        ("2024-11-29T05:00:00Z", "2024-11-29T18:00:00Z"),  # a half day
        ("2024-10-31T04:00:00Z", "2024-10-31T20:00:00Z"),
        ("2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),  # a Sunday without a session: its midnight
    ],
)
def test_a_day_of_an_exchange_ends_with_its_session(start, complete):
    """A daily bar of a symbol with an exchange calendar is complete at the close, early on half days."""
    assert end(start, symbol="SPY", SPY="XNYS") == complete


def test_a_week_ends_with_its_last_session():
    """Bars of several days end with the last session in them, or so many midnights later."""
    assert end("2024-11-25T05:00:00Z", 7 * DAY, "SPY", SPY="XNYS") == "2024-11-29T18:00:00Z"
    assert end("2024-10-28T04:00:00Z", 7 * DAY) == "2024-11-04T05:00:00Z"


def test_futures_whose_session_begins_on_the_evening_before_end_on_the_day():
    """The session of a date may open hours before midnight; the bar of that date ends with its close."""
    assert end("2024-11-06T00:00:00Z", symbol="ES", ES="CMES") == "2024-11-06T23:00:00Z"
    assert end("2024-07-10T00:00:00Z", symbol="ES", ES="CMES") == "2024-07-10T22:00:00Z"


@given(st.integers(-(2**62), 2**62), st.sampled_from([MINUTE, HOUR, 4 * HOUR, 12 * HOUR]))
@examples(200)
def test_bars_within_a_day_end_a_step_after_their_start(start, step):
    """No clock and no calendar changes the end of a bar that is shorter than a day."""
    assert BarEnds({"*": "XNYS"}).end("SPY", start, step) == start + step


@given(
    st.sampled_from(["America/New_York", "America/Chicago", "Europe/London", "Europe/Berlin", "UTC"]),
    st.lists(st.integers(0, 25_000), min_size=1, max_size=20),
)
@examples(300)
def test_days_of_zones_are_never_complete_before_they_are(zone, numbers):
    """A day is complete at its midnight; where it begins at midnight UTC too, an hour later at most."""
    days = [date(1971, 1, 1) + timedelta(number) for number in numbers]
    midnights = [
        [from_datetime(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))) for day in (each, each + timedelta(1))]
        for each in days
    ]  # fmt: skip
    starts, right = np.array(midnights, np.int64).T
    symbol = np.zeros(len(days), np.int64)
    ends = BarEnds().of(["BTC/USD"], symbol, starts, np.full(len(days), DAY))
    is_utc = starts % DAY == 0
    assert (ends[~is_utc] == right[~is_utc]).all()
    assert (ends >= right).all()


@given(
    st.sampled_from([("XNYS", "America/New_York"), ("XLON", "Europe/London"), ("XTKS", "Asia/Tokyo")]),
    st.lists(st.integers(0, 2500), min_size=1, max_size=20),
    st.booleans(),
)
@examples(150)
def test_every_session_is_complete_at_its_close(exchange, numbers, is_local):
    """Against exchange_calendars: the bar of each session ends at its close, labelled by local midnight or by its date."""
    calendar, zone = exchange
    sessions = exchange_sessions(calendar, "2010-01-01", "2024-12-31")
    places = np.array(numbers)
    opened = [datetime.fromtimestamp(at / 1e9, ZoneInfo(zone)) for at in sessions.opens[places].tolist()]
    of = ZoneInfo(zone) if is_local else UTC
    starts = np.array([from_datetime(datetime(at.year, at.month, at.day, tzinfo=of)) for at in opened], np.int64)
    ends = BarEnds({"*": calendar}).of(["A"], np.zeros(len(starts), np.int64), starts, np.full(len(starts), DAY))
    assert ends.tolist() == sessions.closes[places].tolist()
