"""The `1Day` bar of a symbol with an exchange calendar is its session."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.stages.resample import Resample

from support.effort import examples
from torghut_core import DAY, HOUR, MINUTE, Bars, Batch, SymbolTable, format_timestamp, parse_timestamp
from torghut_core.calendars import exchange_sessions

CALENDARS = {"AIG": "XNYS", "*/*": "24/7", "ES": "CMES"}


def stream(rows):
    """A batch of bars of a tape, each known at its end: (symbol, start, step, close, volume)."""
    symbols = SymbolTable()
    rows = sorted(rows, key=lambda row: row[1] + row[2])
    number = [symbols.number(row[0]) for row in rows]
    price = np.array([row[3] for row in rows], np.float64)
    table = Bars.from_columns(
        at=range(len(rows)),
        symbol=number,
        event_ts=[row[1] for row in rows],
        step=[row[2] for row in rows],
        series=[symbols.series(each, row[2], of_venue=True) for each, row in zip(number, rows, strict=True)],
        **dict.fromkeys(("open", "high", "low", "close", "vwap"), price),
        volume=[row[4] for row in rows],
    )
    return Batch.of(symbols, 0, np.maximum.accumulate(table.event_ts + table.step), bars=table)


def days(batch, sizes=(), is_saved=False):
    """The daily bars of a stream that is cut into batches of these sizes, of stages that are saved and loaded in between."""
    stage, found = Resample(Resample.Params(timeframes=["1Day"], calendars=CALENDARS)), []
    for size in [*sizes, len(batch) + 1]:
        part, batch = batch.split(batch.start + size)
        if len(part):
            made = stage.update(part).microbars
            names = part.symbols.names
            found += [(names[made.symbol[row]], *made.ints[:, row].tolist(), *made.floats[:, row].tolist()) for row in range(len(made))]  # fmt: skip
        if is_saved:
            state, stage = stage.save_state(), Resample(Resample.Params(timeframes=["1Day"], calendars=CALENDARS))
            stage.load_state(state, stage.state_version)
    return found


def table(found):
    """Of each daily bar: symbol, start, end, open, close, volume."""
    return [(row[0], format_timestamp(row[2]), format_timestamp(row[8]), row[9], row[12], row[13]) for row in found]


def minutes(symbol, first, last, start_price=1.0):
    """Bars of a minute from one time to another, whose prices count up."""
    start, end = parse_timestamp(first), parse_timestamp(last)
    return [(symbol, at, MINUTE, start_price + number, 10.0) for number, at in enumerate(range(start, end, MINUTE))]


def test_extended_hours_are_not_mixed_in():
    """A day of minutes from 04:00 to 20:00 New York gives its session, and the hours of Saturday, UTC, give no bar."""
    friday = minutes("AIG", "2024-01-05T09:00:00Z", "2024-01-06T01:00:00Z")
    assert table(days(stream(friday))) == [
        ("AIG", "2024-01-05T14:30:00Z", "2024-01-05T21:00:00Z", 331.0, 720.0, 3900.0)
    ]


@pytest.mark.parametrize(
    ("day", "opened", "closed"),
    [
        ("2024-11-29", "14:30", "18:00"),  # a half day
        ("2024-11-01", "13:30", "20:00"),  # the last day of summer time
        ("2024-11-04", "14:30", "21:00"),
    ],
)
def test_half_days_and_changes_of_the_clock_are_those_of_the_calendar(day, opened, closed):
    """The session is that of the date."""
    (bar,) = table(days(stream(minutes("AIG", f"{day}T08:00:00Z", f"{day}T23:59:00Z"))))
    assert bar[1:3] == (f"{day}T{opened}:00Z", f"{day}T{closed}:00Z")


def test_the_last_session_of_a_tape_is_given_out_with_its_last_bar():
    """A tape that ends at the close has its last day; one that ends before it has not."""
    rows = minutes("AIG", "2024-01-05T14:30:00Z", "2024-01-05T21:00:00Z")
    assert len(days(stream(rows))) == 1
    assert days(stream(rows[:-1])) == []


def test_a_bar_in_which_a_session_opens_belongs_to_it():
    """Hours that begin at 09:00 count from the one that holds the open."""
    hours = [("AIG", parse_timestamp(f"2024-01-05T{hour:02}:00:00Z"), HOUR, hour, 1.0) for hour in range(12, 23)]
    assert table(days(stream(hours))) == [("AIG", "2024-01-05T14:30:00Z", "2024-01-05T21:00:00Z", 14.0, 20.0, 7.0)]


def test_symbols_without_an_exchange_have_days_of_utc():
    """A pair's day is that of UTC, beside sessions in the same stage."""
    rows = minutes("BTC/USD", "2024-01-05T00:00:00Z", "2024-01-06T00:00:00Z") + minutes(
        "ES", "2024-01-04T23:00:00Z", "2024-01-05T23:00:00Z"
    )
    assert [bar[:3] for bar in table(days(stream(rows)))] == [
        ("ES", "2024-01-04T23:00:00Z", "2024-01-05T23:00:00Z"),
        ("BTC/USD", "2024-01-05T00:00:00Z", "2024-01-06T00:00:00Z"),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["AIG", "ES", "BTC/USD"]), st.integers(0, 9 * 24 * 4), st.sampled_from([1, 2, 4]),
            st.integers(1, 50), st.integers(0, 3),
        ),
        max_size=60,
    ),
    st.lists(st.integers(1, 12), max_size=12),
    st.booleans(),
)  # fmt: skip
@examples(150)
def test_sessions_equal_a_model_and_do_not_depend_on_the_batches(drawn, sizes, is_saved):
    """However the stream is cut, saved and loaded: the same bits; and AIG's days are what a model in plain Python says."""
    start = parse_timestamp("2024-10-31T00:00:00Z")
    rows = {(row[0], start + row[1] // row[2] * row[2] * 15 * MINUTE): row for row in drawn}
    made = stream([(symbol, at, row[2] * 15 * MINUTE, row[3], row[4]) for (symbol, at), row in rows.items()])
    whole = days(made)
    assert repr(days(made, sizes, is_saved)) == repr(whole)
    sessions = exchange_sessions("XNYS", "2024-10-30", "2024-11-15")
    own = zip(made.bars.symbol, made.bars.event_ts, made.bars.step, made.bars.close, strict=True)
    known = {}
    aig = made.symbols.find("AIG")
    finest = None
    for symbol, ts, step, close in own:
        if symbol != aig:
            continue
        place = int(np.searchsorted(sessions.opens, ts + step)) - 1
        if place < 0 or ts >= sessions.closes[place]:
            continue
        finest = step if finest is None else min(finest, step)
        source, last, _ = known.get(place, (finest, None, None))
        if step == source and (last is None or ts > last):
            known[place] = source, ts, close
    got = {bar[2]: bar[12] for bar in whole if bar[0] == "AIG"}
    assert got == {int(sessions.opens[place]): known[place][2] for place in known if int(sessions.opens[place]) in got}
    assert all(bar[5] == DAY for bar in whole)
