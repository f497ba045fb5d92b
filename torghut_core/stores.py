"""Opens the stores that settings and the state directory name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torghut_core.errors import NotFoundError
from torghut_core.settings import Settings
from torghut_core.state import StateDirectory

if TYPE_CHECKING:
    from torghut_core.audit import SqlAuditStore
    from torghut_core.signals import ClickHouseSignalStore


@contextmanager
def existing_state(path: Path) -> Iterator[StateDirectory]:
    """Own a state directory that something was kept in.

    Raises
    ------
    NotFoundError : nothing was ever kept there.
    """
    directory = StateDirectory(path)
    if not directory.exists:
        raise NotFoundError(f"nothing is kept in {path} (run `torghut demo`, or give --state DIR)")
    with directory:
        yield directory


def audit_url(settings: Settings, directory: StateDirectory) -> str:
    """SQLAlchemy URL of the audit database: ``DB_DSN``, or a file in the state directory."""
    return settings.db_dsn.get_secret_value() if settings.db_dsn else directory.audit_url


def open_audit(settings: Settings, directory: StateDirectory) -> SqlAuditStore:
    """The audit database, made or upgraded where it has to be."""
    from torghut_core.audit import SqlAuditStore

    return SqlAuditStore(audit_url(settings, directory))


def open_signals(settings: Settings, directory: StateDirectory) -> ClickHouseSignalStore:
    """The signal store: the server at ``TA_CLICKHOUSE_URL``, or embedded in the state directory."""
    from torghut_core.signals import open_signal_store

    return open_signal_store(directory.signals_path, settings)
