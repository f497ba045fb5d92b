"""What risk judged by, what an order is for, and positions by strategy. A script stays as it was released."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")


def add(table: str, name: str, kind: Any = sa.Text) -> None:
    """Behind all columns that are there, and null in older rows: no hash changes."""
    op.add_column(table, sa.Column(name, kind, nullable=True))


def upgrade() -> None:
    add("trade_decisions", "inputs", JSON)
    add("executions", "purpose")
    add("execution_events", "strategy_id")
    add("position_snapshots", "strategy_id")
    add("position_snapshots", "reason")
