"""Moving average convergence divergence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core.stages import kernel
from torghut_sources.stages import ema

MACD = np.dtype([("fast", ema.EMA), ("slow", ema.EMA), ("aligned", ema.EMA), ("line", ema.EMA)])
"""State: the averages of the price over `fast` and `slow` values; the fast one that starts together with the slow one; and
the average of the difference (the signal line)."""


@kernel
def step(macd: Any, value: float, fast: int, slow: int, signal: int, sma: bool) -> tuple[float, float, float, float]:
    """Advance by one value; return the fast and the slow average, their difference, and its average, the signal line.

    The spans are numbers of values, fast < slow. The difference is NaN until `slow` values are seen, the signal line until
    `slow` + `signal` - 1 are. Without `sma` the signal line starts with the first difference. With `sma` all is as in TA-Lib:
    the fast average of the difference starts together with the slow one, with the mean of the last `fast` values by then,
    and the signal line with the mean of the first `signal` differences.

    Source: G. Appel (2005), Technical Analysis: Power Tools for Active Investors.
    """
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
