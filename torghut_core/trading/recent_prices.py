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

BEFORE = 5
"""So many closes before the newest one say what a price is near to: two bad prints among them change little."""

KEPT = BEFORE + 1
"""So many rows of a symbol are kept: these closes, and the newest one."""

FEW = 4
"""Of so many symbols each is read on its own: that costs less than to look at all."""

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
        self._rows: dict[str, tuple[list[int], list[Row]]] = {}
        """By symbol, what was read in this batch: positions, and past rows with those of the batch."""
        self._by_symbol: tuple[IntArray, IntArray] | None = None
        """What `_sorted` returns, once a symbol is read."""
        self._closes: tuple[IntArray, FloatArray] | None = None
        """What `_lay_out` returns, once many symbols are read."""
        self._moved: set[str] = set()
        """Symbols that had a row since `moved` was last asked for, but for those at `_moved_from` and later."""
        self._moved_from = 0
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

    def _forget(self) -> None:
        """Forget what was read of the batch."""
        self._rows.clear()
        self._medians.clear()
        self._by_symbol = self._closes = None

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
            closes = sorted([close for close, _, _ in self._window(symbol)[:-1]])
            found = self._medians[symbol] = self.at, money(closes[len(closes) // 2]) if closes else None
        return found[1]

    def before_all(self, symbols: Sequence[str]) -> list[Decimal | None]:
        """`before` of each of some symbols."""
        if len(symbols) <= FEW or self._batch is None:
            return [self.before(symbol) for symbol in symbols]
        medians = self._medians_at(self._batch)
        numbers = map(self._batch.symbols.find, symbols)
        return [
            self.before(symbol) if number is None else money(median) if (median := medians[number]) == median else None
            for symbol, number in zip(symbols, numbers, strict=True)
        ]

    def _medians_at(self, batch: Batch) -> list[float]:
        """Medians of the closes before the newest one, by symbol number; NaN where there are none."""
        if self._closes is None:
            self._closes = self._lay_out(batch)
        keys, closes = self._closes
        numbers, events = np.arange(len(batch.symbols)), len(batch)
        end = keys.searchsorted(numbers * events + (self.at - batch.start), "right") + KEPT * (numbers + 1)
        before = np.sort(closes[end[:, None] + np.arange(-KEPT, -1)], axis=1)  # NaN last
        medians: list[float] = before[numbers, (before == before).sum(axis=1) // 2].tolist()
        return medians

    def _lay_out(self, batch: Batch) -> tuple[IntArray, FloatArray]:
        """Positions of the batch's rows, and their closes, those of each symbol together after its past ones.

        A position is counted from the batch's start, and in each symbol from the end of that of the one before.
        """
        symbol, index = self._sorted(batch)
        past = np.full((len(batch.symbols), KEPT), np.nan)
        for number, name in enumerate(batch.symbols.names):
            rows = self._past.get((name, self._steps.get(name, 0)))
            if rows:
                past[number, -len(rows) :] = [close for close, _, _ in rows]
        first = symbol.searchsorted(np.arange(len(past)))
        closes = np.insert(batch.signals.close[index], np.repeat(first, KEPT), past.ravel())
        return symbol * len(batch) + (batch.signals.at[index] - batch.start), closes

    def quote(self, symbol: str) -> tuple[Decimal | None, Decimal | None]:
        """Bid and ask at the newest close; None for both where there is no fresh quote, or its spread is too wide."""
        for _, bid, ask in self._window(symbol)[-1:]:
            if is_sane(bid, ask):
                return money(bid), money(ask)
        return None, None

    def _window(self, symbol: str) -> list[Row]:
        found = self._rows.get(symbol)
        if found is None:
            found = self._rows[symbol] = self._read(symbol)
        positions, rows = found
        end = bisect_right(positions, self.at)
        return rows[max(0, end - KEPT) : end]

    def _read(self, symbol: str) -> tuple[list[int], list[Row]]:
        step = self._steps.get(symbol, 0)
        rows = list(self._past.get((symbol, step), ()))
        positions = [-1] * len(rows)
        batch = self._batch
        number = None if batch is None else batch.symbols.find(symbol)
        if batch is not None and number is not None:
            signals = batch.signals
            numbers, order = self._sorted(batch)
            first, stop = numbers.searchsorted((number, number + 1)).tolist()
            index = order[first:stop]
            positions += signals.at[index].tolist()
            columns = signals.close, signals.imbalance_bid_px, signals.imbalance_ask_px
            rows += zip(*(column[index].tolist() for column in columns), strict=True)
        return positions, rows

    def _sorted(self, batch: Batch) -> tuple[IntArray, IntArray]:
        """The rows of the batch that count: symbol numbers, sorted, and indices."""
        if self._by_symbol is None:
            signals, names = batch.signals, batch.symbols.names
            step = np.array([self._steps.get(name, 0) for name in names])
            index = np.flatnonzero((signals.step == step[signals.symbol]) & (signals.close == signals.close))
            symbol = signals.symbol[index]
            order = _order(symbol, len(names))
            self._by_symbol = symbol[order], index[order]
        return self._by_symbol


def _order(numbers: IntArray, count: int) -> IntArray:
    """The indices that sort numbers below `count`, equal ones in the order given."""
    return np.argsort(numbers.astype(np.int16) if count < 2**15 else numbers, kind="stable")  # of int16 a radix sort
