"""The tables of the audit database, and the triggers that keep ``audit_log`` append-only.

There are no foreign keys: one writer writes all tables in one transaction, parents first, and an order that only the
venue has had, and the reconciler adopted, has no decision to point to.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.types import TypeEngine

from torghut_core.audit.rows import KEYS
from torghut_core.audit.types import Json, Money, Nanoseconds

REVISIONS = ("0001", "0002", "0003", "0004")
"""Versions of these tables, oldest first: the names of the scripts in ``migrations/versions``."""

HEAD_ROW = "audit.head"
"""The row of ``controls`` that keeps number and hash of the newest ``audit_log`` entry; the one row of its table outside the log."""

metadata = MetaData()

_Number = BigInteger().with_variant(Integer(), "sqlite")


def _id() -> Column[int]:
    return Column("id", _Number, primary_key=True, autoincrement=False)


def _needed(name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]] = Text) -> Column[Any]:
    return Column(name, kind, nullable=False)


strategies = Table(
    "strategies",
    metadata,
    Column("name", Text, primary_key=True),
    _needed("use"),
    Column("version", Text),
    _needed("enabled", Boolean),
    Column("base_timeframe", Text),
    _needed("symbols", Json),
    _needed("params", Json),
    _needed("limits", Json),
    Column("on_remove", Text),
    _needed("updated_at", Nanoseconds),
)

catalog_generations = Table(
    "catalog_generations",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    _needed("digest"),
    Column("diff", Json),
    _needed("content", Json),
    _needed("actor"),
    _needed("outcome"),
    _needed("created_at", Nanoseconds),
)

trade_decisions = Table(
    "trade_decisions",
    metadata,
    _id(),
    _needed("account"),
    _needed("strategy_id"),
    _needed("symbol"),
    _needed("event_ts", Nanoseconds),
    _needed("decided_at", Nanoseconds),
    _needed("action"),
    _needed("params", Json),
    _needed("rationale"),
    Column("price", Money),
    _needed("decision_hash"),
    _needed("generation", _Number),
    _needed("status"),
    _needed("verdicts", Json),
    _needed("signal", Json),
    _needed("created_at", Nanoseconds),
    Column("executed_at", Nanoseconds),
    Column("inputs", Json),
    UniqueConstraint("account", "decision_hash", name="trade_decisions_key"),
    Index("trade_decisions_account", "account", "id"),
)

llm_decision_reviews = Table(
    "llm_decision_reviews",
    metadata,
    _id(),
    _needed("account"),
    _needed("decision_hash"),
    _needed("advisor"),
    _needed("outcome"),
    _needed("code"),
    Column("quantity", Money),
    _needed("details", Json),
    _needed("created_at", Nanoseconds),
    Index("llm_decision_reviews_decision", "account", "decision_hash"),
)

executions = Table(
    "executions",
    metadata,
    _id(),
    _needed("account"),
    _needed("decision_hash"),
    _needed("client_order_id"),
    _needed("venue_order_id"),
    _needed("strategy_id"),
    _needed("symbol"),
    _needed("side"),
    _needed("quantity", Money),
    _needed("order_type"),
    Column("limit_price", Money),
    Column("stop_price", Money),
    Column("trail_price", Money),
    Column("trail_pct", Money),
    _needed("time_in_force"),
    _needed("state"),
    _needed("filled_quantity", Money),
    _needed("average_price", Money),
    _needed("fees", Money),
    _needed("reason"),
    _needed("decided_at", Nanoseconds),
    Column("submitted_at", Nanoseconds),
    _needed("last_update_at", Nanoseconds),
    Column("purpose", Text),
    Column("bracket", Json),
    Column("parent", Text),
    Column("parent_fill", Text),
    UniqueConstraint("account", "client_order_id", name="executions_key"),
    Index("executions_account", "account", "id"),
)

execution_events = Table(
    "execution_events",
    metadata,
    _id(),
    _needed("account"),
    _needed("execution_id", _Number),
    _needed("client_order_id"),
    _needed("event"),
    _needed("event_ts", Nanoseconds),
    _needed("state"),
    _needed("reason"),
    Column("fill_id", Text),
    Column("quantity", Money),
    Column("price", Money),
    Column("fee", Money),
    Column("slippage", Money),
    _needed("payload", Json),
    Column("strategy_id", Text),
    Index("execution_events_order", "execution_id"),
    Index("execution_events_account", "account", "id"),
)

position_snapshots = Table(
    "position_snapshots",
    metadata,
    _id(),
    _needed("account"),
    _needed("at", Nanoseconds),
    Column("symbol", Text),
    Column("quantity", Money),
    Column("average_price", Money),
    Column("realized_pnl", Money),
    Column("fees", Money),
    Column("cash", Money),
    Column("equity", Money),
    Column("buying_power", Money),
    Column("currency", Text),
    Column("strategy_id", Text),
    Column("reason", Text),
    Index("position_snapshots_account", "account", "at"),
)

trade_cursor = Table(
    "trade_cursor",
    metadata,
    Column("account", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    _needed("cursor", Json),
    _needed("updated_at", Nanoseconds),
)

controls = Table(
    "controls",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Json),
    _needed("actor"),
    _needed("updated_at", Nanoseconds),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    _needed("holder"),
    _needed("expires_at", Nanoseconds),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=False),
    _needed("at", Nanoseconds),
    _needed("actor"),
    Column("account", Text),
    _needed("action"),
    _needed("table_name"),
    _needed("row_key"),
    _needed("row_hash", String(64)),
    _needed("prev_hash", String(64)),
    _needed("hash", String(64)),
)

experiments = Table(
    "experiments",
    metadata,
    Column("run_id", Text, primary_key=True),
    _needed("kind"),
    _needed("created_at", Nanoseconds),
    _needed("author"),
    _needed("strategy"),
    _needed("params", Json),
    _needed("universe", Json),
    _needed("began_at", Nanoseconds),
    _needed("ended_at", Nanoseconds),
    _needed("catalog_digest"),
    _needed("code_digest"),
    _needed("code", Json),
    _needed("data_digest"),
    _needed("data", Json),
    _needed("costs", Json),
    Column("folds", Json),
    _needed("variants", Integer),
    _needed("selection"),
    _needed("figures", Json),
    _needed("notes"),
    _needed("folder"),
    Index("experiments_created", "created_at"),
)
"""The ledger of `research.experiments`; outside the log, which is of what was traded."""

alembic_version = Table(
    "alembic_version",
    metadata,
    _needed("version_num", String(32)),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, as Alembic creates it."""

COVERED = tuple(metadata.tables[name] for name in KEYS)
"""The tables whose rows the log covers, in the order in which they are written."""

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END"
_RAISE = "BEGIN RAISE EXCEPTION 'audit_log is append-only'; END"
APPEND_ONLY = {
    "sqlite": (
        f"CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log {_REFUSE}",
        f"CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log {_REFUSE}",
    ),
    "postgresql": (
        f"CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {_RAISE} $$",
        "CREATE TRIGGER audit_log_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log EXECUTE FUNCTION audit_log_refuse()",
    ),
}
"""Statements that make ``audit_log`` refuse UPDATE and DELETE, by dialect."""

_BEFORE_ANY_CHANGE = 2 + 8 + 16 + 32  # pg_trigger.tgtype: BEFORE DELETE OR UPDATE OR TRUNCATE, once a statement
TRIGGERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "sqlite": {
        f"audit_log_no_{verb}": (made,) for verb, made in zip(("update", "delete"), APPEND_ONLY["sqlite"], strict=True)
    },
    "postgresql": {"audit_log_no_change": (_BEFORE_ANY_CHANGE, "", "", "plpgsql", f" {_RAISE} ")},
}
"""What a database says of the triggers among them, by dialect and name: the answer to `THERE`."""

THERE = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_log'",
    "postgresql": "SELECT tgname, tgtype, coalesce(tgqual::text, ''), tgattr::text, lanname, prosrc"
    " FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_language ON pg_language.oid = prolang"
    " WHERE tgrelid = 'audit_log'::regclass AND tgenabled IN ('O', 'A')",
}
"""Queries for the triggers of ``audit_log`` that are on, with all that says what they do."""

for _dialect, _statements in APPEND_ONLY.items():
    for _statement in _statements:
        event.listen(audit_log, "after_create", DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]  # SQLAlchemy's own
