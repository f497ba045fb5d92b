"""Opens the signal store that the settings ask for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from torghut_core.errors import SettingsError
from torghut_core.signals.database import SignalDatabase
from torghut_core.signals.memory import MemorySignalStore
from torghut_core.signals.schema import qualified_name


def is_embedded_installed() -> bool:
    """Whether the ClickHouse that runs inside this process is installed; without it a store needs a server."""
    return find_spec("chdb") is not None


def open_signal_store(
    directory: Path | None = None,
    *,
    url: str | None = None,
    username: str = "torghut",
    password: str = "",
    price_table: str = "torghut.ta_microbars",
    signal_table: str = "torghut.ta_signals",
    signal_schema: str = "auto",
    microbars_ttl_days: int | None = 30,
    signals_ttl_days: int | None = 14,
    cluster: str = "",
    apply_ttl: bool | None = None,
    block_age_s: float = 1.0,
    waits: bool = True,
    learned_at: int | None = None,
) -> SignalDatabase:
    """Open the signal store that the settings ask for: a server, else an embedded one, else one in memory.

    Parameters
    ----------
    directory : where an embedded store has its files, made where it is missing; None, and no `url`: in memory.
    url : ``http://host:8123``, ``https://host:8443`` or ``jdbc:clickhouse://host:8123/db`` of a server.
    username, password : of the server's user, where the URL does not say.
    price_table, signal_table : ``database.table`` of microbars and signals.
    signal_schema : shape of the signal table, ``auto``, ``envelope`` or ``flat``.
    microbars_ttl_days, signals_ttl_days : days that rows are kept, None for ever: replays, whose tapes are old.
    cluster : name of the ClickHouse cluster that replicates the server's tables, "" for none.
    apply_ttl : whether existing tables get these days too, which may delete rows; None: where it deletes none.
    block_age_s : how long a row may wait for others to be stored with, seconds.
    waits : whether `write` waits for a slow store and raises its errors. Otherwise rows are kept in memory meanwhile,
        `SignalDatabase.trouble` says why, and `write` raises only when there is no more room for them.
    learned_at : the earliest `ingest_ts` of any row, ns: rows of a back-fill have to replace those that are stored. None:
        it is the loop's time, so that deriving the same again gives the same rows.

    Raises
    ------
    SettingsError : a wrong setting, or neither a server nor chdb.
    StateError : the directory is in use or cannot be written; the server does not answer or refuses the user.
    """
    tables = {
        "microbars": qualified_name("TRADING_PRICE_TABLE", price_table),
        "signals": qualified_name("TRADING_SIGNAL_TABLE", signal_table),
    }
    if not url and directory is None:
        return MemorySignalStore(learned_at)
    from torghut_core.signals import clickhouse  # the client costs 0.2 s to import, the embedded engine as much again

    if url or directory is None:
        client, place = clickhouse.server_client(url or "", username, password)
    elif not is_embedded_installed():
        raise SettingsError(
            "TA_CLICKHOUSE_URL is not set and the embedded ClickHouse is not installed "
            "(pip install 'torghut[embedded]', or set TA_CLICKHOUSE_URL)"
        )
    else:
        client, place = clickhouse.embedded_client(directory)
    try:
        return clickhouse.ClickHouseSignalStore(
            client,
            place,
            tables,
            signal_schema,
            {"microbars": microbars_ttl_days, "signals": signals_ttl_days},
            cluster if url else "",
            apply_ttl=apply_ttl,
            directory=None if url else directory,
            block_age_s=block_age_s,
            waits=waits,
            learned_at=learned_at,
        )
    except BaseException:
        client.close()
        raise
