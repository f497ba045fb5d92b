"""Highest value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import room

_EXTREME = np.dtype([("value", np.float64), ("at", np.int64)])


def extremes(span: int) -> np.dtype[Any]:
    """Return the row of state for the highest of the last `span` values; zeros are an empty one.

    It holds those values only that no later one reaches, so the first is the highest: each value is added once and dropped
    once. Source: D. Lemire (2006), Nordic Journal of Computing 13(4), 328-339.
    """
    return np.dtype(
        [
            ("seen", np.int64),
            ("first", np.int64),  # its slot; the slots are a ring
            ("held", np.int64),
            ("slots", _EXTREME, (room(span),)),  # `at` is the number of the value
        ]
    )


@kernel
def step(highest: Any, value: float, span: int) -> float:
    """Advance by one value; return the highest of the last `span`, NaN until there are so many.

    ``highest.slots[highest.first].at`` is the number of the last value that is so high, from 1 on, of ``highest.seen``.
    """
    last = highest.slots.size - 1
    highest.seen += 1
    if highest.held > 0 and highest.slots[highest.first].at <= highest.seen - span:
        highest.first = (highest.first + 1) & last
        highest.held -= 1
    while highest.held > 0 and highest.slots[(highest.first + highest.held - 1) & last].value <= value:
        highest.held -= 1
    slot = highest.slots[(highest.first + highest.held) & last]
    slot.value = value
    slot.at = highest.seen
    highest.held += 1
    return highest.slots[highest.first].value if highest.seen >= span else math.nan


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the highest after each value."""
    span = int(numbers[0])
    for i in range(len(row)):
        out[0, i] = step(state[row[i]], inputs[0, i], span)


class Highest(Indicator):
    """Highest of the last `span` values: the highs of the bars where no other values are given.

    Source: TA-Lib, MAX.
    """

    class Params(Indicator.Params):
        """Parameters of `Highest`."""

        span: int = param(20, ge=1, le=10_000, help="bars in the window")

    inputs = ("high",)
    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return extremes(self.params.span)
