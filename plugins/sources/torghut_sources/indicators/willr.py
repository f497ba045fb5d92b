"""Williams %R."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.extremes import largest, push_largest


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the place of the close after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        window = state[row[i]]
        highest, lowest = push_largest(window.high, inputs[0, i], span), -push_largest(window.low, -inputs[1, i], span)
        out[0, i] = -100.0 * ((highest - inputs[2, i]) / (highest - lowest)) if highest != lowest else 0.0


class Willr(Indicator):
    """Williams %R: -100 (highest high - close) / (highest high - lowest low), from -100 to 0; 0 where all are one price.

    Source: TA-Lib, WILLR.
    """

    inputs = ("high", "low", "close")

    class Params(Indicator.Params):
        """Parameters of `Willr`."""

        span: int = param(14, ge=2, le=10_000, help="bars of the highest high and of the lowest low")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return np.dtype([("high", largest(self.params.span)), ("low", largest(self.params.span))])
