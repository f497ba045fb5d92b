"""The last few prices of each symbol: what a new price has to be near to, so that one bad print moves no limit.

A price is the close of a bar, with the fresh quote that its row of signals has: of the shortest bars that any strategy
trades the symbol by, so that one print counts once. What is read at a position in the stream depends on the rows up to
there alone, however the stream is cut into batches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from torghut_core.generation import StrategyInstance
from torghut_core.model.market import Batch, FloatArray, IntArray
from torghut_core.model.sale_conditions import is_sane
from torghut_core.model.trading import money
from torghut_core.stages.base import kernel
from torghut_core.stages.machine_code import NUMBERS, OUTPUT, VALUES, native

BEFORE = 5
"""So many closes before the newest one say what a price is near to: two bad prints among them change little."""

KEPT = BEFORE + 1
"""So many rows of a symbol are kept: these closes, and the newest one."""

FEW = 4
"""So many symbols are read one by one: that costs less than to look at them as arrays."""

NO_PRICE = float("nan")

Row: TypeAlias = "tuple[float, float, float]"
"""Close, bid and ask of a bar; NaN where there is none."""


class RecentPrices:
    """The last prices of each symbol, as of a position in the stream.

    Attributes
    ----------
    at : the position; set before anything is read.
    """

    def __init__(self) -> None:
        self.at = 0
        self._steps: dict[str, int] = {}
        self._past: dict[tuple[str, int], deque[Row]] = {}
        """The last rows before the batch, by symbol and step."""
        self._batch: Batch | None = None
        self._rows: dict[str, tuple[list[int], list[float], list[float], list[float]]] = {}
        """By symbol, past rows with those of the batch, as columns: position, close, bid and ask."""
        self._by_symbol: tuple[IntArray, IntArray] | None = None
        """What `_sorted` returns, once a symbol is read."""
        self._rows_that_count: IntArray | None = None
        """What `_counting` returns, once a symbol is read."""
        self._windows: FloatArray | None = None
        """What `_windows_at` returned last in this batch, which is as of so many rows that count: `_windows_to`."""
        self._windows_to = 0
        self._moved: set[str] = set()
        """Symbols that had a row since `moved` was last asked for, but for those at `_moved_from` and later."""
        self._moved_from = 0
        self._slide = native(_slide, OUTPUT, NUMBERS, VALUES)
        self._medians: dict[str, tuple[int, Decimal | None]] = {}
        """By symbol, the position at which `before` was last asked for, and its answer."""

    def follow(self, strategies: Iterable[StrategyInstance]) -> None:
        """Read the bars of these strategies from now on; of a symbol that none of them trades, the same as before."""
        steps: dict[str, int] = {}
        for strategy in strategies:
            for symbol in strategy.symbols:
                steps[symbol] = min(strategy.step_ns, steps.get(symbol, strategy.step_ns))
        self._steps |= steps
        self._moved |= self._steps.keys()
        self._forget()

    def save(self) -> list[list[Any]]:
        """The last rows of each symbol and step, as plain values."""
        return [[*series, list(rows)] for series, rows in self._past.items()]

    def load(self, saved: list[list[Any]]) -> None:
        """Resume from what `save` gave."""
        self._past = {(symbol, step): deque(map(tuple, rows), KEPT) for symbol, step, rows in saved}
        self._moved |= {symbol for symbol, _ in self._past}
        self._forget()

    def begin(self, batch: Batch) -> None:
        """Start the next batch."""
        self._batch = batch
        self._moved_from = batch.start
        self._forget()

    def finish(self, batch: Batch) -> None:
        """Keep the last rows of each series of the batch."""
        self._note_moved(batch, batch.stop)
        self._batch = None
        self._forget()
        signals, table = batch.signals, batch.symbols
        rows = np.flatnonzero(signals.close == signals.close)
        rows = rows[_order(signals.series[rows], len(table.series_symbol))]
        series = signals.series[rows]
        is_kept = np.ones(len(rows), bool)
        is_kept[:-KEPT] = series[KEPT:] != series[:-KEPT]
        kept, series = rows[is_kept], series[is_kept]
        columns = signals.close, signals.imbalance_bid_px, signals.imbalance_ask_px
        newest = list(zip(*(column[kept].tolist() for column in columns), strict=True))
        edges = np.flatnonzero(np.diff(series, prepend=-1, append=-1)).tolist()
        for begin, end in pairwise(edges):
            number = series.item(begin)
            key = table.names[table.series_symbol[number]], table.series_step[number]
            past = self._past.get(key)
            if past is None:
                past = self._past[key] = deque(maxlen=KEPT)
            past.extend(newest[begin:end])

    def rescale(self, symbol: str, factor: float) -> None:
        """Multiply the prices of a symbol, between two batches."""
        for series, rows in self._past.items():
            if series[0] == symbol:
                scaled = [(close * factor, bid * factor, ask * factor) for close, bid, ask in rows]
                self._past[series] = deque(scaled, KEPT)
        self._moved.add(symbol)
        self._forget()

    def _forget(self) -> None:
        """Forget what was read of the batch."""
        self._rows.clear()
        self._medians.clear()
        self._by_symbol = self._rows_that_count = self._windows = None

    def moved(self) -> set[str]:
        """Symbols of which a row of any step has come since this was last asked for, and perhaps others."""
        if self._batch is not None:
            self._note_moved(self._batch, self.at + 1)
            self._moved_from = self.at  # other strategies may still be shown rows there
        moved, self._moved = self._moved, set()
        return moved

    def _note_moved(self, batch: Batch, stop: int) -> None:
        """Note which symbols have a row from `_moved_from` on, before a position."""
        signals, names = batch.signals, batch.symbols.names
        first, last = signals.at.searchsorted((self._moved_from, stop)).tolist()
        if last - first > len(names):  # each once
            has_row = np.zeros(len(names), bool)
            has_row[signals.symbol[first:last]] = True
            numbers = np.flatnonzero(has_row).tolist()
        else:
            numbers = signals.symbol[first:last].tolist()
        self._moved.update([names[number] for number in numbers])

    def before(self, symbol: str) -> Decimal | None:
        """Median of the closes right before the newest one, quote currency per unit; None where there are none."""
        found = self._medians.get(symbol)
        if found is None or found[0] != self.at:
            median = self._median(symbol)
            found = self._medians[symbol] = self.at, money(median) if median == median else None
        return found[1]

    def _median(self, symbol: str) -> float:
        positions, closes, _, _ = self._rows_of(symbol)
        end = bisect_right(positions, self.at)
        window = sorted(closes[max(0, end - KEPT) : max(0, end - 1)])
        return window[len(window) // 2] if window else NO_PRICE

    def before_all(self, symbols: Sequence[str]) -> FloatArray:
        """`before` of each of many symbols, shape (n,); NaN where there are no closes."""
        batch = self._batch
        if batch is None:
            return np.array([self._median(symbol) for symbol in symbols])
        found = [-1 if number is None else number for number in map(batch.symbols.find, symbols)]
        numbers = np.array(found)
        before = np.sort(self._windows_at(batch)[numbers, :-1], axis=1)  # NaN last
        medians: FloatArray = before[np.arange(len(found)), (before == before).sum(axis=1) // 2]
        for place in np.flatnonzero(numbers < 0).tolist():
            medians[place] = self._median(symbols[place])
        return medians

    def _windows_at(self, batch: Batch) -> FloatArray:
        """The last closes of each symbol at the position, shape (symbols, KEPT); NaN before the first."""
        signals, windows, rows = batch.signals, self._windows, self._counting(batch)
        stop = int(rows.searchsorted(signals.at.searchsorted(self.at, "right")))
        if windows is None or stop < self._windows_to:
            windows, self._windows_to = self._past_closes(batch), 0
        if stop > self._windows_to:
            rows = rows[self._windows_to : stop]
            self._slide(windows, signals.symbol[rows], signals.close[rows])
        self._windows, self._windows_to = windows, stop
        return windows

    def _past_closes(self, batch: Batch) -> FloatArray:
        """The last closes before the batch, shape (symbols, KEPT); NaN before the first."""
        past = np.full((len(batch.symbols), KEPT), np.nan)
        for number, name in enumerate(batch.symbols.names):
            rows = self._past.get((name, self._steps.get(name, 0)))
            if rows:
                past[number, -len(rows) :] = [close for close, _, _ in rows]
        return past

    def quote(self, symbol: str) -> tuple[Decimal | None, Decimal | None]:
        """Bid and ask at the newest close; None for both where there is no fresh quote, or its spread is too wide."""
        positions, _, bids, asks = self._rows_of(symbol)
        end = bisect_right(positions, self.at)
        if end and is_sane(bids[end - 1], asks[end - 1]):
            return money(bids[end - 1]), money(asks[end - 1])
        return None, None

    def _rows_of(self, symbol: str) -> tuple[list[int], list[float], list[float], list[float]]:
        found = self._rows.get(symbol)
        if found is None:
            found = self._rows[symbol] = self._read(symbol)
        return found

    def _read(self, symbol: str) -> tuple[list[int], list[float], list[float], list[float]]:
        step = self._steps.get(symbol, 0)
        past = self._past.get((symbol, step), ())
        positions = [-1] * len(past)
        closes, bids, asks = ([row[column] for row in past] for column in range(3))
        batch = self._batch
        number = None if batch is None else batch.symbols.find(symbol)
        if batch is not None and number is not None:
            signals = batch.signals
            numbers, order = self._sorted(batch)
            first, stop = numbers.searchsorted((number, number + 1)).tolist()
            index = order[first:stop]
            positions += signals.at[index].tolist()
            closes += signals.close[index].tolist()
            bids += signals.imbalance_bid_px[index].tolist()
            asks += signals.imbalance_ask_px[index].tolist()
        return positions, closes, bids, asks

    def _sorted(self, batch: Batch) -> tuple[IntArray, IntArray]:
        """The rows of the batch that count: symbol numbers, sorted, and indices."""
        if self._by_symbol is None:
            index = self._counting(batch)
            symbol = batch.signals.symbol[index]
            order = _order(symbol, len(batch.symbols))
            self._by_symbol = symbol[order], index[order]
        return self._by_symbol

    def _counting(self, batch: Batch) -> IntArray:
        """The rows of the batch that count, in order: those of the step by which their symbol is read, with a close."""
        if self._rows_that_count is None:
            signals = batch.signals
            step = np.array([self._steps.get(name, 0) for name in batch.symbols.names])
            self._rows_that_count = np.flatnonzero(
                (signals.step == step[signals.symbol]) & (signals.close == signals.close)
            )
        return self._rows_that_count


@kernel
def _slide(windows: FloatArray, symbol: IntArray, closes: FloatArray) -> None:
    """Add closes to the windows of their symbols."""
    for row in range(len(symbol)):
        window = windows[symbol[row]]
        window[:-1] = window[1:]
        window[-1] = closes[row]


def _order(numbers: IntArray, count: int) -> IntArray:
    """The indices that sort numbers below `count`, equal ones in the order given."""
    return np.argsort(numbers.astype(np.int16) if count < 2**15 else numbers, kind="stable")  # of int16 a radix sort
