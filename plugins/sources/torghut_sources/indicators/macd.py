"""Moving average convergence divergence."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from pydantic import model_validator

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.macd import MACD, step


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the difference, its signal line and their difference after each value."""
    fast, slow, signal = int(numbers[0]), int(numbers[1]), int(numbers[2])
    for i in range(len(row)):
        _, _, difference, line = step(state[row[i]], inputs[0, i], fast, slow, signal, True)
        out[0, i] = difference if line == line else math.nan
        out[1, i] = line
        out[2, i] = difference - line


class Macd(Indicator):
    """Moving average convergence divergence: macd = EMA(fast) - EMA(slow), signal = EMA(signal) of it, histogram = macd - signal.

    All three are known at the same bar, and the fast average starts together with the slow one, as in TA-Lib.
    Source: TA-Lib, MACD; G. Appel (2005), Technical Analysis: Power Tools for Active Investors.
    """

    outputs = ("macd", "signal", "histogram")

    class Params(Indicator.Params):
        """Parameters of `Macd`."""

        fast: int = param(12, ge=1, le=10_000, help="span of the fast average, bars; below `slow`")
        slow: int = param(26, ge=2, le=10_000, help="span of the slow average, bars")
        signal: int = param(9, ge=1, le=10_000, help="span of the signal line, bars")

        @model_validator(mode="after")
        def _is_in_order(self) -> Self:
            if self.fast >= self.slow:
                raise ValueError(f"fast is {self.fast}, and has to be below slow, which is {self.slow}")
            return self

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.slow + self.params.signal - 1  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * (self.params.slow + self.params.signal)  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return MACD
