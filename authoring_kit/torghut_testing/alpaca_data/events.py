"""One event of the market, encoded ahead, and the frames that hold several."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from torghut_core import DAY, MINUTE, SECOND, parse_timestamp
from torghut_testing.alpaca.wire import timestamp

CHANNELS = {
    "t": "trades",
    "q": "quotes",
    "b": "bars",
    "u": "updatedBars",
    "d": "dailyBars",
    "s": "statuses",
    "l": "lulds",
    "c": "corrections",
    "x": "cancelErrors",
    "o": "orderbooks",
}
"""Channel by the letter in ``T`` of its messages."""

_STEPS = {"b": MINUTE, "u": MINUTE, "d": DAY}
_TIMESTAMP = -1
_AFTER_SYMBOL = len('{"T":"t","S":"",')
_TO_JSON = msgspec.json.Encoder()
_FROM_JSON: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_TO_MSGPACK = msgspec.msgpack.Encoder()


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event of the market.

    Attributes
    ----------
    kind : the letter in ``T``, a key of `CHANNELS`.
    at : nanoseconds since the epoch, UTC.
    wire : the message as JSON, ``T`` and ``S`` first.
    """

    kind: str
    symbol: str
    at: int
    wire: bytes

    @property
    def row(self) -> bytes:
        """The message as REST returns it: JSON without ``T`` and ``S``."""
        return b"{" + self.wire[_AFTER_SYMBOL + len(self.symbol) :]

    def msgpack(self) -> bytes:
        """The message as MessagePack; its time is a timestamp of that format, to the nanosecond."""
        message = _FROM_JSON.decode(self.wire)
        message["t"] = msgspec.msgpack.Ext(_TIMESTAMP, _packed(self.at))
        return _TO_MSGPACK.encode(message)


def event_of(message: Mapping[str, Any], shift: int = 0) -> Event:
    """The event of a message as Alpaca prints it; its ``t`` is text, or nanoseconds since the epoch.

    Parameters
    ----------
    shift : nanoseconds to add to its time; a bar still begins at a whole minute (or day).

    Raises
    ------
    ValueError : no known ``T``, no ``S``, or no time in ``t``.

    Examples
    --------
    >>> event = event_of({"T": "t", "S": "ETH/USD", "i": 2**60, "p": 1815.5, "s": 2, "t": 1_500_000_000})
    >>> event.row
    b'{"i":1152921504606846976,"p":1815.5,"s":2,"t":"1970-01-01T00:00:01.5Z"}'
    """
    kind, symbol, time = message.get("T"), message.get("S"), message.get("t")
    if kind not in CHANNELS or not isinstance(symbol, str) or not isinstance(time, int | str):
        raise ValueError(
            f"{message!r} is not an event (give T, one of {', '.join(CHANNELS)}, the symbol as S and a time as t)"
        )
    at = (time if isinstance(time, int) else parse_timestamp(time)) + shift
    if shift:
        at -= at % _STEPS.get(kind, 1)
    text = time if isinstance(time, str) and not shift else timestamp(at)
    return Event(kind, symbol, at, _TO_JSON.encode({"T": kind, "S": symbol} | dict(message) | {"t": text}))


def frame(events: Sequence[Event], *, is_binary: bool) -> bytes:
    """The payload of one frame: an array of messages.

    Examples
    --------
    >>> halt = event_of({"T": "s", "S": "AAPL", "sc": "H", "t": 0})
    >>> frame([halt, halt], is_binary=True) == msgspec.msgpack.encode([msgspec.Raw(halt.msgpack())] * 2)
    True
    """
    if is_binary:
        return _array_head(len(events)) + b"".join([event.msgpack() for event in events])
    return b"[" + b",".join([event.wire for event in events]) + b"]"


def _array_head(count: int) -> bytes:
    return bytes([0x90 | count]) if count < 16 else b"\xdc" + struct.pack("!H", count)


def _packed(at: int) -> bytes:
    seconds, nanos = divmod(at, SECOND)
    if 0 <= seconds < 1 << 34:
        return struct.pack("!Q", nanos << 34 | seconds)
    return struct.pack("!Iq", nanos, seconds)
