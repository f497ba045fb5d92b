"""Bars to larger bars: against a model in plain Python, and case by case."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.stages.microbars import Microbars
from torghut_sources.stages.resample import Resample

from support.effort import examples
from torghut_core import Bars, Batch, InputError, ShapeError, SymbolTable

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
MILLISECOND = 1_000_000
T0 = 1_767_623_400 * SECOND


def model(batch, step, lateness):
    """Larger bars from the tape's bars and the microbars of one batch, position by position, in dicts of lists."""
    names, out = batch.symbols.names, []
    finest, completed, windows, closed_before = {}, {}, {}, None

    def rows(table, at):
        return [row for row in range(len(table)) if table.at[row] == at]

    def close(key, at):
        parts = windows.pop(key)[1]
        first, highest, lowest, last = parts[0][1], max(p[2] for p in parts), min(p[3] for p in parts), parts[-1][4]
        sold = [
            (volume, vwap if not math.isnan(vwap) and vwap else (high + low + close) / 3)
            for _, _, high, low, close, volume, vwap, _ in parts
            if volume > 0
        ]
        volume = sum((v for v, _ in sold), 0.0)
        vwap = sum((v * p for v, p in sold), 0.0) / volume if volume else math.nan
        out.append((at, key[0], key[1], step, sum(p[7] for p in parts), first, highest, lowest, last, volume, vwap))

    for at in range(batch.start, batch.stop):
        watermark = int(batch.now[at - batch.start]) - lateness
        found = [(batch.microbars, row, 0) for row in rows(batch.microbars, at)]
        found += [(batch.bars, row, int(batch.bars.step[row])) for row in rows(batch.bars, at)]
        for table, row, source in found:
            ts, length, symbol = int(table.event_ts[row]), int(table.step[row]), names[table.symbol[row]]
            key = (ts // step * step, symbol)
            if length >= step or step % length or ts + length > key[0] + step:
                continue
            finest[symbol] = min(source, finest.get(symbol, source))
            if (closed_before is not None and key[0] < closed_before) or key[0] < completed.get(symbol, key[0]):
                continue
            if key not in windows:
                if source != finest[symbol]:
                    continue
                windows[key] = (source, [])
            parts = windows[key][1]
            if source != windows[key][0] or (parts and ts <= parts[-1][0]):
                continue
            # h, l of a bar as they are: NaN is not larger than anything
            parts.append((ts, *table.floats[:, row].tolist(), int(table.count[row])))
            if ts + length == key[0] + step:
                completed[symbol] = key[0] + step
                close(key, at)
        for key in sorted(key for key in windows if key[0] + step <= watermark):
            close(key, at)
        closed_before = watermark // step * step
    return out


@given(st.data(), st.sampled_from([0, 1500, 2000, 61_000]), st.sampled_from([MINUTE, 5 * MINUTE, 1440 * MINUTE]))
@examples(150)
def test_bars_equal_the_model(tape, data, lateness_ms, step):
    """Positions, values and order are those of a model that takes one position after the other."""
    events = [tape.replace(e, other=0.0 if e.other != e.other else e.other) for e in data.draw(tape.events())]
    stream = tape.Stream(events, drain=61 * SECOND)
    batch = stream.batch(SymbolTable(), 0, len(stream))
    batch = Microbars(Microbars.Params(max_out_of_order_ms=lateness_ms)).update(batch)
    expected = model(batch, step, lateness_ms * MILLISECOND)
    expected.sort(key=lambda row: row[:4])
    name = {MINUTE: "1Min", 5 * MINUTE: "5Min", 1440 * MINUTE: "1Day"}[step]
    b = Resample(Resample.Params(timeframes=[name], max_out_of_order_ms=lateness_ms)).update(batch).microbars
    b = b.take(b.step == step)
    names = batch.symbols.names
    got = [
        (int(b.at[i]), int(b.event_ts[i]), names[b.symbol[i]], step, int(b.count[i]), *b.floats[:, i].tolist())
        for i in range(len(b))
    ]
    np.testing.assert_equal(got, expected)


def bars(rows, step=SECOND, symbol="ES"):
    """A batch of tape bars, each known at its end: rows of (start in seconds after T0, close)."""
    symbols = SymbolTable()
    number = symbols.number(symbol)
    ts = T0 + np.array([start for start, _ in rows]) * SECOND
    price = np.array([close for _, close in rows], np.float64)
    n = len(rows)
    table = Bars.from_columns(
        at=np.arange(n),
        event_ts=ts,
        symbol=np.full(n, number),
        step=np.full(n, step),
        series=np.full(n, symbols.series(number, step)),
        open=price,
        high=price,
        low=price,
        close=price,
        volume=np.ones(n),
        vwap=price,
    )
    return Batch.of(symbols, 0, np.maximum.accumulate(ts + step), bars=table)


def resampled(batch, **params):
    """(position, start in seconds after T0, close, volume) of each larger bar."""
    b = Resample(Resample.Params(**params)).update(batch).microbars
    b = b.take(b.step >= MINUTE)
    return [
        (int(b.at[i]), int(b.event_ts[i] - T0) // SECOND, float(b.close[i]), float(b.volume[i])) for i in range(len(b))
    ]


def test_bar_is_complete_when_the_bar_that_ends_it_arrives():
    """A minute is out at the position of its last second, without waiting for the watermark."""
    assert resampled(bars([(0, 1.0), (59, 2.0), (60, 3.0)])) == [(1, 0, 2.0, 2.0)]


def test_bar_without_its_last_part_waits_for_the_watermark():
    """Where the last second has no bar, the minute is out at the first position 2 s past its end."""
    assert resampled(bars([(0, 1.0), (57, 2.0), (60, 3.0), (61, 4.0), (62, 5.0)])) == [(3, 0, 2.0, 2.0)]


def test_bar_that_comes_twice_counts_once():
    """A second delivery of a bar changes nothing, neither within its window nor after it is complete."""
    assert resampled(bars([(0, 1.0), (1, 2.0), (1, 9.0), (59, 3.0), (59, 9.0), (70, 1.0)])) == [(3, 0, 3.0, 3.0)]


def test_steps_that_do_not_fit_are_passed_over():
    """Bars of 7 s make no minute, nor do bars of a minute."""
    assert resampled(bars([(0, 1.0), (7, 1.0), (120, 1.0)], 7 * SECOND)) == []
    assert resampled(bars([(0, 1.0), (60, 1.0), (120, 1.0)], MINUTE)) == []


def test_day_is_the_day_of_utc():
    """A day's window runs from 00:00 to 24:00 UTC."""
    midnight = 1_767_657_600 - T0 // SECOND  # 2026-01-06T00:00:00Z
    batch = bars([(midnight - 60, 1.0), (midnight, 2.0)], MINUTE)
    b = Resample(Resample.Params(timeframes=["1Day"])).update(batch).microbars
    assert b.event_ts.tolist() == [(1_767_657_600 - 86400) * SECOND]


def test_microbars_replace_the_tapes_own_bars():
    """A symbol with trades and minute bars gets its five minutes from the trades, and each volume counts once."""
    batch = bars([(0, 5.0), (60, 6.0), (240, 7.0)], MINUTE)
    micro = bars([(0, 1.0), (1, 2.0), (299, 3.0)])
    micro.bars.ints[Bars.at.row] = [0, 0, 2]
    batch.microbars = micro.bars
    assert resampled(batch, timeframes=["5Min"])[-1] == (2, 0, 3.0, 3.0)


def test_parts_without_an_average_count_with_their_typical_price():
    """A part without its own average counts with (high + low + close) / 3, one without volume not at all."""
    batch = bars([(0, 1.0), (1, 2.0), (59, 100.0)])
    batch.bars.vwap[1] = np.nan
    batch.bars.high[1] = 5.0
    batch.bars.volume[2] = 0.0
    b = Resample(Resample.Params()).update(batch).microbars
    assert b.vwap.tolist() == [(1.0 + 3.0) / 2]


def test_all_timeframes_come_in_one_order():
    """Bars of several timeframes at one position are ordered by time, then symbol, then step."""
    b = Resample(Resample.Params(timeframes=["5Min", "1Min"])).update(bars([(0, 1.0), (299, 2.0)])).microbars
    assert [
        (int(at), int(ts - T0) // SECOND, int(step) // MINUTE)
        for at, ts, step in zip(b.at, b.event_ts, b.step, strict=True)
    ] == [
        (1, 0, 1),
        (1, 0, 5),
        (1, 240, 1),
    ]


def test_watermark_ahead_of_the_microbars_is_an_error():
    """Windows that would lose their last seconds are refused with the fix, not silently short."""
    batch = bars([(0, 1.0), (59, 1.0), (70, 1.0)])
    micro = bars([(0, 1.0), (58, 1.0)])
    micro.bars.ints[Bars.at.row] = [0, 2]
    micro.bars.ints[Bars.event_ts.row, 1] = T0 + 59 * SECOND
    batch.microbars = micro.bars
    batch.now[1] += 10 * SECOND
    with pytest.raises(InputError, match="give both the same"):
        Resample(Resample.Params(max_out_of_order_ms=0)).update(batch)


def test_stage_that_begins_in_mid_stream_passes_over_what_is_older():
    """Microbars of windows from before a stage was added are no error, and make no half bar."""
    batch = bars([(119, 1.0), (179, 2.0)])
    batch.microbars, batch.bars = batch.bars, Bars.empty()
    batch.now[:] = T0 + 125 * SECOND, T0 + 185 * SECOND
    assert resampled(batch) == [(1, 120, 2.0, 1.0)]


def test_bar_ahead_of_the_loop_is_an_error():
    """A source that breaks the contract is an error."""
    batch = bars([(0, 1.0), (3600, 1.0)])
    batch.now[:] = T0
    with pytest.raises(ShapeError, match="ahead"):
        Resample(Resample.Params()).update(batch)


@pytest.mark.parametrize("params", [{"timeframes": []}, {"timeframes": ["2Min"]}, {"max_out_of_order_ms": -1}])
def test_parameter_out_of_bounds_is_refused(params):
    """Timeframes are those that a catalog may name, and one at least."""
    with pytest.raises(ValueError, match=next(iter(params))):
        Resample.Params(**params)
