"""Aroon."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.extremes import age_of_largest, largest, push_largest


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the three lines after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        window = state[row[i]]
        push_largest(window.high, inputs[0, i], span + 1)
        push_largest(window.low, -inputs[1, i], span + 1)
        if window.high.count <= span:
            out[:, i] = math.nan
            continue
        out[0, i] = 100.0 / span * (span - age_of_largest(window.high))
        out[1, i] = 100.0 / span * (span - age_of_largest(window.low))
        out[2, i] = 100.0 / span * (age_of_largest(window.low) - age_of_largest(window.high))


class Aroon(Indicator):
    """Aroon: up = 100 (span - bars since the highest high) / span; down, of the lowest low; oscillator = up - down.

    The highest high is that of span + 1 bars, the last of equal ones.

    Source: TA-Lib, AROON and AROONOSC; T. S. Chande (1995), Stocks & Commodities 13(9), 369-374.
    """

    inputs = ("high", "low")
    outputs = ("up", "down", "oscillator")

    class Params(Indicator.Params):
        """Parameters of `Aroon`."""

        span: int = param(25, ge=2, le=10_000, help="bars before this one that are looked at")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        window = largest(self.params.span + 1)
        return np.dtype([("high", window), ("low", window)])
