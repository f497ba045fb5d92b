"""Addresses of a ClickHouse server as JDBC drivers have them, and the cluster of its tables."""

import pytest

from torghut_core import SettingsError
from torghut_core.errors import StateError
from torghut_core.installation.open import open_signals
from torghut_core.installation.settings import Settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.signals.clickhouse import http_url, server_client


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://host:8123", "http://host:8123"),
        ("https://me:pw@host:8443/torghut", "https://me:pw@host:8443/torghut"),
        ("jdbc:clickhouse://torghut-clickhouse.torghut:8123/torghut", "http://torghut-clickhouse.torghut:8123"),
        ("jdbc:ch://host:8123", "http://host:8123"),
        ("jdbc:clickhouse://host:8443/torghut", "https://host:8443"),
        ("jdbc:clickhouse://host:9443/torghut?ssl=true", "https://host:9443"),
        ("jdbc:clickhouse:http://host:8123/db?compress=0", "http://host:8123"),
        ("jdbc:ch:https://host/db?user=me&password=a%2Fb@c", "https://me:a%2Fb%40c@host"),
        ("jdbc:clickhouse://me:pw@host:8123/db", "http://me:pw@host:8123"),
    ],
)
def test_addresses_of_jdbc_are_read(given, address):
    """Scheme, user and host are kept; database and options say nothing that is not in a table's name."""
    assert http_url(given) == address


@pytest.mark.parametrize("url", ["jdbc:postgresql://host/db", "jdbc:clickhouse:host", "clickhouse://host", "host:8123"])
def test_other_addresses_are_refused(url):
    """With the form of one that is understood."""
    with pytest.raises(SettingsError, match="TA_CLICKHOUSE_URL"):
        server_client(url)


def test_the_password_of_an_address_is_never_shown():
    """Not in the error of a server that does not answer."""
    with pytest.raises(StateError, match=r"ClickHouse at http://127.0.0.1:1: ") as raised:
        server_client("jdbc:clickhouse://127.0.0.1:1/db?user=me&password=planted-pass/word")
    assert "planted" not in str(raised.value)


def test_a_cluster_needs_a_server(monkeypatch):
    """An embedded store has none, and a name that is no name never gets into SQL."""
    monkeypatch.setenv("TA_CLICKHOUSE_CLUSTER", "main")
    with pytest.raises(SettingsError, match="TA_CLICKHOUSE_URL is not"):
        Settings.read()
    monkeypatch.setenv("TA_CLICKHOUSE_URL", "http://host:8123")
    assert Settings.read().ta_clickhouse_cluster == "main"
    monkeypatch.setenv("TA_CLICKHOUSE_CLUSTER", "{cluster}")
    assert Settings.read().ta_clickhouse_cluster == "{cluster}"
    monkeypatch.setenv("TA_CLICKHOUSE_CLUSTER", "main'; DROP TABLE")
    with pytest.raises(SettingsError, match="TA_CLICKHOUSE_CLUSTER"):
        Settings.read()


def test_the_cluster_of_the_settings_is_that_of_the_tables(monkeypatch, tmp_path):
    """A setting that no table would hear of replicates nothing."""
    given = {}
    monkeypatch.setattr("torghut_core.signals.open_signal_store", lambda *_places, **terms: given.update(terms))
    settings = Settings(ta_clickhouse_url="http://host:8123", ta_clickhouse_cluster="main")
    open_signals(settings, StateDirectory(tmp_path))
    assert (given["cluster"], given["username"]) == ("main", "torghut")
