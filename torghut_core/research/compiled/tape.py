"""A tape as a compiled backtest reads it: its bars, and the rows of signals, with all that is the same for every parameter set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torghut_core.boundary import SourceIterator, bound_method, call_plugin, without_event_loop
from torghut_core.calendars import ROUND_THE_CLOCK, exchange_sessions
from torghut_core.feature_graph import FeatureGraph, FeaturePlan, Frame
from torghut_core.feature_graph.graph import BARS_OF_SLICE
from torghut_core.generation import Generation
from torghut_core.model.market import NO_SIGNALS, Bars, Batch, FloatArray, IntArray, Signals, SymbolTable
from torghut_core.model.trading import money
from torghut_core.research.compiled.walk import IS_NEWS, IS_OPEN
from torghut_core.research.performance.curve import BarSeries
from torghut_core.stages.base import kernel
from torghut_core.timestamps import DAY, to_datetime
from torghut_core.trading.recent_prices import BEFORE
from torghut_core.trading.series import TradedSeries

YEAR = 366 * DAY
PRICES = ("open", "high", "low", "close", "volume")


class Part(NamedTuple):
    """What came as one batch: its positions and its rows of signals, both from the first to behind the last."""

    start: int
    stop: int
    first_row: int
    stop_row: int


class Tape(NamedTuple):
    """What a source and its stages give, from the first event to the last.

    Attributes
    ----------
    symbols : of the whole tape.
    parts : the batches, in order.
    ints : shape (integer columns, rows), of the signals of the tape that strategies see.
    floats : their columns of shape (rows,) by name: prices, volume, and those that have a value anywhere.
    bars : the events, all of them bars.
    derived : the bars that the stages made of them.
    now : shape (events,), the loop's time at each position.
    has_others : whether there were trades or quotes too.
    """

    symbols: SymbolTable
    parts: list[Part]
    ints: IntArray
    floats: dict[str, FloatArray]
    bars: Bars
    derived: Bars
    now: IntArray
    has_others: bool

    def column(self, name: str) -> IntArray:
        """An integer column of the signals, shape (rows,)."""
        found: IntArray = self.ints[getattr(Signals, name).row]
        return found

    def batches(self) -> Iterator[Batch]:
        """Yield the signals as batches without their events."""
        missing = [row for row, name in enumerate(Signals.FLOAT_COLUMNS) if name not in self.floats]
        for start, stop, first, last in self.parts:
            floats = np.empty((len(Signals.FLOAT_COLUMNS), last - first))
            floats[missing] = np.nan
            for name, column in self.floats.items():
                floats[getattr(Signals, name).row] = column[first:last]
            batch = Batch.of(self.symbols, start, self.now[start:stop])
            batch.signals = Signals(np.ascontiguousarray(self.ints[:, first:last]), floats)
            yield batch


def read_tape(generation: Generation, batch_size: int, on_progress: Callable[[int], None]) -> Tape:
    """Read the tape of a generation through its stages, which are used up: they keep their state.

    Raises
    ------
    TapeError : from the source.
    PluginError : source or stage raised something else.
    """
    return asyncio.run(_read(generation, batch_size, on_progress))


async def _read(generation: Generation, batch_size: int, on_progress: Callable[[int], None]) -> Tape:
    source = generation.source
    assert source is not None
    stages = [(generation.name_of(stage), bound_method(stage, "update")) for stage in generation.stages]
    series = TradedSeries()
    parts: list[Part] = []
    rows: list[IntArray] = []
    columns: dict[str, list[tuple[slice, FloatArray]]] = {name: [] for name in PRICES}
    bars: list[Bars] = []
    derived: list[Bars] = []
    times: list[IntArray] = []
    last: Batch | None = None
    has_others = False

    def take(batch: Batch) -> None:
        with without_event_loop():
            for name, update in stages:
                batch = call_plugin(name, update, batch)
        signals = series.choose(batch).signals
        first = parts[-1].stop_row if parts else 0
        part = Part(batch.start, batch.stop, first, first + len(signals))
        parts.append(part)
        if len(signals):
            rows.append(signals.ints)
        for name in Signals.FLOAT_COLUMNS:
            column: FloatArray = getattr(signals, name)
            if (column == column).any():  # what nobody asked for is NaN
                columns.setdefault(name, []).append((slice(first, part.stop_row), column.copy()))
        if len(batch.microbars):
            derived.append(batch.microbars)
        times.append(batch.now)

    async for batch in SourceIterator(generation.name_of(source), lambda: source.batches(batch_size)):
        has_others |= bool(len(batch.trades) or len(batch.quotes))
        if len(batch.bars):
            bars.append(batch.bars)
        take(batch)
        last = batch
        on_progress(batch.stop)
    if last is not None:  # a clock tick after the last event, at which every window that is complete comes out
        with without_event_loop():
            waits = [
                call_plugin(generation.name_of(stage), bound_method(stage, "drain_ns")) for stage in generation.stages
            ]
        take(Batch.of(last.symbols, last.stop, np.array([last.now[-1] + max(waits, default=0)], np.int64)))
    symbols = SymbolTable() if last is None else last.symbols
    now = np.concatenate([*times, np.zeros(0, np.int64)])
    all_bars = Bars.concatenate(bars)
    is_shared = len(rows) == len(bars) and all(own is table.ints for own, table in zip(rows, bars, strict=True))
    ints = all_bars.ints if is_shared else np.concatenate([NO_SIGNALS.ints, *rows], axis=1)
    rows.clear()
    bars.clear()
    count = ints.shape[1]
    floats = {name: _whole(columns.pop(name), count) for name in list(columns)}
    return Tape(symbols, parts, ints, floats, all_bars, Bars.concatenate(derived), now, has_others)


def _whole(pieces: list[tuple[slice, FloatArray]], count: int) -> FloatArray:
    """A column of so many rows of what is known of it; NaN elsewhere."""
    whole = np.full(count, np.nan)
    for rows, values in pieces:
        whole[rows] = values
    return whole


class FrameTable(NamedTuple):
    """The rows of a frame over the whole tape: columns of shape (rows,)."""

    at: IntArray
    rank: IntArray
    symbol: IntArray
    event_ts: IntArray
    end: IntArray
    now: IntArray
    prices: dict[str, FloatArray]
    """Open, high, low, close and volume."""


def compute(tape: Tape, plan: FeaturePlan, nodes: Collection[str]) -> tuple[dict[str, FloatArray], set[str]]:
    """The values of nodes of a plan in the rows of their frames, over the whole tape; and which of them have failed."""
    graph = FeatureGraph(plan)
    parts: dict[str, list[FloatArray]] = {node: [] for node in nodes}
    for batch in tape.batches():
        graph.update(batch)
        for node, found in parts.items():
            found.append(graph.values[node])
    values = {node: np.concatenate(found) if len(found) > 1 else found[0] for node, found in parts.items()}
    failed = set(graph.failed)
    for key, planned in plan.nodes.items():
        if failed.intersection(planned.inputs):
            failed.add(key)
    return values, failed


def frame_tables(tape: Tape, plan: FeaturePlan, frames: Collection[Frame]) -> dict[Frame, FrameTable]:
    """The rows of frames over the whole tape."""
    graph = FeatureGraph(FeaturePlan(symbols=plan.symbols))
    parts: dict[Frame, list[list[Any]]] = {frame: [] for frame in frames}
    names = ("at", "symbol", "event_ts", "end")
    before = 0
    for batch in tape.batches():
        graph.update(batch)
        for frame, found in parts.items():
            rows = graph.rows[frame]
            signals, index = rows.signals, rows.rows
            times = graph.times(batch, signals.at[index])
            if not frame.is_sliced:
                found.append([index + before, times])
                continue
            bar = rows.known % (1 << BARS_OF_SLICE)
            rank = (bar << BARS_OF_SLICE) + batch.symbols.ranks[rows.symbol]
            found.append([rank, times, *[getattr(signals, name)[index] for name in (*names, *PRICES)]])
        before += len(batch.signals)
    tables = {}
    for frame, found in parts.items():
        rank, now, *columns = (np.concatenate(column) for column in zip(*found, strict=True))
        if not frame.is_sliced:  # these are rows of the tape: all of them need no copy
            own: Any = slice(None) if len(rank) == before else rank
            columns = [*[tape.column(name)[own] for name in names], *[tape.floats[name][own] for name in PRICES]]
        at, symbol, event_ts, end, *prices = columns
        tables[frame] = FrameTable(at, rank, symbol, event_ts, end, now, dict(zip(PRICES, prices, strict=True)))
    return tables


def series_of(tape: Tape, stop: int, since: int) -> dict[str, BarSeries]:
    """The bars of each symbol by which an account is valued afterwards, see `Backtest.curve`: the shortest, derived ones first.

    `stop` is the number of bars of the tape that were read; those that ended by `since`, ns, do not count.
    """
    bars = tape.derived if len(tape.derived) else tape.bars.rows(0, stop)
    counts = bars.event_ts + bars.step > since
    found = {}
    for number, name in enumerate(tape.symbols.names):
        own = np.flatnonzero((bars.symbol == number) & counts)
        if len(own):
            step = int(bars.step[own].min())
            own = own[bars.step[own] == step]
            own = own[np.argsort(bars.event_ts[own], kind="stable")]
            columns = [getattr(bars, column)[own] for column in ("event_ts", *PRICES)]
            found[name] = BarSeries(step, *columns)
    return found


# What is the same for every parameter set.


class Sessions(NamedTuple):
    """The sessions of a calendar that a tape may need, ns; oldest first."""

    opens: IntArray
    closes: IntArray


def sessions_of(calendar: str, first: int, last: int) -> Sessions:
    """The sessions of a calendar from before a time to well after another one, ns."""
    if calendar == ROUND_THE_CLOCK:
        opens = np.arange(first // DAY * DAY, last + 3 * DAY, DAY)
        return Sessions(opens, opens + DAY)
    begin, end = to_datetime(first - 30 * DAY), to_datetime(last + YEAR)
    known = exchange_sessions(calendar, f"{begin:%Y-%m-%d}", f"{end:%Y-%m-%d}")
    return Sessions(known.opens, known.closes)


@kernel
def _tell(symbol: IntArray, begin: IntArray, end: IntArray, symbols: int, is_news: NDArray[np.bool_]) -> None:
    """Fill `is_news`: whether a bar tells more of its symbol than the bars before it have."""
    told = np.full(symbols, -(2**63 - 1), np.int64)
    for row in range(len(symbol)):
        is_news[row] = begin[row] >= told[symbol[row]]
        told[symbol[row]] = max(told[symbol[row]], end[row])


def bar_bits(bars: Bars, symbols: int, sessions: list[Sessions | None]) -> IntArray:
    """Of each bar, whether orders may meet it, and whether it is in a session of its symbol; shape (bars,)."""
    is_met = np.zeros(len(bars), np.bool_)
    begin, end = np.ascontiguousarray(bars.event_ts), np.ascontiguousarray(bars.end)
    _tell(np.ascontiguousarray(bars.symbol), begin, end, symbols, is_met)
    is_met &= (bars.open > 0) & (bars.volume != 0)
    is_open = np.ones(len(bars), np.bool_)
    for number, known in enumerate(sessions):
        if known is None:
            continue
        of_symbol = np.flatnonzero(bars.symbol == number) if len(sessions) > 1 else slice(None)
        place = known.closes.searchsorted(begin[of_symbol], "right")
        opens = np.append(known.opens, 2**63 - 1)[place]
        is_open[of_symbol] = ~((begin[of_symbol] < opens) & (opens >= end[of_symbol]))
    return is_met * IS_NEWS + is_open * IS_OPEN


@kernel
def _medians(closes: FloatArray, before: int, medians: FloatArray) -> None:
    """Fill `medians` with the upper median of the closes right before each one; NaN where there are none."""
    window = np.zeros(before)
    for row in range(len(closes)):
        known = min(row, before)
        for place in range(known):
            close = closes[row - known + place]
            into = place
            while into > 0 and window[into - 1] > close:
                window[into] = window[into - 1]
                into -= 1
            window[into] = close
        medians[row] = window[known // 2] if known else np.nan


def recent_prices(tape: Tape, steps: dict[int, int], symbol: IntArray, at: IntArray) -> FloatArray:
    """Of rows, the median of the closes right before the newest one at their position, see `RecentPrices.before`.

    Parameters
    ----------
    steps : by symbol number, length of the bars that count, ns.
    symbol, at : of the rows, shape (rows,).
    """
    all_symbols, all_at, all_steps = map(tape.column, ("symbol", "at", "step"))
    all_closes = tape.floats["close"]
    step_of = np.array([steps.get(number, -1) for number in range(len(tape.symbols))])
    counts = (all_steps == step_of[all_symbols]) & (all_closes == all_closes)
    order = np.flatnonzero(counts)
    order = order[np.argsort(all_symbols[order], kind="stable")]
    firsts = np.searchsorted(all_symbols[order], np.arange(len(tape.symbols) + 1))
    rows_in_order = np.argsort(symbol, kind="stable")
    row_firsts = np.searchsorted(symbol[rows_in_order], np.arange(len(tape.symbols) + 1))
    found = np.full(len(symbol), np.nan)
    for number in steps:
        known = order[firsts[number] : firsts[number + 1]]
        wanted = rows_in_order[row_firsts[number] : row_firsts[number + 1]]
        if not len(known) or not len(wanted):
            continue
        medians = np.empty(len(known))
        _medians(all_closes[known], BEFORE, medians)
        newest = all_at[known].searchsorted(at[wanted], "right") - 1
        found[wanted] = np.where(newest >= 0, medians[newest], np.nan)
    return found


def is_sane(price: FloatArray, recent: FloatArray, band: Decimal) -> NDArray[np.bool_]:
    """Whether prices are near the prices before them, as the kernel's gate says, shape (rows,)."""
    apart, most = np.abs(price - recent), float(band) * np.abs(recent)
    found = ~(apart > most)
    for row in np.flatnonzero(np.abs(apart - most) <= 1e-9 * most).tolist():
        found[row] = abs(money(price[row]) - money(recent[row])) <= band * abs(money(recent[row]))
    return found
