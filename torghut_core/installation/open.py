"""Opens what the settings and the state directory name: the stores, the plugins, and the connection of a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torghut_core.environment import secret
from torghut_core.errors import NotFoundError
from torghut_core.installation.settings import Settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.plugin_host import PluginHost
from torghut_core.ports import Connection, SignalReader, Universe

if TYPE_CHECKING:
    from torghut_core.audit import SqlAuditStore
    from torghut_core.signals import SignalDatabase


@contextmanager
def existing_state(path: Path) -> Iterator[StateDirectory]:
    """Own the state directory of an earlier run.

    Raises
    ------
    NotFoundError : there is none.
    """
    directory = StateDirectory(path)
    if not directory.exists:
        raise NotFoundError(f"there is no state in {path} (run `torghut demo`, or give --state DIR)")
    with directory:
        yield directory


@contextmanager
def existing_audit(settings: Settings, path: Path) -> Iterator[SqlAuditStore]:
    """Open the audit database of an earlier run, or that of ``DB_DSN``; also beside a kernel that writes it.

    Raises
    ------
    NotFoundError : there is none.
    """
    directory = StateDirectory(path)
    if settings.db_dsn is None and not directory.exists:
        raise NotFoundError(f"there is no state in {path} (run `torghut demo`, or give --state DIR)")
    with closing(open_audit(settings, directory)) as audit:
        yield audit


def load_plugins(settings: Settings, allow: Iterable[str], previous: PluginHost | None = None) -> PluginHost:
    """Load the allowed plugins that are installed, and those in the folders of ``TORGHUT_PLUGIN_PATH``."""
    return PluginHost.load(allow, folders=settings.plugin_folders, previous=previous)


def audit_url(settings: Settings, directory: StateDirectory) -> str:
    """The SQLAlchemy URL of the audit database: ``DB_DSN``, or a file in the state directory."""
    return settings.db_dsn.get_secret_value() if settings.db_dsn else directory.audit_url


def open_audit(settings: Settings, directory: StateDirectory, *, is_tidied: bool = False) -> SqlAuditStore:
    """Open the audit database, creating or upgrading it if needed; `is_tidied` as in `SqlAuditStore`."""
    from torghut_core.audit import SqlAuditStore

    return SqlAuditStore(audit_url(settings, directory), is_tidied=is_tidied)


def open_signals(
    settings: Settings,
    directory: StateDirectory,
    *,
    is_replay: bool | None = None,
    waits: bool = True,
    learned_at: int | None = None,
) -> SignalDatabase:
    """Open the signal store: the server at ``TA_CLICKHOUSE_URL``, or the one embedded in the state directory.

    The rows of a replay are as old as its tapes, so its embedded store keeps them for ever, also when a live pipeline
    opens it later: only ``TA_CLICKHOUSE_APPLY_TTL=true`` deletes existing rows. With `is_replay` None the store is only
    read, and the tables' TTL stays as it is. `waits` and `learned_at` as in `open_signal_store`.
    """
    from torghut_core.signals import open_signal_store

    password = settings.ta_clickhouse_password
    is_kept = is_replay is not False and settings.ta_clickhouse_url is None
    apply_ttl = None if is_kept else settings.ta_clickhouse_apply_ttl
    return open_signal_store(
        directory.signals_path,
        url=settings.ta_clickhouse_url,
        username=settings.ta_clickhouse_username,
        password=password.get_secret_value() if password else "",
        price_table=settings.trading_price_table,
        signal_table=settings.trading_signal_table,
        signal_schema=settings.trading_signal_schema,
        microbars_ttl_days=None if is_kept else settings.ta_microbars_ttl_days,
        signals_ttl_days=None if is_kept else settings.ta_signals_ttl_days,
        apply_ttl=False if is_replay is None else apply_ttl,
        cluster=settings.ta_clickhouse_cluster,
        block_age_s=settings.ta_clickhouse_flush_ms / 1000,
        waits=waits,
        learned_at=learned_at,
    )


def source_connection(
    settings: Settings, directory: StateDirectory, universe: Universe, signals: SignalReader | None = None
) -> Connection:
    """The connection of a source or sink: what it may ask the kernel for."""
    return Connection(settings.is_live, secret, universe, signals, directory.path)
