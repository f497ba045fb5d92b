"""`torghut forward` and `torghut ta` as processes: what their probes say, and how they end."""

import json
import time
from contextlib import closing
from itertools import pairwise

import pytest
from confluent_kafka import Consumer, TopicPartition
from torghut_testing.alpaca_data import FakeMarketData
from torghut_testing.kafka import MockKafka
from websockets.sync.client import connect

from support.waiting import PATIENCE
from torghut_core import parse_timestamp
from torghut_core.bus.marks import EVERYWHERE
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.signals import open_signal_store

CHANNELS = ("trades", "quotes", "bars_1m", "status")
LATENESS = 2_000_000_000
"""What the stages allow events to be late, ns: so far behind the last event windows are closed."""

FORWARDED = (
    "ws_readyz_status",
    'ws_readyz_gate_status{{gate="auth"}}',
    'ws_readyz_gate_status{{gate="subscription"}}',
    'ws_readyz_gate_status{{gate="backfill"}}',
    'ws_readyz_gate_status{{gate="freshness"}}',
    'ws_readyz_gate_status{{gate="bus"}}',
    'ws_readyz_gate_status{{gate="universe"}}',
    "ws_ws_connect_success_total",
    "ws_reconnects_total",
    'ws_kafka_produce_success_total{{topic="{TOPIC_TRADES}"}}',
    'ws_kafka_produce_success_total{{topic="{TOPIC_QUOTES}"}}',
    'ws_lag_ms{{quantile="0.99"}}',
    'ws_kafka_send_latency_ms{{quantile="0.99"}}',
)
"""What the user's dashboards ask a forwarder for, without ``torghut_``."""


@pytest.fixture(scope="module")
def cluster():
    """A Kafka for all."""
    with MockKafka() as cluster:
        yield cluster


@pytest.fixture
def kafka(cluster, request):
    """Its settings, with topics of the test's own."""
    topics = {f"TOPIC_{channel.upper()}": f"{request.node.originalname}.{channel}" for channel in CHANNELS}
    for topic in topics.values():
        cluster.create(topic, 2)
    return {"KAFKA_BOOTSTRAP": cluster.bootstrap, "KAFKA_LINGER_MS": "1"} | topics


@pytest.fixture
def forwarder(live, torghut):
    """Makes a forwarder, not started."""

    def make(market, kafka, params=None, **settings):
        params = {**live.QUICK, "stale_after_s": 30, "ping_s": 5, **(params or {})}
        source = {"use": "alpaca", "params": {**params, "channels": ["trades", "quotes"]}}
        catalog = {"version": 1, "pipelines": {"forwarder": {"source": source, "sink": {"use": "kafka"}}}}
        return torghut("forward", catalog, live.environment_of(market, **kafka, **settings))

    return make


def records(kafka):
    """Every event in the topics: (channel, symbol, time), in any order; marks of time are none."""
    consumer = Consumer({"bootstrap.servers": kafka["KAFKA_BOOTSTRAP"], "group.id": "a test"})
    found = []
    with closing(consumer):
        places, left = [], 0
        for channel in CHANNELS:
            for partition in range(2):
                place = TopicPartition(kafka[f"TOPIC_{channel.upper()}"], partition, 0)
                places.append(place)
                left += consumer.get_watermark_offsets(place, timeout=PATIENCE)[1]
        consumer.assign(places)
        while left:
            record = consumer.poll(10)
            assert record is not None, f"{left} have not come"
            assert record.error() is None
            envelope = json.loads(record.value())
            if envelope["symbol"] == EVERYWHERE:
                left -= 1
                continue
            assert record.key().decode() == envelope["symbol"]
            found.append((envelope["channel"], envelope["symbol"], parse_timestamp(envelope["event_ts"])))
            left -= 1
    return found


def test_probes_say_what_the_users_page_asks_for(recent, forwarder, kafka):
    """A working forwarder is alive and ready, lists its gates, and has the metrics under the user's names."""
    with FakeMarketData() as market:
        forward = forwarder(market, kafka).begin()
        status, answer = forward.get("/healthz")
        assert (status, answer) == (200, {"ok": True, "reasons": []})
        market.play(recent.events[:50], wait_for=recent.symbols)
        forward.until(lambda: forward.is_ready and sum(forward.metrics().get("forwarded_total", {}).values()) == 50)
        status, answer = forward.get("/readyz")
        assert (status, answer["ok"]) == (200, True)
        assert (answer["status"], answer["ready"], answer["error_class"]) == ("ready", True, None)
        names = ("auth", "backfill", "bus", "freshness", "subscription", "universe")
        assert answer["gates"] == dict.fromkeys(names, "") | dict.fromkeys(
            ("alpaca_ws", "kafka", "trade_updates"), True
        )
        _, metrics = forward.get("/metrics")
        assert forward.send() == 0
    told = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    own = [name.format(**kafka) for name in FORWARDED]
    assert [name for name in own if f"torghut_{name}" not in told] == []
    assert {float(told[f"torghut_{name}"]) for name in own if "readyz" in name} == {1.0}


def test_not_ready_is_not_dead_before_its_time(live, forwarder, kafka):
    """A forwarder whose venue is away is alive for HEALTH_NOT_READY_KILL_AFTER_MS, with the reason, and not longer."""
    with FakeMarketData() as market:
        gone = live.environment_of(market)
    forward = forwarder(
        market, kafka, HEALTH_NOT_READY_KILL_AFTER_MS="1500", ALPACA_STREAM_URL=gone["ALPACA_STREAM_URL"]
    )
    before = time.monotonic()
    forward.begin()
    assert forward.get("/healthz")[0] == 200
    assert "no connection to" in forward.until(
        lambda: forward.gates.get("auth", "").startswith("no conn") and str(forward.gates)
    )
    _, answer = forward.until(lambda: (said := forward.get("/healthz"))[0] == 503 and said)
    assert time.monotonic() - before >= 1.5
    assert "HEALTH_NOT_READY_KILL_AFTER_MS" in answer["reasons"][0]
    assert "no connection to" in answer["reasons"][0]
    assert forward.metric("ws_readyz_error_class", "connect") == 1
    assert forward.send() == 0


def test_wrong_keys_end_it_with_what_to_check(forwarder, kafka):
    """Keys that the venue refuses (402) end the process with exit code 2 and the fix, after one attempt."""
    with FakeMarketData() as market:
        forward = forwarder(market, kafka, ALPACA_SECRET_KEY="planted-secret")
        forward.start()
        assert forward.ended() == 2
        assert len(market.attempts) == 1
    last = forward.log.rstrip().splitlines()[-1]
    assert "402" in last
    assert "check ALPACA_KEY_ID and ALPACA_SECRET_KEY" in last
    assert "planted" not in forward.log


def test_connection_limit_is_waited_for_with_few_attempts(recent, forwarder, kafka):
    """While another client is connected (406) it says so, retries seldom, and resumes when the other is gone."""
    wait = 0.25
    with FakeMarketData() as market:
        with connect(f"{market.url}/v1beta3/crypto/us") as other:
            other.send(json.dumps({"action": "auth", "key": market.key, "secret": market.secret}))
            market.wait_until(lambda: market.listeners == 1)
            forward = forwarder(market, kafka, {"crowded_wait_s": wait}).begin()
            market.wait_until(lambda: len(market.attempts) >= 5, 30)
            assert "406" in forward.gates["auth"]
            assert forward.get("/healthz")[0] == 200
            assert forward.metric("ws_readyz_error_class", "connection-limit") == 1
        tries = [attempt for attempt in market.attempts[1:] if attempt.errors == [406]]
        waits = [after.at - before.at for before, after in pairwise(tries)]
        assert min(waits) >= wait
        assert waits[2] >= 2 * wait
        market.play(recent.events[:10], wait_for=recent.symbols)
        forward.until(lambda: forward.is_ready)
        assert forward.send() == 0


def test_killed_forwarder_loses_nothing(recent, forwarder, kafka):
    """After kill -9, and a restart after missed events, all of the tape is in Kafka, some of it twice."""
    with FakeMarketData() as market:
        forward = forwarder(market, kafka)
        snapshot = forward.state / "snapshots" / "forwarder.snapshot"

        def has_moved(count):
            return lambda: sum(forward.metrics().get("forwarded_total", {}).values()) >= count

        forward.begin()
        market.play(recent.events[:100], wait_for=recent.symbols)
        forward.until(has_moved(100))
        market.play(recent.events[100:101])
        forward.until(snapshot.exists)
        forward.kill()
        market.play(recent.events[101:180]).wait()
        forward.begin()
        forward.until(lambda: forward.is_ready or "freshness" in forward.gates)
        market.play(recent.events[180:], wait_for=recent.symbols)
        forward.until(lambda: has_moved(300 - 101)() and forward.is_ready)
        forward.until(lambda: forward.metric("ws_lag_ms", "0.5"))
        began = time.monotonic()
        assert forward.send() == 0
        assert time.monotonic() - began < 5
        found = records(kafka)
    channels = {"t": "trades", "q": "quotes"}
    wanted = {(channels[event.kind], event.symbol, event.at) for event in recent.events}
    assert set(found) == wanted
    assert len(found) >= len(wanted)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_ended_ta_resumes_with_the_same_rows(live, recent, torghut, tmp_path, end):
    """After SIGTERM, and after kill -9, with missed events meanwhile, the store has the rows of the tape."""
    params = {**live.QUICK, "channels": ["trades", "quotes"], "overlap_ms": 0, "stale_after_s": 30, "ping_s": 5}
    pipeline = {"source": {"use": "alpaca", "params": params}, "stages": [{"use": "microbars"}, {"use": "indicators"}]}
    catalog = {"version": 1, "pipelines": {"ta": pipeline}}
    with FakeMarketData() as market:
        checkpoints = {"TA_CHECKPOINT_MS": "60000" if end == "stop" else "50", "TA_FRESHNESS_MAX_SECONDS": "1e9"}
        ta = torghut("ta", catalog, live.environment_of(market, **checkpoints)).begin()
        gates = {"auth", "backfill", "freshness", "store", "subscription", "universe"}
        assert ta.get("/readyz")[1]["gates"].keys() == gates | {"alpaca_ws", "kafka", "trade_updates"}
        assert ta.metrics()["ws_readyz_gate_status"].keys() == gates
        ta.until(lambda: "universe" not in ta.gates)
        market.play(recent.events[:150], wait_for=recent.symbols)
        ta.until(lambda: ta.metric("events_total") == 150)
        if end == "kill":
            done = ta.metric("ta_checkpoints_total")
            market.play(recent.events[150:155])
            ta.until(lambda: ta.metric("events_total") == 155 and ta.metric("ta_checkpoints_total") > done)
            ta.kill()
        else:
            market.play(recent.events[150:155])
            ta.until(lambda: ta.metric("events_total") == 155)
            began = time.monotonic()
            assert ta.send() == 0
            assert time.monotonic() - began < 5
        market.play(recent.events[155:200]).wait()
        ta.begin()
        ta.until(lambda: ta.metric("events_total") >= 45)
        market.play(recent.events[200:], wait_for=recent.symbols)
        last = recent.events[-1].at
        ta.until(lambda: ta.metric("events_total") >= len(recent) - 155 + 1 and not ta.gates)
        assert ta.send() == 0
    limit = last - LATENESS
    expected = {name: [row for row in rows if row["window_end"].value <= limit] for name, rows in recent.rows.items()}
    with closing(open_signal_store(StateDirectory(tmp_path / "ta-state").signals_path)) as store:
        assert live.rows_of(store, limit) == expected
