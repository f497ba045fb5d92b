"""`torghut doctor`: what is unsafe is reported, with its fix; what is safe is not; and a check changes nothing."""

import itertools
import json
import sqlite3
from contextlib import closing

import pytest
from pydantic import model_validator

from torghut_core import Environment
from torghut_core.admin.api_process import Routes
from torghut_core.admin.server import AdminServer
from torghut_core.audit import SqlAuditStore, upgrade
from torghut_core.cli import doctor
from torghut_core.execution.controls import Controls
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.installation.universe import UniverseSettings
from torghut_core.plugin_host import PluginHost

CATALOG = """
version: 1
pipelines: {trading: {source: {use: replay}, broker: {use: alpaca}}}
strategies:
  - {name: one, use: macd-rsi, base_timeframe: 1Min, symbols: [BTC/USD]}
"""
LIVE = CATALOG.replace(
    "{trading: ", "{forwarder: {source: {use: feed}, sink: {use: bus}}, ta: {source: {use: feed}}, trading: "
)


class FeedSettings(Environment):
    """A setting that has to make sense."""

    feed_wait_ms: int = 5


class BusSettings(Environment):
    """A setting that has to be there, and one that says whether the secret is asked for."""

    bus_address: str = ""
    bus_is_open: bool = True

    @model_validator(mode="after")
    def _check(self):
        if not self.bus_address:
            raise ValueError("BUS_ADDRESS is not set (set it)")
        return self

    def asks_for(self, secret):
        return not self.bus_is_open or secret != "BUS_PASSWORD"


def findings_of(found, *kinds):
    return [subject for subject in found if subject.split()[0] in kinds]


@pytest.fixture(autouse=True)
def _bare(monkeypatch, plugin_module, fake_classes):
    """No setting of this machine, and no plugin that is installed here."""
    for name in doctor.Settings.model_fields:
        for variable in (name.upper(), f"{name.upper()}_FILE"):
            monkeypatch.delenv(variable, raising=False)
    for name in ("ALPACA_KEY_ID", "ALPACA_SECRET_KEY", *UniverseSettings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
    simulated = fake_classes["register_brokers"]["simulated"]
    tape, bus = fake_classes["register_sources"]["replay"], fake_classes["register_sinks"]["outlet"]
    keyed = type("Keyed", (simulated,), {"secrets": ("ALPACA_KEY_ID", "ALPACA_SECRET_KEY")})
    feed = type("Feed", (tape,), {"secrets": ("FEED_KEY",), "settings": (FeedSettings,)})
    guarded = type("Guarded", (bus,), {"secrets": ("BUS_PASSWORD",), "settings": (BusSettings,)})
    fakes = {
        **fake_classes,
        "register_brokers": {"alpaca": keyed, "simulated": simulated},
        "register_sources": {"replay": tape, "feed": feed},
        "register_sinks": {"bus": guarded},
    }
    host = PluginHost([("fakes", plugin_module("fakes", fakes))])
    monkeypatch.setattr("torghut_core.installation.open.load_plugins", lambda *_: host)


@pytest.fixture
def state(tmp_path):
    """A state directory in which something was kept; its signal store is left out."""
    path = tmp_path / "state"
    path.mkdir()
    upgrade(f"sqlite:///{path / 'audit.db'}")
    return path


@pytest.fixture
def catalog(tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    return path


@pytest.fixture
def look(state, monkeypatch):
    """A function that looks everything over and gives the findings by subject."""
    monkeypatch.setattr(doctor, "_counts", lambda *_: "0 rows")

    def examine(catalog=None, state=state, pipeline=None):
        findings = doctor.examine(catalog, state, pipeline)
        found = {finding.subject: finding for finding in findings}
        assert len(found) == len(findings)
        return found

    return examine


def failed(found):
    return [subject for subject, finding in found.items() if not finding.is_ok]


# ------------------------------------------------------------------------------------------------------------ the switches


@pytest.mark.parametrize("switches", list(itertools.product(("", "live"), ("", "true"), ("", "PA1"))))
def test_switches_of_live_trading(look, monkeypatch, switches):
    """All three mean real money, and say so; TRADING_MODE=live without the others means paper, and is no good sign."""
    mode, enabled, account = switches
    for name, value in (("MODE", mode), ("LIVE_ENABLED", enabled), ("LIVE_ACCOUNT", account)):
        monkeypatch.setenv(f"TRADING_{name}", value)
    found = look()["trading"]
    assert found.detail.startswith("LIVE" if all(switches) else "PAPER, NOT LIVE" if mode else "paper")
    assert found.is_ok == (all(switches) or not mode)
    named = {"TRADING_MODE=live": mode, "TRADING_LIVE_ENABLED=true": enabled, "TRADING_LIVE_ACCOUNT=NUMBER": account}
    if not all(switches):
        after = found.detail.rpartition("without" if mode else "need")[2]
        assert {name for name in named if name in after} == {name for name, is_set in named.items() if not is_set}


def test_whether_orders_are_sent_is_reported(look, monkeypatch):
    """TRADING_ENABLED is a switch of its own."""
    assert "trading not enabled" in look()["trading"].detail
    monkeypatch.setenv("TRADING_ENABLED", "true")
    assert look()["trading"].detail.startswith("paper; trading enabled; ")


# ---------------------------------------------------------------------------------------------------------------- the keys


def test_keys_of_the_broker_are_there_or_named_and_never_shown(look, catalog, monkeypatch, tmp_path):
    """A missing key is a finding; a key may be in a file; what it is stands nowhere."""
    missing = look(catalog)["broker alpaca"]
    assert not missing.is_ok
    assert "ALPACA_KEY_ID is not set" in missing.detail
    assert "ALPACA_SECRET_KEY is not set" in missing.detail
    (tmp_path / "secret").write_text("planted-secret\n")
    monkeypatch.setenv("ALPACA_KEY_ID", "planted-key")
    monkeypatch.setenv("ALPACA_SECRET_KEY_FILE", str(tmp_path / "secret"))
    found = look(catalog)
    assert failed(found) == []
    assert "not tested" in found["broker alpaca"].detail
    assert "planted" not in str(found)
    (tmp_path / "secret").unlink()
    assert failed(look(catalog)) == ["broker alpaca"]


def test_simulated_broker_needs_no_keys(look, catalog):
    """Nothing is said about keys where none are needed."""
    catalog.write_text(CATALOG.replace(", broker: {use: alpaca}", ""))
    assert not [subject for subject in look(catalog) if subject.startswith("broker")]


# ----------------------------------------------------------------------------------- what live sources and sinks ask for


@pytest.fixture
def live(catalog, monkeypatch):
    """A catalog with sources and a sink that ask for something, and all that they ask for."""
    catalog.write_text(LIVE)
    for name, value in (("FEED_KEY", "planted-key"), ("BUS_ADDRESS", "here:1"), ("ALPACA_MARKET_TYPE", "crypto")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ALPACA_KEY_ID", "planted-key")
    monkeypatch.setenv("ALPACA_SECRET_KEY", "planted-secret")
    return catalog


def test_source_and_sink_that_have_all_they_need_are_ok(look, live):
    """What is set is named, each plugin once however many pipelines use it; what a key is stands nowhere."""
    found = look(live)
    assert failed(found) == []
    assert findings_of(found, "source", "sink", "broker") == ["source feed", "broker alpaca", "sink bus"]
    assert "FEED_KEY is set (not tested" in found["source feed"].detail
    assert "from the environment: BUS_ADDRESS" in found["sink bus"].detail
    assert "BUS_PASSWORD" not in found["sink bus"].detail
    assert found["universe"].detail == "BTC/USD"
    assert "planted" not in str(found)


@pytest.mark.parametrize(
    ("name", "value", "subject", "said"),
    [
        ("FEED_KEY", "", "source feed", "FEED_KEY is not set"),
        ("FEED_WAIT_MS", "soon", "source feed", "FEED_WAIT_MS: "),
        ("BUS_ADDRESS", "", "sink bus", "BUS_ADDRESS is not set (set it)"),
        ("BUS_IS_OPEN", "false", "sink bus", "BUS_PASSWORD is not set"),
        ("TRADING_UNIVERSE_SOURCE", "jangar", "universe", "JANGAR_SYMBOLS_URL is not set"),
        ("TRADING_UNIVERSE_SOURCE", "mars", "universe", "TRADING_UNIVERSE_SOURCE: "),
        ("ALPACA_MARKET_TYPE", "equity", "universe", "no symbol is wanted"),
    ],
)
def test_what_a_source_or_sink_lacks_is_reported(look, live, monkeypatch, name, value, subject, said):
    """A setting that is missing or wrong, a secret, and a market without symbols, each by the name of its setting."""
    monkeypatch.setenv(name, value)
    found = look(live)
    assert failed(found) == [subject]
    assert found[subject].detail.startswith(said)
    assert "planted" not in str(found)


def test_one_pipeline_asks_for_its_own(look, live, monkeypatch):
    """Who runs one of the pipelines needs the settings of that one; a name that no pipeline has is reported."""
    monkeypatch.delenv("ALPACA_KEY_ID")
    monkeypatch.delenv("BUS_ADDRESS")
    assert failed(look(live)) == ["broker alpaca", "sink bus"]
    assert failed(look(live, pipeline="ta")) == []
    assert failed(look(live, pipeline="trading")) == ["broker alpaca"]
    missing = look(live, pipeline="forwardr")["catalog"]
    assert not missing.is_ok
    assert "did you mean 'forwarder'" in missing.detail


def test_universe_of_jangar_is_not_asked(look, live, monkeypatch):
    """Doctor contacts no one but what runs here, and shows no password of an address."""
    monkeypatch.setenv("TRADING_UNIVERSE_SOURCE", "jangar")
    monkeypatch.setenv("JANGAR_SYMBOLS_URL", "http://ann:planted@127.0.0.1:1/symbols")
    found = look(live)
    assert failed(found) == []
    assert "planted" not in str(found)


def test_tapes_need_no_universe(look, catalog):
    """Nothing is said of symbols where no source asks for any."""
    assert findings_of(look(catalog), "universe", "source", "sink") == []


# ------------------------------------------------------------------------------------------------------------- the control


def test_control_that_was_never_changed_is_ok(look, tmp_path):
    """A fresh state directory trades, and so does none at all."""
    assert look()["control"].detail == "running (never changed)"
    assert look(state=tmp_path / "none")["control"].is_ok
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("to", ["halted", "reduce_only", "pause_entries"])
def test_control_that_is_not_running_is_a_problem(look, state, to):
    """Who changed it, why and when is reported, and how to release it."""
    with closing(Controls(state / "control.json", f"sqlite:///{state / 'audit.db'}")) as controls:
        controls.poll()
        controls.change(to, reason="fat finger", actor="jane")
        found = look()
        assert failed(found) == ["control"]
        assert f"{to.replace('_', '-')}: fat finger (jane) since 20" in found["control"].detail
        assert "torghut unkill" in found["control"].hint
        controls.change("running", reason="all well", actor="ann")
    assert "running: all well (ann) since 20" in look()["control"].detail


@pytest.mark.parametrize("place", ["file", "database"])
def test_places_that_differ_are_both_reported(look, state, place):
    """A stop that is in one place only is in force, and it is said where."""
    database = f"sqlite:///{state / 'audit.db'}" if place == "database" else None
    with closing(Controls(state / "control.json", database)) as controls:
        controls.change("halted", reason="fat finger", actor="jane")
    if place == "database":
        (state / "control.json").unlink()
    found = look()["control"]
    assert not found.is_ok
    other = {"file": "database", "database": "file"}[place]
    assert f"in the {place}: halted: fat finger (jane)" in found.detail
    assert f"in the {other}: running (never changed)" in found.detail


def test_file_that_cannot_be_read_is_reported(look, state):
    """It counts as halted, and doctor says why."""
    (state / "control.json").write_text("{")
    found = look()["control"]
    assert not found.is_ok
    assert "control.json cannot be read" in found.detail


# ------------------------------------------------------------------------------------------------------- the audit database


def test_database_of_an_older_version_is_left_as_it_is(look, state):
    """Doctor says that it is older, and upgrades nothing."""
    with closing(sqlite3.connect(state / "audit.db")) as database:
        database.execute("update alembic_version set version_num = '0001'")
        database.commit()
    found = look()
    assert failed(found) == ["audit"]
    assert "version 0001" in found["audit"].detail
    assert found["audit"].hint == "torghut db upgrade"
    with closing(sqlite3.connect(state / "audit.db")) as database:
        assert database.execute("select version_num from alembic_version").fetchall() == [("0001",)]


def test_edited_row_is_found(look, state):
    """The hash chain is verified, and the first finding shown."""
    with closing(SqlAuditStore(state / "audit.db")) as audit:
        audit.record_control("quarantine.one", "raised", "torghut")
    assert "the hash chain is intact" in look()["audit"].detail
    with closing(sqlite3.connect(state / "audit.db")) as database:
        database.execute("update controls set actor = 'nobody' where name = 'quarantine.one'")
        database.commit()
    assert failed(look()) == ["audit"]


def test_server_that_cannot_be_reached(look, state, monkeypatch):
    """It is reported within seconds, without the password, also before there is a state directory."""
    pytest.importorskip("psycopg", reason="the driver of Postgres is not installed")
    monkeypatch.setenv("DB_DSN", "postgresql+psycopg://ann:planted-password@127.0.0.1:1/torghut")
    for path in (state, state / "none"):
        found = look(state=path)
        assert failed(found) == ["control", "audit"]
        assert "127.0.0.1:1" in found["audit"].detail
        assert "planted" not in str(found)


# ------------------------------------------------------------------------------------------------------ a kernel that runs


class Running:
    """As much of a kernel as doctor asks."""

    def __init__(self):
        self.checks = dict.fromkeys(doctor.HINTS, ())
        self.role = "trading"

    def trading(self):
        return {"account": "paper-PA1", "broker": "paper", "generation": 7, "role": self.role, "orders_working": 2}

    def trading_health(self):
        return {"ok": not any(self.checks.values()), "checks": self.checks}

    def status(self):
        last = {"at": "2026-01-05T15:00:00Z", "successful": True}
        return {"generation": 7, "degraded": False, "quarantined": {}, "since": last["at"], "last_reload": last}

    def metrics(self):
        return {}


@pytest.fixture
def kernel(state):
    """A kernel that runs on the state directory."""
    fake = Running()
    server = AdminServer(state_dir=state, port=0)
    with StateDirectory(state):
        server.start(fake)
        yield fake
        server.stop()


def test_kernel_that_runs_is_asked(look, kernel, live, monkeypatch):
    """Each of its checks is a finding; its signal store is left alone, and its keys are its own."""
    monkeypatch.delenv("ALPACA_KEY_ID")
    monkeypatch.setenv("ALPACA_MARKET_TYPE", "equity")
    found = look(live)
    assert failed(found) == []
    assert "account paper-PA1, broker paper, generation 7; trading enabled; 2 open orders" in found["kernel"].detail
    assert {subject for subject in found if subject.startswith("kernel, ")} == {
        f"kernel, {name}" for name in kernel.checks
    }
    assert found["signal store"].detail == "in use by the running process, not checked"
    assert "the hash chain is intact" in found["audit"].detail
    assert "an environment of its own" in found["broker alpaca"].detail
    assert "an environment of its own" in found["universe"].detail


def test_what_is_wrong_with_it_is_reported_with_a_fix(look, kernel):
    """All reasons of a check are one finding."""
    kernel.checks["venue"] = ["ES: 5 here, 4 there", "NQ: 1 here, 0 there"]
    found = look()
    assert failed(found) == ["kernel, venue"]
    assert found["kernel, venue"].detail == "ES: 5 here, 4 there; NQ: 1 here, 0 there"
    assert found["kernel, venue"].hint.startswith("torghut reconcile")


@pytest.mark.parametrize("role", ["standby", "disabled"])
def test_kernel_that_does_not_trade_is_not_to_be_reconciled(look, kernel, role):
    """It refuses to; its orders are not those of the account, and where to read on is said instead."""
    kernel.role = role
    kernel.checks["venue"] = [f"{role}: another process trades"]
    found = look()
    assert "open order" not in found["kernel"].detail
    assert "Standing by" in found["kernel, venue"].hint


def test_kernel_that_does_not_let_us_in(look, kernel, state):
    """Without its token nothing is known, which is a problem, and the message says what is needed."""
    file = json.loads((state / "admin.json").read_text())
    (state / "admin.json").write_text(json.dumps({**file, "token": "guess-guess-guess"}))
    found = look()
    assert failed(found) == ["kernel"]
    assert "TORGHUT_TOKEN" in found["kernel"].detail


class Pipe:
    """As much of `torghut forward` or `ta` as doctor asks."""

    metric_specs = ()

    def health(self):
        return []

    def readiness(self):
        return ["bus: gone"]

    def gates(self):
        return {"auth": "", "bus": "no broker answers (look at Kafka)"}

    def error_class(self):
        return "kafka_metadata"

    def metrics(self):
        return {}


def test_pipeline_without_trading_that_runs_is_asked(look, state):
    """Each of its readiness checks is a finding, with the reason if it fails."""
    server = AdminServer(state_dir=state, port=0)
    with StateDirectory(state):
        server.start(Pipe(), Routes.PROBES)
        try:
            found = look()
        finally:
            server.stop()
    assert failed(found) == ["readiness, bus"]
    assert found["readiness, auth"].detail == "ok"
    assert found["readiness, bus"].detail == "no broker answers (look at Kafka)"
    assert "in use by process" in found["process"].detail


def test_other_process_that_has_the_directory(look, state):
    """A replay has no API: the process that uses the directory is named, and what needs no lock is checked all the same."""
    with StateDirectory(state):
        found = look()
    assert failed(found) == ["kernel"]
    assert "in use by process" in found["kernel"].detail
    assert "the hash chain is intact" in found["audit"].detail


def test_left_over_address_is_not_asked(look, state):
    """The address that a killed kernel left behind may be another process's now: no kernel runs here, so it is not asked."""
    (state / "admin.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 1}))
    found = look()
    assert failed(found) == []
    assert "kernel" not in found
