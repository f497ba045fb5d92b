"""Messages as a venue's source makes them, a bus to send them over, and a kernel that keeps what becomes of them."""

import asyncio
import copy
import re

import pytest
from torghut_sources.bus import KafkaSink, KafkaSource, MemorySink, MemorySource
from torghut_sources.bus.memory import MemoryBus
from torghut_testing.kafka import MockKafka

from support.waiting import PATIENCE
from torghut_core import BarPayload, Connection, Envelope, Message, QuotePayload, TradePayload, Window

T0 = 1_770_000_000_000_000_000
MS = 1_000_000
TRADES, QUOTES, BARS, STATUS = "torghut.trades.v1", "torghut.quotes.v1", "torghut.bars.1m.v1", "torghut.status.v1"
TOPICS = {"TOPIC_TRADES": TRADES, "TOPIC_QUOTES": QUOTES, "TOPIC_BARS_1M": BARS, "TOPIC_STATUS": STATUS}
SESSION_MS = 1_600
"""The mock cluster assigns partitions a second before a session would end: members that notice it later, at their next
heartbeat (a quarter of a session), miss that, join again, and so on for ever.
"""
CONNECTION = Connection(is_live=False, secret=lambda name: pytest.fail(f"{name} is not to be asked for"))


def message(channel, payload, seq, symbol="BTC/USD", **others):
    """A message of a payload."""
    envelope = Envelope(
        ingest_ts=payload.event_ts, event_ts=payload.event_ts, feed="crypto", channel=channel, symbol=symbol, seq=seq,
        is_final=True, source="test", payload=payload,
    )  # fmt: skip
    return Message(channel, symbol, envelope.encode())


def trade(number, symbol="BTC/USD", at=None):
    """The trade of a number, a millisecond after the one before; its price is its number."""
    at = number if at is None else at
    payload = TradePayload(trade_id=number, price=number + 1, size=0.5, event_ts=T0 + at * MS, exchange="CBSE")
    return message("trades", payload, number, symbol)


def quote(number, symbol="BTC/USD", at=None):
    """The quote of a number."""
    at = number if at is None else at
    payload = QuotePayload(bid_price=number + 1, bid_size=1, ask_price=number + 2, ask_size=1, event_ts=T0 + at * MS)
    return message("quotes", payload, number, symbol)


def bar(number, symbol="BTC/USD", is_final=True):
    """The bar of a minute's number."""
    start = T0 + number * 60_000 * MS
    payload = BarPayload(open=1, high=3, low=1, close=2, volume=9, count=4, event_ts=start)
    envelope = Envelope(
        ingest_ts=start, event_ts=start, feed="crypto", channel="bars", symbol=symbol, seq=number, is_final=is_final,
        source="test", window=Window.of(start, 60_000 * MS), payload=payload,
    )  # fmt: skip
    return Message("bars", symbol, envelope.encode())


def events(batch):
    """What is in a batch: (time known, channel, number, symbol) of each event, in order."""
    names = batch.symbols.names
    found = []
    for channel, table, numbers in (
        ("trades", batch.trades, batch.trades.price - 1),
        ("quotes", batch.quotes, batch.quotes.bid_price - 1),
        ("bars", batch.bars, batch.bars.seq),
    ):
        for at, number, symbol in zip(table.at.tolist(), numbers.tolist(), table.symbol.tolist(), strict=True):
            found.append((at, channel, int(number), names[symbol]))
    return [(int(batch.now[at - batch.start]), *rest) for at, *rest in sorted(found)]


class Kernel:
    """Keeps the events of each lane with the cursor, as the TA pipeline keeps the states of its stages."""

    def __init__(self, disk):
        self.disk = disk
        self.source = None
        self.states = {}

    async def take(self, lane):
        cursor, state = copy.deepcopy(self.disk.get(lane, (None, [])))
        await asyncio.sleep(0)
        self.states[lane] = state
        return cursor

    async def leave(self, lane):
        if lane in self.source.cursor():
            self.keep()
        self.states.pop(lane, None)

    def keep(self):
        """A checkpoint of all lanes; what the next owner of a lane has kept is not replaced by what is behind it."""
        cursor = self.source.cursor()
        for lane, state in self.states.items():
            kept, _ = self.disk.get(lane, (None, []))
            if kept is None or kept["position"] <= cursor[lane]["position"]:
                self.disk[lane] = copy.deepcopy((cursor[lane], state))
        self.source.commit(cursor)

    def update(self, batch):
        """What stages would do: here, remember the events."""
        self.states[batch.lane] += events(batch)


async def gather(source, count, size=100):
    """Batches until there are so many events, ticks left out."""
    batches, found = [], 0
    async with asyncio.timeout(PATIENCE):
        async for batch in source.batches(size):
            assert 0 < len(batch) <= size
            if rows := len(batch.trades) + len(batch.quotes) + len(batch.bars):
                batches.append(batch)
                found += rows
            if found >= count:
                break
    assert found == count
    return batches


@pytest.fixture
def opened():
    """Makes connected sinks and sources, and closes them in the end."""
    made = []

    def connected(plugin):
        plugin.connect(CONNECTION)
        made.append(plugin)
        return plugin

    yield connected
    for plugin in reversed(made):
        plugin.close()


@pytest.fixture(scope="session")
def cluster():
    """A Kafka for all tests that do it no harm."""
    with MockKafka() as cluster:
        yield cluster


class Pair:
    """A sink, and sources, of one kind of bus; `prefix` keeps them from those of other tests."""

    def __init__(self, sink, source, prefix):
        self.sink = sink
        self.source = source
        self.prefix = prefix

    def topic(self, name):
        """The topic of that name."""
        return f"{self.prefix}{name}"


def on_kafka(cluster, monkeypatch, opened, prefix=""):
    """A pair on a cluster, with two partitions of each topic."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", cluster.bootstrap)
    monkeypatch.setenv("KAFKA_LINGER_MS", "1")
    monkeypatch.setenv("KAFKA_GROUP_ID", f"{prefix}group")
    for setting, name in TOPICS.items():
        monkeypatch.setenv(setting, f"{prefix}{name}")
        cluster.create(f"{prefix}{name}", 2)
    return Pair(
        opened(KafkaSink(KafkaSink.Params())),
        lambda **params: opened(KafkaSource(KafkaSource.Params(session_ms=SESSION_MS, **params))),
        prefix,
    )


@pytest.fixture
def kafka_pair(cluster, monkeypatch, opened, request):
    """Sink and sources on Kafka."""
    return on_kafka(cluster, monkeypatch, opened, prefix=re.sub(r"\W+", "-", request.node.name) + ".")


@pytest.fixture
def memory_pair(monkeypatch, opened):
    """Sink and sources in this process."""
    monkeypatch.setattr(MemoryBus, "_named", {})
    return Pair(
        opened(MemorySink(MemorySink.Params(partitions=2))),
        lambda **params: opened(MemorySource(MemorySource.Params(partitions=2, **params))),
        "",
    )


@pytest.fixture(params=["memory", "kafka"])
def pair(request):
    """Sink and sources on each kind of bus."""
    return request.getfixturevalue(f"{request.param}_pair")
