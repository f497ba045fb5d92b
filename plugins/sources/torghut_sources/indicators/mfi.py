"""Money flow index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.rounding import ROUNDING
from torghut_sources.stages.window import last_for_mean, mean_of_values, push_for_mean, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the index after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        flows = state[row[i]]
        typical = (inputs[0, i] + inputs[1, i] + inputs[2, i]) / 3.0
        change = typical - flows.last
        flow = typical * inputs[3, i] if abs(change) > ROUNDING * (abs(typical) + abs(flows.last)) else 0.0
        if flows.count > 0:
            push_for_mean(flows.rising, flow if change > 0.0 else 0.0, span)
            push_for_mean(flows.falling, flow if change < 0.0 else 0.0, span)
        flows.count += 1
        flows.last = typical
        if flows.rising.is_full == 0:
            out[0, i] = math.nan
            continue
        rising, falling = mean_of_values(flows.rising, span), mean_of_values(flows.falling, span)
        total = rising + falling
        out[0, i] = 100.0 * (rising / total) if total > 0.0 else 0.0


class Mfi(Indicator):
    """Money flow index: 100 x flow of rises / flow of all changes, flow = t x volume, t = (high + low + close) / 3.

    0 where nothing flowed.

    Source: TA-Lib, MFI.
    """

    inputs = ("high", "low", "close", "volume")

    class Params(Indicator.Params):
        """Parameters of `Mfi`."""

        span: int = param(14, ge=2, le=10_000, help="changes that are added up, bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        window = last_for_mean(room(self.params.span))
        return np.dtype([("count", np.int64), ("last", np.float64), ("rising", window), ("falling", window)])
