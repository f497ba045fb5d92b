"""A bus in this process, which a sink and a source of the same name share. It lasts as long as the process."""

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
    """One partition of a topic; `base` is the offset of its first record, `first` that of the first record it ever had."""

    def __init__(self, first: int) -> None:
        self.first = self.base = first
        self.records: list[Record] = []

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return self.base + len(self.records)

    def forget(self, before: int) -> None:
        """Drop the records below an offset."""
        count = max(0, before - self.base)
        del self.records[:count]
        self.base += count


class MemoryBus(Bus):
    """Partitioned logs in memory, to be used in one event loop.

    A record is dropped when every group has committed it. A log takes no more while it holds `capacity` records: so a group
    that does not read stops the writers, and a topic without a group fills up and stops them too.

    Parameters
    ----------
    partitions : of every topic.
    capacity : records that a partition holds.
    first : the offset of every log's first record.
    """

    _named: dict[str, MemoryBus] = {}  # noqa: RUF012 - shared on purpose: a sink and a source meet here

    def __init__(self, partitions: int = 1, capacity: int = 100_000, first: int = 0) -> None:
        self.first = first
        self.partitions = partitions
        self.capacity = capacity
        self.logs: dict[tuple[str, int], Log] = {}
        self.groups: dict[str, Group] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    @classmethod
    def named(cls, name: str, partitions: int, capacity: int) -> MemoryBus:
        """Return the bus of that name, made where there is none yet.

        Its offsets start at the time of day, so that those that an earlier process stored are before all of its own.
        """
        return cls._named.setdefault(name, cls(partitions, capacity, time.time_ns()))

    def writer(self) -> Writer:
        """Make a writer."""
        return MemoryWriter(self)

    def reader(self, group: str, topics: Sequence[str], start: str, owner: Owner) -> Reader:
        """Make a member of a group."""
        return MemoryReader(self, self.groups.setdefault(group, Group()), topics, start, owner)

    def log(self, topic: str, partition: int) -> Log:
        """Return one partition of a topic."""
        found = self.logs.get((topic, partition))
        if found is None:
            found = self.logs[topic, partition] = Log(self.first)
        return found

    def trim(self, topic: str, partition: int) -> None:
        """Drop what every group that reads the topic has committed."""
        offsets = [
            group.committed.get((topic, partition), self.first)
            for group in self.groups.values()
            if topic in group.topics
        ]
        if offsets:
            self.log(topic, partition).forget(min(offsets))

    def wake(self) -> None:
        """Wake all that wait in `changed`."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def changed(self, seconds: float) -> None:
        """Wait for the next `wake`, `seconds` at most."""
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
        """Return how many partitions all topics have."""
        del topic
        return self._bus.partitions

    def ends(self, partition: int) -> Offsets:
        """Return where the logs of a partition end, whichever writer wrote there."""
        return {topic: log.end for (topic, number), log in self._bus.logs.items() if number == partition}

    @property
    def delivered(self) -> Mapping[str, int]:
        """Records taken, by topic."""
        return self._delivered

    @property
    def failed(self) -> Mapping[str, int]:
        """Always empty."""
        return {}

    @property
    def latencies(self) -> Sequence[float]:
        """Always empty: nothing is waited for."""
        return ()

    def close(self) -> None:
        """Do nothing."""


class Group:
    """The members that share the partitions of topics, and their committed offsets.

    When a member joins or leaves, each has to leave its partitions before they are assigned again.
    """

    def __init__(self) -> None:
        self.committed: dict[tuple[str, int], int] = {}
        self.topics: set[str] = set()
        self.members: list[MemoryReader] = []
        self.generation = 0
        self.ready: set[MemoryReader] = set()

    def join(self, member: MemoryReader) -> None:
        """Add a member, which has no partitions yet."""
        self.members.append(member)
        self.topics.update(member.topics)
        self._reassign()

    def drop(self, member: MemoryReader) -> None:
        """Remove a member."""
        if member in self.members:
            self.members.remove(member)
            self._reassign()

    def share(self, member: MemoryReader, partitions: int) -> set[int]:
        """Return the partitions of a member."""
        return set(range(self.members.index(member), partitions, len(self.members)))

    @property
    def is_settled(self) -> bool:
        """Whether every member has left its former partitions."""
        return len(self.ready) == len(self.members)

    def _reassign(self) -> None:
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
        """Take part in a reassignment, then read; see `Reader.read`."""
        if self not in self._group.members:
            return []
        if self._generation != self._group.generation:
            await self._rejoin(self._owner.leave)
        chunks = self._fetch(limit, paused)
        if not any(chunk.offsets for chunk in chunks):
            await self._bus.changed(seconds)
            chunks = self._fetch(limit, paused) if self._generation == self._group.generation else []
        return chunks

    async def stay(self, seconds: float) -> None:
        """Take part in a reassignment; see `Reader.stay`."""
        if self in self._group.members and self._generation != self._group.generation:
            await self._rejoin(self._owner.lose)
        await self._bus.changed(seconds)

    async def _rejoin(self, leave: Callable[[AbstractSet[int]], Coroutine[Any, Any, None]]) -> None:
        group = self._group
        if self not in group.ready:
            if self._next:
                await leave(set(self._next))
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
                offset = kept if kept >= log.first else log.base  # before `first`: of an earlier process, now gone
                if not log.base <= offset <= log.end:
                    raise StateError(
                        f"offset {offset} of {topic}/{partition} is gone: the log has {log.base} to {log.end} "
                        "(commit a cursor only after the state that belongs to it is stored)"
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
        """Set the committed offsets of the group."""
        for topic, offset in offsets.items():
            self._group.committed[topic, partition] = offset
            self._bus.trim(topic, partition)
        self._bus.wake()

    def close(self) -> None:
        """Leave the group."""
        self._group.drop(self)
        self._next = {}
        self._bus.wake()
