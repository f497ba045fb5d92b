"""Relative strength index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core.stages import kernel

RSI = np.dtype([("count", np.int64), ("last", np.float64), ("gain", np.float64), ("loss", np.float64)])
"""State: values seen, the last of them, and the averages of the rises and of the falls."""


@kernel
def step(rsi: Any, value: float, span: int) -> float:
    """Advance by one value: 100 G / (G + L), 0 to 100; NaN until `span` changes are seen.

    G and L start as the means of the first `span` rises and falls, and then follow Wilder's average, y += (x - y) / span. A line
    that was always flat gives 50 (TA-Lib: 0).

    Source: J. W. Wilder (1978), New Concepts in Technical Trading Systems.
    """
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
