"""Exponential moving average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core.stages import kernel

EMA = np.dtype([("count", np.int64), ("value", np.float64)])
"""State: values seen, and the average, from the first value on."""


@kernel
def step(ema: Any, value: float, span: int, sma: bool) -> float:
    """Advance by one value: y = a x + (1 - a) y', a = 2 / (span + 1); NaN until `span` values are seen.

    The first y is the first value; or with `sma`, as in TA-Lib, the mean of the first `span` values.

    Source: J. S. Hunter (1986), J. Quality Technology 18(4), 203-210.
    """
    ema.count += 1
    if ema.count == 1:
        ema.value = value
    elif sma and ema.count <= span:
        ema.value += (value - ema.value) / ema.count
    else:
        ema.value += 2.0 / (span + 1) * (value - ema.value)
    return ema.value if ema.count >= span else math.nan
