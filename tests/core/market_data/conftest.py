"""A source on a list, a sink that remembers, and stages that are real."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from torghut_sources.stages.indicators import Indicators
from torghut_sources.stages.microbars import Microbars

from torghut_core.errors import StateError, TorghutError
from torghut_core.model.market import Batch, Message, SymbolTable, Trades
from torghut_core.ports import Sink, Source
from torghut_core.signals import MemorySignalStore
from torghut_core.timestamps import SECOND

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD")


def random_trades(n, seed=7):
    """(event_ts, symbol, price, size) of `n` trades of three symbols, up to a second out of order, four a second."""
    random = np.random.default_rng(seed)
    times = np.arange(n) * SECOND // 4 + random.integers(0, SECOND, n)
    prices = 100 + np.cumsum(random.normal(0, 0.1, n))
    return [
        (int(times[i]), SYMBOLS[int(random.integers(3))], float(prices[i]), float(random.integers(1, 9)))
        for i in range(n)
    ]


class Killed(TorghutError):
    """Ends everything at once, amid whatever it is."""


class Tape(Source):
    """Trades from a list, in the order of the list; remembers how far it was read as a bus does."""

    def __init__(self, trades, cut=None):
        super().__init__(None)
        self.trades = trades
        self.cut = cut
        self.committed = None
        self.position = 0
        self._symbols = SymbolTable()

    async def batches(self, size):
        now = max((event_ts for event_ts, *_ in self.trades[: self.position]), default=0)
        while self.position < len(self.trades):
            start, rows = self.position, self.trades[self.position : self.position + size]
            known = np.maximum.accumulate([max(now, row[0]) for row in rows])
            now = int(known[-1])
            trades = Trades.from_columns(
                at=range(start, start + len(rows)),
                event_ts=[row[0] for row in rows],
                symbol=[self._symbols.number(row[1]) for row in rows],
                seq=range(start, start + len(rows)),
                trade_key=range(start + 1, start + len(rows) + 1),
                price=[row[2] for row in rows],
                size=[row[3] for row in rows],
            )
            self.position += len(rows)
            yield Batch.of(self._symbols, start, known.astype(np.int64), trades)
            if self.cut is not None and self.position >= self.cut:
                raise Killed
            await asyncio.sleep(0)

    async def messages(self, size):
        while self.position < len(self.trades):
            rows = self.trades[self.position : self.position + size]
            self.position += len(rows)
            yield [Message("trades", row[1], str(row).encode()) for row in rows]
            if self.cut is not None and self.position >= self.cut:
                raise Killed
            await asyncio.sleep(0)

    def cursor(self):
        return {"position": self.position}

    def seek(self, cursor):
        self.position = cursor["position"]

    def commit(self, cursor):
        self.committed = cursor


class Log(Sink):
    """A bus that remembers what it was sent, and what of it was acknowledged."""

    def __init__(self):
        super().__init__(None)
        self.sent = []
        self.acknowledged = 0

    async def send(self, messages):
        self.sent += messages

    async def flush(self):
        self.acknowledged = len(self.sent)


class Store(MemorySignalStore):
    """A store that refuses as many writes as `refusals` says."""

    def __init__(self):
        super().__init__()
        self.refusals = 0
        self.flushes = 0

    def flush(self):
        self.flushes += 1
        if self.refusals:
            self.refusals -= 1
            raise StateError("disk full")


def make_stages():
    return [Microbars(Microbars.Params()), Indicators(Indicators.Params())]


def rows(store):
    """Every microbar and signal of a store, but when it became known."""
    found = {}
    for table in ("microbars", "signals"):
        distinct = store._distinct(table)
        found[table] = distinct.drop_columns(["ingest_ts"]).to_pylist()
    return found


@pytest.fixture(scope="session")
def parts():
    """The fakes of this file."""
    return SimpleNamespace(
        Killed=Killed, Tape=Tape, Log=Log, Store=Store, random_trades=random_trades, stages=make_stages, rows=rows
    )
