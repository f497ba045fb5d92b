"""Tapes written for a test, and what a replay of them gives."""

import asyncio
import csv
import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torghut_sources.tape.source import Replay

from torghut_core import BarPayload, Batch, Envelope, QuotePayload, TradePayload, Window, format_timestamp

ARROW = {
    "symbol": pa.string(),
    "event_ts": pa.timestamp("ns", "UTC"),
    "ingest_ts": pa.timestamp("ns", "UTC"),
    "seq": pa.int64(),
    "trade_count": pa.int64(),
    "exchange": pa.string(),
    "conditions": pa.string(),
    "suspicious": pa.bool_(),
}


def write_parquet(path, rows, **options):
    """Rows (dicts of one set of keys, times in ns) as a Parquet file; ids are of whatever type they have."""
    columns = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}
    arrays = {
        name: pa.array(values, None if name == "trade_id" else ARROW.get(name, pa.float64()))
        for name, values in columns.items()
    }
    pq.write_table(pa.table(arrays), path, **options)


def write_csv(path, rows):
    """Rows as CSV, None as an empty field, times as RFC 3339."""
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([_text(name, value) for name, value in row.items()])


def _text(name, value):
    if value is None:
        return ""
    if name in ("event_ts", "ingest_ts"):
        return format_timestamp(value)
    return str(value).lower() if isinstance(value, bool) else value


def envelope(channel, row, step=None):
    """A row as it travels on the bus."""
    payloads = {"trades": TradePayload, "quotes": QuotePayload, "bars": BarPayload}
    own = {name: value for name, value in row.items() if name in payloads[channel].__struct_fields__}
    if row.get("conditions"):
        own["conditions"] = tuple(row["conditions"].split(","))
    if "trade_count" in row:
        own["count"] = row["trade_count"]
    return Envelope(
        ingest_ts=row.get("ingest_ts", row["event_ts"]),
        event_ts=row["event_ts"],
        feed="test",
        channel=channel,
        symbol=row["symbol"],
        seq=row.get("seq", 0),
        is_final=True,
        source="test",
        window=Window.of(row["event_ts"], step) if step else None,
        payload=payloads[channel](**own),
    )


def write_jsonl(path, envelopes):
    """Envelopes (or raw lines), one a line."""
    lines = [each if isinstance(each, bytes) else each.encode() for each in envelopes]
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@dataclass
class Stream:
    """All that a replay gave, put together again."""

    source: Replay
    batches: list[Batch] = field(default_factory=list)

    def table(self, name):
        """A whole table of the stream."""
        tables = [getattr(batch, name) for batch in self.batches]
        return type(tables[0]).concatenate(tables)

    @property
    def now(self):
        """The loop's time at each position."""
        return np.concatenate([batch.now for batch in self.batches])

    @property
    def events(self):
        """(time known, kind, symbol, seq) of each event, in stream order."""
        events = {}
        for kind in ("trades", "quotes", "bars"):
            table = self.table(kind)
            end = table.step if kind == "bars" else np.zeros(len(table), np.int64)
            names = [self.batches[0].symbols.names[number] for number in table.symbol]
            rows = zip((table.event_ts + end).tolist(), [kind] * len(table), names, table.seq.tolist(), strict=True)
            events |= dict(zip(table.at.tolist(), rows, strict=True))
        assert sorted(events) == list(range(len(self.now)))
        return [events[position] for position in sorted(events)]


async def _collect(source, size, limit):
    stream = Stream(source)
    async for batch in source.batches(size):
        assert 0 < len(batch) <= size
        stream.batches.append(batch)
        if len(stream.batches) == limit:
            break
    return stream


def play(*paths, size=65_536, limit=None, source=None, **params):
    """Replay tapes; `limit` stops after so many batches, `source` continues with one that has started."""
    source = source or Replay(Replay.Params(paths=[str(path) for path in paths], **params))
    return asyncio.run(_collect(source, size, limit))


def assert_same(left, right):
    """Two streams agree in every position, time and value, symbols and conditions by their text."""
    assert left.now.tolist() == right.now.tolist()
    for kind in ("trades", "quotes", "bars"):
        ours, theirs = left.table(kind), right.table(kind)
        np.testing.assert_array_equal(ours.ints, theirs.ints, err_msg=kind)
        np.testing.assert_array_equal(ours.floats, theirs.floats, err_msg=kind)
    ours, theirs = left.batches[0].symbols, right.batches[0].symbols
    assert (ours.names, ours.conditions) == (theirs.names, theirs.conditions)
    assert (ours.series_symbol, ours.series_step) == (theirs.series_symbol, theirs.series_step)


class Kit:
    """The functions above, for tests to take as one fixture."""

    write_parquet = staticmethod(write_parquet)
    write_csv = staticmethod(write_csv)
    write_jsonl = staticmethod(write_jsonl)
    envelope = staticmethod(envelope)
    play = staticmethod(play)
    run = staticmethod(asyncio.run)
    assert_same = staticmethod(assert_same)

    T0 = 1_767_623_400_000_000_000
    """2026-01-05T14:30:00Z"""

    @staticmethod
    def source(*paths, **params):
        """A replay of tapes that has not begun."""
        return Replay(Replay.Params(paths=[str(path) for path in paths], **params))

    @classmethod
    def trade(cls, after=0, **changes):
        """A good trade, `after` nanoseconds past `T0`."""
        return {"symbol": "AAPL", "event_ts": cls.T0 + after, "price": 100.0, "size": 1.0} | changes

    @classmethod
    def quote(cls, after=0, **changes):
        """A good quote."""
        quote = {"bid_price": 99.0, "bid_size": 2.0, "ask_price": 101.0, "ask_size": 3.0}
        return {"symbol": "AAPL", "event_ts": cls.T0 + after} | quote | changes

    @classmethod
    def bar(cls, minute=0, **changes):
        """A good bar of a minute."""
        bar = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0}
        return {"symbol": "AAPL", "event_ts": cls.T0 + minute * 60_000_000_000} | bar | changes

    @staticmethod
    def shared():
        """The folder of recorded data beside the project; skips the test where there is none."""
        folder = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
        if not folder.exists():
            pytest.skip("the recorded data is not beside the project")
        return folder


@pytest.fixture(scope="session")
def kit():
    """Writers of tapes, makers of rows, and `play`."""
    return Kit
