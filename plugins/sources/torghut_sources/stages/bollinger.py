"""Bollinger bands."""

from __future__ import annotations

import math
from typing import Any

from torghut_core.stages import kernel
from torghut_sources.stages.window import moments_of_values, push_value


@kernel
def step(closes: Any, value: float, span: int, width: float) -> tuple[float, float, float]:
    """Advance a window of the last `span` closes by one value; return the middle, the upper and the lower band.

    The middle is their mean, the others `width` population standard deviations from it; NaN until `span` closes are seen. All
    three are the close itself on a flat line, to the bit.

    Source: J. A. Bollinger (2001), Bollinger on Bollinger Bands.
    """
    push_value(closes, value, span)
    if closes.is_full == 0:
        return math.nan, math.nan, math.nan
    mean, variance = moments_of_values(closes, span)
    band = width * math.sqrt(variance)
    return mean, mean + band, mean - band
