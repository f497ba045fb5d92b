"""Sliding windows, of the last n values or of the last seconds: mean and variance without drift, and the values themselves.

A running sum that adds new values and subtracts old ones accumulates the rounding error of all values so far, and a
variance made of sums of squares loses the digits that prices have in common. Here nothing is subtracted, and sums are of
distances from an *anchor*, one of the values in the window.

A window is two stacks. The *back* takes new values and keeps their sums. The *front* holds, for each of its values, the
sums over that value and all after it in the front. Dropping the oldest value is a step along the front; when that leaves
the front empty, the back is turned over into it, and the newest value, which will stay longest, is the new anchor. The
window's sums are those of the front's first slot and of the back: constant time per value, amortised, and made only of the
values in the window. Flat input has a variance of exactly 0, and the variance of n values is off by about n squared
roundings at worst, whatever the prices, and whatever came before.

Sources: T. F. Chan, G. H. Golub, R. J. LeVeque (1983), The American Statistician 37(3), 242-247, for sums about one of the
values; K. Tangwongsan, M. Hirzel, S. Schneider (2021), VLDB Journal 30, 933-957, for two stacks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core.stages import kernel

_VALUE = np.dtype([("distance", np.float64), ("square", np.float64)])
_PAIR = np.dtype([(name, np.float64) for name in ("x", "y", "xx", "yy", "xy")])
_WEIGHTED = np.dtype([("ts", np.int64), ("weight", np.float64), ("distance", np.float64), ("square", np.float64)])


def room(span: int) -> int:
    """Return the slots for a window of the last `span` values: a power of 4, so that many spans share their machine code."""
    slots = 16
    while slots < span:
        slots *= 4
    return slots


def ring(slots: int) -> np.dtype[Any]:
    """Return the row of state that holds the last values, at most `slots` of them, a power of two; zeros are an empty one."""
    return np.dtype([("seen", np.int64), ("slots", np.float64, (slots,))])


@kernel
def put(values: Any, value: float) -> None:
    """Add a value to a ring; a full one drops its oldest."""
    values.slots[values.seen & (values.slots.size - 1)] = value
    values.seen += 1


@kernel
def ago(values: Any, steps: int) -> float:
    """Return the value of a ring of so many steps before the newest; it must be there."""
    found: float = values.slots[(values.seen - 1 - steps) & (values.slots.size - 1)]
    return found


def last_values(slots: int) -> np.dtype[Any]:
    """Return the row of state of a window of the last values, at most `slots` of them; zeros are an empty one."""
    return np.dtype(
        [
            ("is_full", np.int64),  # 0 until as many values are seen as the window is long
            ("back", np.int64),  # values in the back, in the first slots; the front is in the others
            ("anchor", np.float64),
            ("distance", np.float64),  # the back's sums of distances and of their squares
            ("square", np.float64),
            ("slots", _VALUE, (slots,)),  # in the back `distance` is the value itself
        ]
    )


@kernel
def push_value(window: Any, value: float, span: int) -> None:
    """Add a value to a window of the last `span` values."""
    if window.is_full == 0 and window.back == 0:
        window.anchor = value
    away = value - window.anchor
    window.slots[window.back].distance = value
    window.distance += away
    window.square += away * away
    window.back += 1
    if window.back == span:
        distance = square = 0.0
        for newest in range(span):
            slot = window.slots[span - 1 - newest]
            away = slot.distance - value
            distance += away
            square += away * away
            slot.distance = distance
            slot.square = square
        window.anchor = value
        window.is_full = 1
        window.back = 0
        window.distance = window.square = 0.0


@kernel
def moments_of_values(window: Any, span: int) -> tuple[float, float]:
    """Return mean and population variance of a full window of the last `span` values."""
    front = window.slots[window.back]
    distance = front.distance + window.distance
    square = front.square + window.square
    share = 1.0 / span
    return window.anchor + distance * share, max((square - distance * distance * share) * share, 0.0)


def last_for_mean(slots: int) -> np.dtype[Any]:
    """Return the row of state of a window of the last values that only the mean is asked of: half the size of `last_values`."""
    return np.dtype(
        [
            ("is_full", np.int64),  # as in `last_values`
            ("back", np.int64),
            ("anchor", np.float64),
            ("distance", np.float64),
            ("slots", np.float64, (slots,)),  # in the front sums of distances, in the back the values themselves
        ]
    )


@kernel
def push_for_mean(window: Any, value: float, span: int) -> None:
    """Add a value to a window of the last `span` values that only the mean is asked of."""
    if window.is_full == 0 and window.back == 0:
        window.anchor = value
    slots = window.slots
    slots[window.back] = value
    window.distance += value - window.anchor
    window.back += 1
    if window.back == span:
        distance = 0.0
        for newest in range(span):
            distance += slots[span - 1 - newest] - value
            slots[span - 1 - newest] = distance
        window.anchor = value
        window.is_full = 1
        window.back = 0
        window.distance = 0.0


@kernel
def mean_of_values(window: Any, span: int) -> float:
    """Return the mean of a full window of the last `span` values."""
    mean: float = window.anchor + (window.slots[window.back] + window.distance) * (1.0 / span)
    return mean


def last_pairs(slots: int) -> np.dtype[Any]:
    """Return the row of state of a window of the last pairs of values, at most `slots` of them; zeros are an empty one."""
    return np.dtype(
        [
            ("is_full", np.int64),  # as in `last_values`
            ("back", np.int64),
            ("x", np.float64),  # the anchors
            ("y", np.float64),
            ("sums", _PAIR),  # the back's, of distances and of their products
            ("slots", _PAIR, (slots,)),  # in the back `x` and `y` are the values themselves
        ]
    )


@kernel
def _add_pair(sums: Any, x: float, y: float) -> None:
    sums.x += x
    sums.y += y
    sums.xx += x * x
    sums.yy += y * y
    sums.xy += x * y


@kernel
def _clear_pair(sums: Any) -> None:
    sums.x = sums.y = sums.xx = sums.yy = sums.xy = 0.0


@kernel
def _copy_pair(target: Any, source: Any) -> None:
    target.x, target.y = source.x, source.y
    target.xx, target.yy, target.xy = source.xx, source.yy, source.xy


@kernel
def push_pair(window: Any, x: float, y: float, span: int) -> None:
    """Add a pair to a window of the last `span` pairs."""
    if window.is_full == 0 and window.back == 0:
        window.x, window.y = x, y
    window.slots[window.back].x, window.slots[window.back].y = x, y
    _add_pair(window.sums, x - window.x, y - window.y)
    window.back += 1
    if window.back == span:
        sums = window.sums
        _clear_pair(sums)
        for newest in range(span):
            slot = window.slots[span - 1 - newest]
            _add_pair(sums, slot.x - x, slot.y - y)
            _copy_pair(slot, sums)
        _clear_pair(sums)
        window.x, window.y = x, y
        window.is_full = 1
        window.back = 0


@kernel
def moments_of_pairs(window: Any, span: int) -> tuple[float, float, float, float, float]:
    """Return the means, population variances and covariance of a full window of the last `span` pairs."""
    front, back, share = window.slots[window.back], window.sums, 1.0 / span
    x, y = front.x + back.x, front.y + back.y
    first = max((front.xx + back.xx - x * x * share) * share, 0.0)
    second = max((front.yy + back.yy - y * y * share) * share, 0.0)
    return window.x + x * share, window.y + y * share, first, second, (front.xy + back.xy - x * y * share) * share


def last_seconds(capacity: int) -> np.dtype[Any]:
    """Return the row of state of a window of weighted values in time, at most `capacity` of them; zeros are an empty one."""
    return np.dtype(
        [
            ("head", np.int64),  # slot of the oldest value; the slots are a ring
            ("front", np.int64),  # values in the front, from `head` on
            ("back", np.int64),  # values in the back, after them
            ("anchor", np.float64),
            ("weight", np.float64),  # the back's sums: weights, weighted distances, weighted squares of distances
            ("distance", np.float64),
            ("square", np.float64),
            ("slots", _WEIGHTED, (capacity,)),  # in the back `weight` and `distance` are the value's own
        ]
    )


@kernel
def _turn_over(window: Any) -> None:
    capacity = window.slots.size
    position = window.head + window.back - 1
    if position >= capacity:
        position -= capacity
    window.anchor = window.slots[position].distance
    weight = distance = square = 0.0
    for _ in range(window.back):
        slot = window.slots[position]
        away = slot.distance - window.anchor
        weight += slot.weight
        distance += slot.weight * away
        square += slot.weight * away * away
        slot.weight = weight
        slot.distance = distance
        slot.square = square
        position -= 1
        if position < 0:
            position = capacity - 1
    window.front = window.back
    window.back = 0
    window.weight = window.distance = window.square = 0.0


@kernel
def pop(window: Any) -> None:
    """Drop the oldest value of a window in time, which must not be empty."""
    if window.front == 0:
        _turn_over(window)
    window.front -= 1
    window.head += 1
    if window.head == window.slots.size:
        window.head = 0
    if window.front == 0 and window.back > 0:  # the anchor was dropped
        _turn_over(window)


@kernel
def push(window: Any, ts: int, value: float, weight: float) -> None:
    """Add a value with a weight above 0 to a window in time; a full one drops its oldest."""
    capacity = window.slots.size
    if window.front + window.back == capacity:
        pop(window)
    if window.front + window.back == 0:
        window.anchor = value
    position = window.head + window.front + window.back
    if position >= capacity:
        position -= capacity
    slot = window.slots[position]
    slot.ts = ts
    slot.weight = weight
    slot.distance = value
    away = value - window.anchor
    window.back += 1
    window.weight += weight
    window.distance += weight * away
    window.square += weight * away * away


@kernel
def expire(window: Any, until: int) -> None:
    """Drop the values of a window in time that are of `until` or before."""
    while window.front + window.back > 0 and window.slots[window.head].ts <= until:
        pop(window)


@kernel
def moments(window: Any) -> tuple[float, float, float]:
    """Return sum of weights, mean and population variance of a window in time; weight 0 and NaN when it is empty."""
    weight, distance, square = window.weight, window.distance, window.square
    if window.front > 0:
        front = window.slots[window.head]
        weight += front.weight
        distance += front.distance
        square += front.square
    share = 1.0 / weight
    return weight, window.anchor + distance * share, max((square - distance * distance * share) * share, 0.0)
