"""Spread and sizes of the best bid and offer when a bar becomes known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import FloatArray, IntArray
from torghut_core.stages import kernel

QUOTE = np.dtype(
    [
        ("seen", np.int64),
        ("event_ts", np.int64),
        ("bid_price", np.float64),
        ("bid_size", np.float64),
        ("ask_price", np.float64),
        ("ask_size", np.float64),
    ]
)
"""State: how many quotes were kept (none older than the one before), and the last of them."""


@kernel
def keep(last: Any, event_ts: int, bid_price: float, bid_size: float, ask_price: float, ask_size: float) -> None:
    """Keep a quote, unless a later one came before it."""
    if last.seen > 0 and event_ts < last.event_ts:
        return
    last.seen += 1
    last.event_ts = event_ts
    last.bid_price = bid_price
    last.bid_size = bid_size
    last.ask_price = ask_price
    last.ask_size = ask_size


@kernel
def values_of(last: Any, now: int, stale_after: int) -> tuple[float, float, float, float, float]:
    """Return spread, bid price, ask price, bid size, ask size; NaN where the last quote is more than `stale_after` ns old."""
    if last.seen == 0 or now - last.event_ts > stale_after:
        return math.nan, math.nan, math.nan, math.nan, math.nan
    return last.ask_price - last.bid_price, last.bid_price, last.ask_price, last.bid_size, last.ask_size


@kernel
def run(
    state: Any,
    stale_after: int,
    now: IntArray,
    start: int,
    quote_ints: IntArray,
    quotes: FloatArray,
    bar_ints: IntArray,
    out: FloatArray,
    first: int,
    wanted: int,
) -> int:
    """Write the quote of each bar to the `wanted` rows (a bit each) of `out` from `first` on: the five of `values_of`.

    It is the latest quote (by `event_ts`; of equal ones the last) at or before the bar's position. A side that it does not have
    is NaN, and the spread with it.

    Returns
    -------
    -1, or a symbol without a row of state.
    """
    bars = bar_ints.shape[1]
    bar = quote = 0
    while bar < bars or quote < quote_ints.shape[1]:
        is_quote = quote < quote_ints.shape[1] and (bar == bars or quote_ints[0, quote] <= bar_ints[0, bar])
        symbol = quote_ints[2, quote] if is_quote else bar_ints[2, bar]
        if symbol < 0 or symbol >= len(state):
            return int(symbol)
        last = state[symbol]
        if is_quote:
            keep(last, quote_ints[1, quote], quotes[0, quote], quotes[1, quote], quotes[2, quote], quotes[3, quote])
            quote += 1
        else:
            values = values_of(last, now[bar_ints[0, bar] - start], stale_after)
            for row in range(5):
                if wanted >> row & 1:
                    out[first + row, bar] = values[row]
            bar += 1
    return -1
