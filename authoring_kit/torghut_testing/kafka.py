"""A Kafka cluster without Kafka: librdkafka's own mock brokers, on loopback ports of this process.

Producers and consumers of any process use it like a real cluster. It has topics, partitions and groups, keeps everything in
memory, and fails on demand; it has no transactions, and answers no administrative requests.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

PRODUCE, FETCH, METADATA = 0, 1, 3
"""Kinds of requests that can be made to fail: their number in Kafka's protocol."""

NOT_LEADER, TIMED_OUT, MESSAGE_TOO_LARGE, NOT_AUTHORIZED = 6, 7, 10, 29
"""Errors that a broker may answer with: their number in Kafka's protocol."""


class MockKafka:
    """A cluster of mock brokers; a context manager that ends it.

    Parameters
    ----------
    topics : number of partitions of each topic that exists from the start, by name. Others are made, with four, when a
        client produces to them.
    brokers : number of brokers.

    Examples
    --------
    >>> with MockKafka({"torghut.trades.v1": 3}) as kafka:
    ...     kafka.bootstrap.startswith("127.0.0.1:")
    True
    """

    def __init__(self, topics: Mapping[str, int] | None = None, brokers: int = 1) -> None:
        self._library = _library()
        message = ctypes.create_string_buffer(512)
        quiet = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(quiet, b"log_level", b"0", None, 0)
        self._client = self._library.rd_kafka_new(0, quiet, message, ctypes.sizeof(message))
        if not self._client:
            raise OSError(f"librdkafka cannot be started: {message.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        if not self._cluster:
            self._library.rd_kafka_destroy(self._client)
            raise OSError("the mock cluster cannot be started: are there free loopback ports?")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 100)
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        """The value for ``KAFKA_BOOTSTRAP``: host:port of every broker, comma-separated."""
        for name, partitions in (topics or {}).items():
            self.create(name, partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the brokers; closing twice is harmless."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._cluster = self._client = None

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic.

        Raises
        ------
        ValueError : the cluster refuses it, because it exists already.
        """
        if self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1):
            raise ValueError(f"topic {topic!r} cannot be made with {partitions} partitions: does it exist already?")

    def forget(self, topic: str, partition: int, before: int) -> None:
        """Delete the records of a partition whose offsets are below `before`, as retention does."""
        self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), partition, before)

    def fail(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind (`PRODUCE`, ...) with these errors, one request for each."""
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(errors), (ctypes.c_int * len(errors))(*errors)
        )

    def stop(self, broker: int = 1) -> None:
        """Stop a broker, numbered from 1: connections are closed, and new ones refused."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def start(self, broker: int = 1) -> None:
        """Start a broker that was stopped, with all its data."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)


def _library() -> ctypes.CDLL:
    """The librdkafka that confluent-kafka brings."""
    import confluent_kafka.cimpl

    folder = Path(confluent_kafka.cimpl.__file__).parent
    bundled = sorted(folder.parent.glob("confluent_kafka.libs/librdkafka*"))
    library = ctypes.CDLL(str(bundled[0]) if bundled else "librdkafka.so.1")
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, ()),
        ("rd_kafka_conf_set", number, (pointer, text, text, text, ctypes.c_size_t)),
        ("rd_kafka_new", pointer, (number, pointer, text, ctypes.c_size_t)),
        ("rd_kafka_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_new", pointer, (pointer, number)),
        ("rd_kafka_mock_cluster_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_bootstraps", text, (pointer,)),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_topic_create", number, (pointer, text, number, number)),
        ("rd_kafka_mock_partition_delete_records", number, (pointer, text, ctypes.c_int32, ctypes.c_int64)),
        ("rd_kafka_mock_push_request_errors_array", None, (pointer, ctypes.c_int16, ctypes.c_size_t, pointer)),
        ("rd_kafka_mock_broker_set_down", number, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_up", number, (pointer, ctypes.c_int32)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _topic(text: str) -> tuple[str, int]:
    name, _, partitions = text.partition(":")
    return name, int(partitions or 1)


def main(arguments: list[str] | None = None) -> None:
    """Serve a cluster until SIGTERM or SIGINT; the first line printed is the value for ``KAFKA_BOOTSTRAP``."""
    parser = argparse.ArgumentParser(prog="python -m torghut_testing.kafka", description=main.__doc__)
    parser.add_argument(
        "topics", nargs="*", type=_topic, metavar="TOPIC[:PARTITIONS]", help="topics to make at the start"
    )
    parser.add_argument("--brokers", type=int, default=1, help="number of brokers (1)")
    options = parser.parse_args(arguments)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with MockKafka(dict(options.topics), options.brokers) as kafka:
        sys.stdout.write(f"{kafka.bootstrap}\n")
        sys.stdout.flush()
        done.wait()


if __name__ == "__main__":
    main()
