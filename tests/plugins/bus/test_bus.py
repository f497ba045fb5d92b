"""What sink and source promise on either bus."""

import asyncio
from itertools import pairwise

import msgspec
import pytest
from torghut_sources.bus import KafkaSource

from torghut_core import InputError, Message
from torghut_core.bus.topics import Topics

from .conftest import TRADES, Kernel, bar, events, gather, quote, trade, until

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
    """A second process goes on where the state of the first was kept, though the first had read on."""
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
            async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
            await anext(batches)
            await anext(batches)
        first.commit(first.cursor())
        async with asyncio.timeout(30):
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
    """The cursor can be written down and read back, and names where each topic goes on."""
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
        async with asyncio.timeout(30):
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


def test_topics_are_named_by_the_environment(pair, monkeypatch):
    """A topic's name and its prefix are settings, and two channels may not share a topic."""
    source = pair.source
    assert Topics().of("bars", "sim.") == "sim.torghut.bars.1m.v1"
    monkeypatch.setenv("TOPIC_QUOTES", TRADES)
    with pytest.raises(InputError, match="share a topic"):
        source()


def test_gate_opens_with_the_bus(pair):
    """A sink and a source are ready when the bus is."""
    sink, source = pair.sink, pair.source

    async def run():
        reader = source(channels=["trades"])
        assert reader.gates()["bus"] is not None, "nobody reads yet"
        await sink.send([trade(0)])
        await sink.flush()
        await gather(reader, 1)
        await until(lambda: not sink.gates()["bus"] and not reader.gates()["bus"])

    asyncio.run(run())
    assert sink.metrics()["ws_kafka_produce_success_total"] == {pair.topic(TRADES): 1}


def test_closed_source_ends(pair):
    """Who goes on asking a source that was closed comes to an end, at once."""
    source = pair.source(channels=["trades"], tick_ms=0)

    async def run():
        reading = asyncio.create_task(gather(source, 0))
        await until(lambda: not source.gates()["bus"])
        source.close()
        await reading

    asyncio.run(run())
