"""The audit database of a simulation on a Postgres server: made before it runs, dropped at its teardown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from torghut_core.errors import StateError
from torghut_core.research.simulation.plan import Plan


def make_database(plan: Plan) -> None:
    """Make the database where it is missing; of a simulation whose audit is a file nothing.

    Raises
    ------
    StateError : the server does not answer, or refuses.
    """
    if plan.admin_url is not None and not _execute(
        plan.admin_url, f"make {plan.database}", "SELECT 1 FROM pg_database WHERE datname = :name", name=plan.database
    ):
        _execute(plan.admin_url, f"make {plan.database}", f"CREATE DATABASE {plan.database}")  # its letters are checked


def drop_database(plan: Plan) -> list[str]:
    """Drop the database; return what was dropped, a line. Raises as `make_database`."""
    if plan.admin_url is None:
        return []
    _execute(plan.admin_url, f"drop {plan.database}", f"DROP DATABASE IF EXISTS {plan.database} WITH (FORCE)")
    return [f"Postgres database {plan.database}"]


def _execute(url: str, what: str, statement: str, **values: Any) -> Sequence[Any]:
    engine = None
    try:
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            found = connection.execute(text(statement), values)
            return found.fetchall() if found.returns_rows else ()
    except (SQLAlchemyError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise StateError(
            f"cannot {what}: {reason} (check postgres.admin_dsn, which may make and drop databases)"
        ) from error
    finally:
        if engine is not None:
            engine.dispose()
