"""The market's events as an order sees them: each kind of event reads its own table, all answer the same questions.

To an order, every event is an interval that begins and ends, with a first, a highest and a lowest price at which it
could have traded, and a volume. A bar is one; a trade is one of no length at one price; a quote is one at the price
of the side that the order would take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from decimal import Decimal
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from torghut_core import Bars, FloatArray, IntArray, Quotes, Trades, money


class View(NamedTuple):
    """One event, seen by an order of one side.

    `begin` and `end` are its times, ns; `first`, `best` and `worst` prices for the order's side, the best being the one
    that a limit order waits for; `volume` in units. What is taken there slips, except at a quote.
    """

    begin: int
    end: int
    first: float
    best: float
    worst: float
    volume: float
    slips: bool = True
    is_bar: bool = False


class Touch(msgspec.Struct, frozen=True):
    """What a quote offers from its time (ns) on: best bid and ask, None on the side that is missing."""

    event_ts: int
    bid: float | None
    ask: float | None


class Levels:
    """Prices at which the working orders of each symbol want to be shown an event: arrays of shape (symbols,).

    Buyers look at the ask, sellers at the bid; each at prices down to `below` and up from `above`. No order: -inf, inf.
    """

    def __init__(self, symbols: int) -> None:
        self.symbols = symbols
        self.ask_below: FloatArray = np.full(symbols, -np.inf)
        self.ask_above: FloatArray = np.full(symbols, np.inf)
        self.bid_below: FloatArray = np.full(symbols, -np.inf)
        self.bid_above: FloatArray = np.full(symbols, np.inf)

    def clear(self, symbol: int) -> None:
        """Nothing works in this symbol."""
        self.ask_below[symbol] = self.bid_below[symbol] = -np.inf
        self.ask_above[symbol] = self.bid_above[symbol] = np.inf

    def watch(self, symbol: int, is_buy: bool, below: float, above: float) -> None:
        """An order of this side wants to see prices up to `below` and from `above` on."""
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

    @abstractmethod
    def view(self, row: int, is_buy: bool) -> View:
        """The event in `row`, as an order of this side sees it."""

    @abstractmethod
    def price(self, row: int) -> Decimal | None:
        """What a unit is worth after the event in `row`, quote currency; None where the event does not say."""

    @abstractmethod
    def hits(self, first: int, stop: int, levels: Levels) -> NDArray[np.bool_]:
        """Which of the rows `first` to `stop` - 1 some order wants to be shown."""

    def last(self, symbol: int, first: int, stop: int) -> int:
        """Row of the last event of a symbol at positions `first` to `stop` - 1; -1 where there is none.

        Looks back in growing strides, as the event is mostly near.
        """
        low, high = int(self.at.searchsorted(first)), int(self.at.searchsorted(stop))
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
    """Trades: one price, what traded is the volume."""

    def __init__(self, table: Trades) -> None:
        super().__init__(table)
        self._price = table.price
        self._size = table.size

    def view(self, row: int, is_buy: bool) -> View:  # noqa: ARG002  the same for both sides
        """See `Events.view`."""
        event_ts, price = self.event_ts.item(row), self._price.item(row)
        return View(event_ts, event_ts, price, price, price, self._size.item(row))

    def price(self, row: int) -> Decimal | None:
        """The trade's."""
        price = self._price.item(row)
        return money(price) if price > 0 else None

    def hits(self, first: int, stop: int, levels: Levels) -> NDArray[np.bool_]:
        """See `Events.hits`."""
        return _crossed(self.symbol[first:stop], self._price[first:stop], self._price[first:stop], levels)


class BarEvents(Events):
    """Bars of a tape: known at their end, with a first, a highest and a lowest price."""

    def __init__(self, table: Bars) -> None:
        super().__init__(table)
        self._step = table.step
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
        return View(begin, begin + self._step.item(row), first, best, worst, volume, is_bar=True)

    def price(self, row: int) -> Decimal | None:
        """The bar's close."""
        close = self._close.item(row)
        return money(close) if close > 0 else None

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
        return View(event_ts, event_ts, price, price, price, size, slips=False)

    def touch(self, row: int) -> Touch:
        """The quote in `row`, its prices alone."""
        bid, ask = self._bid.item(row), self._ask.item(row)
        return Touch(self.event_ts.item(row), bid if bid > 0 else None, ask if ask > 0 else None)

    def price(self, row: int) -> Decimal | None:
        """Halfway between bid and ask; None where one is missing."""
        bid, ask = self._bid.item(row), self._ask.item(row)
        return (money(bid) + money(ask)) / 2 if bid > 0 and ask > 0 else None

    def hits(self, first: int, stop: int, levels: Levels) -> NDArray[np.bool_]:
        """See `Events.hits`."""
        symbol, bid, ask = self.symbol[first:stop], self._bid[first:stop], self._ask[first:stop]
        return (
            (ask <= levels.ask_below[symbol])
            | (ask >= levels.ask_above[symbol])
            | (bid <= levels.bid_below[symbol])
            | (bid >= levels.bid_above[symbol])
        )


def _crossed(symbol: IntArray, low: FloatArray, high: FloatArray, levels: Levels) -> NDArray[np.bool_]:
    below = np.maximum(levels.ask_below, levels.bid_below)
    above = np.minimum(levels.ask_above, levels.bid_above)
    return (low <= below[symbol]) | (high >= above[symbol])
