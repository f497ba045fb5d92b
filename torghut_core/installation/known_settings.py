"""All settings: whose they are, what is in force and where from, and the names in the environment that nothing reads.

A name with one of our `PREFIXES` that neither the kernel nor a plugin has is refused at the start, and so is one that
differs from a known name by a slip (``TRADNG_ENABLED``). What Kubernetes adds by itself for the services of a namespace
(``KAFKA_PORT=tcp://...``) is no setting, and passes.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torghut_core.bus.registry import RegistrySettings
from torghut_core.bus.topics import Topics
from torghut_core.catalog import CatalogSettings
from torghut_core.environment import Environment, is_secret
from torghut_core.errors import SettingsError, without_secrets
from torghut_core.installation.settings import Settings
from torghut_core.installation.universe import UniverseSettings
from torghut_core.plugin_host import PluginHost

KERNEL = "kernel"
"""Whose the kernel's settings are, and what `Setting.owner` says of them."""

CLASSES: tuple[type[Environment], ...] = (Settings, UniverseSettings, CatalogSettings, Topics, RegistrySettings)
"""The settings of the kernel."""

PREFIXES = (
    "ALPACA_",
    "DB_",
    "DEDUP_",
    "JANGAR_",
    "KAFKA_",
    "LLM_",
    "SCHEMA_REGISTRY_",
    "SHARD_",
    "TA_",
    "TOPIC_",
    "TORGHUT_",
    "TRADING_",
)
"""What names in the environment begin with that are ours."""

SLIP = 0.9
"""How like a known name an unknown one without our prefixes has to be to be taken for it, 0 to 1."""

SHORTEST_SLIP = 10
"""Letters that such a name has at least: shorter ones are others' own words."""

UNUSED = frozenset(
    {
        "JANGAR_API_KEY",
        "JANGAR_BASE_URL",
        "LLM_ADJUSTMENT_ALLOWED",
        "LLM_ADJUSTMENT_APPROVED",
        "LLM_ALLOWED_MODELS",
        "LLM_ALLOWED_PROMPT_VERSIONS",
        "LLM_CIRCUIT_COOLDOWN_SECONDS",
        "LLM_CIRCUIT_MAX_ERRORS",
        "LLM_CIRCUIT_WINDOW_SECONDS",
        "LLM_EFFECTIVE_CHALLENGE_ID",
        "LLM_EVALUATION_REPORT",
        "LLM_FAIL_MODE",
        "LLM_FAIL_MODE_ENFORCEMENT",
        "LLM_FAIL_OPEN_LIVE_APPROVED",
        "LLM_MAX_QTY_MULTIPLIER",
        "LLM_MAX_TOKENS",
        "LLM_MIN_CONFIDENCE",
        "LLM_MIN_QTY_MULTIPLIER",
        "LLM_MODEL",
        "LLM_MODEL_VERSION_LOCK",
        "LLM_PROMPT_VERSION",
        "LLM_PROVIDER",
        "LLM_RECENT_DECISIONS",
        "LLM_ROLLOUT_STAGE",
        "LLM_SELF_HOSTED_API_KEY",
        "LLM_SELF_HOSTED_BASE_URL",
        "LLM_SELF_HOSTED_MODEL",
        "LLM_SHADOW_COMPLETED_AT",
        "LLM_SHADOW_MODE",
        "LLM_TEMPERATURE",
        "LLM_TIMEOUT_SECONDS",
        "LLM_TOKEN_BUDGET_MAX",
    }
)
"""Settings of the AI advisor, which have no effect while ``LLM_ENABLED`` is false; it cannot be true yet."""

_CRYPTO = "the markets are chosen by ALPACA_MARKET_TYPE and the symbols of the catalog"
_FLAGS = "there are no feature flags: each switch is a setting"
_FLINK = "checkpoints are those of Flink: TA_CHECKPOINT_MS is the pause between two of `torghut ta`"
_ORDER_FEED = "the broker plugin receives the order updates from the venue"
_PRODUCER = "the size and time limits of the Kafka producer are fixed; KAFKA_LINGER_MS is the pause for a batch"

REFUSED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ALPACA_MARKET_DATA_CHANNELS": ("`channels` of the source in the catalog chooses them", ()),
    "ALPACA_TRADE_STREAM_URL": ("the address of order updates follows from TRADING_MODE", ()),
    "BARS_BACKFILL_LOOKBACK_HOURS": ("gaps are filled from where they began; `torghut backfill` fetches more", ()),
    "DB_URL": ("the audit database is DB_DSN", ()),
    "DEDUP_MAX_ENTRIES": ("the source knows the events that a history can repeat, however many", ()),
    "DEDUP_TTL_SEC": ("the source knows the events that a history can repeat, however old", ()),
    "DEDUP_TTL_SECONDS": ("the source knows the events that a history can repeat, however old", ()),
    "ENABLE_BARS_BACKFILL": ("gaps are always filled from the history", ("true",)),
    "ENABLE_TRADE_UPDATES": (_ORDER_FEED, ("false",)),
    "HEALTH_PORT": ("the port is given on the command line: --port", ()),
    "KAFKA_BATCH_SIZE": (_PRODUCER, ()),
    "KAFKA_BUFFER_MEMORY_BYTES": (_PRODUCER, ()),
    "KAFKA_DELIVERY_TIMEOUT_MS": (_PRODUCER, ()),
    "KAFKA_MAX_BLOCK_MS": (_PRODUCER, ()),
    "KAFKA_MAX_REQUEST_SIZE_BYTES": (_PRODUCER, ()),
    "KAFKA_REQUEST_TIMEOUT_MS": (_PRODUCER, ()),
    "KAFKA_SSL_ENDPOINT_IDENTIFICATION": ("the host name of a broker is always checked", ("https", "HTTPS")),
    "KAFKA_TRUSTSTORE_PASSWORD": ("certificates are a PEM file, without a password: KAFKA_SSL_CA_LOCATION", ()),
    "KAFKA_TRUSTSTORE_PATH": ("certificates are a PEM file: KAFKA_SSL_CA_LOCATION", ()),
    "KARAPACE_URL": ("the schema registry is SCHEMA_REGISTRY_URL", ()),
    "SHARD_COUNT": ("one forwarder has all symbols", ("1",)),
    "SHARD_INDEX": ("one forwarder has all symbols", ("0",)),
    "TA_BARS1M_TOPIC": ("the topic is TOPIC_BARS_1M", ()),
    "TA_CHECKPOINT_INTERVAL_MS": (_FLINK, ()),
    "TA_CHECKPOINT_PAUSE_MS": (_FLINK, ()),
    "TA_CHECKPOINT_TIMEOUT_MS": (_FLINK, ()),
    "TA_CLICKHOUSE_BATCH_SIZE": ("rows are stored together by time: TA_CLICKHOUSE_FLUSH_MS", ()),
    "TA_CLICKHOUSE_CONN_TIMEOUT_SECONDS": ("it is fixed: 5 s to connect, 30 s to answer", ()),
    "TA_CLICKHOUSE_MAX_RETRIES": ("rows are kept and sent again until they are stored", ()),
    "TA_CLIENT_ID": ("the name of a client is KAFKA_CLIENT_ID", ()),
    "TA_KAFKA_BOOTSTRAP": ("the brokers are KAFKA_BOOTSTRAP", ()),
    "TA_MICROBARS_TOPIC": ("the topic is TOPIC_TA_MICROBARS", ()),
    "TA_QUOTES_TOPIC": ("the topic is TOPIC_QUOTES", ()),
    "TA_REALIZED_VOL_WINDOW": ("it is fixed: 60 s", ("60",)),
    "TA_SCHEMA_REGISTRY_URL": ("the schema registry is SCHEMA_REGISTRY_URL", ()),
    "TA_SIGNALS_TOPIC": ("the topic is TOPIC_TA_SIGNALS", ()),
    "TA_STATUS_TOPIC": ("the topic is TOPIC_TA_STATUS", ()),
    "TA_TRADES_TOPIC": ("the topic is TOPIC_TRADES", ()),
    "TA_VWAP_WINDOW_SECONDS": ("it is fixed: 300 s", ("300",)),
    "TOPIC_TRADE_UPDATES_V2": ("there is one topic of order updates: TOPIC_TRADE_UPDATES", ()),
    "TORGHUT_ACCOUNT_LABEL": ("the venue says which account its keys are of", ()),
    "TORGHUT_DB_DSN": ("the audit database is DB_DSN", ()),
    "TORGHUT_PROCESS_ROLE": ("the command is the role: run, forward or ta; a second `run` stands by", ()),
    "TRADING_ACCOUNT_LABEL": (
        "the venue says which account its keys are of; TRADING_LIVE_ACCOUNT allows real money",
        (),
    ),
    "TRADING_CRYPTO_ENABLED": (_CRYPTO, ()),
    "TRADING_CRYPTO_LIVE_ENABLED": (_CRYPTO, ()),
    "TRADING_DEFAULT_QTY": ("a strategy's quantity is in its `params` in the catalog", ()),
    "TRADING_EXECUTION_ADAPTER": ("`broker` of the pipeline in the catalog chooses it", ()),
    "TRADING_FEATURE_FLAGS_ENABLED": (_FLAGS, ("false",)),
    "TRADING_FEATURE_FLAGS_ENTITY_ID": (_FLAGS, ()),
    "TRADING_FEATURE_FLAGS_NAMESPACE": (_FLAGS, ()),
    "TRADING_FEATURE_FLAGS_TIMEOUT_MS": (_FLAGS, ()),
    "TRADING_FEATURE_FLAGS_URL": (_FLAGS, ()),
    "TRADING_FRACTIONAL_EQUITIES_ENABLED": ("the broker's table says which quantities may be fractions", ()),
    "TRADING_MULTI_ACCOUNT_ENABLED": ("a process trades one account: start one for each", ("false",)),
    "TRADING_ORDER_FEED_ENABLED": (_ORDER_FEED, ("false",)),
    "TRADING_SIMULATION_ENABLED": ("`broker: {use: simulated}` in the catalog simulates", ("false",)),
    "TRADING_UNIVERSE_CRYPTO_ENABLED": (_CRYPTO, ()),
    "TRADING_WS_CRYPTO_ENABLED": (_CRYPTO, ()),
}
"""Names of the system that Torghut replaces and does not have: why not, and the values that ask for what it does anyway."""

_LINK = re.compile(r"(.+?)_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
_URL = re.compile(r"[a-z]+://\S+")
_CREDENTIALS = re.compile(r"(://)[^/@\s]*@|((?:password|user|token|key|secret)=)[^&\s]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force.

    Attributes
    ----------
    name : of its environment variable.
    owner : ``kernel``, or the kinds and names of the plugins that read it.
    value : in force; "***" of a secret, None where nothing is set.
    source : ``environment``, ``default``, or the file of a secret.
    default : what it is where nothing is set, None for nothing.
    meaning : in a sentence, with its unit.
    is_secret : never shown, and also read from the file that ``NAME_FILE`` names.
    """

    name: str
    owner: str
    value: str | None
    source: str
    default: str | None
    meaning: str
    is_secret: bool


def all_settings(host: PluginHost) -> list[Setting]:
    """Every setting of the kernel and of the loaded plugins, in order of their names."""
    found: dict[str, Setting] = {}
    for owner, classes, secrets in _owners(host):
        for cls in classes:
            for field, info in cls.model_fields.items():
                name = field.upper()
                found.setdefault(
                    name, _setting(name, owner, info.default, info.description or "", is_secret(info.annotation))
                )
        for name in secrets:
            found.setdefault(name, _setting(name, owner, None, f"secret of {owner}", True))
    return [found[name] for name in sorted(found)]


def setting_problems(host: PluginHost) -> list[str]:
    """What is wrong with the settings in the environment, a line each: values that are not allowed, and unknown names."""
    problems = unknown_names(_names(host), os.environ)
    for _, classes, _ in _owners(host):
        for cls in classes:
            if cls in CLASSES or any(field.upper() in os.environ for field in cls.model_fields):
                try:
                    cls.read()
                except SettingsError as error:
                    problems += str(error).splitlines()
    return list(dict.fromkeys(problems))


def check_environment(host: PluginHost) -> None:
    """Refuse names in the environment that nothing reads.

    Raises
    ------
    SettingsError : with a line for each, and the nearest name or the reason.
    """
    problems = unknown_names(_names(host), os.environ)
    if problems:
        raise SettingsError("\n".join(problems))


def _names(host: PluginHost) -> dict[str, bool]:
    return {setting.name: setting.is_secret for setting in all_settings(host)}


def unknown_names(known: Mapping[str, bool], environment: Mapping[str, str]) -> list[str]:
    """Explain each name in an environment that nothing reads, a line each.

    Parameters
    ----------
    known : whether it is a secret, by name.
    environment : values by name.
    """
    names = {*known, *(f"{name}_FILE" for name, is_hidden in known.items() if is_hidden)}
    problems = []
    for written in sorted(environment):
        name = written.upper()
        if name in names or name in UNUSED or _is_service_link(written, environment):
            continue
        if name in REFUSED:
            reason, harmless = REFUSED[name]
            if environment[written].strip() not in (*harmless, ""):
                problems.append(f"{written}: {reason} (unset it)")
            continue
        is_ours = name.startswith(PREFIXES)
        if not is_ours and len(name) < SHORTEST_SLIP:
            continue
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6 if is_ours else SLIP)
        if near:
            problems.append(f"{written}: no setting has this name (did you mean {near[0]}?)")
        elif is_ours:
            problems.append(f"{written}: no setting has this name (unset it; `torghut settings` lists all)")
    return problems


def _is_service_link(name: str, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes has added this name for a service of the namespace: it adds host, port and address together."""
    found = _LINK.fullmatch(name)
    if found is None:
        return False
    service = found[1]
    host, port, address = (environment.get(f"{service}_{end}") for end in ("SERVICE_HOST", "SERVICE_PORT", "PORT"))
    return bool(host and port and port.isdigit() and address and _URL.fullmatch(address))


def _owners(host: PluginHost) -> Iterator[tuple[str, Iterable[type[Environment]], Iterable[str]]]:
    yield KERNEL, CLASSES, ()
    for plugin in host.plugins():
        cls = plugin.cls
        yield f"{plugin.kind} {plugin.name}", cls.settings, getattr(cls, "secrets", ())


def _setting(name: str, owner: str, default: object, meaning: str, is_hidden: bool) -> Setting:
    value = next((os.environ[each] for each in os.environ if each.upper() == name and os.environ[each].strip()), "")
    source = "environment"
    fallback = None if default in (None, "") else str(default)
    if not value and is_hidden and (path := os.environ.get(f"{name}_FILE")):
        value, source = path, path
    if not value:
        return Setting(name, owner, fallback, "default", fallback, meaning, is_hidden)
    shown = "***" if is_hidden else without_secrets(_CREDENTIALS.sub(_hidden, value.strip()))
    return Setting(name, owner, shown, source, fallback, meaning, is_hidden)


def _hidden(found: re.Match[str]) -> str:
    return "://***@" if found[1] else f"{found[2]}***"
