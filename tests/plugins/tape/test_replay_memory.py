"""A tape may be larger than memory: what is held at once does not grow with the file."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MB = 1 << 20


def write_trades(path, kit, rows, symbols=1):
    """A Parquet file of many row groups, the symbols one after the other."""
    schema = pa.schema(
        [
            ("symbol", pa.string()),
            ("event_ts", pa.timestamp("ns", "UTC")),
            ("price", pa.float64()),
            ("size", pa.float64()),
            ("trade_id", pa.int64()),
        ]
    )
    part = 20_000
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, part):
            number = np.arange(start, start + part) % (rows // symbols)
            columns = {
                "symbol": [f"S{start * symbols // rows}"] * part,
                "event_ts": pa.array(kit.T0 + number * 1000, pa.timestamp("ns", "UTC")),
                "price": rng.uniform(1, 2, part),
                "size": rng.uniform(1, 2, part),
                "trade_id": np.arange(start, start + part),
            }
            writer.write_table(pa.table(columns, schema))


def peak_of_playing(path, kit):
    """Most bytes held at once, by Python and by Arrow, and the events that came."""
    events = 0
    arrow_before = pa.total_allocated_bytes()
    arrow = 0
    tracemalloc.start()

    async def read():
        nonlocal events, arrow
        async for batch in kit.source(path).batches(10_000):
            events += len(batch)
            arrow = max(arrow, pa.total_allocated_bytes() - arrow_before)

    kit.run(read())
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return python + arrow, events


@pytest.mark.parametrize("symbols", [pytest.param(1, marks=pytest.mark.proof), 10])
def test_memory_does_not_grow_with_the_tape(kit, tmp_path, symbols):
    """Six times the rows, the same memory: for a stream in order of time, and for symbols one after the other."""
    write_trades(tmp_path / "small.parquet", kit, 200_000, symbols)
    write_trades(tmp_path / "large.parquet", kit, 1_200_000, symbols)
    small, _ = peak_of_playing(tmp_path / "small.parquet", kit)
    large, events = peak_of_playing(tmp_path / "large.parquet", kit)
    assert events == 1_200_000
    assert large < small * 1.2
    assert large < 64 * MB  # the whole tape would be 73 MB as a table, and 46 MB more as it stands in the file


@pytest.mark.parametrize("suffix", ["csv", pytest.param("jsonl", marks=pytest.mark.proof)])
def test_text_is_read_in_blocks(kit, tmp_path, suffix):
    """A tape of text takes the memory of a few blocks, however long it is."""
    path = tmp_path / f"tape.{suffix}"
    if suffix == "csv":
        kit.write_csv(path, [kit.trade(i, price=1 + i / 7) for i in range(100_000)])
    else:
        line = kit.envelope("trades", kit.trade()).encode()
        kit.write_jsonl(path, [line] * 15_000)
    peak, _ = peak_of_playing(path, kit)
    assert path.stat().st_size > 3 * MB
    assert peak < 12 * MB
