"""Accumulation and distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray
from torghut_core.stages import kernel

STATE = np.dtype([("total", np.float64)])


@kernel
def money_flow(high: float, low: float, close: float, volume: float) -> float:
    """Return the volume of a bar, weighted from -1, where it closed at its low, to 1, at its high; 0 without a range."""
    return ((close - low) - (high - close)) / (high - low) * volume if high > low else 0.0


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, _numbers: FloatArray, out: FloatArray) -> None:
    """Write the line after each bar."""
    for i in range(len(row)):
        line = state[row[i]]
        line.total += money_flow(inputs[0, i], inputs[1, i], inputs[2, i], inputs[3, i])
        out[0, i] = line.total


class Ad(Indicator):
    """Accumulation and distribution line: the sum of ((close - low) - (high - close)) / (high - low) x volume.

    Where it starts depends on the first bar that was seen; only its changes mean something.

    Source: TA-Lib, AD.
    """

    inputs = ("high", "low", "close", "volume")

    kernel = run

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
