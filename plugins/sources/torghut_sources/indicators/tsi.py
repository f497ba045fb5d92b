"""True strength index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.indicators.rounding import NOTHING
from torghut_sources.stages.ema import EMA, step

_SMOOTH = np.dtype([("slow", EMA), ("fast", EMA)])
STATE = np.dtype([("count", np.int64), ("last", np.float64), ("change", _SMOOTH), ("size", _SMOOTH)])
"""Values seen, the last of them, and the averages of the changes and of their sizes."""


@kernel
def _smooth(averages: Any, value: float, slow: int, fast: int) -> float:
    """Return the average of the average; NaN until both are known."""
    first = step(averages.slow, value, slow, True)
    return first if math.isnan(first) else step(averages.fast, first, fast, True)


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the index after each value."""
    slow, fast = int(numbers[0]), int(numbers[1])
    for i in range(len(row)):
        index, value = state[row[i]], inputs[0, i]
        change = value - index.last
        index.count += 1
        index.last = value
        out[0, i] = math.nan
        if index.count > 1:
            strength, size = _smooth(index.change, change, slow, fast), _smooth(index.size, abs(change), slow, fast)
            out[0, i] = 0.0 if size < NOTHING else 100.0 * (strength / size)


class Tsi(Indicator):
    """True strength index: 100 ema(ema(change, slow), fast) / ema(ema(|change|, slow), fast), -100 to 100; 0 of a flat line.

    A signal line is an average of it: ``ema(tsi(), 7)``.

    Source: W. Blau (1991), Stocks & Commodities 9(11), 438-446; the averages are `ema`'s.
    """

    class Params(Indicator.Params):
        """Parameters of `Tsi`."""

        slow: int = param(
            25, ge=1, le=10_000, help="bars of the first average; the weight of a value is 2 / (slow + 1)"
        )
        fast: int = param(
            13, ge=1, le=10_000, help="bars of the second average; the weight of a value is 2 / (fast + 1)"
        )

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.slow + self.params.fast  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * (self.params.slow + self.params.fast)  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATE
