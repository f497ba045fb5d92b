"""Supertrend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators import atr

STATE = np.dtype(
    [
        ("atr", atr.STATE),
        ("side", np.float64),  # 1 while the trend is up, -1 while it is down, 0 before there is a band
        ("upper", np.float64),
        ("lower", np.float64),
    ]
)


@kernel
def step(trend: Any, high: float, low: float, close: float, span: int, factor: float) -> None:
    """Advance by one bar."""
    before = trend.atr.range.close
    average = atr.step(trend.atr, high, low, close, span)
    if math.isnan(average):
        return
    upper, lower = (high + low) / 2.0 + factor * average, (high + low) / 2.0 - factor * average
    if trend.side != 0.0 and before <= trend.upper:  # a band moves away only where the close before was beyond it
        upper = min(upper, trend.upper)
    if trend.side != 0.0 and before >= trend.lower:
        lower = max(lower, trend.lower)
    trend.upper = upper
    trend.lower = lower
    if trend.side > 0.0:
        trend.side = -1.0 if close < lower else 1.0
    elif trend.side < 0.0:
        trend.side = 1.0 if close > upper else -1.0
    else:
        trend.side = -1.0


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the line and the side after each bar."""
    for i in range(len(row)):
        trend = state[row[i]]
        step(trend, inputs[0, i], inputs[1, i], inputs[2, i], int(numbers[0]), numbers[1])
        out[0, i] = math.nan if trend.side == 0.0 else (trend.lower if trend.side > 0.0 else trend.upper)
        out[1, i] = math.nan if trend.side == 0.0 else trend.side


class Supertrend(Indicator):
    """Supertrend: (high + low) / 2 -+ factor x atr, the lower band while the trend is up (side 1), the upper while down (side -1).

    A band only comes nearer, until a close is beyond it; then the trend turns. The first trend is down.

    Source: TradingView, Pine Script reference, ta.supertrend; the average true range is `atr`'s.
    """

    inputs = ("high", "low", "close")
    outputs = ("value", "side")

    class Params(Indicator.Params):
        """Parameters of `Supertrend`."""

        span: int = param(10, ge=1, le=10_000, help="bars of the average true range")
        factor: float = param(
            3.0, gt=0, le=100, help="distance of a band from the middle of the bar, average true ranges"
        )

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
