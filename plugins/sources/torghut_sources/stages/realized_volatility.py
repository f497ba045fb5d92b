"""Realized volatility: how much the price moved from bar to bar in the last seconds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, IntArray
from torghut_core.stages import kernel
from torghut_sources.stages.indicator import Indicator
from torghut_sources.stages.window import expire, last_seconds, moments, push


def volatility(capacity: int) -> np.dtype[Any]:
    """Return the row of state: the last price (0 before the first), and the window of returns."""
    return np.dtype([("last", np.float64), ("returns", last_seconds(capacity))])


@kernel
def step(volatility: Any, ts: int, price: float, length: int) -> float:
    """Advance by a price at a time; the window is the `length` ns up to that time, inclusive."""
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


@kernel
def _run(state: Any, symbol: IntArray, ts: IntArray, price: FloatArray, length: int) -> FloatArray:
    out = np.empty(len(symbol))
    for i in range(len(symbol)):
        out[i] = step(state[symbol[i]], ts[i], price[i], length)
    return out


class RealizedVolatility(Indicator):
    """Realized volatility of each symbol over a sliding time window.

    Parameters
    ----------
    symbols : rows of state.
    length : of the window, ns.
    capacity : returns that the window holds at most; older ones are dropped.
    """

    def __init__(self, symbols: int, length: int, capacity: int = 60) -> None:
        super().__init__(volatility(capacity), symbols)
        self.length = length

    def update(self, symbol: IntArray, ts: IntArray, price: FloatArray) -> FloatArray:
        """Advance by a batch of prices.

        Parameters
        ----------
        symbol : shape (n,), row of the state that each price belongs to.
        ts : shape (n,), time of each price, ns.
        price : shape (n,), quote currency per unit, in event order.

        Returns
        -------
        Shape (n,): population standard deviation of the log returns from price to price whose later end is in
        (ts - length, ts], not annualised; NaN with fewer than two of them, and at a price that is not above 0 (which
        has no return, nor has the price after it). A return over a gap counts as one.

        Raises
        ------
        ShapeError : columns that differ in length, or a symbol that has no row.

        Notes
        -----
        sqrt(mean((r - mean(r))^2)), r = ln(price / previous price).
        Source: T. G. Andersen, T. Bollerslev (1998), International Economic Review 39(4), 885-905; here about the mean.

        Examples
        --------
        >>> volatility = RealizedVolatility(symbols=1, length=60)
        >>> prices = np.exp([0.0, 0.01, 0.04])
        >>> volatility.update(np.array([0, 0, 0]), np.array([0, 1, 2]), prices).round(6).tolist()
        [nan, nan, 0.01]
        """
        symbol, ts = self._times(symbol, ts)
        (price,) = self._values(symbol, price)
        out: FloatArray = _run(self.state, symbol, ts, price, self.length)
        return out
