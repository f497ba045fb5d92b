"""Change of the triple exponential average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.tema import THRICE, averaged

TRIX = np.dtype([("averages", THRICE), ("last", np.float64)])


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the change after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        trix = state[row[i]]
        last = trix.last
        trix.last = averaged(trix.averages, inputs[0, i], span)[2]
        out[0, i] = math.nan
        if trix.averages.thrice.count > span:
            out[0, i] = 100.0 * (trix.last - last) / last if last != 0.0 else 0.0


class Trix(Indicator):
    """Change of the triple exponential average: 100 (y / y' - 1), y = EMA(EMA(EMA(x))) over `span` values, y' that of the bar before.

    It is percent, and 0 where y' is 0.

    Source: TA-Lib, TRIX; J. K. Hutson (1983), Stocks and Commodities 1(5).
    """

    class Params(Indicator.Params):
        """Parameters of `Trix`."""

        span: int = param(15, ge=1, le=10_000, help="bars; the weight of a value is 2 / (span + 1)")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return 3 * self.params.span - 1  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return TRIX
