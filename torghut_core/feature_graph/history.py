"""The last bars of each symbol, as strategies look back at them: kept in columns that only grow, so that a view stays as it was.

Which of them are visible is decided where they are asked for: those that became known before the loop's time, and of those that
became known at that time, up to the loop's position, what is complete with the bar that the strategy is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from torghut_core.errors import InputError
from torghut_core.feature_graph.nodes import FrameRows
from torghut_core.model.market import TIMEFRAME_NAMES, TIMEFRAMES, Batch, FloatArray, History, IntArray
from torghut_core.ports import BarHistory, LiveContext
from torghut_core.timestamps import EARLIEST

COLUMNS = ("open", "high", "low", "close", "volume")

BEFORE_ALL = -1
"""Position of bars that became known before the stream's first event, or that were shown beforehand."""

MOST_BARS = 1_000_000
"""So many bars a strategy may look back, at most."""


class Series:
    """The last bars of one symbol at one step, oldest first.

    Parameters
    ----------
    bars : so many are kept at least.

    Attributes
    ----------
    size : bars that are there.
    at, known, event_ts, end : shape (capacity,): the position and the loop's time at which each became known, its start and its
        end, ns.
    values : shape (5, capacity), see `COLUMNS`.
    """

    def __init__(self, bars: int) -> None:
        self.size = 0
        self.at, self.known, self.event_ts, self.end = np.zeros((4, 0), np.int64)
        self.values = np.zeros((len(COLUMNS), 0))
        self._bars = bars

    def append(self, at: IntArray, known: IntArray, event_ts: IntArray, end: IntArray, values: FloatArray) -> None:
        """Add bars; views that were given before stay as they are."""
        if self.size + len(at) > len(self.at):
            # A slice may still wait for the bars before the newest.
            newest = int(self.known[: self.size].searchsorted(self.known[self.size - 1])) if self.size else 0
            kept = slice(max(0, newest - self._bars), self.size)
            size = kept.stop - kept.start
            room = 2 * (max(size, self._bars) + len(at))
            for name in ("at", "known", "event_ts", "end", "values"):
                old = getattr(self, name)
                new = np.empty((*old.shape[:-1], room), old.dtype)
                new[..., :size] = old[..., kept]
                setattr(self, name, new)
            self.size = size
        place = slice(self.size, self.size + len(at))
        self.at[place], self.known[place], self.event_ts[place], self.end[place] = at, known, event_ts, end
        self.values[:, place] = values
        self.size = place.stop

    def last(self, bars: int, at: int, now: int, until: int) -> History:
        """The last bars that a strategy may see.

        Parameters
        ----------
        bars : so many at most.
        now : the loop's time, ns: bars that became known before it are visible.
        at, until : of bars that became known at that time, those are visible that came up to this position and end at this
            time, ns, or before it.
        """
        stop = int(self.known[: self.size].searchsorted(now))
        while stop < self.size and self.known[stop] == now and self.at[stop] <= at and self.end[stop] <= until:
            stop += 1
        columns = self.event_ts[max(0, stop - bars) : stop], *self.values[:, max(0, stop - bars) : stop]
        for column in columns:
            column.flags.writeable = False
        return History(*columns)

    def before(self, event_ts: int) -> Series:
        """The bars that start before a time, in a series of their own."""
        return self._part(slice(0, int(self.event_ts[: self.size].searchsorted(event_ts))))

    def _part(self, part: slice) -> Series:
        made = Series(self._bars)
        made.append(self.at[part], self.known[part], self.event_ts[part], self.end[part], self.values[:, part])
        return made

    def settle(self) -> None:
        """From now on everything that is there is known at every position."""
        self.at[: self.size], self.known[: self.size] = BEFORE_ALL, EARLIEST


class Histories:
    """The series of a graph.

    Parameters
    ----------
    bars : how many are kept of a symbol, by step.
    """

    def __init__(self, bars: Mapping[int, int]) -> None:
        self.bars = bars
        self._series: dict[tuple[int, str], Series] = {}

    def update(self, step: int, batch: Batch, rows: FrameRows) -> None:
        """Add the rows of a batch."""
        if not len(rows.rows):
            return
        order = np.argsort(rows.symbol, kind="stable")
        symbols = rows.symbol[order]
        firsts = np.flatnonzero(np.diff(symbols, prepend=-1))
        signals, index = rows.signals, rows.rows[order]
        at, event_ts, end = signals.at[index], signals.event_ts[index], signals.end[index]
        known = batch.now[at - batch.start]
        values = np.array([getattr(signals, name)[index] for name in COLUMNS])
        for first, stop in zip(firsts.tolist(), [*firsts.tolist()[1:], len(index)], strict=True):
            name, part = rows.table.names[symbols[first]], slice(first, stop)
            self._of(step, name).append(at[part], known[part], event_ts[part], end[part], values[:, part])

    def _of(self, step: int, symbol: str) -> Series:
        series = self._series.get((step, symbol))
        if series is None:
            series = self._series[step, symbol] = Series(self.bars[step])
        return series

    def last(self, step: int, symbol: str, bars: int, at: int, now: int, until: int) -> History:
        """See `Series.last`."""
        return self._of(step, symbol).last(bars, at, now, until)

    def settle(self) -> None:
        """From now on everything that is there is known at every position."""
        for series in self._series.values():
            series.settle()

    def rescale(self, symbol: str, factor: float) -> None:
        """Give the bars of a symbol prices `factor` times what they were, and volumes 1 / `factor`; views stay as they were."""
        for (_, name), series in self._series.items():
            if name == symbol:
                series.values = series.values.copy()
                series.values[:-1, : series.size] *= factor
                series.values[-1, : series.size] /= factor

    def resume(self, before: Histories) -> None:
        """Resume where those of another graph are; of bars that it does not have, what is here remains."""
        self.settle()
        for key, series in before._series.items():
            if key[0] not in self.bars or not series.size:
                continue
            mine = self._series.get(key)
            made = Series(self.bars[key[0]]) if mine is None else mine.before(int(series.event_ts[0]))
            part = slice(0, series.size)
            made.append(
                series.at[part], series.known[part], series.event_ts[part], series.end[part], series.values[:, part]
            )
            self._series[key] = made

    # State.

    def save(self) -> dict[str, list[Any]]:
        """The bars, as plain values, by step and symbol."""
        return {
            f"{step} {symbol}": [
                column[..., : series.size].tolist()
                for column in (series.known, series.event_ts, series.end, series.values)
            ]
            for (step, symbol), series in self._series.items()
        }

    def load(self, saved: Mapping[str, list[Any]]) -> None:
        """Resume from what `save` gave."""
        for key, (*times, values) in saved.items():
            step, symbol = key.split(" ", 1)
            if int(step) in self.bars:
                known, event_ts, end = (np.array(column, np.int64) for column in times)
                at = np.full(len(known), BEFORE_ALL)
                self._of(int(step), symbol).append(at, known, event_ts, end, np.array(values))


class Place(Protocol):
    """Knows the position in the stream that the loop has reached."""

    at: int


class StrategyHistory(BarHistory):
    """What one strategy may look back at.

    Parameters
    ----------
    strategy : its name, for errors.
    bars : how many it has asked for, by step.
    step : its own timeframe.
    symbols : of its entry.
    place : knows the position in the stream.
    histories : the bars.
    """

    def __init__(
        self,
        strategy: str,
        bars: Mapping[int, int],
        step: int,
        symbols: Collection[str],
        place: Place,
        histories: Histories,
    ) -> None:
        self._strategy = strategy
        self._bars = bars
        self._step = step
        self._symbols = symbols
        self._place = place
        self._histories = histories

    def last(self, context: LiveContext, bars: int, timeframe: str | None, symbol: str | None) -> History:
        """See `Context.history`."""
        step = self._step if timeframe is None else TIMEFRAMES.get(timeframe, 0)
        most = self._bars.get(step, 0)
        if type(bars) is not int or not 0 < bars <= most:
            declared = ", ".join(f"{most} of {TIMEFRAME_NAMES[step]}" for step, most in sorted(self._bars.items()))
            raise InputError(
                f"history({bars!r:.20}) of {timeframe or TIMEFRAME_NAMES[step]}: {self._strategy} declares {declared or 'none'} "
                f"(write `history = {{{timeframe or TIMEFRAME_NAMES[step]!r}: bars}}` in the strategy, with the most it looks back)"
            )
        name = context.symbol if symbol is None else symbol
        if name not in self._symbols:
            raise InputError(
                f"history of {name!r:.40}: it is no symbol of {self._strategy} (it has {', '.join(sorted(self._symbols))})"
            )
        return self._histories.last(step, name, bars, self._place.at, context.now, context.event_ts + self._step)


def bars_of(declared: Any, step: int) -> dict[int, int]:
    """How many bars a strategy looks back, by step: of its own timeframe where it gives a number.

    Raises
    ------
    InputError : that is no number of bars, or no timeframe.
    """
    given = declared if isinstance(declared, Mapping) else {TIMEFRAME_NAMES[step]: declared}
    for timeframe, bars in given.items():
        if timeframe not in TIMEFRAMES:
            raise InputError(f"`history` of {timeframe!r:.40}: no timeframe (use one of {', '.join(TIMEFRAMES)})")
        if type(bars) is not int or not 0 <= bars <= MOST_BARS:
            raise InputError(f"`history` of {timeframe}: {bars!r:.40} is no number of bars from 0 to {MOST_BARS}")
        if TIMEFRAMES[timeframe] < step:
            raise InputError(f"`history` of {timeframe}: that is a smaller timeframe than the strategy's own")
    return {TIMEFRAMES[timeframe]: bars for timeframe, bars in given.items() if bars}
