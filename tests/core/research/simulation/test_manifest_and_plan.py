"""A manifest is checked to the line, and what follows from it belongs to one run alone."""

import base64
import subprocess

import pytest
import yaml

from torghut_core.catalog import load
from torghut_core.errors import CatalogError, InputError
from torghut_core.generation import build
from torghut_core.plugin_host import PluginHost
from torghut_core.research.simulation.cluster import objects
from torghut_core.research.simulation.isolation import checks
from torghut_core.research.simulation.manifest import load_manifest, token_of
from torghut_core.research.simulation.plan import make_plan
from torghut_core.research.simulation.run import run_simulation, teardown
from torghut_core.timestamps import HOUR, parse_timestamp

CATALOG = """
version: 1
pipelines:
  forwarder: {source: {use: replay, params: {paths: [none.jsonl]}}, sink: {use: kafka}}
  ta: {source: {use: kafka, params: {channels: [trades]}}, stages: [{use: microbars}, {use: indicators}], sink: {use: kafka}}
  trading: {source: {use: clickhouse-signals}, broker: {use: alpaca}}
instruments: {ES: {calendar: CMES}}
strategies:
  - {name: cross, use: ema-cross, base_timeframe: 1Sec, symbols: [ES]}
"""
MANIFEST = """
dataset_id: torghut-trades-20260105
catalog: catalog.yaml
tapes: [trades.parquet]
window:
  trading_day: 2026-01-05
"""
KAFKA = """
kafka: {bootstrap_servers: "127.0.0.1:9092"}
clickhouse: {http_url: "http://127.0.0.1:8123"}
"""


@pytest.fixture(scope="module")
def host():
    return PluginHost.load(["torghut-*"])


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest beside the catalog, and reads it."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)

    def read(text=MANIFEST):
        (tmp_path / "day.yaml").write_text(text)
        return load_manifest(tmp_path / "day.yaml")

    return read


@pytest.mark.parametrize(
    ("change", "place", "what"),
    [
        (("trading_day: 2026-01-05", "trading_dai: 2026-01-05"), "day.yaml:6:3: window.trading_dai", "trading_day"),
        (("2026-01-05\n", "yesterday\n"), "day.yaml:6:16: window.trading_day", "date"),
        (("catalog: catalog.yaml\n", ""), "catalog", "is missing"),
        (("window:", "kafka: {bootstrap_servers: x}\nwindow:"), "day.yaml", "kafka and clickhouse go together"),
        (("window:", "torghut_env_overrides: {DB_DSN: x}\nwindow:"), "day.yaml:5:24", "DB_DSN may not be changed here"),
        (
            ("window:", "clickhouse: {http_url: x, simulation_database: torghut}\nwindow:"),
            "day.yaml:5:48",
            "torghut_sim_",
        ),
        (("window:", "window: {}\nwindow:"), "day.yaml:6", "window"),
        (("2026-01-05\n", "9999-12-31\n"), "day.yaml:6:16: window.trading_day", "2105-01-01"),
    ],
)
def test_errors_of_a_manifest_name_the_line(manifest, change, place, what):
    """File, line, column, key, and what to write."""
    with pytest.raises(CatalogError) as caught:
        manifest(MANIFEST.replace(*change))
    assert place in str(caught.value)
    assert what in str(caught.value)


def test_names_of_a_run_are_its_own(manifest, host):
    """Topics, group and databases carry the run's id, and every check of isolation holds, though the catalog trades at a venue."""
    plan = make_plan(manifest(MANIFEST + KAFKA), host)
    assert plan.run_id == "sim-20260105-1"
    assert plan.topics["trades"] == f"torghut.sim.{plan.token}.trades.v1"
    assert plan.group == f"torghut-ta-sim-{plan.token}"
    assert plan.database == f"torghut_sim_{plan.token}"
    generation = build(load({"catalog.yaml": plan.catalog_text}), host)
    assert generation.broker.capabilities.simulated
    assert [check for check in checks(plan, generation) if not check.ok] == []
    other = make_plan(manifest(MANIFEST + KAFKA), host, "sim-20260105-2")
    assert not set(other.topics.values()) & set(plan.topics.values())


@pytest.mark.parametrize(
    "template",
    [
        "postgresql://u@h/torghut?application_name={database}",
        "postgresql+psycopg://u@h/{database}?dbname=torghut",
        "postgresql://u:p/{database}@h/torghut",
        "postgresql://h/{database}_and_more",
        "sqlite:///file:real.db#/{database}?uri=true",
        "http://[{database}",
        "{database}",
    ],
)
def test_an_audit_database_that_is_not_the_runs_own_is_no_isolation(manifest, host, template):
    """However its address hides the name, it is read as whoever connects reads it."""
    postgres = f'postgres: {{admin_dsn: "postgresql://h/postgres", simulation_dsn_template: "{template}"}}\n'
    plan = make_plan(manifest(MANIFEST + postgres), host)
    found = checks(plan, build(load({"catalog.yaml": plan.catalog_text}), host))
    assert [check.name for check in found if not check.ok] == ["audit_database"]


def test_a_password_with_a_slash_is_no_database(manifest, host, monkeypatch):
    """The address of the run's own database is taken with any password."""
    monkeypatch.setenv("SECRET", "a/b?c")
    postgres = (
        'postgres: {admin_dsn: "postgresql://h/postgres", simulation_password_env: SECRET, '
        'simulation_dsn_template: "postgresql://u:{password}@h/{database}"}\n'
    )
    plan = make_plan(manifest(MANIFEST + postgres), host)
    assert all(check.ok for check in checks(plan, build(load({"catalog.yaml": plan.catalog_text}), host)))


@pytest.mark.parametrize("act", [teardown, lambda plan: run_simulation(plan, None, None, None, force_replay=True)])
def test_a_folder_that_no_run_has_made_is_left_alone(manifest, host, tmp_path, act):
    """The folder of a real state and catalog, named as the place of a run, is neither written nor removed."""
    real = tmp_path / "prod" / "state" / "audit.db"
    real.parent.mkdir(parents=True)
    real.write_text("real")
    (tmp_path / "prod" / "catalog").mkdir()
    plan = make_plan(manifest(MANIFEST + "runtime: {output_root: .}\n"), host, "prod")
    with pytest.raises(InputError, match="not the folder of a simulation"):
        act(plan)
    assert real.read_text() == "real"
    assert (tmp_path / "prod" / "catalog").exists()
    assert not (tmp_path / "prod" / "inflight.lock").exists()


def test_a_window_that_is_over_before_it_begins_is_refused(manifest, host):
    """Also where one end of it is the session's."""
    text = MANIFEST + "  start: '2026-01-05T23:00:00Z'\n"
    with pytest.raises(InputError, match="not after its start"):
        make_plan(manifest(text), host)


def test_processes_inherit_nothing_that_is_real(manifest, host, monkeypatch):
    """Keys, addresses and modes of the environment do not reach them."""
    for name in ("DB_DSN", "ALPACA_KEY_ID", "TRADING_LIVE_ACCOUNT", "KAFKA_BOOTSTRAP", "TRADING_MODE"):
        monkeypatch.setenv(name, "real")
    environment = make_plan(manifest(), host).environment()
    assert "real" not in environment.values()
    assert environment["TRADING_MODE"] == "paper"
    assert environment["DB_DSN"].endswith("torghut_sim_sim_20260105_1.db")


def test_a_day_is_its_session(manifest, host):
    """Of an exchange's day the regular session, half days and holidays as its calendar has them."""
    window = make_plan(manifest(), host).window
    assert window == (parse_timestamp("2026-01-05T14:30:00Z"), parse_timestamp("2026-01-05T21:00:00Z"))
    half = make_plan(manifest(MANIFEST.replace("2026-01-05\n", "2025-11-28\n")), host).window
    assert half.until - half.since == 3.5 * HOUR
    assert make_plan(manifest(MANIFEST.replace("2026-01-05\n", "2026-01-01\n")), host).window is None


def test_an_id_is_checked():
    """It becomes part of the names of databases and topics."""
    assert token_of("sim-20260105-1") == "sim_20260105_1"
    with pytest.raises(InputError, match="--run-id 'a b'"):
        token_of("a b")


def test_the_objects_of_a_cluster_are_made_from_the_plan(manifest, host, tmp_path):
    """Two ConfigMaps, four gates, the workflow and the nightly job; the settings are the local ones, and no secret is in them."""
    plan = make_plan(manifest(MANIFEST + KAFKA), host)
    made = {(each["kind"], each["metadata"]["name"]): each for each in objects(plan, MANIFEST)}
    assert [name for kind, name in made if kind == "AnalysisTemplate"] == [
        "torghut-simulation-runtime-ready",
        "torghut-simulation-activity",
        "torghut-simulation-teardown-clean",
        "torghut-simulation-artifact-bundle",
    ]
    assert made["ConfigMap", "torghut-ta-sim-config"]["data"] == plan.settings()
    workflow = made["WorkflowTemplate", "torghut-historical-simulation"]
    assert workflow["metadata"]["namespace"] == "argo-workflows"
    names = [each["name"] for each in workflow["spec"]["arguments"]["parameters"]]
    assert names == [
        "runId", "mode", "datasetManifestB64", "confirmPhrase", "forceReplay", "forceDump", "allowMissingState", "outputRoot",
    ]  # fmt: skip
    assert yaml.safe_load(yaml.safe_dump(workflow)) == workflow
    nightly = made["CronJob", "torghut-simulation-nightly"]["spec"]
    assert (nightly["schedule"], nightly["timeZone"], nightly["suspend"]) == ("0 21 * * *", "America/New_York", True)
    (container,) = nightly["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["simulate", "days"]


def test_the_workflow_starts_nothing_without_the_phrase(manifest, host, tmp_path):
    """Its script, run by a shell, hands on just what was said; a parameter's text is never run."""
    plan = make_plan(manifest(), host)
    workflow = next(each for each in objects(plan, MANIFEST) if each["kind"] == "WorkflowTemplate")
    script = workflow["spec"]["templates"][0]["container"]["command"][2].replace("/tmp/", f"{tmp_path}/")
    torghut = tmp_path / "torghut"
    torghut.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    torghut.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "MANIFEST_B64": base64.b64encode(MANIFEST.encode()).decode(), "RUN_ID": "$(exit 7)",
        "MODE": "run", "CONFIRM": "no", "FORCE_REPLAY": "true", "FORCE_DUMP": "false", "ALLOW_MISSING_STATE": "false",
        "OUTPUT_ROOT": "/out",
    }  # fmt: skip

    def shell(**others):
        return subprocess.run(
            ["sh", "-c", script], env=environment | others, capture_output=True, text=True, check=False
        )

    refused = shell()
    assert refused.returncode == 2
    assert "confirmPhrase" in refused.stderr
    done = shell(CONFIRM="START_HISTORICAL_SIMULATION")
    assert done.returncode == 0
    said = done.stdout.split("\n")
    assert said[:2] == ["simulate", "run"]
    assert "--run-id=$(exit 7)" in said
    assert "--force-replay" in said
    assert "--force-dump" not in said
    assert (tmp_path / "manifest.yaml").read_text() == MANIFEST
