"""The market's words: symbols, and tables of trades, quotes, bars and signals, as columns.

A `Batch` is one slice of the event stream. Its events have consecutive positions in the stream, whatever their kind;
every table keeps the stream position of each of its rows in the column ``at``. A row that a stage derives (a microbar,
a signal) carries the position of the event that made it known, so that "before" and "after" mean the same however
the stream is cut into batches.

Each table holds one block of int64 and one of float64, a row of the block per column: columns are contiguous, and a
compiled kernel gets a table as two arguments. Prices are quote currency per unit, sizes are units, times are
nanoseconds since the epoch, UTC. NaN is "no value".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, cast, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from torghut_core.errors import InputError, ShapeError
from torghut_core.model.sale_conditions import NO_PRICE, SaleConditions, is_sane
from torghut_core.timestamps import DAY, HOUR, MINUTE, SECOND

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]

SYMBOL_PATTERN = re.compile(r"[A-Z0-9._/-]{1,32}", re.ASCII)
"""A symbol: ``AAPL``, ``BRK.B``, ``BTC/USD``, ``ES``."""

TIMEFRAMES: dict[str, int] = {
    "1Sec": SECOND,
    "1Min": MINUTE,
    "5Min": 5 * MINUTE,
    "15Min": 15 * MINUTE,
    "1Hour": HOUR,
    "1Day": DAY,
}
"""The timeframes a catalog may name, with their step in nanoseconds."""

TIMEFRAME_NAMES: dict[int, str] = {step: name for name, step in TIMEFRAMES.items()}
"""The name of the timeframe of each step."""

_TAPES = SaleConditions()
"""What prints count for where a catalog says nothing else."""


def window_size(step: int) -> str:
    """ISO 8601 duration of a bar's step, as the signal store keeps it.

    Examples
    --------
    >>> [window_size(step) for step in TIMEFRAMES.values()]
    ['PT1S', 'PT1M', 'PT5M', 'PT15M', 'PT1H', 'P1D']
    """
    seconds, rest = divmod(step, SECOND)
    if rest or seconds <= 0:
        return f"PT{step / SECOND:.9f}".rstrip("0") + "S"
    for unit, length in (("P{}D", 86400), ("PT{}H", 3600), ("PT{}M", 60)):
        if seconds % length == 0:
            return unit.format(seconds // length)
    return f"PT{seconds}S"


class SymbolTable:
    """Symbols and bar series as dense numbers, in order of first appearance; only ever grows.

    A *symbol number* is a row of any per-symbol array, a *series number* (a symbol at a bar step, of the venue or made
    here) a row of any per-series array. The numbers live as long as the table; what is stored is the text.

    Examples
    --------
    >>> table = SymbolTable()
    >>> table.number("BTC/USD"), table.number("ES"), table.number("BTC/USD")
    (0, 1, 0)
    >>> table.series(1, SECOND), table.series(0, SECOND)
    (0, 1)
    """

    __slots__ = (
        "__weakref__",
        "_condition_numbers",
        "_is_pair",
        "_left_out",
        "_numbers",
        "_ranks",
        "_series",
        "conditions",
        "names",
        "series_of_venue",
        "series_step",
        "series_symbol",
    )

    def __init__(self) -> None:
        self.names: list[str] = []
        self.conditions: list[tuple[str, bool]] = [("", False)]
        """Sale conditions as the tape prints them, and whether the tape marks the trade suspicious."""
        self._condition_numbers: dict[tuple[str, bool], int] = {("", False): 0}
        self.series_symbol: list[int] = []
        self.series_step: list[int] = []
        self.series_of_venue: list[bool] = []
        self._numbers: dict[str, int] = {}
        self._series: dict[tuple[int, int, bool], int] = {}
        self._ranks: IntArray = np.empty(0, np.int64)
        self._is_pair: IntArray = np.empty(0, np.int64)
        self._left_out = _TAPES.table(self.conditions)

    def __len__(self) -> int:
        return len(self.names)

    def number(self, name: str) -> int:
        """The number of a symbol, a new one where it was not seen before.

        Raises
        ------
        InputError : `name` is not a symbol (see `SYMBOL_PATTERN`).
        """
        number = self._numbers.get(name)
        if number is None:
            if not SYMBOL_PATTERN.fullmatch(name):
                raise InputError(f"{name!r} is not a symbol (use A-Z, 0-9 and . _ / -, at most 32)")
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        return number

    def numbers(self, names: Sequence[str]) -> IntArray:
        """The number of each symbol, shape (n,); raises as `number`."""
        try:
            found = [self._numbers[name] for name in names]
        except KeyError:
            found = [self.number(name) for name in names]
        return np.array(found, np.int64)

    def find(self, name: str) -> int | None:
        """The number of a symbol, or None where it was not seen before."""
        return self._numbers.get(name)

    def condition(self, text: str, suspicious: bool = False) -> int:
        """The number of a trade's sale conditions, a new one where they were not seen before."""
        key = (text, suspicious)
        number = self._condition_numbers.get(key)
        if number is None:
            number = self._condition_numbers[key] = len(self.conditions)
            self.conditions.append(key)
        return number

    def series(self, symbol: int, step: int, of_venue: bool = False) -> int:
        """The number of the bar series of a symbol number at a step (nanoseconds).

        The bars that a venue sends are a series of their own (`of_venue`), beside those that are made here.
        """
        key = (symbol, step, of_venue)
        number = self._series.get(key)
        if number is None:
            number = self._series[key] = len(self.series_symbol)
            self.series_symbol.append(symbol)
            self.series_step.append(step)
            self.series_of_venue.append(of_venue)
        return number

    @property
    def is_pair(self) -> IntArray:
        """Whether each symbol is a pair, like BTC/USD: 1 or 0, shape (symbols,)."""
        known = len(self._is_pair)
        if known != len(self.names):
            self._is_pair = np.append(self._is_pair, ["/" in name for name in self.names[known:]]).astype(np.int64)
        return self._is_pair

    @property
    def left_out(self) -> NDArray[np.uint8]:
        """What prints do not count for, by `is_pair` of their symbol and number of their conditions; see `SaleConditions`."""
        known = self._left_out.shape[1]
        if known != len(self.conditions):
            self._left_out = np.append(self._left_out, _TAPES.table(self.conditions[known:]), axis=1)
        return self._left_out

    @property
    def ranks(self) -> IntArray:
        """Place of each symbol number in alphabetical order, shape (symbols,): the tie-breaker of equal times."""
        if len(self._ranks) != len(self.names):
            order = sorted(range(len(self.names)), key=self.names.__getitem__)
            self._ranks = np.empty(len(order), np.int64)
            self._ranks[order] = np.arange(len(order))
        return self._ranks


class _Ints:
    """A column of a table's int64 block."""

    def __init__(self, row: int, doc: str) -> None:
        self.row = row
        self.__doc__ = doc

    @overload
    def __get__(self, table: None, owner: type[Table]) -> Self: ...
    @overload
    def __get__(self, table: Table, owner: type[Table]) -> IntArray: ...
    def __get__(self, table: Table | None, owner: type[Table]) -> Self | IntArray:
        return self if table is None else table.ints[self.row]


class _Floats:
    """A column of a table's float64 block."""

    def __init__(self, row: int, doc: str) -> None:
        self.row = row
        self.__doc__ = doc

    @overload
    def __get__(self, table: None, owner: type[Table]) -> Self: ...
    @overload
    def __get__(self, table: Table, owner: type[Table]) -> FloatArray: ...
    def __get__(self, table: Table | None, owner: type[Table]) -> Self | FloatArray:
        return self if table is None else table.floats[self.row]


class Table(msgspec.Struct, gc=False):
    """Columns of equal length: `ints` of shape (integer columns, n), `floats` of shape (float columns, n)."""

    ints: IntArray
    floats: FloatArray

    INT_COLUMNS: ClassVar[tuple[str, ...]] = ()
    FLOAT_COLUMNS: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.INT_COLUMNS = tuple(name for name, value in vars(cls).items() if isinstance(value, _Ints))
        cls.FLOAT_COLUMNS = tuple(name for name, value in vars(cls).items() if isinstance(value, _Floats))

    def __len__(self) -> int:
        return int(self.ints.shape[1])

    @classmethod
    def empty(cls, n: int = 0) -> Self:
        """A table of `n` rows: zeros in the integers, NaN in the floats."""
        return cls(np.zeros((len(cls.INT_COLUMNS), n), np.int64), np.full((len(cls.FLOAT_COLUMNS), n), np.nan))

    @classmethod
    def from_columns(cls, **columns: Any) -> Self:
        """A table from one sequence per column; a missing float column is NaN, a missing integer column 0.

        Bars and signals without a column `end` end a step after their start.

        Raises
        ------
        ShapeError : a name that is no column, or columns of different lengths.
        """
        unknown = columns.keys() - {*cls.INT_COLUMNS, *cls.FLOAT_COLUMNS}
        lengths = {name: len(values) for name, values in columns.items()}
        if unknown or len(set(lengths.values())) > 1:
            raise ShapeError(f"{cls.__name__}: columns {lengths}, of which unknown {sorted(unknown)}")
        table = cls.empty(next(iter(lengths.values()), 0))
        for name, values in columns.items():
            getattr(table, name)[:] = values
        if "end" in cls.INT_COLUMNS and "end" not in columns:
            table.end[:] = table.event_ts + table.step  # type: ignore[attr-defined]
        return table

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        """The rows of `tables`, one after the other."""
        if len(tables) == 1:
            return tables[0]
        if not tables:
            return cls.empty()
        return cls(
            np.concatenate([table.ints for table in tables], axis=1),
            np.concatenate([table.floats for table in tables], axis=1),
        )

    def rows(self, start: int, stop: int) -> Self:
        """Rows `start` to `stop`, without a copy."""
        return type(self)(self.ints[:, start:stop], self.floats[:, start:stop])

    def take(self, index: NDArray[Any]) -> Self:
        """The rows that `index` (numbers or a mask) names, in its order."""
        return type(self)(np.ascontiguousarray(self.ints[:, index]), np.ascontiguousarray(self.floats[:, index]))


class Trades(Table, gc=False):
    """Prints in the market, in stream order."""

    at = _Ints(0, "position in the stream")
    event_ts = _Ints(1, "when it happened at the venue, ns")
    symbol = _Ints(2, "symbol number")
    seq = _Ints(3, "order among equal times: the row number in the source")
    trade_key = _Ints(4, "identity for dedup, made of the venue's trade id and exchange; 0 where there is none")
    conditions = _Ints(5, "number of the sale conditions in `SymbolTable.conditions`, 0 where there are none")
    price = _Floats(0, "quote currency per unit")
    size = _Floats(1, "units")


class Quotes(Table, gc=False):
    """Best bids and offers, in stream order; NaN on the side that is missing."""

    at = _Ints(0, "position in the stream")
    event_ts = _Ints(1, "when it happened at the venue, ns")
    symbol = _Ints(2, "symbol number")
    seq = _Ints(3, "order among equal times: the row number in the source")
    bid_price = _Floats(0, "quote currency per unit")
    bid_size = _Floats(1, "units")
    ask_price = _Floats(2, "quote currency per unit")
    ask_size = _Floats(3, "units")


class Bars(Table, gc=False):
    """Intervals ``[event_ts, end)``: of a tape, or derived (microbars and what is resampled from them)."""

    at = _Ints(0, "position of the event that made the bar known")
    event_ts = _Ints(1, "start of the interval, ns")
    symbol = _Ints(2, "symbol number")
    seq = _Ints(3, "of a derived bar event_ts // step, so that making it again replaces it; else from the source")
    step = _Ints(4, "length of the interval, ns; of a day always 24 hours")
    series = _Ints(5, "series number: the symbol at this step, of the venue or made here")
    count = _Ints(6, "trades in the interval, 0 where the source does not say")
    end = _Ints(7, "when the bar is complete, ns: event_ts + step, but for days, see `BarEnds`")
    open = _Floats(0, "first price by (event_ts, seq)")
    high = _Floats(1, "highest price")
    low = _Floats(2, "lowest price")
    close = _Floats(3, "last price by (event_ts, seq)")
    volume = _Floats(4, "units traded")
    vwap = _Floats(5, "volume-weighted average price, NaN where the source has none")


class Signals(Table, gc=False):
    """Indicator values at a bar, rows of ``ta_signals``, NaN until warm; and the prices and volume of that bar."""

    at = _Ints(0, "position of the event that made the bar known")
    event_ts = _Ints(1, "start of the bar, ns")
    symbol = _Ints(2, "symbol number")
    seq = _Ints(3, "as the bar's")
    step = _Ints(4, "length of the bar, ns")
    series = _Ints(5, "series number: the symbol at this step, of the venue or made here")
    count = _Ints(6, "as the bar's: a signal shares the integers of its bar")
    end = _Ints(7, "as the bar's")
    macd = _Floats(0, "ema12 - ema26, quote currency")
    macd_signal = _Floats(1, "EMA of macd over 9 bars, quote currency")
    macd_hist = _Floats(2, "macd - macd_signal, quote currency")
    ema12 = _Floats(3, "exponential moving average of the close over 12 bars, quote currency per unit")
    ema26 = _Floats(4, "exponential moving average of the close over 26 bars, quote currency per unit")
    rsi14 = _Floats(5, "relative strength index over 14 changes, 0 to 100")
    boll_mid = _Floats(6, "mean of the last 20 closes, quote currency per unit")
    boll_upper = _Floats(7, "boll_mid + 2 population standard deviations")
    boll_lower = _Floats(8, "boll_mid - 2 population standard deviations")
    vwap_session = _Floats(9, "volume-weighted average price since the session's start")
    vwap_w5m = _Floats(10, "volume-weighted average price of the last 5 minutes")
    imbalance_spread = _Floats(11, "ask - bid of the last fresh quote, quote currency per unit")
    imbalance_bid_px = _Floats(12, "bid price of the last fresh quote")
    imbalance_ask_px = _Floats(13, "ask price of the last fresh quote")
    imbalance_bid_sz = _Floats(14, "bid size of the last fresh quote, units")
    imbalance_ask_sz = _Floats(15, "ask size of the last fresh quote, units")
    vol_realized_w60s = _Floats(16, "population standard deviation of the log returns of the last 60 s")
    # The bar itself: not columns of ta_signals.
    open = _Floats(17, "the bar's")
    high = _Floats(18, "the bar's")
    low = _Floats(19, "the bar's")
    close = _Floats(20, "the bar's: the price that a decision refers to")
    volume = _Floats(21, "the bar's")
    vwap = _Floats(22, "the bar's")


def stored_seq(symbols: SymbolTable, signals: Signals) -> IntArray:
    """The `seq` under which signals are kept, shape (n,): of bars that were made here the bar's.

    Signals of a venue's own bars are made here too, so it is a function of their window: the complement of
    ``event_ts // step``, which no bar that is made here has at that time.
    """
    of_venue = np.array([*symbols.series_of_venue, False]).take(signals.series, mode="clip")
    if not of_venue.any():
        return signals.seq
    return np.where(of_venue, ~(signals.event_ts // np.maximum(signals.step, 1)), signals.seq)


class Batch(msgspec.Struct):
    """One slice of the event stream, and the rows that the stages derived from it.

    Attributes
    ----------
    symbols : the table that the numbers in all columns refer to; the same object in every batch of a run.
    start : position of the batch's first event.
    now : shape (n,), the loop's time at each position, never falling: the largest time at which an event up to there
        became known (``event_ts``; of a tape's bar its `end`). A position without a row in any table is a
        clock tick.
    trades, quotes, bars : the market's events, each table in order of ``at``.
    microbars : derived bars of any step, in order of (at, event_ts, symbol name, step).
    signals : one row per bar of `bars` and `microbars`, in the same order.
    late, duplicates, excluded : how many trades no microbar counts, by reason; `duplicates` also counts what the source has
        left out because it came before.
    implausible_vwaps : bars whose vwap cannot be one of prices from low to high, so that it is not used.
    left_out : shape (2, conditions), what prints do not count for, by `SymbolTable.is_pair` of the symbol and number of the
        sale conditions; where None, as `SymbolTable.left_out`.
    lane : the independent part of its source that it is from, such as a partition: each lane has stream positions,
        symbols and a time of its own. "" of a source that has only one.
    """

    symbols: SymbolTable
    start: int
    now: IntArray
    trades: Trades
    quotes: Quotes
    bars: Bars
    microbars: Bars
    signals: Signals
    late: int = 0
    duplicates: int = 0
    excluded: int = 0
    implausible_vwaps: int = 0
    left_out: NDArray[np.uint8] | None = None
    lane: str = ""

    @classmethod
    def of(
        cls,
        symbols: SymbolTable,
        start: int,
        now: IntArray,
        trades: Trades | None = None,
        quotes: Quotes | None = None,
        bars: Bars | None = None,
    ) -> Self:
        """A batch as a source makes it: events only, nothing derived yet."""
        return cls(
            symbols,
            start,
            now,
            NO_TRADES if trades is None else trades,
            NO_QUOTES if quotes is None else quotes,
            NO_BARS if bars is None else bars,
            NO_BARS,
            NO_SIGNALS,
        )

    def __len__(self) -> int:
        return len(self.now)

    @property
    def stop(self) -> int:
        """Position after the batch's last event."""
        return self.start + len(self.now)

    @property
    def counting_trades(self) -> Trades:
        """The trades whose price counts."""
        symbols, trades = self.symbols, self.trades
        left_out = symbols.left_out if self.left_out is None else self.left_out
        if not len(trades) or not left_out.any():
            return trades
        counts = left_out[symbols.is_pair[trades.symbol], trades.conditions] & NO_PRICE == 0
        return trades if counts.all() else trades.take(counts)

    @property
    def counting_quotes(self) -> Quotes:
        """The quotes that say something about the price; one with a single side may be a stub, and says nothing."""
        quotes = self.quotes
        counts = is_sane(quotes.bid_price, quotes.ask_price)
        return quotes if counts.all() else quotes.take(counts)

    def split(self, at: int) -> tuple[Self, Self]:
        """The events before position `at` in the stream and those from it on, as two batches of source events."""
        cut = at - self.start

        def halves(table: Any) -> tuple[Any, Any]:
            row = int(np.searchsorted(table.at, at))
            return table.rows(0, row), table.rows(row, len(table))

        trades, quotes, bars = halves(self.trades), halves(self.quotes), halves(self.bars)
        first = self.of(self.symbols, self.start, self.now[:cut], trades[0], quotes[0], bars[0])
        first.duplicates = self.duplicates  # a count of the whole, whatever is done with the second
        return first, self.of(self.symbols, at, self.now[cut:], trades[1], quotes[1], bars[1])


NO_TRADES = Trades.empty()
NO_QUOTES = Quotes.empty()
NO_BARS = Bars.empty()
NO_SIGNALS = Signals.empty()


class Message(msgspec.Struct, frozen=True, gc=False):
    """One event as it travels between processes: an envelope, encoded.

    `channel` is the envelope's (``trades``, ``quotes``, ``bars``, ``status``, ``microbars``, ``signals``,
    ``ta-status``) and decides the topic; `symbol` is the key, by which a topic is partitioned.
    """

    channel: str
    symbol: str
    value: bytes


SIGNAL_COLUMNS: tuple[str, ...] = Signals.FLOAT_COLUMNS[: Signals.open.row]
"""The value columns of ``ta_signals``: what a strategy may ask for in `columns`."""


class Signal(msgspec.Struct, frozen=True, gc=False):
    """One row as a strategy sees it: symbol, time, the bar's prices and volume, and just the columns and features asked for.

    The rows that a strategy gets are of a subclass made for it; reading another column raises `AttributeError`. Every column
    and feature that was asked for has a value, but for the optional ones: a strategy does not get rows with a missing one.
    """

    symbol: str
    event_ts: int

    if TYPE_CHECKING:
        bars: Signals
        row: int
        macd: float
        macd_signal: float
        macd_hist: float
        ema12: float
        ema26: float
        rsi14: float
        boll_mid: float
        boll_upper: float
        boll_lower: float
        vwap_session: float
        vwap_w5m: float
        imbalance_spread: float
        imbalance_bid_px: float
        imbalance_ask_px: float
        imbalance_bid_sz: float
        imbalance_ask_sz: float
        vol_realized_w60s: float

    def __getattr__(self, name: str) -> float:
        """Say what the row has; its own columns and features are found without this."""
        known = [each for each in self.__struct_fields__ if each not in ("bars", "row")]
        raise AttributeError(f"a row has no {name!r} (it has open, high, low, close, volume, {', '.join(known)})")

    @property
    def open(self) -> float:
        """The bar's first price, quote currency per unit."""
        return self.bars.floats.item(_OPEN, self.row)

    @property
    def high(self) -> float:
        """The bar's highest price."""
        return self.bars.floats.item(_HIGH, self.row)

    @property
    def low(self) -> float:
        """The bar's lowest price."""
        return self.bars.floats.item(_LOW, self.row)

    @property
    def close(self) -> float:
        """The bar's last price."""
        return self.bars.floats.item(_CLOSE, self.row)

    @property
    def volume(self) -> float:
        """Units traded in the bar."""
        return self.bars.floats.item(_VOLUME, self.row)

    def to_record(self) -> dict[str, Any]:
        """Symbol, time, columns and features."""
        record = msgspec.structs.asdict(self)
        del record["bars"], record["row"]
        return {name: value if value == value else None for name, value in record.items()}


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A print in the market, as a strategy sees it; see `Trades`."""

    symbol: str
    event_ts: int
    price: float
    size: float


class Quote(msgspec.Struct, frozen=True, gc=False):
    """A best bid and offer, as a strategy sees it; see `Quotes`."""

    symbol: str
    event_ts: int
    bid_price: float
    bid_size: float
    ask_price: float
    ask_size: float


class Slice(Mapping[str, Signal]):
    """The rows that became known at one time, by symbol.

    Examples
    --------
    >>> row = signal_type(("rsi14",))
    >>> slice = Slice([row("ES", 0, 31.5), row("NQ", 0, 64.0)])
    >>> slice.symbols, slice["NQ"].rsi14, max(slice.values(), key=lambda row: row.rsi14).symbol
    (('ES', 'NQ'), 64.0, 'NQ')
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: Iterable[Signal]) -> None:
        self._rows = {row.symbol: row for row in rows}

    def __getitem__(self, symbol: str) -> Signal:
        return self._rows[symbol]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that have a row, by name."""
        return tuple(self._rows)


class History(msgspec.Struct, frozen=True, gc=False):
    """The last bars of a symbol as read-only arrays of shape (bars,), the newest one last."""

    event_ts: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.event_ts)


_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = (
    Signals.open.row, Signals.high.row, Signals.low.row, Signals.close.row, Signals.volume.row,
)  # fmt: skip


@cache
def signal_type(columns: tuple[str, ...]) -> type[Signal]:
    """The class of the signal rows that carry `columns`, and features of these names.

    After their values it takes the table that has the bar, and its row there.

    Examples
    --------
    >>> row = signal_type(("rsi14",))("ES", 0, 31.5)
    >>> row.symbol, row.rsi14
    ('ES', 31.5)
    """
    fields = [(column, float) for column in columns]
    rest: list[Any] = [("bars", Any, None), ("row", int, 0)]
    return cast("type[Signal]", msgspec.defstruct("Signal", [*fields, *rest], bases=(Signal,), frozen=True, gc=False))
