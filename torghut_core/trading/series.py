"""Which bars of a symbol are traded on where a timeframe comes twice, and what jumps between them as in a split.

A series is a symbol at a step, made of one thing: the venue's own bars, or bars that were made here, of trades or of
smaller bars. Where both come at the same step, strategies see the series whose row came first, and of the other one
nothing. So the result depends on the stream alone, however it is cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from torghut_core.calendars import LONGEST_DAY
from torghut_core.model.market import Batch, FloatArray, IntArray, Signals, SymbolTable
from torghut_core.timestamps import HOUR, format_timestamp

PAUSE = 4 * HOUR
"""Between bars that start so far apart the market was closed, or a day has passed: a split falls into such a pause."""

SPLIT = 1.8
"""A price that changes by such a factor over a pause, up or down, has changed as in a split of 2 to 1 or more."""

SMALL_SPLIT = (1.43, 1.57)
"""The factors of a split of 3 to 2."""


_Series: TypeAlias = "tuple[str, int, bool]"
"""Symbol, step, and whether the bars are the venue's own."""

_Last: TypeAlias = "tuple[Any, ...]"
"""What `_Known` has of a series."""


class Jump(NamedTuple):
    """A change of the price of a symbol as in a split: closes before and after it, and the start of the bar after it."""

    symbol: str
    event_ts: int
    before: float
    after: float

    def __str__(self) -> str:
        factor = self.after / self.before
        ratio = f"{factor:.4g} for 1" if factor >= 1 else f"1 for {1 / factor:.4g}"
        return (
            f"{self.symbol} {self.before:.10g} -> {self.after:.10g} at {format_timestamp(self.event_ts)} ({ratio}): a split"
            " that is not in the prices? Positions, orders and indicators were left as they were"
        )


class _Known:
    """What is known of the series of a symbol table, in arrays of shape (series,).

    Attributes
    ----------
    rivals : pairs of series of one symbol and step, of which none is hidden yet.
    is_seen, is_hidden : whether a row came, and whether strategies see none.
    start, close : of the last row that they saw, ns and quote currency; NaN before the first.
    """

    def __init__(self) -> None:
        self.rivals: list[tuple[int, int]] = []
        self.is_seen, self.is_hidden = np.zeros(0, bool), np.zeros(0, bool)
        self.start, self.close = np.zeros(0, np.int64), np.zeros(0)

    def grow(self, table: SymbolTable, kept: Mapping[_Series, _Last]) -> None:
        """Make room for the series that are new in the table; `kept` has what was known of them."""
        before = len(self.close)
        new = len(table.series_step) - before
        if not new:
            return
        self.is_seen = np.append(self.is_seen, np.zeros(new, bool))
        self.is_hidden = np.append(self.is_hidden, np.zeros(new, bool))
        self.start = np.append(self.start, np.zeros(new, np.int64))
        self.close = np.append(self.close, np.full(new, np.nan))
        if kept:
            for number, series in enumerate(_series(table)):
                if number >= before and series in kept:
                    last = kept[series]
                    self.is_seen[number], self.is_hidden[number], self.start[number], self.close[number] = last
        first: dict[tuple[int, int], int] = {}
        self.rivals = []
        for number, key in enumerate(zip(table.series_symbol, table.series_step, strict=True)):
            other = first.setdefault(key, number)
            if other != number and not (self.is_hidden[number] or self.is_hidden[other]):
                self.rivals.append((other, number))

    def settle(self, signals: Signals) -> None:
        """Hide a series of each pair as soon as a row of the other one has come, which the rows before it have not."""
        for pair in self.rivals:
            first = [-1 if self.is_seen[each] else _first(signals, each) for each in pair]
            if min(first) < len(signals):
                self.is_hidden[pair[int(first[0] < first[1])]] = True
        self.rivals = [pair for pair in self.rivals if not self.is_hidden[list(pair)].any()]


class TradedSeries:
    """The series of a stream that are traded on."""

    def __init__(self) -> None:
        self._kept: dict[_Series, _Last] = {}
        """What was known of series of which no row has come yet."""
        self._known: WeakKeyDictionary[SymbolTable, _Known] = WeakKeyDictionary()
        self._reported: dict[str, int] = {}
        """When the last jump of each symbol was, ns."""

    def choose(self, batch: Batch) -> Batch:
        """Return the batch with the signals that strategies see; the same one where no timeframe comes twice."""
        signals = batch.signals
        if not len(signals):
            return batch
        known = self._of(batch.symbols)
        if known.rivals:
            known.settle(signals)
        known.is_seen[signals.series] = True
        if not known.is_hidden.any():
            return batch
        hidden = known.is_hidden[signals.series]
        shown = Batch.of(batch.symbols, batch.start, batch.now, batch.trades, batch.quotes, batch.bars)
        shown.microbars, shown.signals, shown.lane = batch.microbars, signals.take(~hidden), batch.lane
        return shown

    def jumps(self, batch: Batch) -> Iterator[Jump]:
        """Yield the jumps in what `choose` returned, in order, one for a symbol and day."""
        signals = batch.signals
        known = self._of(batch.symbols)
        series, start, close = signals.series, signals.event_ts, signals.close
        has_price = close > 0
        if not has_price.all():
            series, start, close = series[has_price], start[has_price], close[has_price]
        if not len(series):
            return
        since = np.where(known.close[series] > 0, known.start[series], start)
        if int((start - np.minimum(since, start.min())).max()) >= PAUSE:
            yield from self._found(batch, known, series, start, close)
        known.start[series] = start
        known.close[series] = close

    def _found(
        self, batch: Batch, known: _Known, series: IntArray, start: IntArray, close: FloatArray
    ) -> Iterator[Jump]:
        order = np.argsort(series.astype(np.int16) if len(known.close) < 2**15 else series, kind="stable")  # radix sort
        series, start, close = series[order], start[order], close[order]
        is_first = np.diff(series, prepend=-1) != 0
        since = np.roll(start, 1)
        since[is_first] = known.start[series[is_first]]
        places = np.flatnonzero(start - since >= PAUSE)
        before = np.where(is_first[places], known.close[series[places]], close[places - 1])
        with np.errstate(over="ignore"):
            factor = np.maximum(close[places] / before, before / close[places])
        is_split = (factor >= SPLIT) | ((factor >= SMALL_SPLIT[0]) & (factor <= SMALL_SPLIT[1]))
        found = sorted(
            zip(order[places[is_split]].tolist(), places[is_split].tolist(), before[is_split].tolist(), strict=True)
        )
        names, owner = batch.symbols.names, batch.symbols.series_symbol
        for _, place, price in found:
            symbol, at = names[owner[series.item(place)]], start.item(place)
            if at - self._reported.get(symbol, at - LONGEST_DAY) >= LONGEST_DAY:
                self._reported[symbol] = at
                yield Jump(symbol, at, price, close.item(place))

    def rescale(self, symbol: str, factor: float) -> None:
        """Multiply the prices of a symbol: what changes by this factor is no jump."""
        for table, known in self._known.items():
            known.grow(table, self._kept)
            number = table.find(symbol)
            known.close[[owner == number for owner in table.series_symbol]] *= factor
        for series, (is_seen, is_hidden, start, close) in self._kept.items():
            if series[0] == symbol:
                self._kept[series] = is_seen, is_hidden, start, close * factor

    def last_rows(self) -> dict[tuple[int, str], int]:
        """By step and symbol, when the last bar started that strategies saw, ns."""
        return {
            (step, symbol): start
            for (symbol, step, _), (is_seen, is_hidden, start, _) in self._last().items()
            if is_seen and not is_hidden
        }

    def save(self) -> list[list[Any]]:
        """What is known of each series, as plain values."""
        return [[*series, *last] for series, last in self._last().items()]

    def load(self, saved: list[list[Any]]) -> None:
        """Resume from what `save` gave."""
        self._kept = {(symbol, step, of_venue): tuple(last) for symbol, step, of_venue, *last in saved}

    def _last(self) -> dict[_Series, _Last]:
        found = dict(self._kept)
        for table, known in self._known.items():
            columns = (known.is_seen, known.is_hidden, known.start, known.close)
            found |= zip(_series(table), zip(*(column.tolist() for column in columns), strict=True), strict=False)
        return found

    def _of(self, table: SymbolTable) -> _Known:
        known = self._known.setdefault(table, _Known())
        known.grow(table, self._kept)
        return known


def _series(table: SymbolTable) -> Iterator[_Series]:
    """The series of a table, by number."""
    names = map(table.names.__getitem__, table.series_symbol)
    return zip(names, table.series_step, table.series_of_venue, strict=True)


def _first(signals: Signals, series: int) -> int:
    """Return the index of the first row of a series; the number of rows where there is none."""
    found = np.flatnonzero(signals.series == series)
    return int(found[0]) if len(found) else len(signals)
