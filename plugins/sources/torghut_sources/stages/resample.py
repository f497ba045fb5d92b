"""The `resample` stage: bars of larger timeframes from smaller ones.

The windows of a timeframe are aligned to the epoch, those of a day to the day of UTC; of a symbol with an exchange
calendar a day is a session, from its open to its close: bars outside of sessions are left out, one in which a session opens
belongs to it, and the bar of a session starts at its open. A window takes the bars that lie
entirely within it, all of one source: microbars, once a symbol has any; else the tape's bars of the smallest step that
divides the timeframe. Where a finer source appears later, the windows in progress keep theirs, and new ones take the
finer. Bars are taken in order of time; one that is not after the window's last is left out, so that a repeated bar counts
once.

A window is complete when a bar arrives that ends with it, or else when the watermark (the loop's time less
`max_out_of_order_ms`) reaches its end. The bars of a position are taken before the watermark moves there, microbars
first: they are known at the position where the watermark reaches *their* end.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from torghut_core import (
    DAY,
    MILLISECOND,
    ROUND_THE_CLOCK,
    SECOND,
    TIMEFRAMES,
    Bars,
    Batch,
    Calendars,
    FloatArray,
    InputError,
    IntArray,
    Params,
    ShapeError,
    SymbolTable,
    param,
)
from torghut_core.stages import Stage, kernel
from torghut_sources.stages.native import COLUMN, FLOATS, INTS, NUMBER, NUMBERS, OUTPUT, TABLE, native, records
from torghut_sources.stages.order import merge
from torghut_sources.stages.session_opens import ALWAYS, FIRST_EXCHANGE, SessionOpens
from torghut_sources.stages.state import from_words, grown, to_words
from torghut_sources.stages.tumbling import (
    AT,
    CLOSE,
    COUNT,
    END,
    FIRST_OPEN,
    HIGH,
    LOW,
    OPEN,
    OWN,
    ROW,
    STARTED,
    STEP,
    SYMBOL,
    TS,
    VOLUME,
    VWAP,
    WINDOW,
    Tumbling,
    close_until,
    emit,
)
from torghut_sources.stages.vwap import price_of

NEVER = -(2**63)

BEGAN, MICROBAR, BAR = range(OWN, OWN + 3)
"""Places in `Tumbling.progress`: the first window of a stage that started cold; and within a batch the next rows."""

SOURCE = np.dtype([("seen", np.int64), ("finest", np.int64), ("next", np.int64)])
"""State of a symbol: how many bars it had, the finest source's step (0 for microbars), and the first window that no bar
has completed."""

SESSION = np.dtype([("window", WINDOW), ("source", SOURCE), ("opened", np.int64), ("closed", np.int64)])
"""State of a symbol whose day is a session: the session in progress, from its open to its close."""

REFUSED, TAKEN, LATE, BREACH = range(4)
"""Outcomes for a bar: LATE is a microbar of a closed window, BREACH a bar that breaks the contract."""


@kernel
def take(
    windows: Any,
    in_slot: IntArray,
    progress: IntArray,
    sources: Any,
    step: int,
    source: int,
    ints: IntArray,
    floats: FloatArray,
    bar: int,
    out_ints: IntArray,
    out_floats: FloatArray,
) -> int:
    """Add a bar to its window; if that is complete, write it to the buffer, which has room for a row."""
    symbol, ts, length = ints[SYMBOL, bar], ints[TS, bar], ints[STEP, bar]
    number, slots = ts // step, windows.shape[1]
    if symbol < 0 or symbol >= len(windows) or length <= 0 or number >= progress[FIRST_OPEN] + slots:
        return BREACH
    if length >= step or step % length != 0 or ts + length > (number + 1) * step:
        return REFUSED
    state = sources[symbol]
    if state.seen == 0:
        state.next = NEVER
    if state.seen == 0 or source < state.finest:
        state.finest = source
    state.seen += 1
    if number < progress[FIRST_OPEN]:
        return LATE if source == 0 and number >= progress[BEGAN] else REFUSED
    slot = number & (slots - 1)
    window = windows[symbol, slot]
    if number < state.next or source != (window.source if window.parts > 0 else state.finest):
        return REFUSED
    if window.parts == 0:
        in_slot[slot] += 1
    if not add(window, source, ints, floats, bar):
        return REFUSED
    if ts + length == (number + 1) * step:
        emit(window, number, symbol, ints[AT, bar], step, out_ints, out_floats, progress[ROW])
        progress[ROW] += 1
        in_slot[slot] -= 1
        state.next = number + 1
    return TAKEN


@kernel
def add(window: Any, source: int, ints: IntArray, floats: FloatArray, bar: int) -> bool:
    """Add a bar of a source to a window, unless it is not after the last one in it."""
    ts = ints[TS, bar]
    if window.parts == 0:
        window.source = source
        window.count = 0
        window.open_ts = ts
        window.open, window.high, window.low = floats[OPEN, bar], floats[HIGH, bar], floats[LOW, bar]
        window.volume = window.priced = window.notional = 0.0
    elif ts <= window.close_ts:
        return False
    window.parts += 1
    window.count += ints[COUNT, bar]
    window.close_ts = ts
    window.close = floats[CLOSE, bar]
    window.high = max(window.high, floats[HIGH, bar])
    window.low = min(window.low, floats[LOW, bar])
    volume = floats[VOLUME, bar]
    if volume > 0.0:
        window.volume += volume
        window.priced += volume
        window.notional += volume * price_of(floats[HIGH, bar], floats[LOW, bar], floats[CLOSE, bar], floats[VWAP, bar])
    return True


@kernel
def find_session(opens: IntArray, closes: IntArray, ts: int, end: int) -> int:
    """Return the number of the session in which a bar ends or that ends in it; -1 where it is outside of all."""
    low, high = 0, len(opens)
    while low < high:
        middle = (low + high) // 2
        if opens[middle] < end:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low > 0 and ts < closes[low - 1] else -1


@kernel
def take_in_session(
    state: Any,
    opens: IntArray,
    closes: IntArray,
    source: int,
    ints: IntArray,
    floats: FloatArray,
    bar: int,
    out_ints: IntArray,
    out_floats: FloatArray,
    row: int,
) -> int:
    """Add a bar to its session, and write the sessions that are complete to the buffer, from a row on; return the next row."""
    ts, length = ints[TS, bar], ints[STEP, bar]
    if length <= 0 or length >= DAY or DAY % length != 0:
        return row
    number = find_session(opens, closes, ts, ts + length)
    if number < 0:
        return row
    sources, window = state.source, state.window
    if sources.seen == 0:
        sources.next = NEVER
    if sources.seen == 0 or source < sources.finest:
        sources.finest = source
    sources.seen += 1
    if opens[number] < sources.next or (window.parts > 0 and opens[number] < state.opened):
        return row
    if window.parts > 0 and opens[number] > state.opened:
        row = emit_session(state, ints[AT, bar], ints[SYMBOL, bar], out_ints, out_floats, row)
    if source != (window.source if window.parts > 0 else sources.finest):
        return row
    state.opened, state.closed = opens[number], closes[number]
    if add(window, source, ints, floats, bar) and ts + length >= state.closed:
        row = emit_session(state, ints[AT, bar], ints[SYMBOL, bar], out_ints, out_floats, row)
    return row


@kernel
def emit_session(state: Any, at: int, symbol: int, ints: IntArray, floats: FloatArray, row: int) -> int:
    """Write a session to a row of bars, and clear it; return the next row."""
    emit(state.window, state.opened // DAY, symbol, at, DAY, ints, floats, row)
    ints[TS, row] = state.opened
    ints[END, row] = state.closed
    state.source.next = state.opened + 1
    return row + 1


@kernel
def fold_sessions(
    states: Any,
    calendars: IntArray,
    opens: IntArray,
    closes: IntArray,
    lateness: int,
    now: IntArray,
    start: int,
    micro_ints: IntArray,
    micro_floats: FloatArray,
    bar_ints: IntArray,
    bar_floats: FloatArray,
    out_ints: IntArray,
    out_floats: FloatArray,
) -> int:
    """Process a batch for the symbols whose day is a session; return the rows in the buffer, which has room for all."""
    row = microbar = bar = 0
    due = ALWAYS
    for symbol in range(len(calendars)):
        if states[symbol].window.parts > 0:
            due = min(due, states[symbol].closed)
    for here in range(len(now)):
        at = start + here
        while microbar < micro_ints.shape[1] and micro_ints[AT, microbar] == at:
            symbol = micro_ints[SYMBOL, microbar]
            calendar = calendars[symbol]
            if calendar >= 0 and micro_ints[STEP, microbar] == SECOND:
                state = states[symbol]
                row = take_in_session(
                    state,
                    opens[calendar],
                    closes[calendar],
                    0,
                    micro_ints,
                    micro_floats,
                    microbar,
                    out_ints,
                    out_floats,
                    row,
                )
                if state.window.parts > 0:
                    due = min(due, state.closed)
            microbar += 1
        while bar < bar_ints.shape[1] and bar_ints[AT, bar] == at:
            symbol = bar_ints[SYMBOL, bar]
            calendar = calendars[symbol]
            if calendar >= 0:
                state, step = states[symbol], bar_ints[STEP, bar]
                row = take_in_session(
                    state, opens[calendar], closes[calendar], step, bar_ints, bar_floats, bar, out_ints, out_floats, row
                )
                if state.window.parts > 0:
                    due = min(due, state.closed)
            bar += 1
        if now[here] - lateness >= due:
            due = ALWAYS
            for symbol in range(len(calendars)):
                state = states[symbol]
                if state.window.parts > 0 and state.closed <= now[here] - lateness:
                    row = emit_session(state, at, symbol, out_ints, out_floats, row)
                if state.window.parts > 0:
                    due = min(due, state.closed)
    return row


@kernel
def fold(
    windows: Any,
    in_slot: IntArray,
    by_name: IntArray,
    progress: IntArray,
    sources: Any,
    step: int,
    lateness: int,
    now: IntArray,
    start: int,
    position: int,
    micro_ints: IntArray,
    micro_floats: FloatArray,
    bar_ints: IntArray,
    bar_floats: FloatArray,
    out_ints: IntArray,
    out_floats: FloatArray,
) -> int:
    """Process the batch from a position on.

    Returns
    -------
    The position at which the buffer is full, or the batch's length when it is done; `-LATE` or `-BREACH` at such a bar.
    """
    if progress[STARTED] == 0 and len(now) > 0:
        progress[STARTED] = 1
        first = (now[0] - lateness) // step
        if bar_ints.shape[1] > 0 and bar_ints[AT, 0] == start:
            first = min(first, bar_ints[TS, 0] // step)
        progress[FIRST_OPEN] = progress[BEGAN] = first
    deadline = (progress[FIRST_OPEN] + 1) * step + lateness
    for here in range(position, len(now)):
        at = start + here
        until = (now[here] - lateness) // step if now[here] >= deadline else progress[FIRST_OPEN]
        while progress[MICROBAR] < micro_ints.shape[1] and micro_ints[AT, progress[MICROBAR]] == at:
            if progress[ROW] == out_ints.shape[1]:
                return here
            bar = progress[MICROBAR]
            if micro_ints[STEP, bar] == SECOND:
                outcome = take(
                    windows, in_slot, progress, sources, step, 0, micro_ints, micro_floats, bar, out_ints, out_floats
                )
                if outcome >= LATE:
                    return -outcome
            progress[MICROBAR] += 1
        while progress[BAR] < bar_ints.shape[1] and bar_ints[AT, progress[BAR]] == at:
            bar = progress[BAR]
            # Time may jump at this event. Its own window stays open for it; the ring has no room for older ones.
            before = min(until, bar_ints[TS, bar] // step)
            if not close_until(windows, in_slot, by_name, progress, before, at, step, out_ints, out_floats):
                return here
            if progress[ROW] == out_ints.shape[1]:
                return here
            length = bar_ints[STEP, bar]
            outcome = take(
                windows, in_slot, progress, sources, step, length, bar_ints, bar_floats, bar, out_ints, out_floats
            )
            if outcome == BREACH:
                return -outcome
            progress[BAR] += 1
        if not close_until(windows, in_slot, by_name, progress, until, at, step, out_ints, out_floats):
            return here
        if now[here] >= deadline:
            deadline = (until + 1) * step + lateness
    return len(now)


class Resample(Stage):
    """Bars of larger timeframes, added to `Batch.microbars`.

    Volume and count are summed and the volume-weighted price is that of the parts, a bar without one counting with
    (high + low + close) / 3; NaN without volume. A window without a bar gives no bar. A tape's bar whose step does not divide
    the timeframe, or is not smaller, is skipped.
    """

    state_version: ClassVar[int] = 2

    class Params(Params):
        """Parameters of `Resample`."""

        timeframes: list[Literal["1Sec", "1Min", "5Min", "15Min", "1Hour", "1Day"]] = param(
            ["1Min"], min_length=1, help="timeframes to make"
        )
        max_out_of_order_ms: int = param(
            2000, ge=0, le=3_600_000, help="lag of the watermark, ms; at least that of the microbars stage"
        )
        calendars: Calendars = param(
            {},
            help="exchange calendar by symbol pattern, first match counts: its sessions are the days of 1Day; others: UTC",
        )

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._fold = native(
            fold,
            *(records(WINDOW, 2), NUMBERS, NUMBERS, NUMBERS, records(SOURCE), NUMBER, NUMBER),
            *(COLUMN, NUMBER, NUMBER, INTS, FLOATS, INTS, FLOATS, TABLE, OUTPUT),
        )
        if self._has_sessions:
            self._fold_sessions = native(
                fold_sessions,
                *(records(SESSION), NUMBERS, TABLE, TABLE, NUMBER),
                *(COLUMN, NUMBER, INTS, FLOATS, INTS, FLOATS, TABLE, OUTPUT),
            )
        self._clear()

    @property
    def _has_sessions(self) -> bool:
        """Whether the day of any symbol is a session."""
        return "1Day" in self.params.timeframes and bool({*self.params.calendars.values()} - {ROUND_THE_CLOCK})

    def _clear(self) -> None:
        self._symbols = SymbolTable()
        self._saved: dict[str, Any] | None = None
        lateness = self.params.max_out_of_order_ms * MILLISECOND
        self._windows = {name: Tumbling(TIMEFRAMES[name], lateness, own=3) for name in self.params.timeframes}
        self._sources = {name: np.zeros(0, SOURCE) for name in self._windows}
        self._opens = SessionOpens(self.params.calendars)
        self._sessions = np.zeros(0, SESSION)
        self._calendars: IntArray = np.empty(0, np.int64)
        """By symbol, the row of its calendar in `_opens`; negative where its days are those of UTC."""

    def drain_ns(self) -> int:
        """Return the watermark's lag, ns."""
        return int(self.params.max_out_of_order_ms * MILLISECOND)

    def update(self, batch: Batch) -> Batch:
        """Add the bars that are complete by this batch's events to `Batch.microbars`.

        Raises
        ------
        InputError : the watermark is ahead of that of the microbars stage.
        ShapeError : a bar of a symbol that is not in the table, or of a time after the loop's.
        """
        if batch.symbols is not self._symbols:
            self._adopt(batch.symbols)
        microbars, bars = batch.microbars, batch.bars
        sessions = self._run_sessions(batch) if self._has_sessions else None
        for name, tumbling in self._windows.items():
            self._sources[name] = grown(self._sources[name], len(batch.symbols))
            tumbling.begin(batch.symbols)
            tumbling.progress[MICROBAR:] = 0
            if name == "1Day" and (self._calendars >= 0).any():
                parts = self._by_utc(microbars), self._by_utc(bars)
            else:
                parts = microbars, bars
            self._run(batch, *parts, tumbling, self._sources[name])
            if tumbling.progress[ROW]:
                batch.microbars = merge(batch.symbols, batch.microbars, tumbling.bars(batch.symbols))
        if sessions is not None and len(sessions):
            batch.microbars = merge(batch.symbols, batch.microbars, sessions)
        return batch

    def _by_utc(self, bars: Bars) -> Bars:
        """Return the bars of symbols whose days are those of UTC."""
        is_session = self._calendars.take(bars.symbol, mode="clip") >= 0
        return bars.take(~is_session) if is_session.any() else bars

    def _run_sessions(self, batch: Batch) -> Bars:
        """Return the sessions that are complete by this batch's events."""
        symbols, opens = batch.symbols, self._opens
        known = len(self._calendars)
        if known < len(symbols):
            numbers = [opens.calendar(name) - FIRST_EXCHANGE for name in symbols.names[known:]]
            self._calendars = np.append(self._calendars, np.array(numbers, np.int64))
            self._sessions = grown(self._sessions, len(symbols))
        for table in (batch.microbars, batch.bars):
            if len(table) and ((table.symbol < 0) | (table.symbol >= len(symbols))).any():
                raise ShapeError(f"resample: a bar is not of one of the table's {len(symbols)} symbols")
            ends = table.event_ts + table.step
            for ts in (int(ends.min()), int(ends.max())) if len(table) else ():
                if not opens.first <= ts < opens.until:
                    opens.cover(ts)
        room = len(batch.microbars) + len(batch.bars) + len(symbols)
        ints = np.empty((len(Bars.INT_COLUMNS), room), np.int64)
        floats = np.empty((len(Bars.FLOAT_COLUMNS), room))
        rows = self._fold_sessions(
            *(self._sessions, self._calendars, opens.opens, opens.closes, self.drain_ns(), batch.now, batch.start),
            *(batch.microbars.ints, batch.microbars.floats, batch.bars.ints, batch.bars.floats, ints, floats),
        )
        made = Bars(ints[:, :rows].copy(), floats[:, :rows].copy())
        made.series[:] = [symbols.series(number, DAY) for number in made.symbol.tolist()]
        return made

    def _run(self, batch: Batch, microbars: Bars, bars: Bars, tumbling: Tumbling, sources: NDArray[Any]) -> None:
        position = 0
        while True:
            position = self._fold(
                *(tumbling.windows, tumbling.in_slot, tumbling.by_name, tumbling.progress, sources),
                *(tumbling.step, tumbling.lateness, batch.now, batch.start, position),
                *(microbars.ints, microbars.floats, bars.ints, bars.floats, tumbling.ints, tumbling.floats),
            )
            if position == len(batch.now):
                return
            if position == -BREACH:
                raise ShapeError(
                    f"resample: bar {tumbling.progress[BAR]} or microbar {tumbling.progress[MICROBAR]} of the batch is ahead"
                    f" of the loop, has no step, or is not one of the table's {len(batch.symbols)} symbols"
                )
            if position == -LATE:
                raise InputError(
                    f"resample: max_out_of_order_ms={self.params.max_out_of_order_ms} is less than that of the microbars"
                    " stage, so its bars are too late for their windows (give both the same)"
                )
            tumbling.enlarge()

    def save_state(self) -> dict[str, Any]:
        """Return the state by timeframe: open `windows` (see `Tumbling.save`), and the `sources` of `symbols`."""
        if self._saved is not None:
            return self._saved
        names = self._symbols.names
        sessions = {"sessions": to_words(self._sessions[: len(self._calendars)])}
        return {
            name: (sessions if name == "1Day" and len(self._calendars) else {})
            | {
                "windows": tumbling.save(self._symbols),
                "symbols": names[: len(self._sources[name])],
                "sources": to_words(self._sources[name][: len(names)]),
            }
            for name, tumbling in self._windows.items()
        }

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """Resume from what `save_state` gave; a timeframe that its instance did not make starts cold.

        Raises
        ------
        ValueError : state of another version or shape.
        """
        super().load_state(state, version)
        for saved in state.values():
            from_words(saved["windows"]["windows"], WINDOW)
            from_words(saved["sources"], SOURCE)
            if "sessions" in saved:
                from_words(saved["sessions"], SESSION)
        self._clear()
        self._saved = state

    def _adopt(self, symbols: SymbolTable) -> None:
        """Adopt the saved state, or that of the table before, by the names of the symbols."""
        state = self.save_state()
        self._clear()
        self._symbols = symbols
        for name, tumbling in self._windows.items():
            if name in state:
                saved = state[name]
                tumbling.load(symbols, saved["windows"])
                numbers = [symbols.number(symbol) for symbol in saved["symbols"]]
                self._sources[name] = grown(self._sources[name], len(symbols))
                self._sources[name][numbers] = from_words(saved["sources"], SOURCE)
                if "sessions" in saved and self._has_sessions:
                    self._sessions = grown(self._sessions, len(symbols))
                    rows = from_words(saved["sessions"], SESSION)
                    self._sessions[numbers[: len(rows)]] = rows
