"""What protects an entry, and which fill an order protects. A script stays as it was released."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")


def upgrade() -> None:
    """Behind all columns that are there, and null in older rows: no hash changes."""
    op.add_column("executions", sa.Column("bracket", JSON, nullable=True))
    op.add_column("executions", sa.Column("parent", sa.Text, nullable=True))
    op.add_column("executions", sa.Column("parent_fill", sa.Text, nullable=True))
