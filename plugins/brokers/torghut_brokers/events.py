"""The market's events as an order sees them: one class for each table, with the same methods.

To an order, every event is an interval with a begin and an end, a first, a highest and a lowest price at which it could
have traded, and a volume. A bar is such an interval; a trade has no length and one price; a quote has the price of the
side that the order would take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from decimal import Decimal
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from torghut_core import Bars, FloatArray, IntArray, Quotes, SymbolTable, Trades, money

NEVER = 2**63 - 1
"""A time that does not come, ns."""


class View(NamedTuple):
    """One event, seen by an order of one side.

    `begin` and `end` are its times, ns; `first`, `best`, `worst` and `last` prices for the order's side, the best being the
    one that a limit order waits for; `volume` in units. What is taken there slips, except at a quote.
    """

    begin: int
    end: int
    first: float
    best: float
    worst: float
    last: float
    volume: float
    slips: bool = True
    is_bar: bool = False


class Touch(msgspec.Struct, frozen=True):
    """Best bid and ask from a time (ns) on, None on the side that is missing."""

    event_ts: int
    bid: float | None
    ask: float | None


class Levels:
    """Prices at which the open orders of each symbol have to be shown an event: arrays of shape (symbols,).

    Buyers use the ask, sellers the bid; each at prices up to `below` and from `above` on. No order: -inf, inf.
    """

    def __init__(self, table: SymbolTable) -> None:
        self._table = table
        self.symbols = symbols = len(table)
        self.ask_below: FloatArray = np.full(symbols, -np.inf)
        self.ask_above: FloatArray = np.full(symbols, np.inf)
        self.bid_below: FloatArray = np.full(symbols, -np.inf)
        self.bid_above: FloatArray = np.full(symbols, np.inf)

    def fits(self, table: SymbolTable) -> bool:
        """Return whether these are the prices of all symbols of a table."""
        return table is self._table and len(table) == self.symbols

    def clear(self, symbol: int) -> None:
        """No order is open in this symbol."""
        self.ask_below[symbol] = self.bid_below[symbol] = -np.inf
        self.ask_above[symbol] = self.bid_above[symbol] = np.inf

    def watch(self, symbol: int, is_buy: bool, below: float, above: float) -> None:
        """Add an order of this side, which has to see prices up to `below` and from `above` on."""
        if is_buy:
            self.ask_below[symbol] = max(self.ask_below[symbol], below)
            self.ask_above[symbol] = min(self.ask_above[symbol], above)
        else:
            self.bid_below[symbol] = max(self.bid_below[symbol], below)
            self.bid_above[symbol] = min(self.bid_above[symbol], above)


class Events(ABC):
    """The rows of one table of a batch."""

    def __init__(self, table: Trades | Quotes | Bars) -> None:
        self.at = table.at
        self.event_ts = table.event_ts
        self.symbol = table.symbol
        self._begin, self._rows = table.at.item(0), len(table.at)
        self._is_alone = table.at.item(-1) - self._begin == self._rows - 1
        """Whether no event of another table is between its own."""

    def rows_between(self, first: int, stop: int) -> tuple[int, int]:
        """Return the row of its first event at position `first` or after it, and of the first at `stop` or after it."""
        if not self._is_alone:
            return int(self.at.searchsorted(first)), int(self.at.searchsorted(stop))
        low, high, rows = first - self._begin, stop - self._begin, self._rows
        return 0 if low < 0 else min(low, rows), 0 if high < 0 else min(high, rows)

    @abstractmethod
    def view(self, row: int, is_buy: bool) -> View:
        """Return the event in `row`, as an order of this side sees it."""

    @property
    @abstractmethod
    def end(self) -> IntArray:
        """Times up to which the events tell their symbol's trades, ns, shape (rows,)."""

    @abstractmethod
    def last(self, is_buy: bool) -> FloatArray:
        """Return the last prices of the events for a side, shape (rows,); NaN or 0 where there is none."""

    @abstractmethod
    def hits(self, first: int, stop: int, levels: Levels) -> NDArray[np.bool_]:
        """Return which of the rows `first` to `stop` - 1 have to be shown to an order."""

    def find_last_of_all(self, first: int, stop: int, symbols: int, *, priced: bool = False) -> IntArray:
        """Return the row of each symbol's last event at positions `first` to `stop` - 1, shape (symbols,).

        -1 where there is none; with `priced` only events count that have a price for both sides.
        """
        low, high = self.rows_between(first, stop)
        rows = np.arange(low, high)
        if priced:
            rows = rows[(self.last(is_buy=False)[low:high] > 0) & (self.last(is_buy=True)[low:high] > 0)]
        found = np.full(symbols, -1)
        found[self.symbol[rows]] = rows
        return found

    def prices(self, rows: IntArray) -> list[Decimal]:
        """Return the price of a unit after each of these events, which have one for both sides, quote currency."""
        return list(map(_middle, self.last(is_buy=False)[rows].tolist(), self.last(is_buy=True)[rows].tolist()))

    def price(self, row: int) -> Decimal | None:
        """Return the same of one event; None where a side has no price."""
        bid, ask = self.last(is_buy=False).item(row), self.last(is_buy=True).item(row)
        return _middle(bid, ask) if bid > 0 and ask > 0 else None

    def find_last(self, symbol: int, first: int, stop: int) -> int:
        """Return the row of the last event of a symbol at positions `first` to `stop` - 1; -1 where there is none.

        Searches backwards in growing strides, as the event is mostly near.
        """
        low, high = self.rows_between(first, stop)
        if high > low and self.symbol.item(high - 1) == symbol:
            return high - 1
        stride = 64
        while high > low:
            begin = max(low, high - stride)
            found = np.flatnonzero(self.symbol[begin:high] == symbol)
            if len(found):
                return begin + int(found[-1])
            high = begin
            stride *= 8
        return -1


class TradeEvents(Events):
    """Trades: one price; the size is the volume."""

    def __init__(self, table: Trades) -> None:
        super().__init__(table)
        self._price = table.price
        self._size = table.size

    def view(self, row: int, is_buy: bool) -> View:  # noqa: ARG002  the same for both sides
        """See `Events.view`."""
        event_ts, price = self.event_ts.item(row), self._price.item(row)
        return View(event_ts, event_ts, price, price, price, price, self._size.item(row))

    @property
    def end(self) -> IntArray:
        """See `Events.end`: the time of the trade."""
        return self.event_ts

    def last(self, is_buy: bool) -> FloatArray:  # noqa: ARG002  the same for both sides
        """See `Events.last`: the price of the trade."""
        return self._price

    def hits(self, first: int, stop: int, levels: Levels) -> NDArray[np.bool_]:
        """See `Events.hits`."""
        return _crossed(self.symbol[first:stop], self._price[first:stop], self._price[first:stop], levels)


class BarEvents(Events):
    """Bars of a tape: known at their end, with a first, a highest and a lowest price."""

    def __init__(self, table: Bars) -> None:
        super().__init__(table)
        self._end = table.end
        self._open = table.open
        self._high = table.high
        self._low = table.low
        self._close = table.close
        self._volume = table.volume

    def view(self, row: int, is_buy: bool) -> View:
        """See `Events.view`."""
        begin, high, low = self.event_ts.item(row), self._high.item(row), self._low.item(row)
        best, worst = (low, high) if is_buy else (high, low)
        first, volume = self._open.item(row), self._volume.item(row)
        last = self._close.item(row)
        return View(begin, self._end.item(row), first, best, worst, last, volume, is_bar=True)

    @property
    def end(self) -> IntArray:
        """See `Events.end`: the end of the bar."""
        return self._end

    def last(self, is_buy: bool) -> FloatArray:  # noqa: ARG002  the same for both sides
        """See `Events.last`: the close of the bar."""
        return self._close

    def hits(self, first: int, stop: int, levels: Levels) -> NDArray[np.bool_]:
        """See `Events.hits`."""
        return _crossed(self.symbol[first:stop], self._low[first:stop], self._high[first:stop], levels)


class QuoteEvents(Events):
    """Quotes: buyers see the ask, sellers the bid, and the size there is the volume."""

    def __init__(self, table: Quotes) -> None:
        super().__init__(table)
        self._bid = table.bid_price
        self._bid_size = table.bid_size
        self._ask = table.ask_price
        self._ask_size = table.ask_size

    def view(self, row: int, is_buy: bool) -> View:
        """See `Events.view`."""
        event_ts = self.event_ts.item(row)
        price = self._ask.item(row) if is_buy else self._bid.item(row)
        size = self._ask_size.item(row) if is_buy else self._bid_size.item(row)
        return View(event_ts, event_ts, price, price, price, price, size, slips=False)

    @property
    def end(self) -> IntArray:
        """See `Events.end`: a quote tells nothing of trades."""
        return np.full(len(self.at), -NEVER)

    def last(self, is_buy: bool) -> FloatArray:
        """See `Events.last`: the touch."""
        return self._ask if is_buy else self._bid

    def touch(self, row: int) -> Touch:
        """Return the prices of the quote in `row`."""
        bid, ask = self._bid.item(row), self._ask.item(row)
        return Touch(self.event_ts.item(row), bid if bid > 0 else None, ask if ask > 0 else None)

    def hits(self, first: int, stop: int, levels: Levels) -> NDArray[np.bool_]:
        """See `Events.hits`."""
        symbol, bid, ask = self.symbol[first:stop], self._bid[first:stop], self._ask[first:stop]
        return (
            (ask <= levels.ask_below[symbol])
            | (ask >= levels.ask_above[symbol])
            | (bid <= levels.bid_below[symbol])
            | (bid >= levels.bid_above[symbol])
        )


def _middle(bid: float, ask: float) -> Decimal:
    return money(bid) if bid == ask else (money(bid) + money(ask)) / 2


def _crossed(symbol: IntArray, low: FloatArray, high: FloatArray, levels: Levels) -> NDArray[np.bool_]:
    below = np.maximum(levels.ask_below, levels.bid_below)
    above = np.minimum(levels.ask_above, levels.bid_above)
    return (low <= below[symbol]) | (high >= above[symbol])
