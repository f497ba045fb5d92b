"""Messages to Kafka and back, against a bare confluent-kafka loop over the same bytes.

Usage: python benchmarks/forward.py [--repeats 5]

One JSON line per case: messages per second and microseconds per message, of `repeats` runs the median (and all of them).
The brokers are librdkafka's mock cluster in a process of its own. `produce` sends ready messages through the sink and
waits for every acknowledgement; its rival does the same with the library alone, with the same settings. `forward` also
decodes and encodes them, from frames of 20 messages as Alpaca sends them. `consume` goes from the topics to batches, half
trades, half quotes, merged. `ratio` is ours over the rival's of the same turn (the median of the ratios turn by turn).
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from itertools import count

import msgspec
from confluent_kafka import Producer
from torghut_sources.alpaca.wire import Wire
from torghut_sources.bus import KafkaSink, KafkaSource

from torghut_core import Connection, Envelope, Message, QuotePayload, TradePayload, format_timestamp

MESSAGES, PER_FRAME, TOGETHER, SYMBOLS, PARTITIONS = 200_000, 20, 64, 100, 3
T0 = 1_770_564_600_000_000_000
CONNECTION = Connection(is_live=False, secret=None)
TOPICS = ("torghut.trades.v1", "torghut.quotes.v1", "torghut.status.v1")


def messages(is_mix):
    """Ready messages, one each tenth of a millisecond."""
    made = []
    for n in range(MESSAGES):
        ts, symbol = T0 + n * 100_000, f"S{n * 7919 % SYMBOLS}"
        if is_mix and n % 2:
            payload = QuotePayload(bid_price=189.1, bid_size=3, ask_price=189.12, ask_size=4, event_ts=ts)
        else:
            payload = TradePayload(
                trade_id=n + 1, price=189.1, size=n % 99 + 1, event_ts=ts, exchange="V", conditions=("@",)
            )
        channel = "quotes" if is_mix and n % 2 else "trades"
        envelope = Envelope(
            ingest_ts=ts, event_ts=ts, feed="iex", channel=channel, symbol=symbol, seq=n, is_final=True, source="ws",
            payload=payload,
        )  # fmt: skip
        made.append(Message(channel, symbol, envelope.encode()))
    return made


def frames():
    """The trades among them as Alpaca's frames."""

    def trade(n):
        return {"T": "t", "S": f"S{n * 7919 % SYMBOLS}", "t": format_timestamp(T0 + n * 100_000), "i": n + 1, "x": "V",
                "p": 189.1, "s": n % 99 + 1, "c": ["@"], "z": "C"}  # fmt: skip

    numbers = range(MESSAGES)
    return [
        msgspec.json.encode([trade(n) for n in numbers[first : first + PER_FRAME]])
        for first in range(0, MESSAGES, PER_FRAME)
    ]


def named(prefix):
    """The topics of a turn."""
    for setting, topic in zip(("TOPIC_TRADES", "TOPIC_QUOTES", "TOPIC_STATUS"), TOPICS, strict=True):
        os.environ[setting] = f"{prefix}{topic}"


def connected(plugin):
    plugin.connect(CONNECTION)
    return plugin


async def warm(sink, ready):
    """Connections and idempotence are there before the clock runs."""
    await sink.send(ready[:1])
    await sink.flush()
    while sink.gates()["bus"]:  # noqa: ASYNC110 - what is waited for is in another thread
        await asyncio.sleep(0.01)


async def produce(prefix, ready):
    named(prefix)
    sink = connected(KafkaSink(KafkaSink.Params()))
    await warm(sink, ready)
    began = time.perf_counter()
    for first in range(0, len(ready), 1_000):
        await sink.send(ready[first : first + 1_000])
    await sink.flush()
    seconds = time.perf_counter() - began
    assert sum(sink.metrics()["ws_kafka_produce_success_total"].values()) == len(ready) + 1
    sink.close()
    return seconds


async def forward(prefix, raw, ready):
    named(prefix)
    sink, wire, seq = connected(KafkaSink(KafkaSink.Params())), Wire(), 0
    await warm(sink, ready)
    began = time.perf_counter()
    for first in range(0, len(raw), TOGETHER):
        received = wire.read(raw[first : first + TOGETHER]).events
        await sink.send(received.messages(feed="iex", source="ws", seq=seq, ingest_ts=T0))
        seq += len(received)
    await sink.flush()
    seconds = time.perf_counter() - began
    assert sum(sink.metrics()["ws_kafka_produce_success_total"].values()) == MESSAGES + 1
    sink.close()
    return seconds


def bare(prefix, ready):
    """The library alone."""
    delivered = 0

    def on_delivery(error, _message):
        nonlocal delivered
        assert error is None
        delivered += 1

    producer = Producer(
        {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"], "acks": "all", "enable.idempotence": True, "linger.ms": 30,
         "compression.type": "lz4", "partitioner": "murmur2_random", "on_delivery": on_delivery}
    )  # fmt: skip
    records = [
        (f"{prefix}{TOPICS[message.channel == 'quotes']}", message.value, message.symbol.encode()) for message in ready
    ]
    producer.produce(*records[0])
    producer.flush()
    began = time.perf_counter()
    for number, record in enumerate(records):
        while True:
            try:
                producer.produce(*record)
                break
            except BufferError:
                producer.poll(0.001)
        if not number % 1_000:
            producer.poll(0)
    producer.flush()
    seconds = time.perf_counter() - began
    assert delivered == len(records) + 1
    return seconds


async def consume(prefix, expected):
    named(prefix)
    source = connected(KafkaSource(KafkaSource.Params(channels=["trades", "quotes"], group=prefix, session_ms=1200)))
    found, began, last = 0, None, 0.0
    async with asyncio.timeout(60):
        async for batch in source.batches(4_096):
            began = began or time.perf_counter()
            found += len(batch.trades) + len(batch.quotes)
            if found < expected * 0.99:  # the rest waits for the topics to be idle
                last, counted = time.perf_counter(), found
            if found == expected:
                break
    source.close()
    return (last - began) * expected / counted


def report(case, seconds, rivals=None):
    line = {
        "case": case,
        "messages_per_second": round(MESSAGES / statistics.median(seconds)),
        "us_per_message": round(statistics.median(seconds) / MESSAGES * 1e6, 2),
        "all": [round(MESSAGES / each) for each in seconds],
    }
    if rivals:
        line["ratio"] = round(statistics.median(theirs / ours for ours, theirs in zip(seconds, rivals, strict=True)), 2)
    print(json.dumps(line), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = range(parser.parse_args().repeats)
    prefixes = (f"turn{number}." for number in count())
    names = [f"turn{number}.{topic}:{PARTITIONS}" for number in range(4 * len(repeats)) for topic in TOPICS]
    server = subprocess.Popen(
        [sys.executable, "-m", "torghut_testing.kafka", *names], stdout=subprocess.PIPE, text=True
    )
    try:
        os.environ["KAFKA_BOOTSTRAP"] = server.stdout.readline().strip()
        ready, raw = messages(is_mix=False), frames()
        ours, rivals, forwarded, consumed = [], [], [], []
        for _ in repeats:
            ours.append(asyncio.run(produce(next(prefixes), ready)))
            rivals.append(bare(next(prefixes), ready))
            forwarded.append(asyncio.run(forward(next(prefixes), raw, ready)))
        report("produce", ours, rivals)
        report("produce, confluent-kafka alone", rivals)
        report("forward", forwarded, rivals)
        mix = messages(is_mix=True)
        for _ in repeats:
            prefix = next(prefixes)
            asyncio.run(produce(prefix, mix))
            consumed.append(asyncio.run(consume(prefix, len(mix) + 1)))
        report("consume", consumed)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


if __name__ == "__main__":
    main()
