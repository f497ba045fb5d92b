"""The largest of the last values, in constant time per value: what highest highs and lowest lows are made of.

A value that is older than another one, and not larger, can never be the largest again. The others, oldest first, fall from
one to the next, so the first is the largest; a ring has room for all.

Source: D. Lemire (2006), Nordic Journal of Computing 13(4), 328-339.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core.stages import kernel
from torghut_sources.stages.window import room

_VALUE = np.dtype([("number", np.int64), ("value", np.float64)])


def largest(span: int) -> np.dtype[Any]:
    """Return the row of state of the largest of the last `span` values; zeros are an empty one."""
    return np.dtype(
        [
            ("count", np.int64),  # values seen
            ("head", np.int64),  # slot of the largest; the slots are a ring
            ("length", np.int64),  # values that are kept
            ("slots", _VALUE, (room(span),)),
        ]
    )


@kernel
def push_largest(window: Any, value: float, span: int) -> float:
    """Add a value, and return the largest of the last `span`; NaN until there are so many.

    For the smallest, give all with the other sign.
    """
    last = window.slots.size - 1
    if window.length > 0 and window.slots[window.head].number <= window.count - span:
        window.head = (window.head + 1) & last
        window.length -= 1
    while window.length > 0 and window.slots[(window.head + window.length - 1) & last].value <= value:
        window.length -= 1
    slot = window.slots[(window.head + window.length) & last]
    slot.number = window.count
    slot.value = value
    window.length += 1
    window.count += 1
    return window.slots[window.head].value if window.count >= span else math.nan


@kernel
def age_of_largest(window: Any) -> int:
    """Return how many values came after the largest one, the last of equal ones; the window must not be empty."""
    age: int = window.count - 1 - window.slots[window.head].number
    return age
