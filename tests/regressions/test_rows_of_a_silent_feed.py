"""What was derived is stored, and heartbeats continue, also where the feed falls silent after it.

Rows, states and offsets were made durable only when the next batch came: the last bars before a silence were invisible to
trading until it ended.
"""

import asyncio
import time
from pathlib import Path

import numpy as np
from torghut_sources.stages.microbars import Microbars

from support.waiting import PATIENCE
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.snapshots import SnapshotStore
from torghut_core.model.market import Batch, SymbolTable, Trades
from torghut_core.ports import Sink, Source
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import SECOND


class Silent(Source):
    """Two trades, of which the second closes the window of the first; then nothing, for ever."""

    def __init__(self):
        super().__init__(None)
        self.given = 0
        self.committed = []

    async def batches(self, size):
        symbols = SymbolTable()
        times = np.array([SECOND, 5 * SECOND])
        trades = Trades.from_columns(
            at=[0, 1], event_ts=times, symbol=[symbols.number("BTC/USD")] * 2, seq=[0, 1], price=[1.0, 2.0], size=[1, 1]
        )
        first, second = Batch.of(symbols, 0, times, trades).split(1)
        self.given = 1
        yield first
        self.given = 2
        yield second
        await asyncio.Event().wait()

    def cursor(self):
        return {"given": self.given}

    def commit(self, cursor):
        self.committed.append(cursor)


class Beats(Sink):
    """Counts heartbeats."""

    def __init__(self):
        super().__init__(None)
        self.count = 0
        self.has_beaten = asyncio.Event()

    async def send(self, messages):
        self.count += sum(message.channel == "ta-status" for message in messages)
        if self.count >= 10:
            self.has_beaten.set()

    async def flush(self):
        pass


class Slow(MemorySignalStore):
    """Signals when rows have been flushed."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop
        self.is_shown = asyncio.Event()

    def flush(self):
        super().flush()
        if self.counts()["microbars"]:
            self.loop.call_soon_threadsafe(self.is_shown.set)


def test_rows_before_a_silence_are_stored(tmp_path: Path):
    """While the feed is silent the last rows are stored, the offsets committed once, and heartbeats sent."""

    async def live():
        source, store, sink = Silent(), Slow(asyncio.get_running_loop()), Beats()
        deriver = Deriver(
            source,
            [Microbars(Microbars.Params())],
            store,
            sink,
            SnapshotStore(str(tmp_path)),
            checkpoint_s=0.05,
            status_s=0.05,
        )
        began = time.monotonic()
        work = asyncio.create_task(deriver.run())
        async with asyncio.timeout(PATIENCE):
            await store.is_shown.wait()
            await sink.has_beaten.wait()
        work.cancel()
        await asyncio.wait([work])
        return source, sink, time.monotonic() - began

    source, sink, seconds = asyncio.run(live())
    assert source.committed[-1] == {"given": 2}
    assert len(source.committed) == 2, "nothing new is nothing to make durable"
    assert sink.count <= seconds / 0.05 + 2
