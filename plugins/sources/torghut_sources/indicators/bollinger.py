"""Bollinger bands."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.bollinger import step
from torghut_sources.stages.window import last_values, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the bands after each value."""
    span, width = int(numbers[0]), numbers[1]
    for i in range(len(row)):
        out[1, i], out[0, i], out[2, i] = step(state[row[i]], inputs[0, i], span, width)


class Bollinger(Indicator):
    """Bollinger bands: middle = the mean of the last `span` values, upper and lower = middle +- `width` standard deviations.

    The deviation is of the population.

    Source: TA-Lib, BBANDS; J. A. Bollinger (2001), Bollinger on Bollinger Bands.
    """

    outputs = ("upper", "middle", "lower")

    class Params(Indicator.Params):
        """Parameters of `Bollinger`."""

        span: int = param(20, ge=2, le=10_000, help="bars in the window")
        width: float = param(2.0, gt=0, le=100, help="distance of the bands from the middle, standard deviations")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return last_values(room(self.params.span))
