"""`torghut simulate` as a process: a day on tapes, killed and started again, and a day through Kafka."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from torghut_testing.kafka import MockKafka
from torghut_testing.live.processes import Process

from support.postgres import execute, servers, url_of
from support.waiting import PATIENCE, until
from torghut_core.timestamps import SECOND

TORGHUT = Path(sys.executable).with_name("torghut")
PHRASE = "START_HISTORICAL_SIMULATION"
T0 = 1_767_623_400 * SECOND
COUNT = 1200
TRADING = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}, {use: indicators}]
    broker: {use: simulated, params: {cash: "1000000", fees: {"*": {bps: "10"}}}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Sec, symbols: ["BTC/USD"], params: {quantity: "1"}}
"""

pytest.importorskip("chdb", reason="the embedded signal store is torghut[embedded]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tape of twenty minutes, a trade a second, and a catalog."""
    made = tmp_path_factory.mktemp("simulation")
    price = (100 + 5 * np.sin(np.arange(COUNT) / 40)).round(2)
    times = pa.array(T0 + np.arange(COUNT) * SECOND).cast(pa.timestamp("ns", "UTC"))
    columns = {"symbol": ["BTC/USD"] * COUNT, "event_ts": times, "price": price, "size": np.full(COUNT, 9.0)}
    pq.write_table(pa.table(columns), made / "trades.parquet")
    (made / "catalog.yaml").write_text(TRADING)
    return made


def manifest(folder, name="day", **parts):
    """Writes the manifest of a day, and gives its path."""
    content = {
        "dataset_id": "torghut-trades-20260105",
        "catalog": "catalog.yaml",
        "tapes": ["trades.parquet"],
        "window": {
            "profile": "crypto_24_7",
            "trading_day": "2026-01-05",
            "start": "2026-01-05T14:30:00Z",
            "end": "2026-01-05T14:50:00Z",
            "min_coverage_minutes": 20,
        },
        "runtime": {"output_root": f"runs-{name}"},
        "monitor": {"timeout_seconds": PATIENCE},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content | parts))
    return path


def begin(path, command="run", *arguments):
    said = ["--confirm", PHRASE] if command == "run" else []
    state = ["--state", path.parent / "real"] if command == "run" else []
    return subprocess.Popen(
        [TORGHUT, "simulate", command, "--manifest", path, "--json", *said, *state, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def simulate(path, command="run", *arguments):
    """Runs a command to its end; gives its exit code and the object that it prints."""
    process = begin(path, command, *arguments)
    out, err = process.communicate(timeout=4 * PATIENCE)
    assert out, err
    return process.returncode, json.loads(out)


def rows(database, table, columns):
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()


def traded(folder, name):
    """Hashes of decisions, and fills, of a run."""
    database = folder / f"runs-{name}" / "sim-20260105-1" / "state" / "torghut_sim_sim_20260105_1.db"
    return (
        rows(database, "trade_decisions", "decision_hash, status"),
        rows(database, "execution_events", "client_order_id, event, event_ts, price, quantity, fee"),
    )


@pytest.fixture(scope="module")
def done(folder):
    """A day that was simulated without trouble."""
    return simulate(manifest(folder))


def test_a_day_passes_and_every_layer_has_something(folder, done):
    """The verdict is PASS, no layer is empty, and the artefacts are those that the runbooks name."""
    code, report = done
    assert report["verdict"] == {"status": "PASS", "codes": [], "levels": {}}
    assert code == 0
    assert report["schema"] == "torghut.simulation-report.v1"
    assert report["coverage"]["records"] == COUNT
    assert report["coverage"]["coverage_ratio"] == 1
    assert (
        min(report["funnel"][name] for name in ("ta_rows", "trade_decisions", "executions", "execution_tca_metrics"))
        > 5
    )
    run = folder / "runs-day" / "sim-20260105-1"
    for name in (
        "run-manifest.json", "run-full-lifecycle-manifest.json", "run-state.json", "runtime-verify.json", "signal-activity.json",
        "decision-activity.json", "execution-activity.json", "source-dump.ndjson", "report/simulation-report.md",
        "report/trade-pnl.csv", "report/execution-latency.csv", "report/llm-review-summary.csv",
    ):  # fmt: skip
        assert (run / name).stat().st_size, name
    made = json.loads((run / "run-manifest.json").read_text())
    assert made["replay"]["records_by_topic"] == {"torghut.sim.sim_20260105_1.trades.v1": COUNT}
    state = json.loads((run / "run-state.json").read_text())
    assert {name: each["status"] for name, each in state["phases"].items()} == {
        "preflight": "done", "argocd_prepare": "skipped", "apply": "done", "monitor": "done", "argocd_restore": "done",
        "report": "done",
    }  # fmt: skip


def test_each_decision_goes_back_to_an_event(folder, done):
    """Its context names the dataset, the event that was the last of its symbol by then, and where that was replayed."""
    run = folder / "runs-day" / "sim-20260105-1"
    lines = (run / "source-dump.ndjson").read_text().splitlines()
    decisions = json.loads((run / "decision-activity.json").read_text())["rows"]
    assert decisions
    for decision in decisions:
        context = decision["simulation_context"]
        event = json.loads(lines[context["source_offset"]])
        assert event["symbol"] == decision["symbol"]
        assert event["event_ts"] <= decision["decided_at"]
        assert context["replay_topic"] == "torghut.sim.sim_20260105_1.trades.v1"
        assert context["simulation_run_id"] == "sim-20260105-1"
    executions = json.loads((run / "execution-activity.json").read_text())
    assert all(row["simulation_context"] for row in executions["rows"] + executions["order_events"])


def test_a_run_that_is_done_is_not_run_again(folder, done):
    """The same command gives the same report at once; another manifest under the same id is refused."""
    path = manifest(folder)
    marker = folder / "runs-day" / "sim-20260105-1" / "report" / "simulation-report.json"
    before = marker.stat().st_mtime_ns
    assert simulate(path) == done
    assert marker.stat().st_mtime_ns == before
    other = manifest(folder, reporting={"per_trade_fee": 1})
    process = begin(other)
    _, err = process.communicate(timeout=PATIENCE)
    manifest(folder)
    assert process.returncode == 2
    assert "another --run-id" in err


def test_nothing_is_started_without_the_phrase(folder):
    """It has to be said, to the letter."""
    path = manifest(folder, "unsaid")
    ended = subprocess.run(
        [TORGHUT, "simulate", "run", "--manifest", path, "--confirm", "yes"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert PHRASE in ended.stderr
    assert not (folder / "runs-unsaid").exists()


def test_a_closed_market_fails_and_says_so(folder):
    """A holiday is an empty day; the exit code is 1."""
    window = {"trading_day": "2026-01-01"}
    code, report = simulate(manifest(folder, "holiday", window=window))
    assert code == 1
    assert report["verdict"]["codes"] == ["empty_day"]


def test_teardown_leaves_the_artefacts_alone(folder):
    """Stores and bus are gone after it, the report can still be read, and an artefact that was altered is found."""
    path = manifest(
        folder,
        "torn",
        window={"trading_day": "2026-01-05", "start": "2026-01-05T14:30:00Z", "end": "2026-01-05T14:35:00Z"},
    )
    _, report = simulate(path)
    _, removed = simulate(path, "teardown")
    run = folder / "runs-torn" / "sim-20260105-1"
    assert len(removed["removed"]) == 3
    assert not (run / "state").exists()
    assert simulate(path, "report")[1] == report
    assert simulate(path, "report", "--verify")[1] == report
    (run / "decision-activity.json").write_text("{}")
    ended = begin(path, "report", "--verify")
    assert "decision-activity.json" in ended.communicate(timeout=PATIENCE)[1]
    assert ended.returncode == 1


@pytest.mark.proof
def test_a_run_that_was_killed_is_continued_to_the_same_end(folder, done):
    """SIGKILL in the middle ends its processes too; the second start comes to the decisions and fills of a run without trouble."""
    path = manifest(folder, "killed", replay={"pace_mode": "accelerated", "acceleration": 60})
    database = folder / "runs-killed" / "sim-20260105-1" / "state" / "torghut_sim_sim_20260105_1.db"
    process = begin(path)
    until(lambda: process.poll() is not None or _decided(database))
    assert process.poll() is None, process.communicate()[1]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert not (folder / "runs-killed" / "sim-20260105-1" / "report").exists()
    early = len(rows(database, "trade_decisions", "id"))

    code, report = simulate(path)
    assert code == 0
    assert report["verdict"]["status"] == "PASS"
    assert traded(folder, "killed") == traded(folder, "day")
    assert 0 < early < len(traded(folder, "day")[0])


def _decided(database):
    try:
        return rows(database, "trade_decisions", "id")
    except sqlite3.OperationalError:
        return []


LIVE = TRADING.replace(
    "  trading:\n    source: {use: replay}\n    stages: [{use: microbars}, {use: indicators}]\n",
    """  forwarder: {source: {use: replay, params: {paths: [none.jsonl]}}, sink: {use: kafka}}
  ta: {source: {use: kafka, params: {channels: [trades]}}, stages: [{use: microbars}, {use: indicators}], sink: {use: kafka}}
  trading:
    source: {use: clickhouse-signals}
""",
)


@pytest.mark.proof
def test_a_day_through_kafka_decides_what_it_decides_on_tapes(folder, done, tmp_path):
    """Forwarder, Kafka, TA, ClickHouse and trading as processes: the decisions are those of the day on tapes, but for the last
    windows, which no later event closes."""
    (folder / "live.yaml").write_text(LIVE)
    prefix = "torghut.sim.sim_20260105_1."
    topics = {
        f"{prefix}{name}": 2 for name in ("trades.v1", "status.v1", "ta.bars.1s.v1", "ta.signals.v1", "ta.status.v1")
    }
    store = Process(
        "store", [sys.executable, "-m", "torghut_testing.clickhouse", f"--path={tmp_path / 'store'}"], tmp_path
    )
    store.start()
    try:
        store.first_line()
        with MockKafka(topics) as kafka:
            path = manifest(
                folder,
                "kafka",
                catalog="live.yaml",
                kafka={"bootstrap_servers": kafka.bootstrap},
                clickhouse={"http_url": store.url},
                monitor={"timeout_seconds": 2 * PATIENCE, "cursor_grace_seconds": 5},
            )
            _, report = simulate(path)
    finally:
        store.stop()
    assert report["verdict"]["status"] == "PASS", report["verdict"]
    ours, theirs = traded(folder, "kafka")[0], traded(folder, "day")[0]
    assert len(theirs) - 1 <= len(ours) <= len(theirs)
    assert ours == theirs[: len(ours)]


@pytest.mark.proof
def test_the_audit_of_a_day_may_be_on_a_postgres_server(folder, done):
    """Its database is made for the run, has the decisions of the day, and is dropped at the teardown."""
    window = {
        "trading_day": "2026-01-05",
        "profile": "crypto_24_7",
        "start": "2026-01-05T14:30:00Z",
        "end": "2026-01-05T14:50:00Z",
    }
    names = "SELECT datname FROM pg_database WHERE datname LIKE 'torghut_sim_%%'"
    with servers() as start:
        server = start()
        template = url_of(server, "torghut_sim_x").replace("torghut_sim_x", "{database}")
        path = manifest(
            folder,
            "postgres",
            window=window,
            postgres={"admin_dsn": url_of(server), "simulation_dsn_template": template},
        )
        _, report = simulate(path)
        assert report["verdict"]["status"] == "PASS" or report["verdict"]["codes"] == ["coverage_below_minimum"]
        assert report["funnel"]["trade_decisions"] == done[1]["funnel"]["trade_decisions"]
        assert execute(url_of(server), names) == ["torghut_sim_sim_20260105_1"]
        simulate(path, "teardown")
        assert execute(url_of(server), names) == []
