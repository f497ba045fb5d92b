"""Keltner channel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators import atr
from torghut_sources.stages import ema

STATE = np.dtype([("count", np.int64), ("average", ema.EMA), ("range", atr.STATE)])


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the channel after each bar."""
    span, atr_span, width = int(numbers[0]), int(numbers[1]), numbers[2]
    warmup = max(span, atr_span + 1)
    for i in range(len(row)):
        channel = state[row[i]]
        high, low, close = inputs[0, i], inputs[1, i], inputs[2, i]
        channel.count += 1
        middle = band = math.nan
        if channel.count > warmup - span:
            middle = ema.step(channel.average, (high + low + close) / 3.0, span, True)
        if channel.count > warmup - (atr_span + 1):
            band = width * atr.step(channel.range, high, low, close, atr_span)
        out[0, i] = middle + band
        out[1, i] = middle
        out[2, i] = middle - band


class Keltner(Indicator):
    """Keltner channel: middle = EMA of (high + low + close) / 3, upper and lower = middle +- `width` average true ranges.

    Both averages start so that they are known at the same bar first, as in TA-Lib.
    Source: TA-Lib, KC; C. W. Keltner (1960), How to Make Money in Commodities.
    """

    inputs = ("high", "low", "close")
    outputs = ("upper", "middle", "lower")

    class Params(Indicator.Params):
        """Parameters of `Keltner`."""

        span: int = param(20, ge=1, le=10_000, help="bars of the middle; the weight of a bar is 2 / (span + 1)")
        atr_span: int = param(
            10, ge=1, le=10_000, help="bars of the average true range; the weight of a bar is 1 / atr_span"
        )
        width: float = param(
            2.0, gt=0, le=100, help="distance of the channel's edges from its middle, average true ranges"
        )

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return max(self.params.span, self.params.atr_span + 1)  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * self.warmup

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
