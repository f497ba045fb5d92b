"""Stochastic oscillator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.extremes import largest, push_largest
from torghut_sources.indicators.rounding import ROUNDING
from torghut_sources.stages.window import last_for_mean, mean_of_values, push_for_mean, room


def places(span: int) -> np.dtype[Any]:
    """Return the row of state of `step`; zeros are an empty one."""
    return np.dtype([("high", largest(span)), ("low", largest(span))])


@kernel
def step(window: Any, high: float, low: float, value: float, span: int) -> float:
    """Return the place of a value between the lowest low and the highest high, percent; NaN until there are enough."""
    highest, lowest = push_largest(window.high, high, span), -push_largest(window.low, -low, span)
    if math.isnan(highest):
        return math.nan
    width = highest - lowest
    return 100.0 * ((value - lowest) / width) if width > ROUNDING * (abs(highest) + abs(lowest)) else 0.0


@kernel
def smooth(window: Any, value: float, span: int) -> float:
    """Return the mean of the last `span` values; NaN until there are enough, and of NaN, which is not kept."""
    if math.isnan(value):
        return math.nan
    push_for_mean(window, value, span)
    return mean_of_values(window, span) if window.is_full else math.nan


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write both lines after each bar."""
    for i in range(len(row)):
        lines = state[row[i]]
        place = step(lines.places, inputs[0, i], inputs[1, i], inputs[2, i], int(numbers[0]))
        k = smooth(lines.k, place, int(numbers[1]))
        d = smooth(lines.d, k, int(numbers[2]))
        out[0, i] = math.nan if math.isnan(d) else k
        out[1, i] = d


class Stoch(Indicator):
    """Stochastic oscillator: k = mean of 100 (close - lowest low) / (highest high - lowest low); d = mean of k.

    0 where all are one price. Both lines begin together, as TA-Lib's do.

    Source: TA-Lib, STOCH with simple averages; G. C. Lane (1984), Stocks & Commodities 2(3), 87-90.
    """

    inputs = ("high", "low", "close")
    outputs = ("k", "d")

    class Params(Indicator.Params):
        """Parameters of `Stoch`."""

        span: int = param(14, ge=1, le=10_000, help="bars of the highest high and of the lowest low")
        smooth: int = param(3, ge=1, le=1_000, help="bars of the mean that k is; 1 for the fast oscillator")
        signal: int = param(3, ge=1, le=1_000, help="values of k in the mean that d is, bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + self.params.smooth + self.params.signal - 2  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        k, d = last_for_mean(room(self.params.smooth)), last_for_mean(room(self.params.signal))
        return np.dtype([("places", places(self.params.span)), ("k", k), ("d", d)])
