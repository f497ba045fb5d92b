"""A feature of a larger timeframe changes where its bar ends, and nowhere else: sessions, half days, clock changes."""

import numpy as np
import pytest

from support.features import START, Pipeline, Tape, planned, run
from torghut_core import HOUR, MINUTE
from torghut_core.features import close, ema
from torghut_core.timestamps import parse_timestamp

NEW_YORK = {"A": "XNYS"}


def tape_of(*spans):
    """A bar of A every five minutes from each moment to each other one, with a close that rises; as a tape."""
    minutes = [
        minute
        for first, last in spans
        for minute in range((parse_timestamp(first) - START) // MINUTE, (parse_timestamp(last) - START) // MINUTE, 5)
    ]
    return Tape(["A"] * len(minutes), np.array(minutes), 1.0 + np.arange(len(minutes)), np.ones(len(minutes)))


def changes(tape, value, **pipeline):
    """The ends of the minutes at which a feature is another one than before, and what it is there."""
    found, last = [], np.nan
    for _, event_ts, _, (now,) in run(planned({"f": value}, ["A"]), tape, pipeline=Pipeline(**pipeline)):
        if now == now and now != last:
            found.append((event_ts + MINUTE, now))
        last = now
    return found


def test_an_hour_is_known_when_its_last_minute_is():
    """Not a minute before; and it stays until the next one."""
    minutes = np.arange(200)
    tape = Tape(["A"] * 200, minutes, 1.0 + minutes, np.ones(200))
    ends = [START + 30 * MINUTE + number * HOUR for number in range(4)]
    found = changes(tape, close.on("1Hour"), timeframes=["1Hour"])
    assert found == [(end, (end - START) / MINUTE) for end in ends if end <= START + 200 * MINUTE and end > START]
    smooth = changes(tape, ema(1, timeframe="1Hour"), timeframes=["1Hour"])
    assert smooth == found


@pytest.mark.parametrize(
    ("spans", "ends"),
    [
        pytest.param(  # half past nine to four in New York, in summer and in winter
            [("2025-10-31T13:30:00Z", "2025-10-31T20:10:00Z"), ("2025-11-03T14:30:00Z", "2025-11-03T21:10:00Z")],
            ["2025-10-31T20:00:00Z", "2025-11-03T21:00:00Z"],
            id="clocks go back",
        ),
        pytest.param(
            [("2025-03-07T14:30:00Z", "2025-03-07T21:10:00Z"), ("2025-03-10T13:30:00Z", "2025-03-10T20:10:00Z")],
            ["2025-03-07T21:00:00Z", "2025-03-10T20:00:00Z"],
            id="clocks go forward",
        ),
        pytest.param(
            [("2025-11-26T14:30:00Z", "2025-11-26T21:10:00Z"), ("2025-11-28T14:30:00Z", "2025-11-28T19:00:00Z")],
            ["2025-11-26T21:00:00Z", "2025-11-28T18:00:00Z"],
            id="the day after Thanksgiving is half a day",
        ),
    ],
)
def test_a_day_is_known_when_its_session_ends(spans, ends):
    """Its close is that of the session's last bar, which is shown with it or after it; later bars do not change it."""
    tape = tape_of(*spans)
    found = changes(tape, close.on("1Day"), timeframes=["1Day"], calendars=NEW_YORK)
    moments = START + (tape.minute + 1) * MINUTE
    assert len(found) == len(ends)
    for (at, value), end in zip(found, map(parse_timestamp, ends), strict=True):
        in_session = moments <= end
        assert at == moments[moments >= end][0]
        assert value == tape.close[in_session][-1]
