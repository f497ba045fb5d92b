"""Which bars strategies see where a timeframe comes twice, and which changes of price are reported as splits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core import DAY, HOUR, MINUTE, Batch, Signals, SymbolTable, parse_timestamp
from torghut_core.trading.series import TradedSeries

START = parse_timestamp("2024-06-05T14:00:00Z")


def batch(table, rows, start=0):
    """A batch of signals: (symbol, step, of the venue, event_ts, close), one at each position."""
    signals = Signals.from_columns(
        at=range(start, start + len(rows)),
        symbol=[table.number(row[0]) for row in rows],
        step=[row[1] for row in rows],
        series=[table.series(table.number(row[0]), row[1], row[2]) for row in rows],
        event_ts=[row[3] for row in rows],
        close=[row[4] for row in rows],
    )
    made = Batch.of(table, start, np.array([row[3] + row[1] for row in rows], np.int64))
    made.signals = signals
    return made


def seen(rows, sizes):
    """The positions of the rows that are shown, and the jumps, of a stream that is cut into batches of these sizes."""
    table, series, shown, jumps = SymbolTable(), TradedSeries(), [], []
    start = 0
    for size in [*sizes, len(rows)]:
        part = rows[start : start + size]
        if part:
            chosen = series.choose(batch(table, part, start))
            shown += chosen.signals.at.tolist()
            jumps += map(str, series.jumps(chosen))
            start += len(part)
    return shown, jumps


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]), st.sampled_from([MINUTE, DAY]), st.booleans(), st.integers(0, 40),
        st.sampled_from([10.0, 20.0, 21.0, 30.0, float("nan")]),
    ),
    max_size=40,
)  # fmt: skip


@given(ROWS, st.lists(st.integers(1, 10), max_size=10))
@examples(300)
def test_what_is_seen_and_reported_does_not_depend_on_the_batches(rows, sizes):
    """The rows that strategies see, and the jumps, are the same for every cut of the stream."""
    hours = sorted(row[3] for row in rows)
    stream = [(*row[:3], START + hour * HOUR, row[4]) for row, hour in zip(rows, hours, strict=True)]
    assert seen(stream, sizes) == seen(stream, [len(stream)])


@given(ROWS)
@examples(200)
def test_each_symbol_is_seen_in_one_series_a_timeframe_the_first_that_came(rows):
    """Of a symbol's two series at one step, those rows are shown that are of the series of the first row, and all of these."""
    stream = [(*row[:3], START, row[4]) for row in rows]
    first = {}
    for symbol, step, of_venue, *_ in stream:
        first.setdefault((symbol, step), of_venue)
    wanted = [at for at, row in enumerate(stream) if first[row[0], row[1]] is row[2]]
    assert seen(stream, [])[0] == wanted


@pytest.mark.parametrize("of_venue", [True, False])
@pytest.mark.parametrize(
    ("before", "after", "is_reported"),
    [
        (645.57, 93.70, True),  # 7 for 1
        (10.0, 200.0, True),  # 1 for 20
        (150.0, 101.0, True),  # 3 for 2
        (100.0, 52.0, True),
        (100.0, 80.0, False),
        (100.0, 130.0, False),
    ],
)
def test_a_price_that_changes_as_in_a_split_over_a_night_is_reported(of_venue, before, after, is_reported):
    """Two to one or more, and three to two, up or down, from one session to the next."""
    rows = [("A", MINUTE, of_venue, START, before), ("A", MINUTE, of_venue, START + 18 * HOUR, after)]
    jumps = seen(rows, [1])[1]
    assert len(jumps) == is_reported
    assert all("A " in jump and "2024-06-06T08:00:00Z" in jump for jump in jumps)


def test_a_price_that_jumps_within_a_session_is_none():
    """Bars that follow one another are no night: a bad print is not reported as a split."""
    assert seen([("A", MINUTE, True, START, 100.0), ("A", MINUTE, True, START + MINUTE, 10.0)], [])[1] == []


def test_a_split_is_reported_once_for_all_series_of_a_symbol():
    """Seconds, minutes and days of a symbol tell of the same split."""
    days = [
        ("A", step, True, START + night, price) for night, price in ((0, 100.0), (DAY, 10.0)) for step in (MINUTE, DAY)
    ]
    assert len(seen(days, [])[1]) == 1
