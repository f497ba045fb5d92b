"""The settings that Kafka needs, and the secret that goes with them."""

import pytest
from pydantic import SecretStr
from torghut_sources.bus import KafkaSink
from torghut_sources.bus.settings import PASSWORD, KafkaSettings

from torghut_core import SettingsError

from .conftest import CONNECTION


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in KafkaSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "KAFKA_BOOTSTRAP is not set"),
        ({"KAFKA_BOOTSTRAP": "a:1", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USER is not set"),
    ],
)
def test_missing_setting_is_named(monkeypatch, given, says):
    """The brokers are always needed, a user where the protocol is SASL: the error comes before a client is made."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says):
        KafkaSettings.read()


@pytest.mark.parametrize(("protocol", "asks"), [("PLAINTEXT", False), ("SSL", False), ("SASL_SSL", True)])
def test_password_is_asked_for_with_sasl_alone(monkeypatch, protocol, asks):
    """`torghut doctor` asks for no password where none is used."""
    for name, value in {"BOOTSTRAP": "a:1", "SECURITY_PROTOCOL": protocol, "SASL_USER": "ann"}.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)
    assert KafkaSettings.read().asks_for(PASSWORD) is asks


def test_wrong_topic_is_an_error_with_the_setting(monkeypatch):
    """An invalid topic is an error when the sink connects, not when it is made, and names the setting."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "a:1")
    monkeypatch.setenv("TOPIC_TRADES", "bad topic")
    sink = KafkaSink(KafkaSink.Params())
    with pytest.raises(SettingsError, match="TOPIC_TRADES"):
        sink.connect(CONNECTION)


@pytest.mark.parametrize(
    ("given", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"SASL_USER": "ann"}, "SASL_SSL"),
        ({"SASL_USER": "ann", "SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "SASL_PLAINTEXT"),
        ({"SECURITY_PROTOCOL": "SSL"}, "SSL"),
    ],
)
def test_a_user_is_never_left_out(monkeypatch, given, protocol):
    """Where a user is set and no protocol, it is SASL over TLS, and not PLAINTEXT without the user."""
    for name, value in {"BOOTSTRAP": "a:1", **given}.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)
    client = KafkaSettings.read().client(lambda _name: SecretStr("pw"))
    assert client["security.protocol"] == protocol
    assert ("sasl.username" in client) is protocol.startswith("SASL")


def test_certificates_go_to_the_client_with_tls_alone(monkeypatch, tmp_path):
    """The file has to be there, and the protocol to have certificates; else it is said at the start."""
    file = tmp_path / "ca.pem"
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "a:1")
    monkeypatch.setenv("KAFKA_SSL_CA_LOCATION", str(file))
    with pytest.raises(SettingsError, match="KAFKA_SECURITY_PROTOCOL is PLAINTEXT"):
        KafkaSettings.read()
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_USER", "ann")
    with pytest.raises(SettingsError, match="there is no file"):
        KafkaSettings.read()
    file.write_text("certificates")
    assert KafkaSettings.read().client(lambda _name: SecretStr("pw"))["ssl.ca.location"] == str(file)


@pytest.mark.parametrize(("name", "value"), [("KAFKA_ACKS", "1"), ("KAFKA_COMPRESSION", "gzip")])
def test_what_is_fixed_is_refused_otherwise(monkeypatch, name, value):
    """Every record waits for all replicas and is packed with lz4: another wish is an error."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "a:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        KafkaSettings.read()


def test_two_groups_are_an_error(monkeypatch):
    """TA_GROUP_ID is the group; KAFKA_GROUP_ID may say the same."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "a:1")
    monkeypatch.setenv("TA_GROUP_ID", "ta")
    assert KafkaSettings.read().group_id == "ta"
    monkeypatch.setenv("KAFKA_GROUP_ID", "ta")
    assert KafkaSettings.read().group_id == "ta"
    monkeypatch.setenv("KAFKA_GROUP_ID", "other")
    with pytest.raises(SettingsError, match="two consumer groups"):
        KafkaSettings.read()
