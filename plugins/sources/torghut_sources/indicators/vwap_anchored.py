"""Volume-weighted average price since a bar of the author's choice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel

STATE = np.dtype([("is_anchored", np.int64), ("volume", np.float64), ("mean", np.float64)])


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:  # noqa: ARG001
    """Write the average after each bar."""
    for i in range(len(row)):
        sales, volume = state[row[i]], inputs[4, i]
        if inputs[0, i] != 0.0:
            sales.is_anchored = 1
            sales.volume = sales.mean = 0.0
        if sales.is_anchored and volume > 0.0:
            sales.volume += volume
            sales.mean += ((inputs[1, i] + inputs[2, i] + inputs[3, i]) / 3.0 - sales.mean) * (volume / sales.volume)
        out[0, i] = sales.mean if sales.volume > 0.0 else math.nan


class VwapAnchored(Indicator):
    """Volume-weighted average price since an anchor: sum(price x volume) / sum(volume), price = (high + low + close) / 3.

    It begins anew at each bar where `anchor` is not 0, such as ``vwap_anchored(cross_above(close, ema(50)))``, and is NaN
    before the first one, and while there is no volume. The average since the session's open is ``column("vwap_session")``.

    Source: B. Shannon (2023), Maximum Trading Gains with Anchored VWAP; TA-Lib, VWAP, which is anchored at the first bar.
    """

    inputs = ("anchor", "high", "low", "close", "volume")

    class Params(Indicator.Params):
        """Parameters of `VwapAnchored`."""

        history: int = param(1000, ge=1, le=100_000, help="bars that a new one starts back, to find its anchor there")

    kernel = run

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return self.params.history  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
