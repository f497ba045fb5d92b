"""Rate of change."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.mom import before, values


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the rate after each value."""
    for i in range(len(row)):
        old = before(state[row[i]], inputs[0, i], int(numbers[0]))
        out[0, i] = (inputs[0, i] / old - 1.0) * 100.0 if old != 0.0 else 0.0


class Roc(Indicator):
    """Rate of change in so many bars, percent: 100 (x / x[span bars before] - 1); 0 where that was 0.

    Source: TA-Lib, ROC.
    """

    class Params(Indicator.Params):
        """Parameters of `Roc`."""

        span: int = param(10, ge=1, le=10_000, help="bars from one value to the other")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return values(self.params.span)
