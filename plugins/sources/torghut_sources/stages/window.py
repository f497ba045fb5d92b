"""Sliding windows: weighted mean and variance of the values that are left, without drift.

A running sum that adds what comes and subtracts what goes keeps the rounding error of everything that ever went by,
and a variance made of two such sums loses the digits that prices have in common. Here nothing is subtracted: the
window is a queue of two stacks. The *back* takes new values and keeps one total of them. The *front* holds, for each of
its values, the total of that value and all that came after it within the front. Taking the oldest value off is a step
along the front; when the front is empty the back is turned over into it. The window's total is that of the front's
first slot merged with that of the back: constant time per value, amortised, and each total is made of the values that
are in the window and no others. Flat input has a variance of exactly 0.

Sources: B. P. Welford (1962), Technometrics 4(3), 419-420, in the weighted form of D. H. D. West (1979), Comm. ACM
22(9), 532-535, for adding a value; T. F. Chan, G. H. Golub, R. J. LeVeque (1979), Stanford STAN-CS-79-773, for merging;
K. Tangwongsan, M. Hirzel, S. Schneider (2021), VLDB Journal 30, 933-957, for two stacks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core.stages import kernel

_SLOT = np.dtype([("ts", np.int64), ("weight", np.float64), ("mean", np.float64), ("m2", np.float64)])


def window(capacity: int) -> np.dtype[Any]:
    """The row of state of a window that holds at most `capacity` values; zeros are an empty one."""
    return np.dtype(
        [
            ("head", np.int64),  # slot of the oldest value
            ("front", np.int64),  # values in the front, from `head` on
            ("back", np.int64),  # values in the back, after them
            ("weight", np.float64),  # total of the back: sum of weights, mean, sum of squared deviations
            ("mean", np.float64),
            ("m2", np.float64),
            ("slots", _SLOT, (capacity,)),  # a back slot is a value (its m2 is not used), a front slot a total
        ]
    )


@kernel
def _turn_over(window: Any) -> None:
    capacity = window.slots.size
    weight = mean = m2 = 0.0
    position = window.head + window.back - 1
    if position >= capacity:
        position -= capacity
    for _ in range(window.back):
        slot = window.slots[position]
        weight += slot.weight
        delta = slot.mean - mean
        mean += delta * (slot.weight / weight)
        m2 += slot.weight * delta * (slot.mean - mean)
        slot.weight = weight
        slot.mean = mean
        slot.m2 = m2
        position -= 1
        if position < 0:
            position = capacity - 1
    window.front = window.back
    window.back = 0
    window.weight = window.mean = window.m2 = 0.0


@kernel
def pop(window: Any) -> None:
    """Drop the oldest value of a window that has one."""
    if window.front == 0:
        _turn_over(window)
    window.head += 1
    if window.head == window.slots.size:
        window.head = 0
    window.front -= 1


@kernel
def push(window: Any, ts: int, value: float, weight: float) -> None:
    """Add a value with a weight above 0; a full window drops its oldest."""
    capacity = window.slots.size
    if window.front + window.back == capacity:
        pop(window)
    position = window.head + window.front + window.back
    if position >= capacity:
        position -= capacity
    slot = window.slots[position]
    slot.ts = ts
    slot.weight = weight
    slot.mean = value
    window.back += 1
    window.weight += weight
    delta = value - window.mean
    window.mean += delta * (weight / window.weight)
    window.m2 += weight * delta * (value - window.mean)


@kernel
def expire(window: Any, until: int) -> None:
    """Drop the oldest values as long as their time is at or before `until`."""
    while window.front + window.back > 0 and window.slots[window.head].ts <= until:
        pop(window)


@kernel
def moments(window: Any) -> tuple[float, float, float]:
    """The sum of weights, the mean and the sum of squared deviations of what is in the window; zeros when empty."""
    if window.front == 0:
        return window.weight, window.mean, window.m2
    slot = window.slots[window.head]
    weight = slot.weight + window.weight
    share = window.weight / weight
    delta = window.mean - slot.mean
    return weight, slot.mean + delta * share, slot.m2 + window.m2 + delta * delta * slot.weight * share
