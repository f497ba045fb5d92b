"""What is asked to fill a gap, and what of the answers is given out: without a venue."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.alpaca.gap import Gap
from torghut_sources.alpaca.wire import Wire

from torghut_core import MINUTE, format_timestamp

T0 = 1_760_000_040_000_000_000
"""A whole minute."""
SECOND = 1_000_000_000
FAR = T0 + 10**6 * SECOND
OVERLAP = 2


def trade(at):
    return {"T": "t", "S": "BTC/USD", "i": at, "p": 1.0, "s": 1.0, "t": format_timestamp(T0 + at)}


def bar(at):
    values = {"o": 1.0, "h": 2.0, "l": 1.0, "c": 2.0, "v": 3.0, "n": 1, "vw": 1.5}
    return {"T": "b", "S": "BTC/USD", "t": format_timestamp(T0 + at)} | values


def events(*messages):
    found = Wire().read([msgspec.json.encode(list(messages))]).events
    return found.take(np.argsort(found.known_ts(), kind="stable"))


def times(taken):
    return (taken.event_ts - T0).tolist()


@given(
    tape=st.sets(st.integers(0, 60), max_size=30),
    lost=st.integers(1, 30),
    lasts=st.integers(0, 20),
    behind=st.integers(0, 9),
    asks=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    late=st.integers(0, 60),
    fails=st.sets(st.integers(0, 9)),
)
def test_all_of_a_gap_is_given_out(tape, lost, lasts, behind, asks, late, fails):
    """Whenever it is asked, however wrong the clock, also where the stream begins with something old: nothing is missing.

    The stream gave what happened before `lost`, and gives what happens from `back` on; the history has all up to `now`.
    """
    back = lost + lasts
    gap = Gap(T0 + lost - OVERLAP, (T0 + back, T0 + back), OVERLAP)
    given_out, now = set(), back
    for number in range(100):
        now += asks[number % len(asks)]
        streamed = [at for at in sorted(tape) if back <= at <= now]
        first = (late if late < back else streamed[0]) if streamed else None
        since, until = gap.aim(None if first is None else T0 + first, T0 + max(back, now - behind), FAR)
        answer = [at for at in sorted(tape) if since <= T0 + at < until and at <= now]
        for start in range(0, len(answer), 3):
            taken = times(gap.take(events(*map(trade, answer[start : start + 3]))))
            assert all(at <= max(back, first or 0, now) + OVERLAP for at in taken)
            given_out |= set(taken)
            if gap.goes_beyond or number in fails:
                break
        if number not in fails:
            gap.answered()
        if gap.is_filled:
            break
    assert gap.is_filled
    assert given_out >= {at for at in tape if lost <= at < back}
    assert gap.complete_until <= T0 + max(back, *tape, 0)


def test_first_event_of_the_stream_is_the_end():
    """However much later it is by now, no more is asked than up to the first event and how far others overtake it."""
    gap = Gap(T0, (T0 + 10, T0 + 10), OVERLAP)
    for certain in (20, 50, 500):
        assert gap.aim(T0 + 15, T0 + certain, FAR) == (T0, T0 + 15 + OVERLAP + 1)
    assert times(gap.take(events(trade(3), trade(14)))) == [3, 14]
    assert gap.complete_until == T0 + 14
    assert gap.aim(T0 + 15, T0 + 500, FAR)[0] == T0 + 14 - OVERLAP


def test_answer_that_goes_beyond_is_asked_again_up_to_there():
    """Without an end everything is requested, and what not every channel is known to have waits for the next answer."""
    gap = Gap(T0, (T0 + 10, T0 + 10), OVERLAP)
    assert gap.aim(None, T0 + 12, FAR) == (T0, FAR + 1)
    assert times(gap.take(events(trade(11), trade(14), trade(15)))) == [11, 14]
    assert gap.goes_beyond
    gap.answered()
    assert not gap.is_filled
    assert gap.complete_until == T0 + 12
    assert gap.aim(None, T0 + 12, FAR) == (T0 + 12 - OVERLAP, FAR + 1)
    assert not gap.goes_beyond
    assert times(gap.take(events(trade(11), trade(14), trade(15)))) == [11, 14, 15]
    gap.answered()
    assert gap.is_filled


def test_answer_without_an_end_fills_nothing():
    """A gap is filled when its answer was taken to the end, not when a part of it was."""
    gap = Gap(T0, (T0 + 10, T0 + 10), OVERLAP)
    gap.aim(T0 + 15, T0 + 15, FAR)
    gap.take(events(trade(3)))
    assert not gap.is_filled
    gap.aim(T0 + 15, T0 + 15, FAR)
    gap.take(events())
    gap.answered()
    assert gap.is_filled


@pytest.mark.parametrize(
    ("first", "certain", "is_given", "is_filled"),
    [
        (None, 60, True, True),  # it has ended, and the history knows all of it
        (None, 59, False, False),  # it may have ended before the stream started: only the history has it
        (None, 49, False, False),
        (60, 59, True, True),  # nothing came by the stream before
        (59, 70, False, True),  # the stream gives it, and the history may lack the end of it
    ],
)
def test_minute_is_whole_or_left_to_the_stream(first, certain, is_given, is_filled):
    """A bar is given out when its minute is over for certain; one that the stream may not give is requested until it is."""
    gap = Gap(T0 - 9 * SECOND, (T0 + 50 * SECOND, T0 + 60 * SECOND), 2 * SECOND)
    gap.aim(None if first is None else T0 + first * SECOND, T0 + certain * SECOND, FAR)
    assert len(gap.take(events(bar(0)))) == is_given
    assert not gap.goes_beyond
    gap.answered()
    assert gap.is_filled == is_filled


def test_minute_that_the_stream_tells_is_not_waited_for():
    """A bar that ends after the stream was listened to is no part of the gap."""
    gap = Gap(T0 - 9 * SECOND, (T0 + 50 * SECOND, T0 + 59 * SECOND), 2 * SECOND)
    gap.aim(None, T0 + 55 * SECOND, FAR)
    assert times(gap.take(events(bar(-MINUTE), bar(0)))) == [-MINUTE]
    gap.answered()
    assert gap.is_filled
