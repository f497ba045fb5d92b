"""Linear regression on time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.correlation import coefficient
from torghut_sources.stages.window import last_pairs, moments_of_pairs, push_pair, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the line's end, slope and start, and how well it fits, after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        line = state[row[i]]
        line.count += 1.0
        push_pair(line.pairs, line.count, inputs[0, i], span)
        out[:, i] = math.nan
        if line.pairs.is_full:
            moments = moments_of_pairs(line.pairs, span)
            slope = moments[4] / ((span * span - 1) / 12.0)
            half = slope * (span - 1) / 2.0
            out[0, i] = moments[1] + half
            out[1, i] = slope
            out[2, i] = moments[1] - half
            out[3, i] = coefficient(moments) ** 2


class Linreg(Indicator):
    """Least-squares line through the last `span` values: intercept + slope x bar, bar 0 to span - 1.

    `value` is the line at the last bar, `intercept` at the first one, `slope` its rise per bar, and `r2` the share of the
    variance that it explains, 0 to 1; of a flat line 0.

    Source: TA-Lib, LINEARREG, LINEARREG_SLOPE, LINEARREG_INTERCEPT; r2 is the square of CORREL with the bar's number.
    """

    outputs = ("value", "slope", "intercept", "r2")

    class Params(Indicator.Params):
        """Parameters of `Linreg`."""

        span: int = param(14, ge=2, le=10_000, help="bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return np.dtype([("count", np.float64), ("pairs", last_pairs(room(self.params.span)))])
