"""Volatility of bars and of the jumps between them, after Yang and Zhang."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.volatility_close import spread
from torghut_sources.stages.window import last_for_mean, last_values, mean_of_values, push_for_mean, push_value, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the volatility after each bar."""
    span = int(numbers[0])
    share = 0.34 / (1.34 + (span + 1.0) / (span - 1.0))
    for i in range(len(row)):
        bars = state[row[i]]
        open, high, low, close = inputs[0, i], inputs[1, i], inputs[2, i], inputs[3, i]  # noqa: A001 - the field's word
        out[0, i] = math.nan
        if open > 0.0 and high > 0.0 and low > 0.0 and close > 0.0:
            if bars.last > 0.0:
                up, down, change = math.log(high / open), math.log(low / open), math.log(close / open)
                push_value(bars.jumps, math.log(open / bars.last), span)
                push_value(bars.changes, change, span)
                push_for_mean(bars.ranges, up * (up - change) + down * (down - change), span)
            bars.last = close
            if bars.ranges.is_full:
                within = share * spread(bars.changes, span) + (1.0 - share) * mean_of_values(bars.ranges, span)
                out[0, i] = math.sqrt(max(spread(bars.jumps, span) + within, 0.0))


class VolatilityYangZhang(Indicator):
    """Volatility from bars that may jump and drift: sqrt(var(o) + k var(c) + (1 - k) mean(rs)) over `span` bars.

    o = ln(open / close before) and c = ln(close / open), with sample variances; rs = u (u - c) + d (d - c) of u = ln(high / open)
    and d = ln(low / open); k = 0.34 / (1.34 + (span + 1) / (span - 1)). It is per bar, as `volatility-close`. A bar with a
    price that is not above 0 is left out.

    Source: D. Yang, Q. Zhang (2000), The Journal of Business 73(3), 477-492; rs: L. C. G. Rogers, S. E. Satchell (1991), The
    Annals of Applied Probability 1(4), 504-512.
    """

    inputs = ("open", "high", "low", "close")

    class Params(Indicator.Params):
        """Parameters of `VolatilityYangZhang`."""

        span: int = param(20, ge=2, le=10_000, help="bars, each with the close before it")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        slots = room(self.params.span)
        window, ranges = last_values(slots), last_for_mean(slots)
        return np.dtype([("last", np.float64), ("jumps", window), ("changes", window), ("ranges", ranges)])
