"""Correlation of two series."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import last_pairs, moments_of_pairs, push_pair, room


@kernel
def coefficient(moments: tuple[float, float, float, float, float]) -> float:
    """Return the correlation of what `moments_of_pairs` gave; 0 where one of the series is flat."""
    _, _, first, second, common = moments
    if not (first > 0.0 and second > 0.0):
        return 0.0
    return min(max(common / (math.sqrt(first) * math.sqrt(second)), -1.0), 1.0)


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the correlation after each pair of values."""
    span = int(numbers[0])
    for i in range(len(row)):
        pairs = state[row[i]]
        push_pair(pairs, inputs[0, i], inputs[1, i], span)
        out[0, i] = coefficient(moments_of_pairs(pairs, span)) if pairs.is_full else math.nan


class Correlation(Indicator):
    """Pearson's correlation of two series over `span` bars: cov(first, second) / (sd(first) sd(second)), -1 to 1.

    It is of the values as they are: ``correlation(close / close.shift(1), ...)`` is that of returns. Where one of them is
    flat it is 0.

    Source: TA-Lib, CORREL.
    """

    inputs = ("first", "second")

    class Params(Indicator.Params):
        """Parameters of `Correlation`."""

        span: int = param(30, ge=2, le=10_000, help="bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return last_pairs(room(self.params.span))
