"""Kaufman's adaptive moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import ago, last_for_mean, mean_of_values, push_for_mean, put, ring, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span, fast, slow = int(numbers[0]), 2.0 / (numbers[1] + 1.0), 2.0 / (numbers[2] + 1.0)
    for i in range(len(row)):
        kama, value = state[row[i]], inputs[0, i]
        put(kama.values, value)
        if kama.values.seen > 1:
            push_for_mean(kama.moves, abs(value - ago(kama.values, 1)), span)
        if kama.values.seen == span + 1:
            kama.value = ago(kama.values, 1)
        out[0, i] = math.nan
        if kama.values.seen > span:
            moved = mean_of_values(kama.moves, span) * span
            efficiency = min(abs(value - ago(kama.values, span)) / moved, 1.0) if moved > 0.0 else 1.0
            share = efficiency * (fast - slow) + slow
            kama.value += (value - kama.value) * share * share
            out[0, i] = kama.value


class Kama(Indicator):
    """Kaufman's adaptive moving average: y += (x - y) * c^2, faster in a trend than in a range.

    c = e 2 / (fast + 1) + (1 - e) 2 / (slow + 1), where the efficiency e is what the values moved over `span` bars by what they
    moved in them, bar by bar: 0 to 1, and 1 of a flat line. It starts with the value before the first that it is known for.
    Source: TA-Lib, KAMA; P. J. Kaufman (1995), Smarter Trading.
    """

    class Params(Indicator.Params):
        """Parameters of `Kama`."""

        span: int = param(10, ge=2, le=10_000, help="bars that the efficiency is of")
        fast: int = param(2, ge=1, le=10_000, help="span of the average in a trend, bars")
        slow: int = param(30, ge=1, le=10_000, help="span of the average in a range, bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * max(self.params.span, self.params.slow)  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        span = self.params.span
        return np.dtype([("values", ring(room(span + 1))), ("moves", last_for_mean(room(span))), ("value", np.float64)])
