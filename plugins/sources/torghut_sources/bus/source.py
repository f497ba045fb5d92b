"""Sources that read a bus, with a lane for each partition."""

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
    PAIRS_AND_US_EQUITIES,
    BarEnds,
    Batch,
    Calendars,
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
from torghut_sources.settings import TaSettings
from torghut_sources.tape.rows import KINDS, Kind

if TYPE_CHECKING:
    from torghut_sources.bus.avro import Avro

log = logging.getLogger(__name__)

LONGEST_REASON = 1_000
"""Characters of a dead letter's reason at most: it may quote the record, and a letter that is too large is refused."""

READ_AT_ONCE = 5_000
"""Records per read, at most."""

AWAY_SECONDS = 1.0
"""Time without a read after which the source only stays in the group; what was fetched ahead is dropped then."""
STAY_SECONDS = 0.05
"""How long it stays at a time: the next read may wait that long."""

LEAVE_SECONDS = 10.0
"""How long a keeper may take to store the state of lanes that are revoked; the whole group waits for it."""


class BusSource(Source, Owner):
    """What the sources of any bus have in common.

    A lane is a partition number of all topics, including the topic of statuses, whose time marks give the time where no
    event does. With a `keeper`, a lane resumes from the cursor that was kept with its state; else from the cursor of
    `seek`; else from the committed offsets of the group. A record that cannot be used goes to the topic ``<topic>.dlq``,
    with its reason and place, and the lane continues only when it is acknowledged there.

    The source stays in its group also while no batches are taken, however long; it reads nothing then. A lane that is
    revoked meanwhile is lost: it is gone from `cursor` when the keeper's `leave` is called, and gives nothing more. So is
    one that the keeper cannot leave in time.

    Parameters
    ----------
    params : see `Params`.
    clock : monotonic time for idle topics and clock ticks, seconds.
    wall : the time of day, ns; only to refuse events that are dated far ahead of it.
    """

    has_lanes = True
    venue_calendars = PAIRS_AND_US_EQUITIES  # what the forwarder sends

    class Params(Source.Params):
        """Parameters of a source that reads a bus."""

        channels: list[Literal["trades", "quotes", "bars"]] = param(
            ["trades", "quotes", "bars"], min_length=1, help="topics to read"
        )
        start: Literal["earliest", "latest"] = param(
            setting=(TaSettings, "ta_auto_offset_reset"), help="where to start a partition that is new to the group"
        )
        idle_ms: int = param(200, ge=0, help="how long the other topics wait for an empty one, milliseconds")
        tick_ms: int = param(
            0,
            ge=0,
            help="silence after which a clock tick is given, milliseconds, for a sender without time marks; 0: never",
        )
        max_ahead_ms: int = param(
            60_000,
            ge=0,
            help="events dated further ahead of all clocks are dead letters, milliseconds: they would close all windows",
        )
        simulated: bool = param(False, help="read the topics torghut.sim.*, for simulated data")
        calendars: Calendars = param(
            {}, help="exchange calendar by symbol pattern, first match counts, for the ends of daily bars; others: 24/7"
        )

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
        self._reading = asyncio.Lock()
        self._read_at = 0.0
        self._stay_task: asyncio.Task[None] | None = None
        self._dead_letters: Writer | None = None
        self._topics: dict[str, Kind] = {}
        self._is_closed = False
        self._lanes: dict[int, LaneMerger] = {}
        self._sought: dict[str, Any] = {}
        self._read: Counter[str] = Counter()
        self._dead_letter_counts: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._late: Counter[str] = Counter()
        self._updates = 0

    @abstractmethod
    def _connect(self, connection: Connection) -> tuple[Bus, str]:
        """Return the bus to read, and the group to read it in."""

    def connect(self, connection: Connection) -> None:
        """Find the topics, the bus and the group.

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
        """Leave the group, without calling the keeper: the caller has stored all state before."""
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
        StateError : the next records are gone, a dead letter was refused, or the registry refuses access.
        """
        if self._bus is None or self._group is None:
            raise StateError("the source is not connected (call connect before batches)")
        if self._reader is None:
            self._reader = self._bus.reader(self._group, tuple(self._topics), self.params.start, self)
        wait = min(max(self.params.idle_ms / 4_000, 0.001), 0.05)
        self._read_at = time.monotonic()
        if self._stay_task is None or self._stay_task.cancelled():
            self._reading, self._stay_task = asyncio.Lock(), asyncio.create_task(self._stay(self._reader))
        while not self._is_closed:
            async with self._reading:
                if self._stay_task.done():
                    self._stay_task.result()
                chunks = await self._reader.read(READ_AT_ONCE, wait, self._paused())
                # The lanes that were read; from here on they may be replaced at every await.
                lanes, now, self._read_at = dict(self._lanes), self._clock(), time.monotonic()
            for chunk in chunks:
                await self._add_chunk(chunk, lanes.get(chunk.partition))
            for partition, lane in lanes.items():
                while self._lanes.get(partition) is lane and (batch := lane.next(size, now)) is not None:
                    yield batch

    async def _stay(self, reader: Reader) -> None:
        """Stay in the group while no batches are taken, until the source is closed."""
        pause = AWAY_SECONDS
        while not self._is_closed:
            await asyncio.sleep(pause)
            async with self._reading:
                pause = max(0.0, self._read_at + AWAY_SECONDS - time.monotonic())
                if pause or self._is_closed:
                    continue
                try:
                    await reader.stay(STAY_SECONDS)
                except Exception as error:  # `batches` raises it, when the next one is taken
                    log.error("%s", error)  # noqa: TRY400 - the error names place and fix
                    raise
                for lane in self._lanes.values():
                    lane.forget_ends()

    def cursor(self) -> dict[str, Any]:
        """Return by lane: the next offset of each topic, position, time, and the lane's symbols and series."""
        return {lane.name: lane.cursor() for lane in self._lanes.values()}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Start the lanes of this cursor there, whenever they are assigned; a keeper's cursor comes first."""
        self._sought = dict(cursor)

    def commit(self, cursor: dict[str, Any]) -> None:
        """Commit the offsets of a cursor for the group. Lanes that are not read any more are skipped."""
        for name, kept in cursor.items():
            if self._reader is not None and int(name) in self._lanes:
                self._reader.commit(int(name), kept["offsets"])

    def gates(self) -> Mapping[str, Closed | None]:
        """Return whether the bus can be read."""
        if self._bus is None or self._reader is None:
            return {"bus": NOT_CONNECTED}
        letters = None if self._dead_letters is None else self._dead_letters.gate
        avro = None if self._avro is None else self._avro.gate
        return {
            "bus": self._reader.gate
            or (None if letters is NOT_CONNECTED else letters)
            or avro
            or self._missed()
            or self._misdated()
        }

    metric_specs = (
        MetricSpec("bus_records_total", "Records read, by topic.", "topic"),
        MetricSpec("bus_dead_letters_total", "Records that could not be used, by topic.", "topic"),
        MetricSpec("bus_skipped_total", "Records that are no market data, by channel.", "channel"),
        MetricSpec("bus_bar_updates_total", "Bars that came again on the bus and were left out."),
        MetricSpec("bus_late_total", "Trades and quotes that were far behind the newest of their topic.", "topic"),
        MetricSpec("bus_lag_records", "Records on the bus that were not read yet, by topic.", "topic"),
        MetricSpec("bus_lanes", "Partitions that this process reads."),
    )

    def metrics(self) -> Mapping[str, Metric]:
        """Return the values of `metric_specs`, by name."""
        return {
            "bus_records_total": dict(self._read),
            "bus_dead_letters_total": dict(self._dead_letter_counts),
            "bus_skipped_total": dict(self._skipped),
            "bus_bar_updates_total": self._updates,
            "bus_late_total": dict(self._late),
            "bus_lag_records": {} if self._reader is None else self._reader.lag,
            "bus_lanes": len(self._lanes),
        }

    async def take(self, starts: Mapping[int, Offsets]) -> Mapping[int, Offsets]:
        """See `Owner.take`."""
        taken = {}
        for partition, committed in starts.items():
            name = str(partition)
            sought = self._sought.pop(name, None)  # another member may be further when the lane comes back
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
                ends=BarEnds(self.params.calendars),
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
                topic, end, promised = missed
                reason = (
                    f"{topic}/{lane.name} ends at {end}, but for {MISSED_SECONDS:g} s a time mark says that it has records up "
                    f"to {promised} (if the topic was created again, create that of statuses again too)"
                )
                return Closed(reason, "missing-records")
        return None

    def _misdated(self) -> Closed | None:
        for lane in self._lanes.values():
            for misdated in lane.misdated.values():
                if numbers := misdated.symbols(self._clock()):
                    return misdated.gate([lane.symbols.names[number] for number in numbers])
        return None

    def _watch_times(self, lane: LaneMerger, topic: str, found: Any, kept: Any, limit: int) -> None:
        """Count rows that come too late for what is made of them, and remember the symbols of those and of refused ones."""
        misdated, now = lane.misdated[topic], self._clock()
        if len(kept) < len(found):
            misdated.refuse(found.symbol[found.event_ts > limit].tolist(), now)
        late = misdated.take(kept.event_ts, kept.symbol.tolist, now)
        before = self._late[topic]
        self._late[topic] += late
        if late and (not before or len(str(before)) < len(str(before + late))):
            log.warning(
                "%s/%s: %d events so far were far behind the newest, and are in no bar that is over",
                topic,
                lane.name,
                before + late,
            )

    async def _add_chunk(self, chunk: Chunk, lane: LaneMerger | None) -> None:
        if lane is None:
            return
        if chunk.offsets:
            self._read[chunk.topic] += len(chunk.offsets)
            values, unreadable = chunk.values, NONE
            if any(map(is_avro, values)) and self._avro is not None:
                values, unreadable = await self._avro.decode(values)
            await self._decode_chunk(chunk, values, unreadable, lane)
        if chunk.at_end:
            lane.end(chunk.topic)

    async def _decode_chunk(
        self, chunk: Chunk, values: Sequence[bytes | None], unreadable: Mapping[int, str], lane: LaneMerger
    ) -> None:
        """Turn the records of a chunk into rows or marks, and those that cannot be used into dead letters."""
        kind = self._topics[chunk.topic]
        latest, ahead = self._wall(), self.params.max_ahead_ms * MILLISECOND
        offsets, stop = np.array(chunk.offsets), chunk.offsets[-1] + 1
        if kind is MARKS:
            marks = refuse_ahead(read_marks(values, unreadable), latest, ahead)
            await self._set_aside(chunk, marks.poison, marks.skipped)
            lane.add_marks(chunk.topic, marks.moments, marks.ends, offsets[marks.places], stop, self._clock())
        else:
            found = read(kind, values, lane.symbols, unreadable)
            rows = refuse_ahead(found, latest, ahead)
            if chunk.topic in lane.misdated:
                self._watch_times(lane, chunk.topic, found.table, rows.table, latest + ahead)
            await self._set_aside(chunk, rows.poison, rows.skipped)
            self._updates += lane.add(chunk.topic, rows.table, offsets[rows.places], stop, self._clock())

    async def _set_aside(self, chunk: Chunk, poison: list[tuple[int, str]], skipped: Counter[str]) -> None:
        self._skipped += skipped
        if poison:
            await self._send_dead_letters(chunk, poison)

    async def _send_dead_letters(self, chunk: Chunk, poison: list[tuple[int, str]]) -> None:
        """Write records that cannot be used to the dead-letter topic, and wait for the acknowledgement."""
        if self._bus is None:
            return
        if self._dead_letters is None:
            self._dead_letters = self._bus.writer()
        letters = self._dead_letters
        for number, reason in poison:
            headers = [
                ("reason", reason[:LONGEST_REASON].encode(errors="backslashreplace")),
                ("topic", chunk.topic.encode()),
                ("partition", b"%d" % chunk.partition),
                ("offset", b"%d" % chunk.offsets[number]),
            ]
            await letters.take(f"{chunk.topic}.dlq", chunk.keys[number], chunk.values[number], headers)
        await letters.flush()
        self._dead_letter_counts[chunk.topic] += len(poison)


class KafkaSource(BusSource):
    """Read topics of Kafka, sharing their partitions with the other members of a group.

    Topics have to have the same number of partitions, that of statuses too. Settings are those of `KafkaSettings`.
    """

    secrets: ClassVar[tuple[str, ...]] = (PASSWORD,)
    settings = (KafkaSettings, Topics, TaSettings)

    class Params(BusSource.Params):
        """Parameters of a source that reads Kafka."""

        group: str | None = param(None, help="consumer group; default: TA_GROUP_ID, or KAFKA_GROUP_ID")
        session_ms: int = param(
            10_000,
            ge=500,
            help="time without a heartbeat after which other members take over the partitions, milliseconds",
        )

    def _connect(self, connection: Connection) -> tuple[Bus, str]:
        settings = KafkaSettings.read()
        bus = KafkaBus(settings.client(connection.secret), settings.kafka_linger_ms, self.params.session_ms)
        return bus, self.params.group or settings.group_id


class MemorySource(BusSource):
    """Read topics of a bus in this process, which a sink of the same name writes."""

    class Params(BusSource.Params):
        """Parameters of a source in this process."""

        name: str = param("main", help="name of the bus that sink and source share")
        group: str = param("main", help="consumer group")
        partitions: int = param(1, ge=1, le=1024, help="partitions of each topic, if the bus is new")
        capacity: int = param(100_000, ge=1, help="records that a partition holds, if the bus is new")

    def _connect(self, connection: Connection) -> tuple[Bus, str]:
        del connection
        return MemoryBus.named(self.params.name, self.params.partitions, self.params.capacity), self.params.group
