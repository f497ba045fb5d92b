"""Percent rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import ago, put, ring, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the rank of each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        before, value = state[row[i]], inputs[0, i]
        out[0, i] = math.nan
        if before.seen >= span:
            smaller = 0
            for steps in range(span):
                smaller += ago(before, steps) < value
            out[0, i] = 100.0 * smaller / span
        put(before, value)


class PercentRank(Indicator):
    """Percent rank: 100 x how many of the `span` values before are smaller / span; 0 to 100, of a flat line 0.

    Source: TA-Lib, PERCENTRANK.
    """

    class Params(Indicator.Params):
        """Parameters of `PercentRank`."""

        span: int = param(100, ge=2, le=10_000, help="values before, one a bar")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return ring(room(self.params.span))
