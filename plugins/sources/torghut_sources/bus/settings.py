"""The settings of Kafka: ``KAFKA_*``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from torghut_core import Environment

PASSWORD = "KAFKA_SASL_PASSWORD"  # noqa: S105 - the name of the setting


class KafkaSettings(Environment):
    """The environment variables of Kafka; the password is a secret that the kernel hands over."""

    kafka_bootstrap: str = Field(default="", description="host:port of one or more brokers, comma-separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = Field(
        default=None,
        description="security protocol of the brokers; unset: SASL_SSL where KAFKA_SASL_USER is set, else PLAINTEXT",
    )
    kafka_ssl_ca_location: Path | None = Field(
        default=None,
        description="file of the certificates (PEM) that sign the brokers', for SSL and SASL_SSL; unset: the system's",
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
    ta_group_id: str = Field(default="", description="the consumer group, instead of KAFKA_GROUP_ID")
    kafka_acks: Literal["all", "-1"] = Field(
        default="all", description="acknowledgements that a record waits for: always those of all replicas in sync"
    )
    kafka_compression: Literal["lz4"] = Field(default="lz4", description="compression of records: always lz4")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.kafka_bootstrap:
            raise ValueError("KAFKA_BOOTSTRAP is not set (set it to host:port of a broker)")
        protocol = self.security_protocol
        if self._is_sasl and not self.kafka_sasl_user:
            raise ValueError(f"KAFKA_SASL_USER is not set, and KAFKA_SECURITY_PROTOCOL is {protocol} (set it)")
        if self.kafka_ssl_ca_location is not None:
            if not protocol.endswith("SSL"):
                raise ValueError(
                    f"KAFKA_SSL_CA_LOCATION is set, and KAFKA_SECURITY_PROTOCOL is {protocol}, which has no certificates"
                    " (use SASL_SSL or SSL)"
                )
            if not self.kafka_ssl_ca_location.is_file():
                raise ValueError(
                    f"KAFKA_SSL_CA_LOCATION: there is no file {self.kafka_ssl_ca_location} (mount the certificates there)"
                )
        if self.ta_group_id and self.ta_group_id != self.kafka_group_id and "kafka_group_id" in self.model_fields_set:
            raise ValueError("TA_GROUP_ID and KAFKA_GROUP_ID name two consumer groups (set one of them)")
        return self

    @property
    def security_protocol(self) -> str:
        """The protocol: a user is never left out, nor a password sent where others can read it, unless that is said."""
        return self.kafka_security_protocol or ("SASL_SSL" if self.kafka_sasl_user else "PLAINTEXT")

    @property
    def group_id(self) -> str:
        """The consumer group."""
        return self.ta_group_id or self.kafka_group_id

    @property
    def _is_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

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
            "security.protocol": self.security_protocol,
        }
        if self.kafka_ssl_ca_location is not None:
            client["ssl.ca.location"] = str(self.kafka_ssl_ca_location)
        if self._is_sasl:
            client["sasl.mechanism"] = self.kafka_sasl_mech
            client["sasl.username"] = self.kafka_sasl_user
            client["sasl.password"] = secret(PASSWORD).get_secret_value()
        return client
