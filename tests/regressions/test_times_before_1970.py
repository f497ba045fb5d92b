"""Before 1970 times are negative: the session average was null, and a strategy was shown rows and never traded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from support.stage_indicators import SessionVwap
from torghut_core import DAY, format_timestamp, parse_timestamp
from torghut_core.research import load_catalog, run_backtest, tape_generation

CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}, {use: resample, params: {timeframes: [1Min]}}, {use: indicators}]
    broker: {use: simulated, params: {fees: {"*": {bps: "1"}}, latency_ms: 300}}
strategies:
  - {name: reversion, use: mean-reversion, base_timeframe: 1Sec, symbols: ["BTC/USD"], params: {quantity: "2"}}
  - {name: trend, use: ema-cross, base_timeframe: 1Min, symbols: ["BTC/USD"], cooldown_seconds: 3}
  - {name: hold, use: buy-and-hold, base_timeframe: 1Sec, symbols: ["BTC/USD"], params: {quantity: "2"}}
risk: [{use: cooldown}, {use: stale-price}]
"""


def run(folder, start, size):
    """Trade a tape that begins at a time; give the signals and fills with times counted from there."""
    random = np.random.default_rng(7)
    at = start + np.cumsum(random.integers(1, 4, 3000)) * 1_000_000_000
    price = 100 + np.cumsum(random.normal(0, 0.05, 3000)).round(2)
    lines = [f"BTC/USD,{format_timestamp(int(t))},{p:.2f},1" for t, p in zip(at, price, strict=True)]
    tape = folder / f"{start}.csv"
    tape.write_text("\n".join(["symbol,event_ts,price,size", *lines]))
    done = run_backtest(tape_generation(load_catalog({"c.yaml": CATALOG}), [tape]), batch_size=size)
    fills = [(fill["strategy_id"], fill["event_ts"] - start, fill["price"], fill["quantity"]) for fill in done.fills()]
    columns = ("vwap_session", "vwap_w5m", "ema12", "rsi14", "vol_realized_w60s")
    return fills, [tuple(row[name] for name in columns) for row in done.signal_rows().to_pylist()]


@pytest.mark.parametrize(("date", "size"), [("1969-12-29", 65_536), ("1969-12-31", 1_000), ("1925-07-01", 65_536)])
def test_the_same_is_traded_in_every_year(tmp_path, date, size):
    """A tape that is moved by whole days gives the same signals and fills, also over midnight of 1970."""
    moved = run(tmp_path, parse_timestamp(f"{date}T23:30:00Z"), size)
    assert moved == run(tmp_path, parse_timestamp("2024-06-05T23:30:00Z"), 65_536)
    assert len(moved[0]) > 10


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.floats(1, 100), st.integers(0, 5)), max_size=30), st.integers(-9999, 9999)
)
@examples(200)
def test_session_averages_do_not_depend_on_the_year(bars, days):
    """Sessions that are moved by days, late bars included, have the same averages."""
    symbol = np.zeros(len(bars), np.int64)
    opened = np.array([day * DAY for day, _, _ in bars], np.int64)
    price, volume = np.array([each[1] for each in bars]), np.array([each[2] for each in bars], np.float64)
    found = [SessionVwap(1).update(symbol, opened + moved * DAY, price, volume) for moved in (days, 20_000)]
    np.testing.assert_array_equal(*found)
