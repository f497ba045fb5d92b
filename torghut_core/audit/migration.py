"""Migrates an older database with Alembic. Apart from `database`, because Alembic takes 0.6 s to load."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

SCRIPTS = Path(__file__).with_name("migrations")
"""Alembic's environment, with a script for each version."""


def migrate(connection: Connection, revision: str = "head") -> None:
    """Migrate the tables to another version, inside the transaction of `connection`."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    command.upgrade(config, revision)
