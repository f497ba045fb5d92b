"""A producer that waits for all replicas, writes each record once, and retries without end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torghut_core import Closed, StateError
from torghut_sources.bus.contract import Headers, Offsets, Writer
from torghut_sources.bus.kafka.link import ANSWER_SECONDS, PERMANENT, QUEUE_KB, RETRY_SECONDS, Link, error_class, hint

if TYPE_CHECKING:
    import confluent_kafka

QUEUE = 100_000
"""Records that are not acknowledged yet, at most; and `QUEUE_KB` of them."""
TOPIC_SECONDS = 30.0
"""How long a topic may be unknown to the brokers before a writer reports it as missing."""
PARTITIONS_SECONDS = 300.0
"""How long the number of a topic's partitions is cached."""


class KafkaWriter(Writer):
    """A producer. Its thread serves delivery reports; `gate` says what was refused for good."""

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
                "message.timeout.ms": 0,  # no limit: it waits for an outage to end, and the full queue stops the sender
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
        """Records and their reports that are outstanding."""
        if self._failure is not None:
            raise StateError(self._failure.reason)
        closed = self._link.closed
        if closed is not None and closed.error_class == "auth":
            raise StateError(closed.reason)
        return len(self._producer)

    async def partitions(self, topic: str) -> int:
        """Ask the brokers, and cache the answer for some minutes."""
        count, until = self._partitions.get(topic, (0, 0.0))
        missing_at = time.monotonic() + TOPIC_SECONDS
        while time.monotonic() >= until:
            self.pending()  # raises where the brokers have refused us
            count, error = await asyncio.to_thread(self._count, topic)
            if count:
                until = time.monotonic() + PARTITIONS_SECONDS
                self._partitions[topic] = count, until
            elif error is not None and (error.name() in PERMANENT or time.monotonic() >= missing_at):
                self._fail(error, topic)
            else:
                await asyncio.sleep(RETRY_SECONDS)
        return count

    def _count(self, topic: str) -> tuple[int, confluent_kafka.KafkaError | None]:
        """Return how many partitions a topic has, or why it has none; neither while no broker answers."""
        try:
            metadata = self._producer.list_topics(topic, ANSWER_SECONDS).topics[topic]
        except self._refused:
            return 0, None
        return (0, metadata.error) if metadata.error else (len(metadata.partitions), None)

    def ends(self, partition: int) -> Offsets:
        """By the delivery reports."""
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
        """Drop what is not acknowledged and end the thread."""
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
            reason = f"Kafka refuses a record for topic {topic!r}: {error.str()} ({hint(error.name())})"
            self._failure = Closed(reason, error_class(error.name()))
