"""What the signal store keeps: two tables, their columns and their SQL, the same embedded and on a server."""

from __future__ import annotations

import re

import msgspec
import pyarrow as pa

from torghut_core.errors import NotFoundError, SettingsError
from torghut_core.model.market import SIGNAL_COLUMNS

TIMESTAMP = pa.timestamp("ns", "UTC")


class Column(msgspec.Struct, frozen=True):
    """One column: its name, its ClickHouse type, and the Arrow type that it is written and read with."""

    name: str
    sql: str
    arrow: pa.DataType


HEAD = (
    Column("symbol", "LowCardinality(String)", pa.string()),
    Column("event_ts", "DateTime64(9, 'UTC')", TIMESTAMP),
    Column("seq", "Int64", pa.int64()),
    Column("ingest_ts", "DateTime64(9, 'UTC')", TIMESTAMP),
    Column("is_final", "Bool", pa.bool_()),
    Column("source", "LowCardinality(String)", pa.string()),
    Column("window_size", "LowCardinality(String)", pa.string()),
    Column("window_step", "LowCardinality(String)", pa.string()),
    Column("window_start", "DateTime64(9, 'UTC')", TIMESTAMP),
    Column("window_end", "DateTime64(9, 'UTC')", TIMESTAMP),
    Column("version", "UInt32", pa.uint32()),
)
"""The columns that both tables begin with."""

BAR_VALUES = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vwap": "vwap"}
"""Value columns of ``ta_microbars``, and the kernel's word for each."""

PAYLOAD_PATHS: dict[str, tuple[str, ...]] = {
    "macd": ("macd", "macd"),
    "macd_signal": ("macd", "signal"),
    "macd_hist": ("macd", "hist"),
    "ema12": ("ema", "ema12"),
    "ema26": ("ema", "ema26"),
    "rsi14": ("rsi14",),
    "boll_mid": ("boll", "mid"),
    "boll_upper": ("boll", "upper"),
    "boll_lower": ("boll", "lower"),
    "vwap_session": ("vwap", "session"),
    "vwap_w5m": ("vwap", "w5m"),
    "imbalance_spread": ("imbalance", "spread"),
    "imbalance_bid_px": ("imbalance", "bid_px"),
    "imbalance_ask_px": ("imbalance", "ask_px"),
    "imbalance_bid_sz": ("imbalance", "bid_sz"),
    "imbalance_ask_sz": ("imbalance", "ask_sz"),
    "vol_realized_w60s": ("vol_realized", "w60s"),
}
"""Where the envelope's payload keeps each value column of ``ta_signals``."""


def _values(names: tuple[str, ...]) -> tuple[Column, ...]:
    return tuple(Column(name, "Nullable(Float64)", pa.float64()) for name in names)


TABLES: dict[str, tuple[Column, ...]] = {
    "microbars": (*HEAD, *_values(tuple(BAR_VALUES)), Column("count", "Int64", pa.int64())),
    "signals": (*HEAD, *_values(SIGNAL_COLUMNS)),
}
"""The tables by the name that commands and exports use; their names in ClickHouse are settings."""

KEY = ("symbol", "event_ts", "window_size", "seq")
"""A row with the same key replaces the one before. Also the order of an export."""

TIME_ORDER = ("event_ts", "symbol", "window_size", "seq")
"""The order in which readers give rows."""

PARTITION = (
    "multiIf(window_size LIKE 'PT%S', toDate(event_ts), window_size LIKE 'PT%M', toStartOfMonth(event_ts), "
    "toStartOfYear(event_ts))"
)
"""A partition is a day of windows of seconds, a month of those of minutes, a year of longer ones: few rows make no file each."""

_DAILY_PARTITION = re.compile(r"PARTITION BY toDate\(event_ts\)(?! *,)")
_TTL = re.compile(r"TTL toDateTime\(event_ts\) \+ toIntervalDay\((\d+)\)(?! TO |,)")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def table_columns(table: str) -> tuple[Column, ...]:
    """The columns of ``microbars`` or ``signals``.

    Raises
    ------
    NotFoundError : there is no such table.
    """
    if table not in TABLES:
        raise NotFoundError(f"the signal store has no table {table!r} (use {' or '.join(TABLES)})")
    return TABLES[table]


def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of a table's rows, columns in their order."""
    return pa.schema([pa.field(column.name, column.arrow) for column in table_columns(table)])


def qualified_name(setting: str, name: str) -> str:
    """The table `name` as ``database.table``; database ``torghut`` where it names none.

    Raises
    ------
    SettingsError : not a table name; `setting` is the environment variable that holds it.

    Examples
    --------
    >>> qualified_name("TRADING_SIGNAL_TABLE", "ta_signals")
    'torghut.ta_signals'
    """
    parts = name.split(".")
    if len(parts) > 2 or not all(_IDENTIFIER.fullmatch(part) for part in parts):
        raise SettingsError(f"{setting}={name!r} is not a table name (use database.table, like torghut.ta_signals)")
    return name if len(parts) == 2 else f"torghut.{name}"


def database_ddl(name: str, cluster: str = "") -> str:
    """SQL that makes the database of the table `name` (``database.table``) where it is missing."""
    return f"CREATE DATABASE IF NOT EXISTS {name.partition('.')[0]}{_on(cluster)}"


def table_ddl(table: str, name: str, ttl_days: int | None = None, cluster: str = "") -> str:
    """SQL that makes the table `name` (``database.table``) where it is missing.

    Parameters
    ----------
    table : ``microbars`` or ``signals``.
    ttl_days : days after `event_ts` that a row is kept, None for ever.
    cluster : name of the ClickHouse cluster on whose servers the table is replicated; "" for a single server.

    Notes
    -----
    The deduplication window remembers the tokens of the last inserts, one per partition that an insert touched, so
    that an insert sent again after a lost connection adds nothing. A replicated table has one by default.
    """
    columns = ",\n    ".join(f"{column.name} {column.sql}" for column in table_columns(table))
    engine = "ReplacingMergeTree(ingest_ts)"
    settings = "non_replicated_deduplication_window = 10000"
    if cluster:
        engine = "ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', ingest_ts)"
        settings = "replicated_deduplication_window = 10000"
    ttl = f"\nTTL {ttl_expression(ttl_days)}" if ttl_days is not None else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {name}{_on(cluster)} (\n    {columns}\n)\n"
        f"ENGINE = {engine}\nPARTITION BY {PARTITION}\nORDER BY ({', '.join(KEY)}){ttl}\n"
        f"SETTINGS {settings}, ttl_only_drop_parts = 1"
    )


def ttl_expression(days: int) -> str:
    """The TTL of a table, written as ClickHouse prints it back."""
    return f"toDateTime(event_ts) + toIntervalDay({days})"


def ttl_setting(table: str) -> str:
    """The setting that says for how many days ``microbars`` or ``signals`` are kept."""
    return f"TA_{table.upper()}_TTL_DAYS"


def kept_days(made: str) -> int | None:
    """Days that a table keeps its rows, by the statement that ClickHouse prints for it; None for ever, or by another rule.

    Examples
    --------
    >>> kept_days(f"... TTL {ttl_expression(14)} SETTINGS ...")
    14
    """
    found = _TTL.search(made)
    return None if found is None else int(found[1])


def has_daily_partitions(made: str) -> bool:
    """Whether a table has a partition for each day of every window, as earlier versions made it."""
    return _DAILY_PARTITION.search(made) is not None


def ttl_change(name: str, made: str, ttl_days: int | None, cluster: str = "") -> str:
    """SQL that changes the TTL of the table `name`; "" where it has that TTL, or can have none.

    `made` is the statement that ClickHouse prints for the table.
    """
    has_ttl = "TTL " in made
    if "MergeTree" not in made or (ttl_days is None and not has_ttl):
        return ""
    if ttl_days is None:
        return f"ALTER TABLE {name}{_on(cluster)} REMOVE TTL"
    expression = ttl_expression(ttl_days)
    return "" if expression in made else f"ALTER TABLE {name}{_on(cluster)} MODIFY TTL {expression}"


def _on(cluster: str) -> str:
    return f" ON CLUSTER '{cluster}'" if cluster else ""
