"""Moments of timers: those of the exchange's days and hours, however time is cut."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core.model.timers import every
from torghut_core.timestamps import format_timestamp, parse_timestamp

START = 1_767_571_200 * 1_000_000_000


def test_timer_of_an_exchange_knows_its_zone_its_holidays_and_its_half_days():
    """A time of day is local, also where clocks change; minutes before the close follow a half day."""
    at, edge = every("1Day", at="15:50", calendar="XNYS"), every("1Day", at="close-10", calendar="XNYS")

    def times(timer, since, until):
        moments = timer.moments(parse_timestamp(f"{since}T00:00:00Z"), parse_timestamp(f"{until}T00:00:00Z"))
        return [format_timestamp(moment)[:16] for moment in moments.tolist()]

    assert times(at, "2026-03-06", "2026-03-10") == ["2026-03-06T20:50", "2026-03-09T19:50"]
    assert times(edge, "2026-11-25", "2026-11-29") == ["2026-11-25T20:50", "2026-11-27T17:50"]
    hours = times(every("1Hour", calendar="XNYS"), "2026-11-27", "2026-11-28")
    assert hours == ["2026-11-27T15:00", "2026-11-27T16:00", "2026-11-27T17:00"]


@examples(60)
@given(
    text=st.sampled_from([("1Sec", ""), ("15Min", ""), ("1Day", "09:35"), ("1Day", "close-10"), ("1Day", "open")]),
    calendar=st.sampled_from(["24/7", "XNYS", "CMES"]),
    since=st.integers(0, 10**6),
    lengths=st.lists(st.integers(1, 200_000), min_size=1, max_size=4),
)
def test_moments_do_not_depend_on_how_time_is_cut(text, calendar, since, lengths):
    """Those of a span are those of its parts; the next one is the first of them."""
    timer = every(*text, calendar=calendar)
    second = 1_000_000_000
    bounds = [START + since * second]
    for length in lengths:
        bounds.append(bounds[-1] + length * second)
    parts = [timer.moments(first, last).tolist() for first, last in pairwise(bounds)]
    whole = timer.moments(bounds[0], bounds[-1]).tolist()
    assert whole == [moment for part in parts for moment in part]
    assert all(bounds[0] < moment <= bounds[-1] for moment in whole)
    assert not whole or timer.next(bounds[0]) == whole[0]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (("2Min",), "no timeframe (use one of 1Sec, 1Min"),
        (("5Min", "15:50"), "a time is of a day"),
        (("1Day", "25:00"), "write '15:50', 'open'"),
        (("1Day", "15:50", "NYSE?"), "no calendar of exchange_calendars"),
    ],
)
def test_timer_that_cannot_be_says_how_it_is_written(terms, message):
    """When the class is made, not when it trades."""
    with pytest.raises(ValueError, match=re.escape(message)):
        every(*terms)
