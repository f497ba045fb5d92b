"""Real tapes replay, and agree with what is known of them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from torghut_core import TapeError, parse_timestamp

DEMO = Path(__file__).resolve().parents[3] / "catalog" / "tapes" / "es_20130901_20130903.parquet"
TAPES = [
    "futures/trades_es_20130901_20130903.parquet",
    "crypto/bars_1m_coinbase_dev.parquet",
    "crypto/bars_1s_coinbase_dev.parquet",
    "crypto/trades_coinbase_btcusd_20230905_1600_1640.parquet",
    "crypto/trades_binance_btcusdt_20210108.parquet",
    "crypto/quotes_binance_btcusdt_20210108.parquet",
    "crypto/bars_1m_kraken_btcusdt_20251110.parquet",
    "crypto/trades_kraken_btcusdt_20251110.parquet",
    "crypto/bars_1m_btcperp_20211231_20220115.parquet",
    "daily/bars_1d_btcusd_coinbase.parquet",
]
STEPS = {"bars_1m": 60, "bars_1s": 1, "bars_1d": 86400}


@pytest.mark.shared
@pytest.mark.parametrize("name", TAPES)
def test_recorded_tape_replays_and_agrees_with_its_facts(kit, name):
    """Rows, symbols, first and last time, prices and volume are those that the data's own description states."""
    folder = kit.shared()
    facts = {each["file"]: each for each in json.loads((folder / "facts.json").read_text())}.get(name)
    stream = kit.play(folder / name)
    kind = Path(name).name.partition("_")[0]
    table, names = stream.table(kind), stream.batches[0].symbols.names
    assert (np.diff(stream.now) >= 0).all()
    assert len(table) == len(stream.now) == stream.source.total
    if kind == "bars":
        assert set(table.step.tolist()) == {STEPS[Path(name).name[:7]] * 1_000_000_000}
    if facts is None:
        return
    assert len(table) == facts["rows"]
    assert table.event_ts.min() // 1000 == parse_timestamp(facts["first_event_ts"]) // 1000  # facts stop at 1 us
    assert table.event_ts.max() // 1000 == parse_timestamp(facts["last_event_ts"]) // 1000
    for fact in facts["per_symbol"]:
        own = table.take(table.symbol == names.index(fact["symbol"]))
        assert len(own) == fact["rows"]
        assert (np.diff(own.event_ts) >= 0).all()
        assert int((np.diff(own.event_ts) == 0).sum()) == fact["same_ts_as_previous"]
        if kind == "trades":
            assert (own.price[0], own.price[-1]) == (fact["open"], fact["close"])
            assert (own.price.max(), own.price.min()) == (fact["high"], fact["low"])
            assert own.size.sum() == pytest.approx(fact["volume"], rel=1e-12)
            assert (own.seq == np.arange(len(own))).all()
        if kind == "bars":
            assert (own.open[0], own.close[-1]) == (fact["open"], fact["close"])
            assert own.volume.sum() == pytest.approx(fact["volume"], rel=1e-12)
            assert int((own.volume == 0).sum()) == fact["zero_volume_bars"]
            assert np.isnan(own.vwap[own.volume == 0]).all()


@pytest.mark.shared
def test_recorded_tapes_merge_in_order_of_time(kit):
    """Trades, quotes and bars of one market, and bars of three others, are one stream."""
    folder = kit.shared() / "crypto"
    names = [
        "trades_kraken_btcusdt_20251110.parquet",
        "bars_1m_kraken_btcusdt_20251110.parquet",
        "bars_1m_coinbase_dev.parquet",
        "trades_binance_btcusdt_20210108.parquet",
        "quotes_binance_btcusdt_20210108.parquet",
    ]
    stream = kit.play(*(folder / name for name in names))
    kinds = {"bars": 0, "quotes": 1, "trades": 2}
    order = [(known, kinds[kind], symbol, seq) for known, kind, symbol, seq in stream.events]
    assert len(order) == 1000 + 721 + 8723 + 2001 + 451
    assert order == sorted(order)


@pytest.mark.shared
def test_recorded_trade_ids_are_all_different(kit):
    """Kraken's and Binance's ids make as many keys as there are trades."""
    folder = kit.shared() / "crypto"
    for name in ("trades_kraken_btcusdt_20251110.parquet", "trades_binance_btcusdt_20210108.parquet"):
        table = kit.play(folder / name).table("trades")
        assert len(set(table.trade_key.tolist())) == len(table)
        assert 0 not in table.trade_key


@pytest.mark.shared
def test_recorded_quote_bars_are_refused(kit):
    """Quote bars say neither when a quote was made nor what stood in between: they are no quotes."""
    with pytest.raises(TapeError, match="holds quote bars, which cannot be replayed"):
        kit.play(kit.shared() / "crypto" / "quote_bars_1m_coinbase_dev.parquet")


def test_demo_tape_is_the_one_its_description_tells_of(kit):
    """500,000 trades of the E-mini, 1,844,058 contracts, and unchanged bytes."""
    stream = kit.play(DEMO)
    table = stream.table("trades")
    assert stream.batches[0].symbols.names == ["ES"]
    assert len(table) == stream.source.total == 500_000
    assert table.event_ts[0] == parse_timestamp("2013-09-01T22:00:00.083Z")
    assert table.event_ts[-1] == parse_timestamp("2013-09-03T18:51:44.578Z")
    assert (table.price.min(), table.price.max(), table.size.sum()) == (1630.75, 1650.0, 1_844_058)
    assert "MIT License" in (DEMO.parent / "README.md").read_text()
    assert (
        hashlib.sha256(DEMO.read_bytes()).hexdigest()
        == "276ce0576284bad3988a8a1b25fe9fe9d67b9736335f0d11338de9b6c6cd2140"
    )
