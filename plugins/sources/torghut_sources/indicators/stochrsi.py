"""Stochastic relative strength index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators import rsi, stoch
from torghut_sources.stages.window import last_for_mean, room


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write both lines after each value."""
    for i in range(len(row)):
        lines = state[row[i]]
        strength = rsi.step(lines.rsi, inputs[0, i], int(numbers[0]))
        out[:, i] = math.nan
        if math.isnan(strength):
            continue
        k = stoch.step(lines.places, strength, strength, strength, int(numbers[1]))
        d = stoch.smooth(lines.d, k, int(numbers[2]))
        if not math.isnan(d):
            out[0, i] = k
            out[1, i] = d


class Stochrsi(Indicator):
    """Stochastic of the relative strength index: k = 100 (rsi - its lowest) / (its highest - its lowest); d = mean of k.

    0 where the index does not move. Both lines begin together, as TA-Lib's do.

    Source: TA-Lib, STOCHRSI with simple averages; T. S. Chande, S. Kroll (1994), The New Technical Trader.
    """

    outputs = ("k", "d")

    class Params(Indicator.Params):
        """Parameters of `Stochrsi`."""

        rsi: int = param(14, ge=2, le=10_000, help="changes in the averages of the index, bars")
        span: int = param(14, ge=1, le=10_000, help="bars of the highest and of the lowest index")
        signal: int = param(3, ge=1, le=1_000, help="values of k in the mean that d is, bars")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.rsi + self.params.span + self.params.signal - 1  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return self.warmup + 9 * self.params.rsi  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        lines = [("places", stoch.places(self.params.span)), ("d", last_for_mean(room(self.params.signal)))]
        return np.dtype([("rsi", rsi.STATE), *lines])
