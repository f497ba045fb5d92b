"""From files of market data to one tape: every guess is said, and no row is lost without a reason and its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as arrow
from numpy.typing import NDArray

from torghut_core.errors import InputError
from torghut_core.market_data.imports.cells import NEVER, Times, Unclear, is_decimal_comma, numbers, text
from torghut_core.market_data.imports.files import Block, Left, Lines, Member, Records, members, reading
from torghut_core.market_data.imports.layouts import (
    BINANCE_COLUMNS,
    Layout,
    header_names,
    recognize,
    recognize_ticker,
    yfinance_columns,
)
from torghut_core.market_data.imports.staging import SCHEMAS, Staging, beside
from torghut_core.model.market import (
    SYMBOL_PATTERN,
    TIMEFRAME_NAMES,
    Bars,
    FloatArray,
    IntArray,
    Quotes,
    Table,
    Trades,
    window_size,
)
from torghut_core.model.row_rules import row_rules
from torghut_core.timestamps import DAY, HOUR, MILLISECOND, format_timestamp

KNOWN_STEPS = (DAY, 7 * DAY)
"""Of a day and more only days and weeks are concluded: a few daily bars with days between them look like longer ones."""

_TABLES: dict[str, type[Table]] = {"bars": Bars, "trades": Trades, "quotes": Quotes}
_PRICES = ("open", "high", "low", "close", "vwap", "price", "bid_price", "ask_price")
_NEEDED = ("open", "high", "low", "close", "price", "size")


@dataclass(frozen=True)
class Options:
    """What a person says of the files; what is None or empty is found in them.

    Attributes
    ----------
    format : one of `layouts.FORMATS`.
    columns : names of the columns, in order; "" for one that is not taken.
    symbol : of all rows.
    step : length of the bars, ns.
    zone : of times that name none.
    epoch : unit of epoch times.
    dates : order of day and month, ``dmy`` or ``mdy``.
    decimal : what begins the decimals, ``point`` or ``comma``.
    times : whether a bar's time is its start or its end.
    divisor : by which prices are divided.
    is_adjusted : whether prices become those of the column of adjusted closes.
    on_bad_row : stop at a row that cannot be taken, or leave it out and say so.
    """

    format: str = "auto"
    columns: tuple[str, ...] = ()
    symbol: str = ""
    step: int | None = None
    zone: str | None = None
    epoch: str | None = None
    dates: str | None = None
    decimal: str | None = None
    times: Literal["start", "end"] = "start"
    divisor: float | None = None
    is_adjusted: bool = False
    on_bad_row: Literal["fail", "skip"] = "fail"


class LeftOut(msgspec.Struct, frozen=True):
    """Rows of a file that are not in the tape: why, how many, the first, and what it had."""

    file: str
    reason: str
    rows: int
    first: int
    example: str = ""


class Imported(msgspec.Struct, frozen=True):
    """A tape that was made.

    Attributes
    ----------
    out : the tape.
    kind : bars, trades or quotes.
    rows : in the tape; `read` : in the files. The difference is in `left_out`.
    symbols : rows by symbol, before bars that came again were left out.
    first, last : times of the first and the last row, RFC 3339.
    timeframe : of bars, "" for others.
    files : rows that were read of each.
    guesses : what was concluded from the files, each with the flag that says otherwise.
    notes : what to know of the tape.
    left_out : rows that were not taken.
    """

    out: str
    kind: str
    rows: int
    read: int
    symbols: dict[str, int]
    first: str
    last: str
    timeframe: str
    files: dict[str, int]
    guesses: list[str]
    notes: list[str]
    left_out: list[LeftOut]


def import_files(
    paths: Sequence[Path],
    out: Path,
    options: Options,
    *,
    check: Callable[[Path], None] = lambda _tape: None,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> Imported:
    """Make one tape of files; it appears whole or not at all.

    Parameters
    ----------
    check : called with the tape before it takes its place; raises where it cannot be replayed.
    on_progress : called with the rows that were read so far.

    Raises
    ------
    InputError : a file cannot be read, something about it has to be said first, or a row cannot be taken.
    """
    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: a tape that is imported is a Parquet file (end its name in .parquet)")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent} (make it, or choose another file)")
    with beside(out) as (folder, part):
        run = _Import(options, folder, on_progress)
        for path in paths:
            for member in members(path):
                run.take(member)
        done = run.finish(out, part)
        check(part)
    return done


class _Import:
    """One import while it runs."""

    def __init__(self, options: Options, folder: Path, on_progress: Callable[[int], None]) -> None:
        self._options = options
        self._folder = folder
        self._on_progress = on_progress
        self._staging: Staging | None = None
        self._step = options.step
        self._step_of = "--timeframe"
        self._files: dict[str, int] = {}
        self._guesses: Counter[str] = Counter()
        self._symbols: Counter[str] = Counter()
        self._left: dict[tuple[str, str], LeftOut] = {}
        self._notes: dict[str, int] = {}
        self._bounds = (2**63 - 1, -(2**63))
        self._read = 0

    def take(self, member: Member) -> None:
        """Add the rows of a file."""
        is_json = Path(member.entry or member.path.name.removesuffix(".gz")).suffix.lower() == ".json"
        file: Lines | Records = Records(member) if is_json else Lines(member)
        given = self._options.columns
        if isinstance(file, Lines) and not given and self._options.format in ("auto", "yahoo"):
            tickers = yfinance_columns(file.heads)
            if tickers:
                self._take_tickers(member, file, tickers)
                return
        layout = recognize(member.path, member.entry, file.cells, "generic" if is_json else self._options.format, given)
        names = (
            list(given)
            if given
            else header_names(file.cells)
            if layout.is_headed
            else list(layout_columns(layout, file.cells))
        )
        if len(names) != len(file.cells):
            raise InputError(
                f"{member}: has {len(file.cells)} fields in its first line, and {len(names)} names are given "
                "(name each, or leave the name of one not to take empty: --columns time,,open,high,low,close)"
            )
        layout = self._completed(member, layout)
        self._begin(member, layout)
        if isinstance(file, Records):
            blocks = file.blocks([column for columns in layout.columns.values() for column in columns])
        else:
            self._leave_out(member, file.before())
            blocks = file.blocks(self._chosen(layout, names), heads=int(layout.is_headed))
        _File(self, member, layout, getattr(file, "delimiter", ","), self._options).take(blocks)

    def _take_tickers(self, member: Member, file: Lines, tickers: dict[str, list[str]]) -> None:
        """Add the rows of a file of yfinance: a series for each ticker."""
        if self._options.symbol and len(tickers) > 1:
            raise InputError(f"{member}: has {len(tickers)} tickers, and --symbol names one (leave it out)")
        self._leave_out(member, file.before())
        for ticker, names in tickers.items():
            layout = self._completed(member, recognize_ticker(member.path, member.entry, ticker, names))
            self._begin(member, layout)
            blocks = file.blocks(self._chosen(layout, names), heads=len(file.heads))
            if len(tickers) > 1:
                blocks = self._with_values(blocks, names[0])
            _File(self, member, layout, file.delimiter, self._options).take(blocks)

    def _with_values(self, blocks: Iterator[Block], time: str) -> Iterator[Block]:
        """Yield the rows that have more than a time: others are there for the sake of another ticker."""
        for block in blocks:
            is_row = np.zeros(len(block.places), np.bool_)
            for name, column in block.columns.items():
                if name != time:
                    is_row |= np.from_dlpack(pc.binary_length(column)) > 0
            if not is_row.all():
                self.note(
                    "bars are missing of one of the tickers: their fields are empty", int(np.count_nonzero(~is_row))
                )
            columns = {name: column.filter(pa.array(is_row)) for name, column in block.columns.items()}
            yield Block(columns, block.places[is_row], block.left)

    def _begin(self, member: Member, layout: Layout) -> None:
        if self._staging is None:
            self._staging = Staging(layout.kind, self._folder)
        elif self._staging.kind != layout.kind:
            raise InputError(
                f"{member}: has {layout.kind}, the files before it {self._staging.kind} (import them apart)"
            )
        self._files.setdefault(str(member), 0)

    def _chosen(self, layout: Layout, names: Sequence[str]) -> list[str]:
        """Give the names of the columns to take, "" for others, and say which are not taken."""
        wanted = {column for columns in layout.columns.values() for column in columns}
        ignored = [name for name in names if name and name not in wanted]
        if ignored:
            self._guesses[f"columns that are not taken: {', '.join(ignored)}"] += 1
        return [name if name in wanted else "" for name in names]

    def _completed(self, member: Member, layout: Layout) -> Layout:
        """What is said of the file instead of what was concluded, and the guesses that are left."""
        options = self._options
        if options.symbol:
            layout = replace(layout, symbol=options.symbol)
        elif "symbol" not in layout.columns and not layout.symbol:
            raise InputError(f"{member}: nothing says which symbol this is (say it: --symbol AAPL)")
        if options.step is not None:
            layout = replace(layout, step=options.step)
        if options.zone is not None:
            layout = replace(layout, zone=options.zone)
        if options.divisor is not None:
            layout = replace(layout, divisor=options.divisor)
        if options.is_adjusted and "adjusted_close" not in layout.columns:
            raise InputError(
                f"{member}: --adjusted needs a column of adjusted closes, such as Adj Close (leave it out)"
            )
        self._guesses[f"format {layout.name}, {layout.kind}"] += 1
        self._guesses.update(layout.guesses)
        return layout

    def add(
        self, member: Member, columns: dict[str, Any], times: IntArray, places: IntArray, left: list[Left], n: int
    ) -> None:
        """Keep the good rows of a block of a file of `n` rows."""
        self._leave_out(member, left)
        self._read += n
        self._files[str(member)] += n
        assert self._staging is not None
        if len(times):
            counted = columns["symbol"].value_counts()
            self._symbols.update(dict(zip(*(counted.field(each).to_pylist() for each in (0, 1)), strict=True)))
            self._bounds = min(self._bounds[0], int(times.min())), max(self._bounds[1], int(times.max()))
            number = list(self._files).index(str(member))
            place = {"file": pa.array(np.full(len(times), number, np.int32)), "place": pa.array(places)}
            self._staging.add(columns | place, times)
        self._on_progress(self._read)

    def set_step(self, member: Member, step: int, guess: str) -> None:
        """The bars of a file are of this length, as all before."""
        if self._step is None:
            self._step, self._step_of = step, str(member)
        elif self._step != step:
            raise InputError(
                f"{member}: has bars of {_timeframe(step)}, {self._step_of} of {_timeframe(self._step)} "
                "(import them apart, or say what all are: --timeframe 1Min)"
            )
        if guess:
            self._guesses[guess] += 1

    def guess(self, what: str) -> None:
        """Say once what was concluded."""
        self._guesses[what] += 1

    def note(self, what: str, rows: int) -> None:
        """Count rows of which something is to be known."""
        self._notes[what] = self._notes.get(what, 0) + rows

    def finish(self, out: Path, part: Path) -> Imported:
        """Write the tape; nothing can be added after."""
        staging = self._staging
        if staging is None or not staging.rows:
            reasons = "".join(f"; {each.reason}: {each.rows}" for each in self._left.values())
            raise InputError(f"nothing to import: no row could be taken{reasons} (name files with rows in them)")
        if staging.early:
            self.note("rows came after later ones, and were sorted by time", staging.early)
        repeats = staging.write(part, self._step if staging.kind == "bars" else None)
        files = list(self._files)
        for rows, first, reason in (
            (repeats.same, repeats.first_same, f"the same {staging.kind[:-1]} came before"),
            (
                repeats.other,
                repeats.first_other,
                "a bar of the symbol and time came before, with other values: the first counts",
            ),
        ):
            if first is not None:
                where, place = files[first[0]], first[1]
                if reason.startswith("a bar") and self._options.on_bad_row == "fail":
                    raise InputError(
                        f"{where}: line {place}: {reason[:-18]} ({rows} such bars; --on-bad-row skip takes the first of each)"
                    )
                self._left[where, reason] = LeftOut(where, reason, rows, place)
        return Imported(
            out=str(out),
            kind=staging.kind,
            rows=staging.rows - repeats.same - repeats.other,
            read=self._read,
            symbols=dict(sorted(self._symbols.items())),
            first=format_timestamp(self._bounds[0]),
            last=format_timestamp(self._bounds[1]),
            timeframe=_timeframe(self._step) if staging.kind == "bars" and self._step else "",
            files=self._files,
            guesses=list(self._guesses),
            notes=[f"{rows:,} {what}" for what, rows in self._notes.items()],
            left_out=sorted(self._left.values(), key=lambda each: (files.index(each.file), each.first)),
        )

    def _leave_out(self, member: Member, left: list[Left]) -> None:
        for each in left:
            if self._options.on_bad_row == "fail" and each.reason != "lines before the header":
                example = f": {each.example}" if each.example else ""
                raise InputError(
                    f"{member}: line {each.place}: {each.reason}{example} (fix the row, or leave it out: --on-bad-row skip)"
                )
            key = str(member), each.reason
            before = self._left.get(key)
            if before is None:
                self._left[key] = LeftOut(str(member), each.reason, each.rows, each.place, each.example)
            else:
                self._left[key] = msgspec.structs.replace(before, rows=before.rows + each.rows)
            if each.reason.startswith("has another"):
                self._read += each.rows
                self._files[str(member)] += each.rows


def layout_columns(layout: Layout, cells: Sequence[str]) -> Iterator[str]:
    """Yield the names of the columns of a file without a header, in order; "" for what has none."""
    names = list(BINANCE_COLUMNS) if layout.name == "binance" else [columns[0] for columns in layout.columns.values()]
    yield from (names + [""] * len(cells))[: len(cells)]


class _File:
    """One file while its rows are taken."""

    def __init__(self, run: _Import, member: Member, layout: Layout, delimiter: str, options: Options) -> None:
        self._run = run
        self._member = member
        self._layout = layout
        self._delimiter = delimiter
        self._options = options
        self._times = Times(layout.zone, options.epoch, options.dates, are_distinct=layout.kind == "bars")
        self._said = False
        self._comma: bool | None = None
        if options.decimal is not None:
            self._comma = options.decimal == "comma"

    def take(self, blocks: Iterator[Block]) -> None:
        with reading(self._member):
            for block in blocks:
                try:
                    self._take(block)
                except Unclear as unclear:
                    place = block.places[0] if len(block.places) else 1
                    raise InputError(f"{self._member}: line {place}: {unclear} (say it: {unclear.flag})") from None
        for unit, rows in self._times.units.items():
            if self._options.epoch is None:
                self._run.guess(f"times are epoch {unit} in {rows:,} rows of {self._member}: their size (--epoch)")
        if self._times.is_order_found:
            self._run.guess(f"dates are {self._times.order}: a number is above 12 (--dates)")
        if self._times.repeated_hours:
            self._run.note(
                "times are in the hour that comes twice when clocks go back: the first, unless the rows of the symbol went back",
                self._times.repeated_hours,
            )

    def _take(self, block: Block) -> None:
        n = len(block.places)
        if not n:
            self._run.add(self._member, {}, np.empty(0, np.int64), block.places, block.left, 0)
            return
        layout, left = self._layout, list(block.left)
        bad = np.zeros(n, np.bool_)

        def leave(rows: NDArray[np.bool_], reason: str, column: pa.Array | None = None) -> None:
            new = rows & ~bad
            if new.any():
                at = int(new.argmax())
                value = "" if column is None else repr(column[at].as_py())
                left.append(Left(int(block.places[at]), reason, value, int(np.count_nonzero(new))))
                bad[new] = True

        def column(name: str) -> pa.Array:
            parts = [block.columns[each] for each in layout.columns[name]]
            return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, " ")

        symbols = self._symbols(
            column("symbol") if "symbol" in layout.columns and not self._options.symbol else None, n
        )
        is_symbol = pc.fill_null(pc.match_substring_regex(symbols, f"^(?:{SYMBOL_PATTERN.pattern})$"), False)
        leave(~_mask(is_symbol), "symbol is missing or no symbol of A-Z, 0-9 and . _ / -", symbols)
        times = self._event_times(column("time"), symbols)
        leave(times == NEVER, "time cannot be read", column("time"))
        if self._comma is None:
            named = [column(name) for name in layout.columns if name in _PRICES or name in ("size", "volume")]
            self._comma = is_decimal_comma([each for each in named if arrow.is_string(each.type)], self._delimiter)
            if self._comma:
                self._run.guess("decimals begin with a comma (--decimal)")
        values: dict[str, FloatArray] = {}
        for name in (*_TABLES[layout.kind].FLOAT_COLUMNS, "trade_count", "adjusted_close"):
            if name in layout.columns:
                values[name], wrong = numbers(column(name), comma=self._comma)
                leave(wrong, f"{name} is no number", column(name))
                if name in _NEEDED:
                    leave(np.isnan(values[name]), f"{name} is missing")
        if layout.divisor != 1:
            for name in _PRICES:
                if name in values:
                    values[name] = values[name] / layout.divisor
        if layout.kind == "bars":
            self._complete_bars(values, n, leave)
            times = self._starts(times, symbols, bad, block)
            leave(times == NEVER, "time cannot be read", column("time"))
        self._check(values, times, leave)
        good = pa.array(~bad)
        kept: dict[str, Any] = {"symbol": symbols.filter(good)}
        kept["event_ts"] = pa.array(times[~bad]).cast(pa.timestamp("ns", "UTC"))
        for name, type_ in SCHEMAS[layout.kind][2:]:
            if name in values:
                array = pa.array(values[name][~bad])
                is_none = pa.array(np.isnan(values[name][~bad]))
                filled = pc.if_else(is_none, pa.scalar(None, pa.float64()), array)
                kept[name] = filled if type_ == pa.float64() else filled.cast(type_, safe=False)
            elif name in layout.columns:
                kept[name] = self._text(column(name), type_).filter(good)
        self._run.add(self._member, kept, times[~bad], block.places[~bad], left, n)

    def _symbols(self, column: pa.Array | None, n: int) -> pa.Array:
        if column is None:
            return pa.array([self._layout.symbol]).take(pa.array(np.zeros(n, np.int64)))
        return pc.utf8_upper(text(column))

    def _event_times(self, column: pa.Array, symbols: pa.Array) -> IntArray:
        if self._layout.day is None:
            return self._times.read(column, symbols)
        since, wrong = numbers(column)
        is_clock = ~wrong & (since >= 0) & (since < 86_400_000)
        clock = np.where(is_clock, np.round(np.where(is_clock, since, 0) * MILLISECOND), 0).astype(np.int64)
        return self._times.local(np.where(is_clock, self._layout.day + clock, NEVER), symbols)

    def _complete_bars(self, values: dict[str, FloatArray], n: int, leave: Callable[..., None]) -> None:
        if "volume" not in values:
            values["volume"] = np.zeros(n)
            self._run.note("bars have a volume of 0: there is no column of volumes", n)
        else:
            none = np.isnan(values["volume"]) & np.isfinite(values["close"])
            if none.any():
                values["volume"] = np.where(none, 0, values["volume"])
                self._run.note("bars have a volume of 0: theirs is missing", int(np.count_nonzero(none)))
        adjusted = values.pop("adjusted_close", None)
        if adjusted is not None and self._options.is_adjusted:
            leave(~(adjusted > 0), "the adjusted close is missing or not positive")
            with np.errstate(invalid="ignore", divide="ignore"):
                factor = adjusted / values["close"]
            for name in ("open", "high", "low", "vwap"):
                if name in values:
                    values[name] = values[name] * factor
            values["close"] = adjusted
            for name in ("open", "high", "low"):  # a product may be off in its last digit
                near = np.abs(values[name] - adjusted) <= 1e-12 * np.abs(adjusted)
                values[name] = np.where(near, adjusted, values[name])
            values["high"] = np.where(
                np.abs(values["high"] - values["open"]) <= 1e-12 * np.abs(values["open"]),
                values["open"],
                values["high"],
            )
            self._run.guess("prices are adjusted, as the adjusted close; volumes stay (leave out --adjusted)")
        elif adjusted is not None:
            self._run.guess("prices are those of the columns, and the adjusted close is not used (--adjusted)")

    def _starts(self, times: IntArray, symbols: pa.Array, bad: NDArray[np.bool_], block: Block) -> IntArray:
        """Give the starts of bars, and find their length once."""
        layout = self._layout
        if layout.step is None:
            step, why = None, ""
            if "end" in layout.columns:
                ends = self._times.read(block.columns[layout.columns["end"][0]], symbols)
                known = (ends != NEVER) & (times != NEVER) & ~bad
                if known.any():
                    length = int(ends[known][0]) - int(times[known][0])
                    step, why = -(-length // MILLISECOND) * MILLISECOND, "open and close times"
            else:
                step, why = _step_of(times[~bad], symbols.filter(pa.array(~bad))), "the times of the bars"
            if step is None or not (0 < step < DAY or step in KNOWN_STEPS):
                raise Unclear("the times do not show how long the bars are", "--timeframe 1Min")
            self._layout = layout = replace(layout, step=step)
            self._run.set_step(self._member, step, f"bars of {_timeframe(step)}: {why} (--timeframe)")
            self._say_which_end()
        elif layout.step is not None and not self._said:
            self._run.set_step(self._member, layout.step, "")
            self._say_which_end()
        assert layout.step is not None
        if self._options.times == "end":
            times = np.where(times == NEVER, NEVER, times - layout.step)
        if layout.step < DAY:
            off = int(np.count_nonzero((times % layout.step != 0) & (times != NEVER) & ~bad))
            if off:
                self._run.note(
                    f"bars do not begin at a multiple of {_timeframe(layout.step)} (is --timeframe right?)", off
                )
        return times

    def _say_which_end(self) -> None:
        self._said = True
        if self._options.times == "start":
            self._run.guess("the time of a bar is its start (--times end says otherwise)")

    def _check(self, values: dict[str, FloatArray], times: IntArray, leave: Callable[..., None]) -> None:
        """Leave out rows that break a rule of the tape reader."""
        table_type = _TABLES[self._layout.kind]
        columns: dict[str, Any] = {name: values[name] for name in table_type.FLOAT_COLUMNS if name in values}
        if table_type is Bars:
            columns["step"] = np.full(len(times), self._layout.step or 0)
        table = table_type.from_columns(event_ts=np.where(times == NEVER, 0, times), **columns)
        for good, name, must in row_rules(table):
            shown = None
            if name in values:
                shown = pa.array(values[name])
            leave(~good, f"{name} {must}", shown)
        for name in columns.keys() & values.keys():
            values[name] = getattr(table, name)

    def _text(self, column: pa.Array, type_: pa.DataType) -> pa.Array:
        column = text(column)
        if type_ != pa.bool_():
            return column
        return pc.is_in(pc.utf8_lower(column), pa.array(["1", "true", "t"]))


def _step_of(times: IntArray, symbols: pa.Array) -> int | None:
    """Give the length of bars from their times, ns: the largest of which every gap of a symbol is a multiple, whole days from 23 hours on."""
    if not len(times):
        return None
    codes = np.from_dlpack(symbols.dictionary_encode().indices)
    order = np.lexsort((times, codes))
    gaps = np.diff(times[order])[np.diff(codes[order]) == 0]
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return None
    smallest = int(gaps.min())
    return round(smallest / DAY) * DAY if smallest >= 23 * HOUR else int(np.gcd.reduce(gaps))


def _timeframe(step: int) -> str:
    return TIMEFRAME_NAMES.get(step) or window_size(step)


def _mask(column: pa.Array) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = np.from_dlpack(column.cast(pa.uint8())) != 0
    return values
