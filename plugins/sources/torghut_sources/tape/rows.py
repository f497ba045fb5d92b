"""The rows of a tape: the columns of trades, quotes and bars, their checks, and their conversion to a table.

Columns come as Arrow arrays: typed from Parquet, text from CSV, lists of payload fields from JSONL. Here they become
the numbers of a `Table`, and every value that cannot be used becomes a `Complaint`: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.types as arrow
from numpy.typing import NDArray

from torghut_core import (
    DAY,
    HOUR,
    MILLISECOND,
    SECOND,
    Bars,
    FloatArray,
    InputError,
    IntArray,
    Quotes,
    SymbolTable,
    Table,
    Trades,
    format_timestamp,
    parse_timestamp,
    row_rules,
)

BoolArray: TypeAlias = NDArray[np.bool_]
Columns: TypeAlias = Mapping[str, pa.Array]

LATEST = 2**63 - 1

UNITS = {"s": SECOND, "ms": MILLISECOND, "us": 1_000, "ns": 1}

SYMBOL = "must be a symbol of A-Z, 0-9 and . _ / -, at most 32 long"
TIME = "must be a time with its zone, from 1677 to 2262, like 2026-01-05T14:30:00.123Z"
WHOLE = "must be a whole number"
TOO_LARGE = "must be below 2^63"
STEP = "must be given by window.size, like PT1M, or by bar_step"
NOT_NEGATIVE = "must be zero or a positive number"
HINT = "fix or remove the row, or replay with --on-bad-row skip"


class Complaint(NamedTuple):
    """Rows that cannot be used for one reason: the place of the first, what is wrong with it, and how many."""

    place: int
    reason: str
    message: str
    hint: str = HINT
    rows: int = 1


class Kind(NamedTuple):
    """A kind of row: its table, and the columns that a tape of it must and may have."""

    name: str
    table: type[Table]
    required: tuple[str, ...]
    optional: tuple[str, ...]


TRADES = Kind(
    "trades",
    Trades,
    ("symbol", "event_ts", "price", "size"),
    ("ingest_ts", "seq", "exchange", "conditions", "trade_id", "suspicious"),
)
QUOTES = Kind(
    "quotes",
    Quotes,
    ("symbol", "event_ts", "bid_price", "bid_size", "ask_price", "ask_size"),
    ("ingest_ts", "seq"),
)
BARS = Kind(
    "bars",
    Bars,
    ("symbol", "event_ts", "open", "high", "low", "close", "volume"),
    ("ingest_ts", "seq", "vwap", "trade_count"),
)
KINDS = {kind.name: kind for kind in (BARS, QUOTES, TRADES)}
"""By name, in the order of kinds that become known at the same time."""


class Rows:
    """Rows of one kind out of one block of a tape.

    Parameters
    ----------
    kind : what they are.
    places : shape (n,), 0-based row or 1-based line of each, rising.
    columns : values as the file has them, by name, each of length n.
    symbols : numbers the symbols and sale conditions.
    origin : place of the file's first row, from which `seq` counts if there is no such column.
    step : length of bars without a column `step`, ns.

    Attributes
    ----------
    table : the rows; `at` and `Bars.series` are not set yet, and bad rows hold anything.
    clock, arrival : the column whose times must not fall from row to row, `ingest_ts` or else `event_ts`; shape (n,), ns.
    bad : shape (n,), the rows that cannot be used.
    complaints : why; a row counts for the first reason only.
    """

    def __init__(
        self, kind: Kind, places: IntArray, columns: Columns, symbols: SymbolTable, origin: int = 0, step: int = 0
    ) -> None:
        self.kind = kind
        self.places = places
        n = len(places)
        self.bad: BoolArray = np.zeros(n, np.bool_)
        self.complaints: list[Complaint] = []
        self._columns = columns
        values: dict[str, Any] = {
            "symbol": self._read("symbol", lambda column: _symbols(column, symbols), SYMBOL),
            "event_ts": self._read("event_ts", _times, TIME),
            "seq": self._read("seq", _whole_numbers, WHOLE) if "seq" in columns else places - origin,
        }
        self.clock = "ingest_ts" if "ingest_ts" in columns else "event_ts"
        self.arrival: IntArray = (
            values["event_ts"] if self.clock == "event_ts" else self._read("ingest_ts", _times, TIME)
        )
        for name in kind.table.FLOAT_COLUMNS:
            values[name] = self._read(name, _numbers, "must be a number") if name in columns else np.full(n, np.nan)
        if kind is TRADES:
            values["conditions"] = self._conditions(symbols)
            if "trade_id" in columns:
                values["trade_key"] = trade_keys(
                    columns["trade_id"], text_hashes(columns["exchange"]) if "exchange" in columns else None
                )
        if kind is BARS:
            values["step"] = self._read("step", _whole_numbers, STEP) if "step" in columns else np.full(n, step)
            if "trade_count" in columns:
                count = np.nan_to_num(self._read("trade_count", _numbers, NOT_NEGATIVE))
                self._expect((count >= 0) & (count < 2**53), "trade_count", NOT_NEGATIVE)
                values["count"] = np.clip(count, 0, 2**53)
        self.table = kind.table.from_columns(**values)
        for good, column, must in row_rules(self.table):
            self._expect(good, column, must)

    def reject_before(self, latest: IntArray) -> None:
        """Reject rows that arrived before `latest`, shape (n,): the greatest arrival up to each row."""
        falls = (self.arrival < latest) & ~self.bad
        if falls.any():
            first = int(falls.argmax())
            time, after = format_timestamp(int(self.arrival[first])), format_timestamp(int(latest[first]))
            self._complain(
                falls,
                f"{self.clock} is before that of an earlier row",
                f"{self.clock} {time} is before {after}, that of an earlier row",
                f"sort the file by {self.clock}",
            )

    def _read(self, name: str, convert: Callable[[pa.Array], tuple[Any, BoolArray]], must: str) -> Any:
        values, bad = convert(self._columns[name])
        self._expect(~bad, name, must)
        return values

    def _expect(self, good: BoolArray, column: str, must: str) -> None:
        if good.all():
            return
        new = ~(good | self.bad)
        if new.any():
            self._complain(new, f"{column} {must}", self._describe(int(new.argmax()), column, must))

    def _complain(self, bad: BoolArray, reason: str, message: str, hint: str = HINT) -> None:
        place = int(self.places[bad.argmax()])
        self.complaints.append(Complaint(place, reason, message, hint, int(np.count_nonzero(bad))))
        self.bad |= bad

    def _describe(self, index: int, column: str, must: str) -> str:
        scalar = self._columns[column][index]
        if not scalar.is_valid:
            return f"{column} is missing"
        value = scalar.value if arrow.is_timestamp(scalar.type) else scalar.as_py()
        if must == WHOLE and str(value).isdecimal():
            must = TOO_LARGE
        return f"{column} is {value!r}: it {must}"

    def _conditions(self, symbols: SymbolTable) -> IntArray:
        """Return the numbers of the pairs (sale conditions, suspicious)."""
        n = len(self.places)
        text, names = _encoded(self._columns["conditions"]) if "conditions" in self._columns else (np.full(n, -1), [])
        flags = np.zeros(n, np.bool_)
        if "suspicious" in self._columns:
            flags = self._read("suspicious", _flags, "must be true or false")
        pairs = (text + 1) * 2 + flags
        numbers = np.zeros(2 * len(names) + 2, np.int64)
        for pair in np.flatnonzero(np.bincount(pairs, minlength=len(numbers))).tolist():
            numbers[pair] = symbols.condition(names[pair // 2 - 1] if pair > 1 else "", bool(pair % 2))
        return numbers[pairs]


def bar_step(columns: Columns) -> int | None:
    """Return the length of bars from the first of them, ns; None where no symbol has two.

    It is the largest step of which every gap between consecutive bars of a symbol is a multiple: a minute without a
    trade may have no bar, so a gap may be several steps. Days in which clocks change are shorter or longer, so gaps
    of 23 hours and more count in whole days.
    """
    symbol, _ = _encoded(columns["symbol"])
    event_ts, _ = _times(columns["event_ts"])
    order = np.argsort(symbol, kind="stable")
    gaps = np.diff(event_ts[order])[np.diff(symbol[order]) == 0]
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return None
    smallest = int(gaps.min())
    return round(smallest / DAY) * DAY if smallest >= 23 * HOUR else int(np.gcd.reduce(gaps))


def trade_keys(ids: pa.Array, exchanges: NDArray[np.uint64] | None = None) -> IntArray:
    """Return the identity of each trade, shape (n,): 64 bits of (exchange, trade id), 0 without an id.

    Ids are whole numbers or text; a number that is written as digits is the same id either way, so that a trade has one key
    in every format; ``7``, ``007`` and ``0x7`` are three. The result depends on nothing but the values.

    Parameters
    ----------
    exchanges : `text_hash` of each exchange's name.

    Examples
    --------
    >>> keys = trade_keys(pa.array(["7", None, "7"]), text_hashes(pa.array(["D", "D", "K"])))
    >>> keys[0] == trade_keys(pa.array([7]), text_hashes(pa.array(["D"])))[0], keys[1], keys[0] == keys[2]
    (np.True_, np.int64(0), np.False_)
    """
    if ids.null_count == len(ids):
        return np.zeros(len(ids), np.int64)
    missing = _is_null(ids)
    if not arrow.is_integer(ids.type):
        ids = ids.cast(pa.string())
        ids = _id_numbers(ids)
    keys = filled(ids, 0).astype(np.uint64)
    if exchanges is not None:
        keys ^= exchanges
    # splitmix64 (Steele, Lea, Flood 2014): one to one, and near ids end far apart
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    keys[keys == 0] = 1
    keys[missing] = 0
    identities: IntArray = keys.view(np.int64)
    return identities


def _id_numbers(ids: pa.Array) -> pa.Array:
    """Return the number of each id in text: its own where it is written as ``str`` would write it, else one of 64 bits."""
    try:
        numbers = ids.cast(pa.int64())
        if numbers.cast(pa.string()).equals(ids):
            return numbers
    except pa.ArrowInvalid:
        pass
    return pa.array([_id_number(text) for text in ids.to_pylist()], pa.uint64())


def text_hashes(column: pa.Array) -> NDArray[np.uint64]:
    """Return the `text_hash` of each text of a column, 0 for null."""
    index, names = _encoded(column)
    return np.array([*map(text_hash, names), 0], np.uint64)[index]


def text_hash(text: str | None) -> int:
    """Hash a text to 64 bits that are the same in every process; 0 where there is none."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") if text else 0


def _id_number(text: str | None) -> int:
    if text is None:
        return 0
    if re.fullmatch(r"0|-?[1-9]\d{0,19}", text, re.ASCII) and -(2**63) <= int(text) < 2**64:
        return int(text) % 2**64
    return text_hash(text)


def is_text(type_: pa.DataType) -> bool:
    """Return whether an Arrow type is text, plain or dictionary-encoded."""
    if arrow.is_dictionary(type_):
        type_ = type_.value_type
    return bool(arrow.is_string(type_) or arrow.is_large_string(type_) or arrow.is_string_view(type_))


def _encoded(column: pa.Array) -> tuple[IntArray, list[str]]:
    """Return the number of each value's text, -1 for null, and the texts."""
    if arrow.is_string_view(column.type):
        column = column.cast(pa.string())
    if not arrow.is_dictionary(column.type):
        column = column.dictionary_encode()
    index = filled(column.indices, -1).astype(np.int64)
    return index, column.dictionary.to_pylist()


def _symbols(column: pa.Array, symbols: SymbolTable) -> tuple[IntArray, BoolArray]:
    """Return symbol numbers, -1 where the text is not a symbol."""
    index, names = _encoded(column)
    numbers = np.full(len(names) + 1, -1)  # the last is of null
    for used in np.flatnonzero(np.bincount(index + 1, minlength=1)[1:]).tolist():
        try:
            numbers[used] = symbols.number(names[used])
        except InputError:
            continue
    found = numbers[index]
    return found, found < 0


def _times(column: pa.Array) -> tuple[IntArray, BoolArray]:
    """Return nanoseconds since the epoch, from text, timestamps of any unit, or integers that are nanoseconds."""
    if is_text(column.type):
        column = _parsed(column, pa.timestamp("ns", "UTC"), parse_timestamp)
    unit = UNITS[column.type.unit] if arrow.is_timestamp(column.type) else 1
    bad = _is_null(column)
    ticks = filled(column.cast(pa.int64()), 0)
    latest = LATEST // unit
    return ticks * unit, bad | (ticks > latest) | (ticks < -latest)


def _whole_numbers(column: pa.Array) -> tuple[IntArray, BoolArray]:
    """Return int64 values."""
    if is_text(column.type):
        column = _parsed(column, pa.int64(), int)
    bad = _is_null(column)
    if arrow.is_uint64(column.type):
        bad = bad | (filled(column, 0) > LATEST)
    return filled(column.cast(pa.int64(), safe=False), 0), bad


def _numbers(column: pa.Array) -> tuple[FloatArray, BoolArray]:
    """Return float64 values, NaN for null."""
    bad = np.zeros(len(column), np.bool_)
    if is_text(column.type):
        text, column = column, _parsed(column, pa.float64(), float)
        bad = _is_null(column) & ~_is_null(text)
    return filled(column.cast(pa.float64(), safe=False), np.nan), bad


def _flags(column: pa.Array) -> tuple[BoolArray, BoolArray]:
    """Return booleans, False for null."""
    if not is_text(column.type):
        return filled(column.cast(pa.bool_()), False), np.zeros(len(column), np.bool_)
    index, names = _encoded(column)
    values = [{"true": 1, "1": 1, "false": 0, "0": 0}.get(name.lower(), -1) for name in names]
    flags = np.array([*values, 0])[index]
    return flags > 0, flags < 0


def _parsed(column: pa.Array, type_: pa.DataType, parse: Callable[[str], Any]) -> pa.Array:
    """Parse text to another type, null where it cannot be parsed: by Arrow at once, or else value by value."""
    try:
        return column.cast(type_)
    except pa.ArrowInvalid:
        return pa.array([_value(text, type_, parse) for text in column.to_pylist()], type_)


def _value(text: str | None, type_: pa.DataType, parse: Callable[[str], Any]) -> Any:
    try:
        value = None if text is None else parse(text)
        pa.scalar(value, type_)  # raises where the value does not fit the type
    except (ValueError, OverflowError):
        return None
    return value


def filled(column: pa.Array, value: float) -> np.ndarray[Any, Any]:
    """Return the column as an array, `value` where it is null.

    Arrow's own conversions import pandas, which takes 0.7 s: they are used only for columns with values and nulls.
    """
    if column.null_count == len(column):
        return np.full(len(column), value)
    if column.null_count:
        column = column.fill_null(value)
    if arrow.is_boolean(column.type):
        values: np.ndarray[Any, Any] = np.from_dlpack(column.cast(pa.uint8())) != 0
    else:
        values = np.from_dlpack(column)
    return values


def _is_null(column: pa.Array) -> BoolArray:
    return filled(column.is_null(), False) if column.null_count else np.zeros(len(column), np.bool_)
