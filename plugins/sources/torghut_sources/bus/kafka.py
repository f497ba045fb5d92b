"""Kafka as a bus, on librdkafka.

Each client has one thread of its own, in which all its callbacks run: a writer's does nothing else, a reader's also
fetches.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from torghut_core import Closed, InputError, SettingsError, StateError
from torghut_sources.bus.contract import NOT_CONNECTED, Bus, Chunk, Headers, Offsets, Owner, Reader, Writer

if TYPE_CHECKING:
    import confluent_kafka

A = TypeVar("A")
T = TypeVar("T")

QUEUE = 100_000
"""Records under way at most; and `QUEUE_KB` of them."""
QUEUE_KB = 64 * 1024
STATISTICS_MS = 500
"""How often a client looks at which brokers it reaches, milliseconds."""
POLL_INTERVAL_MS = 300_000
"""How long a reader may neither read nor stay before the group takes its partitions, milliseconds."""
OWNER_SHARE = 0.8
"""How much of that an owner may take to take or leave partitions."""
ANSWER_SECONDS = 10.0
"""How long one question to a broker may take."""
RETRY_SECONDS = 0.2
TROUBLE_SECONDS = 5.0
"""How long an error of a topic is believed that librdkafka would tell again."""
TOPIC_SECONDS = 30.0
"""How long a topic may be unknown to the brokers before a writer calls it missing."""
PARTITIONS_SECONDS = 300.0
"""How long the number of a topic's partitions is believed."""

log = logging.getLogger(__name__)

HINTS = {
    "MSG_SIZE_TOO_LARGE": "raise `max.message.bytes` of the topic, or send less at once",
    "TOPIC_AUTHORIZATION_FAILED": "allow the user of KAFKA_SASL_USER to use the topic",
    "GROUP_AUTHORIZATION_FAILED": "allow the user of KAFKA_SASL_USER to use the group of KAFKA_GROUP_ID",
    "CLUSTER_AUTHORIZATION_FAILED": "allow the user of KAFKA_SASL_USER to write idempotently",
    "UNKNOWN_TOPIC_OR_PART": "make the topic, or fix its TOPIC_ setting",
    "_UNKNOWN_TOPIC": "make the topic, or fix its TOPIC_ setting",
    "_UNKNOWN_PARTITION": "start again: the topic has other partitions now",
    "_AUTHENTICATION": "fix KAFKA_SASL_USER, KAFKA_SASL_PASSWORD or KAFKA_SASL_MECH",
}
FOR_GOOD = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "SASL_AUTHENTICATION_FAILED",
        "_AUTHENTICATION",
        "UNSUPPORTED_SASL_MECHANISM",
    }
)
"""Errors of a reader that waiting does not fix."""


class KafkaBus(Bus):
    """The topics of a Kafka cluster.

    Parameters
    ----------
    client : settings of every client, in librdkafka's words; see `KafkaSettings.client`.
    linger_ms : how long a record waits for others to travel with, milliseconds.
    session_ms : after how long without a sign of life a reader's partitions are given to others, milliseconds.
    poll_interval_ms : after how long without `read` or `stay` they are, milliseconds.

    Raises
    ------
    SettingsError : confluent-kafka is not installed.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        linger_ms: int = 30,
        session_ms: int = 10_000,
        poll_interval_ms: int = POLL_INTERVAL_MS,
    ) -> None:
        try:
            import confluent_kafka  # noqa: F401 - to say now what is missing
        except ImportError as error:
            raise SettingsError(
                "Kafka needs confluent-kafka, which is not installed (pip install 'torghut[kafka]')"
            ) from error
        self._client = dict(client)
        self._linger_ms = linger_ms
        self._session_ms = session_ms
        self._poll_interval_ms = poll_interval_ms

    def writer(self) -> Writer:
        """A producer that waits for all replicas, writes each record once, and keeps trying."""
        return KafkaWriter(self._client, self._linger_ms)

    def reader(self, group: str, topics: Sequence[str], start: str, owner: Owner) -> Reader:
        """A member of a consumer group."""
        session = {"session.timeout.ms": self._session_ms, "heartbeat.interval.ms": max(self._session_ms // 4, 1)}
        return KafkaReader({**self._client, **session}, group, topics, start, owner, self._poll_interval_ms)


class Broker(msgspec.Struct):
    """What the statistics say of a broker; `nodeid` is negative of what is only an address to begin with."""

    nodeid: int
    state: str


class Place(msgspec.Struct):
    """Where a reader is in a partition: the offset that comes next, and the end; negative where they are not known."""

    app_offset: int = -1
    hi_offset: int = -1


class Places(msgspec.Struct):
    """The partitions of a topic, by number."""

    partitions: dict[str, Place]


class Statistics(msgspec.Struct):
    """What is read of librdkafka's statistics."""

    brokers: dict[str, Broker] = {}
    topics: dict[str, Places] = {}


_STATISTICS = msgspec.json.Decoder(Statistics)


class Link:
    """Whether brokers are reached, as the callbacks of a client tell."""

    def __init__(self, bootstrap: str) -> None:
        self.closed: Closed | None = NOT_CONNECTED
        self.statistics = Statistics()
        self._bootstrap = bootstrap
        self._said = "none has answered"
        self._logged: set[str] = set()

    @property
    def callbacks(self) -> dict[str, Any]:
        """What to add to the settings of the client."""
        return {
            "error_cb": self._on_error,
            "stats_cb": self._on_statistics,
            "statistics.interval.ms": STATISTICS_MS,
            "logger": self,
        }

    def log(self, level: int, text: str, *values: object) -> None:
        """Log what librdkafka says, once for each time that brokers are reached again: it says it with each attempt."""
        line = text % values
        what = re.sub(r"\(.*\)|\d+", "", line)
        if what not in self._logged:
            self._logged.add(what)
            log.log(level, "%s", line)

    def opened(self) -> None:
        """Brokers are reached."""
        if self.closed is not None:
            self.closed = None
            self._logged.clear()

    def _on_error(self, error: confluent_kafka.KafkaError) -> None:
        self._said = error.str()
        if error.name() in FOR_GOOD:
            self.closed = Closed(f"{error.str()} ({_hint(error.name())})", error_class(error.name()))
        elif error.name() == "_ALL_BROKERS_DOWN":
            self._close()

    def _on_statistics(self, text: str) -> None:
        self.statistics = _STATISTICS.decode(text)
        if any(broker.state == "UP" for broker in self.statistics.brokers.values()):
            self.opened()
        elif self.closed is None:
            self._close()

    def _close(self) -> None:
        reason = f"no broker of {self._bootstrap} answers: {self._said} (look at Kafka, or fix KAFKA_BOOTSTRAP)"
        self.closed = Closed(reason, "unreachable")


def error_class(name: str) -> str:
    """The word for an error, of librdkafka's name for it.

    Examples
    --------
    >>> error_class("MSG_SIZE_TOO_LARGE"), error_class("_AUTHENTICATION")
    ('msg-size-too-large', 'auth')
    """
    return "auth" if "AUTH" in name else name.strip("_").lower().replace("_", "-")


def _hint(name: str) -> str:
    return HINTS.get(name, "see librdkafka's documentation of this error")


class KafkaWriter(Writer):
    """A producer. Its thread serves delivery reports, and says by `failure` what was refused for good."""

    def __init__(self, client: Mapping[str, Any], linger_ms: int) -> None:
        from confluent_kafka import KafkaException, Producer

        self._link = Link(client["bootstrap.servers"])
        self._refused = KafkaException
        self._failure: Closed | None = None
        self._delivered: defaultdict[str, int] = defaultdict(int)
        self._failed: defaultdict[str, int] = defaultdict(int)
        self._latencies: deque[float] = deque(maxlen=1_000)
        self._ends: dict[tuple[str, int], int] = {}
        self._partitions: dict[str, tuple[int, float]] = {}
        self._producer = Producer(
            {
                **client,
                **self._link.callbacks,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": linger_ms,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": QUEUE,
                "queue.buffering.max.kbytes": QUEUE_KB,
                "message.timeout.ms": 0,  # for ever: an outage is waited for, and the full queue stops who sends
                "on_delivery": self._on_delivery,
            }
        )
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="torghut-kafka-writer", daemon=True)
        self._thread.start()

    @property
    def gate(self) -> Closed | None:  # type: ignore[override]
        """Why nothing can be written."""
        return self._failure or self._link.closed

    def put(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> bool:
        """Hand a record to librdkafka, unless its queue is full."""
        if self._failure is not None:
            raise StateError(self._failure.reason)
        try:
            if partition is not None:
                self._producer.produce(topic, value, key, partition, headers=list(headers))
            elif headers:
                self._producer.produce(topic, value, key, headers=list(headers))
            else:
                self._producer.produce(topic, value, key)
        except BufferError:
            return False
        except self._refused as error:
            self._fail(error.args[0], topic)
            raise StateError(self._failure.reason if self._failure else str(error)) from error
        return True

    def pending(self) -> int:
        """Records and their reports under way."""
        if self._failure is not None:
            raise StateError(self._failure.reason)
        closed = self._link.closed
        if closed is not None and closed.error_class == "auth":
            raise StateError(closed.reason)
        return len(self._producer)

    async def partitions(self, topic: str) -> int:
        """Ask the brokers, every few minutes."""
        count, until = self._partitions.get(topic, (0, 0.0))
        missing_at = time.monotonic() + TOPIC_SECONDS
        while time.monotonic() >= until:
            self.pending()  # raises where the brokers have refused us
            count, error = await asyncio.to_thread(self._count, topic)
            if count:
                until = time.monotonic() + PARTITIONS_SECONDS
                self._partitions[topic] = count, until
            elif error is not None and (error.name() in FOR_GOOD or time.monotonic() >= missing_at):
                self._fail(error, topic)
            else:
                await asyncio.sleep(RETRY_SECONDS)
        return count

    def _count(self, topic: str) -> tuple[int, confluent_kafka.KafkaError | None]:
        """How many partitions a topic has, or why it has none; neither while no broker answers."""
        try:
            metadata = self._producer.list_topics(topic, ANSWER_SECONDS).topics[topic]
        except self._refused:
            return 0, None
        return (0, metadata.error) if metadata.error else (len(metadata.partitions), None)

    def ends(self, partition: int) -> Offsets:
        """As the reports say."""
        return {topic: end for (topic, number), end in self._ends.items() if number == partition and end}

    @property
    def delivered(self) -> Mapping[str, int]:
        """Acknowledged records by topic."""
        return dict(self._delivered)

    @property
    def failed(self) -> Mapping[str, int]:
        """Refused records by topic."""
        return dict(self._failed)

    @property
    def latencies(self) -> Sequence[float]:
        """Milliseconds from `put` to the report, of the last thousand records."""
        return list(self._latencies)

    def close(self) -> None:
        """Give up what is under way and end the thread."""
        if not self._is_closed:
            self._failure = self._failure or Closed("the writer is closed", "closed")
            self._is_closed = True
            self._thread.join(ANSWER_SECONDS)

    def _serve(self) -> None:
        while not self._is_closed:
            self._producer.poll(0.1)
        self._producer.purge()
        self._producer.flush(1)
        del self._producer  # which ends librdkafka's threads

    def _on_delivery(self, error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
        topic = message.topic() or ""
        if error is None:
            self._link.opened()
            self._delivered[topic] += 1
            offset = message.offset()
            self._ends[topic, message.partition() or 0] = 0 if offset is None else offset + 1
            latency = message.latency()
            if latency is not None:
                self._latencies.append(latency * 1e3)
        elif not self._is_closed:
            self._fail(error, topic)

    def _fail(self, error: confluent_kafka.KafkaError, topic: str) -> None:
        self._failed[topic] += 1
        if self._failure is None:
            reason = f"Kafka refuses a record for topic {topic!r}: {error.str()} ({_hint(error.name())})"
            self._failure = Closed(reason, error_class(error.name()))


class KafkaReader(Reader):
    """A consumer whose partitions are assigned alike in all topics (range), and all at once.

    Partitions are committed where the owner says, and begin where the owner says, never where librdkafka would.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        group: str,
        topics: Sequence[str],
        start: str,
        owner: Owner,
        poll_interval_ms: int = POLL_INTERVAL_MS,
    ) -> None:
        from confluent_kafka import Consumer

        self._link = Link(client["bootstrap.servers"])
        self._topics = list(topics)
        self._start = start
        self._owner = owner
        self._owner_seconds = OWNER_SHARE * poll_interval_ms / 1_000
        self._is_away = False
        self._waits: Closed | None = NOT_CONNECTED
        self._troubles: dict[str, tuple[Closed, float]] = {}
        """What is wrong with a topic, and until when that is believed."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owned: list[confluent_kafka.TopicPartition] = []
        self._paused: AbstractSet[tuple[str, int]] = frozenset()
        self._committed: dict[tuple[str, int], int] = {}
        self._is_noted = False
        self._epoch = 0
        self._subscribed = False
        self._closing = threading.Event()
        self._thread = ThreadPoolExecutor(1, "torghut-kafka-reader")
        self._consumer = Consumer(
            {
                **client,
                **self._link.callbacks,
                "group.id": group,
                "partition.assignment.strategy": "range",
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "max.poll.interval.ms": poll_interval_ms,
                "queued.max.messages.kbytes": QUEUE_KB,
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 10,  # after the queue was full; a second without it
            }
        )

    @property
    def gate(self) -> Closed | None:  # type: ignore[override]
        """Why nothing can be read."""
        return self._waits or next(iter(self._told), None) or self._link.closed

    @property
    def lag(self) -> Mapping[str, int]:
        """By the last statistics."""
        lag = dict.fromkeys(self._topics, 0)
        topics = self._link.statistics.topics
        for owned in self._owned:
            found = topics.get(owned.topic)
            place = None if found is None else found.partitions.get(str(owned.partition))
            if place is not None and place.app_offset >= 0:
                lag[owned.topic] += max(0, place.hi_offset - place.app_offset)
        return lag

    async def read(self, limit: int, seconds: float, paused: AbstractSet[tuple[str, int]]) -> list[Chunk]:
        """See `Reader.read`."""
        self._loop = asyncio.get_running_loop()
        return await self._loop.run_in_executor(self._thread, self._read, limit, seconds, paused)

    async def stay(self, seconds: float) -> None:
        """See `Reader.stay`."""
        self._loop = asyncio.get_running_loop()
        await self._loop.run_in_executor(self._thread, self._stay, seconds)

    def commit(self, partition: int, offsets: Offsets) -> None:
        """Note it. It is committed with the next `read` or `stay`, and when the partition is left."""
        for topic, offset in offsets.items():
            self._committed[topic, partition] = offset
        self._is_noted = True

    def close(self) -> None:
        """Commit what was noted, and leave the group."""
        if not self._closing.is_set():
            self._closing.set()
            done = self._thread.submit(self._leave_group)
            with suppress(FutureTimeoutError):  # the brokers are away: the group will notice by itself
                done.result(ANSWER_SECONDS)
            self._thread.shutdown(wait=False)

    def _leave_group(self) -> None:
        self._commit_now({place.partition for place in self._owned})
        self._consumer.close()

    # in the reader's thread

    def _read(self, limit: int, seconds: float, paused: AbstractSet[tuple[str, int]]) -> list[Chunk]:
        if self._closing.is_set() or not (self._subscribed or self._subscribe(seconds)):
            return []
        self._is_away = False
        self._commit_noted()
        self._pause(paused)
        epoch = self._epoch
        first = self._consumer.poll(seconds)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(limit - 1, 0)] if limit > 1 else [first]
        if epoch != self._epoch:  # partitions have gone or begun anew between the two: the first may be of before
            self._begin_again()
            return []
        return self._sort(messages)

    def _stay(self, seconds: float) -> None:
        if self._closing.is_set() or not self._subscribed:
            self._closing.wait(seconds)
            return
        self._is_away = True
        self._commit_noted()
        self._pause({(place.topic, place.partition) for place in self._owned})
        epoch = self._epoch
        message = self._consumer.poll(seconds)
        if message is None:
            return
        if epoch != self._epoch:  # it is of a partition that has just been given to us, and is not paused yet
            self._begin_again()
        else:  # what is paused gives no records: it is an error
            self._sort([message])

    def _begin_again(self) -> None:
        """Give out nothing of what was fetched since partitions were given anew."""
        self._consumer.assign(self._owned)
        self._paused = frozenset()

    def _commit_noted(self) -> None:
        if self._is_noted and (places := self._places({place.partition for place in self._owned})):
            self._consumer.commit(offsets=places, asynchronous=True)
        self._is_noted = False

    def _subscribe(self, seconds: float) -> bool:
        """Join the group, once all topics are there."""
        from confluent_kafka import KafkaException

        found = {}
        try:
            for topic in self._topics:
                metadata = self._consumer.list_topics(topic, ANSWER_SECONDS).topics[topic]
                found[topic] = 0 if metadata.error else len(metadata.partitions)
        except KafkaException as error:
            self._waits = Closed(f"no broker answers: {error.args[0].str()} (look at Kafka)", "unreachable")
            self._consumer.poll(0)
            return False
        missing = [topic for topic, partitions in found.items() if not partitions]
        if missing:
            self._waits = Closed(f"no such topic: {', '.join(missing)} (make it, or fix its setting)", "unknown-topic")
            self._closing.wait(max(seconds, RETRY_SECONDS))
            return False
        if len(set(found.values())) > 1:
            counts = ", ".join(f"{topic} has {partitions}" for topic, partitions in found.items())
            raise InputError(f"topics differ in their partitions: {counts} (give all of them the same number)")
        self._waits = Closed(f"joining the group that reads {', '.join(self._topics)} (wait)", "joining")
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._subscribed = True
        return True

    def _pause(self, paused: AbstractSet[tuple[str, int]]) -> None:
        if paused == self._paused:
            return
        owned = {(place.topic, place.partition) for place in self._owned}
        from confluent_kafka import TopicPartition

        if stop := (paused - self._paused) & owned:
            self._consumer.pause([TopicPartition(*place) for place in stop])
        if go := (self._paused - paused) & owned:
            self._consumer.resume([TopicPartition(*place) for place in go])
        self._paused = frozenset(paused)

    def _sort(self, messages: list[confluent_kafka.Message]) -> list[Chunk]:
        """The messages of each partition, and where its end is."""
        chunks: dict[tuple[str | None, int | None], Chunk] = {}
        for message in messages:
            error = message.error()
            place = message.topic(), message.partition()
            if error is not None and error.name() != "_PARTITION_EOF":
                self._judge(error, place)
                continue
            self._troubles.pop(place[0] or "", None)
            chunk = chunks.get(place)
            if chunk is None:
                chunk = chunks[place] = Chunk(place[0] or "", place[1] or 0, [], [], [])
            chunk.at_end = error is not None
            if error is None:
                chunk.offsets.append(message.offset() or 0)
                chunk.keys.append(message.key())
                chunk.values.append(message.value())
        return list(chunks.values())

    def _judge(self, error: confluent_kafka.KafkaError, place: tuple[str | None, int | None]) -> None:
        """Stop at what waiting does not fix; librdkafka goes on by itself with everything else, which is told meanwhile."""
        where = f"{place[0]}/{place[1]}" if place[0] else ", ".join(self._topics)
        if error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
            raise StateError(
                f"{where}: the record that comes next is gone: {error.str()} (retention was shorter than this pipeline "
                "stood still, or the topic was made anew: set the group's offsets, move the lane's state away, start again)"
            )
        told = f"{where}: {error.str()} ({_hint(error.name())})"
        if error.name() in FOR_GOOD:
            raise InputError(told)
        if error.fatal():
            raise StateError(told)
        closed = Closed(told, error_class(error.name()))
        if all(closed.error_class != other.error_class for other in self._told):
            log.error("%s", told)
        lasts = float("inf") if error.name() in HINTS else TROUBLE_SECONDS
        self._troubles[place[0] or ""] = closed, time.monotonic() + lasts

    @property
    def _told(self) -> list[Closed]:
        """What is wrong now with topics that are read."""
        now = time.monotonic()
        return [closed for closed, until in list(self._troubles.values()) if now < until]

    def _on_assign(self, consumer: confluent_kafka.Consumer, places: list[confluent_kafka.TopicPartition]) -> None:
        from confluent_kafka import TopicPartition

        self._epoch += 1
        self._paused = frozenset()
        starts: dict[int, Offsets] = defaultdict(dict)
        for place in self._patiently(self._stands, places) if places else []:
            starts[place.partition][place.topic] = (
                place.offset if place.offset >= 0 else self._patiently(self._end, place)
            )
        for partition, offsets in starts.items():
            if len(offsets) < len(self._topics):
                missing = ", ".join(sorted(set(self._topics) - set(offsets)))
                raise InputError(f"partition {partition} is not in {missing} (give all topics the same number)")
        taken = self._ask(self._owner.take(dict(sorted(starts.items())))) if starts else {}
        self._owned = [
            TopicPartition(topic, partition, offset)
            for partition, offsets in (taken or {}).items()
            for topic, offset in offsets.items()
        ]
        consumer.assign(self._owned)
        self._waits = None
        self._link.opened()

    def _on_revoke(self, consumer: confluent_kafka.Consumer, places: list[confluent_kafka.TopicPartition]) -> None:
        del consumer
        self._give_up(places, self._owner.lose if self._is_away else self._owner.leave)
        self._commit_now({place.partition for place in places})

    def _on_lost(self, consumer: confluent_kafka.Consumer, places: list[confluent_kafka.TopicPartition]) -> None:
        del consumer
        self._give_up(places, self._owner.lose)
        for place in places:  # it is others who commit there now
            self._committed.pop((place.topic, place.partition), None)

    def _give_up(
        self,
        places: list[confluent_kafka.TopicPartition],
        farewell: Callable[[AbstractSet[int]], Coroutine[Any, Any, None]],
    ) -> None:
        self._pause(frozenset())  # librdkafka would keep it, for when they come back
        self._epoch += 1
        self._owned = []
        if places and not self._closing.is_set():
            self._ask(farewell({place.partition for place in places}))

    def _commit_now(self, partitions: AbstractSet[int]) -> None:
        """Commit what was noted of these partitions. What fails is read again, by whoever has them next."""
        from confluent_kafka import KafkaException

        places = self._places(partitions)
        for place in places:
            del self._committed[place.topic, place.partition]
        try:
            if places:
                self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException:
            pass

    def _places(self, partitions: AbstractSet[int]) -> list[confluent_kafka.TopicPartition]:
        from confluent_kafka import TopicPartition

        return [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in list(self._committed.items())
            if partition in partitions
        ]

    def _stands(self, places: list[confluent_kafka.TopicPartition]) -> list[confluent_kafka.TopicPartition]:
        """What the group has committed; a negative offset where it has nothing."""
        from confluent_kafka import KafkaException

        committed = self._consumer.committed(places, ANSWER_SECONDS)
        for place in committed:
            if place.error is not None:
                raise KafkaException(place.error)
        return committed

    def _end(self, place: confluent_kafka.TopicPartition) -> int:
        """Where a partition begins that is new to the group."""
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        ends = self._consumer.get_watermark_offsets(TopicPartition(place.topic, place.partition), ANSWER_SECONDS)
        if ends is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - librdkafka names its own errors so
        return ends[0] if self._start == "earliest" else ends[1]

    def _patiently(self, question: Callable[[A], T], about: A) -> T:
        """Ask the brokers until they answer, for as long as the group waits for us."""
        from confluent_kafka import KafkaException

        until = time.monotonic() + self._owner_seconds
        while True:
            try:
                return question(about)
            except KafkaException:
                if self._closing.wait(RETRY_SECONDS) or time.monotonic() > until:
                    raise

    def _ask(self, answer: Coroutine[Any, Any, T]) -> T | None:
        """Await something in the loop, where the owner lives; None where it is being closed meanwhile."""
        if self._loop is None:
            raise RuntimeError("partitions are given out only while somebody reads")
        future: Future[T] = asyncio.run_coroutine_threadsafe(answer, self._loop)
        until = time.monotonic() + self._owner_seconds
        while time.monotonic() < until:
            try:
                return future.result(0.05)
            except FutureTimeoutError:
                if future.done():  # the owner's own time-out
                    raise
                if self._closing.is_set():
                    break
        future.cancel()
        if self._closing.is_set():
            return None
        raise StateError(f"taking or leaving partitions took more than {self._owner_seconds:g} s (look at the store)")
