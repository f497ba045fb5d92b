"""Directional movement."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators import true_range
from torghut_sources.indicators.rounding import NOTHING

STATE = np.dtype(
    [
        ("range", true_range.STATE),
        ("high", np.float64),  # of the bar before
        ("low", np.float64),
        ("up", np.float64),  # Wilder's sums: of the moves up, of the moves down, of the true ranges
        ("down", np.float64),
        ("width", np.float64),
        ("plus_di", np.float64),
        ("minus_di", np.float64),
        ("dx", np.float64),
    ]
)


@kernel
def step(move: Any, high: float, low: float, close: float, span: int) -> bool:
    """Advance by one bar; return whether there is a new `dx`. The three are known after more than `span` bars."""
    rose, fell = high - move.high, move.low - low
    width = true_range.step(move.range, high, low, close)
    move.high = high
    move.low = low
    if move.range.count == 1:
        return False
    if move.range.count > span:
        move.up -= move.up / span
        move.down -= move.down / span
        move.width -= move.width / span
    move.width += width
    if rose > 0.0 and rose > fell:
        move.up += rose
    elif fell > 0.0 and fell > rose:
        move.down += fell
    move.plus_di = 100.0 * (move.up / move.width) if move.width > NOTHING else 0.0
    move.minus_di = 100.0 * (move.down / move.width) if move.width > NOTHING else 0.0
    total = move.plus_di + move.minus_di
    if move.range.count <= span or total < NOTHING:
        return False
    move.dx = 100.0 * (abs(move.plus_di - move.minus_di) / total)
    return True


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the three lines after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        move = state[row[i]]
        step(move, inputs[0, i], inputs[1, i], inputs[2, i], span)
        is_warm = move.range.count > span
        out[0, i] = move.plus_di if is_warm else math.nan
        out[1, i] = move.minus_di if is_warm else math.nan
        out[2, i] = move.dx if is_warm else math.nan


class Dmi(Indicator):
    """Directional movement, percent: plus_di = 100 W(moves up) / W(true range), minus_di of the moves down, dx = 100 |+ - -| / (+ + -).

    W is Wilder's sum, y += x - y / span, which begins as the sum of the first span - 1. dx stays where nothing moves.

    Source: TA-Lib, PLUS_DI, MINUS_DI and DX; J. W. Wilder (1978), New Concepts in Technical Trading Systems.
    """

    inputs = ("high", "low", "close")
    outputs = ("plus_di", "minus_di", "dx")

    class Params(Indicator.Params):
        """Parameters of `Dmi`."""

        span: int = param(14, ge=2, le=10_000, help="bars; in the sums what is old fades by 1 / span a bar")

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
