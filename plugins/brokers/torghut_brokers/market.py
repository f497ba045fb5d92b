"""The market of the simulated venue: the events of the current batch, and what still counts of those before it.

No work is done per event: last prices and quotes are looked up backwards from the last event shown, when they are needed,
and at the latest when the next batch comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

import numpy as np

from torghut_brokers.events import NEVER, BarEvents, Events, Levels, QuoteEvents, Touch, TradeEvents
from torghut_core import Batch, CorporateAction, IntArray
from torghut_core.stages import kernel

FEW_SYMBOLS = 4
"""Of so few symbols the newest price is searched for one by one."""

FEW_EVENTS = 16
"""So many events are read one by one: that costs less than to look at them as arrays."""


@kernel
def _tell(symbol: IntArray, end: IntArray, told: IntArray, before: IntArray) -> None:
    """Fill `before`: up to which time the events before each row have told the symbol's trades, ns, shape (rows,)."""
    for row in range(len(symbol)):
        before[row] = told[symbol[row]]
        told[symbol[row]] = max(told[symbol[row]], end[row])


class Market:
    """The events shown so far.

    Attributes
    ----------
    clock : the loop's time at the last event shown, ns; 0 before the first.
    stop : position after the last event shown.
    prices : last price of each symbol that is followed, as of the last `follow` or `refresh`: trade, bar close, or the
        middle of bid and ask.
    moved : symbols whose price has changed since whoever values positions has cleared this, each with None.
    lasts : last price of each symbol as of the last `close`, for a seller and for a buyer: trade, bar close, bid or ask;
        None where there is none.
    """

    def __init__(
        self,
        clock: int = 0,
        prices: Mapping[str, Decimal] = {},
        touches: Mapping[str, Touch] = {},
        lasts: Mapping[str, list[float | None]] = {},
    ) -> None:
        self.clock = clock
        self.stop = 0
        self.prices = dict(prices)
        self.moved: dict[str, None] = dict.fromkeys(prices)
        self._touches = dict(touches)
        self.lasts = dict(lasts)
        self._batch: Batch | None = None
        self._events: list[Events] = []
        self._quotes: QuoteEvents | None = None
        self._first = self._refreshed = 0
        self._told: dict[Events, IntArray] = {}
        """By table, what `told` returns for each row; empty until it is needed."""

    def holds(self, batch: Batch) -> bool:
        """Return whether this is the current batch."""
        return batch is self._batch

    def open(self, batch: Batch, first: int) -> None:
        """Start the next batch, of which the event at position `first` is the next."""
        self._batch = batch
        self._first = self._refreshed = self.stop = first
        self._told = {}
        quotes, trades = batch.counting_quotes, batch.counting_trades
        self._quotes = QuoteEvents(quotes) if len(quotes) else None
        self._events = [] if self._quotes is None else [self._quotes]
        if len(trades):
            self._events.append(TradeEvents(trades))
        if len(batch.bars):
            self._events.append(BarEvents(batch.bars))

    def close(self) -> None:
        """Keep what still counts of the batch: each symbol's last prices and quote."""
        self.refresh(self.stop)
        batch, quotes = self._batch, self._quotes
        if batch is None or self.stop == self._first:
            return
        self._keep_lasts(batch)
        if quotes is None:
            return
        low, high = quotes.rows_between(self._first, self.stop)
        last_row = np.full(len(batch.symbols), -1)
        last_row[quotes.symbol[low:high]] = np.arange(low, high)
        for number in np.flatnonzero(last_row >= 0).tolist():
            self._touches[batch.symbols.names[number]] = quotes.touch(last_row.item(number))

    def _keep_lasts(self, batch: Batch) -> None:
        price, at = np.full((2, len(batch.symbols)), np.nan), np.full((2, len(batch.symbols)), -1)
        for events in self._events:
            low, high = events.rows_between(self._first, self.stop)
            for is_buy in (False, True):
                prices = events.last(is_buy)
                rows = low + np.flatnonzero(prices[low:high] > 0)
                latest = np.full(len(batch.symbols), -1)
                latest[events.symbol[rows]] = rows
                found = np.flatnonzero(latest >= 0)
                later = found[events.at[latest[found]] > at[int(is_buy), found]]
                price[int(is_buy), later], at[int(is_buy), later] = prices[latest[later]], events.at[latest[later]]
        for number in np.flatnonzero(at.max(0) >= 0).tolist():
            name = batch.symbols.names[number]
            bid, ask = self.lasts.get(name, [None, None])
            new_bid, new_ask = price[:, number].tolist()
            self.lasts[name] = [new_bid if new_bid > 0 else bid, new_ask if new_ask > 0 else ask]

    def split(self, symbol: str, action: CorporateAction) -> None:
        """Give a symbol's prices of before a split as they compare with those after it; after a `close`."""
        self._touches.pop(symbol, None)  # it is old
        self.lasts[symbol] = [price and price * action.factor for price in self.lasts.get(symbol, [None, None])]
        if symbol in self.prices:
            self._set(symbol, action.price(self.prices[symbol]))

    def touches(self, oldest: int) -> dict[str, Touch]:
        """Return each symbol's last quote as of the last `close`, if not before `oldest`."""
        return {symbol: touch for symbol, touch in self._touches.items() if touch.event_ts >= oldest}

    def rows(self, first: int, stop: int) -> list[tuple[int, Events, int]]:
        """Return (position, table, row) of the events at positions `first` to `stop` - 1, in order."""
        found: list[tuple[int, Events, int]] = []
        for events in self._events:
            low, high = events.rows_between(first, stop)
            found += [(events.at.item(row), events, row) for row in range(low, high)]
        if len(self._events) > 1:
            found.sort(key=lambda each: each[0])
        return found

    def next_at(self, first: int, stop: int, levels: Levels) -> int:
        """Return the position of the first event at `levels` from `first` on, `stop` where there is none before it."""
        for events in self._events:
            low, high = events.rows_between(first, stop)
            hits = events.hits(low, high, levels)
            if len(hits) and hits[row := int(hits.argmax())]:
                stop = events.at.item(low + row)
        return stop

    def told(self, events: Events, row: int) -> int:
        """Return up to which time the batch's events before this one have told the trades of its symbol, ns."""
        if not self._told:
            self._tell()
        return self._told[events].item(row)

    def told_to(self, symbols: Iterable[str]) -> Iterator[tuple[str, int]]:
        """Yield each of some symbols with the time up to which the batch's events before `stop` have told its trades, ns."""
        batch = self._batch
        if batch is None or not self._events:
            return
        if not self._told:
            self._tell()
        told = np.full(len(batch.symbols), -NEVER)
        for events, before in self._told.items():
            rows = events.find_last_of_all(self._first, self.stop, len(told))
            found = np.flatnonzero(rows >= 0)
            rows = rows[found]
            told[found] = np.maximum(told[found], np.maximum(before[rows], events.end[rows]))
        for symbol in symbols:
            number = batch.symbols.find(symbol)
            if number is not None:
                yield symbol, told.item(number)

    def _tell(self) -> None:
        assert self._batch is not None
        tables = [(events, int(events.at.searchsorted(self._first))) for events in self._events]
        at = np.concatenate([events.at[low:] for events, low in tables])
        order = at.argsort(kind="stable") if len(tables) > 1 else np.arange(len(at))
        symbol = np.concatenate([events.symbol[low:] for events, low in tables])[order]
        end = np.concatenate([events.end[low:] for events, low in tables])[order]
        before = np.empty(len(at), np.int64)
        in_order = np.empty(len(at), np.int64)
        _tell(symbol, end, np.full(len(self._batch.symbols), -NEVER), in_order)
        before[order] = in_order
        first = 0
        for events, low in tables:
            stop = first + len(events.at) - low
            self._told[events] = np.concatenate([np.full(low, -NEVER), before[first:stop]])
            first = stop

    def last_price(self, symbol: str, is_buy: bool, at: int) -> float | None:
        """Return the symbol's last price for a side before position `at`: trade, bar close or touch; None where there is none."""
        found = self.lasts.get(symbol, [None, None])[is_buy]
        number = None if self._batch is None else self._batch.symbols.find(symbol)
        if number is None:
            return found
        first = self._first
        for events in self._events:
            row = events.find_last(number, first, at)
            while row >= 0:
                price, position = events.last(is_buy).item(row), events.at.item(row)
                if price > 0:
                    found, first = price, position
                    break
                row = events.find_last(number, first, position)
        return found

    def touch(self, symbol: str, at: int) -> Touch | None:
        """Return the symbol's last quote before position `at`, None where there is none."""
        if self._quotes is not None and self._batch is not None:
            number = self._batch.symbols.find(symbol)
            row = -1 if number is None else self._quotes.find_last(number, self._first, at)
            if row >= 0:
                return self._quotes.touch(row)
        return self._touches.get(symbol)

    def follow(self, symbol: str, price: Decimal, at: int) -> None:
        """Follow the price of a symbol from position `at` on; `price` is its first."""
        self.refresh(at)
        self._set(symbol, price)

    def leave(self, symbol: str) -> None:
        """Stop following the price of a symbol."""
        del self.prices[symbol]
        self.moved.pop(symbol, None)

    def _set(self, symbol: str, price: Decimal) -> None:
        self.prices[symbol] = price
        self.moved[symbol] = None

    def refresh(self, stop: int) -> None:
        """Bring `prices` up to position `stop`."""
        first, self._refreshed = self._refreshed, stop
        prices = self.prices
        if self._batch is None or stop <= first or not prices:
            return
        table = self._batch.symbols
        names = table.names
        if stop - first <= FEW_EVENTS:
            for _, events, row in self.rows(first, stop):
                symbol = names[events.symbol.item(row)]
                if symbol in prices and (price := events.price(row)) is not None:
                    self._set(symbol, price)
            return
        if len(prices) <= FEW_SYMBOLS:
            for symbol in prices:
                number = table.find(symbol)
                if number is not None and (price := self._newest(number, first, stop)) is not None:
                    self._set(symbol, price)
            return
        newest = np.full(len(table), -1)
        for events in self._events:
            rows = events.find_last_of_all(first, stop, len(table), priced=True)
            at = np.where(rows >= 0, events.at[rows], -1)
            later = np.array(
                [number for number in np.flatnonzero(at > newest).tolist() if names[number] in prices], int
            )
            newest[later] = at[later]
            for number, price in zip(later.tolist(), events.prices(rows[later]), strict=True):
                self._set(names[number], price)

    def _newest(self, number: int, first: int, stop: int) -> Decimal | None:
        """The price of a symbol's last event that has one, at positions `first` to `stop` - 1."""
        found = None
        for events in self._events:
            row = events.find_last(number, first, stop)
            while row >= 0:
                price, at = events.price(row), events.at.item(row)
                if price is not None:
                    found, first = price, at
                    break
                row = events.find_last(number, first, at)
        return found
