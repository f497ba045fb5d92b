"""A quote that comes again, or late, does not take the place of a later one.

A forwarder that is killed sends the last seconds again when it is back; the bars that were closed meanwhile saw the
spread of an earlier quote.
"""

import numpy as np

from support.stage_indicators import QuoteImbalance
from torghut_core.model.market import Bars, Quotes


def test_an_older_quote_changes_nothing():
    """Of quotes 10, 20, 10 and again 20 a bar sees the one of 20, and of two of the same time the last."""
    quotes = Quotes.from_columns(
        at=[0, 1, 2, 4],
        event_ts=[10, 20, 10, 20],
        bid_price=[1.0, 2.0, 1.0, 2.5],
        bid_size=[1.0] * 4,
        ask_price=[1.5, 3.0, 1.5, 3.0],
        ask_size=[1.0] * 4,
    )
    bars = Bars.from_columns(at=[3, 5], event_ts=[0, 1])
    spread, bid, *_ = QuoteImbalance(1, stale_after=50).update(np.full(6, 20), 0, quotes, bars)
    assert spread.tolist() == [1.0, 0.5]
    assert bid.tolist() == [2.0, 2.5]
