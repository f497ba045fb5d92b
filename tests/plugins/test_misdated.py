"""A stream whose times are wrong never stops silently: either rows come, or a check is closed with a reason."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.misdated import FORGET_S, IN_A_ROW, Misdated

from support.effort import examples
from torghut_core import SECOND

OVERLAP = 2 * SECOND
AHEAD = 10 * SECOND
EVENTS = st.lists(st.tuples(st.sampled_from("ABC"), st.floats(-30, 30)), min_size=1, max_size=60)
"""Symbols, and how many seconds each event is dated ahead of the clock."""


def play(misdated, events, cuts, step_s=0.2):
    """Give the events to it as a source does, a chunk at a time, with a clock that bounds them; by symbol those in time."""
    in_time, row, newest = dict.fromkeys("ABC", 0), dict.fromkeys("ABC", 0), -AHEAD * 100
    at = 0
    while at < len(events):
        chunk = events[at : at + cuts]
        now = (at + 1) * step_s
        times = [int((now + ahead) * SECOND) for _, ahead in chunk]
        limit = int(now * SECOND) + AHEAD
        kept = [(symbol, ts) for (symbol, _), ts in zip(chunk, times, strict=True) if ts <= limit]
        misdated.refuse([symbol for (symbol, _), ts in zip(chunk, times, strict=True) if ts > limit], now)
        for (symbol, _), ts in zip(chunk, times, strict=True):
            if ts > limit:
                row[symbol] += 1
        for symbol, ts in kept:
            newest = max(newest, ts)
            is_late = ts < newest - OVERLAP
            row[symbol] = row[symbol] + 1 if is_late else 0
            in_time[symbol] += not is_late
        misdated.take(np.array([ts for _, ts in kept], np.int64), lambda kept=kept: [symbol for symbol, _ in kept], now)
        at += cuts
    return row, now


@examples(500)
@given(EVENTS, st.integers(1, 7))
def test_symbol_without_usable_events_is_named(events, cuts):
    """Whatever times come: after some misdated events in a row a symbol is named, and one in time clears it."""
    misdated = Misdated(OVERLAP)
    row, now = play(misdated, events, cuts)
    assert set(misdated.symbols(now)) == {symbol for symbol, count in row.items() if count >= IN_A_ROW}


def test_one_late_print_is_normal():
    """A trade that is reported late closes nothing."""
    misdated = Misdated(OVERLAP)
    for second in range(100):
        times = np.array([second * SECOND, (second - 60) * SECOND, second * SECOND])
        misdated.take(times, lambda: ["A", "A", "A"], float(second))
        assert misdated.symbols(float(second)) == []
    assert misdated.late == 100


def test_one_event_ahead_is_said_until_time_has_caught_up():
    """The hole that it makes for the others is named while it lasts, with what to do, and no longer."""
    misdated = Misdated(OVERLAP)
    misdated.take(np.array([9_500_000_000]), lambda: ["A"], 0.0)
    named = []
    for tenth in range(120):
        misdated.take(np.array([tenth * SECOND // 10]), lambda: ["B"], tenth / 10)
        named.append(bool(misdated.symbols(tenth / 10)))
    assert named == [IN_A_ROW - 1 <= tenth < 75 for tenth in range(120)]
    gate = misdated.gate(["B"])
    assert gate.error_class == "misdated"
    assert "set the clock" in gate.reason


def test_what_a_cursor_left_ahead_is_said_too():
    """After a restart behind a time that was ahead, all events are late, and that is named."""
    misdated = Misdated(OVERLAP, newest=3600 * SECOND)
    misdated.take(np.arange(IN_A_ROW) * SECOND, lambda: ["A"] * IN_A_ROW, 1.0)
    assert misdated.symbols(1.0) == ["A"]
    assert misdated.symbols(1.0 + FORGET_S) == []
