"""Whether brokers are reached, the statistics of librdkafka, and the fix for each of its errors."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import msgspec

from torghut_core import Closed
from torghut_sources.bus.contract import NOT_CONNECTED

if TYPE_CHECKING:
    import confluent_kafka

STATISTICS_MS = 500
"""How often a client reports which brokers it reaches, milliseconds."""
QUEUE_KB = 64 * 1024
"""Records in the queue of a client at most, KiB."""
ANSWER_SECONDS = 10.0
"""How long one request to a broker may take."""
RETRY_SECONDS = 0.2
"""Pause before a request to the brokers is retried."""

log = logging.getLogger(__name__)

HINTS = {
    "MSG_SIZE_TOO_LARGE": "raise `max.message.bytes` of the topic, or send smaller messages",
    "TOPIC_AUTHORIZATION_FAILED": "allow the user of KAFKA_SASL_USER to use the topic",
    "GROUP_AUTHORIZATION_FAILED": "allow the user of KAFKA_SASL_USER to use the group of KAFKA_GROUP_ID",
    "CLUSTER_AUTHORIZATION_FAILED": "allow the user of KAFKA_SASL_USER to write idempotently",
    "UNKNOWN_TOPIC_OR_PART": "create the topic, or fix its TOPIC_ setting",
    "_UNKNOWN_TOPIC": "create the topic, or fix its TOPIC_ setting",
    "_UNKNOWN_PARTITION": "restart: the number of partitions of the topic has changed",
    "_AUTHENTICATION": "fix KAFKA_SASL_USER, KAFKA_SASL_PASSWORD or KAFKA_SASL_MECH",
}
PERMANENT = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "SASL_AUTHENTICATION_FAILED",
        "_AUTHENTICATION",
        "UNSUPPORTED_SASL_MECHANISM",
    }
)
"""Errors that do not pass by waiting."""


class BrokerStatistics(msgspec.Struct):
    """Statistics of a broker; `nodeid` is negative for an address of the bootstrap list."""

    nodeid: int
    state: str


class PartitionStatistics(msgspec.Struct):
    """Offsets of a reader in a partition: the next one, and the end; negative where they are unknown."""

    app_offset: int = -1
    hi_offset: int = -1


class TopicStatistics(msgspec.Struct):
    """Statistics of the partitions of a topic, by number."""

    partitions: dict[str, PartitionStatistics]


class Statistics(msgspec.Struct):
    """The fields of librdkafka's statistics that are used."""

    brokers: dict[str, BrokerStatistics] = {}
    topics: dict[str, TopicStatistics] = {}


_STATISTICS = msgspec.json.Decoder(Statistics)


class Link:
    """Whether a client reaches its brokers, by its callbacks."""

    def __init__(self, bootstrap: str) -> None:
        self.closed: Closed | None = NOT_CONNECTED
        self.statistics = Statistics()
        self._bootstrap = bootstrap
        self._last_error = "none has answered"
        self._logged: set[str] = set()

    @property
    def callbacks(self) -> dict[str, Any]:
        """Settings to add to those of the client."""
        return {
            "error_cb": self._on_error,
            "stats_cb": self._on_statistics,
            "statistics.interval.ms": STATISTICS_MS,
            "logger": self,
        }

    def log(self, level: int, text: str, *values: object) -> None:
        """Log a message of librdkafka once per outage: librdkafka repeats it with each attempt."""
        line = text % values
        kind = re.sub(r"\(.*\)|\d+", "", line)
        if kind not in self._logged:
            self._logged.add(kind)
            log.log(level, "%s", line)

    def opened(self) -> None:
        """A broker is reached."""
        if self.closed is not None:
            self.closed = None
            self._logged.clear()

    def _on_error(self, error: confluent_kafka.KafkaError) -> None:
        self._last_error = error.str()
        if error.name() in PERMANENT:
            self.closed = Closed(f"{error.str()} ({hint(error.name())})", error_class(error.name()))
        elif error.name() == "_ALL_BROKERS_DOWN":
            self._close()

    def _on_statistics(self, text: str) -> None:
        self.statistics = _STATISTICS.decode(text)
        if any(broker.state == "UP" for broker in self.statistics.brokers.values()):
            self.opened()
        elif self.closed is None:
            self._close()

    def _close(self) -> None:
        reason = f"no broker of {self._bootstrap} answers: {self._last_error} (check that Kafka runs, or fix KAFKA_BOOTSTRAP)"
        self.closed = Closed(reason, "unreachable")


def error_class(name: str) -> str:
    """Return the error class of an error, by librdkafka's name for it.

    Examples
    --------
    >>> error_class("MSG_SIZE_TOO_LARGE"), error_class("_AUTHENTICATION")
    ('msg-size-too-large', 'auth')
    """
    return "auth" if "AUTH" in name else name.strip("_").lower().replace("_", "-")


def hint(name: str) -> str:
    """Return what to do about an error, by librdkafka's name for it."""
    return HINTS.get(name, "see librdkafka's documentation of this error")
