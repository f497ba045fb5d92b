"""True range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray
from torghut_core.stages import kernel

STATE = np.dtype([("count", np.int64), ("close", np.float64)])
"""Bars seen, and the close of the last of them."""


@kernel
def step(last: Any, high: float, low: float, close: float) -> float:
    """Return the true range of the next bar; NaN of the first."""
    before = last.close if last.count > 0 else math.nan
    last.count += 1
    last.close = close
    return max(before, high) - min(before, low) if last.count > 1 else math.nan


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, _numbers: FloatArray, out: FloatArray) -> None:
    """Write the range of each bar."""
    for i in range(len(row)):
        out[0, i] = step(state[row[i]], inputs[0, i], inputs[1, i], inputs[2, i])


class TrueRange(Indicator):
    """True range: max(high, last close) - min(low, last close).

    Source: TA-Lib, TRANGE; J. W. Wilder (1978), New Concepts in Technical Trading Systems.
    """

    inputs = ("high", "low", "close")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return 2

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
