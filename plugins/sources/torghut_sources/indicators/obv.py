"""On balance volume."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray
from torghut_core.stages import kernel

STATE = np.dtype([("count", np.int64), ("close", np.float64), ("total", np.float64)])


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, _numbers: FloatArray, out: FloatArray) -> None:
    """Write the total after each bar."""
    for i in range(len(row)):
        volume, close = state[row[i]], inputs[0, i]
        if volume.count == 0 or close > volume.close:
            volume.total += inputs[1, i]
        elif close < volume.close:
            volume.total -= inputs[1, i]
        volume.count += 1
        volume.close = close
        out[0, i] = volume.total


class Obv(Indicator):
    """On balance volume: the volume of bars that rose less that of bars that fell, since the first bar, which counts as a rise.

    Where it starts depends on the first bar that was seen; only its changes mean something.

    Source: TA-Lib, OBV.
    """

    inputs = ("close", "volume")

    kernel = run

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
