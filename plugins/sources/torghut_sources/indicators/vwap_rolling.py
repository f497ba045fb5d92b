"""Volume-weighted average price of the last bars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import expire, last_seconds, moments, push, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the average after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        sales, volume = state[row[i]], inputs[3, i]
        sales.count += 1
        expire(sales.window, sales.count - span)
        if volume > 0.0:
            push(sales.window, sales.count, (inputs[0, i] + inputs[1, i] + inputs[2, i]) / 3.0, volume)
        weight, mean, _ = moments(sales.window)
        out[0, i] = mean if sales.count >= span and weight > 0.0 else math.nan


class VwapRolling(Indicator):
    """Volume-weighted average price of `span` bars: sum(price x volume) / sum(volume), price = (high + low + close) / 3.

    It is NaN where the bars have no volume. The average since the session's open is ``column("vwap_session")``.

    Source: S. A. Berkowitz, D. E. Logue, E. A. Noser (1988), The Journal of Finance 43(1), 97-112; TA-Lib, VWMA of TYPPRICE.
    """

    inputs = ("high", "low", "close", "volume")

    class Params(Indicator.Params):
        """Parameters of `VwapRolling`."""

        span: int = param(20, ge=1, le=10_000, help="bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return np.dtype([("count", np.int64), ("window", last_seconds(room(self.params.span)))])
