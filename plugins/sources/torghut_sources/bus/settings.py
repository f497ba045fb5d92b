"""The settings of Kafka: ``KAFKA_*``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from torghut_core import Environment

PASSWORD = "KAFKA_SASL_PASSWORD"  # noqa: S105 - the name of the setting


class KafkaSettings(Environment):
    """The environment variables of Kafka; the password is a secret that the kernel hands over."""

    kafka_bootstrap: str = Field(default="", description="host:port of one or more brokers, comma-separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="security protocol of the brokers"
    )
    kafka_sasl_user: str = Field(default="", description="user, for the SASL protocols")
    kafka_sasl_mech: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism"
    )
    kafka_client_id: str = Field(default="torghut", description="name of this process in the logs of the brokers")
    kafka_linger_ms: int = Field(
        default=30, ge=0, le=10_000, description="how long a record waits for others to be sent with, milliseconds"
    )
    kafka_group_id: str = Field(default="torghut", description="consumer group whose members share the partitions")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.kafka_bootstrap:
            raise ValueError("KAFKA_BOOTSTRAP is not set (set it to host:port of a broker)")
        if self._is_sasl and not self.kafka_sasl_user:
            protocol = self.kafka_security_protocol
            raise ValueError(f"KAFKA_SASL_USER is not set, and KAFKA_SECURITY_PROTOCOL is {protocol} (set it)")
        return self

    @property
    def _is_sasl(self) -> bool:
        return self.kafka_security_protocol.startswith("SASL")

    def asks_for(self, secret: str) -> bool:
        """Return whether a secret is needed: the password is, for the SASL protocols."""
        return self._is_sasl or secret != PASSWORD

    def client(self, secret: Callable[[str], SecretStr]) -> dict[str, Any]:
        """Return the settings of every client, by librdkafka's names.

        Raises
        ------
        SettingsError : the password is missing, and the protocol needs it.
        """
        client: dict[str, Any] = {
            "bootstrap.servers": self.kafka_bootstrap,
            "client.id": self.kafka_client_id,
            "log_level": 3,  # errors only: gates report everything else
            "security.protocol": self.kafka_security_protocol,
        }
        if self._is_sasl:
            client["sasl.mechanism"] = self.kafka_sasl_mech
            client["sasl.username"] = self.kafka_sasl_user
            client["sasl.password"] = secret(PASSWORD).get_secret_value()
        return client
