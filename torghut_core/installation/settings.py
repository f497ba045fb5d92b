"""The kernel's settings, with the names and defaults that deployments rely on; see `environment`."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from torghut_core.environment import Environment
from torghut_core.model.trading import Limits


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
    ta_clickhouse_apply_ttl: bool | None = Field(
        default=None,
        description="whether tables that are there get these days, also where that deletes rows; unset: where it deletes none",
    )
    ta_clickhouse_flush_ms: int = Field(
        default=50, ge=10, description="how long a derived row may wait for others before it is stored, milliseconds"
    )
    ta_clickhouse_min_free_bytes: int = Field(
        default=1 << 30, ge=0, description="below so much free disk of the signal store nothing is written, bytes"
    )
    ta_clickhouse_resume_free_bytes: int | None = Field(
        default=None, ge=0, description="from so much on it is written again, bytes; a quarter more than the minimum"
    )
    ta_freshness_max_seconds: float = Field(
        default=120, gt=0, description="how old the newest stored row may be before `/readyz` says so, seconds"
    )
    ta_state_url: str = Field(
        default="",
        description="where stages keep their state: a folder or s3:// address; the state directory without it",
    )
    ta_checkpoint_ms: int = Field(
        default=1000, ge=50, description="how often rows, states and offsets are made durable, milliseconds"
    )
    ta_status_ms: int = Field(
        default=1000, ge=50, description="how often the TA pipeline says how far it is, milliseconds"
    )
    health_not_ready_kill_after_ms: int = Field(
        default=300_000, ge=0, description="after so long not ready `/healthz` fails, milliseconds; 0 for never"
    )
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


def load_settings() -> Settings:
    """The kernel's settings, see `Environment.read`."""
    return Settings.read()
