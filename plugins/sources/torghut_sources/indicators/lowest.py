"""Lowest value."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.extremes import largest, push_largest


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the lowest after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        out[0, i] = -push_largest(state[row[i]], -inputs[0, i], span)


class Lowest(Indicator):
    """Lowest of the last `span` values: the lows of the bars where no other values are given.

    Source: TA-Lib, MIN.
    """

    inputs = ("low",)

    class Params(Indicator.Params):
        """Parameters of `Lowest`."""

        span: int = param(20, ge=1, le=10_000, help="bars in the window")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return largest(self.params.span)
