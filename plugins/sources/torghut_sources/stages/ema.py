"""Exponential moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, IntArray
from torghut_core.stages import kernel
from torghut_sources.stages.indicator import Indicator

EMA = np.dtype([("count", np.int64), ("value", np.float64)])
"""State: values seen, and the average, from the first value on."""


@kernel
def step(ema: Any, value: float, span: int, sma: bool) -> float:
    """Advance by one value; the seed is the mean of the first `span` values with `sma`, else the first value."""
    ema.count += 1
    if ema.count == 1:
        ema.value = value
    elif sma and ema.count <= span:
        ema.value += (value - ema.value) / ema.count
    else:
        ema.value += 2.0 / (span + 1) * (value - ema.value)
    return ema.value if ema.count >= span else math.nan


@kernel
def _run(state: Any, symbol: IntArray, price: FloatArray, span: int, sma: bool) -> FloatArray:
    out = np.empty(len(symbol))
    for i in range(len(symbol)):
        out[i] = step(state[symbol[i]], price[i], span, sma)
    return out


class Ema(Indicator):
    """Exponential moving average of each symbol's prices.

    Parameters
    ----------
    span : values after which the average is warm; its weight is 2 / (span + 1).
    symbols : rows of state.
    seed : "first", the first price; or "sma", the mean of the first `span` prices, as TA-Lib does.
    """

    def __init__(self, span: int, symbols: int, seed: str = "first") -> None:
        super().__init__(EMA, symbols)
        self.span = span
        self.seed = seed

    def update(self, symbol: IntArray, price: FloatArray) -> FloatArray:
        """Advance the exponential moving average of each symbol by a batch of prices.

        Parameters
        ----------
        symbol : shape (n,), row of the state that each price belongs to.
        price : shape (n,), quote currency per unit, in event order.

        Returns
        -------
        The average after each price: shape (n,), unit of `price`, NaN until `span` prices of that symbol are seen.

        Raises
        ------
        ShapeError : `symbol` and `price` differ in length, or a symbol has no row.

        Notes
        -----
        y = a x + (1 - a) y', a = 2 / (span + 1), first y is the first price.
        Source: J. S. Hunter (1986), J. Quality Technology 18(4), 203-210.

        Examples
        --------
        >>> ema = Ema(span=2, symbols=1)
        >>> ema.update(np.array([0, 0, 0]), np.array([1.0, 3.0, 5.0])).round(3).tolist()
        [nan, 2.333, 4.111]
        """
        (symbol,) = self._times(symbol)
        (price,) = self._values(symbol, price)
        average: FloatArray = _run(self.state, symbol, price, self.span, self.seed == "sma")
        return average
