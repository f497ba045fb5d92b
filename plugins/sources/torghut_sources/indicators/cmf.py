"""Chaikin money flow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.ad import money_flow
from torghut_sources.stages.window import last_for_mean, mean_of_values, push_for_mean, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the flow after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        sums, volume = state[row[i]], inputs[3, i]
        push_for_mean(sums.flow, money_flow(inputs[0, i], inputs[1, i], inputs[2, i], volume), span)
        push_for_mean(sums.volume, volume, span)
        if sums.volume.is_full == 0:
            out[0, i] = math.nan
            continue
        total = mean_of_values(sums.volume, span)
        out[0, i] = mean_of_values(sums.flow, span) / total if total > 0.0 else 0.0


class Cmf(Indicator):
    """Chaikin money flow: the sum of ((close - low) - (high - close)) / (high - low) x volume, by the sum of the volume.

    From -1 to 1; 0 without volume, and a bar without a range adds 0 to the first sum.

    Source: StockCharts, ChartSchool, Chaikin Money Flow.
    """

    inputs = ("high", "low", "close", "volume")

    class Params(Indicator.Params):
        """Parameters of `Cmf`."""

        span: int = param(20, ge=1, le=10_000, help="bars of both sums")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        window = last_for_mean(room(self.params.span))
        return np.dtype([("flow", window), ("volume", window)])
