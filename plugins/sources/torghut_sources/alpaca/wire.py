"""Alpaca's market data messages and torghut's words: pure translation, both ways, no IO.

A frame is an array of messages, in JSON or MessagePack. Frames are decoded many at a time into one list of structs in
order of arrival (`Events`), and that list becomes columns (`Events.batch`) or envelopes (`Events.messages`): whatever is
said of a message is said once, before that. Ids and times keep every digit: times become `int` nanoseconds, in bulk.

A message that cannot be used (a price that is null, a time without a zone, a symbol that is none) is a `Complaint`, one of
a type that is not known is counted, and in both cases the others of its frame are kept: a frame is decoded at once, and
message by message only where that fails.

The road not taken: a compiled kernel over the raw bytes. Decoding is half of the whole way to a column here, and a second
parser of JSON would have to be right where the first is only fast.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar, cast

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta, Raw, field

from torghut_core import (
    SYMBOL_PATTERN,
    Bars,
    Batch,
    FloatArray,
    IntArray,
    Message,
    Quotes,
    SymbolTable,
    Trades,
    format_timestamp,
    parse_timestamp,
    window_size,
)
from torghut_sources.tape.rows import text_hash, trade_keys

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
LATEST = 2**63 - 1
LARGEST = 1.7976931348623157e308
"""Of a float64: MessagePack can say infinity."""
LONGEST = 200
"""Characters of a message that a complaint shows."""
UNKNOWN_TYPES = 32
"""Unknown types that are counted by name; more are counted together."""

Positive: TypeAlias = Annotated[float, Meta(gt=0, le=LARGEST)]
NotNegative: TypeAlias = Annotated[float, Meta(ge=0, le=LARGEST)]
T = TypeVar("T")
K = TypeVar("K")
Time = TypeVar("Time")
"""How the encoding says when: text in JSON; in MessagePack bytes of a timestamp or of text, as msgspec's own reading of
them ends at microseconds."""
Encoding: TypeAlias = Literal["json", "msgpack"]


class _Event(msgspec.Struct, Generic[Time], kw_only=True, gc=False, tag_field="T"):
    """What all events have; history does not repeat the symbol in each."""

    symbol: str = field(name="S", default="")
    time: Time = field(name="t")


class Trade(_Event[Time], Generic[Time], kw_only=True, gc=False, tag="t"):
    """A print."""

    price: Positive = field(name="p")
    size: Positive = field(name="s")
    trade_id: int | str | None = field(name="i", default=None)
    exchange: str | None = field(name="x", default=None)
    conditions: tuple[str, ...] | None = field(name="c", default=None)


class Quote(_Event[Time], Generic[Time], kw_only=True, gc=False, tag="q"):
    """Best bid and offer; None on a side that is missing, which the venue may print as 0 for 0."""

    bid_price: NotNegative | None = field(name="bp", default=None)
    bid_size: NotNegative | None = field(name="bs", default=None)
    ask_price: NotNegative | None = field(name="ap", default=None)
    ask_size: NotNegative | None = field(name="as", default=None)

    def __post_init__(self) -> None:
        if not self.bid_price:
            if self.bid_price == 0 and self.bid_size:
                raise ValueError("a bid of 0 with a size")
            self.bid_price = self.bid_size = None
        if not self.ask_price:
            if self.ask_price == 0 and self.ask_size:
                raise ValueError("an ask of 0 with a size")
            self.ask_price = self.ask_size = None


class Bar(_Event[Time], Generic[Time], kw_only=True, gc=False, tag="b"):
    """A minute, once it is over; `vwap` is None where nothing was traded."""

    open: Positive = field(name="o")
    high: Positive = field(name="h")
    low: Positive = field(name="l")
    close: Positive = field(name="c")
    volume: NotNegative = field(name="v")
    vwap: NotNegative | None = field(name="vw", default=None)
    count: Annotated[int, Meta(ge=0, lt=2**53)] | None = field(name="n", default=None)

    def __post_init__(self) -> None:
        if not self.low <= min(self.open, self.close) <= max(self.open, self.close) <= self.high:
            raise ValueError("open and close must be between low and high")
        if self.vwap == 0:
            if self.volume:
                raise ValueError("a vwap of 0 with a volume")
            self.vwap = None


class UpdatedBar(Bar[Time], Generic[Time], kw_only=True, gc=False, tag="u"):
    """A minute again, half a minute later, with trades that came late: no row of a batch, where it would count twice."""


class DailyBar(Bar[Time], Generic[Time], kw_only=True, gc=False, tag="d"):
    """The day so far: it is not over, so it is no row of a batch."""


class Status(_Event[Time], Generic[Time], kw_only=True, gc=False, tag="s"):
    """A halt or resumption of trading."""

    status_code: str = field(name="sc")
    status_message: str = field(name="sm", default="")
    reason_code: str = field(name="rc", default="")
    reason_message: str = field(name="rm", default="")
    tape: str = field(name="z", default="")


class Correction(_Event[Time], Generic[Time], kw_only=True, gc=False, tag="c"):
    """A trade was not as it was printed."""

    exchange: str = field(name="x", default="")
    original_id: int | str = field(name="oi")
    original_price: float = field(name="op")
    original_size: float = field(name="os")
    original_conditions: tuple[str, ...] | None = field(name="oc", default=None)
    corrected_id: int | str = field(name="ci")
    corrected_price: float = field(name="cp")
    corrected_size: float = field(name="cs")
    corrected_conditions: tuple[str, ...] | None = field(name="cc", default=None)
    tape: str = field(name="z", default="")


class Cancel(_Event[Time], Generic[Time], kw_only=True, gc=False, tag="x"):
    """A trade was none; `action` is C for a cancel, E for an error."""

    trade_id: int | str = field(name="i")
    exchange: str = field(name="x", default="")
    price: float = field(name="p")
    size: float = field(name="s")
    action: str = field(name="a", default="")
    tape: str = field(name="z", default="")


class Success(msgspec.Struct, tag_field="T", tag="success"):
    """``connected`` or ``authenticated``."""

    text: str = field(name="msg")


class StreamError(msgspec.Struct, tag_field="T", tag="error"):
    """What the venue refuses; see `refusals`."""

    code: int
    text: str = field(name="msg", default="")


class Subscription(msgspec.Struct, tag_field="T", tag="subscription"):
    """All that is subscribed now, whatever was asked for last; a list that is missing is empty."""

    trades: tuple[str, ...] = ()
    quotes: tuple[str, ...] = ()
    bars: tuple[str, ...] = ()
    updated_bars: tuple[str, ...] = field(name="updatedBars", default=())
    daily_bars: tuple[str, ...] = field(name="dailyBars", default=())
    statuses: tuple[str, ...] = ()

    def of(self, channel: str) -> tuple[str, ...]:
        """The symbols of a channel, by its name in a request (``updatedBars``)."""
        names = {"updatedBars": "updated_bars", "dailyBars": "daily_bars"}
        symbols: tuple[str, ...] = getattr(self, names.get(channel, channel))
        return symbols


Event: TypeAlias = Trade[Any] | Quote[Any] | Bar[Any] | Status[Any] | Correction[Any] | Cancel[Any]
Control: TypeAlias = Success | StreamError | Subscription
AnyMessage: TypeAlias = (
    Trade[Time]
    | Quote[Time]
    | Bar[Time]
    | UpdatedBar[Time]
    | DailyBar[Time]
    | Status[Time]
    | Correction[Time]
    | Cancel[Time]
    | Control
)

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises, of nonsense too."""
TAGS = frozenset({"t", "q", "b", "u", "d", "s", "c", "x", "success", "error", "subscription"})


class Complaint(msgspec.Struct, frozen=True):
    """A message that was left out: why, in one of few words (``frame``, ``message``, ``time``, ``symbol``), and in full."""

    reason: str
    text: str


class Events:
    """What happened in the market, in order of arrival, and when.

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
        """Some of the events, by their places, in that order."""
        places = np.asarray(index, np.int64)
        items = self.items
        keys = None if self._keys is None else self._keys[places]
        return Events([items[place] for place in places.tolist()], self.event_ts[places], keys)

    @classmethod
    def concatenate(cls, parts: Sequence[Events]) -> Events:
        """The events of `parts`, one after the other."""
        if len(parts) == 1:
            return parts[0]
        times = [part.event_ts for part in parts]
        return cls([item for part in parts for item in part.items], np.concatenate([_NO_TIMES, *times]))

    def known_ts(self) -> IntArray:
        """When each became known by the venue's clock, shape (n,), ns: a minute's bar at its end, all else when it happened."""
        _, _, (bars, in_bars), (updates, in_updates) = self.parts
        if not (bars or updates):
            return self.event_ts
        known = self.event_ts.copy()
        known[in_bars] += MINUTE
        known[in_updates] += MINUTE
        return known

    def trade_keys(self) -> IntArray:
        """Identity of each trade (see `rows.trade_keys`), shape (n,); 0 of what is no trade or has no id."""
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
        """Number of each event's symbol, shape (n,)."""
        if self._numbers is None or self._numbers[0] is not symbols:
            self._numbers = symbols, symbols.numbers([event.symbol for event in self.items])
        return self._numbers[1]

    def quote_values(self) -> FloatArray:
        """Bid price and size, ask price and size of the quotes, shape (4, m), NaN where there is none."""
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
        """The events, where a bar that is not newer than the last one of its symbol is an update, and so no row.

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
        """The trades, quotes and final bars as columns; nothing else has any, updated bars neither.

        Parameters
        ----------
        start : position of the first row.
        seq : of the first event: every event counts, those without columns too, as in `messages`.
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
        """The events as envelopes, numbered from `seq`; `ingest_ts` is when they were received, ns."""
        ingest = _text_of(ingest_ts)
        return [
            _message(event, ts, number, feed, source, ingest)
            for number, (event, ts) in enumerate(zip(self.items, self.event_ts.tolist(), strict=True), seq)
        ]


class Received(msgspec.Struct):
    """What some frames held: events, the connection's own messages, and what could not be used."""

    events: Events
    control: list[Control]
    complaints: list[Complaint]


class Wire:
    """One encoding of the stream.

    Attributes
    ----------
    unknown : messages of types that are not known here, by type.
    """

    def __init__(self, encoding: Encoding = "json") -> None:
        self.encoding = encoding
        self.unknown: Counter[str] = Counter()
        self._codec: Any = msgspec.json if encoding == "json" else msgspec.msgpack
        message = _JSON_MESSAGE if encoding == "json" else _MSGPACK_MESSAGE
        self._times = _times_of_text if encoding == "json" else _times_of_bytes
        self._frame = self._codec.Decoder(list[message])  # type: ignore[valid-type]  # chosen at run time
        self._message = self._codec.Decoder(message)
        self._raws = self._codec.Decoder(list[Raw])
        self._tag = self._codec.Decoder(_Tag)
        self._symbols: set[str] = set()

    def read(self, frames: Iterable[bytes]) -> Received:
        """What is in some frames, in order."""
        messages: list[Any] = []
        complaints: list[Complaint] = []
        decode = self._frame.decode
        for frame in frames:
            try:
                messages += decode(frame)
            except UNREADABLE:
                messages += self._salvage(frame, complaints)
        control: list[Control] = []
        if not _CONTROL.isdisjoint(map(type, messages)):
            control = [message for message in messages if type(message) in _CONTROL]
            messages = [message for message in messages if type(message) not in _CONTROL]
        return Received(self.timed(messages, complaints), control, complaints)

    def timed(self, events: list[Any], complaints: list[Complaint]) -> Events:
        """Events with their times, less those (told in `complaints`) with a symbol or time that is none."""
        if not self._symbols.issuperset([event.symbol for event in events]):
            kept = [event for event in events if self._is_symbol(event.symbol)]
            if len(kept) < len(events):
                bad = (event for event in events if not self._is_symbol(event.symbol))
                complaints += [Complaint("symbol", f"{event.symbol!r} is no symbol: {_show(event)}") for event in bad]
                events = kept
        event_ts, wrong = self._times([event.time for event in events])
        if wrong:
            complaints += [Complaint("time", f"{why}: {_show(events[place])}") for place, why in wrong.items()]
            events = [event for place, event in enumerate(events) if place not in wrong]
            event_ts = np.delete(event_ts, list(wrong))
        return Events(events, event_ts)

    def auth(self, key: str, secret: str) -> bytes:
        """The request that authenticates. It holds the keys: never show it."""
        return self._encode({"action": "auth", "key": key, "secret": secret})

    def subscribe(self, symbols: Sequence[str], channels: Sequence[str], size: int) -> list[bytes]:
        """Requests that add `symbols` to all `channels`, at most `size` symbols in each."""
        return self._requests("subscribe", symbols, channels, size)

    def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str], size: int) -> list[bytes]:
        """Requests that take `symbols` from all `channels`, at most `size` symbols in each."""
        return self._requests("unsubscribe", symbols, channels, size)

    def _requests(self, action: str, symbols: Sequence[str], channels: Sequence[str], size: int) -> list[bytes]:
        parts = [list(symbols[first : first + size]) for first in range(0, len(symbols), size)]
        return [self._encode({"action": action} | dict.fromkeys(channels, part)) for part in parts]

    def _encode(self, request: dict[str, Any]) -> bytes:
        encoded: bytes = self._codec.encode(request)
        return encoded

    def _salvage(self, frame: bytes, complaints: list[Complaint]) -> Iterator[Any]:
        """The messages of a frame of which not all can be used, one by one."""
        try:
            raws = self._raws.decode(frame)
        except UNREADABLE as error:
            complaints.append(Complaint("frame", f"{error}: {_excerpt(frame)}"))
            return
        for raw in raws:
            try:
                yield self._message.decode(raw)
            except UNREADABLE as error:
                tag = self._tag_of(raw)
                if tag is None or tag in TAGS:
                    complaints.append(Complaint("message", f"{error}: {_excerpt(bytes(raw))}"))
                else:
                    self.unknown[tag if tag in self.unknown or len(self.unknown) < UNKNOWN_TYPES else "other"] += 1

    def _tag_of(self, raw: Raw) -> str | None:
        try:
            tag: str = self._tag.decode(raw).T[:LONGEST]
        except UNREADABLE:
            return None
        return tag

    def _is_symbol(self, symbol: str) -> bool:
        if symbol not in self._symbols:
            if not SYMBOL_PATTERN.fullmatch(symbol):
                return False
            self._symbols.add(symbol)
        return True


class _Tag(msgspec.Struct):
    T: str


_CONTROL = frozenset((Success, StreamError, Subscription))
_JSON_MESSAGE: Any = AnyMessage[str]  # type: ignore[misc]  # a union's alias as a value
_MSGPACK_MESSAGE: Any = AnyMessage[Raw]  # type: ignore[misc]  # as above
_NO_TIMES: IntArray = np.empty(0, np.int64)
_TIMESTAMP = pa.timestamp("ns", "UTC")
_JSON = msgspec.json.Encoder()
_MINUTE_SIZE, _DAY_SIZE = window_size(MINUTE), window_size(DAY)


Head: TypeAlias = tuple[IntArray, IntArray, IntArray, IntArray]
"""What all tables have: `at`, `event_ts`, `seq` and `symbol`."""
_PARTS: tuple[type, ...] = (Trade, Quote, Bar, UpdatedBar)
_PART_NUMBERS = {part: number for number, part in enumerate((*_PARTS, DailyBar, Status, Correction, Cancel))}


_exchange_hash = lru_cache(maxsize=256)(text_hash)


class _Found(dict[K, int]):
    """Numbers, each looked up once."""

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
    table.series[:] = [symbols.series(number, MINUTE) for number in table.symbol.tolist()]
    table.count[:] = [bar.count or 0 for bar in bars]
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        getattr(table, name)[:] = [getattr(bar, name) for bar in bars]
    return table


def _floats(values: list[float | None]) -> FloatArray:
    """A column, NaN where there is none; numpy's own conversion looks at each value, which takes three times as long."""
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


def _times_of_text(texts: list[str]) -> tuple[IntArray, dict[int, str]]:
    """Nanoseconds of RFC 3339 text, and by place why some are none."""
    try:
        column = pa.array(texts, pa.string()).cast(_TIMESTAMP)
    except pa.ArrowInvalid:
        return _one_by_one(texts, _time_of_text)
    times: IntArray = np.asarray(np.from_dlpack(column.view(pa.int64())), np.int64)
    return times, {}


def _times_of_bytes(raws: list[Raw]) -> tuple[IntArray, dict[int, str]]:
    """The same of MessagePack: extension -1 of 4, 8 or 12 bytes, or text."""
    data = b"".join(raws)
    if len(data) == 10 * len(raws) and set(map(len, raws)) == {10}:
        stamps = np.frombuffer(data, np.dtype([("head", ">u2"), ("word", ">u8")]))
        words = stamps["word"].astype(np.uint64)
        ns, seconds = (words >> np.uint64(34)).astype(np.int64), (words & np.uint64(2**34 - 1)).astype(np.int64)
        if (stamps["head"] == 0xD7FF).all() and ns.max() < SECOND and seconds.max() < LATEST // SECOND:
            return seconds * SECOND + ns, {}
    return _one_by_one(raws, _time_of_bytes)


def _one_by_one(values: Sequence[T], parse: Callable[[T], int]) -> tuple[IntArray, dict[int, str]]:
    times, wrong = np.zeros(len(values), np.int64), {}
    for place, value in enumerate(values):
        try:
            times[place] = parse(value)
        except (ValueError, msgspec.DecodeError) as error:
            wrong[place] = str(error)
        except OverflowError:
            wrong[place] = "the time is beyond what 64 bits of nanoseconds hold (1677 to 2262)"
    return times, wrong


def _time_of_text(text: str) -> int:
    try:
        return int(pa.scalar(text).cast(_TIMESTAMP).value)
    except pa.ArrowInvalid:
        return parse_timestamp(text)


def _time_of_bytes(raw: Raw) -> int:
    data = bytes(raw)
    ns, seconds = 0, None
    if data[:2] == b"\xd6\xff":
        seconds = int.from_bytes(data[2:], "big")
    elif data[:2] == b"\xd7\xff":
        word = int.from_bytes(data[2:], "big")
        ns, seconds = word >> 34, word & (2**34 - 1)
    elif data[:3] == b"\xc7\x0c\xff":
        ns, seconds = int.from_bytes(data[3:7], "big"), int.from_bytes(data[7:], "big", signed=True)
    if seconds is None:
        return _time_of_text(msgspec.msgpack.decode(data, type=str))
    if ns >= SECOND:
        raise ValueError(f"{ns} nanoseconds are more than a second")
    return seconds * SECOND + ns


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
        envelope["window"] = {"size": size, "step": size, "start": time, "end": _text_of(ts + step)}
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
    """RFC 3339 text with nine fraction digits; most times share their second with the one before."""
    second, fraction = divmod(ns, SECOND)
    return f"{_second(second)}.{fraction:09d}Z"


def _show(event: Event) -> str:
    return repr(event)[:LONGEST]


def _excerpt(data: bytes) -> str:
    return repr(data[:LONGEST])
