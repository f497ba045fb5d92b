"""The envelope: one event as it travels, and the payload of each channel.

On the wire an envelope is a JSON object whose times are RFC 3339 text, UTC, with all their nanoseconds, and whose
payload has a venue's short names (``p``, ``s``, ``t``). In Python times are `int` nanoseconds and fields are words; the
renaming is part of each struct. An unknown field is ignored when read, so it is never written again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeAlias, TypeVar, get_args

import msgspec

from torghut_core.errors import InputError
from torghut_core.model.market import window_size
from torghut_core.timestamps import SECOND, format_timestamp, parse_timestamp

if TYPE_CHECKING:
    Nanoseconds: TypeAlias = int
else:

    class Nanoseconds(int):
        """Marks the fields that are text on the wire; a plain `int` will do as a value."""


P_co = TypeVar("P_co", covariant=True)

_COUNT = r"(\d{1,12})"
_DURATION = re.compile(rf"P(?:{_COUNT}D)?(?:T(?:{_COUNT}H)?(?:{_COUNT}M)?(?:{_COUNT}(?:\.(\d{{1,9}}))?S)?)?", re.ASCII)


class Window(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The interval ``[start, end)`` that a bar or signal is about; `size` and `step` are ISO 8601 durations."""

    size: str
    step: str
    start: Nanoseconds
    end: Nanoseconds

    @classmethod
    def of(cls, start: int, length: int, end: int | None = None) -> Window:
        """The window of `length` nanoseconds from `start` on; a day may have another `end`.

        Examples
        --------
        >>> Window.of(0, 60_000_000_000).size
        'PT1M'
        """
        size = window_size(length)
        return cls(size=size, step=size, start=start, end=start + length if end is None else end)

    @property
    def length(self) -> int:
        """`size` in nanoseconds.

        Raises
        ------
        InputError : `size` is not an ISO 8601 duration of days or less, is zero, or beyond what 64 bits hold.

        Examples
        --------
        >>> Window(size="PT1M30S", step="PT1M30S", start=0, end=0).length
        90000000000
        """
        match = _DURATION.fullmatch(self.size)
        days, hours, minutes, seconds, fraction = (part or "0" for part in match.groups()) if match else "00000"
        whole = ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds)
        length = whole * SECOND + int(fraction.ljust(9, "0"))
        if not 0 < length < 2**63:
            raise InputError(f"window size {self.size[:40]!r} is not an ISO 8601 duration, like PT1S, PT1M or P1D")
        return length


class TradePayload(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    rename={"trade_id": "i", "price": "p", "size": "s", "event_ts": "t", "exchange": "x", "conditions": "c"},
):
    """Channel ``trades``: one print. `trade_id` is the venue's and may be beyond double precision."""

    trade_id: int | str | None = None
    price: float
    size: float
    event_ts: Nanoseconds
    exchange: str | None = None
    conditions: tuple[str, ...] | None = None


class QuotePayload(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"bid_price": "bp", "bid_size": "bs", "ask_price": "ap", "ask_size": "as", "event_ts": "t"},
):
    """Channel ``quotes``: best bid and offer; None on a side that is missing."""

    bid_price: float | None = None
    bid_size: float | None = None
    ask_price: float | None = None
    ask_size: float | None = None
    event_ts: Nanoseconds


class BarPayload(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    rename={
        "open": "o",
        "high": "h",
        "low": "l",
        "close": "c",
        "volume": "v",
        "vwap": "vw",
        "count": "n",
        "event_ts": "t",
    },
):
    """Channel ``bars``: a venue's bar; `event_ts` is its start, `vwap` and `count` are None where the venue has none."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None = None
    count: int | None = None
    event_ts: Nanoseconds


class MicrobarPayload(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "event_ts": "t"},
):
    """Channel ``microbars``: a bar that torghut made of trades; `vwap` is None where nothing was traded."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None = None
    count: int
    event_ts: Nanoseconds


class Macd(msgspec.Struct, frozen=True, gc=False):
    """Moving average convergence divergence."""

    macd: float | None = None
    signal: float | None = None
    hist: float | None = None


class Ema(msgspec.Struct, frozen=True, gc=False):
    """Exponential moving averages of the close."""

    ema12: float | None = None
    ema26: float | None = None


class Boll(msgspec.Struct, frozen=True, gc=False):
    """Bollinger bands."""

    mid: float | None = None
    upper: float | None = None
    lower: float | None = None


class Vwap(msgspec.Struct, frozen=True, gc=False):
    """Volume-weighted average prices."""

    session: float | None = None
    w5m: float | None = None


class Imbalance(msgspec.Struct, frozen=True, gc=False):
    """The last fresh quote."""

    spread: float | None = None
    bid_px: float | None = None
    ask_px: float | None = None
    bid_sz: float | None = None
    ask_sz: float | None = None


class VolRealized(msgspec.Struct, frozen=True, gc=False):
    """Realized volatility."""

    w60s: float | None = None


class SignalsPayload(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Channel ``signals``: a row of ``ta_signals``, nested; None until warm."""

    macd: Macd = Macd()
    ema: Ema = Ema()
    rsi14: float | None = None
    boll: Boll = Boll()
    vwap: Vwap = Vwap()
    imbalance: Imbalance = Imbalance()
    vol_realized: VolRealized = VolRealized()

    @classmethod
    def of(cls, row: Mapping[str, float]) -> SignalsPayload:
        """The payload of a flat row, column name to value; NaN and missing values become None.

        Examples
        --------
        >>> SignalsPayload.of({"macd_hist": 0.5, "rsi14": float("nan")}).macd
        Macd(macd=None, signal=None, hist=0.5)
        """

        def values(*columns: str) -> list[float | None]:
            found = [row.get(column) for column in columns]
            return [None if value != value else value for value in found]

        return cls(
            macd=Macd(*values("macd", "macd_signal", "macd_hist")),
            ema=Ema(*values("ema12", "ema26")),
            rsi14=values("rsi14")[0],
            boll=Boll(*values("boll_mid", "boll_upper", "boll_lower")),
            vwap=Vwap(*values("vwap_session", "vwap_w5m")),
            imbalance=Imbalance(
                *values(
                    "imbalance_spread",
                    "imbalance_bid_px",
                    "imbalance_ask_px",
                    "imbalance_bid_sz",
                    "imbalance_ask_sz",
                )
            ),
            vol_realized=VolRealized(*values("vol_realized_w60s")),
        )

    def row(self) -> dict[str, float]:
        """The flat row: the columns of ``ta_signals`` that have a value.

        Examples
        --------
        >>> SignalsPayload(rsi14=31.5, boll=Boll(mid=2.0)).row()
        {'rsi14': 31.5, 'boll_mid': 2.0}
        """
        row = {
            "macd": self.macd.macd,
            "macd_signal": self.macd.signal,
            "macd_hist": self.macd.hist,
            "ema12": self.ema.ema12,
            "ema26": self.ema.ema26,
            "rsi14": self.rsi14,
            "boll_mid": self.boll.mid,
            "boll_upper": self.boll.upper,
            "boll_lower": self.boll.lower,
            "vwap_session": self.vwap.session,
            "vwap_w5m": self.vwap.w5m,
            "imbalance_spread": self.imbalance.spread,
            "imbalance_bid_px": self.imbalance.bid_px,
            "imbalance_ask_px": self.imbalance.ask_px,
            "imbalance_bid_sz": self.imbalance.bid_sz,
            "imbalance_ask_sz": self.imbalance.ask_sz,
            "vol_realized_w60s": self.vol_realized.w60s,
        }
        return {column: value for column, value in row.items() if value is not None}


class StatusPayload(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Channel ``ta-status``: progress of the TA pipeline."""

    watermark_lag_ms: int
    last_event_ts: Nanoseconds | None
    status: str
    heartbeat: int


PAYLOADS: dict[str, type[msgspec.Struct]] = {
    "trades": TradePayload,
    "quotes": QuotePayload,
    "bars": BarPayload,
    "microbars": MicrobarPayload,
    "signals": SignalsPayload,
    "ta-status": StatusPayload,
}
"""Payload by channel. The payload of another channel (``status``, ``trade-updates``) is any JSON value."""


class Envelope(msgspec.Struct, Generic[P_co], frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One event as it travels.

    Attributes
    ----------
    ingest_ts, event_ts : when we received it, and when it happened at the venue (of a bar: its start), ns.
    feed, source : the feed it came by (``iex``, ``crypto``), and the program that sent it.
    channel : the kind of event, which decides the type of `payload` (see `PAYLOADS`).
    symbol, seq : of a derived event `seq` is a function of its window, else it counts what the source sent.
    is_final : False for an interval that may still change.
    window : the interval that a bar or signal is about.
    """

    ingest_ts: Nanoseconds
    event_ts: Nanoseconds
    feed: str
    channel: str
    symbol: str
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    is_final: bool
    source: str
    window: Window | None = None
    payload: P_co
    version: int = 1

    @classmethod
    def decode(cls, data: bytes | str) -> Envelope[Any]:
        """Read an envelope and the payload of its channel.

        Raises
        ------
        InputError : not JSON, a missing field or one of a wrong type, a time without a zone; nothing else is raised.

        Examples
        --------
        >>> envelope = Envelope.decode(
        ...     '{"ingest_ts": "2026-01-05T14:30:00.25Z", "event_ts": "2026-01-05T14:30:00.000000001Z", "feed": "iex",'
        ...     ' "channel": "trades", "symbol": "AAPL", "seq": 7, "is_final": true, "source": "ws", "beyond": 1,'
        ...     ' "payload": {"i": 52983525029461, "p": 126.55, "s": 1, "t": "2026-01-05T14:30:00.000000001Z"}}'
        ... )
        >>> envelope.event_ts, envelope.payload.price
        (1767623400000000001, 126.55)
        """
        what = "an envelope"
        try:
            envelope = _HEAD.decode(data)
            what = f"a payload of channel {envelope.channel!r}"
            payload = _DECODERS.get(envelope.channel, _ANY).decode(envelope.payload)
        except RecursionError as error:
            raise InputError(f"not {what}: it nests too deeply") from error
        except Exception as error:  # whatever the bytes are, they end nobody who reads them
            raise InputError(f"not {what}: {error}") from error
        return msgspec.structs.replace(envelope, payload=payload)

    def encode(self) -> bytes:
        """The envelope as JSON.

        A missing window is left out, and so are missing values of a trade or bar; elsewhere None is null.
        """
        return _JSON.encode(_on_wire(self))


def _read_time(type_: type, text: object) -> object:
    """`Nanoseconds` of RFC 3339 text. Most events share their whole second with the one before."""
    if type_ is not Nanoseconds or not isinstance(text, str):
        raise TypeError(f"expected RFC 3339 text, got {text!r}")
    fraction = text[20:-1]
    if text[19:20] == "." and text[-1] == "Z" and fraction.isascii() and fraction.isdecimal() and len(fraction) <= 9:
        ns = _whole_second(text[:19]) + int(fraction.ljust(9, "0"))
    else:
        ns = parse_timestamp(text)
    if abs(ns) >= 2**63:
        raise ValueError(f"{text!r} is beyond what 64 bits of nanoseconds hold (1677 to 2262)")
    return Nanoseconds(ns)


@lru_cache(maxsize=1024)
def _whole_second(text: str) -> int:
    return parse_timestamp(text + "Z")


def _on_wire(value: Any) -> Any:
    """A value as it goes into JSON: times as text, short names, nested structs the same way."""
    if not isinstance(value, msgspec.Struct):
        return value
    wire = {}
    leaves_out = value.__struct_config__.omit_defaults
    for name, short, is_time in _wire_fields(type(value)):
        item = getattr(value, name)
        if item is None and leaves_out:
            continue
        wire[short] = format_timestamp(item) if is_time and item is not None else _on_wire(item)
    return wire


@cache
def _wire_fields(type_: type[msgspec.Struct]) -> list[tuple[str, str, bool]]:
    """Name in Python, name on the wire, and whether it is a time, of every field."""
    return [
        (field.name, field.encode_name, Nanoseconds in (field.type, *get_args(field.type)))
        for field in msgspec.structs.fields(type_)
    ]


_HEAD = msgspec.json.Decoder(Envelope[msgspec.Raw], dec_hook=_read_time)
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    channel: msgspec.json.Decoder(payload, dec_hook=_read_time) for channel, payload in PAYLOADS.items()
}
_JSON = msgspec.json.Encoder()
