"""The first tables. A script stays as it was released: what a table is today is in `tables`."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.String(30)
MONEY = sa.Text().with_variant(sa.Numeric(), "postgresql")
JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")
HASH = sa.String(64)


REFUSE = "BEGIN SELECT RAISE(ABORT, 'audit_log is append-only'); END"
RAISE = "BEGIN RAISE EXCEPTION 'audit_log is append-only'; END"
APPEND_ONLY = {
    "sqlite": (
        f"CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log {REFUSE}",
        f"CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log {REFUSE}",
    ),
    "postgresql": (
        f"CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {RAISE} $$",
        "CREATE TRIGGER audit_log_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log EXECUTE FUNCTION audit_log_refuse()",
    ),
}
EMPTY = f'{{"hash":"{"0" * 64}","seq":0}}'


def must(name: str, kind: Any = sa.Text, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, **options)


def may(name: str, kind: Any = sa.Text) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def number() -> sa.Column[Any]:
    return must("id", NUMBER, primary_key=True, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "strategies",
        must("name", primary_key=True),
        must("use"),
        may("version"),
        must("enabled", sa.Boolean()),
        may("base_timeframe"),
        must("symbols", JSON),
        must("params", JSON),
        must("limits", JSON),
        may("on_remove"),
        must("updated_at", TIME),
    )
    op.create_table(
        "catalog_generations",
        must("number", NUMBER, primary_key=True, autoincrement=False),
        must("digest"),
        may("diff", JSON),
        must("content", JSON),
        must("actor"),
        must("outcome"),
        must("created_at", TIME),
    )
    op.create_table(
        "trade_decisions",
        number(),
        must("account"),
        must("strategy_id"),
        must("symbol"),
        must("event_ts", TIME),
        must("decided_at", TIME),
        must("action"),
        must("params", JSON),
        must("rationale"),
        may("price", MONEY),
        must("decision_hash"),
        must("generation", NUMBER),
        must("status"),
        must("verdicts", JSON),
        must("signal", JSON),
        must("created_at", TIME),
        may("executed_at", TIME),
        sa.UniqueConstraint("account", "decision_hash", name="trade_decisions_key"),
    )
    op.create_table(
        "llm_decision_reviews",
        number(),
        must("account"),
        must("decision_hash"),
        must("advisor"),
        must("outcome"),
        must("code"),
        may("quantity", MONEY),
        must("details", JSON),
        must("created_at", TIME),
    )
    op.create_index("llm_decision_reviews_decision", "llm_decision_reviews", ["account", "decision_hash"])
    op.create_table(
        "executions",
        number(),
        must("account"),
        must("decision_hash"),
        must("client_order_id"),
        must("venue_order_id"),
        must("strategy_id"),
        must("symbol"),
        must("side"),
        must("quantity", MONEY),
        must("order_type"),
        may("limit_price", MONEY),
        may("stop_price", MONEY),
        may("trail_price", MONEY),
        may("trail_pct", MONEY),
        must("time_in_force"),
        must("state"),
        must("filled_quantity", MONEY),
        must("average_price", MONEY),
        must("fees", MONEY),
        must("reason"),
        must("decided_at", TIME),
        may("submitted_at", TIME),
        must("last_update_at", TIME),
        sa.UniqueConstraint("account", "client_order_id", name="executions_key"),
    )
    op.create_table(
        "execution_events",
        number(),
        must("account"),
        must("execution_id", NUMBER),
        must("client_order_id"),
        must("event"),
        must("event_ts", TIME),
        must("state"),
        must("reason"),
        may("fill_id"),
        may("quantity", MONEY),
        may("price", MONEY),
        may("fee", MONEY),
        may("slippage", MONEY),
        must("payload", JSON),
    )
    op.create_index("execution_events_order", "execution_events", ["execution_id"])
    for table in ("trade_decisions", "executions", "execution_events"):
        op.create_index(f"{table}_account", table, ["account", "id"])
    op.create_table(
        "position_snapshots",
        number(),
        must("account"),
        must("at", TIME),
        may("symbol"),
        may("quantity", MONEY),
        may("average_price", MONEY),
        may("realized_pnl", MONEY),
        may("fees", MONEY),
        may("cash", MONEY),
        may("equity", MONEY),
        may("buying_power", MONEY),
        may("currency"),
    )
    op.create_index("position_snapshots_account", "position_snapshots", ["account", "at"])
    op.create_table(
        "trade_cursor",
        must("account", primary_key=True),
        must("source", primary_key=True),
        must("cursor", JSON),
        must("updated_at", TIME),
    )
    op.create_table(
        "controls", must("name", primary_key=True), may("value", JSON), must("actor"), must("updated_at", TIME)
    )
    op.create_table("leases", must("name", primary_key=True), must("holder"), must("expires_at", TIME))
    op.create_table(
        "audit_log",
        must("seq", NUMBER, primary_key=True, autoincrement=False),
        must("at", TIME),
        must("actor"),
        may("account"),
        must("action"),
        must("table_name"),
        must("row_key"),
        must("row_hash", HASH),
        must("prev_hash", HASH),
        must("hash", HASH),
    )
    for statement in APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)
    columns: list[Any] = [sa.column(name) for name in ("name", "value", "actor", "updated_at")]
    head: Any = ("audit.head", sa.literal_column(f"'{EMPTY}'"), "", "1970-01-01T00:00:00.000000000Z")
    op.execute(sa.insert(sa.table("controls", *columns)).values(head))
