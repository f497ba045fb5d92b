"""How Kafka is reached: ``KAFKA_*``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from torghut_core import Environment

PASSWORD = "KAFKA_SASL_PASSWORD"  # noqa: S105 - the name of the setting


class KafkaSettings(Environment):
    """What the environment says of Kafka; the password is a secret that the kernel hands over."""

    kafka_bootstrap: str = Field(default="", description="host:port of one or more brokers, between commas")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how brokers are talked to"
    )
    kafka_sasl_user: str = Field(default="", description="user, where the protocol is one of SASL")
    kafka_sasl_mech: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        default="SCRAM-SHA-512", description="how the user proves who he is"
    )
    kafka_client_id: str = Field(default="torghut", description="what brokers call this process in their logs")
    kafka_linger_ms: int = Field(
        default=30, ge=0, le=10_000, description="how long a record waits for others to travel with, milliseconds"
    )
    kafka_group_id: str = Field(default="torghut", description="the group whose members share the partitions")

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
        """The password is asked for where the protocol is one of SASL."""
        return self._is_sasl or secret != PASSWORD

    def client(self, secret: Callable[[str], SecretStr]) -> dict[str, Any]:
        """The settings of every client, in librdkafka's words.

        Raises
        ------
        SettingsError : no password where the protocol asks for it.
        """
        client: dict[str, Any] = {
            "bootstrap.servers": self.kafka_bootstrap,
            "client.id": self.kafka_client_id,
            "log_level": 3,  # errors: what else there is to say, gates do
            "security.protocol": self.kafka_security_protocol,
        }
        if self._is_sasl:
            client["sasl.mechanism"] = self.kafka_sasl_mech
            client["sasl.username"] = self.kafka_sasl_user
            client["sasl.password"] = secret(PASSWORD).get_secret_value()
        return client
