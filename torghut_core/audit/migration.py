"""Bringing an older database up with Alembic. Apart from `database`, because Alembic takes 0.6 s to load."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

SCRIPTS = Path(__file__).with_name("migrations")
"""Alembic's environment, with a script for each version."""


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the tables from their version to another, inside the transaction of `connection`."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    command.upgrade(config, revision)
