"""Slices: the rows that became known at one time, together.

A slice is complete at the first event, or tick of the clock, that is known later; its rows are shown there, by symbol. So a
row may look at every other one of its slice, whatever their order in the stream was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torghut_core.model.market import Batch, IntArray, Signals, SymbolTable


class Slices:
    """The rows of one timeframe in slices: those that are complete, and those that still wait."""

    def __init__(self) -> None:
        self._waiting = Signals.empty()
        self._times = np.zeros(0, np.int64)

    def adopt(self, names: Sequence[str], table: SymbolTable) -> None:
        """Continue with another table of symbols; `names` are those of the one before."""
        self._waiting.symbol[:] = table.numbers([names[number] for number in self._waiting.symbol.tolist()])

    def update(self, batch: Batch, rows: IntArray) -> Signals:
        """Add rows of a batch; return those whose slice is complete.

        Parameters
        ----------
        rows : shape (n,), indices in the batch's signals, rising.

        Returns
        -------
        Rows in order of (at, symbol name), where `at` is the position of the event that completed their slice.
        """
        new = batch.signals.take(rows)
        signals = Signals.concatenate([self._waiting, new]) if len(self._waiting) else new
        times = np.concatenate([self._times, batch.now[new.at - batch.start]])
        place = batch.now.searchsorted(times, "right")
        is_complete = place < len(batch.now)
        self._waiting, self._times = signals.take(~is_complete), times[~is_complete]
        complete = signals.take(is_complete)
        complete.at[:] = batch.start + place[is_complete]
        return complete.take(np.lexsort((batch.symbols.ranks[complete.symbol], complete.at)))
