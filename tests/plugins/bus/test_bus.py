"""What sink and source promise on either bus."""

import asyncio
from itertools import pairwise

import msgspec
import pytest
from torghut_sources.bus import KafkaSource, MemorySink, avro
from torghut_sources.bus.records import is_avro

from support.waiting import PATIENCE, until_async
from torghut_core import (
    Envelope,
    InputError,
    Message,
    Registry,
    RegistryError,
    SettingsError,
    StateError,
    time_message,
    with_ends,
)

from .conftest import CONNECTION, MS, STATUS, T0, TRADES, Kernel, bar, events, gather, quote, trade

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD")


def whole(batches):
    """All events, lane by lane."""
    lanes = {}
    for batch in batches:
        lanes.setdefault(batch.lane, []).extend(events(batch))
    return lanes


def test_what_is_sent_arrives_in_order_of_time(pair):
    """Each event arrives once, and trades, quotes and bars of a lane are one stream in order of time."""
    sink, source = pair.sink, pair.source
    sent = [make(number, symbol) for number in range(50) for symbol in SYMBOLS for make in (trade, quote)]
    sent += [bar(0, symbol) for symbol in SYMBOLS]

    async def run():
        await sink.send(sent[::2])
        await sink.send(sent[1::2])
        await sink.flush()
        return await gather(source(idle_ms=20), len(sent))

    lanes = whole(asyncio.run(run()))
    assert sum(map(len, lanes.values())) == len(sent)
    for found in lanes.values():
        assert [known for known, *_ in found] == sorted(known for known, *_ in found)
        assert len(set(found)) == len(found)
        for symbol in {symbol for *_, symbol in found}:
            assert {(number, channel) for _, channel, number, at in found if at == symbol} == {
                *((number, channel) for number in range(50) for channel in ("trades", "quotes")),
                (0, "bars"),
            }
    symbols = [{symbol for *_, symbol in found} for found in lanes.values()]
    assert sum(map(len, symbols)) == len(SYMBOLS), "a symbol has one lane, whatever the topic"


def test_positions_follow_each_other(pair):
    """Each lane has positions of its own, without a gap, whatever the batch size."""
    sink, source = pair.sink, pair.source
    sent = [trade(number, symbol) for number in range(30) for symbol in SYMBOLS]

    async def run():
        await sink.send(sent)
        await sink.flush()
        return await gather(source(channels=["trades"], tick_ms=0), len(sent), size=7)

    positions = {}
    for batch in asyncio.run(run()):
        assert batch.start == positions.get(batch.lane, 0)
        positions[batch.lane] = batch.stop
    assert sum(positions.values()) == len(sent)


def test_restart_goes_on_at_the_kept_cursor(pair):
    """A second process resumes where the state of the first was kept, though the first had read further."""
    sink, source = pair.sink, pair.source
    disk = {}

    async def run():
        for number in range(100):
            await sink.send([trade(number), quote(number)])
        await sink.flush()
        for stop_after in (60, 200):
            kernel = Kernel(disk)
            kernel.source = reader = source(idle_ms=20)
            reader.keeper = kernel
            found = sum(len(state) for _, state in disk.values())
            kept = False
            async with asyncio.timeout(PATIENCE):
                async for batch in reader.batches(10):
                    kernel.update(batch)
                    found += len(batch.trades) + len(batch.quotes)
                    if found >= stop_after and not kept:
                        kernel.keep()
                        kept = True
                    if found >= min(200, stop_after + 40):
                        break
            reader.close()

    asyncio.run(run())
    ((_, state),) = [each for each in disk.values() if each[1]]
    assert [known for known, *_ in state] == sorted(known for known, *_ in state)
    assert len(state) == len(set(state)) == 200


def test_group_goes_on_where_it_committed(pair):
    """Without a keeper, what was committed does not come again, and the rest does."""
    sink, source = pair.sink, pair.source

    async def run():
        await sink.send([trade(number) for number in range(20)])
        await sink.flush()
        first = source(channels=["trades"], tick_ms=0)
        batches = first.batches(5)
        async with asyncio.timeout(PATIENCE):
            await anext(batches)
            await anext(batches)
        first.commit(first.cursor())
        async with asyncio.timeout(PATIENCE):
            await anext(batches)
        await batches.aclose()
        first.close()
        return await gather(source(channels=["trades"]), 10)

    assert [number for batch in asyncio.run(run()) for _, _, number, _ in events(batch)] == list(range(10, 20))


def test_poison_goes_to_the_dead_letters(pair):
    """What cannot be used is kept aside with its reason and place, and everything else arrives."""
    sink, source = pair.sink, pair.source
    bad = Message("trades", "BTC/USD", trade(2).value.replace(b'"p":3,', b'"p":-3,'))
    assert bad.value != trade(2).value
    sent = [trade(0), Message("trades", "BTC/USD", b"{"), trade(1), bad, quote(3), trade(4)]
    stray = Message("trades", "BTC/USD", quote(9).value)

    async def run():
        await sink.send([*sent, stray])
        await sink.flush()
        reader = source(idle_ms=20)
        batches = await gather(reader, 4)
        return batches, reader.metrics(), await gather_letters(reader, pair.topic(TRADES))

    batches, metrics, letters = asyncio.run(run())
    assert [number for batch in batches for _, _, number, _ in events(batch)] == [0, 1, 3, 4]
    assert metrics["bus_dead_letters_total"] == {pair.topic(TRADES): 3}
    assert [letter["offset"] for letter in letters] == ["1", "3", "5"]
    assert {letter["topic"] for letter in letters} == {pair.topic(TRADES)}
    assert [letter["value"] for letter in letters] == [b"{", bad.value, stray.value]
    assert "not an envelope" in letters[0]["reason"]
    assert "price is -3.0" in letters[1]["reason"]
    assert "channel 'quotes' belongs on another topic" in letters[2]["reason"]


def test_letter_is_no_larger_than_its_record(memory_pair):
    """A reason that would quote a megabyte of the record is cut off, and has no character that a header cannot hold."""
    stray = Message("trades", "BTC/USD", trade(9).value.replace(b'"trades"', b'"' + 1_000_000 * b"x" + b'"'))

    async def run():
        await memory_pair.sink.send([stray, trade(0)])
        reader = memory_pair.source(idle_ms=20)
        return await gather(reader, 1), await gather_letters(reader, TRADES)

    _, (letter,) = asyncio.run(run())
    assert letter["value"] == stray.value
    assert letter["reason"].startswith("channel 'xxx")
    assert len(letter["reason"]) <= 1_000


async def gather_letters(reader, topic):
    """What is in the dead letters of trades."""
    bus = reader._bus
    if isinstance(reader, KafkaSource):
        from confluent_kafka import Consumer

        client = {"bootstrap.servers": bus._client["bootstrap.servers"], "group.id": "letters"}
        consumer = Consumer({**client, "auto.offset.reset": "earliest", "enable.partition.eof": False})
        consumer.subscribe([f"{topic}.dlq"])
        records = [(message.headers(), message.value()) for message in consumer.consume(3, 20)]
        consumer.close()
    else:
        logs = [log for (name, _), log in bus.logs.items() if name == f"{topic}.dlq"]
        records = [(record.headers, record.value) for log in logs for record in log.records]
        first = bus.first
        records = [
            ([(name, b"%d" % (int(value) - first) if name == "offset" else value) for name, value in headers], value_)
            for headers, value_ in records
        ]
    return [{**{name: value.decode() for name, value in headers}, "value": value} for headers, value in records]


def test_cursor_is_plain(pair):
    """The cursor can be stored and loaded, and says where each topic resumes."""
    sink, source = pair.sink, pair.source

    async def run():
        await sink.send([trade(0), quote(1), trade(2)])
        await sink.flush()
        reader = source(idle_ms=20, tick_ms=0)
        await gather(reader, 3)
        return reader.cursor()

    cursor = asyncio.run(run())
    assert msgspec.json.decode(msgspec.json.encode(cursor)) == cursor
    (lane,) = [each for each in cursor.values() if each["position"]]
    assert lane["position"] == 3
    assert lane["symbols"] == ["BTC/USD"]


def test_time_goes_on_where_nothing_comes(pair):
    """A lane at its end gives clock ticks, after the venue's time by as much as has passed since."""
    sink, source = pair.sink, pair.source

    async def run():
        await sink.send([trade(0)])
        await sink.flush()
        reader, ticks = source(channels=["trades"], idle_ms=20, tick_ms=20), []
        async with asyncio.timeout(PATIENCE):
            async for batch in reader.batches(10):
                ticks.append((batch.start, int(batch.now[0]), len(batch.trades)))
                if len(ticks) == 4:
                    break
        return ticks

    (first, *ticks) = asyncio.run(run())
    assert first[2] == 1
    assert [start for start, _, _ in ticks] == [1, 2, 3]
    assert all(trades == 0 for _, _, trades in ticks)
    moments = [first[1], *(now for _, now, _ in ticks)]
    assert all(later - earlier >= 20_000_000 for earlier, later in pairwise(moments))
    assert moments[-1] - moments[0] < 30_000_000_000


async def ticks_and_rows(source, until):
    """(time, rows) of each batch of the lane that has rows and of all others, until a claim of them is so."""
    found = {}
    async with asyncio.timeout(PATIENCE):
        async for batch in source.batches(100):
            found.setdefault(batch.lane, []).append((int(batch.now[-1]), len(batch.trades) + len(batch.quotes)))
            if until(found):
                return found
    return found


def mark(at):
    """The time mark of a moment, milliseconds."""
    return time_message(T0 + at * MS, T0)


def test_a_time_mark_reaches_every_lane(pair):
    """A mark that is sent once moves the time of each partition, after the events before it, without a clock."""
    sink, source = pair.sink, pair.source

    async def run():
        await sink.send([trade(0), quote(5), mark(2_000), quote(3_000), mark(4_000)])
        await sink.flush()
        reader = source(idle_ms=20)
        reached = await ticks_and_rows(
            reader, lambda found: len(found) == 2 and all(each[-1][0] == T0 + 4_000 * MS for each in found.values())
        )
        return reached, reader.metrics()

    lanes, metrics = asyncio.run(run())
    assert sorted(sum(rows for _, rows in each) for each in lanes.values()) == [0, 3]
    assert sink.metrics()["ws_kafka_produce_success_total"][pair.topic(STATUS)] == 4
    assert metrics["bus_skipped_total"] == {}
    assert metrics["bus_dead_letters_total"] == {}


def test_marks_are_read_again_after_a_restart(memory_pair):
    """A lane resumes from any cursor between marks, and ends at the same time."""
    sink, source = memory_pair.sink, memory_pair.source

    async def run():
        for number in range(10):
            await sink.send([trade(number * 100), mark(number * 100 + 50)])
        await sink.flush()
        found, cursor, last = [], {}, 0
        while last < T0 + 950 * MS:
            reader = source(idle_ms=20, channels=["trades"])
            reader.seek(cursor)
            async with asyncio.timeout(PATIENCE):
                async for batch in reader.batches(3):
                    if sum(kept["position"] for kept in cursor.values()) == 0 and not len(batch.trades):
                        continue
                    found += events(batch)
                    last = max(last, int(batch.now[-1]))
                    break
            cursor = reader.cursor()
            reader.close()
        return found

    assert [number for _, _, number, _ in asyncio.run(run())] == [number * 100 for number in range(10)]


def test_statuses_that_are_no_marks_are_counted(pair):
    """A halt travels on the topic of statuses too, and makes nothing; what is no envelope there is a dead letter."""
    sink, source = pair.sink, pair.source
    halt = changed(mark(1).value, payload={"type": "halt"}, symbol="BTC/USD")

    async def run():
        await sink.send([Message("status", "BTC/USD", halt), Message("status", "BTC/USD", b"{"), trade(0)])
        await sink.flush()
        reader = source(idle_ms=20)
        await gather(reader, 1)
        reading = asyncio.create_task(gather(reader, 0))
        await until_async(lambda: reader.metrics()["bus_dead_letters_total"])
        reader.close()
        await reading
        return reader.metrics()

    metrics = asyncio.run(run())
    assert metrics["bus_skipped_total"] == {"status": 1}
    assert metrics["bus_dead_letters_total"] == {pair.topic(STATUS): 1}


def changed(value, **fields):
    """An envelope with other fields."""
    return msgspec.json.encode({**msgspec.json.decode(value), **fields})


def test_a_bar_that_comes_again_is_counted(pair):
    """An updated bar of a minute is no second bar of it."""
    sink, source = pair.sink, pair.source

    async def run():
        await sink.send([bar(0), bar(1), bar(0), bar(1), bar(2)])
        await sink.flush()
        reader = source(channels=["bars"])
        return await gather(reader, 3), reader.metrics()

    batches, metrics = asyncio.run(run())
    assert [number for batch in batches for _, _, number, _ in events(batch)] == [0, 1, 2]
    assert metrics["bus_bar_updates_total"] == 2


def test_what_is_far_ahead_is_a_dead_letter(memory_pair):
    """An event or a mark that is dated far ahead of all clocks is put aside with its reason, and moves no time."""
    sink, source = memory_pair.sink, memory_pair.source(channels=["trades"], idle_ms=20, max_ahead_ms=1_000)
    source._wall = lambda: T0

    async def run():
        await sink.send([trade(0), trade(1_001), trade(900), trade(1_002), mark(3_900), mark(800), trade(1_000)])
        await sink.flush()
        lanes = await ticks_and_rows(
            source, lambda found: any(each[-1][0] >= T0 + 1_000 * MS for each in found.values())
        )
        return lanes, await gather_letters(source, TRADES), source.metrics()["bus_dead_letters_total"]

    lanes, letters, buried = asyncio.run(run())
    assert buried == {TRADES: 2, STATUS: 2}, "each creeps a little beyond the last; the mark is in both lanes"
    (lane,) = [each for each in lanes.values() if any(rows for _, rows in each)]
    assert sum(rows for _, rows in lane) == 3
    assert lane[-1][0] == T0 + 1_000 * MS
    assert [letter["offset"] for letter in letters] == ["1", "3"]
    assert "more than 1 s ahead of all clocks" in letters[0]["reason"]


def test_events_that_one_dated_ahead_makes_late_fail_the_check(memory_pair):
    """They are given out, are counted, and `bus` says whose come too late."""
    sink, source = memory_pair.sink, memory_pair.source(channels=["trades"], idle_ms=20)
    source._wall = lambda: T0

    async def run():
        await sink.send([trade(0), trade(9_500), trade(10), trade(20), trade(30), trade(40)])
        await sink.flush()
        await ticks_and_rows(source, lambda found: sum(rows for each in found.values() for _, rows in each) == 6)
        return source.gates()["bus"], source.metrics()["bus_late_total"]

    gate, late = asyncio.run(run())
    assert gate.error_class == "misdated"
    assert late == {TRADES: 4}


class Books:
    """A registry in memory; it fails `fails` times."""

    def __init__(self, fails=0):
        self.texts = []
        self.fails = fails
        self.is_closed = False

    def find(self, subject, text):
        if self.fails:
            self.fails -= 1
            raise RegistryError("unreachable", "it is away")
        if subject.endswith("quotes.v1-value"):
            return None
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1

    def schema(self, id_):
        if id_ > len(self.texts):
            raise RegistryError("not-found", f"no schema {id_}")
        return self.texts[id_ - 1]

    def close(self):
        self.is_closed = True


@pytest.fixture
def books(monkeypatch):
    """What SCHEMA_REGISTRY_URL leads to."""
    made = Books()
    monkeypatch.setattr(Registry, "from_environment", lambda: made)
    monkeypatch.setattr(avro, "RETRY_SECONDS", (0.001, 0.001))
    return made


def memory_sink(opened, **params):
    return opened(MemorySink(MemorySink.Params(partitions=2, **params)))


def test_avro_arrives_as_json_does(memory_pair, books, opened):
    """With a registry a sink sends Avro and a source reads both forms, marks too, to the same rows."""
    books.fails = 3
    sent = [trade(0), trade(7, "ETH/USD"), bar(0), mark(70_000)]

    async def run(sink, name):
        await sink.send(sent)
        logs = sink._writer._bus.logs.values()
        assert all(is_avro(record.value) == (name == "avro") for log in logs for record in log.records)
        reader = memory_pair.source(channels=["trades", "bars"], idle_ms=20, name=name)
        batches, time = [], dict.fromkeys("01", 0)
        async with asyncio.timeout(PATIENCE):
            async for batch in reader.batches(100):
                batches.append(batch)
                time[batch.lane] = int(batch.now[-1])
                if min(time.values()) == T0 + 70_000 * MS:
                    break
        assert reader.metrics()["bus_dead_letters_total"] == {}
        return [(batch.lane, *each) for batch in batches for each in events(batch)]

    sink = memory_sink(opened, encoding="avro", name="avro")
    as_avro = asyncio.run(run(sink, "avro"))
    assert sorted(as_avro) == sorted(asyncio.run(run(memory_sink(opened, name="json"), "json")))
    assert len(as_avro) == 3
    assert len(books.texts) == 3
    assert sink.gates()["bus"] is None


def test_a_schema_that_is_missing_stops_the_sink(memory_pair, books, opened):
    """What is not registered cannot be sent: the error names the fix, and the gate closes with the class."""
    sink = memory_sink(opened, encoding="avro")
    with pytest.raises(StateError, match="torghut schema register"):
        asyncio.run(sink.send([quote(0)]))
    assert sink.gates()["bus"].error_class == "not-found"
    sink.close()
    assert books.is_closed


def test_avro_needs_a_registry(memory_pair):
    """Without SCHEMA_REGISTRY_URL a sink that is to send Avro raises when it connects."""
    with pytest.raises(SettingsError, match="SCHEMA_REGISTRY_URL is not set"):
        MemorySink(MemorySink.Params(encoding="avro")).connect(CONNECTION)


def test_avro_that_cannot_be_read_is_a_dead_letter(memory_pair, books, opened):
    """A record of an unknown schema, or of damaged Avro, goes to the dead letters unchanged; its neighbours are read."""
    sink = memory_sink(opened, encoding="avro")
    strange = [b"\0\0\0\0\x63abc", b"\0\0\0\0\x01"]

    async def run():
        await sink.send([trade(0)])
        for value in strange:
            await memory_pair.sink.send([Message("trades", "BTC/USD", value)])
        await sink.send([trade(1)])
        reader = memory_pair.source(idle_ms=20)
        return await gather(reader, 2), await gather_letters(reader, TRADES)

    batches, letters = asyncio.run(run())
    assert [number for batch in batches for _, _, number, _ in events(batch)] == [0, 1]
    assert [letter["value"] for letter in letters] == strange
    assert "no schema 99" in letters[0]["reason"]


def test_lag_is_counted(memory_pair):
    """A metric counts by topic how many records the source is behind."""
    sink, source = memory_pair.sink, memory_pair.source(channels=["trades"])

    async def run():
        await sink.send([trade(0)])
        await gather(source, 1)
        await sink.send([trade(1), trade(2)])

    asyncio.run(run())
    assert source.metrics()["bus_lag_records"] == {TRADES: 2, STATUS: 0}


def test_a_topic_that_lost_records_closes_a_gate(memory_pair):
    """Where a mark announces records that never come, the gate names the topic, and the lane does not wait silently."""
    sink, source = memory_pair.sink, memory_pair.source(channels=["trades"], idle_ms=20)
    now = [0.0]
    source._clock = lambda: now[0]
    lost = with_ends(Envelope.decode(mark(1).value), {TRADES: 2**62})

    async def run():
        await sink.send([trade(0), Message("status", "BTC/USD", lost.encode())])
        await gather(source, 1)
        reading = asyncio.create_task(gather(source, 0))
        await until_async(lambda: source.metrics()["bus_records_total"].get(STATUS))
        assert source.gates()["bus"] is None
        now[0] = 60.0
        await until_async(lambda: source.gates()["bus"])
        source.close()
        await reading
        return source

    closed = asyncio.run(run()).gates()["bus"]
    assert closed.error_class == "missing-records"
    assert closed.reason.startswith(TRADES)


def test_simulation_has_topics_of_its_own(memory_pair, opened):
    """With `simulated` events are sent to `sim.` topics and read from those."""
    sink = memory_sink(opened, simulated=True)

    async def run():
        await sink.send([trade(0)])
        await memory_pair.sink.send([trade(1)])
        return await gather(memory_pair.source(channels=["trades"], simulated=True), 1)

    assert [number for batch in asyncio.run(run()) for _, _, number, _ in events(batch)] == [0]
    assert sink.metrics()["ws_kafka_produce_success_total"] == {"torghut.sim.trades.v1": 1}


def test_topics_are_named_by_the_environment(pair, monkeypatch):
    """A topic's name is a setting, and two channels may not share a topic."""
    source = pair.source
    monkeypatch.setenv("TOPIC_QUOTES", pair.topic(TRADES))
    with pytest.raises(InputError, match="share a topic"):
        source()


def test_gate_opens_with_the_bus(pair):
    """A sink and a source are ready when the bus is."""
    sink, source = pair.sink, pair.source

    async def run():
        reader = source(channels=["trades"])
        assert reader.gates()["bus"] is not None, "nothing is read yet"
        await sink.send([trade(0)])
        await sink.flush()
        await gather(reader, 1)
        await until_async(lambda: not sink.gates()["bus"] and not reader.gates()["bus"])

    asyncio.run(run())
    assert sink.metrics()["ws_kafka_produce_success_total"] == {pair.topic(TRADES): 1}


def test_closed_source_ends(pair):
    """Reading from a source that was closed ends at once."""
    source = pair.source(channels=["trades"], tick_ms=0)

    async def run():
        reading = asyncio.create_task(gather(source, 0))
        await until_async(lambda: not source.gates()["bus"])
        source.close()
        await reading

    asyncio.run(run())
