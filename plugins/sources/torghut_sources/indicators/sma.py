"""Simple moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import last_for_mean, mean_of_values, push_for_mean, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        window = state[row[i]]
        push_for_mean(window, inputs[0, i], span)
        out[0, i] = mean_of_values(window, span) if window.is_full else math.nan


class Sma(Indicator):
    """Simple moving average: the mean of the last `span` values.

    Source: TA-Lib, SMA.
    """

    class Params(Indicator.Params):
        """Parameters of `Sma`."""

        span: int = param(20, ge=1, le=10_000, help="bars in the window")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return last_for_mean(room(self.params.span))
