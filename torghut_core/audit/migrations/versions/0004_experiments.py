"""The ledger of experiments. A script stays as it was released."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")


def upgrade() -> None:
    """A table beside those that the log covers: no hash changes."""
    op.create_table(
        "experiments",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(30), nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("universe", JSON, nullable=False),
        sa.Column("began_at", sa.String(30), nullable=False),
        sa.Column("ended_at", sa.String(30), nullable=False),
        sa.Column("catalog_digest", sa.Text, nullable=False),
        sa.Column("code_digest", sa.Text, nullable=False),
        sa.Column("code", JSON, nullable=False),
        sa.Column("data_digest", sa.Text, nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("costs", JSON, nullable=False),
        sa.Column("folds", JSON, nullable=True),
        sa.Column("variants", sa.Integer, nullable=False),
        sa.Column("selection", sa.Text, nullable=False),
        sa.Column("figures", JSON, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
    )
    op.create_index("experiments_created", "experiments", ["created_at"])
