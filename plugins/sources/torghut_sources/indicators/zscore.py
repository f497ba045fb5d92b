"""Distance from the mean in standard deviations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import last_values, moments_of_values, push_value, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the distance after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        window, value = state[row[i]], inputs[0, i]
        push_value(window, value, span)
        out[0, i] = math.nan
        if window.is_full:
            mean, variance = moments_of_values(window, span)
            out[0, i] = (value - mean) / math.sqrt(variance) if variance > 0.0 else 0.0


class Zscore(Indicator):
    """Distance from the mean in standard deviations: (x - mean) / deviation of the last `span` values, of the population.

    It is 0 where all of them are equal.

    Source: E. Kreyszig (1979), Advanced Engineering Mathematics, on standardised variables.
    """

    class Params(Indicator.Params):
        """Parameters of `Zscore`."""

        span: int = param(20, ge=2, le=10_000, help="bars in the window")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return last_values(room(self.params.span))
