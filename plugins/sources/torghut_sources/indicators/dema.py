"""Double exponential moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.ema import EMA, step

DEMA = np.dtype([("once", EMA), ("twice", EMA)])


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        averages = state[row[i]]
        once, twice = step(averages.once, inputs[0, i], span, True), math.nan
        if averages.once.count >= span:
            twice = step(averages.twice, once, span, True)
        out[0, i] = 2.0 * once - twice


class Dema(Indicator):
    """Double exponential moving average: 2 EMA(x) - EMA(EMA(x)), both over `span` values.

    Source: TA-Lib, DEMA; P. G. Mulloy (1994), Technical Analysis of Stocks and Commodities 12(1).
    """

    class Params(Indicator.Params):
        """Parameters of `Dema`."""

        span: int = param(20, ge=1, le=10_000, help="bars; the weight of a value is 2 / (span + 1)")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return 2 * self.params.span - 1  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return DEMA
