"""Percent rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the rank of each value."""
    period = int(numbers[0])
    for i in range(len(row)):
        before, value = state[row[i]], inputs[0, i]
        out[0, i] = math.nan
        if before.count >= period:
            smaller = 0
            for slot in range(period):
                smaller += before.values[slot] < value
            out[0, i] = 100.0 * smaller / period
        before.values[before.count % period] = value
        before.count += 1


class PercentRank(Indicator):
    """Percent rank: 100 x how many of the `period` values before are smaller / period; 0 to 100, of a flat line 0.

    Source: TA-Lib, PERCENTRANK.
    """

    class Params(Indicator.Params):
        """Parameters of `PercentRank`."""

        period: int = param(100, ge=2, le=10_000, help="values before, one a bar")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.period + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return np.dtype([("count", np.int64), ("values", np.float64, (self.params.period,))])
