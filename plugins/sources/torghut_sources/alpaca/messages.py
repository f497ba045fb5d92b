"""The messages of Alpaca's market data stream, in JSON or MessagePack: their fields, and what is checked."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, field

LATEST = 2**63 - 1
LARGEST = 1.7976931348623157e308
"""Largest float64: MessagePack can encode infinity."""

Positive: TypeAlias = Annotated[float, Meta(gt=0, le=LARGEST)]
NotNegative: TypeAlias = Annotated[float, Meta(ge=0, le=LARGEST)]
Time = TypeVar("Time")
"""How a time is encoded: text in JSON; in MessagePack bytes of a timestamp or of text, as msgspec's own timestamps end at
microseconds."""


class _Event(msgspec.Struct, Generic[Time], kw_only=True, gc=False, tag_field="T"):
    """Fields of all events; history does not repeat the symbol in each."""

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
    """The bar of a minute, once it is over; `vwap` is None where nothing was traded."""

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
    """The bar of a minute again, half a minute later, with late trades: no row of a batch, where it would count twice."""


class DailyBar(Bar[Time], Generic[Time], kw_only=True, gc=False, tag="d"):
    """The bar of the day so far: it is not over, so it is no row of a batch."""


class Status(_Event[Time], Generic[Time], kw_only=True, gc=False, tag="s"):
    """A halt or resumption of trading."""

    status_code: str = field(name="sc")
    status_message: str = field(name="sm", default="")
    reason_code: str = field(name="rc", default="")
    reason_message: str = field(name="rm", default="")
    tape: str = field(name="z", default="")


class Correction(_Event[Time], Generic[Time], kw_only=True, gc=False, tag="c"):
    """A trade is corrected: it was not as it was printed."""

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
    """A trade is canceled; `action` is C for a cancel, E for an error."""

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
    """An error; see `refusals`."""

    code: int
    text: str = field(name="msg", default="")


class Subscription(msgspec.Struct, tag_field="T", tag="subscription"):
    """Everything that is subscribed now, whatever was requested last; a list that is missing is empty."""

    trades: tuple[str, ...] = ()
    quotes: tuple[str, ...] = ()
    bars: tuple[str, ...] = ()
    updated_bars: tuple[str, ...] = field(name="updatedBars", default=())
    daily_bars: tuple[str, ...] = field(name="dailyBars", default=())
    statuses: tuple[str, ...] = ()

    def of(self, channel: str) -> tuple[str, ...]:
        """Return the symbols of a channel, by its name in a request (``updatedBars``)."""
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
