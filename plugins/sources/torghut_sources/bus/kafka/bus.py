"""The topics of a Kafka cluster, to write to and to read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torghut_core import SettingsError
from torghut_sources.bus.contract import Bus, Owner, Reader, Writer
from torghut_sources.bus.kafka.reader import POLL_INTERVAL_MS, KafkaReader
from torghut_sources.bus.kafka.writer import KafkaWriter


class KafkaBus(Bus):
    """The topics of a Kafka cluster.

    Parameters
    ----------
    client : settings of every client, by librdkafka's names; see `KafkaSettings.client`.
    linger_ms : how long a record waits for others to be sent with, milliseconds.
    session_ms : time without a heartbeat after which a reader's partitions go to others, milliseconds.
    poll_interval_ms : time without `read` or `stay` after which they do, milliseconds.

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
            import confluent_kafka  # noqa: F401 - fails now, not when it connects
        except ImportError as error:
            raise SettingsError(
                "Kafka needs confluent-kafka, which is not installed (pip install 'torghut[kafka]')"
            ) from error
        self._client = dict(client)
        self._linger_ms = linger_ms
        self._session_ms = session_ms
        self._poll_interval_ms = poll_interval_ms

    def writer(self) -> Writer:
        """Make a producer that waits for all replicas, writes each record once, and retries without end."""
        return KafkaWriter(self._client, self._linger_ms)

    def reader(self, group: str, topics: Sequence[str], start: str, owner: Owner) -> Reader:
        """Make a member of a consumer group."""
        session = {"session.timeout.ms": self._session_ms, "heartbeat.interval.ms": max(self._session_ms // 4, 1)}
        return KafkaReader({**self._client, **session}, group, topics, start, owner, self._poll_interval_ms)
