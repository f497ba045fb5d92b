"""Trades and the venue's own minutes were one series: each minute came twice, and every average was wrong."""

import pytest

from torghut_core import format_timestamp, parse_timestamp
from torghut_core.research import load_catalog, run_backtest, tape_generation

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}, {use: resample, params: {timeframes: [1Min]}}, {use: indicators}]
    broker: {use: simulated}
strategies:
  - {name: hold, use: ema-cross, base_timeframe: 1Min, symbols: [ACME]}
"""
START = parse_timestamp("2024-06-05T14:00:00Z")
PRICES = [100 + (minute * 7919 % 101) / 100 for minute in range(60)]


@pytest.fixture
def tapes(tmp_path):
    """An hour of trades, three a minute, and the venue's minutes of the same trades."""
    trades, bars = ["symbol,event_ts,price,size"], ["symbol,event_ts,open,high,low,close,volume"]
    for minute, close in enumerate(PRICES):
        start = START + minute * 60_000_000_000
        bars.append(f"ACME,{format_timestamp(start)},100,102,99,{close},30")
        for second, price in ((5, 100), (20, 102), (35, 99), (50, close)):
            trades.append(f"ACME,{format_timestamp(start + second * 1_000_000_000)},{price},7.5")
    trades.append(f"ACME,{format_timestamp(START + 3_600_000_000_000)},100,1")  # the last minute is over
    (tmp_path / "trades.csv").write_text("\n".join(trades))
    (tmp_path / "bars.csv").write_text("\n".join(bars))
    return [tmp_path / "bars.csv", tmp_path / "trades.csv"]


def signals(tapes, size):
    done = run_backtest(tape_generation(load_catalog({"c.yaml": CATALOG}), tapes), batch_size=size)
    rows = [row for row in done.signal_rows().to_pylist() if row["window_size"] == "PT1M"]
    return done.totals.strategies["hold"].rows, [(row["event_ts"], row["ema12"]) for row in rows]


@pytest.mark.parametrize("size", [1, 7, 65_536])
def test_the_minutes_of_each_source_are_a_series_of_their_own(tapes, size):
    """Together they give the same averages as either alone, a strategy sees one row a minute, and both are stored."""
    alone = [signals([tape], 65_536) for tape in tapes]
    shown, rows = signals(tapes, size)
    assert alone[0] == alone[1]
    assert shown == alone[0][0] > 0
    assert sorted(rows, key=str) == sorted(alone[0][1] * 2, key=str)
