"""Donchian channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.extremes import largest, push_largest


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the channel after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        channel = state[row[i]]
        upper, lower = push_largest(channel.high, inputs[0, i], span), -push_largest(channel.low, -inputs[1, i], span)
        out[0, i] = upper
        out[1, i] = lower + (upper - lower) / 2.0
        out[2, i] = lower


class Donchian(Indicator):
    """Donchian channel: upper = the highest high, lower = the lowest low of the last `span` bars, middle = (upper + lower) / 2.

    Source: TA-Lib, DONCHIAN; R. D. Donchian (1960), "High finance in copper", Financial Analysts Journal 16(6), 133-142.
    """

    inputs = ("high", "low")
    outputs = ("upper", "middle", "lower")

    class Params(Indicator.Params):
        """Parameters of `Donchian`."""

        span: int = param(20, ge=1, le=10_000, help="bars in the window")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return np.dtype([("high", largest(self.params.span)), ("low", largest(self.params.span))])
