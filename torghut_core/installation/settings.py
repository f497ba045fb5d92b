"""The kernel's settings, with the names and defaults that deployments rely on; see `environment`."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from torghut_core.catalog.marked_yaml import MAX_DIGITS
from torghut_core.environment import Environment
from torghut_core.model.trading import Limits


class Settings(Environment):
    """The kernel's settings, each from the environment variable of its name."""

    trading_enabled: bool = Field(default=False, description="whether `torghut run` may send orders")
    trading_kill_switch_enabled: bool = Field(
        default=False,
        description="true halts trading at the start, as `torghut kill` does; no release is accepted while it is set",
    )
    trading_emergency_stop_enabled: bool = Field(default=False, description="the same as TRADING_KILL_SWITCH_ENABLED")
    trading_mode: Literal["paper", "live"] = Field(
        default="paper",
        description="paper or live; live trading needs TRADING_LIVE_ENABLED and TRADING_LIVE_ACCOUNT too",
    )
    trading_live_enabled: bool = Field(
        default=False,
        description="whether live trading is allowed; needs TRADING_MODE=live and TRADING_LIVE_ACCOUNT too",
    )
    trading_live_account: str = Field(
        default="", description="number of the account that may be traded with real money; without it trading is paper"
    )
    trading_reconcile_ms: int = Field(
        default=15000,
        ge=100,
        description="pause between two reconciliations of positions and orders with the venue, milliseconds",
    )
    trading_snapshot_seconds: int = Field(
        default=60,
        ge=0,
        description="market time between two rows of equity and positions in `position_snapshots`, seconds; 0: none",
    )
    trading_state_seconds: float = Field(
        default=10,
        ge=0,
        description="seconds between two snapshots of what stages, features and strategies know, from which a restart resumes;"
        " 0: none",
    )
    trading_signal_source: Literal["clickhouse"] = Field(
        default="clickhouse",
        description="has no effect: the seed fixes this name and value, and the catalog says where signals come from",
    )
    trading_signal_table: str = Field(
        default="torghut.ta_signals", description="table of the signals, as database.table"
    )
    trading_signal_schema: Literal["auto", "envelope", "flat"] = Field(
        default="auto",
        description="shape of the signal table: JSON payload (envelope), a column per value (flat), or detected (auto)",
    )
    trading_price_table: str = Field(
        default="torghut.ta_microbars", description="table of the microbars, as database.table"
    )
    trading_price_lookback_minutes: int = Field(
        default=5, ge=1, description="age up to which a price may be traded on, minutes"
    )
    trading_price_band: Decimal = Field(
        default=Decimal("0.5"),
        gt=0,
        description="how far the price of an entry may be from the prices before it and from the quote, as a share of these",
    )
    trading_price_collar: Decimal = Field(
        default=Decimal("0.005"),
        ge=0,
        le=1,
        description="how much above the reference price an order without a limit is judged, as a share of it",
    )
    trading_max_notional_per_trade: Decimal | None = Field(
        default=None,
        gt=0,
        max_digits=MAX_DIGITS,
        description="largest price x quantity of one order where a strategy states none, quote currency",
    )
    trading_max_position_pct_equity: Decimal | None = Field(
        default=None,
        gt=0,
        le=1,
        max_digits=MAX_DIGITS,
        description="largest position as a fraction of equity where a strategy states none, 0 to 1",
    )
    trading_cooldown_seconds: int = Field(
        default=0, ge=0, description="pause after an order before the next entry where a strategy states none, seconds"
    )
    trading_allow_shorts: bool = Field(default=False, description="whether a position may be short (below zero)")
    trading_strategy_config_path: Path | None = Field(
        default=None, description="catalog file or folder to use without --catalog"
    )
    trading_strategy_reload_seconds: float = Field(
        default=10,
        gt=0,
        description="pause between two checks of catalog and plugins for changes that the watcher missed, seconds",
    )
    trading_plugin_budget_ms: int = Field(
        default=1000,
        ge=10,
        description="processor time that a plugin may use within one batch before it is interrupted, milliseconds",
    )
    trading_stalled_seconds: float = Field(
        default=30, gt=0, description="how long the trading loop may stall before `/healthz` fails, seconds"
    )
    torghut_plugin_path: str = Field(default="", description="folders of plugin modules, separated like those in PATH")
    ta_clickhouse_url: str | None = Field(
        default=None,
        description="address of the ClickHouse server for microbars and signals, http(s):// or jdbc:clickhouse://;"
        " the embedded store without it",
    )
    ta_clickhouse_username: str = Field(default="torghut", description="user at TA_CLICKHOUSE_URL")
    ta_clickhouse_cluster: str = Field(
        default="",
        pattern=r"^(\{cluster\}|[A-Za-z0-9_.-]*)$",
        description="ClickHouse cluster on whose servers torghut makes its tables, replicated; unset: on one server",
    )
    ta_clickhouse_password: SecretStr | None = Field(default=None, description="password at TA_CLICKHOUSE_URL")
    ta_microbars_ttl_days: int = Field(default=30, ge=1, description="how long microbars are kept, days")
    ta_signals_ttl_days: int = Field(default=14, ge=1, description="how long signals are kept, days")
    ta_clickhouse_apply_ttl: bool | None = Field(
        default=None,
        description="whether existing tables get the new days, even if that deletes rows; unset: only if it deletes none",
    )
    ta_clickhouse_flush_ms: int = Field(
        default=50, ge=10, description="how long a derived row may wait to be stored together with others, milliseconds"
    )
    ta_clickhouse_min_free_bytes: int = Field(
        default=1 << 30, ge=0, description="free disk of the signal store below which nothing is written, bytes"
    )
    ta_clickhouse_resume_free_bytes: int | None = Field(
        default=None,
        ge=0,
        description="free disk from which writing resumes, bytes; without it a quarter more than the minimum",
    )
    ta_freshness_max_seconds: float = Field(
        default=120, gt=0, description="age of the newest stored row above which `/readyz` reports stale data, seconds"
    )
    ta_state_url: str = Field(
        default="",
        description="where stages keep their state: a folder or an s3:// address; the state directory without it",
    )
    ta_checkpoint_ms: int = Field(
        default=1000, ge=50, description="pause between two checkpoints of rows, states and offsets, milliseconds"
    )
    ta_status_ms: int = Field(
        default=1000, ge=50, description="pause between two status messages of the TA pipeline, milliseconds"
    )
    health_not_ready_kill_after_ms: int = Field(
        default=300_000,
        ge=0,
        description="how long a process may be not ready before `/healthz` fails, milliseconds; 0: for ever",
    )
    db_dsn: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL of the audit database; a SQLite file in the state directory without it",
    )
    llm_enabled: bool = Field(
        default=False,
        description="must be false: there is no AI advisor yet; the other LLM_* settings are accepted and have no effect",
    )
    admin_tokens: SecretStr | None = Field(
        default=None, description="who may use the admin API: `actor:role:token`, separated by commas or newlines"
    )
    admin_hosts: str = Field(
        default="",
        description="host names under which the admin API may be called on a loopback address, separated by commas",
    )
    torghut_author: str = Field(
        default="", description="who is written down as the author of experiments; the user's login name where empty"
    )
    torghut_token: SecretStr | None = Field(
        default=None, description="token that commands send to the admin API of a running kernel"
    )

    @model_validator(mode="after")
    def _check_cluster(self) -> Self:
        if self.ta_clickhouse_cluster and not self.ta_clickhouse_url:
            raise ValueError(
                "TA_CLICKHOUSE_CLUSTER is set, and TA_CLICKHOUSE_URL is not: an embedded store has no cluster"
            )
        return self

    @field_validator("llm_enabled")
    @classmethod
    def _check_llm(cls, is_enabled: bool) -> bool:
        if is_enabled:
            raise ValueError("there is no AI advisor yet: set it to false")
        return is_enabled

    @property
    def halted_by(self) -> str:
        """The setting that halts trading as long as it is set, "" where none does."""
        if self.trading_kill_switch_enabled:
            return "TRADING_KILL_SWITCH_ENABLED"
        return "TRADING_EMERGENCY_STOP_ENABLED" if self.trading_emergency_stop_enabled else ""

    @property
    def is_live(self) -> bool:
        """Whether real money may be traded: mode, enabled and account are all set. Anything less means paper."""
        return self.trading_mode == "live" and self.trading_live_enabled and bool(self.trading_live_account)

    @property
    def plugin_folders(self) -> tuple[Path, ...]:
        """The folders of ``TORGHUT_PLUGIN_PATH``."""
        return tuple(Path(folder) for folder in self.torghut_plugin_path.split(os.pathsep) if folder)

    @property
    def limits(self) -> Limits:
        """The limits of strategies that state none."""
        return Limits(
            self.trading_max_notional_per_trade, self.trading_max_position_pct_equity, self.trading_cooldown_seconds
        )


def load_settings() -> Settings:
    """Read the kernel's settings, see `Environment.read`."""
    return Settings.read()
