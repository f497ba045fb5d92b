"""From the derived rows of batches to Arrow tables."""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from torghut_core.model.market import SIGNAL_COLUMNS, Bars, Batch, Signals, SymbolTable
from torghut_core.signals.rows import arrow_table, derived_rows, digest
from torghut_core.signals.schema import TABLES, arrow_schema
from torghut_core.timestamps import SECOND

T0 = 1_767_623_400_000_000_001
"""A time that a double cannot hold: 2026-01-05T14:30:00.000000001Z."""


def batch_of(
    closes: Sequence[float], name: str = "ES", step: int = SECOND, symbols: SymbolTable | None = None, start: int = 0
) -> Batch:
    """A bar and a signal per close, each known at the end of its bar."""
    symbols = symbols or SymbolTable()
    n = len(closes)
    number = symbols.number(name)
    event_ts = T0 + np.arange(n) * step
    batch = Batch.of(symbols, start, event_ts + step)
    head = {
        "at": start + np.arange(n),
        "event_ts": event_ts,
        "symbol": np.full(n, number),
        "seq": event_ts // step,
        "step": np.full(n, step),
        "series": np.full(n, symbols.series(number, step)),
    }
    batch.microbars = Bars.from_columns(**head, count=np.arange(n), open=closes, high=closes, low=closes, close=closes)
    batch.signals = Signals.from_columns(**head, rsi14=closes, close=closes)
    return batch


def stored(table: str, *batches: Batch) -> pa.Table:
    return arrow_table(table, [derived_rows(batch)[table] for batch in batches])


def test_a_bar_becomes_a_row_of_the_contract_s_columns():
    """A row has every column of its table, in order, with the window as text and as times to the nanosecond."""
    row = stored("microbars", batch_of([100.25])).to_pylist()[0]

    assert list(row) == [column.name for column in TABLES["microbars"]]
    assert (row["symbol"], row["window_size"], row["window_step"], row["source"]) == ("ES", "PT1S", "PT1S", "ta")
    assert (row["is_final"], row["version"], row["seq"], row["count"]) == (True, 1, T0 // SECOND, 0)
    assert (row["o"], row["h"], row["l"], row["c"]) == (100.25, 100.25, 100.25, 100.25)
    assert (row["event_ts"].value, row["window_start"].value, row["window_end"].value) == (T0, T0, T0 + SECOND)


def test_ingest_ts_is_the_loop_s_time_at_the_row():
    """A replay stores the same `ingest_ts` as the run that it repeats: the loop's time, also in a later batch."""
    batch = batch_of([1.0, 2.0, 3.0], start=70)

    assert stored("signals", batch)["ingest_ts"].cast(pa.int64()).to_pylist() == batch.now.tolist()


def test_rows_that_were_learned_later_say_so():
    """What is fetched after the fact is newer than what the loop made of it then, and never older than the loop's time."""
    batch = batch_of([1.0, 2.0, 3.0])
    rows = arrow_table("signals", [derived_rows(batch, T0 + 2 * SECOND)["signals"]])

    assert rows["ingest_ts"].cast(pa.int64()).to_pylist() == [T0 + n * SECOND for n in (2, 2, 3)]


def test_no_value_is_null():
    """NaN becomes null, in a column that has some values and in one that has none; the close is not stored."""
    table = stored("signals", batch_of([math.nan, 31.5]))

    assert table["rsi14"].to_pylist() == [None, 31.5]
    assert table["macd"].null_count == 2
    assert table.column_names[-len(SIGNAL_COLUMNS) :] == list(SIGNAL_COLUMNS)


def test_a_batch_without_rows_gives_none():
    """Most batches derive nothing: they give no rows for any table, and no rows make an empty table."""
    assert derived_rows(Batch.of(SymbolTable(), 0, np.array([T0]))) == {}
    assert arrow_table("signals", []).schema == arrow_schema("signals")


def test_rows_of_two_runs_keep_their_own_symbols():
    """Two symbol tables number their symbols each for itself, and a block may hold rows of both."""
    other = SymbolTable()
    other.number("BTC/USD")

    table = stored("microbars", batch_of([1.0]), batch_of([2.0], "ETH/USD", 60 * SECOND, other), batch_of([3.0]))

    assert table["symbol"].to_pylist() == ["ES", "ETH/USD", "ES"]
    assert table["window_size"].to_pylist() == ["PT1S", "PT1M", "PT1S"]


def test_rows_do_not_keep_a_larger_block_alive():
    """Of a part of a block just the part is kept; a whole block is kept as it is."""
    batch = batch_of([1.0, 2.0, 3.0])
    block = batch.microbars.floats
    assert np.shares_memory(derived_rows(batch)["microbars"].values.floats, block)

    batch.microbars = batch.microbars.rows(1, 2)
    rows = derived_rows(batch)["microbars"]
    assert not np.shares_memory(rows.values.floats, block)
    assert arrow_table("microbars", [rows])["c"].to_pylist() == [2.0]


def test_the_same_rows_have_the_same_token():
    """The token is a function of the rows: however they were cut into batches, and no two others share it."""
    symbols = SymbolTable()
    whole = stored("microbars", batch_of([1.0, 2.0, math.nan], symbols=symbols))
    again = stored("microbars", batch_of([1.0, 2.0, math.nan]))

    assert digest(whole) == digest(again)
    assert digest(whole) != digest(stored("microbars", batch_of([1.0, 2.0, 3.0])))
    assert digest(whole) != digest(stored("microbars", batch_of([1.0, 2.0, math.nan], "NQ")))
