"""Bars that a tape has twice, as where two files overlap: each counts once."""

from __future__ import annotations

import numpy as np

from torghut_core import Batch, IntArray

NEVER = -(2**63)


class Repeats:
    """Leaves out of a stream the bars that are not newer than the last one of their series."""

    def __init__(self) -> None:
        self._last: IntArray = np.empty(0, np.int64)
        """Start of the last bar of each series, ns."""

    def leave_out(self, batch: Batch) -> None:
        """Take the repeated bars out of the next batch; their positions stay, as clock ticks."""
        series, start = batch.bars.series, batch.bars.event_ts
        if not len(series):
            return
        new = len(batch.symbols.series_step) - len(self._last)
        if new > 0:
            self._last = np.append(self._last, np.full(new, NEVER))
        order = np.argsort(series.astype(np.uint16) if len(self._last) < 2**16 else series, kind="stable")
        own, times = series[order], start[order]
        is_first = np.append(True, own[1:] != own[:-1])
        before = np.append(NEVER, times[:-1])
        before[is_first] = self._last[own[is_first]]
        if (times > before).all():
            self._last[own] = times  # of equal places the last counts
            return
        is_new = np.zeros(len(series), np.bool_)
        last = self._last
        for row, (number, time) in enumerate(zip(series.tolist(), start.tolist(), strict=True)):
            if time > last[number]:
                last[number], is_new[row] = time, True
        batch.bars = batch.bars.take(is_new)
