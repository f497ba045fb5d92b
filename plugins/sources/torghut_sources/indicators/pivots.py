"""Pivots: the last swing high and swing low."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import ago, put, ring, room

SWING = np.dtype([("price", np.float64), ("age", np.int64)])  # an age of 0: there is none yet


@kernel
def swing(last: Any, values: Any, span: int, after: int, sign: float) -> None:
    """Take the value before the last `after` ones as a swing where it is above all of the `span`; below, with a sign of -1."""
    value = ago(values, after)
    for steps in range(span):
        if steps != after and not sign * value > sign * ago(values, steps):
            return
    last.price = value
    last.age = after


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the last swings, and how long ago they were, after each bar."""
    after = int(numbers[1])
    span = int(numbers[0]) + 1 + after
    for i in range(len(row)):
        bars = state[row[i]]
        put(bars.highs, inputs[0, i])
        put(bars.lows, inputs[1, i])
        bars.high.age += bars.high.age > 0
        bars.low.age += bars.low.age > 0
        if bars.lows.seen >= span:
            swing(bars.high, bars.highs, span, after, 1.0)
            swing(bars.low, bars.lows, span, after, -1.0)
        out[:, i] = math.nan
        if bars.high.age > 0:
            out[0, i], out[1, i] = bars.high.price, bars.high.age
        if bars.low.age > 0:
            out[2, i], out[3, i] = bars.low.price, bars.low.age


class Pivots(Indicator):
    """The last swing high and swing low: a high above those of `before` bars before it and `after` bars after it, lows likewise.

    A swing is known `after` bars after its bar, not before. `high` and `low` are the prices of the last ones, `high_age` and
    `low_age` the bars since: in the bar that confirms a swing the age is `after`. Equal highs in the span are no swing.

    Source: B. Williams (1995), Trading Chaos, the fractal; TA-Lib, FRACTAL, which marks the bars that confirm one.
    """

    inputs = ("high", "low")
    outputs = ("high", "high_age", "low", "low_age")

    class Params(Indicator.Params):
        """Parameters of `Pivots`."""

        before: int = param(2, ge=1, le=1000, help="bars before the swing")
        after: int = param(2, ge=1, le=1000, help="bars after it, until it is known")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`; the earliest at which there can be a swing."""
        return self._span

    @property
    def memory(self) -> int:
        """See `Indicator.memory`; the last swing may be any number of bars ago."""
        return 10 * self._span

    @property
    def _span(self) -> int:
        return self.params.before + 1 + self.params.after  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        values = ring(room(self._span))
        return np.dtype([("high", SWING), ("low", SWING), ("highs", values), ("lows", values)])
