"""Sources that read what was written to a bus, a lane for each partition."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pydantic

from torghut_core import (
    MILLISECOND,
    Batch,
    Closed,
    Connection,
    InputError,
    Metric,
    MetricSpec,
    Source,
    StateError,
    Topics,
    param,
)
from torghut_sources.bus.contract import NOT_CONNECTED, Bus, Chunk, Offsets, Owner, Reader, Writer
from torghut_sources.bus.kafka.bus import KafkaBus
from torghut_sources.bus.memory import MemoryBus
from torghut_sources.bus.merger import MISSED_SECONDS, LaneMerger
from torghut_sources.bus.records import MARKS, NONE, is_avro, read, read_marks, refuse_ahead
from torghut_sources.bus.settings import PASSWORD, KafkaSettings
from torghut_sources.tape.rows import KINDS, Kind

if TYPE_CHECKING:
    from torghut_sources.bus.avro import Avro

log = logging.getLogger(__name__)

READ = 5_000
"""Records that are read at a time."""

AWAY_SECONDS = 1.0
"""After how long without a read the source only stays in the group; what was fetched ahead is let go of then."""
STAY_SECONDS = 0.05
"""How long it stays at a time: who comes back waits for that."""

LEAVE_SECONDS = 10.0
"""How long a keeper may take to make durable what came of lanes that are asked back; the whole group waits for it."""


class BusSource(Source, Owner):
    """What sources have in common, whatever the bus.

    A lane is a partition number of all topics, that of statuses among them: its time marks say how late it is where no
    event does. With a `keeper`, a lane goes on from the cursor that was kept with its
    state; else from the cursor of `seek`; else from where the group has committed. A record that cannot be used goes to the topic ``<topic>.dlq``, with its reason and place, and the lane
    goes on only when it is acknowledged there.

    It stays in its group also while nobody takes batches, however long: it reads nothing more then. A lane that is asked
    back meanwhile is lost: it is gone from `cursor` when the keeper's `leave` is called, and nothing more comes of it. So
    is one that the keeper cannot leave in time.

    Parameters
    ----------
    params : see `Params`.
    clock : what idle topics and clock ticks keep time by, seconds.
    wall : the time, ns; only to refuse what is dated far ahead of it.
    """

    has_lanes = True

    class Params(Source.Params):
        """Parameters of a source that reads a bus."""

        channels: list[Literal["trades", "quotes", "bars"]] = param(
            ["trades", "quotes", "bars"], min_length=1, help="which topics to read"
        )
        start: Literal["earliest", "latest"] = param(
            "earliest", help="where to begin a partition that is new to the group"
        )
        idle_ms: int = param(200, ge=0, help="how long an empty topic holds up the others, milliseconds")
        tick_ms: int = param(
            0,
            ge=0,
            help="silence after which time goes on by the clock, milliseconds; for who sends no time marks. 0: never",
        )
        max_ahead_ms: int = param(
            60_000,
            ge=0,
            help="what is dated further ahead of all clocks is a dead letter, milliseconds: it would end all windows",
        )
        simulated: bool = param(False, help="whether the topics are those of torghut.sim., for what is not real")

        @pydantic.field_validator("channels")
        @classmethod
        def _check_channels(cls, channels: list[str]) -> list[str]:
            if len(set(channels)) < len(channels):
                raise ValueError("name each channel once")
            return channels

    def __init__(
        self,
        params: pydantic.BaseModel,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(params)
        self._clock = clock
        self._wall = wall
        self._avro: Avro | None = None
        self._bus: Bus | None = None
        self._group: str | None = None
        self._reader: Reader | None = None
        self._turn = asyncio.Lock()
        self._read_at = 0.0
        self._staying: asyncio.Task[None] | None = None
        self._dead_letters: Writer | None = None
        self._topics: dict[str, Kind] = {}
        self._is_closed = False
        self._lanes: dict[int, LaneMerger] = {}
        self._sought: dict[str, Any] = {}
        self._read: Counter[str] = Counter()
        self._buried: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._updates = 0

    @abstractmethod
    def _connect(self, connection: Connection) -> tuple[Bus, str]:
        """The bus to read, and the group to read it in."""

    def connect(self, connection: Connection) -> None:
        """Find out what to read, and as whom.

        Raises
        ------
        SettingsError : a setting or secret is missing or wrong.
        InputError : two channels on one topic.
        """
        from torghut_sources.bus.avro import avro

        names = Topics.read()

        def topic_of(channel: str) -> str:
            return names.of(channel, self.params.simulated)

        kinds = {channel: KINDS[channel] for channel in self.params.channels} | {MARKS.name: MARKS}
        self._topics = {topic_of(channel): kind for channel, kind in kinds.items()}
        if len(self._topics) < len(kinds):
            raise InputError(f"{', '.join(kinds)} share a topic (give each its own by its TOPIC_ setting)")
        self._avro = avro(topic_of)
        self._bus, self._group = self._connect(connection)

    def close(self) -> None:
        """Leave the group without a word to the keeper: who closes has kept what is to be kept."""
        self._is_closed = True
        if self._reader is not None:
            self._reader.close()
        if self._dead_letters is not None:
            self._dead_letters.close()
        if self._avro is not None:
            self._avro.close()

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of one lane each, at most `size` events, until it is closed.

        Raises
        ------
        InputError : topics that do not fit together, or that may not be read.
        StateError : records that were to come next are gone, a dead letter was refused, or the registry answers nobody.
        """
        if self._bus is None or self._group is None:
            raise StateError("the source is not connected (call connect before batches)")
        if self._reader is None:
            self._reader = self._bus.reader(self._group, tuple(self._topics), self.params.start, self)
        wait = min(max(self.params.idle_ms / 4_000, 0.001), 0.05)
        self._read_at = time.monotonic()
        if self._staying is None or self._staying.cancelled():
            self._turn, self._staying = asyncio.Lock(), asyncio.create_task(self._stay(self._reader))
        while not self._is_closed:
            async with self._turn:
                if self._staying.done():
                    self._staying.result()
                chunks = await self._reader.read(READ, wait, self._paused())
                # These are the lanes that were read; from here on others may take their place at every await.
                lanes, now, self._read_at = dict(self._lanes), self._clock(), time.monotonic()
            for chunk in chunks:
                await self._take_in(chunk, lanes.get(chunk.partition))
            for partition, lane in lanes.items():
                while self._lanes.get(partition) is lane and (batch := lane.next(size, now)) is not None:
                    yield batch

    async def _stay(self, reader: Reader) -> None:
        """Stay in the group while nobody takes batches, until it is closed."""
        pause = AWAY_SECONDS
        while not self._is_closed:
            await asyncio.sleep(pause)
            async with self._turn:
                pause = max(0.0, self._read_at + AWAY_SECONDS - time.monotonic())
                if pause or self._is_closed:
                    continue
                try:
                    await reader.stay(STAY_SECONDS)
                except Exception as error:  # whatever it is, it is raised where batches are taken, when they are again
                    log.error("%s", error)  # noqa: TRY400 - it names place and fix by itself
                    raise
                for lane in self._lanes.values():
                    lane.forget_ends()

    def cursor(self) -> dict[str, Any]:
        """By lane: the next offset of each topic that was not given out, position, time, and the lane's numbers."""
        return {lane.name: lane.cursor() for lane in self._lanes.values()}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Begin the lanes of this cursor there, whenever they are assigned; a keeper's word comes first."""
        self._sought = dict(cursor)

    def commit(self, cursor: dict[str, Any]) -> None:
        """Let the group begin there, where no other cursor is kept. Lanes that are not read any more are passed over."""
        for name, kept in cursor.items():
            if self._reader is not None and int(name) in self._lanes:
                self._reader.commit(int(name), kept["offsets"])

    def gates(self) -> Mapping[str, Closed | None]:
        """Whether the bus is there to read."""
        if self._bus is None or self._reader is None:
            return {"bus": NOT_CONNECTED}
        letters = None if self._dead_letters is None else self._dead_letters.gate
        avro = None if self._avro is None else self._avro.gate
        return {"bus": self._reader.gate or (None if letters is NOT_CONNECTED else letters) or avro or self._missed()}

    metric_specs = (
        MetricSpec("bus_records_total", "Records read, by topic.", "topic"),
        MetricSpec("bus_dead_letters_total", "Records that could not be used, by topic.", "topic"),
        MetricSpec("bus_skipped_total", "Records that are no market data, by channel.", "channel"),
        MetricSpec("bus_bar_updates_total", "Bars that came again on the bus and were left out."),
        MetricSpec("bus_lag_records", "Records on the bus that were not read yet, by topic.", "topic"),
        MetricSpec("bus_lanes", "Partitions that this process reads."),
    )

    def metrics(self) -> Mapping[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        return {
            "bus_records_total": dict(self._read),
            "bus_dead_letters_total": dict(self._buried),
            "bus_skipped_total": dict(self._skipped),
            "bus_bar_updates_total": self._updates,
            "bus_lag_records": {} if self._reader is None else self._reader.lag,
            "bus_lanes": len(self._lanes),
        }

    async def take(self, starts: Mapping[int, Offsets]) -> Mapping[int, Offsets]:
        """See `Owner.take`."""
        taken = {}
        for partition, committed in starts.items():
            name = str(partition)
            sought = self._sought.pop(name, None)  # somebody else may be further when the lane comes back
            kept = sought if self.keeper is None else await self.keeper.take(name)
            offsets = committed if kept is None else {**committed, **kept["offsets"]}
            offsets = {topic: offsets[topic] for topic in self._topics}
            taken[partition] = offsets
            self._lanes[partition] = LaneMerger(
                name,
                self._topics,
                offsets,
                self._clock(),
                idle=self.params.idle_ms / 1_000,
                tick=self.params.tick_ms / 1_000,
                cursor=kept,
            )
        return taken

    async def leave(self, partitions: AbstractSet[int]) -> None:
        """See `Owner.leave`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                for partition in sorted(partitions & self._lanes.keys()):
                    if self.keeper is not None:
                        await self.keeper.leave(str(partition))
                    del self._lanes[partition]
        await self.lose(partitions)

    async def lose(self, partitions: AbstractSet[int]) -> None:
        """See `Owner.lose`."""
        for partition in sorted(partitions & self._lanes.keys()):
            del self._lanes[partition]
            if self.keeper is not None:
                await self.keeper.leave(str(partition))

    def _paused(self) -> AbstractSet[tuple[str, int]]:
        return {(topic, partition) for partition, lane in self._lanes.items() for topic in lane.full}

    def _missed(self) -> Closed | None:
        for lane in self._lanes.values():
            if (missed := lane.missed(self._clock())) is not None:
                topic, end, told = missed
                reason = (
                    f"{topic}/{lane.name} ends at {end}, and for {MISSED_SECONDS:g} s a time mark says that there is more, up "
                    f"to {told} (was the topic made anew? then make that of statuses anew too)"
                )
                return Closed(reason, "missing-records")
        return None

    async def _take_in(self, chunk: Chunk, lane: LaneMerger | None) -> None:
        if lane is None:
            return
        if chunk.offsets:
            self._read[chunk.topic] += len(chunk.offsets)
            values, unreadable = chunk.values, NONE
            if any(map(is_avro, values)) and self._avro is not None:
                values, unreadable = await self._avro.decode(values)
            await self._sort_in(chunk, values, unreadable, lane)
        if chunk.at_end:
            lane.end(chunk.topic)

    async def _sort_in(
        self, chunk: Chunk, values: Sequence[bytes | None], unreadable: Mapping[int, str], lane: LaneMerger
    ) -> None:
        """Make rows or marks of the records of a chunk, and dead letters of those that cannot be used."""
        kind = self._topics[chunk.topic]
        latest, ahead = max(self._wall(), lane.newest), self.params.max_ahead_ms * MILLISECOND
        offsets, stop = np.array(chunk.offsets), chunk.offsets[-1] + 1
        if kind is MARKS:
            marks = refuse_ahead(read_marks(values, unreadable), latest, ahead)
            await self._set_aside(chunk, marks.poison, marks.skipped)
            lane.add_marks(chunk.topic, marks.moments, marks.ends, offsets[marks.places], stop, self._clock())
        else:
            rows = refuse_ahead(read(kind, values, lane.symbols, unreadable), latest, ahead)
            await self._set_aside(chunk, rows.poison, rows.skipped)
            self._updates += lane.add(chunk.topic, rows.table, offsets[rows.places], stop, self._clock())

    async def _set_aside(self, chunk: Chunk, poison: list[tuple[int, str]], skipped: Counter[str]) -> None:
        self._skipped += skipped
        if poison:
            await self._bury(chunk, poison)

    async def _bury(self, chunk: Chunk, poison: list[tuple[int, str]]) -> None:
        """Bring what cannot be used to the dead letters, and wait until it is there."""
        if self._bus is None:
            return
        if self._dead_letters is None:
            self._dead_letters = self._bus.writer()
        letters = self._dead_letters
        for number, reason in poison:
            headers = [
                ("reason", reason.encode()),
                ("topic", chunk.topic.encode()),
                ("partition", b"%d" % chunk.partition),
                ("offset", b"%d" % chunk.offsets[number]),
            ]
            await letters.take(f"{chunk.topic}.dlq", chunk.keys[number], chunk.values[number], headers)
        await letters.flush()
        self._buried[chunk.topic] += len(poison)


class KafkaSource(BusSource):
    """Read topics of Kafka, sharing their partitions with the other members of a group.

    Topics have to have the same number of partitions, that of statuses too. Settings are those of `KafkaSettings`.
    """

    secrets: ClassVar[tuple[str, ...]] = (PASSWORD,)
    settings = (KafkaSettings, Topics)

    class Params(BusSource.Params):
        """Parameters of a source that reads Kafka."""

        group: str | None = param(None, help="the group to share partitions with; KAFKA_GROUP_ID where it is not given")
        session_ms: int = param(
            10_000, ge=500, help="after how long of silence others take over the partitions of a member, milliseconds"
        )

    def _connect(self, connection: Connection) -> tuple[Bus, str]:
        settings = KafkaSettings.read()
        bus = KafkaBus(settings.client(connection.secret), settings.kafka_linger_ms, self.params.session_ms)
        return bus, self.params.group or settings.kafka_group_id


class MemorySource(BusSource):
    """Read topics of a bus in this process, that a sink of the same name writes."""

    class Params(BusSource.Params):
        """Parameters of a source in this process."""

        name: str = param("main", help="the bus that sink and source share")
        group: str = param("main", help="the group to share partitions with")
        partitions: int = param(1, ge=1, le=1024, help="partitions of each topic, where the bus is new")
        capacity: int = param(100_000, ge=1, help="records that a partition holds, where the bus is new")

    def _connect(self, connection: Connection) -> tuple[Bus, str]:
        del connection
        return MemoryBus.named(self.params.name, self.params.partitions, self.params.capacity), self.params.group
