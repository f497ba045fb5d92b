"""Moving average convergence divergence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, IntArray
from torghut_core.stages import kernel
from torghut_sources.stages import ema
from torghut_sources.stages.indicator import Indicator

MACD = np.dtype([("fast", ema.EMA), ("slow", ema.EMA), ("aligned", ema.EMA), ("line", ema.EMA)])
"""State: the averages of the price over `fast` and `slow` values; the fast one that starts together with the slow one; and
the average of the difference (the signal line)."""


@kernel
def step(macd: Any, value: float, fast: int, slow: int, signal: int, sma: bool) -> tuple[float, float, float, float]:
    """Advance by one value; return the fast and the slow average, their difference and its signal line."""
    fast_average = ema.step(macd.fast, value, fast, sma)
    slow_average = ema.step(macd.slow, value, slow, sma)
    difference = macd.fast.value - macd.slow.value
    if sma and macd.slow.count > slow - fast:  # as TA-Lib: the first means of both end with the same value
        ema.step(macd.aligned, value, fast, sma)
        difference = macd.aligned.value - macd.slow.value
    warm = macd.slow.count >= slow
    if warm or not sma:  # a mean of the first differences must not start before there is a slow average
        ema.step(macd.line, difference, signal, sma)
    line = macd.line.value if macd.slow.count >= slow + signal - 1 else math.nan
    return fast_average, slow_average, difference if warm else math.nan, line


@kernel
def _run(state: Any, symbol: IntArray, price: FloatArray, fast: int, slow: int, signal: int, sma: bool) -> FloatArray:
    out = np.empty((3, len(symbol)))
    for i in range(len(symbol)):
        _, _, difference, line = step(state[symbol[i]], price[i], fast, slow, signal, sma)
        out[0, i] = difference
        out[1, i] = line
        out[2, i] = difference - line
    return out


class Macd(Indicator):
    """Moving average convergence divergence of each symbol's prices.

    Parameters
    ----------
    symbols : rows of state.
    fast, slow : spans of the two averages, in values; fast < slow.
    signal : span of the signal line, in values.
    seed : how the averages start, see `Ema`. With "sma" all is as in TA-Lib: the fast average of the difference starts
        together with the slow one, with the mean of the last `fast` values by then, and the signal line with the mean of
        the first `signal` differences.
    """

    def __init__(self, symbols: int, fast: int = 12, slow: int = 26, signal: int = 9, seed: str = "first") -> None:
        super().__init__(MACD, symbols)
        self.fast = fast
        self.slow = slow
        self.signal = signal
        self.seed = seed

    def update(self, symbol: IntArray, price: FloatArray) -> FloatArray:
        """Advance by a batch of prices.

        Parameters
        ----------
        symbol : shape (n,), row of the state that each price belongs to.
        price : shape (n,), quote currency per unit, in event order.

        Returns
        -------
        Shape (3, n), unit of `price`: the difference of the averages, NaN until `slow` prices are seen; its signal
        line and the difference less that line, NaN until `slow` + `signal` - 1 are.

        Raises
        ------
        ShapeError : `symbol` and `price` differ in length, or a symbol has no row.

        Notes
        -----
        MACD = EMA(fast) - EMA(slow); signal = EMA(signal) of MACD, from the first price on; histogram = MACD - signal.
        Source: G. Appel (2005), Technical Analysis: Power Tools for Active Investors.

        Examples
        --------
        >>> macd = Macd(symbols=1, fast=1, slow=2, signal=2)
        >>> macd.update(np.array([0, 0, 0]), np.array([1.0, 3.0, 6.0])).round(3).tolist()
        [[nan, 0.667, 1.222], [nan, nan, 0.963], [nan, nan, 0.259]]
        """
        (symbol,) = self._times(symbol)
        (price,) = self._values(symbol, price)
        out: FloatArray = _run(self.state, symbol, price, self.fast, self.slow, self.signal, self.seed == "sma")
        return out
