"""Bollinger bands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, IntArray
from torghut_core.stages import kernel
from torghut_sources.stages.indicator import Indicator
from torghut_sources.stages.window import last_values, moments_of_values, push_value


@kernel
def step(closes: Any, value: float, span: int, width: float) -> tuple[float, float, float]:
    """Advance a window of the last `span` closes by one value; return the middle, the upper and the lower band."""
    push_value(closes, value, span)
    if closes.is_full == 0:
        return math.nan, math.nan, math.nan
    mean, variance = moments_of_values(closes, span)
    band = width * math.sqrt(variance)
    return mean, mean + band, mean - band


@kernel
def _run(state: Any, symbol: IntArray, price: FloatArray, span: int, width: float) -> FloatArray:
    out = np.empty((3, len(symbol)))
    for i in range(len(symbol)):
        out[0, i], out[1, i], out[2, i] = step(state[symbol[i]], price[i], span, width)
    return out


class Bollinger(Indicator):
    """Bollinger bands of each symbol's prices.

    Parameters
    ----------
    symbols : rows of state.
    span : prices in the window.
    width : distance of the bands from the middle, in population standard deviations.
    """

    def __init__(self, symbols: int, span: int = 20, width: float = 2.0) -> None:
        super().__init__(last_values(span), symbols)
        self.span = span
        self.width = width

    def update(self, symbol: IntArray, price: FloatArray) -> FloatArray:
        """Advance by a batch of prices.

        Parameters
        ----------
        symbol : shape (n,), row of the state that each price belongs to.
        price : shape (n,), quote currency per unit, in event order.

        Returns
        -------
        Shape (3, n), unit of `price`: the middle, the upper and the lower band after each price, NaN until `span`
        prices are seen. All three are the price itself on a flat line, to the bit.

        Raises
        ------
        ShapeError : `symbol` and `price` differ in length, or a symbol has no row.

        Notes
        -----
        Mean of the last `span` prices, and that mean +- `width` times their population standard deviation.
        Source: J. A. Bollinger (2001), Bollinger on Bollinger Bands.

        Examples
        --------
        >>> Bollinger(symbols=1, span=2).update(np.array([0, 0, 0]), np.array([1.0, 3.0, 3.0])).tolist()
        [[nan, 2.0, 3.0], [nan, 4.0, 3.0], [nan, 0.0, 3.0]]
        """
        (symbol,) = self._times(symbol)
        (price,) = self._values(symbol, price)
        out: FloatArray = _run(self.state, symbol, price, self.span, self.width)
        return out
