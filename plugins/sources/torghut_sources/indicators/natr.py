"""Normalized average true range."""

from __future__ import annotations

from typing import Any

from torghut_core import FloatArray, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.atr import Atr, step


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average, as a part of the close, after each bar."""
    for i in range(len(row)):
        close = inputs[2, i]
        average = step(state[row[i]], inputs[0, i], inputs[1, i], close, int(numbers[0]))
        out[0, i] = average / close * 100.0 if close != 0.0 else average * 0.0


class Natr(Atr):
    """Average true range in percent of the close: 100 atr / close; 0 at a close of 0.

    Source: TA-Lib, NATR.
    """

    class Params(Atr.Params):
        """Parameters of `Natr`."""

        span: int = param(14, ge=2, le=10_000, help="bars; the weight of a true range is 1 / span")

    kernel = run
