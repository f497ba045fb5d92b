"""The `resample` stage: bars of larger timeframes from smaller ones.

The windows of a timeframe are aligned to the epoch, those of a day to the day of UTC; of a symbol with an exchange
calendar a day is a session (see `session_days`). A window takes the bars that lie entirely within it, all of one
source: microbars, once a symbol has any; else the tape's bars of the smallest step that divides the timeframe. Where a
finer source appears later, the windows in progress keep theirs, and new ones take the finer. Bars are taken in order of
time; one that is not after the window's last is left out, so that a repeated bar counts once.

A window is complete when a bar arrives that ends with it, or else when the watermark (the loop's time less
`max_out_of_order_ms`) reaches its end. The bars of a position are taken before the watermark moves there, microbars
first: they are known at the position where the watermark reaches *their* end.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from torghut_core import (
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
from torghut_core.stages import COLUMN, FLOATS, INTS, NUMBER, NUMBERS, OUTPUT, TABLE, Stage, kernel, native, records
from torghut_sources.stages.order import merge
from torghut_sources.stages.session_days import SESSION, SessionDays
from torghut_sources.stages.session_opens import NEVER
from torghut_sources.stages.state import from_words, grown, to_words
from torghut_sources.stages.tumbling import (
    AT,
    FIRST_OPEN,
    OWN,
    ROW,
    SOURCE,
    STARTED,
    STEP,
    SYMBOL,
    TS,
    WINDOW,
    Tumbling,
    add_bar,
    close_until,
    emit,
)

BEGAN, MICROBAR, BAR = range(OWN, OWN + 3)
"""Places in `Tumbling.progress`: the first window of a stage that started cold; and within a batch the next rows."""

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
    if not add_bar(window, source, ints, floats, bar):
        return REFUSED
    if ts + length == (number + 1) * step:
        emit(window, number, symbol, ints[AT, bar], step, out_ints, out_floats, progress[ROW])
        progress[ROW] += 1
        in_slot[slot] -= 1
        state.next = number + 1
    return TAKEN


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

    resamples: ClassVar[bool] = True
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
        self._clear()

    def _clear(self) -> None:
        self._symbols = SymbolTable()
        self._saved: dict[str, Any] | None = None
        lateness = self.params.max_out_of_order_ms * MILLISECOND
        self._windows = {name: Tumbling(TIMEFRAMES[name], lateness, own=3) for name in self.params.timeframes}
        self._sources = {name: np.zeros(0, SOURCE) for name in self._windows}
        self._days: SessionDays | None = None
        """The days that are sessions; None where no symbol has any."""
        if "1Day" in self._windows and {*self.params.calendars.values()} - {ROUND_THE_CLOCK}:
            self._days = SessionDays(self.params.calendars, lateness)

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
        sessions = None if self._days is None else self._days.update(batch)
        for name, tumbling in self._windows.items():
            self._sources[name] = grown(self._sources[name], len(batch.symbols))
            tumbling.begin(batch.symbols)
            tumbling.progress[MICROBAR:] = 0
            parts = microbars, bars
            if name == "1Day" and self._days is not None:
                parts = self._days.without(microbars), self._days.without(bars)
            self._run(batch, *parts, tumbling, self._sources[name])
            if tumbling.progress[ROW]:
                batch.microbars = merge(batch.symbols, batch.microbars, tumbling.bars(batch.symbols))
        if sessions is not None and len(sessions):
            batch.microbars = merge(batch.symbols, batch.microbars, sessions)
        return batch

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
        sessions = {} if self._days is None else {"sessions": self._days.save()}
        return {
            name: (sessions if name == "1Day" else {})
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
                if "sessions" in saved and self._days is not None:
                    self._days.load(symbols, numbers, saved["sessions"])
