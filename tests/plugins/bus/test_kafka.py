"""What Kafka may do to a sink and a source, against librdkafka's mock cluster."""

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import KafkaError
from torghut_sources.bus import KafkaSink, KafkaSource
from torghut_sources.bus.contract import Owner
from torghut_sources.bus.kafka.link import Link, Statistics
from torghut_sources.bus.kafka.reader import KafkaReader
from torghut_sources.bus.settings import KafkaSettings
from torghut_testing.kafka import FETCH, NOT_AUTHORIZED, NOT_LEADER, PRODUCE, TIMED_OUT, MockKafka

from support.waiting import PATIENCE, until_async
from torghut_core import Connection, Envelope, InputError, Message, SettingsError, StateError, ends_of, time_message

from .conftest import (
    CONNECTION,
    QUOTES,
    STATUS,
    T0,
    TOPICS,
    TRADES,
    Kernel,
    events,
    gather,
    on_kafka,
    quote,
    trade,
)

SYMBOLS = [f"S{number}" for number in range(8)]
INVALID_RECORD = 87


@pytest.fixture
def own(monkeypatch, opened):
    """A pair on a cluster that may be harmed, and the cluster."""
    with MockKafka() as cluster:
        yield on_kafka(cluster, monkeypatch, opened), cluster


def test_a_broker_that_is_down_is_waited_for(own):
    """While no broker answers the gates are closed and say why; what was sent meanwhile arrives when it is back."""
    pair, cluster = own
    source = pair.source(channels=["trades"], tick_ms=0)

    async def run():
        await pair.sink.send([trade(0)])
        await pair.sink.flush()
        batches = source.batches(10)
        async with asyncio.timeout(PATIENCE):
            assert len(await anext(batches)) == 1
        rest = asyncio.create_task(anext(batches))
        cluster.stop()
        await pair.sink.send([trade(1), trade(2)])
        await until_async(lambda: pair.sink.gates()["bus"] and source.gates()["bus"])
        closed = pair.sink.gates()["bus"]
        cluster.start()
        await pair.sink.flush()
        async with asyncio.timeout(PATIENCE):
            batch = await rest
            found = events(batch)
            while len(found) < 2:
                found += events(await anext(batches))
        await until_async(lambda: not pair.sink.gates()["bus"])
        return closed, found

    closed, found = asyncio.run(run())
    assert closed.error_class == "unreachable"
    assert cluster.bootstrap in closed.reason
    assert [number for _, _, number, _ in found] == [1, 2]


def test_errors_that_pass_are_tried_again(own):
    """A broker that refuses for a moment loses nothing, doubles nothing and changes no order."""
    pair, cluster = own
    cluster.fail(PRODUCE, NOT_LEADER, TIMED_OUT, NOT_LEADER)
    cluster.fail(FETCH, NOT_LEADER, NOT_LEADER)

    async def run():
        for number in range(20):
            await pair.sink.send([trade(number)])
            await asyncio.sleep(0.002)
        await pair.sink.flush()
        return await gather(pair.source(channels=["trades"]), 20)

    assert [number for batch in asyncio.run(run()) for _, _, number, _ in events(batch)] == list(range(20))
    assert pair.sink.metrics()["ws_kafka_produce_errors_total"] == {}


def test_a_refusal_for_good_stops_the_sink(own):
    """A topic that may not be written is named with its fix, the gate closes, and nothing more is taken."""
    pair, cluster = own
    cluster.fail(PRODUCE, NOT_AUTHORIZED)

    async def run():
        await pair.sink.send([trade(0)])
        with pytest.raises(StateError, match=rf"topic '{TRADES}'.*KAFKA_SASL_USER"):
            async with asyncio.timeout(PATIENCE):
                await pair.sink.flush()
        with pytest.raises(StateError, match=TRADES):
            await pair.sink.send([trade(1)])

    asyncio.run(run())
    assert pair.sink.gates()["bus"].error_class == "auth"
    assert pair.sink.metrics()["ws_kafka_produce_errors_total"] == {TRADES: 1}


def test_a_message_that_is_too_large_stops_the_sink(kafka_pair):
    """A record beyond what the topic takes is an error and not a silence."""
    sink = kafka_pair.sink
    with pytest.raises(StateError, match=r"max\.message\.bytes"):
        asyncio.run(sink.send([Message("trades", "ES", b"x" * 2_000_000)]))
    assert sink.gates()["bus"].error_class == "msg-size-too-large"


def test_a_dead_letter_that_is_refused_stops_the_source(own):
    """A poison record is never passed over: where the dead letters cannot have it, the source stops."""
    pair, cluster = own

    async def run():
        await pair.sink.send([Message("trades", "ES", b"{")])
        await pair.sink.flush()
        cluster.fail(PRODUCE, NOT_AUTHORIZED)
        source = pair.source(channels=["trades"], tick_ms=0)
        with pytest.raises(StateError, match=rf"{TRADES}\.dlq"):
            await gather(source, 1)
        return source.cursor()

    assert all(sum(lane["offsets"].values()) == 0 for lane in asyncio.run(run()).values())


def test_records_that_are_gone_are_an_error(own):
    """Where retention has deleted records before they were read, the source raises instead of skipping the gap."""
    pair, cluster = own

    async def run():
        await pair.sink.send([trade(number) for number in range(10)])
        await pair.sink.flush()
        first = pair.source(channels=["trades"], tick_ms=0)
        await gather(first, 10)
        cursor = first.cursor()
        first.close()
        (lane,) = [name for name, kept in cursor.items() if kept["position"]]
        cluster.forget(TRADES, int(lane), 8)
        cursor[lane]["offsets"][TRADES] = 4
        second = pair.source(channels=["trades"], tick_ms=0)
        second.seek(cursor)
        with pytest.raises(StateError, match=rf"{TRADES}/{lane}.*is gone"):
            await gather(second, 10)

    asyncio.run(run())


def test_topics_have_to_be_partitioned_alike(cluster, monkeypatch, opened):
    """A symbol has one lane only where all topics have the same number of partitions: others are refused, with counts."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", cluster.bootstrap)
    for (setting, name), partitions in zip(TOPICS.items(), (2, 2, 2, 3), strict=True):
        monkeypatch.setenv(setting, f"alike.{name}")
        cluster.create(f"alike.{name}", partitions)
    source = opened(KafkaSource(KafkaSource.Params(channels=["trades", "quotes"])))
    with pytest.raises(InputError, match=rf"alike\.{QUOTES} has 2, alike\.{STATUS} has 3"):
        asyncio.run(gather(source, 1))


def test_a_topic_that_is_missing_is_waited_for(cluster, monkeypatch, opened):
    """A pipeline may start before its topics are made; the gate names them."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", cluster.bootstrap)
    monkeypatch.setenv("KAFKA_LINGER_MS", "1")
    for setting, name in TOPICS.items():
        monkeypatch.setenv(setting, f"missing.{name}")
    cluster.create(f"missing.{STATUS}", 1)
    source = opened(KafkaSource(KafkaSource.Params(channels=["trades"], group="m", session_ms=1200)))
    sink = opened(KafkaSink(KafkaSink.Params()))

    async def run():
        reading = asyncio.create_task(gather(source, 1))
        await until_async(
            lambda: (source.gates()["bus"] or CONNECTION) != CONNECTION and closed().error_class != "connecting"
        )
        assert closed().error_class == "unknown-topic"
        assert f"missing.{TRADES}" in closed().reason
        cluster.create(f"missing.{TRADES}", 1)
        await sink.send([trade(0)])
        await reading

    def closed():
        return source.gates()["bus"]

    asyncio.run(run())
    assert closed() is None


def test_partitions_move_without_loss(kafka_pair):
    """Two members share the lanes; when one comes and one goes, each event is in the state of its lane once."""
    disk, sent = {}, []

    async def member():
        kernel = Kernel(disk)
        kernel.source = source = kafka_pair.source(channels=["trades", "quotes"], idle_ms=20, tick_ms=0)
        source.keeper = kernel

        async def run():
            async for batch in source.batches(20):
                kernel.update(batch)
                kernel.keep()

        return kernel, asyncio.create_task(run())

    async def send(count):
        first = len(sent)
        new = [(trade, quote)[number % 2](number, SYMBOLS[number % 5]) for number in range(first, first + count)]
        sent.extend(new)
        await kafka_pair.sink.send(new)
        await kafka_pair.sink.flush()

    async def run():
        await send(100)
        one, reading = await member()
        await until_async(lambda: sum(map(len, one.states.values())) == 100)
        assert len(one.states) == 2
        two, also_reading = await member()
        await send(100)
        await until_async(lambda: len(one.states) == len(two.states) == 1)
        await send(100)
        await until_async(lambda: sum(len(state) for kernel in (one, two) for state in kernel.states.values()) == 300)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        one.source.close()
        await send(100)
        await until_async(lambda: sum(len(state) for state in two.states.values()) == 400)
        also_reading.cancel()
        await asyncio.gather(also_reading, return_exceptions=True)
        two.keep()

    asyncio.run(run())
    kept = [event for _, state in disk.values() for event in state]
    assert len(kept) == len(sent)
    assert {number for _, _, number, _ in kept} == set(range(len(sent)))


class FakeConsumer:
    """Gives a record, and is assigned another offset before it gives the next."""

    def __init__(self, between):
        self.between = between
        self.assigned = []
        self.committed_offsets = []

    def poll(self, seconds):
        return Fetched(5)

    def consume(self, count, seconds):
        self.between()
        return [Fetched(6)]

    def committed(self, places, seconds):
        return places

    def commit(self, offsets, asynchronous):
        self.committed_offsets += [(place.partition, place.offset) for place in offsets]

    def assign(self, places):
        self.assigned.append([(place.topic, place.partition, place.offset) for place in places])


class Fetched:
    """A record of a fake consumer."""

    def __init__(self, offset):
        self.at = offset

    def error(self):
        return None

    def topic(self):
        return TRADES

    def partition(self):
        return 0

    def offset(self):
        return self.at

    def key(self):
        return b"ES"

    def value(self):
        return b"{}"


class Elsewhere(Owner):
    """Wants a partition from another place than the group's."""

    async def take(self, starts):
        return {partition: dict.fromkeys(offsets, 3) for partition, offsets in starts.items()}

    async def leave(self, partitions):
        pass

    async def lose(self, partitions):
        pass


def test_what_was_fetched_before_a_rebalance_is_fetched_again():
    """A record of just before partitions were reassigned is not taken for one of after it."""
    from confluent_kafka import TopicPartition

    client = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    reader = KafkaReader(client, "group", [TRADES], "earliest", Elsewhere())
    real, given = reader._consumer, [TopicPartition(TRADES, 0, 5)]
    fake = reader._consumer = FakeConsumer(lambda: given and reader._on_assign(fake, [given.pop()]))
    reader._subscribed = True

    async def run():
        return await reader.read(10, 0, frozenset()), await reader.read(10, 0, frozenset())

    before, after = asyncio.run(run())
    reader._consumer = real
    reader.close()
    assert before == []
    assert fake.assigned == [[(TRADES, 0, 3)]] * 2, "as the owner wants it, and again to drop what was fetched"
    assert [chunk.offsets for chunk in after] == [[5, 6]]


def test_what_was_noted_of_lost_partitions_is_not_committed():
    """An offset that was to be committed is forgotten with its partition, and not said when the partition comes back."""
    from confluent_kafka import TopicPartition

    client = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    reader = KafkaReader(client, "group", [TRADES], "earliest", Elsewhere())
    places = [TopicPartition(TRADES, 0), TopicPartition(TRADES, 1)]
    real, gone = reader._consumer, [places[0]]
    fake = reader._consumer = FakeConsumer(lambda: gone and reader._on_lost(fake, [gone.pop()]))
    reader._subscribed = True
    reader.commit(0, {TRADES: 3})

    async def run():
        await reader.read(10, 0, frozenset())
        reader._owned = places
        reader.commit(1, {TRADES: 9})
        await reader.read(10, 0, frozenset())

    asyncio.run(run())
    reader._consumer = real
    reader._owned = []
    reader.close()
    assert fake.committed_offsets == [(1, 9)]


def test_librdkafka_is_logged_once_for_each_outage(caplog):
    """What librdkafka says with each attempt is one line until brokers are reached again, and none on standard error."""
    link = Link("localhost:1")
    for attempt in range(3):
        link.log(
            logging.ERROR, "%s [%s] %s", "FAIL", "torghut", f"Connect failed (after {attempt} ms in state CONNECT)"
        )
    link.log(logging.ERROR, "%s [%s] %s", "FAIL", "torghut", "Disconnected")
    link.opened()
    link.log(logging.ERROR, "%s [%s] %s", "FAIL", "torghut", "Connect failed (after 9 ms in state CONNECT)")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "FAIL [torghut] Connect failed (after 0 ms in state CONNECT)",
        "FAIL [torghut] Disconnected",
        "FAIL [torghut] Connect failed (after 9 ms in state CONNECT)",
    ]


def test_a_client_logs_through_us(own, caplog, capfd):
    """While no broker answers, librdkafka's lines come by the log of this process, few of them."""
    pair, cluster = own

    async def run():
        await pair.sink.send([trade(0)])
        await pair.sink.flush()
        cluster.stop()
        await pair.sink.send([trade(1)])
        await until_async(lambda: pair.sink.gates()["bus"] and caplog.records)
        cluster.start()
        await pair.sink.flush()

    asyncio.run(run())
    assert len(caplog.records) < 10
    assert {record.name for record in caplog.records} == {"torghut_sources.bus.kafka.link"}
    assert "|FAIL|" not in capfd.readouterr().err  # as librdkafka prints it by itself


def test_a_mark_waits_for_what_was_sent_before(own):
    """A mark goes out when everything before it is acknowledged, and says of each partition where that ends."""
    pair, cluster = own
    cluster.fail(PRODUCE, NOT_LEADER, TIMED_OUT)
    count = 10

    async def run():
        await pair.sink.send(
            [*(trade(number, SYMBOLS[number % 5]) for number in range(count)), time_message(T0 + 50, T0)]
        )
        ends = [pair.sink._writer.ends(partition) for partition in range(2)]
        assert sum(each.get(TRADES, 0) for each in ends) == count, "all were acknowledged"
        await pair.sink.flush()
        return ends

    assert all(each.keys() <= {TRADES} for each in asyncio.run(run()))
    values = records(cluster.bootstrap, STATUS, 2)
    assert sorted(sum(ends_of(Envelope.decode(value)).values()) for value in values) != [0, 0]
    assert sum(ends_of(Envelope.decode(value)).get(TRADES, 0) for value in values) == count


def records(bootstrap, topic, count):
    """The first values of a topic."""
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values = [message.value() for message in consumer.consume(count, 20)]
    consumer.close()
    return values


def test_a_mark_for_a_topic_that_may_not_be_written_stops_the_sink(own):
    """Where the brokers do not let us see the topic of marks, that is an error and not a wait."""
    pair, _ = own

    async def run():
        from confluent_kafka import KafkaError

        pair.sink._writer._count = lambda topic: (0, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(StateError, match=rf"{STATUS}.*KAFKA_SASL_USER"):
                await pair.sink.send([time_message(T0, T0)])

    asyncio.run(run())


def test_how_far_behind_a_reader_is():
    """The lag is that of the own partitions, where their positions are known."""
    from confluent_kafka import TopicPartition

    reader = KafkaReader(
        {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, "group", [TRADES, QUOTES], "earliest", Elsewhere()
    )
    assert reader.lag == {TRADES: 0, QUOTES: 0}
    places = {"0": {"app_offset": 5, "hi_offset": 9}, "1": {"app_offset": 1, "hi_offset": 90}, "-1": {"x": 1}}
    statistics = {
        "brokers": {},
        "topics": {TRADES: {"partitions": places}, QUOTES: {"partitions": {"0": {"hi_offset": 7}}}},
    }
    reader._link.statistics = msgspec.convert(statistics, Statistics)
    reader._owned = [TopicPartition(topic, 0) for topic in (TRADES, QUOTES)]
    assert reader.lag == {TRADES: 4, QUOTES: 0}
    reader._owned = []
    reader.close()


PROCESS = """
    import asyncio, sys
    from torghut_core import Connection
    from torghut_sources.bus import KafkaSource
    from tests.plugins.bus.conftest import gather, events

    async def main():
        source = KafkaSource(KafkaSource.Params(channels=["trades"], session_ms=1200))
        source.connect(Connection(is_live=False, secret=None))
        for batch in await gather(source, 20):
            print(*(number for _, _, number, _ in events(batch)), flush=True)
        source.close()

    asyncio.run(main())
"""


def test_cluster_serves_other_processes(monkeypatch, opened):
    """The kit's cluster runs as a process of its own, and processes meet there."""
    server = subprocess.Popen(
        [sys.executable, "-m", "torghut_testing.kafka", f"{TRADES}:1", f"{STATUS}:1"], stdout=subprocess.PIPE, text=True
    )
    try:
        monkeypatch.setenv("KAFKA_BOOTSTRAP", server.stdout.readline().strip())
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        sink = opened(KafkaSink(KafkaSink.Params()))

        async def run():
            await sink.send([trade(number) for number in range(20)])
            await sink.flush()

        asyncio.run(run())
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROCESS)],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(number) for number in range(20)]
    finally:
        sink.close()
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
        server.stdout.close()


def test_settings_are_named_where_they_are_missing(monkeypatch):
    """Without brokers, or without a user where one is needed, the setting is named."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP is not set"):
        KafkaSink(KafkaSink.Params()).connect(CONNECTION)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "localhost:1")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(SettingsError, match="KAFKA_SASL_USER is not set"):
        KafkaSink(KafkaSink.Params()).connect(CONNECTION)
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "TELEPATHY")
    with pytest.raises(SettingsError, match="KAFKA_SECURITY_PROTOCOL"):
        KafkaSink(KafkaSink.Params()).connect(CONNECTION)


def test_secret_goes_to_the_client_only(monkeypatch):
    """The password comes from the kernel's secrets and goes into no setting that is shown."""

    class Secret:
        def get_secret_value(self):
            return "hunter2"

    asked = []
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "localhost:1")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("KAFKA_SASL_USER", "torghut")
    connection = Connection(is_live=False, secret=lambda name: asked.append(name) or Secret())
    settings = KafkaSettings.read()
    assert settings.client(connection.secret)["sasl.password"] == "hunter2"
    assert asked == ["KAFKA_SASL_PASSWORD"]
    assert "hunter2" not in repr(settings)


def test_missing_library_is_named(monkeypatch):
    """Without confluent-kafka the error says what to install."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "localhost:1")
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(SettingsError, match=r"pip install 'torghut\[kafka\]'"):
        KafkaSink(KafkaSink.Params()).connect(CONNECTION)


def test_full_queue_holds_up_the_sender(own, monkeypatch):
    """While the brokers are away only so many records are under way: then `send` waits, and nothing is dropped."""
    from torghut_sources.bus.kafka import writer

    monkeypatch.setattr(writer, "QUEUE", 50)
    pair, cluster = own
    sink = KafkaSink(KafkaSink.Params())
    sink.connect(CONNECTION)

    async def run():
        cluster.stop()
        sending = asyncio.create_task(sink.send([trade(number) for number in range(120)]))
        await until_async(lambda: len(sink._writer._producer) >= 50)
        await asyncio.sleep(0.05)
        assert not sending.done()
        assert len(sink._writer._producer) <= 51
        cluster.start()
        async with asyncio.timeout(PATIENCE):
            await sending
            await sink.flush()
        return await gather(pair.source(channels=["trades"]), 120)

    assert [number for batch in asyncio.run(run()) for _, _, number, _ in events(batch)] == list(range(120))
    sink.close()


def test_an_error_of_a_fetch_closes_the_gate_while_it_lasts(own, caplog, monkeypatch):
    """A fetch error that librdkafka retries by itself closes the gate meanwhile, and is logged once."""
    monkeypatch.setattr("torghut_sources.bus.kafka.reader.ERROR_SECONDS", 3)
    pair, cluster = own
    source = pair.source(channels=["trades"], tick_ms=0)

    def closed():
        return source.gates()["bus"]

    async def run():
        await pair.sink.send([trade(0)])
        batches = source.batches(10)
        async with asyncio.timeout(PATIENCE):
            assert len(await anext(batches)) == 1
        assert closed() is None
        cluster.fail(FETCH, *[INVALID_RECORD] * 8)
        rest = asyncio.create_task(anext(batches))
        await until_async(closed)
        assert closed().error_class == "invalid-record"
        await until_async(lambda: not closed())
        await pair.sink.send([trade(1)])
        async with asyncio.timeout(PATIENCE):
            assert len(await rest) == 1
        await until_async(lambda: not closed())  # an error of another topic may come last

    asyncio.run(run())
    assert len([each for each in caplog.records if "see librdkafka" in each.getMessage()]) == 1


def test_a_topic_that_goes_away_closes_the_gate_until_it_is_back(cluster, monkeypatch):
    """librdkafka reports a lost topic once: the gate stays closed until a record of the topic comes."""
    reader = KafkaReader({"bootstrap.servers": cluster.bootstrap}, "g", [TRADES], "earliest", None)
    try:
        reader._waiting_for = reader._link.closed = None
        reader._chunks([Polled(KafkaError(KafkaError._UNKNOWN_TOPIC))])
        assert reader.gate.error_class == "unknown-topic"
        monkeypatch.setattr("torghut_sources.bus.kafka.reader.time.monotonic", lambda: 1e12)
        assert reader.gate.error_class == "unknown-topic"
        reader._chunks([Polled(None)])
        assert reader.gate is None
        with pytest.raises(StateError, match="Fatal"):
            reader._chunks([Polled(KafkaError(KafkaError._FATAL, "Fatal", True))])
    finally:
        reader.close()


class Polled:
    """What librdkafka returns for a topic: a record, or an error."""

    def __init__(self, error):
        self._error = error

    def error(self):
        return self._error

    def topic(self):
        return TRADES

    def partition(self):
        return 0

    def offset(self):
        return 0

    def key(self):
        return b""

    def value(self):
        return b""
