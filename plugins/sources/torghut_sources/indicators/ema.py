"""Exponential moving average."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.ema import EMA, step


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        out[0, i] = step(state[row[i]], inputs[0, i], span, True)


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
        return EMA
