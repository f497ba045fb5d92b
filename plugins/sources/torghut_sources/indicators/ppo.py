"""Percentage price oscillator."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from pydantic import model_validator

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.ema import EMA, step

PPO = np.dtype([("fast", EMA), ("slow", EMA)])


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write the difference after each value."""
    fast, slow = int(numbers[0]), int(numbers[1])
    for i in range(len(row)):
        averages, value = state[row[i]], inputs[0, i]
        quick, slack = step(averages.fast, value, fast, True), step(averages.slow, value, slow, True)
        out[0, i] = 100.0 * (quick - slack) / slack if slack != 0.0 else 0.0


class Ppo(Indicator):
    """Percentage price oscillator: 100 (EMA(fast) - EMA(slow)) / EMA(slow).

    It is percent, and 0 where the slow average is 0.

    Source: TA-Lib, PPO with exponential averages.
    """

    class Params(Indicator.Params):
        """Parameters of `Ppo`."""

        fast: int = param(12, ge=1, le=10_000, help="span of the fast average, bars; below `slow`")
        slow: int = param(26, ge=2, le=10_000, help="span of the slow average, bars")

        @model_validator(mode="after")
        def _is_in_order(self) -> Self:
            if self.fast >= self.slow:
                raise ValueError(f"fast is {self.fast}, and has to be below slow, which is {self.slow}")
            return self

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.slow  # type: ignore[no-any-return]

    @property
    def memory(self) -> int:
        """See `Indicator.memory`."""
        return 10 * self.params.slow  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return PPO
