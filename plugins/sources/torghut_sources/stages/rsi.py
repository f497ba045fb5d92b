"""Relative strength index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, IntArray
from torghut_core.stages import kernel
from torghut_sources.stages.indicator import Indicator

RSI = np.dtype([("count", np.int64), ("last", np.float64), ("gain", np.float64), ("loss", np.float64)])
"""State: values seen, the last of them, and the averages of the rises and of the falls."""


@kernel
def step(rsi: Any, value: float, span: int) -> float:
    """Advance by one value."""
    rsi.count += 1
    change = value - rsi.last if rsi.count > 1 else 0.0
    rsi.last = value
    gain = max(change, 0.0)
    loss = gain - change
    if rsi.count <= span + 1:  # the mean of the first changes (the first value has none)
        rsi.gain += gain / span
        rsi.loss += loss / span
    else:
        rsi.gain += (gain - rsi.gain) * (1.0 / span)
        rsi.loss += (loss - rsi.loss) * (1.0 / span)
    if rsi.count <= span:
        return math.nan
    total = rsi.gain + rsi.loss
    return 100.0 * rsi.gain / total if total > 0.0 else 50.0


@kernel
def _run(state: Any, symbol: IntArray, price: FloatArray, span: int) -> FloatArray:
    out = np.empty(len(symbol))
    for i in range(len(symbol)):
        out[i] = step(state[symbol[i]], price[i], span)
    return out


class Rsi(Indicator):
    """Relative strength index of each symbol's prices.

    Parameters
    ----------
    symbols : rows of state.
    span : changes that the averages look back on.
    """

    def __init__(self, symbols: int, span: int = 14) -> None:
        super().__init__(RSI, symbols)
        self.span = span

    def update(self, symbol: IntArray, price: FloatArray) -> FloatArray:
        """Advance by a batch of prices.

        Parameters
        ----------
        symbol : shape (n,), row of the state that each price belongs to.
        price : shape (n,), quote currency per unit, in event order.

        Returns
        -------
        The index after each price: shape (n,), 0 to 100, NaN until `span` changes are seen. A line that was always
        flat gives 50 (TA-Lib: 0).

        Raises
        ------
        ShapeError : `symbol` and `price` differ in length, or a symbol has no row.

        Notes
        -----
        100 G / (G + L); G and L start as the means of the first `span` rises and falls, and then follow Wilder's
        average y += (x - y) / span.
        Source: J. W. Wilder (1978), New Concepts in Technical Trading Systems.

        Examples
        --------
        >>> Rsi(symbols=1, span=2).update(np.array([0, 0, 0, 0]), np.array([1.0, 2.0, 1.0, 2.0])).tolist()
        [nan, nan, 50.0, 75.0]
        """
        (symbol,) = self._times(symbol)
        (price,) = self._values(symbol, price)
        out: FloatArray = _run(self.state, symbol, price, self.span)
        return out
