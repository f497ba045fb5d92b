"""What every signal store promises to its readers, and to who exports from it."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torghut_core.errors import InputError, NotFoundError
from torghut_core.model.market import SIGNAL_COLUMNS
from torghut_core.signals import Selection
from torghut_core.signals.schema import TABLES, arrow_schema
from torghut_core.timestamps import SECOND

T0 = 1_767_623_400_000_000_001


def times(table):
    return table["event_ts"].cast(pa.int64()).to_pylist()


def test_bars_are_read_as_they_were_written(store, derived_batch):
    """Bars come back to the last bit, times to the nanosecond, in the kernel's words."""
    store.write(derived_batch([0.1, 1640.25]))
    store.flush()
    bars = store.bars()

    assert times(bars) == [T0, T0 + SECOND]
    assert bars.drop_columns("event_ts").to_pylist()[1] == {
        "symbol": "ES",
        "window_size": "PT1S",
        "seq": T0 // SECOND + 1,
        "open": 1640.25,
        "high": 1641.25,
        "low": 1638.25,
        "close": 1640.25,
        "volume": 820.125,
        "vwap": 1640.25,
        "count": 1,
    }
    assert bars["close"][0].as_py() == 0.1


def test_signals_have_just_the_columns_that_are_asked_for(store, derived_batch):
    """A strategy's columns are read and no others; what is not warm is null."""
    store.write(derived_batch([math.nan, 10.0]))
    store.flush()

    assert store.signals(columns=("rsi14", "macd")).drop_columns("event_ts").to_pylist() == [
        {"symbol": "ES", "window_size": "PT1S", "seq": T0 // SECOND, "rsi14": None, "macd": None},
        {"symbol": "ES", "window_size": "PT1S", "seq": T0 // SECOND + 1, "rsi14": 10.05, "macd": 10.0},
    ]
    assert store.signals().column_names[4:] == list(SIGNAL_COLUMNS)


def test_an_unknown_signal_column_is_refused(store):
    """A misspelt column is named, with those there are, and never a guess of null."""
    with pytest.raises(NotFoundError, match=r"no column rsi41 .*rsi14"):
        store.signals(columns=("rsi41",))


def test_rows_that_were_written_twice_are_there_once(store, derived_batch, tmp_path):
    """A tape replayed into the same state adds no rows: not to readers, counts or exports."""
    for _ in range(2):
        store.write(derived_batch([1.0, 2.0]))
        store.write(derived_batch([3.0], symbol="NQ"))
        store.flush()

    assert store.counts() == {"microbars": 3, "signals": 3}
    assert store.bars()["close"].to_pylist() == [1.0, 3.0, 2.0]
    assert store.signals("ES", limit=5)["macd"].to_pylist() == [1.0, 2.0]
    assert store.export("microbars", str(tmp_path / "bars.parquet")) == 3


@pytest.mark.parametrize("delays", [(0, 5), (5, 0)])
def test_of_equal_keys_the_row_known_last_is_read(store, derived_batch, delays, tmp_path):
    """A recomputed row replaces the earlier one by `ingest_ts`, whichever of them was written first."""
    for delay in delays:
        store.write(derived_batch([100.0 + delay], delay=delay))
        store.flush()

    assert store.bars()["close"].to_pylist() == [105.0]
    store.export("signals", str(tmp_path / "signals.parquet"))
    assert pq.read_table(tmp_path / "signals.parquet")["macd"].to_pylist() == [105.0]


def test_a_back_fill_replaces_rows_that_the_loop_knew_later(store, derived_batch):
    """When the loop closes a window depends on what other symbols bring: rows that are fetched later win all the same."""
    store.write(derived_batch([100.0], delay=9 * SECOND))
    store.flush()
    store._learned_at = T0 + 3600 * SECOND
    store.write(derived_batch([150.0]))
    store.flush()

    assert store.bars()["close"].to_pylist() == [150.0]
    assert store.signals()["macd"].to_pylist() == [150.0]


def test_a_span_is_half_open(store, derived_batch):
    """`since` is in, `until` is out, to the nanosecond: spans side by side share no row and leave none out."""
    store.write(derived_batch([1.0, 2.0, 3.0, 4.0]))
    store.flush()

    assert store.bars("ES", since=T0 + SECOND, until=T0 + 3 * SECOND)["close"].to_pylist() == [2.0, 3.0]
    assert store.bars("ES", since=T0 + SECOND + 1)["close"].to_pylist() == [3.0, 4.0]


def test_a_limit_keeps_the_newest_rows_in_time_order(store, derived_batch):
    """A chart of the last n bars asks for n rows, and gets them oldest first."""
    store.write(derived_batch([1.0, 2.0, 3.0]))
    store.write(derived_batch([9.0], symbol="NQ", first=T0 + 10 * SECOND))
    store.flush()

    assert store.signals("ES", limit=2)["macd"].to_pylist() == [2.0, 3.0]
    assert store.bars(limit=2)["close"].to_pylist() == [3.0, 9.0]


def test_each_window_size_is_a_series(store, derived_batch):
    """A symbol has a series for each window size, all in the same tables."""
    store.write(derived_batch([1.0, 2.0]))
    store.write(derived_batch([7.0], step=60 * SECOND))
    store.flush()

    assert store.bars("ES", "PT1M")["close"].to_pylist() == [7.0]
    assert store.bars("ES", "PT1S")["close"].to_pylist() == [1.0, 2.0]
    assert store.bars("ES")["window_size"].to_pylist() == ["PT1M", "PT1S", "PT1S"]


def test_newest_row_of_a_symbol(store, derived_batch):
    """The newest bar and signal; of a symbol that was never seen, nothing."""
    store.write(derived_batch([1.0, 2.0]))
    store.flush()
    bars, signals = store.bars("ES", limit=1), store.signals("ES", limit=1)

    assert (bars["close"].to_pylist(), bars["event_ts"].cast("int64").to_pylist()) == ([2.0], [T0 + SECOND])
    assert (signals["macd"].to_pylist(), signals["event_ts"].cast("int64").to_pylist()) == ([2.0], [T0 + SECOND])
    assert store.bars("NQ", limit=1).num_rows == store.signals("NQ", limit=1).num_rows == 0


def test_an_export_has_the_table_s_columns_in_order_of_the_key(store, derived_batch, tmp_path):
    """Other programs read the file: columns as in the table, sorted by symbol, event_ts, window_size, seq."""
    store.write(derived_batch([5.0], symbol="NQ"))
    store.write(derived_batch([1.0, math.nan]))
    store.write(derived_batch([8.0], step=60 * SECOND))
    path = tmp_path / "signals.parquet"
    assert store.export("signals", str(path)) == 4  # what was written just now is in it

    table = pq.read_table(path)
    assert table.schema == arrow_schema("signals")
    assert table.column_names == [column.name for column in TABLES["signals"]]
    assert table["symbol"].to_pylist() == ["ES", "ES", "ES", "NQ"]
    assert table["window_size"].to_pylist() == ["PT1M", "PT1S", "PT1S", "PT1S"]
    assert table["macd"].to_pylist() == [8.0, 1.0, None, 5.0]


def test_an_empty_store_exports_an_empty_table(store, tmp_path):
    """A file without rows still has its columns."""
    assert store.export("microbars", str(tmp_path / "bars.parquet")) == 0
    assert pq.read_schema(tmp_path / "bars.parquet") == arrow_schema("microbars")


def test_an_export_of_no_table_says_which_there_are(store, tmp_path):
    """A wrong name writes no file."""
    with pytest.raises(NotFoundError, match="no table 'bars'"):
        store.export("bars", str(tmp_path / "bars.parquet"))
    assert not (tmp_path / "bars.parquet").exists()


def test_an_export_to_a_place_that_is_not_there_names_it(store, tmp_path):
    """The message has the path and the reason."""
    path = tmp_path / "nowhere" / "bars.parquet"
    with pytest.raises(InputError, match=r"nowhere/bars.parquet: No such file or directory \(choose another file\)"):
        store.export("microbars", str(path))


def test_an_export_that_fails_leaves_the_file_that_was_there(store, derived_batch, tmp_path, monkeypatch):
    """A file appears whole or not at all, so the last good one is never cut short."""
    path = tmp_path / "out" / "bars.parquet"
    path.parent.mkdir()
    path.write_bytes(b"the last good one")
    store.write(derived_batch([1.0]))

    def full(writer, page):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(InputError, match="No space left on device"):
        store.export("microbars", str(path))
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"the last good one"


def test_closing_twice_is_harmless(store, derived_batch):
    """Two owners may both be sure."""
    store.write(derived_batch([1.0]))
    store.close()
    store.close()


def test_newest_rows_are_counted_for_each_symbol(store, derived_batch):
    """Of each symbol that is asked for the newest rows, duplicates counted once; others and other windows are not there."""
    for batch in (
        derived_batch([1.0, 2.0, 3.0]),
        derived_batch([2.0, 3.0], first=T0 + SECOND, delay=SECOND),
        derived_batch([10.0, 20.0, 30.0, 40.0], symbol="BTC/USD"),
        derived_batch([7.0], symbol="NQ"),
        derived_batch([9.0], step=60 * SECOND),
    ):
        store.write(batch)
    store.flush()
    found = store.newest(
        "microbars",
        ("symbol", "event_ts", "c"),
        ["ES", "BTC/USD"],
        Selection(window_size="PT1S", until=T0 + 3 * SECOND, limit=2),
    )
    rows = sorted(zip(found["symbol"].to_pylist(), found["c"].to_pylist(), strict=True))
    assert rows == [("BTC/USD", 20.0), ("BTC/USD", 30.0), ("ES", 2.0), ("ES", 3.0)]
    none = store.newest(
        "microbars", ("symbol", "c"), ["ES"], Selection(window_size="PT1S", since=T0 + 9 * SECOND, limit=2)
    )
    assert none.num_rows == 0
