"""Sinks that write messages to a bus: a topic for each channel, partitioned by symbol."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import pydantic

from torghut_core import (
    Closed,
    Connection,
    Envelope,
    Message,
    Metric,
    MetricSpec,
    SettingsError,
    Sink,
    StateError,
    Topics,
    param,
    time_of,
    with_ends,
)
from torghut_sources.bus.contract import NOT_CONNECTED, Bus, Offsets, Writer
from torghut_sources.bus.kafka.bus import KafkaBus
from torghut_sources.bus.memory import MemoryBus
from torghut_sources.bus.settings import PASSWORD, KafkaSettings

if TYPE_CHECKING:
    from torghut_sources.bus.avro import Avro

QUANTILES = (0.5, 0.99)


class BusSink(Sink):
    """What the sinks of any bus have in common.

    A record's key is its symbol, so that all topics with the same number of partitions have a symbol in the same one. A
    message without a symbol goes to every partition of its topic, once everything before it is acknowledged; a time mark
    also says where the other topics end in that partition.
    """

    class Params(Sink.Params):
        """Parameters of a sink that writes to a bus."""

        simulated: bool = param(False, help="write the topics torghut.sim.*, for simulated data")
        encoding: Literal["json", "avro"] = param(
            "json", help="encoding of the messages; avro needs SCHEMA_REGISTRY_URL"
        )

    def __init__(self, params: pydantic.BaseModel) -> None:
        super().__init__(params)
        self._writer: Writer | None = None
        self._topics: dict[str, str] = {}
        self._keys: dict[str, bytes] = {}
        self._names: Callable[[str], str] | None = None
        self._avro: Avro | None = None

    @abstractmethod
    def _bus(self, connection: Connection) -> Bus:
        """Return the bus to write to."""

    def connect(self, connection: Connection) -> None:
        """Make the writer, which connects by itself.

        Raises
        ------
        SettingsError : a setting or secret is missing or wrong.
        """
        topics = Topics.read()

        def names(channel: str) -> str:
            return topics.of(channel, self.params.simulated)

        self._names = names
        if self.params.encoding == "avro":
            from torghut_sources.bus.avro import avro

            self._avro = avro(names)
            if self._avro is None:
                raise SettingsError(
                    "SCHEMA_REGISTRY_URL is not set, and encoding is avro (set it, or use encoding json)"
                )
        self._writer = self._bus(connection).writer()

    def close(self) -> None:
        """Drop what is not acknowledged."""
        if self._writer is not None:
            self._writer.close()
        if self._avro is not None:
            self._avro.close()

    async def send(self, messages: Sequence[Message]) -> None:
        """Take messages, in this order; waits while too many are not acknowledged.

        Raises
        ------
        InputError : a channel that has no topic, or for Avro no schema.
        StateError : the bus has refused a record for good, or the registry its schema; nothing more is taken.
        """
        writer, topics, keys = self._connected(), self._topics, self._keys
        for message in messages:
            topic = topics.get(message.channel) or self._topic(message.channel)
            key = keys.get(message.symbol)
            if key is None:
                if not message.symbol:
                    await self._send_everywhere(writer, topic, message)
                    continue
                key = keys[message.symbol] = message.symbol.encode()
            value = message.value if self._avro is None else await self._avro.encode(message.channel, message.value)
            if not writer.put(topic, key, value):
                await writer.take(topic, key, value)

    async def _send_everywhere(self, writer: Writer, topic: str, message: Message) -> None:
        envelope = Envelope.decode(message.value)
        is_mark = time_of(envelope) is not None
        avro = self._avro
        if avro is not None:
            await avro.load(message.channel)

        def value(ends: Offsets) -> bytes:
            whole = with_ends(envelope, ends) if is_mark else envelope
            return whole.encode() if avro is None else avro.encoded(whole)

        await writer.everywhere(topic, value)

    async def flush(self) -> None:
        """Wait until everything taken is acknowledged, however long: `gates` says what is wrong meanwhile.

        Raises
        ------
        StateError : the bus has refused a record for good.
        """
        await self._connected().flush()

    def gates(self) -> Mapping[str, Closed | None]:
        """Return whether the bus takes records."""
        if self._writer is None:
            return {"bus": NOT_CONNECTED}
        return {"bus": self._writer.gate or (None if self._avro is None else self._avro.gate)}

    metric_specs = (
        MetricSpec("ws_kafka_produce_success_total", "Events that the bus has acknowledged, by topic.", "topic"),
        MetricSpec("ws_kafka_produce_errors_total", "Events that the bus has refused, by topic.", "topic"),
        MetricSpec(
            "ws_kafka_send_latency_ms",
            "From taking an event to its acknowledgement, milliseconds, by quantile.",
            "quantile",
        ),
    )

    def metrics(self) -> Mapping[str, Metric]:
        """Return the values of `metric_specs`, by name."""
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
        assert self._names is not None, "`send` checks that it is connected"
        topic = self._topics[channel] = self._names(channel)
        return topic

    def _connected(self) -> Writer:
        if self._writer is None:
            raise StateError("the sink is not connected (call connect before anything is sent)")
        return self._writer


class KafkaSink(BusSink):
    """Write messages to Kafka, with `KafkaSettings`."""

    secrets: ClassVar[tuple[str, ...]] = (PASSWORD,)
    settings = (KafkaSettings, Topics)

    def _bus(self, connection: Connection) -> Bus:
        settings = KafkaSettings.read()
        return KafkaBus(settings.client(connection.secret), settings.kafka_linger_ms)


class MemorySink(BusSink):
    """Write messages to a bus in this process, for a source of the same name."""

    class Params(BusSink.Params):
        """Parameters of a sink in this process."""

        name: str = param("main", help="name of the bus that sink and source share")
        partitions: int = param(1, ge=1, le=1024, help="partitions of each topic, if the bus is new")
        capacity: int = param(100_000, ge=1, help="records that a partition holds, if the bus is new")

    def _bus(self, connection: Connection) -> Bus:
        del connection
        return MemoryBus.named(self.params.name, self.params.partitions, self.params.capacity)
