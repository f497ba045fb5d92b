"""`torghut simulate days`: which days are simulated, how each of them ended, and what is written down of them."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from support.waiting import PATIENCE, until
from torghut_core.errors import InputError
from torghut_core.research.simulation.days import dates, last_day, manifests, parse_day
from torghut_core.research.simulation.manifest import load_manifest
from torghut_core.research.simulation.plan import session_of
from torghut_core.timestamps import SECOND, parse_timestamp

TORGHUT = Path(sys.executable).with_name("torghut")
PHRASE = "START_HISTORICAL_SIMULATION"
CATALOG = """
version: 1
pipelines:
  trading:
    source: {use: replay}
    stages: [{use: microbars}, {use: indicators}]
    broker: {use: simulated, params: {cash: "1000000"}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Sec, symbols: ["BTC/USD"], params: {quantity: "1"}}
"""


def tape(path, start, count=600):
    """Writes trades of BTC/USD, one a second."""
    price = (100 + 5 * np.sin(np.arange(count) / 40)).round(2)
    times = pa.array(parse_timestamp(start) + np.arange(count) * SECOND).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(
        pa.table({"symbol": ["BTC/USD"] * count, "event_ts": times, "price": price, "size": np.full(count, 9.0)}), path
    )


def manifest(folder, name="days", window=None, **parts):
    """Writes a manifest, and gives its path."""
    content = {
        "dataset_id": "any",
        "catalog": "catalog.yaml",
        "tapes": ["{day}.parquet"],
        "window": {"trading_day": "2026-01-05", "min_coverage_minutes": 10, "strict_coverage_ratio": 0}
        | (window or {}),
        "runtime": {"output_root": f"runs-{name}"},
        "monitor": {"timeout_seconds": 10 * PATIENCE},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content | parts))
    return path


@pytest.fixture
def folder(tmp_path):
    """A catalog, and tapes of Monday and Tuesday."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    tape(tmp_path / "20260105.parquet", "2026-01-05T14:30:00Z")
    tape(tmp_path / "20260106.parquet", "2026-01-06T15:00:00Z")
    return tmp_path


def begin(path, *arguments):
    command = [TORGHUT, "simulate", "days", "--manifest", path, "--json", "--state", path.parent / "real", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def days(path, first, last, *arguments):
    """Runs the days; gives the exit code and the report of each."""
    process = begin(path, "--from-date", first, "--to-date", last, *arguments)
    out, err = process.communicate(timeout=12 * PATIENCE)
    assert out, err
    return process.returncode, json.loads(out)["days"]


def test_only_days_with_a_session_are_taken_unless_all_are_asked_for(folder):
    """New Year's Day and the weekend are none; a day's dataset is called after it, and its tape."""
    found = list(manifests(manifest(folder), date(2025, 12, 31), date(2026, 1, 5), sessions_only=True))
    assert [each.window.trading_day.day for each in found] == [31, 2, 5]
    assert [each.dataset_id for each in found] == [f"torghut-trades-{day}" for day in (20251231, 20260102, 20260105)]
    assert found[-1].tapes == (folder / "20260105.parquet",)
    assert len(list(manifests(manifest(folder), date(2025, 12, 31), date(2026, 1, 5), sessions_only=False))) == 6
    crypto = manifest(folder, window={"profile": "crypto_24_7"})
    assert len(list(manifests(crypto, date(2026, 1, 1), date(2026, 1, 4), sessions_only=True))) == 4


@pytest.mark.parametrize(
    ("now", "day"),
    [
        ("2026-01-07T02:00:00", date(2026, 1, 5)),  # Tuesday, 21:00 in New York
        ("2026-01-05T15:00:00", date(2026, 1, 2)),  # Monday
        ("2026-07-06T02:00:00", date(2026, 7, 2)),  # Sunday in New York; Friday was the holiday
    ],
)
def test_the_default_is_the_last_session_before_today(folder, now, day):
    """Of the manifest's time zone, so that a nightly start at 21:00 in New York takes the day before."""
    assert last_day(manifest(folder), datetime.fromisoformat(now).replace(tzinfo=UTC)) == day


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [("2026-01-05", "14:30", "21:00"), ("2026-07-06", "13:30", "20:00"), ("2026-11-27", "14:30", "18:00")],
)
def test_a_session_is_that_of_new_york(folder, day, opens, closes):
    """09:30 to 16:00 there, in summer and in winter; shorter on the day after Thanksgiving."""
    session = session_of(load_manifest(manifest(folder), date.fromisoformat(day)))
    assert session == (parse_timestamp(f"{day}T{opens}:00Z"), parse_timestamp(f"{day}T{closes}:00Z"))


def test_bounds_that_make_no_sense_are_refused(folder):
    """A later start than end, no day, times of one day for several, and one database for several."""
    with pytest.raises(InputError, match="is after --to-date"):
        dates(date(2026, 1, 2), date(2026, 1, 1))
    with pytest.raises(InputError, match="more than"):
        dates(date(1999, 1, 1), date(2026, 1, 1))
    with pytest.raises(InputError, match="write 2026-01-05"):
        parse_day("--from-date", "20260105")
    one = manifest(folder, window={"start": "2026-01-05T14:30:00Z"})
    with pytest.raises(InputError, match=r"window\.start is a time of one day"):
        list(manifests(one, date(2026, 1, 5), date(2026, 1, 5), sessions_only=True))
    shared = manifest(
        folder,
        kafka={"bootstrap_servers": "x:1"},
        clickhouse={"http_url": "http://x", "simulation_database": "torghut_sim_one"},
    )
    with pytest.raises(InputError, match="each run gets its own"):
        list(manifests(shared, date(2026, 1, 5), date(2026, 1, 6), sessions_only=True))


def test_a_dry_run_starts_nothing(folder):
    """It says which days would be run, and leaves no file."""
    code, reports = days(manifest(folder), "2026-01-03", "2026-01-06", "--dry-run")
    assert code == 0
    assert [(report["trading_day"], report["run_id"], report["status"]) for report in reports] == [
        ("2026-01-05", "sim-20260105-1", "planned"),
        ("2026-01-06", "sim-20260106-1", "planned"),
    ]
    assert not (folder / "runs-days").exists()


def test_nothing_is_started_without_the_phrase(folder):
    """As of one day."""
    process = begin(manifest(folder), "--from-date", "2026-01-05")
    assert PHRASE in process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 2


def test_a_folder_that_no_run_has_made_is_left_alone(folder):
    """The day fails with the reason of its process, and nothing is removed."""
    kept = folder / "runs-days" / "sim-20260105-1" / "state" / "real.db"
    kept.parent.mkdir(parents=True)
    kept.touch()
    code, (report,) = days(manifest(folder), "2026-01-05", "2026-01-05", "--confirm", PHRASE)
    assert (code, report["status"]) == (1, "failed")
    assert "is not the folder of a simulation" in report["reason"]
    assert kept.exists()


@pytest.mark.proof
def test_days_are_run_torn_down_and_registered(folder):
    """Two at a time; each day has its report, the registry all of them, and the same command runs none of them again."""
    pytest.importorskip("chdb", reason="the embedded signal store is torghut[embedded]")
    path = manifest(folder, window={"prebuffer_minutes": 5, "postbuffer_minutes": 5})
    said = ("--confirm", PHRASE, "--max-parallel-days", "2")
    code, reports = days(path, "2026-01-03", "2026-01-06", "--calendar-filter", "skip-empty", *said)
    assert [report["status"] for report in reports] == ["empty_day", "empty_day", "done", "done"], reports
    assert code == 0
    monday = reports[2]
    assert monday["session"]["start"] == "2026-01-05T14:30:00Z"
    assert monday["window"]["start"] == "2026-01-05T14:25:00Z"
    assert monday["metrics"]["dump_records"] == 600
    assert monday["metrics"]["trade_decisions"] > 0
    run = folder / "runs-days" / "sim-20260105-1"
    assert json.loads((run / "day-report.json").read_text()) == monday
    assert not (run / "state").exists()
    assert (run / "manifest.yaml").exists()
    registry = json.loads((folder / "runs-days" / "day-registry.json").read_text())["runs"]
    assert {name: each["status"] for name, each in registry.items()} == {
        f"sim-2026010{day}-1": status for day, status in ((3, "empty_day"), (4, "empty_day"), (5, "done"), (6, "done"))
    }
    assert days(path, "2026-01-05", "2026-01-06", *said) == (0, reports[2:])

    (folder / "catalog.yaml").write_text(CATALOG.replace('"1"}', '"2"}'))
    code, reports = days(path, "2026-01-05", "2026-01-07", *said)
    assert code == 1
    assert [report["status"] for report in reports] == ["blocked_config_drift", "blocked_config_drift", "empty_day"]
    code, (again,) = days(path, "2026-01-05", "2026-01-05", *said, "--force-replay")
    assert (code, again["status"]) == (0, "done")
    assert again["digest"] != monday["digest"]


@pytest.mark.proof
def test_a_process_that_fails_is_torn_down_and_a_killed_command_continues(folder):
    """A day that takes too long is `recovery`, and is begun anew; one that was killed with its command is continued."""
    pytest.importorskip("chdb", reason="the embedded signal store is torghut[embedded]")
    said = ("--confirm", PHRASE)
    path = manifest(folder, replay={"pace_mode": "event_time"}, monitor={"timeout_seconds": 3})
    code, (report,) = days(path, "2026-01-05", "2026-01-05", *said)
    assert (code, report["status"]) == (1, "recovery"), report
    assert "did not end in time" in report["reason"]
    assert not (folder / "runs-days" / "sim-20260105-1" / "state").exists()

    path = manifest(folder, "killed", replay={"pace_mode": "accelerated", "acceleration": 60})
    process = begin(path, "--from-date", "2026-01-05", *said)
    run = folder / "runs-killed" / "sim-20260105-1"
    until(lambda: process.poll() is not None or "monitor" in _phases(run))
    assert process.poll() is None, process.communicate()[1]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert not (run / "day-report.json").exists()
    code, (report,) = days(path, "2026-01-05", "2026-01-05", *said)
    assert (code, report["status"]) == (0, "done"), report
    assert json.loads((run / "run-manifest.json").read_text())["ta_restore"]["mode"] == "last-state"


def _phases(run):
    try:
        return json.loads((run / "run-state.json").read_text())["phases"]
    except (OSError, ValueError):
        return {}
