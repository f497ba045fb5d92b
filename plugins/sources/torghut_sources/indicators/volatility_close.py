"""Volatility of closes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import last_values, moments_of_values, push_value, room


@kernel
def spread(window: Any, span: int) -> float:
    """Return the sample variance of a full window of two values or more."""
    _, variance = moments_of_values(window, span)
    return variance * (span / (span - 1))


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the volatility after each close."""
    span = int(numbers[0])
    for i in range(len(row)):
        closes, close = state[row[i]], inputs[0, i]
        out[0, i] = math.nan
        if close > 0.0:
            if closes.last > 0.0:
                push_value(closes.returns, math.log(close / closes.last), span)
            closes.last = close
            if closes.returns.is_full:
                out[0, i] = math.sqrt(spread(closes.returns, span))


class VolatilityClose(Indicator):
    """Volatility from close to close: the sample standard deviation of the last `span` returns ln(close / close before).

    It is per bar: times the square root of the bars of a year it is annual. A close that is not above 0 is left out.

    Source: J. C. Hull, Options, Futures, and Other Derivatives, "Estimating volatility from historical data".
    """

    class Params(Indicator.Params):
        """Parameters of `VolatilityClose`."""

        span: int = param(20, ge=2, le=10_000, help="returns, one a bar")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return np.dtype([("last", np.float64), ("returns", last_values(room(self.params.span)))])
