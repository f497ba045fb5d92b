"""Settings from the environment, with the names and defaults that deployments rely on.

Every setting is one environment variable of the same name. A secret may also come from a file that ``NAME_FILE``
names; secrets are never shown, logged or written down.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from torghut_core.errors import SettingsError, hide
from torghut_core.model.trading import Limits


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads ``NAME_FILE`` for every secret."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE")
        if path is None or field.annotation not in (SecretStr, SecretStr | None):
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except OSError as error:
            name = f"{field_name.upper()}_FILE"
            raise SettingsError(f"{name}: {error.strerror} ({path}): mount the secret there or unset {name}") from error

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


class Environment(BaseSettings):
    """Settings that come from environment variables of the same names: a plugin's own, by a subclass.

    A field that is a `SecretStr` may also come from a file that ``NAME_FILE`` names.

    Examples
    --------
    >>> class Sea(Environment):
    ...     sea_depth_m: int = 11000
    >>> Sea.read().sea_depth_m
    11000
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True, env_ignore_empty=True)

    @classmethod
    def read(cls) -> Self:
        """The settings of this process's environment.

        Raises
        ------
        SettingsError : a variable that does not parse; names it, says what is allowed, and never shows a secret.
        """
        try:
            settings = cls()
        except ValidationError as error:
            lines = [
                f"{str(problem['loc'][0]).upper()}: {problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False)
            ]
            raise SettingsError("\n".join(lines)) from None
        for name in cls.model_fields:
            value = getattr(settings, name)
            if isinstance(value, SecretStr):
                for part in _parts(value.get_secret_value()):
                    hide(part)
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes all five
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - see above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then secret files."""
        return init_settings, env_settings, _SecretFiles(settings_cls)


class Settings(Environment):
    """What the environment says to the kernel."""

    trading_enabled: bool = Field(default=False, description="whether `torghut run` may send orders at all")
    trading_mode: Literal["paper", "live"] = Field(default="paper", description="live needs the other two keys too")
    trading_live_enabled: bool = Field(default=False, description="the second key to live trading")
    trading_live_account: str = Field(
        default="", description="the third key: number of the account that may be traded with real money"
    )
    trading_reconcile_ms: int = Field(
        default=15000, ge=100, description="how often our books are held against the venue's, milliseconds"
    )
    trading_signal_source: Literal["clickhouse"] = Field(
        default="clickhouse", description="where the loop reads signals"
    )
    trading_signal_table: str = Field(default="torghut.ta_signals", description="database.table of the signals")
    trading_signal_schema: Literal["auto", "envelope", "flat"] = Field(
        default="auto", description="shape of the signal table: payload in JSON (envelope) or a column per value (flat)"
    )
    trading_price_table: str = Field(default="torghut.ta_microbars", description="database.table of the microbars")
    trading_price_lookback_minutes: int = Field(
        default=5, ge=1, description="how old a price may be to trade on, minutes"
    )
    trading_max_notional_per_trade: Decimal | None = Field(
        default=None,
        gt=0,
        description="cap on price x quantity of one order where a strategy states none, quote currency",
    )
    trading_max_position_pct_equity: Decimal | None = Field(
        default=None,
        gt=0,
        le=1,
        description="cap on a position as a share of equity where a strategy states none, 0 to 1",
    )
    trading_cooldown_seconds: int = Field(
        default=0, ge=0, description="pause between entries where a strategy states none, seconds"
    )
    trading_allow_shorts: bool = Field(default=False, description="whether a position may fall below zero")
    trading_strategy_config_path: Path | None = Field(
        default=None, description="the catalog where --catalog is not given"
    )
    trading_strategy_reload_seconds: float = Field(
        default=10, gt=0, description="how often catalog and plugins are looked at, whatever the watcher says, seconds"
    )
    trading_plugin_budget_ms: int = Field(
        default=1000, ge=10, description="what a plugin may take of one batch before it is interrupted, milliseconds"
    )
    trading_stalled_seconds: float = Field(
        default=30, gt=0, description="after how long a loop that does not come back makes `/healthz` unwell, seconds"
    )
    torghut_plugin_path: str = Field(default="", description="folders of plugin modules, separated like those in PATH")
    ta_clickhouse_url: str | None = Field(
        default=None, description="a ClickHouse server for microbars and signals; embedded without it"
    )
    ta_clickhouse_username: str = Field(default="default", description="user at TA_CLICKHOUSE_URL")
    ta_clickhouse_password: SecretStr | None = Field(default=None, description="password at TA_CLICKHOUSE_URL")
    ta_microbars_ttl_days: int = Field(default=30, ge=1, description="how long a server keeps microbars, days")
    ta_signals_ttl_days: int = Field(default=14, ge=1, description="how long a server keeps signals, days")
    db_dsn: SecretStr | None = Field(
        default=None, description="the audit database; a SQLite file in the state directory without it"
    )
    admin_tokens: SecretStr | None = Field(
        default=None, description="who may use the admin API: `actor:role:token` between commas or newlines"
    )
    admin_hosts: str = Field(
        default="", description="names that the admin API may be asked for on a loopback address, between commas"
    )
    torghut_token: SecretStr | None = Field(
        default=None, description="the token that `torghut catalog` sends to the admin API of a running kernel"
    )

    @property
    def is_live(self) -> bool:
        """Whether real money may be traded: all three switches are set. Anything less means paper."""
        return self.trading_mode == "live" and self.trading_live_enabled and bool(self.trading_live_account)

    @property
    def plugin_folders(self) -> tuple[Path, ...]:
        """The folders of ``TORGHUT_PLUGIN_PATH``."""
        return tuple(Path(folder) for folder in self.torghut_plugin_path.split(os.pathsep) if folder)

    @property
    def limits(self) -> Limits:
        """Limits of strategies that state none."""
        return Limits(
            self.trading_max_notional_per_trade, self.trading_max_position_pct_equity, self.trading_cooldown_seconds
        )


def secret(name: str) -> SecretStr:
    """A secret that is not a setting of the kernel's, such as a broker's key, by the name of its variable.

    Raises
    ------
    SettingsError : neither the variable nor ``NAME_FILE`` is set, or the file cannot be read.
    """
    path = os.environ.get(f"{name}_FILE")
    try:
        value = os.environ.get(name) or (Path(path).read_text(encoding="utf-8").rstrip("\r\n") if path else "")
    except OSError as error:
        raise SettingsError(
            f"{name}_FILE: {error.strerror} ({path}): mount the secret there or unset {name}_FILE"
        ) from error
    if not value:
        raise SettingsError(f"{name} is not set (set it, or {name}_FILE to a file that holds it)")
    hide(value)
    return SecretStr(value)


def load_settings() -> Settings:
    """The kernel's settings, see `Environment.read`."""
    return Settings.read()


def _parts(secret: str) -> list[str]:
    """What is secret in a secret: the tokens of ``ADMIN_TOKENS``, the password of a DSN, or all of it."""
    if "://" in secret:
        user = secret.partition("://")[2].rpartition("@")[0]
        return [user.partition(":")[2]]
    return [part.rpartition(":")[2] for part in secret.replace(",", " ").split()]
