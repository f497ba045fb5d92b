"""What a new price is compared with: the same however the stream is cut, and never anything later."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_testing import bar_batch

from support.generations import signal_batch, with_signals
from torghut_core.model.trading import money
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.recent_prices import RecentPrices


class Traded:
    """A strategy as a generation has it, as far as it counts here."""

    def __init__(self, *symbols, step_ns=MINUTE):
        self.symbols, self.step_ns = symbols, step_ns


def batch_of(closes, symbols=("ES",), step="1Min", length=MINUTE):
    rows = [
        (symbol, number * length, close, close, close, close, 1.0)
        for number, close in enumerate(closes)
        for symbol in symbols
    ]
    return signal_batch(rows, step)


def seen(batches, symbol="ES", followed=()):
    """What is read at each position."""
    prices, found = RecentPrices(), []
    prices.follow(followed or [Traded("ES", "NQ")])
    for batch in batches:
        prices.begin(batch)
        for prices.at in range(batch.start, batch.stop):
            found.append(prices.before(symbol))
        prices.finish(batch)
    return found


def test_newest_close_is_compared_with_the_median_of_those_before():
    """One bad close among five moves it little, and the newest is not among them."""
    assert seen([batch_of([100, 101, 0.1, 102, 103, 104])]) == [None, 100, 101, 100, 101, 101]


@pytest.mark.parametrize("cut", range(1, 12))
def test_cut_of_the_stream_changes_nothing(cut):
    """Two batches give what one gives, with two symbols in them."""
    closes = [100.0, 50.0, 101.0, 70.0, 102.0, 99.0]
    whole = batch_of(closes, ("ES", "NQ"))
    halves = [with_signals(half) for half in batch_of(closes, ("ES", "NQ")).split(cut)]
    assert seen(halves, "NQ") == seen([whole], "NQ")


def test_one_print_counts_once():
    """Of bars of several lengths the shortest that is traded counts, not each of them."""
    both = [Traded("ES"), Traded("ES", step_ns=SECOND)]
    assert seen([batch_of([1, 2, 3, 4])], followed=both) == [None] * 4
    assert seen([batch_of([1, 2, 3, 4], step="1Sec", length=SECOND)], followed=both) == [None, 1, 2, 2]


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ABCDEFG"), st.sampled_from([1.0, 2.25, 3.5, 100.0, np.nan])), min_size=1, max_size=60
    ),
    cut=st.integers(0, 60),
)
def test_many_symbols_at_once_give_what_each_gives(rows, cut):
    """At any position of any batch, of symbols with many rows, few, or none."""
    minutes = dict.fromkeys("ABCDEFG", 0)
    bars = []
    for symbol, close in rows:
        minutes[symbol] += MINUTE
        bars.append((symbol, minutes[symbol], close, close, close, close, 1.0))
    whole = signal_batch(bars)
    halves = [whole] if not 0 < cut < len(whole) else [with_signals(half) for half in whole.split(cut)]
    prices = RecentPrices()
    prices.follow([Traded(*"ABCDEF")])
    for batch in halves:
        prices.begin(batch)
        for prices.at in range(batch.start, batch.stop):
            medians = [money(median) if median == median else None for median in prices.before_all("ABCDEFGH").tolist()]
            assert medians == [prices.before(symbol) for symbol in "ABCDEFGH"]
        prices.finish(batch)


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [(99.0, 101.0, (99, 101)), (90.0, 110.0, (None, None)), (np.nan, 101.0, (None, None)), (101.0, 99.0, (None, None))],
)
def test_quote_with_a_wide_spread_says_nothing(bid, ask, expected):
    """A stub quote, one side alone or a crossed market is no quote."""
    batch = with_signals(bar_batch([("ES", 0, 1.0, 1.0, 1.0, 1.0, 1.0)]))
    batch.signals.imbalance_bid_px[:], batch.signals.imbalance_ask_px[:] = bid, ask
    prices = RecentPrices()
    prices.follow([Traded("ES")])
    prices.begin(batch)
    assert prices.quote("ES") == tuple(price and Decimal(price) for price in expected)
    prices.finish(batch)
    assert prices.quote("ES") == tuple(price and Decimal(price) for price in expected)
