"""What follows from a manifest: names that belong to one run alone, the catalog it trades, the settings of its processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torghut_core.bus.topics import Topics
from torghut_core.calendars import session_at
from torghut_core.catalog import Catalog, Pipeline, content_digest, load
from torghut_core.errors import InputError, SettingsError
from torghut_core.generation import build, tape_source, use_tapes
from torghut_core.plugin_host import PluginHost
from torghut_core.research.backtests import load_catalog
from torghut_core.research.simulation.manifest import LATEST_TTL, Manifest, token_of
from torghut_core.research.stored.window import Window
from torghut_core.timestamps import DAY, MINUTE, format_timestamp, from_datetime, parse_timestamp

CHANNELS = ("trades", "quotes", "bars", "status", "microbars", "signals", "ta-status")

INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "TORGHUT_PLUGIN_PATH", "NUMBA_CACHE_DIR")
"""What a process of a simulation gets of this one's environment, with what begins as in `INHERITED_PREFIXES`: nothing real."""

INHERITED_PREFIXES = ("PYTHON", "LC_", "LD_")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A simulation, all of it decided and nothing done.

    Attributes
    ----------
    manifest, digest : what it is made from, and sha256 of that and of the catalog.
    run_id, token : its id, and that as a part of names.
    folder : where its artefacts go.
    session : the session, or the part of the day that the manifest names, ns; None on a day without a session.
    topics : by channel; of a simulation on tapes the names that stand for them in its artefacts.
    group : the consumer group of TA.
    database : the name of its databases, of signals and of audit.
    catalog_text : the catalog that it trades, as JSON.
    catalog_digest : of the catalog that the manifest names.
    """

    manifest: Manifest
    digest: str
    run_id: str
    token: str
    folder: Path
    session: Window | None
    topics: Mapping[str, str]
    group: str
    database: str
    catalog_text: str
    catalog_digest: str

    @property
    def window(self) -> Window | None:
        """What is played, ns: the session and the minutes before and after it that the manifest asks for."""
        if self.session is None:
            return None
        asked = self.manifest.window
        return Window(
            self.session.since - asked.prebuffer_minutes * MINUTE,
            self.session.until + asked.postbuffer_minutes * MINUTE,
        )

    @property
    def is_on_kafka(self) -> bool:
        """Whether it goes through Kafka and a ClickHouse server; otherwise through tapes and embedded stores."""
        return self.manifest.kafka is not None

    @property
    def dump(self) -> Path:
        """The events of the window, an envelope a line."""
        return self.folder / "source-dump.ndjson"

    @property
    def bus_tape(self) -> Path:
        """The same file under the name by which a tape source knows its format."""
        return self.folder / "bus" / "source-dump.jsonl"

    @property
    def catalog_path(self) -> Path:
        """Where the catalog of its processes is."""
        return self.folder / "catalog" / "catalog.yaml"

    def state(self, process: str) -> Path:
        """The state directory of one of its processes."""
        return self.folder / "state" / process

    @property
    def audit_url(self) -> str:
        """The SQLAlchemy URL of its audit database, with the password where there is one."""
        postgres = self.manifest.postgres
        if postgres is None:
            return f"sqlite:///{self.folder / 'state' / self.database}.db"
        return _with_password(
            postgres.simulation_dsn_template.replace("{database}", self.database), postgres.simulation_password_env
        )

    @property
    def admin_url(self) -> str | None:
        """The SQLAlchemy URL by which the audit database is made and dropped; None of one that is a file."""
        postgres = self.manifest.postgres
        return None if postgres is None else _with_password(postgres.admin_dsn, postgres.admin_password_env)

    def environment(self) -> dict[str, str]:
        """All settings of its processes, with secrets; nothing else is inherited but what `INHERITED` names."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in INHERITED or name.startswith(INHERITED_PREFIXES)
        }
        return kept | self.settings() | self._secrets() | {"DB_DSN": self.audit_url, "PYTHONUNBUFFERED": "1"}

    def settings(self) -> dict[str, str]:
        """The settings of its processes that are no secrets."""
        window = self.manifest.window
        kept_days = str((LATEST_TTL - window.trading_day).days)
        settings = {
            "ALPACA_MARKET_TYPE": "crypto" if window.profile == "crypto_24_7" else "equity",
            "TRADING_ENABLED": "true",
            "TRADING_MODE": "paper",
            "TRADING_SIGNAL_TABLE": f"{self.database}.ta_signals",
            "TRADING_PRICE_TABLE": f"{self.database}.ta_microbars",
            "TA_SIGNALS_TTL_DAYS": kept_days,
            "TA_MICROBARS_TTL_DAYS": kept_days,
            "TRADING_POLL_MS": "200",
            **self.manifest.torghut_env_overrides,
        }
        kafka, clickhouse = self.manifest.kafka, self.manifest.clickhouse
        if kafka is None or clickhouse is None:
            return settings
        settings |= {
            "KAFKA_BOOTSTRAP": kafka.bootstrap_servers,
            "KAFKA_SECURITY_PROTOCOL": kafka.security_protocol,
            "TA_GROUP_ID": self.group,
            "TA_CLICKHOUSE_URL": clickhouse.http_url,
            "TA_CLICKHOUSE_USERNAME": clickhouse.username,
        }
        return settings | {f"TOPIC_{_TOPIC_SETTINGS[channel]}": _bare(self.token, channel) for channel in CHANNELS}

    def _secrets(self) -> dict[str, str]:
        kafka, clickhouse = self.manifest.kafka, self.manifest.clickhouse
        named = {
            "KAFKA_SASL_USER": kafka and kafka.sasl_username_env,
            "KAFKA_SASL_PASSWORD": kafka and kafka.sasl_password_env,
            "TA_CLICKHOUSE_PASSWORD": clickhouse and clickhouse.password_env,
        }
        return {name: _from_environment(source) for name, source in named.items() if source}

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, without secrets."""
        window = self.window
        return {
            "run_id": self.run_id,
            "token": self.token,
            "dataset_id": self.manifest.dataset_id,
            "digest": self.digest,
            "folder": str(self.folder),
            "bus": "kafka" if self.is_on_kafka else "tapes",
            "window": None
            if window is None
            else {"start": format_timestamp(window.since), "end": format_timestamp(window.until)},
            "topics": dict(self.topics),
            "group": self.group,
            "database": self.database,
            "catalog_digest": self.catalog_digest,
            "settings": self.settings(),
            "manifest": self.manifest.content,
        }


_TOPIC_SETTINGS = {
    "trades": "TRADES",
    "quotes": "QUOTES",
    "bars": "BARS_1M",
    "status": "STATUS",
    "microbars": "TA_MICROBARS",
    "signals": "TA_SIGNALS",
    "ta-status": "TA_STATUS",
}


def _bare(token: str, channel: str) -> str:
    """The topic of a channel before ``sim.`` is put into it, as the setting has it."""
    return Topics.model_construct().of(channel).replace("torghut.", f"torghut.{token}.", 1)


def make_plan(manifest: Manifest, host: PluginHost, run_id: str | None = None) -> Plan:
    """Decide all of a simulation.

    Parameters
    ----------
    host : the plugins that the manifest's catalog may use.
    run_id : its id; ``sim-DAY-1`` where None.

    Raises
    ------
    CatalogError : the catalog is wrong, or a plugin cannot be made.
    InputError : it has nothing to trade, or the id is none.
    """
    day = manifest.window.trading_day
    run_id = run_id or f"sim-{day:%Y%m%d}-1"
    token = token_of(run_id)
    folder = manifest.runtime.output_root / run_id
    clickhouse = manifest.clickhouse
    database = (clickhouse and clickhouse.simulation_database) or f"torghut_sim_{token}"
    topics = {channel: _bare(token, channel).replace("torghut.", "torghut.sim.", 1) for channel in CHANNELS}
    group = f"torghut-ta-sim-{token}"
    given = load_catalog(manifest.catalog)
    tape = folder / "bus" / "source-dump.jsonl"
    catalog = _on_kafka(given, host, tape, manifest) if manifest.kafka else _on_tapes(given, host, tape, manifest)
    text = json.dumps(catalog.model_dump(mode="json", exclude_none=True), indent=2, sort_keys=True)
    made = build(load({"catalog.yaml": text}), host)
    if made.broker is None or not made.strategies:
        raise InputError(f"the catalog {manifest.catalog} has no strategy and broker: nothing to simulate")
    return Plan(
        manifest=manifest,
        digest=content_digest([manifest.content, given.digest]),
        run_id=run_id,
        token=token,
        folder=folder,
        session=session_of(manifest),
        topics=MappingProxyType(topics),
        group=group,
        database=database,
        catalog_text=text,
        catalog_digest=given.digest,
    )


def session_of(manifest: Manifest) -> Window | None:
    """The part of the day that counts: as the manifest says, else the session of its profile; None where the market is closed."""
    window = manifest.window
    start, end = window.start, window.end
    if start is not None and end is not None:
        return _window(parse_timestamp(start), parse_timestamp(end))
    day = window.trading_day
    midnight = from_datetime(datetime(day.year, day.month, day.day, tzinfo=UTC))
    opens, closes = midnight, midnight + DAY
    if window.profile == "us_equities_regular":
        session = session_at("XNYS", midnight)
        if session is None or session.opens >= midnight + DAY:
            return None
        opens, closes = session
    return _window(opens if start is None else parse_timestamp(start), closes if end is None else parse_timestamp(end))


def _window(since: int, until: int) -> Window:
    if since >= until:
        raise InputError(
            f"the window ends at {format_timestamp(until)}, not after its start, {format_timestamp(since)} (change window.start or window.end)"
        )
    return Window(since, until)


def _stages(catalog: Catalog) -> tuple[Any, ...]:
    """The stages that derive signals: of TA, where the catalog has that apart."""
    for name in ("ta", "trading"):
        parts = catalog.pipelines.get(name)
        if parts is not None and parts.stages:
            return parts.stages
    return ()


def _on_tapes(catalog: Catalog, host: PluginHost, tape: Path, manifest: Manifest) -> Catalog:
    """The catalog with one pipeline: from the tape through the stages to the simulated broker."""
    params = {"paths": [str(tape)], "speed": manifest.replay.speed, "follow": False}
    made = use_tapes(catalog, host, params)
    parts = made.pipelines.get("trading")
    if parts is None:
        raise InputError(f"the catalog {manifest.catalog} has no pipeline `trading`: nothing to simulate")
    trading = Pipeline.model_validate(parts.model_dump() | {"stages": [each.model_dump() for each in _stages(catalog)]})
    return made.with_(pipelines=MappingProxyType({"trading": trading}))


def _on_kafka(catalog: Catalog, host: PluginHost, tape: Path, manifest: Manifest) -> Catalog:
    """The catalog with its three pipelines on simulated topics, from the tape to the simulated broker."""
    parts = {name: catalog.pipelines.get(name) for name in ("forwarder", "ta", "trading")}
    for name, found in parts.items():
        if found is None or (name != "trading" and found.sink is None):
            raise InputError(
                f"the catalog {manifest.catalog} has no pipeline `{name}` that goes through Kafka (see catalog/live.yaml)"
            )
    old = {name: found.model_dump() for name, found in parts.items() if found is not None}
    source = {"use": tape_source(host), "params": {"paths": [str(tape)], "speed": manifest.replay.speed}}
    sim = {"simulated": True}
    simulated = use_tapes(catalog, host, {}).pipelines["trading"].broker
    pipelines = {
        "forwarder": {"source": source, "sink": _changed(old["forwarder"]["sink"], sim)},
        "ta": old["ta"]
        | {
            "source": _changed(old["ta"]["source"], sim | {"start": "earliest"}),
            "sink": _changed(old["ta"]["sink"], sim),
        },
        "trading": old["trading"]
        | {
            "source": _changed(old["trading"]["source"], {"start": "earliest", "fresh_after_s": None}),
            "broker": None if simulated is None else simulated.model_dump(),
        },
    }
    made = {name: Pipeline.model_validate(each) for name, each in pipelines.items()}
    return catalog.with_(pipelines=MappingProxyType(made))


def _changed(use: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    return {**use, "params": {**use["params"], **params}}


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set, and the manifest names it as where a secret is (set it)")
    return value


def _with_password(dsn: str, name: str | None) -> str:
    """A DSN with `{password}` as the environment has it."""
    return dsn.replace("{password}", _from_environment(name)) if name else dsn
