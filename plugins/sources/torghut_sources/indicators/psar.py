"""Parabolic stop and reverse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel

STATE = np.dtype(
    [
        ("count", np.int64),  # bars seen
        ("side", np.float64),  # 1 while the trend is up, -1 while it is down
        ("stop", np.float64),  # for the next bar
        ("extreme", np.float64),  # the highest high of the trend up, the lowest low of the trend down
        ("acceleration", np.float64),
        ("high", np.float64),  # of the bar before
        ("low", np.float64),
    ]
)


@kernel
def _outside(side: float, value: float, first: float, second: float) -> float:
    """Move a stop out of the range of two bars: below both lows in a trend up, above both highs in a trend down."""
    return min(value, first, second) if side > 0.0 else max(value, first, second)


@kernel
def _start(trend: Any, high: float, low: float, acceleration: float) -> None:
    """Begin with the second bar: down where it went lower, by more than higher."""
    fall = trend.low - low
    is_down = fall > 0.0 and fall > high - trend.high
    trend.side = -1.0 if is_down else 1.0
    trend.stop = trend.high if is_down else trend.low
    trend.extreme = low if is_down else high
    trend.acceleration = acceleration
    trend.high = high
    trend.low = low


@kernel
def step(trend: Any, high: float, low: float, acceleration: float, maximum: float) -> float:
    """Advance by one bar; return its stop, or where it was reached the one of the new trend."""
    trend.count += 1
    if trend.count == 1:
        trend.high = high
        trend.low = low
        return math.nan
    if trend.count == 2:
        _start(trend, high, low, acceleration)
    is_reached = low <= trend.stop if trend.side > 0.0 else high >= trend.stop
    if is_reached:
        trend.side = -trend.side
    ahead = high if trend.side > 0.0 else low
    against, before = (low, trend.low) if trend.side > 0.0 else (high, trend.high)
    if is_reached:
        trend.stop = _outside(trend.side, trend.extreme, before, against)
        trend.acceleration = acceleration
        trend.extreme = ahead
    elif (ahead - trend.extreme) * trend.side > 0.0:
        trend.extreme = ahead
        trend.acceleration = min(trend.acceleration + acceleration, maximum)
    stop: float = trend.stop
    trend.stop = _outside(trend.side, stop + trend.acceleration * (trend.extreme - stop), before, against)
    trend.high = high
    trend.low = low
    return stop


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the stop of each bar."""
    for i in range(len(row)):
        out[0, i] = step(state[row[i]], inputs[0, i], inputs[1, i], min(numbers[0], numbers[1]), numbers[1])


class Psar(Indicator):
    """Parabolic stop and reverse: stop += a (extreme of the trend - stop), a grows with every new extreme.

    Source: TA-Lib, SAR; J. W. Wilder (1978), New Concepts in Technical Trading Systems.
    """

    inputs = ("high", "low")

    class Params(Indicator.Params):
        """Parameters of `Psar`."""

        acceleration: float = param(
            0.02, gt=0, le=1, help="part of the way to the extreme per bar, and what a new one adds"
        )
        maximum: float = param(0.2, gt=0, le=1, help="the largest part of the way per bar")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return 2

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return int(min(max(10.0 / self.params.acceleration, 10.0 / self.params.maximum), 10_000.0)) + 2

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
