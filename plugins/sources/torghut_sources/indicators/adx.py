"""Average directional index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, IntArray
from torghut_core.stages import kernel
from torghut_sources.indicators import dmi, rma


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the three lines after each bar."""
    span = int(numbers[0])
    for i in range(len(row)):
        index = state[row[i]]
        move, average = index.move, index.average
        is_new = dmi.step(move, inputs[0, i], inputs[1, i], inputs[2, i], span)
        is_warm = move.range.count > span
        if is_new:
            rma.step(average, move.dx, span)
        elif is_warm and average.count < span:
            rma.step(average, 0.0, span)
        out[0, i] = average.value if average.count >= span else math.nan
        out[1, i] = move.plus_di if is_warm else math.nan
        out[2, i] = move.minus_di if is_warm else math.nan


class Adx(dmi.Dmi):
    """Average directional index: Wilder's average of dx, from the mean of the first `span` on; plus_di, minus_di and dx as of `dmi`.

    Where nothing moves there is no dx: it counts as 0 in the first mean, and leaves later averages as they were.

    Source: TA-Lib, ADX, PLUS_DI and MINUS_DI; J. W. Wilder (1978), New Concepts in Technical Trading Systems.
    """

    outputs = ("adx", "plus_di", "minus_di")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return 2 * self.params.span  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 20 * self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return np.dtype([("move", dmi.STATE), ("average", rma.STATE)])
