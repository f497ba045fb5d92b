"""Days that are sessions of an exchange: what `resample` makes of the bars of symbols that have a calendar.

A day is a session, from its open to its close: bars outside of sessions are left out, one in which a session opens belongs
to it, and the bar of a session starts at its open. It is complete with the bar that ends at the close or after it, with the
first bar of the next session, or when the watermark reaches the close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torghut_core import DAY, SECOND, Bars, Batch, FloatArray, IntArray, ShapeError, SymbolTable
from torghut_core.stages import COLUMN, FLOATS, INTS, NUMBER, NUMBERS, OUTPUT, TABLE, kernel, native, records
from torghut_sources.stages.session_opens import ALWAYS, FIRST_EXCHANGE, NEVER, SessionOpens
from torghut_sources.stages.state import from_words, grown, to_words
from torghut_sources.stages.tumbling import AT, END, SOURCE, STEP, SYMBOL, TS, WINDOW, add_bar, emit

SESSION = np.dtype([("window", WINDOW), ("source", SOURCE), ("opened", np.int64), ("closed", np.int64)])
"""State of a symbol whose day is a session: the session in progress, from its open to its close."""


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
    if add_bar(window, source, ints, floats, bar) and ts + length >= state.closed:
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


class SessionDays:
    """The sessions in progress of the symbols of one table.

    Parameters
    ----------
    calendars : exchange calendar by symbol pattern; symbols without one, and those of 24/7, have days of UTC.
    lateness : how far the watermark is behind the loop's time, ns.
    """

    def __init__(self, calendars: Mapping[str, str], lateness: int) -> None:
        self._lateness = lateness
        self._opens = SessionOpens(calendars)
        self._sessions = np.zeros(0, SESSION)
        self._calendars: IntArray = np.empty(0, np.int64)
        """By symbol, the row of its calendar in `_opens`; negative where its days are those of UTC."""
        self._fold = native(
            fold_sessions,
            *(records(SESSION), NUMBERS, TABLE, TABLE, NUMBER),
            *(COLUMN, NUMBER, INTS, FLOATS, INTS, FLOATS, TABLE, OUTPUT),
        )

    def update(self, batch: Batch) -> Bars:
        """Return the bars of the sessions that are complete by this batch's events.

        Raises
        ------
        ShapeError : a bar of a symbol that is not in the table.
        """
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
        rows = self._fold(
            *(self._sessions, self._calendars, opens.opens, opens.closes, self._lateness, batch.now, batch.start),
            *(batch.microbars.ints, batch.microbars.floats, batch.bars.ints, batch.bars.floats, ints, floats),
        )
        made = Bars(ints[:, :rows].copy(), floats[:, :rows].copy())
        made.series[:] = [symbols.series(number, DAY) for number in made.symbol.tolist()]
        return made

    def without(self, bars: Bars) -> Bars:
        """Return the bars of the symbols whose days are those of UTC."""
        is_session = self._calendars.take(bars.symbol, mode="clip") >= 0
        return bars.take(~is_session) if is_session.any() else bars

    def save(self) -> Any:
        """Return the state of the symbols so far, in the order of their numbers."""
        return to_words(self._sessions[: len(self._calendars)])

    def load(self, symbols: SymbolTable, numbers: Sequence[int], saved: Any) -> None:
        """Continue with what `save` gave; `numbers` are those of its symbols in this table."""
        rows = from_words(saved, SESSION)
        self._sessions = grown(self._sessions, len(symbols))
        self._sessions[list(numbers[: len(rows)])] = rows
