"""Microprice."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, Indicator, IntArray
from torghut_core.stages import kernel
from torghut_sources.indicators.quote_imbalance import STATELESS, share_of_bid


@kernel
def run(state: Any, row: IntArray, inputs: FloatArray, numbers: FloatArray, out: FloatArray) -> None:  # noqa: ARG001
    """Write the microprice of each quote."""
    for i in range(len(row)):
        bid, ask = inputs[0, i], inputs[1, i]
        out[0, i] = bid + (ask - bid) * share_of_bid(inputs[2, i], inputs[3, i])


class Microprice(Indicator):
    """Microprice: (bid x ask size + ask x bid size) / (bid size + ask size), the middle of a quote, nearer to its thinner side.

    It is of the last quote at the bar's end, and NaN where that is stale or has no size.

    Source: J. Gatheral, R. C. A. Oomen (2010), Finance and Stochastics 14(2), 249-283.
    """

    inputs = ("bid", "ask", "bid_size", "ask_size")
    kernel = run

    def row(self) -> np.dtype[Any]:
        """See `Indicator.row`."""
        return STATELESS
