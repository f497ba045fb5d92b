"""Tumbling windows in event time: what `microbars` and `resample` share.

Time is cut into windows ``[k step, (k + 1) step)``, `k` being a window's number. A symbol has a ring of windows, wide enough
for all that can be open at once: those that end after the watermark, which lags the loop's time by as much as events may
be out of order. When the watermark reaches a window's end the window is closed; what comes for it later is late.

A kernel goes through the positions of a batch, writes closed windows to a buffer of bars, and returns where the buffer is
full, to be called again with a larger one. The buffer is kept from batch to batch, and its rows are copied out once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import Bars, FloatArray, IntArray, SymbolTable
from torghut_core.stages import kernel
from torghut_sources.stages.state import from_words, grown, to_words
from torghut_sources.stages.vwap import price_of

WINDOW = np.dtype(
    [
        ("parts", np.int64),  # trades or bars in it; 0 while it is not open
        ("source", np.int64),  # step of the bars in it; 0 for trades and for bars made of them
        ("count", np.int64),
        ("open_ts", np.int64),  # (event_ts, seq) of its first and of its last part
        ("open_seq", np.int64),
        ("close_ts", np.int64),
        ("close_seq", np.int64),
        ("open", np.float64),
        ("high", np.float64),
        ("low", np.float64),
        ("close", np.float64),
        ("volume", np.float64),
        ("priced", np.float64),  # the volume of parts whose price counts
        ("notional", np.float64),  # sum of price x volume of these
    ]
)
"""State of a symbol in a window."""

SOURCE = np.dtype([("seen", np.int64), ("finest", np.int64), ("next", np.int64)])
"""State of a symbol: how many bars it had, the finest source's step (0 for microbars), and the first window that no bar
has completed."""

STARTED, FIRST_OPEN, ROW, UNPRICED, OWN = range(5)
"""Places in the array that holds the progress of a kernel: whether it has seen an event, the first window that is not
closed, rows in the buffer, parts of closed windows without a price, which give no bar; from `OWN` on those of the stage
itself."""

AT, TS, SYMBOL, SEQ = Bars.at.row, Bars.event_ts.row, Bars.symbol.row, Bars.seq.row
STEP, SERIES, COUNT, END = Bars.step.row, Bars.series.row, Bars.count.row, Bars.end.row
OPEN, HIGH, LOW, CLOSE = Bars.open.row, Bars.high.row, Bars.low.row, Bars.close.row
VOLUME, VWAP = Bars.volume.row, Bars.vwap.row


@kernel
def add_bar(window: Any, source: int, ints: IntArray, floats: FloatArray, bar: int) -> bool:
    """Add a bar of a source to a window, unless it is not after the last one in it."""
    ts = ints[TS, bar]
    if window.parts == 0:
        window.source = source
        window.count = 0
        window.open_ts = ts
        window.open, window.high, window.low = floats[OPEN, bar], floats[HIGH, bar], floats[LOW, bar]
        window.volume = window.priced = window.notional = 0.0
    elif ts <= window.close_ts:
        return False
    window.parts += 1
    window.count += ints[COUNT, bar]
    window.close_ts = ts
    window.close = floats[CLOSE, bar]
    window.high = max(window.high, floats[HIGH, bar])
    window.low = min(window.low, floats[LOW, bar])
    volume = floats[VOLUME, bar]
    if volume > 0.0:
        window.volume += volume
        window.priced += volume
        window.notional += volume * price_of(floats[HIGH, bar], floats[LOW, bar], floats[CLOSE, bar], floats[VWAP, bar])
    return True


@kernel
def emit(
    window: Any, number: int, symbol: int, at: int, step: int, ints: IntArray, floats: FloatArray, row: int
) -> None:
    """Write a window to a row of bars, and clear it."""
    ints[AT, row] = at
    ints[TS, row] = number * step
    ints[SYMBOL, row] = symbol
    ints[SEQ, row] = number
    ints[STEP, row] = step
    ints[COUNT, row] = window.count
    ints[END, row] = (number + 1) * step
    floats[OPEN, row] = window.open
    floats[HIGH, row] = window.high
    floats[LOW, row] = window.low
    floats[CLOSE, row] = window.close
    floats[VOLUME, row] = window.volume
    floats[VWAP, row] = window.notional / window.priced if window.priced > 0.0 else math.nan
    window.parts = 0


@kernel
def close_until(
    windows: Any,
    in_slot: IntArray,
    by_name: IntArray,
    progress: IntArray,
    until: int,
    at: int,
    step: int,
    ints: IntArray,
    floats: FloatArray,
) -> bool:
    """Close the windows before number `until`, in order of (number, symbol name); False where the buffer is full."""
    slots = windows.shape[1]
    for number in range(progress[FIRST_OPEN], min(until, progress[FIRST_OPEN] + slots)):
        slot = number & (slots - 1)
        left = in_slot[slot]
        if progress[ROW] + left > ints.shape[1]:
            return False
        for symbol in by_name:
            if left == 0:
                break
            window = windows[symbol, slot]
            if window.parts > 0:
                left -= 1
                if window.open != window.open:
                    progress[UNPRICED] += window.parts
                    window.parts = 0
                    continue
                emit(window, number, symbol, at, step, ints, floats, progress[ROW])
                progress[ROW] += 1
        in_slot[slot] = 0
        progress[FIRST_OPEN] = number + 1
    progress[FIRST_OPEN] = max(progress[FIRST_OPEN], until)
    return True


class Tumbling:
    """The windows of all symbols at one step, and the buffer that closed ones are written to.

    Parameters
    ----------
    step : length of a window, ns.
    lateness : how far the watermark lags, ns.
    own : places in `progress` for the stage itself.

    Attributes
    ----------
    windows : rows of `WINDOW`, shape (symbols, slots); window k is in slot k modulo slots, a power of two.
    in_slot : shape (slots,), open windows in each slot.
    by_name : shape (symbols,), symbol numbers in alphabetical order.
    progress : see `STARTED` and its neighbours.
    ints, floats : the buffer, blocks of a table of bars.
    """

    def __init__(self, step: int, lateness: int, own: int) -> None:
        self.step = step
        self.lateness = lateness
        self.windows, self.in_slot = self._ring(-(-lateness // step) + 1)
        self.by_name: IntArray = np.empty(0, np.int64)
        self.progress = np.zeros(OWN + own, np.int64)
        self.ints, self.floats = self._buffer(256)
        self._series = np.empty(0, np.int64)

    @staticmethod
    def _ring(at_once: int) -> tuple[Any, IntArray]:
        slots = 1 << (at_once - 1).bit_length()
        return np.zeros((0, slots), WINDOW), np.zeros(slots, np.int64)

    @staticmethod
    def _buffer(rows: int) -> tuple[IntArray, FloatArray]:
        return np.empty((len(Bars.INT_COLUMNS), rows), np.int64), np.empty((len(Bars.FLOAT_COLUMNS), rows))

    def begin(self, symbols: SymbolTable) -> None:
        """Make room for the symbols of a batch, and clear the buffer."""
        known = len(self.by_name)
        if known < len(symbols):
            self.windows = grown(self.windows, len(symbols))
            self.by_name = np.argsort(symbols.ranks)
            self._series = np.append(self._series, np.full(len(symbols) - known, -1))
        self.progress[[ROW, UNPRICED]] = 0

    def enlarge(self) -> None:
        """Make the buffer twice as large, and large enough for the fullest slot."""
        rows = self.progress[ROW]
        ints, floats = self.ints, self.floats
        self.ints, self.floats = self._buffer(2 * ints.shape[1] + int(self.in_slot.max()))
        self.ints[:, :rows] = ints[:, :rows]
        self.floats[:, :rows] = floats[:, :rows]

    def bars(self, symbols: SymbolTable) -> Bars:
        """Return the bars in the buffer, with series numbers."""
        rows = self.progress[ROW]
        bars = Bars(self.ints[:, :rows].copy(), self.floats[:, :rows].copy())
        series = self._series[bars.symbol]
        if (series < 0).any():
            for symbol in np.unique(bars.symbol[series < 0]).tolist():
                self._series[symbol] = symbols.series(symbol, self.step)
            series = self._series[bars.symbol]
        bars.series[:] = series
        return bars

    def save(self, symbols: SymbolTable) -> dict[str, Any]:
        """Return the open windows as plain values: of each the symbol's name, its number and its words."""
        symbol, slot = np.nonzero(self.windows["parts"])
        first = int(self.progress[FIRST_OPEN])
        return {
            "started": bool(self.progress[STARTED]),
            "first_open": first,
            "symbols": [symbols.names[number] for number in symbol],
            "numbers": first + (slot - first) % len(self.in_slot),
            "windows": to_words(self.windows[symbol, slot]),
        }

    def load(self, symbols: SymbolTable, saved: dict[str, Any]) -> None:
        """Restore what `save` gave, by the names of the symbols."""
        windows, numbers = from_words(saved["windows"], WINDOW), np.asarray(saved["numbers"], np.int64)
        first = saved["first_open"]
        self.progress[[STARTED, FIRST_OPEN]] = saved["started"], first
        if len(numbers) and numbers.max() - first >= len(self.in_slot):  # saved with a watermark that lagged more
            self.windows, self.in_slot = self._ring(int(numbers.max() - first) + 1)
        symbol = [symbols.number(name) for name in saved["symbols"]]
        self.begin(symbols)
        slot = numbers % len(self.in_slot)
        self.windows[symbol, slot] = windows
        np.add.at(self.in_slot, slot, 1)
