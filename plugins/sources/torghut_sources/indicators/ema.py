"""Exponential moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel

STATE = np.dtype([("count", np.int64), ("value", np.float64)])


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        average, value = state[row[i]], inputs[0, i]
        average.count += 1
        if average.count <= span:
            average.value += value / span
        else:
            average.value += (value - average.value) * (2.0 / (span + 1))
        out[0, i] = average.value if average.count >= span else math.nan


class Ema(Indicator):
    """Exponential moving average: y += (x - y) * 2 / (span + 1), from the mean of the first `span` values on.

    Source: TA-Lib, EMA.
    """

    class Params(Indicator.Params):
        """Parameters of `Ema`."""

        span: int = param(20, ge=1, le=10_000, help="bars; the weight of a value is 2 / (span + 1)")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
