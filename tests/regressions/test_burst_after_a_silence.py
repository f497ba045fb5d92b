"""What a forwarder sends again after an outage is read in order of time, though its topics do not come at once.

All topics of a lane were idle, so the first that brought something was yielded whole, and moved the watermark past the
windows of what the other brought a moment later: its trades were late.
"""

import numpy as np
from torghut_sources.bus.merger import LaneMerger
from torghut_sources.tape.rows import QUOTES, TRADES

from torghut_core import Quotes, Trades


def lane():
    """Two topics that were read to their ends, and have been silent for ten seconds."""
    made = LaneMerger("0", {"q": QUOTES, "t": TRADES}, {"q": 0, "t": 0}, 0.0, idle=0.2, tick=0.0)
    for topic in "qt":
        made.end(topic)
    return made


def quotes(lane, times):
    symbol = lane.symbols.number("BTC/USD")
    n = len(times)
    return Quotes.from_columns(event_ts=times, symbol=[symbol] * n, seq=range(n), bid_price=[1.0] * n), np.arange(n), n


def trades(lane, times):
    symbol = lane.symbols.number("BTC/USD")
    n = len(times)
    columns = {"price": [1.0] * n, "size": [1.0] * n}
    return Trades.from_columns(event_ts=times, symbol=[symbol] * n, seq=range(n), **columns), np.arange(n), n


def given(lane, now):
    """(table, time) of what is yielded at a time."""
    found = []
    while (batch := lane.next(100, now)) is not None:
        rows = [(int(at), "q") for at in batch.quotes.event_ts] + [(int(at), "t") for at in batch.trades.event_ts]
        found += sorted(rows)
    return found


def test_topics_that_begin_again_together_are_merged():
    """The topic that comes first waits for the other, and both are yielded in order."""
    read = lane()
    read.add("q", *quotes(read, [10, 20, 30]), 10.0)
    assert given(read, 10.01) == []
    read.add("t", *trades(read, [15, 25, 35]), 10.05)
    read.end("q")
    read.end("t")
    assert given(read, 10.05) == [(10, "q"), (15, "t"), (20, "q"), (25, "t"), (30, "q")]
    assert given(read, 10.5) == [(35, "t")]
