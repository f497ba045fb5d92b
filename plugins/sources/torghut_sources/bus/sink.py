"""Sinks that write messages to a bus: a topic for each channel, parted by symbol."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pydantic

from torghut_core import Closed, Connection, Message, Metric, Sink, StateError, Topics, param
from torghut_sources.bus.contract import NOT_CONNECTED, Bus, Writer
from torghut_sources.bus.kafka import KafkaBus
from torghut_sources.bus.memory import MemoryBus
from torghut_sources.bus.settings import PASSWORD, KafkaSettings

QUANTILES = (0.5, 0.99)


class BusSink(Sink):
    """What sinks have in common, whatever the bus.

    A record's key is its symbol, so that all topics with the same number of partitions have a symbol in the same one.
    """

    class Params(Sink.Params):
        """Parameters of a sink that writes to a bus."""

        prefix: str = param("", help="before the name of every topic, like sim. for what is not real")

    def __init__(self, params: pydantic.BaseModel) -> None:
        super().__init__(params)
        self._writer: Writer | None = None
        self._topics: dict[str, str] = {}
        self._keys: dict[str, bytes] = {}
        self._names = Topics()

    @abstractmethod
    def _bus(self, connection: Connection) -> Bus:
        """The bus to write to."""

    def connect(self, connection: Connection) -> None:
        """Begin to look for the bus."""
        self._names = Topics.read()
        self._writer = self._bus(connection).writer()

    def close(self) -> None:
        """Give up what is not acknowledged."""
        if self._writer is not None:
            self._writer.close()

    async def send(self, messages: Sequence[Message]) -> None:
        """Take messages, in this order; waits while too much is under way.

        Raises
        ------
        InputError : a channel that has no topic.
        StateError : the bus has refused a record for good; nothing more is taken.
        """
        writer, topics, keys = self._connected(), self._topics, self._keys
        for message in messages:
            topic = topics.get(message.channel) or self._topic(message.channel)
            key = keys.get(message.symbol)
            if key is None:
                key = keys[message.symbol] = message.symbol.encode()
            if not writer.put(topic, key, message.value):
                await writer.take(topic, key, message.value)

    async def flush(self) -> None:
        """Wait until everything taken is acknowledged, for as long as it takes: `gates` tells what is wrong meanwhile.

        Raises
        ------
        StateError : the bus has refused a record for good.
        """
        await self._connected().flush()

    def gates(self) -> Mapping[str, Closed | None]:
        """Whether the bus takes records."""
        return {"bus": NOT_CONNECTED if self._writer is None else self._writer.gate}

    def metrics(self) -> Mapping[str, Metric]:
        """Records by topic, and how long acknowledgements take."""
        if self._writer is None:
            return {}
        waits = sorted(self._writer.latencies)
        return {
            "ws_kafka_produce_success_total": self._writer.delivered,
            "ws_kafka_produce_errors_total": self._writer.failed,
            "ws_kafka_send_latency_ms": {str(share): waits[int(share * (len(waits) - 1))] for share in QUANTILES}
            if waits
            else {},
        }

    def _topic(self, channel: str) -> str:
        topic = self._topics[channel] = self._names.of(channel, self.params.prefix)
        return topic

    def _connected(self) -> Writer:
        if self._writer is None:
            raise StateError("the sink is not connected (call connect before anything is sent)")
        return self._writer


class KafkaSink(BusSink):
    """Write messages to Kafka, with `KafkaSettings`."""

    secrets: ClassVar[tuple[str, ...]] = (PASSWORD,)

    def _bus(self, connection: Connection) -> Bus:
        settings = KafkaSettings.read()
        return KafkaBus(settings.client(connection.secret), settings.kafka_linger_ms)


class MemorySink(BusSink):
    """Write messages to a bus in this process, for a source of the same name."""

    class Params(BusSink.Params):
        """Parameters of a sink in this process."""

        name: str = param("main", help="the bus that sink and source share")
        partitions: int = param(1, ge=1, le=1024, help="partitions of each topic, where the bus is new")
        capacity: int = param(100_000, ge=1, help="records that a partition holds, where the bus is new")

    def _bus(self, connection: Connection) -> Bus:
        del connection
        return MemoryBus.named(self.params.name, self.params.partitions, self.params.capacity)
