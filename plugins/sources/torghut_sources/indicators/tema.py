"""Triple exponential moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.ema import EMA, step

THRICE = np.dtype([("once", EMA), ("twice", EMA), ("thrice", EMA)])
"""State: the average, the average of it, and the average of that."""


@kernel
def averaged(averages: Any, value: float, span: int) -> tuple[float, float, float]:
    """Advance by one value; return the averages, each of the one before, NaN where it is not known yet."""
    once, twice, thrice = step(averages.once, value, span, True), math.nan, math.nan
    if averages.once.count >= span:
        twice = step(averages.twice, once, span, True)
    if averages.twice.count >= span:
        thrice = step(averages.thrice, twice, span, True)
    return once, twice, thrice


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        once, twice, thrice = averaged(state[row[i]], inputs[0, i], span)
        out[0, i] = 3.0 * (once - twice) + thrice


class Tema(Indicator):
    """Triple exponential moving average: 3 EMA(x) - 3 EMA(EMA(x)) + EMA(EMA(EMA(x))), all over `span` values.

    Source: TA-Lib, TEMA; P. G. Mulloy (1994), Technical Analysis of Stocks and Commodities 12(2).
    """

    class Params(Indicator.Params):
        """Parameters of `Tema`."""

        span: int = param(20, ge=1, le=10_000, help="bars; the weight of a value is 2 / (span + 1)")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return 3 * self.params.span - 2  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return THRICE
