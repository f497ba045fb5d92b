"""A member of a consumer group; its owner says where partitions start and what is committed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from torghut_core import Closed, InputError, StateError
from torghut_sources.bus.contract import NOT_CONNECTED, Chunk, Offsets, Owner, Reader
from torghut_sources.bus.kafka.link import (
    ANSWER_SECONDS,
    HINTS,
    PERMANENT,
    QUEUE_KB,
    RETRY_SECONDS,
    Link,
    error_class,
    hint,
)

if TYPE_CHECKING:
    import confluent_kafka

A = TypeVar("A")
T = TypeVar("T")

POLL_INTERVAL_MS = 300_000
"""How long a reader may neither `read` nor `stay` before the group takes its partitions, milliseconds."""
OWNER_SHARE = 0.8
"""Share of that time that an owner may use to take or leave partitions."""
ERROR_SECONDS = 5.0
"""How long an error of a topic counts that librdkafka would repeat."""

log = logging.getLogger(__name__)


class KafkaReader(Reader):
    """A consumer whose partitions are assigned alike in all topics (range), and all at once.

    The owner says where partitions start and what is committed, never librdkafka.
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

        self._bootstrap = client["bootstrap.servers"]
        self._link = Link(self._bootstrap)
        self._topics = list(topics)
        self._start = start
        self._owner = owner
        self._owner_seconds = OWNER_SHARE * poll_interval_ms / 1_000
        self._is_away = False
        self._waiting_for: Closed | None = NOT_CONNECTED
        self._errors: dict[str, tuple[Closed, float]] = {}
        """Errors by topic, and until when each counts."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owned: list[confluent_kafka.TopicPartition] = []
        self._paused: AbstractSet[tuple[str, int]] = frozenset()
        self._to_commit: dict[tuple[str, int], int] = {}
        self._has_commits = False
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
        return self._waiting_for or next(iter(self._current_errors), None) or self._link.closed

    @property
    def lag(self) -> Mapping[str, int]:
        """By the last statistics of librdkafka."""
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
        """Remember the offsets: they are committed with the next `read` or `stay`, and when the partition is left."""
        for topic, offset in offsets.items():
            self._to_commit[topic, partition] = offset
        self._has_commits = True

    def close(self) -> None:
        """Commit what is pending, and leave the group."""
        if not self._closing.is_set():
            self._closing.set()
            done = self._thread.submit(self._leave_group)
            with suppress(FutureTimeoutError):  # the brokers are away: the group will notice by its time-out
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
        self._commit_pending()
        self._pause(paused)
        epoch = self._epoch
        first = self._consumer.poll(seconds)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(limit - 1, 0)] if limit > 1 else [first]
        if epoch != self._epoch:  # partitions were reassigned between the two: the first message may be of before
            self._refetch()
            return []
        return self._chunks(messages)

    def _stay(self, seconds: float) -> None:
        if self._closing.is_set() or not self._subscribed:
            self._closing.wait(seconds)
            return
        self._is_away = True
        self._commit_pending()
        self._pause({(place.topic, place.partition) for place in self._owned})
        epoch = self._epoch
        message = self._consumer.poll(seconds)
        if message is None:
            return
        if epoch != self._epoch:  # it is of a partition that was just assigned, and is not paused yet
            self._refetch()
        else:  # what is paused gives no records, so it is an error
            self._chunks([message])

    def _refetch(self) -> None:
        """Drop what was fetched since partitions were reassigned, and fetch it again."""
        self._consumer.assign(self._owned)
        self._paused = frozenset()

    def _commit_pending(self) -> None:
        if self._has_commits and (places := self._pending_commits({place.partition for place in self._owned})):
            self._consumer.commit(offsets=places, asynchronous=True)
        self._has_commits = False

    def _subscribe(self, seconds: float) -> bool:
        """Join the group, once all topics exist; return whether it was joined."""
        from confluent_kafka import KafkaException

        found = {}
        try:
            for topic in self._topics:
                metadata = self._consumer.list_topics(topic, ANSWER_SECONDS).topics[topic]
                found[topic] = 0 if metadata.error else len(metadata.partitions)
        except KafkaException as error:
            self._waiting_for = Closed(
                f"no broker of {self._bootstrap} answers: {error.args[0].str()} (check that Kafka runs, or fix KAFKA_BOOTSTRAP)",
                "unreachable",
            )
            self._consumer.poll(0)
            return False
        missing = [topic for topic, partitions in found.items() if not partitions]
        if missing:
            self._waiting_for = Closed(
                f"no such topic: {', '.join(missing)} (create it, or fix its setting)", "unknown-topic"
            )
            self._closing.wait(max(seconds, RETRY_SECONDS))
            return False
        if len(set(found.values())) > 1:
            counts = ", ".join(f"{topic} has {partitions}" for topic, partitions in found.items())
            raise InputError(f"topics differ in their number of partitions: {counts} (give all of them the same)")
        self._waiting_for = Closed(f"joining the group that reads {', '.join(self._topics)} (wait)", "joining")
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

    def _chunks(self, messages: list[confluent_kafka.Message]) -> list[Chunk]:
        """Sort messages by partition; mark where a partition ends."""
        chunks: dict[tuple[str | None, int | None], Chunk] = {}
        for message in messages:
            error = message.error()
            place = message.topic(), message.partition()
            if error is not None and error.name() != "_PARTITION_EOF":
                self._handle_error(error, place)
                continue
            self._errors.pop(place[0] or "", None)
            chunk = chunks.get(place)
            if chunk is None:
                chunk = chunks[place] = Chunk(place[0] or "", place[1] or 0, [], [], [])
            chunk.at_end = error is not None
            if error is None:
                chunk.offsets.append(message.offset() or 0)
                chunk.keys.append(message.key())
                chunk.values.append(message.value())
        return list(chunks.values())

    def _handle_error(self, error: confluent_kafka.KafkaError, place: tuple[str | None, int | None]) -> None:
        """Raise an error that does not pass by waiting; librdkafka retries all others, which close the gate meanwhile."""
        where = f"{place[0]}/{place[1]}" if place[0] else ", ".join(self._topics)
        if error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
            raise StateError(
                f"{where}: the next record is gone: {error.str()} (this pipeline was down for longer than the retention, or "
                "the topic was created again: set the group's offsets, move the lane's state away, and restart)"
            )
        text = f"{where}: {error.str()} ({hint(error.name())})"
        if error.name() in PERMANENT:
            raise InputError(text)
        if error.fatal():
            raise StateError(text)
        closed = Closed(text, error_class(error.name()))
        if all(closed.error_class != other.error_class for other in self._current_errors):
            log.error("%s", text)
        lasts = float("inf") if error.name() in HINTS else ERROR_SECONDS
        self._errors[place[0] or ""] = closed, time.monotonic() + lasts

    @property
    def _current_errors(self) -> list[Closed]:
        """Errors of the topics that count now."""
        now = time.monotonic()
        return [closed for closed, until in list(self._errors.values()) if now < until]

    def _on_assign(self, consumer: confluent_kafka.Consumer, places: list[confluent_kafka.TopicPartition]) -> None:
        from confluent_kafka import TopicPartition

        self._epoch += 1
        self._paused = frozenset()
        starts: dict[int, Offsets] = defaultdict(dict)
        for place in self._retry(self._committed_offsets, places) if places else []:
            starts[place.partition][place.topic] = (
                place.offset if place.offset >= 0 else self._retry(self._first_offset, place)
            )
        for partition, offsets in starts.items():
            if len(offsets) < len(self._topics):
                missing = ", ".join(sorted(set(self._topics) - set(offsets)))
                raise InputError(
                    f"partition {partition} is not in {missing} (give all topics the same number of partitions)"
                )
        taken = self._await_owner(self._owner.take(dict(sorted(starts.items())))) if starts else {}
        self._owned = [
            TopicPartition(topic, partition, offset)
            for partition, offsets in (taken or {}).items()
            for topic, offset in offsets.items()
        ]
        consumer.assign(self._owned)
        self._waiting_for = None
        self._link.opened()

    def _on_revoke(self, consumer: confluent_kafka.Consumer, places: list[confluent_kafka.TopicPartition]) -> None:
        del consumer
        self._release(places, self._owner.lose if self._is_away else self._owner.leave)
        self._commit_now({place.partition for place in places})

    def _on_lost(self, consumer: confluent_kafka.Consumer, places: list[confluent_kafka.TopicPartition]) -> None:
        del consumer
        self._release(places, self._owner.lose)
        for place in places:  # another member commits there now
            self._to_commit.pop((place.topic, place.partition), None)

    def _release(
        self,
        places: list[confluent_kafka.TopicPartition],
        notify: Callable[[AbstractSet[int]], Coroutine[Any, Any, None]],
    ) -> None:
        self._pause(frozenset())  # librdkafka would keep the pause, for when they come back
        self._epoch += 1
        self._owned = []
        if places and not self._closing.is_set():
            self._await_owner(notify({place.partition for place in places}))

    def _commit_now(self, partitions: AbstractSet[int]) -> None:
        """Commit what is pending of these partitions. Where that fails, the member that has them next reads it again."""
        from confluent_kafka import KafkaException

        places = self._pending_commits(partitions)
        for place in places:
            del self._to_commit[place.topic, place.partition]
        try:
            if places:
                self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException:
            pass

    def _pending_commits(self, partitions: AbstractSet[int]) -> list[confluent_kafka.TopicPartition]:
        from confluent_kafka import TopicPartition

        return [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in list(self._to_commit.items())
            if partition in partitions
        ]

    def _committed_offsets(self, places: list[confluent_kafka.TopicPartition]) -> list[confluent_kafka.TopicPartition]:
        """Return what the group has committed; a negative offset where it has nothing."""
        from confluent_kafka import KafkaException

        committed = self._consumer.committed(places, ANSWER_SECONDS)
        for place in committed:
            if place.error is not None:
                raise KafkaException(place.error)
        return committed

    def _first_offset(self, place: confluent_kafka.TopicPartition) -> int:
        """Return where a partition starts that is new to the group."""
        from confluent_kafka import KafkaError, KafkaException, TopicPartition

        ends = self._consumer.get_watermark_offsets(TopicPartition(place.topic, place.partition), ANSWER_SECONDS)
        if ends is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - librdkafka's own names
        return ends[0] if self._start == "earliest" else ends[1]

    def _retry(self, question: Callable[[A], T], about: A) -> T:
        """Ask the brokers until they answer, as long as the group waits for this member."""
        from confluent_kafka import KafkaException

        until = time.monotonic() + self._owner_seconds
        while True:
            try:
                return question(about)
            except KafkaException:
                if self._closing.wait(RETRY_SECONDS) or time.monotonic() > until:
                    raise

    def _await_owner(self, answer: Coroutine[Any, Any, T]) -> T | None:
        """Run a method of the owner in its event loop; None where the reader is closed meanwhile."""
        if self._loop is None:
            raise RuntimeError("partitions are assigned only while `read` or `stay` is awaited")
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
        raise StateError(
            f"taking or leaving partitions took more than {self._owner_seconds:g} s (check the store of its state)"
        )
