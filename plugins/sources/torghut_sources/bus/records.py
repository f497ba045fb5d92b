"""Decodes records: envelopes become rows, and those that cannot say why.

An envelope that is decoded here keeps its times as text: Arrow converts a whole column of them at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from torghut_core import Envelope, InputError, IntArray, SymbolTable, Table, Window, ends_of, format_timestamp, time_of
from torghut_sources.bus.contract import Offsets
from torghut_sources.tape.rows import BARS, KINDS, TRADES, Columns, Kind, Rows

MARKS = Kind("status", Table, (), ())
"""Kind of the time marks: positions without a row."""

WITHOUT_COLUMNS = frozenset({"status", "trade-updates", "microbars", "signals", "ta-status"})
"""Channels for which a batch has no table."""

NONE: Mapping[int, str] = {}

P = TypeVar("P")
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Trades: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Trade(msgspec.Struct, gc=False):
    """Payload of a trade; see `torghut_core.TradePayload`."""

    p: float
    s: float
    t: str
    i: int | str | None = None
    x: str | None = None
    c: tuple[str, ...] | None = None


class Quote(msgspec.Struct, gc=False, rename={"as_": "as"}):
    """Payload of a quote; see `torghut_core.QuotePayload`."""

    t: str
    bp: float | None = None
    bs: float | None = None
    ap: float | None = None
    as_: float | None = None


class Bar(msgspec.Struct, gc=False):
    """Payload of a bar; see `torghut_core.BarPayload`."""

    o: float
    h: float
    l: float  # noqa: E741 - its name on the wire
    c: float
    v: float
    t: str
    vw: float | None = None
    n: Trades | None = None


class Size(msgspec.Struct, gc=False):
    """The window of a bar, for its length."""

    size: str


class Wire(msgspec.Struct, Generic[P], gc=False):
    """The fields of an envelope that rows are made of; the others are only checked to be there."""

    ingest_ts: str
    event_ts: str
    feed: str
    channel: str
    symbol: str
    seq: Count
    is_final: bool
    source: str
    payload: P
    window: Size | None = None


WIRES: dict[str, msgspec.json.Decoder[Wire[Any]]] = {
    "trades": msgspec.json.Decoder(Wire[Trade]),
    "quotes": msgspec.json.Decoder(Wire[Quote]),
    "bars": msgspec.json.Decoder(Wire[Bar]),
}


class Decoded(NamedTuple):
    """The rows in the records of one topic.

    `table` : the rows; `at` and `Bars.series` are not set yet.
    `places` : shape (rows,), the record of each row.
    `poison` : record and reason of those that cannot be used.
    `skipped` : records without a row, by channel.
    """

    table: Table
    places: IntArray
    poison: list[tuple[int, str]]
    skipped: Counter[str]


class Marks(NamedTuple):
    """The time marks in the records of the topic of statuses; see `Decoded`.

    `moments` : shape (marks,), the time of each, ns.
    `ends` : where topics ended when each was sent.
    """

    moments: IntArray
    ends: list[Offsets]
    places: IntArray
    poison: list[tuple[int, str]]
    skipped: Counter[str]


def is_avro(value: bytes | None) -> bool:
    """Return whether a message is Avro, in the registry's wire format."""
    return value is not None and value[:1] == b"\0"


def envelope_of(value: bytes | None) -> Envelope[Any]:
    """Return the envelope in a record, whatever its channel.

    Raises
    ------
    InputError : the record holds no envelope.
    """
    if not value:
        raise InputError("the record has no value")
    if is_avro(value):
        raise InputError("the value is Avro, and SCHEMA_REGISTRY_URL is not set (set it, or send JSON)")
    return Envelope.decode(value)


def read(
    kind: Kind, values: Sequence[bytes | None], symbols: SymbolTable, unreadable: Mapping[int, str] = NONE
) -> Decoded:
    """Return the rows in the records of a topic of one kind. Bars that may still change are skipped, like other channels.

    `unreadable` : records that cannot be used for a reason that is known before.
    """
    wires: list[Wire[Any]] = []
    places: list[int] = []
    poison: list[tuple[int, str]] = []
    skipped: Counter[str] = Counter()
    name = kind.name
    decode = WIRES[name].decode
    for place, value in enumerate(values):
        problem = ""
        if place in unreadable:
            poison.append((place, unreadable[place]))
            continue
        try:
            wire = decode(value or b"")
        except Exception as error:  # whatever the bytes are
            problem = str(error) or type(error).__name__
        if problem or wire.channel != name:
            try:
                _count_or_raise(kind, envelope_of(value), problem, skipped)
            except InputError as error:
                poison.append((place, str(error)))
        elif wire.is_final:
            wires.append(wire)
            places.append(place)
        else:
            skipped[name] += 1
    try:
        rows = _rows(kind, wires, symbols)
    except Exception:  # of a record that no check foresaw: the others are used
        unusable = {place: reason for place, wire in enumerate(wires) if (reason := _failure(kind, wire))}
        poison += [(places[place], reason) for place, reason in unusable.items()]
        wires = [wire for place, wire in enumerate(wires) if place not in unusable]
        places = [each for place, each in enumerate(places) if place not in unusable]
        rows = _rows(kind, wires, symbols)
    index = np.array(places, np.int64)
    if not rows.bad.any():
        return Decoded(rows.table, index, sorted(poison), skipped)
    poison += [
        (places[row], _rows(kind, wires[row : row + 1], symbols).complaints[0].message)
        for row in np.flatnonzero(rows.bad).tolist()
    ]
    good = ~rows.bad
    return Decoded(rows.table.take(good), index[good], sorted(poison), skipped)


def read_marks(values: Sequence[bytes | None], unreadable: Mapping[int, str] = NONE) -> Marks:
    """Return the time marks among statuses; the others are skipped."""
    moments: list[int] = []
    ends: list[Offsets] = []
    places: list[int] = []
    poison: list[tuple[int, str]] = []
    skipped: Counter[str] = Counter()
    for place, value in enumerate(values):
        if place in unreadable:
            poison.append((place, unreadable[place]))
            continue
        try:
            envelope = envelope_of(value)
            moment = time_of(envelope)
            if moment is None:
                _count_or_raise(MARKS, envelope, "", skipped)
                continue
        except InputError as error:
            poison.append((place, str(error)))
            continue
        moments.append(moment)
        ends.append(ends_of(envelope))
        places.append(place)
    return Marks(np.array(moments, np.int64), ends, np.array(places, np.int64), poison, skipped)


A = TypeVar("A", Decoded, Marks)


def refuse_ahead(read: A, latest: int, ahead: int) -> A:
    """Move to `poison` what is dated more than `ahead` ns after `latest`, whatever came before it."""
    times: IntArray = read.moments if isinstance(read, Marks) else read.table.event_ts  # type: ignore[attr-defined]
    if not len(times) or int(times.max()) <= latest + ahead:
        return read
    good = np.ones(len(times), np.bool_)
    poison = list(read.poison)
    for row, moment in enumerate(times.tolist()):
        if moment <= latest + ahead:
            continue
        good[row] = False
        poison.append(
            (
                int(read.places[row]),
                f"event_ts {format_timestamp(moment)} is more than {ahead / 1e9:g} s ahead of all clocks",
            )
        )
    if isinstance(read, Marks):
        ends = [each for each, is_good in zip(read.ends, good.tolist(), strict=True) if is_good]
        return read._replace(moments=times[good], ends=ends, places=read.places[good], poison=sorted(poison))
    return read._replace(table=read.table.take(good), places=read.places[good], poison=sorted(poison))


def _count_or_raise(kind: Kind, envelope: Envelope[Any], problem: str, skipped: Counter[str]) -> None:
    """Count an envelope without a row, or raise; `problem` says why one of the right channel gives none."""
    channel = envelope.channel
    if channel in WITHOUT_COLUMNS:
        skipped[channel] += 1
    elif channel == kind.name:
        raise InputError(f"not a row of {channel}: {problem}")
    else:
        what = "belongs on another topic" if channel in KINDS else "is unknown"
        raise InputError(f"channel {channel!r} {what}: this is one of {kind.name}")


def _failure(kind: Kind, wire: Wire[Any]) -> str:
    """Why no row can be made of a record; "" where one can."""
    try:
        _rows(kind, [wire], SymbolTable())
    except Exception as error:
        return f"not a row of {kind.name}: {type(error).__name__}: {error}"
    return ""


def _rows(kind: Kind, wires: list[Wire[Any]], symbols: SymbolTable) -> Rows:
    return Rows(kind, np.arange(len(wires)), _columns(kind, wires), symbols)


def _columns(kind: Kind, wires: list[Wire[Any]]) -> Columns:
    """Return columns as those of a tape, so that the same checks and identities apply."""
    columns = {
        "symbol": pa.array([wire.symbol for wire in wires], pa.string()),
        "event_ts": pa.array([wire.event_ts for wire in wires], pa.string()),
        "ingest_ts": pa.array([wire.ingest_ts for wire in wires], pa.string()),
        "seq": pa.array([wire.seq for wire in wires], pa.int64()),
    }
    payloads = [wire.payload for wire in wires]
    if kind is TRADES:
        return columns | _trade_columns(payloads)
    if kind is BARS:
        steps = pa.array([None if wire.window is None else _length(wire.window.size) for wire in wires], pa.int64())
        return columns | _bar_columns(payloads) | {"step": steps}
    return columns | _quote_columns(payloads)


def _trade_columns(trades: list[Trade]) -> dict[str, pa.Array]:
    return {
        "price": pa.array([trade.p for trade in trades], pa.float64()),
        "size": pa.array([trade.s for trade in trades], pa.float64()),
        "trade_id": pa.array([None if trade.i is None else str(trade.i) for trade in trades], pa.string()),
        "exchange": pa.array([trade.x for trade in trades], pa.string()),
        "conditions": pa.array([",".join(trade.c) if trade.c else None for trade in trades], pa.string()),
    }


def _quote_columns(quotes: list[Quote]) -> dict[str, pa.Array]:
    return {
        "bid_price": pa.array([quote.bp for quote in quotes], pa.float64()),
        "bid_size": pa.array([quote.bs for quote in quotes], pa.float64()),
        "ask_price": pa.array([quote.ap for quote in quotes], pa.float64()),
        "ask_size": pa.array([quote.as_ for quote in quotes], pa.float64()),
    }


def _bar_columns(bars: list[Bar]) -> dict[str, pa.Array]:
    return {
        "open": pa.array([bar.o for bar in bars], pa.float64()),
        "high": pa.array([bar.h for bar in bars], pa.float64()),
        "low": pa.array([bar.l for bar in bars], pa.float64()),
        "close": pa.array([bar.c for bar in bars], pa.float64()),
        "volume": pa.array([bar.v for bar in bars], pa.float64()),
        "vwap": pa.array([bar.vw for bar in bars], pa.float64()),
        "trade_count": pa.array([bar.n for bar in bars], pa.float64()),
    }


@lru_cache(maxsize=64)
def _length(size: str) -> int | None:
    try:
        return Window(size=size, step=size, start=0, end=0).length
    except InputError:
        return None
