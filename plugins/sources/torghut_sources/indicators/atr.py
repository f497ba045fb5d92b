"""Average true range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators import rma, true_range

STATE = np.dtype([("range", true_range.STATE), ("average", rma.STATE)])


@kernel
def step(atr: Any, high: float, low: float, close: float, span: int) -> float:
    """Advance by one bar; NaN until `span` true ranges are seen."""
    width = true_range.step(atr.range, high, low, close)
    return math.nan if math.isnan(width) else rma.step(atr.average, width, span)


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each bar."""
    for i in range(len(row)):
        out[0, i] = step(state[row[i]], inputs[0, i], inputs[1, i], inputs[2, i], int(numbers[0]))


class Atr(Indicator):
    """Average true range: Wilder's average of the true range, y += (x - y) / span, from the mean of the first `span` on.

    Source: TA-Lib, ATR; J. W. Wilder (1978), New Concepts in Technical Trading Systems.
    """

    inputs = ("high", "low", "close")

    class Params(Indicator.Params):
        """Parameters of `Atr`."""

        span: int = param(14, ge=1, le=10_000, help="bars; the weight of a true range is 1 / span")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
