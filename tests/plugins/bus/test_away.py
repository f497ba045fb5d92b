"""A TA process whose store is away stays in its group; a partition that it loses meanwhile belongs to another process."""

import asyncio
import threading
import time

import pytest
from torghut_sources.bus import KafkaSource, MemorySource
from torghut_sources.bus import source as bus_source
from torghut_sources.bus.kafka.bus import KafkaBus
from torghut_sources.bus.memory import MemoryBus
from torghut_sources.bus.settings import KafkaSettings
from torghut_sources.stages.indicators import Indicators
from torghut_sources.stages.microbars import Microbars

from support.waiting import PATIENCE, until_async
from torghut_core import Message
from torghut_core.errors import StateError
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.snapshots import SnapshotStore
from torghut_core.signals import MemorySignalStore

from .conftest import CONNECTION, STATUS, T0, TRADES, events, trade

SYMBOLS = [f"S{number}" for number in range(8)]
TRADE_MS = 50
POLL_INTERVAL_MS = AWAY_SESSION_MS = 4_000  # longer than a busy machine holds up a client
"""The least that librdkafka takes."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(bus_source, "AWAY_SECONDS", 0.1)
    monkeypatch.setattr(bus_source, "LEAVE_SECONDS", 0.2)
    monkeypatch.setattr("torghut_core.market_data.deriver.RETRY_S", (0.01, 0.02))


def stages():
    return [Microbars(Microbars.Params()), Indicators(Indicators.Params())]


class Store(MemorySignalStore):
    """One process's connection to a database: rows are stored by `flush`, which fails while it is away."""

    def __init__(self, database):
        super().__init__()
        self.database = database
        self.is_away = False
        self.waiting = []

    def write(self, batch):
        self.waiting.append(batch)

    def flush(self):
        if self.is_away:
            raise StateError("no connection")
        while self.waiting:
            self.database.write(self.waiting.pop(0))


class Snapshots(SnapshotStore):
    """Remembers what was kept, by whom."""

    def __init__(self, folder, kept, who):
        super().__init__(folder)
        self.kept = kept
        self.who = who
        self.is_saving = False

    def save(self, name, snapshot):
        self.is_saving = True
        try:
            is_kept = super().save(name, snapshot)
            self.kept.append((name, self.who, is_kept, snapshot.cursor["offsets"][self.topic]))
            return is_kept
        finally:
            self.is_saving = False


class Process:
    """A `torghut ta`: a source, a deriver and their task."""

    def __init__(self, group, who):
        self.store = Store(group.database)
        self.source = group.source()
        self.snapshots = Snapshots(group.folder, group.kept, who)
        self.snapshots.topic = group.pair.topic(TRADES)
        self.deriver = Deriver(self.source, stages(), self.store, None, self.snapshots, checkpoint_s=0.02)
        self.may_write = True
        self.deriver._may_write = lambda: self.may_write
        self.task = asyncio.create_task(self.deriver.run(20))

    @property
    def lanes(self):
        """The lanes it has, and those only that its source has too."""
        return dict(self.deriver.lanes) if self.deriver.lanes.keys() == self.source.cursor().keys() else {}

    async def kill(self):
        """End it amid whatever it does, without a checkpoint."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.source.close()


class Group:
    """Processes that share the topics, the folder of snapshots and the database."""

    def __init__(self, pair, folder):
        self.pair = pair
        self.folder = folder
        self.database = MemorySignalStore()
        self.kept = []
        self.processes = []
        self.sent = 0

    def source(self):
        """Two topics of two partitions; on Kafka, with the shortest patience for who does not poll."""
        made = self.pair.source(channels=["trades"], idle_ms=20)
        if isinstance(made, KafkaSource):
            settings = KafkaSettings.read()
            made._bus = KafkaBus(settings.client(CONNECTION.secret), 1, AWAY_SESSION_MS, POLL_INTERVAL_MS)
        return made

    def begin(self):
        """One more process."""
        self.processes.append(Process(self, len(self.processes)))
        return self.processes[-1]

    async def send(self, count):
        """So many trades, one after another."""
        new = range(self.sent, self.sent + count)
        self.sent += count
        await self.pair.sink.send([trade(each, SYMBOLS[each % 8], each * TRADE_MS) for each in new])
        await self.pair.sink.flush()

    async def settle(self):
        """Close every window that a trade is in, and wait until all of them are in the database."""
        until_ns = T0 + self.sent * TRADE_MS * 1_000_000
        for seconds in (20, 40):
            at = self.sent * TRADE_MS + seconds * 1_000
            await self.pair.sink.send([trade(self.sent + each, SYMBOLS[each], at) for each in range(8)])
        await self.pair.sink.flush()
        expected = await self.expected(until_ns)
        count = sum(map(len, expected.values()))

        def is_settled():
            return stored(self.database) >= count and rows(self.database, until_ns) == expected

        running = [process.task for process in self.processes if not process.task.cancelled()]
        await until_async(is_settled, tasks=running)
        assert sum(row["count"] for row in expected["microbars"]) == self.sent

    async def expected(self, until_ns):
        """The rows of a process to which nothing happens."""
        database, bus = MemorySignalStore(), MemoryBus(1)
        writer = bus.writer()
        source = MemorySource(MemorySource.Params(channels=["trades"]))
        source.connect(CONNECTION)
        source._bus = bus
        (topic, _) = source._topics
        last = self.sent * TRADE_MS
        for each in range(self.sent):
            writer.put(topic, b"", trade(each, SYMBOLS[each % 8], each * TRADE_MS).value)
        for seconds in (20, 40):
            for each in range(8):
                writer.put(topic, b"", trade(self.sent + each, SYMBOLS[each], last + seconds * 1_000).value)
        deriver = Deriver(source, stages(), database)
        task = asyncio.create_task(deriver.run())
        await until_async(lambda: deriver.totals.events == self.sent + 16)
        deriver.stop()
        await task
        source.close()
        return rows(database, until_ns)

    def check(self):
        """Of each lane, whether its kept state only advanced."""
        for name in {name for name, *_ in self.kept}:
            offsets = [offset for each, _, is_kept, offset in self.kept if each == name and is_kept]
            assert offsets == sorted(offsets)


def rows(database, until_ns):
    """What the database has of windows that end by a time, but for when it became known."""
    found = {}
    for table in ("microbars", "signals"):
        every = database._distinct(table).drop_columns(["ingest_ts"]).to_pylist()
        every = [row for row in every if row["window_end"].value <= until_ns]
        found[table] = sorted(every, key=lambda row: (row["event_ts"], row["symbol"], row["window_size"]))
    return found


def stored(database):
    """How many rows were written, those that came twice too."""
    return sum(len(part) for parts in database._rows.values() for part in parts)


@pytest.fixture
def group(pair, tmp_path):
    return Group(pair, str(tmp_path))


def run(group, work):
    """Let it work, and end what it leaves running."""

    async def limited():
        try:
            async with asyncio.timeout(PATIENCE):
                await work()
        finally:
            for process in group.processes:
                await process.kill()

    asyncio.run(limited())
    group.check()


async def for_longer_than_the_interval(source):
    """What is waited for is that time passes and nothing happens; the bus in memory has no interval."""
    seconds = 1.5 * POLL_INTERVAL_MS / 1_000 if isinstance(source, KafkaSource) else 0.2
    began = time.monotonic()
    await until_async(lambda: time.monotonic() - began > seconds)


async def checkpoint_waits(process):
    """Make it wait for the store in a checkpoint, while it has nothing to derive."""
    await until_async(lambda: not process.deriver._is_ahead)
    process.store.is_away = process.deriver._is_ahead = True
    await until_async(process.deriver._checkpointing.locked)


@pytest.mark.parametrize("how", ["refuses", "is full"])
def test_who_waits_for_the_store_keeps_its_lanes(group, how):
    """However long the store is down, the lanes stay; then all resume where they were, and no row is derived twice."""

    async def work():
        one = group.begin()
        await group.send(100)
        await until_async(lambda: one.deriver.totals.events == 100 and one.lanes)
        lanes = one.lanes
        one.store.is_away, one.may_write = how == "refuses", how != "is full"
        await group.send(3_000)
        await for_longer_than_the_interval(one.source)
        assert one.deriver.totals.events < 1_000, "little is read while nothing can be stored"
        assert sum(map(len, one.source._lanes[0]._streams.values())) <= bus_source.READ_AT_ONCE
        one.store.is_away, one.may_write = False, True
        await group.settle()
        assert one.lanes == lanes
        assert one.deriver.totals.restored == 0
        assert one.deriver.totals.events == group.sent + 16
        assert stored(group.database) == sum(group.database.counts().values())

    run(group, work)


@pytest.mark.parametrize("how", ["refuses", "is full", "refuses a checkpoint"])
def test_lanes_of_who_waits_are_given_up(group, how):
    """A second process gets its share while the first one waits, and who had it before does nothing for it any more."""

    async def work():
        one = group.begin()
        await group.send(100)
        await until_async(lambda: one.deriver.totals.events == 100 and one.lanes)
        before = one.lanes
        await until_async(lambda: not one.deriver._is_ahead)  # else it waits in a checkpoint, and reads nothing more
        if how == "refuses a checkpoint":
            await checkpoint_waits(one)
        one.store.is_away, one.may_write = how != "is full", how != "is full"
        await group.send(100)
        if how != "refuses a checkpoint":  # then it may hold a tick that it has not taken, and reads no more
            await until_async(lambda: sum(kept["position"] for kept in one.source.cursor().values()) > 100)
        two = group.begin()
        await until_async(lambda: len(one.lanes) == len(two.lanes) == 1)
        assert one.lanes.keys() != two.lanes.keys()
        assert not any(lane in before.values() for lane in one.lanes.values())
        (lost,) = two.lanes
        await until_async(lambda: not one.snapshots.is_saving)  # what it began while it had the lane
        group.kept.clear()
        await group.send(100)
        one.store.is_away, one.may_write = False, True
        await group.settle()
        assert {who for name, who, *_ in group.kept if name == f"ta-{lost}"} == {1}
        assert two.deriver.totals.restored == 1

    run(group, work)


def test_a_checkpoint_that_cannot_be_made_does_not_block_the_group(group):
    """A lane that is revoked while its checkpoint waits for the store is lost after a while, without one."""

    async def work():
        one = group.begin()
        await group.send(100)
        await until_async(lambda: one.deriver.totals.events == 100 and one.lanes)
        await checkpoint_waits(one)
        two = group.begin()
        await until_async(lambda: len(one.lanes) == len(two.lanes) == 1)
        assert one.deriver._checkpointing.locked()
        await group.send(100)
        one.store.is_away = False
        await group.settle()

    run(group, work)


def test_who_waits_may_be_killed(group):
    """A kill while the store is down costs nothing: the next process resumes from the last checkpoint."""

    async def work():
        one = group.begin()
        await group.send(100)
        await until_async(lambda: one.deriver.totals.events == 100 and one.lanes)
        one.store.is_away = True
        await group.send(100)
        await until_async(lambda: one.source._lanes and one.deriver._trouble)
        two = group.begin()
        await until_async(lambda: len(two.lanes) == 1)
        await one.kill()
        await group.send(100)
        await group.settle()
        assert len(two.lanes) == 2

    run(group, work)


def test_a_lane_that_is_lost_while_its_state_is_kept_is_not_committed(group):
    """Who has it by then may have resumed from the state before: the records since are still needed."""
    held, released = threading.Event(), threading.Event()

    async def work():
        one = group.begin()
        await group.send(100)
        await until_async(lambda: one.deriver.totals.events == 100 and one.lanes and not one.deriver._is_ahead)
        turns = threading.Lock()  # two processes that keep the same state in the same moment are another story

        def in_turn(save, wait):
            def saving(name, snapshot):
                wait()
                with turns:
                    return save(name, snapshot)

            return saving

        def until_released():
            held.set()
            assert released.wait(PATIENCE)

        one.snapshots.save = in_turn(one.snapshots.save, until_released)
        await group.send(100)
        await until_async(held.is_set)
        two = group.begin()
        two.snapshots.save = in_turn(two.snapshots.save, lambda: None)
        await until_async(lambda: len(one.lanes) == len(two.lanes) == 1)
        released.set()
        await group.send(100)
        await group.settle()

    try:
        run(group, work)
    finally:
        released.set()


def test_lanes_that_were_taken_away_are_dropped(kafka_pair, tmp_path, monkeypatch):
    """Who was thrown out of the group makes no checkpoint, and what the new owner has kept since stays."""
    group = Group(kafka_pair, str(tmp_path))
    left = []
    monkeypatch.setattr(KafkaSource, "leave", lambda *_: left.append(1))

    async def work():
        monkeypatch.setattr(bus_source, "AWAY_SECONDS", 1e9)  # as it would be without staying in the group
        one = group.begin()
        await group.send(100)
        await until_async(lambda: one.deriver.totals.events == 100 and one.lanes)
        before = one.lanes
        one.store.is_away = True
        await group.send(100)
        await until_async(lambda: one.deriver._trouble)
        await for_longer_than_the_interval(one.source)
        two = group.begin()
        await until_async(lambda: len(two.lanes) == 2 and two.deriver.totals.events >= 100)
        await until_async(lambda: two.deriver.totals.checkpoints and not two.deriver._is_ahead)
        assert one.lanes == before, "it does not know yet"
        monkeypatch.setattr(bus_source, "AWAY_SECONDS", 0.1)
        await two.kill()
        one.store.is_away = False
        await until_async(lambda: one.lanes and not any(lane in before.values() for lane in one.lanes.values()))
        await group.send(100)
        await group.settle()

    run(group, work)
    assert not left


class Stuck:
    """Dead letters that are not taken before they may be."""

    gate = None

    def __init__(self):
        self.is_asked = asyncio.Event()
        self.may = asyncio.Event()

    async def take(self, *_):
        self.is_asked.set()
        await self.may.wait()

    async def flush(self):
        pass

    def close(self):
        pass


def test_what_was_read_of_a_lost_lane_is_not_of_its_next_one(memory_pair):
    """Records that wait behind a dead letter while their lane goes and comes back are read again, and come once."""
    first, second = memory_pair.source(channels=["trades"]), memory_pair.source(channels=["trades"])

    async def work():
        first._dead_letters = letters = Stuck()
        found = []

        async def take():
            async for batch in first.batches(100):
                found.extend(events(batch))

        await memory_pair.sink.send([Message("trades", symbol, b"{") for symbol in SYMBOLS])
        await memory_pair.sink.send([trade(number, symbol) for number in range(5) for symbol in SYMBOLS])
        taking = asyncio.create_task(take())
        await letters.is_asked.wait()
        before = list(first._lanes.values())
        batches = second.batches(100)
        joining = asyncio.create_task(anext(batches))
        await until_async(lambda: len(first._lanes) == len(second._lanes) == 1)
        joining.cancel()
        await asyncio.wait([joining])
        second.close()
        await until_async(lambda: len(first._lanes) == 2)
        assert not any(lane in before for lane in first._lanes.values())
        letters.may.set()
        await until_async(lambda: len(found) >= 40)
        await until_async(lambda: first._reader.lag == {TRADES: 0, STATUS: 0})
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        return found

    found = asyncio.run(work())
    assert len(found) == len(set(found)) == 40
