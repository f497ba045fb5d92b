"""What has to be set for Kafka, and which secret that asks for."""

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
def test_what_is_missing_is_told_by_name(monkeypatch, given, says):
    """Brokers always, and a user where the protocol is one of SASL, before a client is made."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says):
        KafkaSettings.read()


@pytest.mark.parametrize(("protocol", "asks"), [("PLAINTEXT", False), ("SSL", False), ("SASL_SSL", True)])
def test_password_is_asked_for_with_sasl_alone(monkeypatch, protocol, asks):
    """`torghut doctor` wants no password where none is used."""
    for name, value in {"BOOTSTRAP": "a:1", "SECURITY_PROTOCOL": protocol, "SASL_USER": "ann"}.items():
        monkeypatch.setenv(f"KAFKA_{name}", value)
    assert KafkaSettings.read().asks_for(PASSWORD) is asks


def test_wrong_topic_is_told_as_a_setting(monkeypatch):
    """A sink is made whatever the environment says; what is wrong with it is told by the setting's name when it connects."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "a:1")
    monkeypatch.setenv("TOPIC_TRADES", "bad topic")
    sink = KafkaSink(KafkaSink.Params())
    with pytest.raises(SettingsError, match="TOPIC_TRADES"):
        sink.connect(CONNECTION)
