"""Spread and sizes of the best bid and offer when a bar becomes known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torghut_core import Bars, FloatArray, IntArray, Quotes, ShapeError
from torghut_core.stages import kernel
from torghut_sources.stages.indicator import Indicator

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
    """Return spread, bid price, ask price, bid size, ask size; NaN where the last quote is older than `stale_after` ns."""
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
    """Write the quote of each bar to the `wanted` rows (a bit each) of `out` from `first` on.

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


class QuoteImbalance(Indicator):
    """Spread and sizes of each symbol's last fresh quote, at its bars.

    Parameters
    ----------
    symbols : rows of state.
    stale_after : age at which a quote is stale, ns.
    """

    def __init__(self, symbols: int, stale_after: int) -> None:
        super().__init__(QUOTE, symbols)
        self.stale_after = stale_after

    def update(self, now: IntArray, start: int, quotes: Quotes, bars: Bars) -> FloatArray:
        """Advance by the quotes and bars of a batch.

        Parameters
        ----------
        now : shape (positions,), the loop's time at each position, ns.
        start : the first position.
        quotes, bars : tables in order of `at`; their `symbol` is the row of the state.

        Returns
        -------
        Shape (5, bars): spread, bid price, ask price, bid size, ask size of the latest quote (by `event_ts`; of equal
        ones the last) at or before each bar's position, where the loop's time there is at most `stale_after` past that
        quote's `event_ts`; else NaN. A side that the quote does not have is NaN, and the spread with it.

        Raises
        ------
        ShapeError : a symbol has no row.

        Examples
        --------
        >>> quotes = Quotes.from_columns(at=[0], event_ts=[10], bid_price=[1.0], bid_size=[5.0], ask_price=[1.5])
        >>> bars = Bars.from_columns(at=[1, 2], event_ts=[0, 1])
        >>> QuoteImbalance(symbols=1, stale_after=5).update(np.array([10, 15, 16]), 0, quotes, bars).T.tolist()
        [[0.5, 1.0, 1.5, 5.0, nan], [nan, nan, nan, nan, nan]]
        """
        out = np.empty((5, len(bars)))
        unknown = run(self.state, self.stale_after, now, start, quotes.ints, quotes.floats, bars.ints, out, 0, 0b11111)
        if unknown >= 0:
            raise ShapeError(f"QuoteImbalance: symbol {unknown}, and the state has rows 0 to {len(self.state) - 1}")
        return out
