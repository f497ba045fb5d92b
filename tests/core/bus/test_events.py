"""Events as messages: what is read from them again is what they were made of."""

import asyncio

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torghut_sources.tape.source import Replay

from torghut_core.bus.events import event_messages
from torghut_core.timestamps import SECOND

T0 = 1_767_623_400 * SECOND


@pytest.fixture
def tapes(tmp_path):
    """Trades with conditions, two with each id; quotes; bars of a minute."""
    times = pa.array(T0 + np.arange(40) * SECOND).cast(pa.timestamp("ns", "UTC"))
    price = 100 + np.arange(40) / 7
    trades = {
        "symbol": ["ES"] * 40, "event_ts": times, "price": price, "size": np.ones(40),
        "trade_id": [str(k // 2) for k in range(40)], "conditions": ["@,T" if k % 3 else "" for k in range(40)],
    }  # fmt: skip
    sides = dict.fromkeys(("bid_price", "bid_size", "ask_price", "ask_size"), price)
    pq.write_table(pa.table(trades), tmp_path / "trades.parquet")
    pq.write_table(pa.table({"symbol": ["NQ"] * 40, "event_ts": times} | sides), tmp_path / "quotes.parquet")
    return [tmp_path / "trades.parquet", tmp_path / "quotes.parquet"]


def read(paths):
    async def batches():
        return [batch async for batch in Replay(Replay.Params(paths=[str(path) for path in paths])).batches(7)]

    return asyncio.run(batches())


def test_a_tape_of_its_messages_is_the_same_stream(tapes, tmp_path):
    """Prices, sizes, times, conditions, and which trades are the same, come back; and making them again gives the same bytes."""
    messages = [message for batch in read(tapes) for message in event_messages(batch)]
    again = tmp_path / "again.jsonl"
    again.write_bytes(b"".join(message.value + b"\n" for message in messages))
    first, second = read(tapes), read([again])

    def column(batches, table, name):
        return np.concatenate([getattr(getattr(batch, table), name) for batch in batches])

    for table, names in (
        ("trades", ("event_ts", "price", "size", "conditions")),
        ("quotes", ("event_ts", "bid_price")),
    ):
        for name in names:
            assert column(first, table, name).tolist() == column(second, table, name).tolist()
    keys = [column(batches, "trades", "trade_key") for batches in (first, second)]
    assert len(np.unique(keys[0])) == len(np.unique(keys[1])) == 20
    assert [(keys[0][:-1] == keys[0][1:]).tolist()] == [(keys[1][:-1] == keys[1][1:]).tolist()]
    assert len(messages) == sum(len(batch) for batch in second) == 80
