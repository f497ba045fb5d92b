"""The tables of the signal store, as text."""

import re

import pytest

from torghut_core.errors import NotFoundError, SettingsError
from torghut_core.model.market import SIGNAL_COLUMNS
from torghut_core.signals.schema import (
    PAYLOAD_PATHS,
    TABLES,
    database_ddl,
    kept_days,
    qualified_name,
    table_columns,
    table_ddl,
)

HEAD = [
    *("symbol", "event_ts", "seq", "ingest_ts", "is_final", "source"),
    *("window_size", "window_step", "window_start", "window_end", "version"),
]


def test_columns_are_the_contract_s():
    """Other programs read these tables: the columns and their order are fixed."""
    names = {table: [column.name for column in columns] for table, columns in TABLES.items()}

    assert names["microbars"] == [*HEAD, "o", "h", "l", "c", "v", "vwap", "count"]
    assert names["signals"] == [*HEAD, *SIGNAL_COLUMNS]


def test_ddl_has_the_contract_s_engine_partition_order_and_ttl():
    """One server: replaced by the latest ingest_ts, partitions by time, and a memory of the last inserts' tokens."""
    ddl = table_ddl("signals", "torghut.ta_signals", ttl_days=14)

    assert "event_ts DateTime64(9, 'UTC')" in ddl
    assert "macd Nullable(Float64)" in ddl
    assert (
        "ENGINE = ReplacingMergeTree(ingest_ts)\nPARTITION BY multiIf(window_size LIKE 'PT%S', toDate(event_ts), "
        in ddl
    )
    assert "ORDER BY (symbol, event_ts, window_size, seq)\nTTL toDateTime(event_ts) + toIntervalDay(14)\n" in ddl
    assert re.search(r"SETTINGS non_replicated_deduplication_window = \d+", ddl)


def test_ddl_without_days_keeps_rows_for_ever():
    """The tapes of replays are old: their state has no TTL."""
    assert "TTL" not in table_ddl("microbars", "torghut.ta_microbars")


@pytest.mark.parametrize(
    ("ttl", "days"),
    [
        ("TTL toDateTime(event_ts) + toIntervalDay(14)\nSETTINGS index_granularity = 8192", 14),
        ("TTL toDateTime(event_ts) + toIntervalDay(90)", 90),
        (
            "TTL toDateTime(event_ts) + toIntervalDay(7) TO VOLUME 'cold', toDateTime(event_ts) + toIntervalDay(90)",
            None,
        ),
        ("TTL toDateTime(ingest_ts) + toIntervalDay(7)", None),
        ("SETTINGS index_granularity = 8192", None),
    ],
)
def test_days_are_known_where_the_rule_is_ours(ttl, days):
    """A TTL that moves rows, or goes by another column, says nothing of the days after `event_ts`."""
    assert kept_days(f"CREATE TABLE torghut.ta_signals (...) ORDER BY (symbol)\n{ttl}") == days


def test_ddl_on_a_cluster_is_replicated():
    """A cluster makes the table on each of its servers, replicated, with tokens remembered by all."""
    ddl = table_ddl("microbars", "torghut.ta_microbars", ttl_days=30, cluster="main")

    assert ddl.startswith("CREATE TABLE IF NOT EXISTS torghut.ta_microbars ON CLUSTER 'main' (")
    assert "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}', ingest_ts)" in ddl
    assert "SETTINGS replicated_deduplication_window" in ddl
    assert database_ddl("torghut.ta_microbars", "main") == "CREATE DATABASE IF NOT EXISTS torghut ON CLUSTER 'main'"


def test_every_signal_column_has_its_place_in_the_envelope():
    """No value column can be read from a flat table and not from an envelope, and no two share a place."""
    assert tuple(PAYLOAD_PATHS) == SIGNAL_COLUMNS
    assert len(set(PAYLOAD_PATHS.values())) == len(SIGNAL_COLUMNS)


@pytest.mark.parametrize("name", ["", "a.b.c", "torghut.ta signals", "torghut.", "x; DROP TABLE y", "1a", "t\u0430ble"])
def test_a_table_setting_that_is_no_name_is_refused(name):
    """Table names go into SQL as they are, so a setting that is not one stops at the door, with the variable's name."""
    with pytest.raises(SettingsError, match=r"TRADING_SIGNAL_TABLE=.*use database.table"):
        qualified_name("TRADING_SIGNAL_TABLE", name)


def test_an_unknown_table_is_named_with_those_there_are():
    """Who asks for a table by a wrong name reads the right ones."""
    with pytest.raises(NotFoundError, match=r"'bars' \(use microbars or signals\)"):
        table_columns("bars")
