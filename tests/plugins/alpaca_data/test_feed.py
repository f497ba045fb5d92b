"""The feed's clock: the time as events show it."""

from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.alpaca.feed import FeedClock

from torghut_core import SECOND

AHEAD = 10 * SECOND
WALL = 1_000_000 * SECOND
"""Far from what events of these tests say: a result that has it is the time of day."""


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30), st.booleans()), min_size=1), st.integers(0, 100))
def test_feed_is_never_said_to_be_later_than_it_is(steps, later):
    """Whatever events are delayed by and however they overtake each other, and no earlier than the last of them."""
    clock, now, latest = FeedClock(None, AHEAD), 0, 0
    for passed, delay, is_heard in [*steps, (0, 0, True)]:
        now += passed
        ts = max(0, now - delay) * SECOND
        latest = max(latest, ts)
        (clock.receive if is_heard else clock.observe)(ts, float(now))
    now += later
    earliest, most = clock.at(float(now), WALL)
    assert earliest == most <= now * SECOND
    assert latest <= clock.silent_at(float(now)) <= now * SECOND
    assert clock.latest == latest


def test_time_of_day_counts_until_the_stream_tells_one():
    """Before the first event it is the time of day, which may be wrong by so much either way; the history shows no time."""
    clock = FeedClock(5 * SECOND, AHEAD)
    clock.observe(6 * SECOND, 1.0)
    clock.complete(7 * SECOND, 1.0)
    assert clock.at(3.0, WALL) == (WALL - AHEAD, WALL + AHEAD)
    clock.receive(8 * SECOND, 3.0)
    assert clock.at(5.5, WALL) == (10.5 * SECOND, 10.5 * SECOND)


def test_what_is_filled_shows_that_it_is_later():
    """Everything before a time was given out: the feed is at that time at least, and its clock continues otherwise."""
    clock = FeedClock(None, AHEAD)
    clock.receive(10 * SECOND, 100.0)
    clock.complete(12 * SECOND, 105.0)
    assert (clock.complete_until, clock.at(105.0, WALL)[0]) == (12 * SECOND, 15 * SECOND)
    clock.complete(11 * SECOND, 105.0)
    assert clock.complete_until == 12 * SECOND
    clock.complete(20 * SECOND, 106.0)
    assert (clock.complete_until, clock.at(107.0, WALL)[0]) == (20 * SECOND, 21 * SECOND)
    clock.receive(19 * SECOND, 200.0)
    assert clock.at(107.0, WALL)[0] == 21 * SECOND


def test_silence_has_a_time_once_the_past_is_known():
    """A feed that resumes has no time before its past was requested; then time continues from its last event."""
    clock = FeedClock(None, AHEAD)
    clock.resume(1.0)
    assert clock.silent_at(2.0) is None
    clock = FeedClock(5 * SECOND, AHEAD)
    assert clock.silent_at(1.0) is None
    clock.resume(1.0)
    assert (clock.silent_at(0.5), clock.silent_at(3.0)) == (5 * SECOND, 7 * SECOND)
    clock.resume(9.0)
    assert clock.silent_at(3.0) == 7 * SECOND


def test_no_event_moves_the_limit():
    """How late an event can be dated follows the time of day alone: else events that creep ahead would push it on."""
    clock = FeedClock(None, AHEAD)
    for step in range(100):
        clock.receive(clock.limit(50 * SECOND), float(step))
        clock.observe(clock.limit(50 * SECOND), float(step))
    assert clock.limit(50 * SECOND) == 60 * SECOND
