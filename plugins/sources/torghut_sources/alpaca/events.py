"""Events in order of arrival: structs that become columns (`Events.batch`) or envelopes (`Events.messages`).

Ids and times keep every digit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any, TypeAlias, TypeVar, cast

import msgspec
import numpy as np
import pyarrow as pa

from torghut_core import (
    DAY,
    MINUTE,
    SECOND,
    BarEnds,
    Bars,
    Batch,
    FloatArray,
    IntArray,
    Message,
    Quotes,
    SymbolTable,
    Trades,
    format_timestamp,
    window_size,
)
from torghut_sources.alpaca.messages import (
    LATEST,
    Bar,
    Cancel,
    Correction,
    DailyBar,
    Event,
    Quote,
    Status,
    Trade,
    UpdatedBar,
)
from torghut_sources.tape.rows import text_hash, trade_keys

K = TypeVar("K")
Head: TypeAlias = tuple[IntArray, IntArray, IntArray, IntArray]
"""Columns of all tables: `at`, `event_ts`, `seq` and `symbol`."""
_PARTS: tuple[type, ...] = (Trade, Quote, Bar, UpdatedBar)
_PART_NUMBERS = {part: number for number, part in enumerate((*_PARTS, DailyBar, Status, Correction, Cancel))}
_NO_TIMES: IntArray = np.empty(0, np.int64)
_JSON = msgspec.json.Encoder()
_ENDS = BarEnds()
_MINUTE_SIZE, _DAY_SIZE = window_size(MINUTE), window_size(DAY)
_exchange_hash = lru_cache(maxsize=256)(text_hash)


class Events:
    """Events of the market in order of arrival, with their times.

    Attributes
    ----------
    items : trades, quotes, bars, statuses, corrections and cancels.
    event_ts : shape (n,), ns; of a bar its start.
    """

    __slots__ = ("_keys", "_numbers", "_parts", "_quote_values", "event_ts", "items")

    def __init__(self, items: list[Event], event_ts: IntArray, keys: IntArray | None = None) -> None:
        self.items = items
        self.event_ts = event_ts
        self._keys = keys
        self._parts: list[tuple[list[Any], IntArray]] | None = None
        self._numbers: tuple[SymbolTable, IntArray] | None = None
        self._quote_values: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.items)

    def take(self, index: Sequence[int] | IntArray) -> Events:
        """Return some of the events, by their places, in that order."""
        places = np.asarray(index, np.int64)
        items = self.items
        keys = None if self._keys is None else self._keys[places]
        return Events([items[place] for place in places.tolist()], self.event_ts[places], keys)

    @classmethod
    def concatenate(cls, parts: Sequence[Events]) -> Events:
        """Return the events of `parts`, one after the other."""
        if len(parts) == 1:
            return parts[0]
        times = [part.event_ts for part in parts]
        return cls([item for part in parts for item in part.items], np.concatenate([_NO_TIMES, *times]))

    def known_ts(self) -> IntArray:
        """Return when each became known by the venue's clock, shape (n,), ns: a bar at its end, all else when it happened."""
        _, _, (bars, in_bars), (updates, in_updates) = self.parts
        if not (bars or updates):
            return self.event_ts
        known = self.event_ts.copy()
        known[in_bars] += MINUTE
        known[in_updates] += MINUTE
        return known

    def trade_keys(self) -> IntArray:
        """Return the identity of each trade (see `rows.trade_keys`), shape (n,); 0 for other events and without an id."""
        if self._keys is None:
            trades, places = self.parts[0]
            if len(trades) == len(self.items):
                self._keys = _keys(trades)
            else:
                self._keys = np.zeros(len(self.items), np.int64)
                self._keys[places] = _keys(trades)
        return self._keys

    @property
    def parts(self) -> list[tuple[list[Any], IntArray]]:
        """The trades, the quotes, the final bars and the updated bars, each with their places."""
        if self._parts is None:
            self._parts = _split(self.items)
        return self._parts

    def numbers(self, symbols: SymbolTable) -> IntArray:
        """Return the number of each event's symbol, shape (n,)."""
        if self._numbers is None or self._numbers[0] is not symbols:
            self._numbers = symbols, symbols.numbers([event.symbol for event in self.items])
        return self._numbers[1]

    def quote_values(self) -> FloatArray:
        """Return bid price and size, ask price and size of the quotes, shape (4, m), NaN where there is none."""
        if self._quote_values is None:
            quotes = self.parts[1][0]
            values = np.empty((4, len(quotes)))
            values[0] = _floats([quote.bid_price for quote in quotes])
            values[1] = _floats([quote.bid_size for quote in quotes])
            values[2] = _floats([quote.ask_price for quote in quotes])
            values[3] = _floats([quote.ask_size for quote in quotes])
            self._quote_values = values
        return self._quote_values

    def each_minute_once(self, latest: Mapping[str, int]) -> Events:
        """Return the events, in which a bar that is not newer than the last one of its symbol is an update, and so no row.

        Parameters
        ----------
        latest : start of the last bar before these, ns, by symbol.
        """
        bars, places = self.parts[2]
        if not bars:
            return self
        starts, items = dict(latest), list(self.items)
        for bar, place, start in zip(bars, places.tolist(), self.event_ts[places].tolist(), strict=True):
            if start > starts.get(bar.symbol, -LATEST):
                starts[bar.symbol] = start
            else:
                items[place] = UpdatedBar(**msgspec.structs.asdict(bar))
        return Events(items, self.event_ts, self._keys)

    def batch(self, symbols: SymbolTable, start: int, seq: int, now: int) -> Batch:
        """Return the trades, quotes and final bars as columns; other events, updated bars too, have none.

        Parameters
        ----------
        start : position of the first row.
        seq : number of the first event: every event counts, those without columns too, as in `messages`.
        now : the largest time that was known before, ns.
        """
        (trades, in_trades), (quotes, in_quotes), (bars, in_bars), _ = self.parts
        known = self.event_ts
        at = np.arange(start, start + len(known))
        if len(in_trades) + len(in_quotes) < len(known):
            is_row = np.zeros(len(known), np.bool_)
            is_row[in_trades] = is_row[in_quotes] = is_row[in_bars] = True
            known = known.copy()
            known[in_bars] += MINUTE
            known, at = known[is_row], start - 1 + np.cumsum(is_row)
        numbers = self.numbers(symbols)
        heads = [
            (at[places], self.event_ts[places], seq + places, numbers[places])
            for places in (in_trades, in_quotes, in_bars)
        ]
        return Batch.of(
            symbols,
            start,
            np.maximum(np.maximum.accumulate(known), now),
            _trades(trades, heads[0], symbols, self.trade_keys()[in_trades]) if trades else None,
            _quotes(self.quote_values(), heads[1]) if quotes else None,
            _bars(bars, heads[2], symbols) if bars else None,
        )

    def messages(self, *, feed: str, source: str, seq: int, ingest_ts: int) -> list[Message]:
        """Return the events as envelopes, numbered from `seq`; `ingest_ts` is when they were received, ns."""
        ingest = _text_of(ingest_ts)
        return [
            _message(event, ts, number, feed, source, ingest)
            for number, (event, ts) in enumerate(zip(self.items, self.event_ts.tolist(), strict=True), seq)
        ]


class _Found(dict[K, int]):
    """A cache of numbers, each looked up once."""

    def __init__(self, look_up: Callable[[K], int]) -> None:
        self._look_up = look_up

    def __missing__(self, key: K) -> int:
        number = self[key] = self._look_up(key)
        return number


def _split(items: list[Event]) -> list[tuple[list[Any], IntArray]]:
    types = list(map(type, items))
    kinds = set(types)
    if len(kinds) == 1:
        return [(items, np.arange(len(items))) if part in kinds else ([], _NO_TIMES) for part in _PARTS]
    numbers = np.frombuffer(bytes([_PART_NUMBERS[kind] for kind in types]), np.uint8)
    parts: list[tuple[list[Any], IntArray]] = []
    for number, part in enumerate(_PARTS):
        chosen = numbers == number
        parts.append(
            (list(compress(items, chosen.tobytes())), np.flatnonzero(chosen)) if part in kinds else ([], _NO_TIMES)
        )
    return parts


def _trades(trades: list[Trade[Any]], head: Head, symbols: SymbolTable, keys: IntArray) -> Trades:
    table = Trades.empty(len(trades))
    table.at[:], table.event_ts[:], table.seq[:], table.symbol[:] = head
    numbers = _Found[tuple[str, ...] | None](lambda each: symbols.condition(",".join(each) if each else ""))
    table.conditions[:] = [numbers[trade.conditions] for trade in trades]
    table.trade_key[:] = keys
    table.price[:] = _floats([trade.price for trade in trades])
    table.size[:] = _floats([trade.size for trade in trades])
    return table


def _quotes(values: FloatArray, head: Head) -> Quotes:
    table = Quotes.empty(values.shape[1])
    table.at[:], table.event_ts[:], table.seq[:], table.symbol[:] = head
    table.bid_price[:], table.bid_size[:], table.ask_price[:], table.ask_size[:] = values
    return table


def _bars(bars: list[Bar[Any]], head: Head, symbols: SymbolTable) -> Bars:
    table = Bars.empty(len(bars))
    table.at[:], table.event_ts[:], table.seq[:], table.symbol[:] = head
    table.step[:] = MINUTE
    table.end[:] = table.event_ts + MINUTE
    table.series[:] = [symbols.series(number, MINUTE, of_venue=True) for number in table.symbol.tolist()]
    table.count[:] = [bar.count or 0 for bar in bars]
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        getattr(table, name)[:] = [getattr(bar, name) for bar in bars]
    return table


def _floats(values: list[float | None]) -> FloatArray:
    """Return a column, NaN where a value is missing; numpy's own conversion takes three times as long."""
    try:
        return np.frombuffer(struct.pack(f"{len(values)}d", *values))
    except struct.error:
        return np.array(values, np.float64)


def _keys(trades: list[Trade[Any]]) -> IntArray:
    ids = [trade.trade_id for trade in trades]
    try:
        column = pa.array(ids, pa.int64())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        column = pa.array([None if id_ is None else str(id_) for id_ in ids], pa.string())
    exchanges = [trade.exchange for trade in trades]
    hashes = {exchange: _exchange_hash(exchange) for exchange in set(exchanges)}
    return trade_keys(column, np.array([hashes[exchange] for exchange in exchanges], np.uint64))


def _message(event: Any, ts: int, seq: int, feed: str, source: str, ingest: str) -> Message:
    kind = type(event)
    time = _text_of(ts)
    payload: Any
    envelope = {
        "ingest_ts": ingest,
        "event_ts": time,
        "feed": feed,
        "channel": "status",
        "symbol": event.symbol,
        "seq": seq,
        "is_final": kind is not DailyBar,
        "source": source,
    }
    if kind is Trade:
        envelope["channel"] = "trades"
        payload = {"i": event.trade_id, "p": event.price, "s": event.size, "t": time}
        if event.trade_id is None:
            del payload["i"]
        if event.exchange is not None:
            payload["x"] = event.exchange
        if event.conditions is not None:
            payload["c"] = event.conditions
    elif kind is Quote:
        envelope["channel"] = "quotes"
        payload = {
            "bp": event.bid_price,
            "bs": event.bid_size,
            "ap": event.ask_price,
            "as": event.ask_size,
            "t": time,
        }
    elif isinstance(event, Bar):
        envelope["channel"] = "bars"
        step, size = (DAY, _DAY_SIZE) if kind is DailyBar else (MINUTE, _MINUTE_SIZE)
        envelope["window"] = {
            "size": size,
            "step": size,
            "start": time,
            "end": _text_of(_ENDS.end(event.symbol, ts, step)),
        }
        payload = {"o": event.open, "h": event.high, "l": event.low, "c": event.close, "v": event.volume, "t": time}
        if event.vwap is not None:
            payload["vw"] = event.vwap
        if event.count is not None:
            payload["n"] = event.count
    else:
        payload = msgspec.structs.replace(event, time=time)
    envelope["payload"] = payload
    envelope["version"] = 1
    return Message(cast("str", envelope["channel"]), event.symbol, _JSON.encode(envelope))


@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    return format_timestamp(second * SECOND)[:-1]


def _text_of(ns: int) -> str:
    """Format as RFC 3339 with nine fraction digits; most times share their second with the one before."""
    second, fraction = divmod(ns, SECOND)
    return f"{_second(second)}.{fraction:09d}Z"
