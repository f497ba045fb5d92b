"""Decodes frames of Alpaca's stream into events, and encodes requests: pure translation, no IO.

A frame is an array of messages, in JSON or MessagePack. Frames are decoded many at a time into one list of structs in
order of arrival (`Events`), which becomes columns or envelopes. Ids and times keep every digit: times become `int`
nanoseconds, in bulk.

A message that cannot be used (a price that is null, a time without a zone, an invalid symbol) is a `Complaint`, one of an
unknown type is counted, and in both cases the other messages of the frame are kept: a frame is decoded at once, and message
by message only where that fails.

The road not taken: a compiled kernel over the raw bytes. Decoding is half of the whole way to a column here, and a second
parser of JSON would have to be right where the first is only fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Raw

from torghut_core import DAY, SECOND, SYMBOL_PATTERN, IntArray, parse_timestamp
from torghut_sources.alpaca.events import Events
from torghut_sources.alpaca.messages import LATEST, AnyMessage, Bar, Control, Event, StreamError, Subscription, Success

LONGEST = 200
"""Characters of a message that a complaint shows."""
UNKNOWN_TYPES = 32
"""Unknown types that are counted by name; more are counted together."""

T = TypeVar("T")
Encoding: TypeAlias = Literal["json", "msgpack"]

TAGS = frozenset({"t", "q", "b", "u", "d", "s", "c", "x", "success", "error", "subscription"})
_CONTROL = frozenset((Success, StreamError, Subscription))
_JSON_MESSAGE: Any = AnyMessage[str]  # type: ignore[misc]  # a union's alias as a value
_MSGPACK_MESSAGE: Any = AnyMessage[Raw]  # type: ignore[misc]  # as above
_TIMESTAMP = pa.timestamp("ns", "UTC")


class Complaint(msgspec.Struct, frozen=True):
    """A message that was dropped: why, in one of few words (``frame``, ``message``, ``time``, ``symbol``), and in full."""

    reason: str
    text: str


class Received(msgspec.Struct):
    """Content of some frames: events, control messages, and what could not be used."""

    events: Events
    control: list[Control]
    complaints: list[Complaint]


class Wire:
    """One encoding of the stream.

    Attributes
    ----------
    unknown : messages of unknown types, by type.
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
        """Decode some frames, in order."""
        messages: list[Any] = []
        complaints: list[Complaint] = []
        decode = self._frame.decode
        for frame in frames:
            try:
                messages += decode(frame)
            except Exception:  # whatever the bytes are
                messages += self._salvage(frame, complaints)
        control: list[Control] = []
        if not _CONTROL.isdisjoint(map(type, messages)):
            control = [message for message in messages if type(message) in _CONTROL]
            messages = [message for message in messages if type(message) not in _CONTROL]
        return Received(self.timed(messages, complaints), control, complaints)

    def timed(self, events: list[Any], complaints: list[Complaint]) -> Events:
        """Parse the times of events; those with an invalid symbol or time are dropped and added to `complaints`."""
        if not self._symbols.issuperset([event.symbol for event in events]):
            kept = [event for event in events if self._is_symbol(event.symbol)]
            if len(kept) < len(events):
                bad = (event for event in events if not self._is_symbol(event.symbol))
                complaints += [
                    Complaint("symbol", f"{event.symbol!r} is not a symbol: {_show(event)}") for event in bad
                ]
                events = kept
        event_ts, wrong = self._times([event.time for event in events])
        if len(event_ts) and int(event_ts.max()) > LATEST - DAY:
            late = np.flatnonzero(event_ts > LATEST - DAY).tolist()
            wrong |= {place: "the bar ends after 2262" for place in late if isinstance(events[place], Bar)}
        if wrong:
            complaints += [Complaint("time", f"{why}: {_show(events[place])}") for place, why in wrong.items()]
            events = [event for place, event in enumerate(events) if place not in wrong]
            event_ts = np.delete(event_ts, list(wrong))
        return Events(events, event_ts)

    def auth(self, key: str, secret: str) -> bytes:
        """Encode the request that authenticates. It holds the keys: never log it."""
        return self._encode({"action": "auth", "key": key, "secret": secret})

    def subscribe(self, symbols: Sequence[str], channels: Sequence[str], size: int) -> list[bytes]:
        """Encode requests that add `symbols` to all `channels`, at most `size` symbols in each."""
        return self._requests("subscribe", symbols, channels, size)

    def unsubscribe(self, symbols: Sequence[str], channels: Sequence[str], size: int) -> list[bytes]:
        """Encode requests that remove `symbols` from all `channels`, at most `size` symbols in each."""
        return self._requests("unsubscribe", symbols, channels, size)

    def _requests(self, action: str, symbols: Sequence[str], channels: Sequence[str], size: int) -> list[bytes]:
        parts = [list(symbols[first : first + size]) for first in range(0, len(symbols), size)]
        return [self._encode({"action": action} | dict.fromkeys(channels, part)) for part in parts]

    def _encode(self, request: dict[str, Any]) -> bytes:
        encoded: bytes = self._codec.encode(request)
        return encoded

    def _salvage(self, frame: bytes, complaints: list[Complaint]) -> Iterator[Any]:
        """Decode the messages of a frame one by one, where not all can be used."""
        try:
            raws = self._raws.decode(frame)
        except Exception as error:  # as above
            complaints.append(Complaint("frame", f"{error}: {_excerpt(frame)}"))
            return
        for raw in raws:
            try:
                yield self._message.decode(raw)
            except Exception as error:  # as above
                tag = self._tag_of(raw)
                if tag is None or tag in TAGS:
                    complaints.append(Complaint("message", f"{error}: {_excerpt(bytes(raw))}"))
                else:
                    self.unknown[tag if tag in self.unknown or len(self.unknown) < UNKNOWN_TYPES else "other"] += 1

    def _tag_of(self, raw: Raw) -> str | None:
        try:
            tag: str = self._tag.decode(raw).T[:LONGEST]
        except Exception:  # as above
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


def _times_of_text(texts: list[str]) -> tuple[IntArray, dict[int, str]]:
    """Parse RFC 3339 text to nanoseconds; and by place why some cannot be."""
    try:
        column = pa.array(texts, pa.string()).cast(_TIMESTAMP)
    except pa.ArrowInvalid:
        return _one_by_one(texts, _time_of_text)
    times: IntArray = np.asarray(np.from_dlpack(column.view(pa.int64())), np.int64)
    return times, {}


def _times_of_bytes(raws: list[Raw]) -> tuple[IntArray, dict[int, str]]:
    """Parse times of MessagePack: extension -1 of 4, 8 or 12 bytes, or text."""
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


def _show(event: Event) -> str:
    return repr(event)[:LONGEST]


def _excerpt(data: bytes) -> str:
    return repr(data[:LONGEST])
