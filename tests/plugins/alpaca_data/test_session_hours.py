"""When equities have to give data."""

import pytest
from torghut_sources.alpaca.hours import regular_hours

from torghut_core import parse_timestamp


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-23T14:29:59Z", False),
        ("2026-11-23T14:30:00Z", True),
        ("2026-11-23T20:59:59Z", True),
        ("2026-11-23T21:00:00Z", False),
        ("2026-11-26T16:00:00Z", False),  # Thanksgiving
        ("2026-11-27T17:59:59Z", True),  # a half day
        ("2026-11-27T18:00:00Z", False),
        ("2026-11-28T16:00:00Z", False),  # a Saturday
        ("2028-03-01T16:00:00Z", True),  # beyond what was read at first
    ],
)
def test_regular_hours_are_the_exchange_s(moment, is_open):
    """Open from 09:30 to 16:00 New York, less holidays and after half days, also when the process runs for years."""
    now = parse_timestamp("2026-11-22T12:00:00Z")
    is_regular = regular_hours(lambda: now)
    now = parse_timestamp(moment)
    assert is_regular() is is_open
