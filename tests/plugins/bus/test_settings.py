"""The settings that Kafka needs, and the secret that goes with them."""

import pytest
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
