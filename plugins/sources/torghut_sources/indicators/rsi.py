"""Relative strength index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators import rma
from torghut_sources.indicators.rounding import NOTHING

STATE = np.dtype([("count", np.int64), ("last", np.float64), ("gain", rma.STATE), ("loss", rma.STATE)])
"""Values seen, the last of them, and the averages of the rises and of the falls."""


@kernel
def step(rsi: Any, value: float, span: int) -> float:
    """Advance by one value; NaN until `span` changes are seen."""
    change = value - rsi.last
    rsi.count += 1
    rsi.last = value
    if rsi.count == 1:
        return math.nan
    gain, loss = rma.step(rsi.gain, max(change, 0.0), span), rma.step(rsi.loss, max(-change, 0.0), span)
    return 0.0 if gain + loss < NOTHING else 100.0 * (gain / (gain + loss))


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the index after each value."""
    for i in range(len(row)):
        out[0, i] = step(state[row[i]], inputs[0, i], int(numbers[0]))


class Rsi(Indicator):
    """Relative strength index: 100 G / (G + L), Wilder's averages of the rises and of the falls; 0 of a flat line.

    Source: TA-Lib, RSI; J. W. Wilder (1978), New Concepts in Technical Trading Systems.
    """

    class Params(Indicator.Params):
        """Parameters of `Rsi`."""

        span: int = param(14, ge=2, le=10_000, help="changes in the averages, bars")

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
