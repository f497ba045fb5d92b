"""Whether brokers are reached, what librdkafka says, and the fix for each of its errors."""

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
"""How often a client looks at which brokers it reaches, milliseconds."""
QUEUE_KB = 64 * 1024
"""What a client holds of records under way at most, KiB."""
ANSWER_SECONDS = 10.0
"""How long one question to a broker may take."""
RETRY_SECONDS = 0.2

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


def hint(name: str) -> str:
    """What to do about an error, by librdkafka's name for it."""
    return HINTS.get(name, "see librdkafka's documentation of this error")
