"""Realized volatility: how much the price moved from bar to bar in the last seconds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core.stages import kernel
from torghut_sources.stages.window import expire, last_seconds, moments, push


def volatility(capacity: int) -> np.dtype[Any]:
    """Return the row of state: the last price (0 before the first), and the window of returns."""
    return np.dtype([("last", np.float64), ("returns", last_seconds(capacity))])


@kernel
def step(volatility: Any, ts: int, price: float, length: int) -> float:
    """Advance by a price at a time, ns; the window is the `length` ns up to that time, inclusive.

    Returns
    -------
    sqrt(mean((r - mean(r))^2)) of the log returns r from price to price whose later end is in the window, not annualised. NaN
    with fewer than two of them, and at a price that is not above 0: that one has no return, nor has the price after it.
    A return over a gap counts as one.

    Source: T. G. Andersen, T. Bollerslev (1998), International Economic Review 39(4), 885-905; here about the mean.
    """
    last = volatility.last
    volatility.last = price
    if not price > 0.0:
        return math.nan
    returns = volatility.returns
    expire(returns, ts - length)
    if last > 0.0:
        push(returns, ts, math.log(price / last), 1.0)
    weight, _, variance = moments(returns)
    return math.sqrt(variance) if weight > 1.0 else math.nan
