"""Settings are heard: each name in the environment is known, refused with its reason, or none of ours."""

import json
import os
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.docs import ROOT
from support.processes import run as torghut
from torghut_core import SettingsError
from torghut_core.catalog import Catalog
from torghut_core.installation.known_settings import (
    PREFIXES,
    REFUSED,
    UNUSED,
    all_settings,
    check_environment,
    setting_problems,
    unknown_names,
)
from torghut_core.plugin_host import PluginHost

CATALOG = ROOT / "catalog" / "trading.yaml"
SHARED = ROOT.parent / "shared"
KNOWN = {each.name: each.is_secret for each in all_settings(PluginHost.load())}

FORWARDER = {
    "ALPACA_MARKET_TYPE": "equity", "ALPACA_CRYPTO_LOCATION": "us", "ALPACA_FEED": "iex",
    "ALPACA_STREAM_URL": "wss://stream.data.alpaca.markets", "ALPACA_BASE_URL": "https://data.alpaca.markets",
    "JANGAR_SYMBOLS_URL": "http://jangar.jangar.svc.cluster.local/api/torghut/symbols", "SYMBOLS": "NVDA,AMD",
    "SYMBOLS_POLL_INTERVAL_MS": "30000", "SUBSCRIBE_BATCH_SIZE": "200", "SHARD_COUNT": "1", "SHARD_INDEX": "0",
    "RECONNECT_BASE_MS": "500", "RECONNECT_MAX_MS": "30000", "KAFKA_BOOTSTRAP": "kafka-kafka-bootstrap.kafka:9092",
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECH": "SCRAM-SHA-512", "KAFKA_SASL_USER": "torghut-ws",
    "KAFKA_SASL_PASSWORD": "secret", "KAFKA_LINGER_MS": "30", "KAFKA_ACKS": "all",
    "HEALTH_NOT_READY_KILL_AFTER_MS": "120000", "TOPIC_TRADES": "torghut.trades.v1",
    "TOPIC_QUOTES": "torghut.quotes.v1", "TOPIC_BARS_1M": "torghut.bars.1m.v1", "TOPIC_STATUS": "torghut.status.v1",
    "TOPIC_TRADE_UPDATES": "torghut.trade-updates.v1",
}  # fmt: skip
"""The settings of a deployed forwarder."""

TA = {
    "TA_GROUP_ID": "torghut-ta", "TA_AUTO_OFFSET_RESET": "latest", "TA_MAX_OUT_OF_ORDER_MS": "2000",
    "TA_QUOTE_STALE_AFTER_MS": "15000", "TA_VWAP_WINDOW_SECONDS": "300", "TA_REALIZED_VOL_WINDOW": "60",
    "TA_CLICKHOUSE_URL": "http://torghut-clickhouse:8123", "TA_CLICKHOUSE_USERNAME": "torghut",
    "TA_CLICKHOUSE_PASSWORD_FILE": "/run/password", "TA_CLICKHOUSE_FLUSH_MS": "1000",
}  # fmt: skip
"""Those of a deployed TA job."""


def link(service, port=9092):
    """What Kubernetes adds for a service."""
    return {
        f"{service}_SERVICE_HOST": "10.0.0.1",
        f"{service}_SERVICE_PORT": str(port),
        f"{service}_SERVICE_PORT_CLIENTS": str(port),
        f"{service}_PORT": f"tcp://10.0.0.1:{port}",
        f"{service}_PORT_{port}_TCP": f"tcp://10.0.0.1:{port}",
        f"{service}_PORT_{port}_TCP_PROTO": "tcp",
        f"{service}_PORT_{port}_TCP_PORT": str(port),
        f"{service}_PORT_{port}_TCP_ADDR": "10.0.0.1",
    }


def test_a_deployed_environment_is_heard_as_a_whole():
    assert unknown_names(KNOWN, {**FORWARDER, **TA, **dict.fromkeys(UNUSED, "x"), "LLM_ENABLED": "false"}) == []


def test_every_setting_of_the_documents_is_known_or_refused_with_its_reason():
    if not SHARED.is_dir():
        pytest.skip("the documents are not in this checkout")
    pages = [SHARED / "DESIGN.md", *(SHARED / "seeds").glob("*.txt"), *(SHARED / "facts").glob("*.md")]
    texts = "".join(page.read_text(encoding="utf-8") for page in pages)
    words = set(re.findall(r"\b[A-Z]+(?:_[A-Z0-9]+)+\b", texts))
    named = {word for word in words if word.startswith(PREFIXES)} - LATER - NO_SETTINGS
    assert sorted(named - set(KNOWN) - set(REFUSED) - UNUSED) == []


LATER = {"TRADING_SLICE_WAIT_MS"}
"""What the design has and the kernel does not have yet."""
NO_SETTINGS = {"TORGHUT_WHITEPAPER"}
"""Words of the documents that are no settings."""


@pytest.mark.parametrize(
    "service", ["KAFKA", "TORGHUT", "TORGHUT_DB_RW", "TORGHUT_CLICKHOUSE", "TA", "TRADING", "JANGAR"]
)
def test_what_kubernetes_adds_for_a_service_passes(service):
    assert unknown_names(KNOWN, link(service)) == []


def test_a_port_alone_is_no_service_of_kubernetes():
    assert unknown_names(KNOWN, {"KAFKA_PORT": "9092"})
    assert unknown_names(KNOWN, {"KAFKA_PORT": "tcp://10.0.0.1:9092"})


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_name_without_a_counterpart_says_why(name):
    reason, harmless = REFUSED[name]
    assert unknown_names(KNOWN, {name: "anything else"}) == [f"{name}: {reason} (unset it)"]
    assert unknown_names(KNOWN, dict.fromkeys([name], harmless[0] if harmless else "")) == []


@given(name=st.sampled_from(sorted(KNOWN)), place=st.integers(0, 40), letter=st.sampled_from(string.ascii_uppercase))
def test_a_slip_in_a_name_is_never_silent(name, place, letter):
    """Two letters exchanged, one left out, or one too many, anywhere in a name that has our prefix or is long."""
    place %= len(name) - 1
    slips = {
        name[:place] + name[place + 1] + name[place] + name[place + 2 :],
        name[:place] + name[place + 1 :],
        name[:place] + letter + name[place:],
    }
    for slip in slips - set(KNOWN):
        if slip.startswith(PREFIXES) or len(name) > 12:
            assert len(unknown_names(KNOWN, {slip: "1"})) == 1


@given(names=st.sets(st.from_regex(r"\A(TRADING|TA|KAFKA)_[A-Z_]{1,20}\Z"), max_size=5))
def test_all_unknown_names_are_named_at_once(names):
    unknown = names - set(KNOWN) - set(REFUSED) - UNUSED
    assert [problem.split(":")[0] for problem in unknown_names(KNOWN, dict.fromkeys(unknown, "1"))] == sorted(unknown)


@pytest.mark.parametrize("name", ["PATH", "HOME", "LANG", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "SYMBOL", "HOSTNAME"])
def test_names_of_others_pass(name):
    assert unknown_names(KNOWN, {name: "x"}) == []


def test_the_names_are_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("TRADING_ENABELD", "true")
    monkeypatch.setenv("trading_mode", "paper")
    with pytest.raises(SettingsError, match=r"^TRADING_ENABELD: .*did you mean TRADING_ENABLED\?\)$"):
        check_environment(PluginHost.load())


def test_an_advisor_is_refused_while_there_is_none(monkeypatch):
    monkeypatch.setenv("LLM_ENABLED", "true")
    assert any("LLM_ENABLED: there is no AI advisor yet" in each for each in setting_problems(PluginHost.load()))


def test_where_a_setting_comes_from_is_shown_and_no_secret(monkeypatch, tmp_path):
    file = tmp_path / "token"
    file.write_text("hunter22")
    for name, value in {
        "TORGHUT_TOKEN_FILE": str(file),
        "ALPACA_SECRET_KEY": "hunter22",
        "TA_CLICKHOUSE_URL": "http://me:hunter22@host:8123/?password=hunter22",
        "TRADING_POLL_MS": "7",
    }.items():
        monkeypatch.setenv(name, value)
    found = {each.name: each for each in all_settings(PluginHost.load())}
    assert "hunter22" not in repr(found)
    assert (found["TORGHUT_TOKEN"].value, found["TORGHUT_TOKEN"].source) == ("***", str(file))
    assert (found["ALPACA_SECRET_KEY"].value, found["ALPACA_SECRET_KEY"].source) == ("***", "environment")
    assert (found["TRADING_POLL_MS"].value, found["TRADING_POLL_MS"].default) == ("7", "5000")
    assert (found["TRADING_MODE"].value, found["TRADING_MODE"].source) == ("paper", "default")
    monkeypatch.setenv("trading_mode", "live")  # names are read in any case
    assert {each.name: each.value for each in all_settings(PluginHost.load())}["TRADING_MODE"] == "live"


def test_a_process_with_unknown_settings_does_not_start(tmp_path):
    env = os.environ | {"TRADING_ENABELD": "true", "KAFKA_AKCS": "all"}
    for command in (("run", "--catalog", CATALOG, "--port", "0"), ("replay", "--catalog", CATALOG)):
        done = torghut(*command, "--state", tmp_path / command[0], env=env)
        assert done.returncode == 2
        assert "TRADING_ENABELD" in done.stderr
        assert "KAFKA_ACKS" in done.stderr


def test_settings_are_printed_and_wrong_ones_end_with_2():
    done = torghut("settings", "--json", env=os.environ | {"TRADING_MODE": "life", "TRADING_ENABELD": "1"})
    assert done.returncode == 2
    printed = json.loads(done.stdout)
    assert [each.split(":")[0] for each in printed["problems"]] == ["TRADING_ENABELD", "TRADING_MODE"]
    assert {each["name"] for each in printed["settings"]} == set(KNOWN)
    assert torghut("settings").returncode == 0


def test_the_mode_of_a_catalog_that_states_none_is_the_setting_s(monkeypatch):
    assert Catalog(version=1).mode == "sync"
    monkeypatch.setenv("TRADING_STRATEGY_CONFIG_MODE", "merge")
    assert Catalog(version=1).mode == "merge"
    assert Catalog(version=1, mode="sync").mode == "sync"


@pytest.mark.parametrize(
    ("kind", "plugin", "setting", "param", "value"),
    [
        ("stage", "microbars", "TA_MAX_OUT_OF_ORDER_MS", "max_out_of_order_ms", 15_000),
        ("stage", "indicators", "TA_QUOTE_STALE_AFTER_MS", "quote_stale_after_ms", 15_000),
        ("source", "kafka", "TA_AUTO_OFFSET_RESET", "start", "latest"),
    ],
)
def test_a_setting_is_the_default_of_its_parameter(monkeypatch, kind, plugin, setting, param, value):
    params = PluginHost.load().registry[kind][plugin].cls.Params
    monkeypatch.setenv(setting, str(value))
    assert getattr(params(), param) == value
    other = "earliest" if value == "latest" else 1
    assert getattr(params(**{param: other}), param) == other
