"""The manifest of a simulation: a YAML file, each error with its line."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from torghut_core.catalog.marked_yaml import Node, parse
from torghut_core.catalog.problems import Mark, Marks, key_below
from torghut_core.errors import CatalogError, InputError, Problem
from torghut_core.timestamps import parse_timestamp

LARGEST = 1 << 20
"""Bytes of a manifest at most."""

LATEST_TTL = date(2105, 1, 1)
"""Until when rows of a simulation are kept: the day may be long ago, and ClickHouse's TTL ends in 2106."""

OVERRIDABLE = frozenset(
    {
        "TRADING_ALLOW_SHORTS",
        "TRADING_COOLDOWN_SECONDS",
        "TRADING_MAX_NOTIONAL_PER_TRADE",
        "TRADING_MAX_POSITION_PCT_EQUITY",
        "TRADING_PLUGIN_BUDGET_MS",
        "TRADING_PRICE_BAND",
        "TRADING_PRICE_COLLAR",
        "TRADING_PRICE_LOOKBACK_MINUTES",
        "TA_MAX_OUT_OF_ORDER_MS",
        "TA_QUOTE_STALE_AFTER_MS",
    }
)
"""Settings that a manifest may change: nothing that decides where orders and rows go."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(_Part):
    """The part of a day that is simulated, and how much of it the data has to cover."""

    profile: Literal["us_equities_regular", "crypto_24_7"] = "us_equities_regular"
    trading_day: date = Field(ge=date(1970, 1, 2), lt=LATEST_TTL)
    timezone: Literal["America/New_York", "UTC"] = "America/New_York"
    start: str | None = None
    end: str | None = None
    prebuffer_minutes: int = Field(default=0, ge=0, le=1440)
    postbuffer_minutes: int = Field(default=0, ge=0, le=1440)
    min_coverage_minutes: int = Field(default=390, ge=0)
    strict_coverage_ratio: float = Field(default=0.95, ge=0, le=1)

    @field_validator("start", "end")
    @classmethod
    def _check_time(cls, text: str | None) -> str | None:
        if text is not None:
            parse_timestamp(text)
        return text


class Kafka(_Part):
    """The brokers of the simulated topics."""

    bootstrap_servers: str = Field(min_length=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_username_env: str | None = None
    sasl_password_env: str | None = None
    default_partitions: int = Field(default=3, ge=1, le=1024)
    replication_factor: int = Field(default=1, ge=1, le=16)


class ClickHouse(_Part):
    """The server of the simulated signals."""

    http_url: str = Field(min_length=1)
    username: str = "torghut"
    password_env: str | None = None
    simulation_database: str | None = Field(default=None, pattern=r"^torghut_sim_[a-z0-9_]{1,60}$")


class Postgres(_Part):
    """The server of the simulated audit database; `{database}` in the template is its name, `{password}` the one of the environment.

    `admin_dsn` is of a user who may make and drop databases.
    """

    admin_dsn: str
    simulation_dsn_template: str = Field(pattern=r"\{database\}")
    admin_password_env: str | None = None
    simulation_password_env: str | None = None


class Runtime(_Part):
    """Where it runs, and where its artefacts go."""

    target_mode: Literal["dedicated_service"] = "dedicated_service"
    namespace: Name = "torghut"
    ta_configmap: Name = "torghut-ta-sim-config"
    ta_deployment: Name = "torghut-ta-sim"
    torghut_service: Name = "torghut-sim"
    image: str = "torghut:latest"
    output_root: Path = Path("artifacts/torghut/simulations")


class Replay(_Part):
    """The pace at which the day is played."""

    pace_mode: Literal["event_time", "accelerated", "max_throughput"] = "max_throughput"
    acceleration: Decimal = Field(default=Decimal(60), gt=0)

    @property
    def speed(self) -> str:
        """The pace as a tape source takes it."""
        if self.pace_mode == "max_throughput":
            return "max"
        return "1x" if self.pace_mode == "event_time" else f"{self.acceleration:f}x"


class Monitor(_Part):
    """How long to wait, and what has to have come by then."""

    timeout_seconds: float = Field(default=1200, gt=0)
    poll_seconds: float = Field(default=20, gt=0)
    min_trade_decisions: int = Field(default=1, ge=0)
    min_executions: int = Field(default=1, ge=0)
    min_execution_tca_metrics: int = Field(default=1, ge=0)
    min_execution_order_events: int = Field(default=1, ge=0)
    cursor_grace_seconds: float = Field(default=120, ge=0)


class ArgoCd(_Part):
    """The application that a run in the cluster pauses."""

    manage_automation: bool = False
    applicationset_name: Name = "torghut"
    app_name: Name = "torghut"
    desired_mode_during_run: Literal["manual"] = "manual"
    restore_mode_after_run: Literal["previous", "auto", "manual"] = "previous"
    verify_timeout_seconds: int = Field(default=600, ge=1)


class Rollouts(_Part):
    """Names of the gates in the cluster."""

    runtime_template: Name = "torghut-simulation-runtime-ready"
    activity_template: Name = "torghut-simulation-activity"
    teardown_template: Name = "torghut-simulation-teardown-clean"
    artifact_template: Name = "torghut-simulation-artifact-bundle"


class Reporting(_Part):
    """Costs that the report charges besides the venue's."""

    commission_bps: Decimal = Field(default=Decimal(0), ge=0)
    per_trade_fee: Decimal = Field(default=Decimal(0), ge=0)


class Manifest(_Part):
    """What a simulation is to do. Paths are taken from the manifest's folder; ``{day}`` in that of a tape is the trading day, 20260105."""

    dataset_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    catalog: Path
    tapes: tuple[Path, ...] = Field(min_length=1)
    window: Window
    kafka: Kafka | None = None
    clickhouse: ClickHouse | None = None
    postgres: Postgres | None = None
    runtime: Runtime = Runtime()
    replay: Replay = Replay()
    monitor: Monitor = Monitor()
    argocd: ArgoCd = ArgoCd()
    rollouts: Rollouts = Rollouts()
    reporting: Reporting = Reporting()
    torghut_env_overrides: dict[str, str] = {}

    @field_validator("torghut_env_overrides")
    @classmethod
    def _check_overrides(cls, given: dict[str, str]) -> dict[str, str]:
        if wrong := sorted(given.keys() - OVERRIDABLE):
            raise ValueError(f"{', '.join(wrong)} may not be changed here (use {', '.join(sorted(OVERRIDABLE))})")
        return given

    @model_validator(mode="after")
    def _check_bus(self) -> Self:
        if (self.kafka is None) != (self.clickhouse is None):
            raise ValueError("kafka and clickhouse go together (give both, or neither for a simulation on tapes)")
        return self

    @property
    def content(self) -> dict[str, Any]:
        """The manifest with its defaults, as JSON values."""
        return self.model_dump(mode="json")


def load_manifest(path: Path, day: date | None = None) -> Manifest:
    """Read a manifest, of its own trading day or of another.

    Raises
    ------
    CatalogError : it is wrong; every problem with file, line and column.
    InputError : it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"manifest {path} cannot be read: {error} (give --manifest FILE)") from error
    if len(text) > LARGEST:
        raise InputError(f"manifest {path} has more than {LARGEST:,} bytes")
    node = parse(str(path), text)
    of: dict[str, Mark] = {}
    problems: list[Problem] = []
    content = _plain(node, "", of, problems)
    if not isinstance(content, dict):
        raise CatalogError([Problem(*node.place, "", "is not a map of keys", "begin with `dataset_id: ...`")])
    marks = Marks(of)
    if day is not None:
        content = _of_day(content, day)
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise CatalogError([*problems, *marks.problems(error, Manifest)]) from None
    if problems:
        raise CatalogError(problems)
    return manifest.model_copy(update=_paths(manifest, path.absolute().parent))


def _of_day(content: dict[str, Any], day: date) -> dict[str, Any]:
    """The content of a manifest for another day; a part of one day is none of another."""
    window = content.get("window")
    if isinstance(window, dict):
        if given := [name for name in ("start", "end") if window.get(name) is not None]:
            raise InputError(f"window.{given[0]} is a time of one day (leave it out where there are several)")
        content = content | {"window": window | {"trading_day": day}}
    return content | {"dataset_id": f"torghut-trades-{day:%Y%m%d}"}


def _paths(manifest: Manifest, folder: Path) -> dict[str, Any]:
    output = manifest.runtime.output_root
    day = f"{manifest.window.trading_day:%Y%m%d}"
    return {
        "catalog": folder / manifest.catalog,
        "tapes": tuple(folder / str(tape).replace("{day}", day) for tape in manifest.tapes),
        "runtime": manifest.runtime.model_copy(update={"output_root": folder / output}),
    }


def _plain(node: Node, path: str, of: dict[str, Mark], problems: list[Problem]) -> Any:
    """The plain value of a node; fills in `of`, and adds what may not be in any file."""
    of[path] = Mark(node.key or node.place, node.place, node.text)
    if node.complaint:
        problems.append(Problem(*node.place, path, *node.complaint))
    problems += (Problem(*place, key_below(path, key), *complaint) for key, place, *complaint in node.key_complaints)
    if isinstance(node.value, list):
        return [_plain(inner, key_below(path, number), of, problems) for number, inner in enumerate(node.value)]
    if isinstance(node.value, dict):
        return {key: _plain(inner, key_below(path, key), of, problems) for key, inner in node.value.items()}
    return node.value


def token_of(run_id: str) -> str:
    """A run's id as a part of the names of databases and topics.

    Raises
    ------
    InputError : it has other characters than letters, digits, ``.``, ``_`` and ``-``, or more than 48.

    Examples
    --------
    >>> token_of("sim-20260105-1")
    'sim_20260105_1'
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}", run_id):
        raise InputError(
            f"--run-id {run_id!r} is not an id (use letters, digits and . _ -, at most 48, like sim-20260105-1)"
        )
    return re.sub(r"[^a-z0-9]", "_", run_id.lower())
