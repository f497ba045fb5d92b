"""Recorded trades: whole-file sums, and the exchange's own candles."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from torghut_sources.stages.microbars import Microbars
from torghut_sources.stages.resample import Resample

from torghut_core import Batch, SymbolTable, Trades

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "crypto"
SECOND = 1_000_000_000

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.exists(), reason="the recorded data is not beside the project"),
]


def columns(file, *names):
    """Columns of a tape as arrays, times as ns."""
    table = pq.read_table(SHARED / file)
    return [
        (table[name].cast("int64") if name == "event_ts" else table[name]).to_numpy(zero_copy_only=False)
        for name in names
    ]


def batches(file, size):
    """The trades of a file in batches, with a clock tick an hour later at the end."""
    ts, price, amount, trade_id = columns(file, "event_ts", "price", "size", "trade_id")
    n, symbols = len(ts), SymbolTable()
    symbols.number("BTC/USDT")
    trades = Trades.from_columns(
        at=np.arange(n),
        event_ts=ts,
        seq=np.arange(n),
        price=price,
        size=amount,
        trade_key=np.nan_to_num(trade_id.astype(float)),
    )
    batch = Batch.of(symbols, 0, np.append(np.maximum.accumulate(ts), ts.max() + 3600 * SECOND), trades)
    while len(batch) > size:
        head, batch = batch.split(batch.start + size)
        yield head
    yield batch


def derived(file, stages, size=100):
    """All microbars of a file, and how many trades were left out."""
    tables, left_out = [], 0
    for batch in batches(file, size):
        for stage in stages:
            stage.update(batch)
        tables.append(batch.microbars)
        left_out += batch.late + batch.duplicates + batch.excluded
    return type(tables[0]).concatenate(tables), left_out


# file, rows, open, high, low, close, volume, vwap: the table "Check your aggregation" that came with the data
WHOLE_FILES = [
    (
        "trades_coinbase_btcusd_20230905_1600_1640.parquet",
        3640,
        25741.02,
        25809.48,
        25714.11,
        25789.85,
        122.76682569,
        25774.3433485,
    ),
    ("trades_binance_btcusdt_20210108.parquet", 2001, 39432.48, 39550.0, 39430.3, 39491.76, 87.071596, 39492.76626827),
    (
        "trades_kraken_btcusdt_20251110.parquet",
        1000,
        105433.6,
        106282.5,
        105320.3,
        105899.4,
        93.10181737,
        106009.61447217,
    ),
]


@pytest.mark.parametrize("row", WHOLE_FILES, ids=[row[0] for row in WHOLE_FILES])
def test_microbars_add_up_to_the_whole_file(row):
    """Open, high, low, close, volume, volume-weighted price and count of all microbars are those of the file."""
    file, count, *prices, volume, vwap = row
    b, left_out = derived(file, [Microbars(Microbars.Params())])
    assert left_out == 0
    assert b.count.sum() == count
    assert [b.open[0], b.high.max(), b.low.min(), b.close[-1]] == prices
    assert b.volume.sum() == pytest.approx(volume, rel=1e-12)
    assert (b.vwap * b.volume).sum() / b.volume.sum() == pytest.approx(vwap, rel=1e-12)


def test_minutes_from_trades_are_the_exchanges_candles():
    """273 of 274 common minutes of Kraken agree exactly; the first does not, the page of trades begins inside it."""
    stages = [Microbars(Microbars.Params()), Resample(Resample.Params())]
    b, _ = derived("trades_kraken_btcusdt_20251110.parquet", stages)
    ours = b.take(b.step == 60 * SECOND)
    names = ["event_ts", "open", "high", "low", "close", "volume", "trade_count"]
    candles = dict(zip(names, columns("bars_1m_kraken_btcusdt_20251110.parquet", *names), strict=True))
    common, mine, theirs = np.intersect1d(ours.event_ts, candles["event_ts"], return_indices=True)
    equal = np.isclose(ours.volume[mine], candles["volume"][theirs], rtol=1e-12, atol=0)
    for name in ("open", "high", "low", "close"):
        equal &= getattr(ours, name)[mine] == candles[name][theirs]
    equal &= ours.count[mine] == candles["trade_count"][theirs]
    assert (len(common), int(equal.sum())) == (274, 273)
    assert not equal[0]
