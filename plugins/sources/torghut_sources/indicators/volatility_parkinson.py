"""Volatility of ranges, after Parkinson."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import last_for_mean, mean_of_values, push_for_mean, room

FOUR_LN_2 = 4.0 * math.log(2.0)


@kernel
def root_of_mean(window: Any, variance: float, span: int) -> float:
    """Add the variance of a bar; return the root of the window's mean."""
    push_for_mean(window, variance, span)
    return math.sqrt(max(mean_of_values(window, span), 0.0)) if window.is_full else math.nan


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the volatility after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        high, low = inputs[0, i], inputs[1, i]
        out[0, i] = math.nan
        if high > 0.0 and low > 0.0:
            out[0, i] = root_of_mean(state[row[i]], math.log(high / low) ** 2 / FOUR_LN_2, span)


class VolatilityParkinson(Indicator):
    """Volatility from ranges: sqrt(mean of ln(high / low)^2 / (4 ln 2)) over `span` bars.

    It is per bar, as `volatility-close`, and needs a fifth of the bars for the same precision, where prices neither jump
    between bars nor drift. A bar with a price that is not above 0 is left out.

    Source: M. Parkinson (1980), The Journal of Business 53(1), 61-65.
    """

    inputs = ("high", "low")

    class Params(Indicator.Params):
        """Parameters of `VolatilityParkinson`."""

        span: int = param(20, ge=1, le=10_000, help="bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return last_for_mean(room(self.params.span))
