"""Imbalance of the sizes of a quote."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray
from torghut_core.stages import kernel

STATELESS = np.dtype([("none", np.int64)])
"""A value of one bar alone keeps nothing."""


@kernel
def share_of_bid(bid_size: float, ask_size: float) -> float:
    """Return the share of the bid in the sizes of a quote, 0 to 1; NaN without any size."""
    if bid_size < 0.0 or ask_size < 0.0 or not bid_size + ask_size > 0.0:
        return math.nan
    return bid_size / (bid_size + ask_size)


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:  # noqa: ARG001
    """Write the imbalance of each quote."""
    for i in range(len(row)):
        out[0, i] = 2.0 * share_of_bid(inputs[0, i], inputs[1, i]) - 1.0


class QuoteImbalance(Indicator):
    """Imbalance of a quote: (bid size - ask size) / (bid size + ask size), -1 to 1; above 0 there is more to buy than to sell.

    It is of the last quote at the bar's end, and NaN where that is stale or has no size.

    Source: M. D. Gould, J. Bonart (2016), Market Microstructure and Liquidity 2(2), 1650006.
    """

    inputs = ("bid_size", "ask_size")
    kernel = run

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATELESS
