"""Slices: the rows that became known at one time, together.

A slice is complete once an event, or a tick of the clock, is known later; its rows are shown right before that event, by
symbol. So a row may look at every other one of its slice, whatever their order in the stream was, and what is decided on it
meets the next event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torghut_core.model.market import Batch, IntArray, Signals


class Slices:
    """The rows of one timeframe in slices: those that are complete, and those that still wait."""

    def __init__(self) -> None:
        self._waiting = Signals.empty()
        self._times = np.zeros(0, np.int64)

    def move(self, numbers: IntArray) -> None:
        """Continue with another table of symbols; `numbers` has the new number of each symbol of the one before."""
        self._waiting.symbol[:] = numbers[self._waiting.symbol]

    def add(self, other: Slices, is_added: NDArray[np.bool_]) -> None:
        """Add the rows of some symbols that wait elsewhere; whether each symbol is one of them, shape (symbols,)."""
        rows = is_added[other._waiting.symbol]
        self._waiting = Signals.concatenate([self._waiting, other._waiting.take(rows)])
        self._times = np.concatenate([self._times, other._times[rows]])

    def update(self, batch: Batch, rows: IntArray) -> Signals:
        """Add rows of a batch; return those whose slice is complete.

        Parameters
        ----------
        rows : shape (n,), indices in the batch's signals, rising.

        Returns
        -------
        Rows in order of (at, event_ts, symbol name), where `at` is the last position of their slice's time; that may be the one before
        the batch.
        """
        new = batch.signals.take(rows)
        signals = Signals.concatenate([self._waiting, new]) if len(self._waiting) else new
        times = np.concatenate([self._times, batch.now[new.at - batch.start]])
        place = batch.now.searchsorted(times, "right")
        is_complete = place < len(batch.now)
        self._waiting, self._times = signals.take(~is_complete), times[~is_complete]
        complete = signals.take(is_complete)
        complete.at[:] = batch.start + place[is_complete] - 1
        return complete.take(np.lexsort((batch.symbols.ranks[complete.symbol], complete.event_ts, complete.at)))

    def save(self, names: Sequence[str]) -> Any:
        """The rows that wait, as plain values; None where none does."""
        waiting = self._waiting
        if not len(waiting):
            return None
        symbols = [names[number] for number in waiting.symbol.tolist()]
        return [symbols, self._times.tolist(), waiting.ints.tolist(), waiting.floats.tolist()]

    def load(self, saved: Any, numbers: Mapping[str, int]) -> None:
        """Resume from what `save` gave; `numbers` has the number of each symbol in it."""
        symbols, times, ints, floats = saved
        self._waiting = Signals(np.array(ints, np.int64), np.array(floats, np.float64))
        self._waiting.symbol[:] = [numbers[name] for name in symbols]
        self._times = np.array(times, np.int64)
