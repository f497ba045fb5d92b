"""Hull moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.wma import weighted
from torghut_sources.stages.window import put, ring, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each value."""
    span = int(numbers[0])
    half, last = max(span // 2, 1), int(math.sqrt(span))
    for i in range(len(row)):
        hull = state[row[i]]
        out[0, i] = math.nan
        put(hull.values, inputs[0, i])
        if hull.values.seen >= span:
            put(hull.raw, 2.0 * weighted(hull.values, half) - weighted(hull.values, span))
            if hull.raw.seen >= last:
                out[0, i] = weighted(hull.raw, last)


class Hma(Indicator):
    """Hull moving average: WMA over sqrt(span) of 2 WMA(x, span / 2) - WMA(x, span), both spans rounded down.

    Source: TA-Lib, HMA; A. Hull (2005), alanhull.com/hull-moving-average.
    """

    class Params(Indicator.Params):
        """Parameters of `Hma`."""

        span: int = param(20, ge=1, le=10_000, help="bars in the longest window")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + math.isqrt(self.params.span) - 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        span = self.params.span
        return np.dtype([("values", ring(room(span))), ("raw", ring(room(math.isqrt(span))))])
