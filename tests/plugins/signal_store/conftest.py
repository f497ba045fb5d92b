"""A store that grows between polls, and a source that follows it to the end of the story."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from torghut_sources.signal_store import ClickHouseSignals

from support.waiting import PATIENCE
from torghut_core import SIGNAL_COLUMNS, Bars, Batch, Connection, Signals, StateError, SymbolTable, Universe
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import SECOND

T0 = 1_767_623_400 * SECOND


class Stored(NamedTuple):
    """A row to store: the bar of `symbol` that begins `start` steps after `T0`, and its signal; of the venue's bar alone that."""

    symbol: str
    start: int
    step: int = SECOND
    is_priced: bool = True
    version: int = 0
    of_venue: bool = False

    @property
    def event_ts(self):
        return T0 + self.start * self.step

    @property
    def end(self):
        return self.event_ts + self.step

    @property
    def close(self):
        return 100.0 + self.start


def store_rows(store: MemorySignalStore, rows: Iterable[Stored]) -> None:
    """Write the rows as the TA pipeline does, one batch each."""
    for row in rows:
        symbols = SymbolTable()
        number = symbols.number(row.symbol)
        batch = Batch.of(symbols, 0, np.array([row.end + row.version]))
        head = {
            "event_ts": [row.event_ts],
            "symbol": [number],
            "seq": [row.event_ts // row.step],
            "step": [row.step],
            "series": [symbols.series(number, row.step, row.of_venue)],
            "count": [3],
        }
        values = {name: [row.close + k] for k, name in enumerate(SIGNAL_COLUMNS)}
        if row.is_priced and not row.of_venue:
            prices = {name: [row.close] for name in ("open", "high", "low", "close", "volume", "vwap")}
            batch.microbars = Bars.from_columns(**head, **prices)
        batch.signals = Signals.from_columns(**head, **values, close=[row.close])
        store.write(batch)


class Wanted(Universe):
    """A universe that a test changes."""

    def __init__(self, *symbols):
        self._symbols = symbols

    @property
    def symbols(self):
        return self._symbols

    def become(self, *symbols):
        self._symbols = symbols

    async def changed(self):
        await asyncio.Event().wait()


class Ended(Exception):
    """The story is over."""


class Story:
    """Polls of a store to which something is added between them.

    `deliveries` are the rows (or an error that the next poll meets, or a call) that come before each poll; `restarts`
    the numbers of yielded batches after which the source is replaced by a new one that seeks the cursor; `trade` is called
    with each batch while it is being given.
    """

    def __init__(
        self,
        deliveries: Sequence,
        *,
        size=1000,
        restarts=(),
        symbols=("ES", "NQ"),
        cursor=None,
        trade=lambda _batch: None,
        **params,
    ):
        self.store = MemorySignalStore()
        self.universe = Wanted(*symbols)
        self.batches: list[Batch] = []
        self.cursors = []
        self.gates = []
        self.slept = []
        self.mono = 0.0
        self.wall = T0
        self._deliveries = list(deliveries)
        self._size = size
        self._restarts = set(restarts)
        self._params = {"start": "earliest", "poll_ms": 1, "look_back_s": 10} | params
        self._cursor = cursor
        self._trade = trade
        self._error = None
        self._ended = []
        self.source = self._make()

    def _make(self):
        params = ClickHouseSignals.Params(**self._params)
        source = ClickHouseSignals(params, wall=lambda: self.wall, clock=lambda: self.mono, sleep=self._sleep)
        source.connect(Connection(False, lambda _name: pytest.fail("no secrets"), self.universe, self))
        return source

    def signals_until(self):
        return self.store.signals_until()

    def signals_since(self, since, *, after, limit, until=None):
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self.store.signals_since(since, after=after, limit=limit, until=until)

    async def _sleep(self, seconds):
        self.slept.append(seconds)
        self.gates.append(dict(self.source.gates()))
        self._deliver()

    def _deliver(self):
        if not self._deliveries:
            raise Ended
        delivery = self._deliveries.pop(0)
        if isinstance(delivery, StateError):
            self._error = delivery
        elif callable(delivery):
            delivery(self)
        else:
            store_rows(self.store, delivery)

    def run(self) -> "Story":
        """To the end of the story."""
        asyncio.run(self._run())
        return self

    async def _run(self):
        async with asyncio.timeout(PATIENCE):
            self._deliver()
            if self._cursor is not None:
                self.source.seek(self._cursor)
            is_over = False
            while not is_over:
                is_over = await self._follow()

    async def _follow(self):
        stream = self.source.batches(self._size)
        try:
            async for batch in stream:
                self.batches.append(batch)
                self.cursors.append(self.source.cursor())
                self._trade(batch)
                if len(self.batches) in self._restarts:
                    kept = json.loads(json.dumps(self.source.cursor()))
                    self._ended.append(self.source)
                    self.source = self._make()
                    self.source.seek(kept)
                    return False
        except Ended:
            return True
        finally:
            await stream.aclose()
        raise AssertionError("the source ended by itself")

    @property
    def given(self):
        """(symbol, event_ts, step) of every row, in order."""
        return [
            (batch.symbols.names[symbol], event_ts, step)
            for batch in self.batches
            for symbol, event_ts, step in zip(
                batch.bars.symbol.tolist(), batch.bars.event_ts.tolist(), batch.bars.step.tolist(), strict=True
            )
        ]

    @property
    def now(self):
        return [moment for batch in self.batches for moment in batch.now.tolist()]

    @property
    def counted(self):
        """What all its sources counted."""
        metrics = [source.metrics() for source in (*self._ended, self.source)]
        return {name: sum(each[name] for each in metrics) for name in metrics[0] if name.endswith("_total")}


def keys(*rows):
    return [(row.symbol, row.event_ts, row.step) for row in rows]
