"""Ichimoku."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.extremes import largest, push_largest
from torghut_sources.indicators.mom import before, values


def _range(span: int) -> np.dtype[Any]:
    return np.dtype([("high", largest(span)), ("low", largest(span))])


@kernel
def _middle(window: Any, high: float, low: float, span: int) -> float:
    """Return the middle of the highest high and the lowest low; NaN until there are enough bars."""
    return (push_largest(window.high, high, span) - push_largest(window.low, -low, span)) / 2.0


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the four lines after each bar."""
    for i in range(len(row)):
        lines, high, low = state[row[i]], inputs[0, i], inputs[1, i]
        conversion = _middle(lines.conversion, high, low, int(numbers[0]))
        base = _middle(lines.base, high, low, int(numbers[1]))
        middle = _middle(lines.leading, high, low, int(numbers[2]))
        out[0, i] = conversion
        out[1, i] = base
        out[2, i] = before(lines.span_a, (conversion + base) / 2.0, int(numbers[3]))
        out[3, i] = before(lines.span_b, middle, int(numbers[3]))


class Ichimoku(Indicator):
    """Ichimoku: middles of the highest high and the lowest low; the cloud is between span_a and span_b.

    conversion, base = (highest + lowest) / 2 of so many bars; span_a = (conversion + base) / 2 and span_b = the middle of
    `leading` bars, both of `displacement` bars before, which is where a chart draws them. The lagging line of a chart is
    the close drawn earlier: compare ``close`` with ``close.shift(displacement)``.

    Source: G. Hosoda (1969), Ichimoku Kinko Hyo; StockCharts, ChartSchool, Ichimoku Cloud.
    """

    inputs = ("high", "low")
    outputs = ("conversion", "base", "span_a", "span_b")

    class Params(Indicator.Params):
        """Parameters of `Ichimoku`."""

        conversion: int = param(9, ge=1, le=10_000, help="bars of the conversion line")
        base: int = param(26, ge=1, le=10_000, help="bars of the base line")
        leading: int = param(52, ge=1, le=10_000, help="bars of span_b")
        displacement: int = param(26, ge=1, le=10_000, help="bars from where the cloud is known to where it is drawn")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        p = self.params
        return max(p.conversion, p.base, p.leading) + p.displacement  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        p = self.params
        cloud = values(p.displacement)
        lines = [(name, _range(getattr(p, name))) for name in ("conversion", "base", "leading")]
        return np.dtype([*lines, ("span_a", cloud), ("span_b", cloud)])
