"""Volatility of bars, after Garman and Klass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.volatility_parkinson import root_of_mean
from torghut_sources.stages.window import last_for_mean, room

SHARE_OF_CLOSE = 2.0 * math.log(2.0) - 1.0


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the volatility after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        open, high, low, close = inputs[0, i], inputs[1, i], inputs[2, i], inputs[3, i]  # noqa: A001 - the field's word
        out[0, i] = math.nan
        if open > 0.0 and high > 0.0 and low > 0.0 and close > 0.0:
            variance = 0.5 * math.log(high / low) ** 2 - SHARE_OF_CLOSE * math.log(close / open) ** 2
            out[0, i] = root_of_mean(state[row[i]], variance, span)


class VolatilityGarmanKlass(Indicator):
    """Volatility from bars: sqrt(mean of ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2) over `span` bars.

    It is per bar, as `volatility-close`, and more precise than `volatility-parkinson`, where prices neither jump between bars
    nor drift. A bar with a price that is not above 0 is left out.

    Source: M. B. Garman, M. J. Klass (1980), The Journal of Business 53(1), 67-78, the practical estimator.
    """

    inputs = ("open", "high", "low", "close")

    class Params(Indicator.Params):
        """Parameters of `VolatilityGarmanKlass`."""

        span: int = param(20, ge=1, le=10_000, help="bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return last_for_mean(room(self.params.span))
