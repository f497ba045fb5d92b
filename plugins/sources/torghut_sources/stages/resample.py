"""The `resample` stage: bars of larger timeframes from smaller ones.

The windows of a timeframe are aligned to the epoch, those of a day to the day of UTC. A window takes the bars that lie
wholly within it, all of one source: microbars, once a symbol has any; else the tape's bars of the smallest step that
divides the timeframe. Where a finer source appears later, the windows in progress go on with theirs, and new ones take
the finer. Bars are taken in order of time; one that is not after the window's last is left out, so that a bar which
comes twice counts once.

A window is complete when a bar arrives that ends with it, and else when the watermark (the loop's time less
`max_out_of_order_ms`) reaches its end. The bars of a position are taken before the watermark moves there, microbars
first: they are known at the position where the watermark reaches *their* end.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from torghut_core import TIMEFRAMES, Bars, Batch, FloatArray, InputError, IntArray, Params, ShapeError, SymbolTable, param
from torghut_core.stages import Stage, kernel
from torghut_sources.stages.native import COLUMN, FLOATS, INTS, NUMBER, NUMBERS, OUTPUT, TABLE, native, records
from torghut_sources.stages.order import merge
from torghut_sources.stages.state import from_words, grown, to_words
from torghut_sources.stages.tumbling import (
    AT,
    CLOSE,
    COUNT,
    FIRST_OPEN,
    HIGH,
    LOW,
    OPEN,
    OWN,
    ROW,
    STARTED,
    STEP,
    SYMBOL,
    TS,
    VOLUME,
    VWAP,
    WINDOW,
    Tumbling,
    close_until,
    emit,
)
from torghut_sources.stages.vwap import price_of

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

BEGAN, MICROBAR, BAR = range(OWN, OWN + 3)
"""Places in `Tumbling.progress`: the first window there was; and within a batch the rows to go on with."""

SOURCE = np.dtype([("seen", np.int64), ("finest", np.int64), ("next", np.int64)])
"""State of a symbol: how many bars it had, the finest source's step (0 for microbars), and the first window that no bar
has completed."""

REFUSED, TAKEN, LATE, BREACH = range(4)
"""What became of a bar: LATE is a microbar of a window that is closed, BREACH a bar that breaks the contract."""


@kernel
def take(
    windows: Any,
    in_slot: IntArray,
    progress: IntArray,
    sources: Any,
    step: int,
    source: int,
    ints: IntArray,
    floats: FloatArray,
    bar: int,
) -> int:
    """Add a bar to the window that it lies in."""
    symbol, ts, length = ints[SYMBOL, bar], ints[TS, bar], ints[STEP, bar]
    number, slots = ts // step, windows.shape[1]
    if symbol < 0 or symbol >= len(windows) or length <= 0 or number >= progress[FIRST_OPEN] + slots:
        return BREACH
    if length >= step or step % length != 0 or ts + length > (number + 1) * step:
        return REFUSED
    state = sources[symbol]
    if state.seen == 0:
        state.next = number
    if state.seen == 0 or source < state.finest:
        state.finest = source
    state.seen += 1
    if number < progress[FIRST_OPEN]:
        return LATE if source == 0 and number >= progress[BEGAN] else REFUSED
    window = windows[symbol, number & (slots - 1)]
    if number < state.next or source != (window.source if window.parts > 0 else state.finest):
        return REFUSED
    if window.parts == 0:
        in_slot[number & (slots - 1)] += 1
        window.source = source
        window.count = 0
        window.open_ts = ts
        window.open, window.high, window.low = floats[OPEN, bar], floats[HIGH, bar], floats[LOW, bar]
        window.volume = window.notional = 0.0
    elif ts <= window.close_ts:
        return REFUSED
    window.parts += 1
    window.count += ints[COUNT, bar]
    window.close_ts = ts
    window.close = floats[CLOSE, bar]
    window.high = max(window.high, floats[HIGH, bar])
    window.low = min(window.low, floats[LOW, bar])
    volume = floats[VOLUME, bar]
    if volume > 0.0:
        window.volume += volume
        window.notional += volume * price_of(floats[HIGH, bar], floats[LOW, bar], floats[CLOSE, bar], floats[VWAP, bar])
    return TAKEN


@kernel
def fold(
    windows: Any,
    in_slot: IntArray,
    by_name: IntArray,
    progress: IntArray,
    sources: Any,
    step: int,
    lateness: int,
    now: IntArray,
    start: int,
    position: int,
    micro_ints: IntArray,
    micro_floats: FloatArray,
    bar_ints: IntArray,
    bar_floats: FloatArray,
    out_ints: IntArray,
    out_floats: FloatArray,
) -> int:
    """Go on at a position of the batch.

    Returns
    -------
    The position at which the buffer is full, the batch's length when it is done; -1 at a bar that breaks the contract, -2
    at a microbar that is late.
    """
    slots = windows.shape[1]
    if progress[STARTED] == 0 and len(now) > 0:
        progress[STARTED] = 1
        progress[FIRST_OPEN] = progress[BEGAN] = (now[0] - lateness) // step
    for here in range(position, len(now)):
        at = start + here
        while True:
            if progress[MICROBAR] < micro_ints.shape[1] and micro_ints[AT, progress[MICROBAR]] == at:
                ints, floats, bar, row, source = micro_ints, micro_floats, progress[MICROBAR], MICROBAR, 0
            elif progress[BAR] < bar_ints.shape[1] and bar_ints[AT, progress[BAR]] == at:
                ints, floats, bar, row, source = bar_ints, bar_floats, progress[BAR], BAR, bar_ints[STEP, progress[BAR]]
            else:
                break
            if progress[ROW] == out_ints.shape[1]:
                return here
            if row == BAR or ints[STEP, bar] == SECOND:
                outcome = take(windows, in_slot, progress, sources, step, source, ints, floats, bar)
                if outcome >= LATE:
                    return -1 if outcome == BREACH else -2
                symbol, end = ints[SYMBOL, bar], ints[TS, bar] + ints[STEP, bar]
                if outcome == TAKEN and end % step == 0:
                    number = end // step - 1
                    slot = number & (slots - 1)
                    emit(windows[symbol, slot], number, symbol, at, step, out_ints, out_floats, progress[ROW])
                    progress[ROW] += 1
                    in_slot[slot] -= 1
                    sources[symbol].next = number + 1
            progress[row] += 1
        until = (now[here] - lateness) // step
        if until > progress[FIRST_OPEN] and not close_until(
            windows, in_slot, by_name, progress, until, at, step, out_ints, out_floats
        ):
            return here
    return len(now)
