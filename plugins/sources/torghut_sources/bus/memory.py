"""A bus in this process: sink and source of the same name share it. It lasts as long as the process."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from zlib import crc32

import msgspec

from torghut_core import StateError
from torghut_sources.bus.contract import Bus, Chunk, Headers, Offsets, Owner, Reader, Writer


class Record(msgspec.Struct, gc=False):
    """One record of a log."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Log:
    """One partition of a topic; `base` is the offset of its first record, `first` that of the first that it ever had."""

    def __init__(self, first: int) -> None:
        self.first = self.base = first
        self.records: list[Record] = []

    @property
    def end(self) -> int:
        """The offset of the record that comes next."""
        return self.base + len(self.records)

    def forget(self, before: int) -> None:
        """Let go of the records below an offset."""
        count = max(0, before - self.base)
        del self.records[:count]
        self.base += count


class MemoryBus(Bus):
    """Partitioned logs in memory, to be used in one event loop.

    A record is let go of when every group has committed it. A log takes no more while it holds `capacity` records, so that
    a group that stands still stops the writers; one that nobody reads fills up and stops them too.

    Parameters
    ----------
    partitions : of every topic.
    capacity : records that a partition holds.
    first : the offset of every log's first record.
    """

    _named: dict[str, MemoryBus] = {}  # noqa: RUF012 - shared on purpose: this is how a sink and a source meet

    def __init__(self, partitions: int = 1, capacity: int = 100_000, first: int = 0) -> None:
        self.first = first
        self.partitions = partitions
        self.capacity = capacity
        self.logs: dict[tuple[str, int], Log] = {}
        self.groups: dict[str, Group] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    @classmethod
    def named(cls, name: str, partitions: int, capacity: int) -> MemoryBus:
        """The bus of that name, made where there is none yet.

        Its offsets begin at the time, so that those which an earlier process wrote down lie before all of its own.
        """
        return cls._named.setdefault(name, cls(partitions, capacity, time.time_ns()))

    def writer(self) -> Writer:
        """A new writer."""
        return MemoryWriter(self)

    def reader(self, group: str, topics: Sequence[str], start: str, owner: Owner) -> Reader:
        """A new member of a group."""
        return MemoryReader(self, self.groups.setdefault(group, Group()), topics, start, owner)

    def log(self, topic: str, partition: int) -> Log:
        """One partition of a topic."""
        found = self.logs.get((topic, partition))
        if found is None:
            found = self.logs[topic, partition] = Log(self.first)
        return found

    def trim(self, topic: str, partition: int) -> None:
        """Let go of what every group that reads the topic has committed."""
        offsets = [
            group.committed.get((topic, partition), self.first)
            for group in self.groups.values()
            if topic in group.topics
        ]
        if offsets:
            self.log(topic, partition).forget(min(offsets))

    def wake(self) -> None:
        """Somebody may go on."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def changed(self, seconds: float) -> None:
        """Wait until something has happened, `seconds` at most."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            self._waiting.discard(future)


class MemoryWriter(Writer):
    """Appends to the logs; a record is acknowledged as soon as it is taken."""

    gate = None

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._partitions: dict[bytes | None, int] = {}
        self._delivered: defaultdict[str, int] = defaultdict(int)

    def put(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> bool:
        """Take a record, unless its partition is full."""
        if partition is None:
            partition = self._partitions.get(key)
        if partition is None:
            partition = self._partitions[key] = crc32(key or b"") % self._bus.partitions
        log = self._bus.log(topic, partition)
        if len(log.records) >= self._bus.capacity:
            return False
        log.records.append(Record(key, value, headers))
        self._delivered[topic] += 1
        self._bus.wake()
        return True

    def pending(self) -> int:
        """Always 0."""
        return 0

    async def partitions(self, topic: str) -> int:
        """As many as all topics have."""
        del topic
        return self._bus.partitions

    def ends(self, partition: int) -> Offsets:
        """Where the logs of a partition end, whoever wrote there."""
        return {topic: log.end for (topic, number), log in self._bus.logs.items() if number == partition}

    @property
    def delivered(self) -> Mapping[str, int]:
        """Records taken, by topic."""
        return self._delivered

    @property
    def failed(self) -> Mapping[str, int]:
        """None ever."""
        return {}

    @property
    def latencies(self) -> Sequence[float]:
        """None to speak of."""
        return ()

    def close(self) -> None:
        """Nothing to let go of."""


class Group:
    """The members that share the partitions of topics, and how far they are.

    When a member comes or goes, each has to have left its partitions before they are given out anew.
    """

    def __init__(self) -> None:
        self.committed: dict[tuple[str, int], int] = {}
        self.topics: set[str] = set()
        self.members: list[MemoryReader] = []
        self.generation = 0
        self.ready: set[MemoryReader] = set()

    def join(self, member: MemoryReader) -> None:
        """One more, who has nothing yet."""
        self.members.append(member)
        self.topics.update(member.topics)
        self._begin()

    def drop(self, member: MemoryReader) -> None:
        """One less: it has left, or is gone."""
        if member in self.members:
            self.members.remove(member)
            self._begin()

    def share(self, member: MemoryReader, partitions: int) -> set[int]:
        """The partitions of a member."""
        return set(range(self.members.index(member), partitions, len(self.members)))

    @property
    def is_settled(self) -> bool:
        """Whether everybody has left what was theirs before."""
        return len(self.ready) == len(self.members)

    def _begin(self) -> None:
        self.generation += 1
        self.ready.clear()


class MemoryReader(Reader):
    """A member of a group in memory."""

    gate = None

    def __init__(self, bus: MemoryBus, group: Group, topics: Sequence[str], start: str, owner: Owner) -> None:
        self.topics = tuple(topics)
        self._bus = bus
        self._group = group
        self._start = start
        self._owner = owner
        self._generation = -1
        self._next: dict[int, Offsets] = {}
        group.join(self)
        bus.wake()

    @property
    def lag(self) -> Mapping[str, int]:
        """By topic, the records after those that were read."""
        lag = dict.fromkeys(self.topics, 0)
        for partition, offsets in self._next.items():
            for topic, offset in offsets.items():
                lag[topic] += max(0, self._bus.log(topic, partition).end - offset)
        return lag

    async def read(self, limit: int, seconds: float, paused: AbstractSet[tuple[str, int]]) -> list[Chunk]:
        """Take part in what the group does, then read; see `Reader.read`."""
        if self not in self._group.members:
            return []
        if self._generation != self._group.generation:
            await self._regroup(self._owner.leave)
        chunks = self._fetch(limit, paused)
        if not any(chunk.offsets for chunk in chunks):
            await self._bus.changed(seconds)
            chunks = self._fetch(limit, paused) if self._generation == self._group.generation else []
        return chunks

    async def stay(self, seconds: float) -> None:
        """Take part in what the group does; see `Reader.stay`."""
        if self in self._group.members and self._generation != self._group.generation:
            await self._regroup(self._owner.lose)
        await self._bus.changed(seconds)

    async def _regroup(self, give_up: Callable[[AbstractSet[int]], Coroutine[Any, Any, None]]) -> None:
        group = self._group
        if self not in group.ready:
            if self._next:
                await give_up(set(self._next))
                self._next = {}
            group.ready.add(self)
            self._bus.wake()
        if group.is_settled:
            generation = group.generation
            starts = {
                partition: {topic: self._committed(topic, partition) for topic in self.topics}
                for partition in sorted(group.share(self, self._bus.partitions))
            }
            taken = await self._owner.take(starts) if starts else {}
            self._next = {partition: dict(offsets) for partition, offsets in taken.items()}
            self._generation = generation

    def _committed(self, topic: str, partition: int) -> int:
        log = self._bus.log(topic, partition)
        first = log.base if self._start == "earliest" else log.end
        return self._group.committed.setdefault((topic, partition), first)

    def _fetch(self, limit: int, paused: AbstractSet[tuple[str, int]]) -> list[Chunk]:
        chunks = []
        for partition, offsets in self._next.items():
            for topic, kept in offsets.items():
                if (topic, partition) in paused:
                    continue
                log = self._bus.log(topic, partition)
                offset = kept if kept >= log.first else log.base  # of an earlier process, whose records went with it
                if not log.base <= offset <= log.end:
                    raise StateError(
                        f"offset {offset} of {topic}/{partition} is gone: the log has {log.base} to {log.end} "
                        "(commit a cursor only after the state that belongs to it is kept)"
                    )
                records = log.records[offset - log.base : offset - log.base + limit]
                limit -= len(records)
                offsets[topic] = stop = offset + len(records)
                chunks.append(
                    Chunk(
                        topic,
                        partition,
                        list(range(offset, stop)),
                        [record.key for record in records],
                        [record.value for record in records],
                        stop == log.end,
                    )
                )
        return chunks

    def commit(self, partition: int, offsets: Offsets) -> None:
        """Note how far the group is."""
        for topic, offset in offsets.items():
            self._group.committed[topic, partition] = offset
            self._bus.trim(topic, partition)
        self._bus.wake()

    def close(self) -> None:
        """Leave the group."""
        self._group.drop(self)
        self._next = {}
        self._bus.wake()
