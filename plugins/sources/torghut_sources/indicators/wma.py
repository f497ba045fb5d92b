"""Weighted moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import ago, put, ring, room


@kernel
def weighted(values: Any, span: int) -> float:
    """Give the weighted mean of the last `span` values of a ring, which must be there; of a flat line it is exact."""
    newest = ago(values, 0)
    total = 0.0
    for steps in range(1, span):
        total += (span - steps) * (ago(values, steps) - newest)
    return newest + total / (0.5 * span * (span + 1))


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        values = state[row[i]]
        put(values, inputs[0, i])
        out[0, i] = weighted(values, span) if values.seen >= span else math.nan


class Wma(Indicator):
    """Weighted moving average: sum(w x) / sum(w) over the last `span` values, w = 1 for the oldest to `span` for the newest.

    Source: TA-Lib, WMA.
    """

    class Params(Indicator.Params):
        """Parameters of `Wma`."""

        span: int = param(20, ge=1, le=10_000, help="bars in the window")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return ring(room(self.params.span))
