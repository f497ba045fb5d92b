"""Wilder's moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel

STATE = np.dtype([("count", np.int64), ("value", np.float64)])
"""State: values seen, and the average, from the first value on."""


@kernel
def step(average: Any, value: float, span: int) -> float:
    """Advance by one value; NaN until `span` values are seen."""
    average.count += 1
    average.value += (value - average.value) / min(average.count, span)
    return average.value if average.count >= span else math.nan


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        out[0, i] = step(state[row[i]], inputs[0, i], span)


class Rma(Indicator):
    """Wilder's moving average: y += (x - y) / span, from the mean of the first `span` values on.

    Source: TA-Lib, RMA; J. W. Wilder (1978), New Concepts in Technical Trading Systems.
    """

    class Params(Indicator.Params):
        """Parameters of `Rma`."""

        span: int = param(14, ge=1, le=10_000, help="bars; the weight of a value is 1 / span")

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
