"""Commodity channel index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.rounding import ROUNDING
from torghut_sources.stages.window import ago, put, ring, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the index after each bar; all values are distances from the newest, which has the digits of the others."""
    span = int(numbers[0])
    for i in range(len(row)):
        window = state[row[i]]
        typical = (inputs[0, i] + inputs[1, i] + inputs[2, i]) / 3.0
        put(window, typical)
        if window.seen < span:
            out[0, i] = math.nan
            continue
        mean = away = 0.0
        for steps in range(span):
            mean += ago(window, steps) - typical
        mean /= span
        for steps in range(span):
            away += abs(ago(window, steps) - typical - mean)
        is_flat = abs(mean) <= ROUNDING * 2.0 * abs(typical)
        out[0, i] = 0.0 if is_flat else -mean / (0.015 * (away / span))


class Cci(Indicator):
    """Commodity channel index: (t - mean(t)) / (0.015 x mean absolute deviation of t), t = (high + low + close) / 3.

    0 where t is its mean.

    Source: TA-Lib, CCI; D. R. Lambert (1980), Commodities.
    """

    inputs = ("high", "low", "close")

    class Params(Indicator.Params):
        """Parameters of `Cci`."""

        span: int = param(20, ge=2, le=10_000, help="bars of the mean and of the deviation")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return ring(room(self.params.span))
