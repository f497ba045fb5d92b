"""Beta: how far one series moves with another one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray, param
from torghut_core.stages import kernel
from torghut_sources.stages.window import last_pairs, moments_of_pairs, push_pair, room


@kernel
def change(value: float, before: float) -> float:
    """Return by what share a value has changed; 0 from 0 on."""
    return (value - before) / before if before != 0.0 else 0.0


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:
    """Write beta after each pair of prices."""
    span = int(numbers[0])
    for i in range(len(row)):
        prices, price, market = state[row[i]], inputs[0, i], inputs[1, i]
        if prices.is_started:
            push_pair(prices.changes, change(market, prices.market), change(price, prices.price), span)
        prices.is_started, prices.price, prices.market = 1, price, market
        out[0, i] = math.nan
        if prices.changes.is_full:
            _, _, variance, _, common = moments_of_pairs(prices.changes, span)
            out[0, i] = common / variance if variance > 0.0 else 0.0


class Beta(Indicator):
    """Beta of a price against a market: cov(changes, market's changes) / var(market's changes) over `span` changes.

    A change is price / price before - 1: ``beta(close, close.of("SPY"), 60)``. Where the market is flat it is 0.

    Source: TA-Lib, BETA(market, price).
    """

    inputs = ("price", "market")

    class Params(Indicator.Params):
        """Parameters of `Beta`."""

        span: int = param(60, ge=2, le=10_000, help="changes, one a bar")

    kernel = run

    @property
    def warmup(self) -> int:
        """See `Indicator.warmup`."""
        return self.params.span + 1  # type: ignore[no-any-return]

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return np.dtype(
            [
                ("is_started", np.int64),
                ("price", np.float64),
                ("market", np.float64),
                ("changes", last_pairs(room(self.params.span))),
            ]
        )
