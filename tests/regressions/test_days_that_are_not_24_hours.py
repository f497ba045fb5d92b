"""A daily bar of a day of 25 hours was known after 24: what was bought on it was bought an hour before its close was known."""

import asyncio

import pytest
from torghut_sources.tape.source import Replay

from torghut_core import format_timestamp
from torghut_core.research import load_catalog, run_backtest, tape_generation

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: indicators}]
    broker: {use: simulated}
strategies:
  - {name: hold, use: buy-and-hold, base_timeframe: 1Day, symbols: ["BTC/USD"], params: {quantity: "10"}}
"""
BARS = """symbol,event_ts,open,high,low,close,volume
BTC/USD,2024-11-03T04:00:00Z,100,120,100,120,1000
BTC/USD,2024-11-04T05:00:00Z,120,120,120,120,1000
BTC/USD,2024-11-05T05:00:00Z,120,120,120,120,1000
"""
TRADES = """symbol,event_ts,price,size
BTC/USD,2024-11-04T04:10:00Z,100,50
BTC/USD,2024-11-04T04:50:00Z,100,50
BTC/USD,2024-11-04T05:00:00Z,120,50
"""


def tapes(folder, bars=BARS, trades=TRADES):
    (folder / "bars.csv").write_text(bars)
    (folder / "trades.csv").write_text(trades)
    return [folder / "bars.csv", folder / "trades.csv"]


@pytest.mark.parametrize("size", [1, 2, 65_536])
def test_nothing_is_bought_before_the_day_is_over(tmp_path, size):
    """A strategy that buys on a day's bar pays the price after that day, whatever the batch size."""
    result = run_backtest(tape_generation(load_catalog({"c.yaml": CATALOG}), tapes(tmp_path)), batch_size=size)
    (fill,) = result.fills()
    assert (float(fill["price"]), format_timestamp(fill["event_ts"])) == (120.0, "2024-11-04T05:00:00Z")
    assert result.denied() == []


def test_a_followed_tape_knows_its_days_as_a_complete_one_does(tmp_path):
    """When a daily bar is known depends on the bar alone, not on the rows that are written after it."""

    async def times(path, **params):
        source = Replay(Replay.Params(paths=[str(path)], bar_step="1Day", **params))
        found = []
        async for batch in source.batches(1):
            found += batch.now.tolist()
            if len(found) == 3:
                return found
        return found

    path = tapes(tmp_path)[0]
    assert asyncio.run(times(path)) == asyncio.run(times(path, follow=True))
