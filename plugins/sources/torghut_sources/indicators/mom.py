"""Momentum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import ago, put, ring, room


def values(span: int) -> np.dtype[Any]:
    """Return the row of state of `before`; zeros are an empty one."""
    return ring(room(span + 1))


@kernel
def before(last: Any, value: float, span: int) -> float:
    """Keep a value, and return the one of `span` values before; NaN while there is none."""
    put(last, value)
    return ago(last, span) if last.seen > span else math.nan


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the change after each value."""
    for i in range(len(row)):
        out[0, i] = inputs[0, i] - before(state[row[i]], inputs[0, i], int(numbers[0]))


class Mom(Indicator):
    """Momentum, the change in so many bars: x - x[span bars before].

    Source: TA-Lib, MOM.
    """

    class Params(Indicator.Params):
        """Parameters of `Mom`."""

        span: int = param(10, ge=1, le=10_000, help="bars from one value to the other")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return values(self.params.span)
