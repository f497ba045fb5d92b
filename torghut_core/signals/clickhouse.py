"""The signal store in ClickHouse: an embedded one in the state directory, or a server by URL.

Both are reached through clickhouse-connect, so there is one store class, one SQL and one way to insert. Rows are
inserted as Arrow in large blocks by a thread (`writer`); each block carries a deduplication token made of its content,
so that sending it again after a lost connection adds nothing. What does get in twice (a tape replayed again, a
back-fill) ClickHouse replaces when it merges, some time later: every reader here takes the latest of equal keys itself,
by ``LIMIT 1 BY``, which unlike FINAL also works on a view or on a table of another engine, and measured faster.

The embedded engine is one per process, and one process owns its directory. It is opened in the calling thread: its
import changes the working directory for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError, Error, OperationalError

from torghut_core.errors import SettingsError, StateError
from torghut_core.model.market import Batch
from torghut_core.signals.rows import Rows, arrow_table, derived_rows, digest
from torghut_core.signals.schema import (
    KEY,
    PAYLOAD_PATHS,
    TIME_ORDER,
    arrow_schema,
    database_ddl,
    payload_expression,
    table_columns,
    table_ddl,
    ttl_expression,
)
from torghut_core.signals.store import Selection, SignalDatabase, first_row, write_parquet
from torghut_core.signals.writer import BlockWriter

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_PAGE_ROWS = 100_000
_RETRY_DELAYS_S = (0.2, 1.0, 3.0)
_INSERT_SETTINGS = {
    "async_insert": 0,  # an acknowledged block is a stored one
    "max_partitions_per_insert_block": 0,  # a block of daily bars spans years, and a partition is a day
    "optimize_on_insert": 0,  # looking for duplicates inside the block takes half of the time, and readers do it anyway
}
_USER = "set TA_CLICKHOUSE_USERNAME and TA_CLICKHOUSE_PASSWORD"
_MENDS = {
    60: "set TRADING_SIGNAL_TABLE and TRADING_PRICE_TABLE to tables that are there",
    81: "create the database, or take it out of TA_CLICKHOUSE_URL",
    192: _USER,
    193: _USER,
    194: _USER,
    243: "free disk space; what is not stored yet is kept and sent again",
    497: "grant it to the user",
    516: _USER,
}
"""What to do about an error code of ClickHouse."""


class ClickHouseSignalStore(SignalDatabase):
    """The signal store in ClickHouse.

    Parameters
    ----------
    client : a clickhouse-connect client, embedded or of a server; `close` closes it.
    place : what errors call this store.
    tables : ``database.table`` of ``microbars`` and of ``signals``.
    signal_schema : shape of the signal table: ``flat`` columns, ``envelope`` (values in a JSON text `payload`; such a
        table is only read), or ``auto`` to look.
    ttl_days : days that each table keeps its rows, None for ever.
    cluster : name of the ClickHouse cluster that replicates the tables, "" for none.
    owned : the database is torghut's alone, so that tables that are there get these `ttl_days`; otherwise only missing
        tables are made.

    Raises
    ------
    SettingsError : a signal table of another shape than `signal_schema` says.
    StateError : the tables cannot be looked at or made.
    """

    def __init__(
        self,
        client: Client,
        place: str,
        tables: dict[str, str],
        signal_schema: str = "auto",
        ttl_days: dict[str, int | None] | None = None,
        cluster: str = "",
        owned: bool = False,
    ) -> None:
        self._client = client
        self._place = place
        self._tables = tables
        self._is_closed = False
        for table, name in tables.items():
            self._ensure_table(table, name, (ttl_days or {}).get(table), cluster, owned)
        self._payload = self._signal_shape(signal_schema) == "envelope"
        self._writer = BlockWriter(self._insert)

    def write(self, batch: Batch) -> None:
        """Take the derived rows of a batch; a thread stores them when they are many or the oldest is a second old.

        Raises
        ------
        StateError : an earlier block could not be stored. It and these rows are kept and tried again.
        """
        rows = derived_rows(batch)
        if self._payload and "signals" in rows:
            raise SettingsError(
                f"{self._tables['signals']} has the envelope shape, which torghut reads and does not write "
                "(set TRADING_SIGNAL_TABLE to a table of its own)"
            )
        self._writer.put(rows)

    def flush(self) -> None:
        """Wait until everything taken is stored.

        Raises
        ------
        StateError : disk full, server gone; what was stored is readable, what was not is kept and tried again.
        """
        self._writer.flush()

    def close(self) -> None:
        """Flush and let go; closing twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._writer.close()
        finally:
            self._client.close()

    def export(self, table: str, path: str) -> int:
        """Write ``microbars`` or ``signals`` to a Parquet file, without duplicates, in order; return the rows."""
        table_columns(table)
        self.flush()
        return write_parquet(path, table, self._pages(table))

    def select(self, table: str, columns: Sequence[str], selection: Selection) -> pa.Table:
        """See `SignalDatabase.select`."""
        conditions, values = self._bounds(selection)
        direction = "ASC" if selection.limit is None else "DESC"
        order = [f"{name} {direction}" for name in TIME_ORDER]
        found = self._rows(table, columns, conditions, values, order, selection.limit)
        return found if selection.limit is None else found.sort_by([(name, "ascending") for name in TIME_ORDER])

    def _bounds(self, selection: Selection) -> tuple[list[str], dict[str, Any]]:
        """The conditions of a selection, and the values that they name."""
        bounds = {
            "symbol = {symbol:String}": ("symbol", selection.symbol),
            "window_size = {window_size:String}": ("window_size", selection.window_size),
            "event_ts >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')": ("since", selection.since),
            "event_ts < fromUnixTimestamp64Nano({until:Int64}, 'UTC')": ("until", selection.until),
        }
        where = {condition: bound for condition, bound in bounds.items() if bound[1] is not None}
        return list(where), dict(where.values())

    def newest(self, table: str, columns: Sequence[str], symbols: Sequence[str], selection: Selection) -> pa.Table:
        """See `SignalDatabase.newest`."""
        conditions, bounds = self._bounds(selection)
        conditions.append("symbol IN {symbols:Array(String)}")
        bounds["symbols"] = list(symbols)
        order = ["symbol", "event_ts DESC", "window_size", "seq"]
        return self._rows(table, columns, conditions, bounds, order, selection.limit, by_symbol=True)

    def counts(self) -> dict[str, int]:
        """Rows of each table, duplicates not counted."""
        counts = {}
        for table, name in self._tables.items():
            sql = f"SELECT count() FROM (SELECT 1 FROM {name} LIMIT 1 BY {', '.join(KEY)})"  # noqa: S608 - a checked name
            with self._telling(f"cannot count {name}"):
                counts[table] = int(str(self._client.command(sql)))
        return counts

    def _pages(self, table: str) -> Iterator[pa.Table]:
        """All rows in order of `KEY`, a page at a time, each page beginning after the last row of the one before."""
        columns = [column.name for column in table_columns(table)]
        event_ts = "fromUnixTimestamp64Nano({event_ts:Int64}, 'UTC')"
        later = [
            f"(symbol > {{symbol:String}} OR symbol = {{symbol:String}} AND event_ts >= {event_ts})",  # for the index
            f"({', '.join(KEY)}) > ({{symbol:String}}, {event_ts}, {{window_size:String}}, {{seq:Int64}})",
        ]
        where: list[str] = []
        last: dict[str, Any] = {}
        while True:
            page = self._rows(table, columns, where, last, KEY, _PAGE_ROWS)
            yield page
            if page.num_rows < _PAGE_ROWS:
                return
            where = later
            last = first_row(page.slice(page.num_rows - 1).select(KEY)) or {}

    def _rows(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[str],
        parameters: dict[str, Any],
        order: Sequence[str],
        limit: int | None,
        *,
        by_symbol: bool = False,
    ) -> pa.Table:
        """Of each key the latest row; of all, or of each symbol, the first `limit` in that order."""
        name = self._tables[table]
        in_payload = PAYLOAD_PATHS if self._payload and table == "signals" else {}
        read = list(dict.fromkeys((*columns, "symbol", "event_ts"))) if by_symbol else columns
        selected = [payload_expression(column) if column in in_payload else column for column in read]
        sql = (
            f"SELECT {', '.join(f'{value} AS {column}' for value, column in zip(selected, read, strict=True))}"  # noqa: S608 - the names are ours or checked, the values are bound
            f" FROM {name}{' WHERE ' + ' AND '.join(where) if where else ''}"
            f" ORDER BY {', '.join(order)}, ingest_ts DESC LIMIT 1 BY {', '.join(KEY)}"
            f"{'' if limit is None or by_symbol else f' LIMIT {limit}'}"
        )
        if by_symbol and limit is not None:
            order_by = f"ORDER BY symbol, event_ts DESC LIMIT {limit} BY symbol"
            sql = f"SELECT {', '.join(columns)} FROM ({sql}) {order_by}"  # noqa: S608 - as above
        schema = pa.schema([arrow_schema(table).field(column) for column in columns])
        with self._telling(f"cannot read {name}"):
            return self._client.query_arrow(sql, parameters=parameters).cast(schema)

    def _insert(self, table: str, rows: list[Rows]) -> None:
        """Store a block: what the writer's thread calls."""
        name = self._tables[table]
        block = arrow_table(table, rows)
        settings = {**_INSERT_SETTINGS, "insert_deduplication_token": digest(block)}
        with self._telling(f"cannot write {name}"):
            for delay in _RETRY_DELAYS_S:
                try:
                    self._client.insert_arrow(name, block, settings=settings)
                except OperationalError:  # the connection broke, before the block was stored or after
                    time.sleep(delay)
                else:
                    return
            self._client.insert_arrow(name, block, settings=settings)

    def _ensure_table(self, table: str, name: str, ttl_days: int | None, cluster: str, owned: bool) -> None:
        """Make the table where it is missing; where it is there and ours, see to its TTL."""
        with self._telling(f"cannot make {name}"):
            if not self._client.command(f"EXISTS TABLE {name}"):
                self._client.command(database_ddl(name, cluster))
                self._client.command(table_ddl(table, name, ttl_days, cluster))
            elif owned:
                made = str(self._client.command(f"SHOW CREATE TABLE {name}"))
                if ttl_days is not None and ttl_expression(ttl_days) not in made:
                    self._client.command(f"ALTER TABLE {name} MODIFY TTL {ttl_expression(ttl_days)}")
                if ttl_days is None and "TTL " in made:
                    self._client.command(f"ALTER TABLE {name} REMOVE TTL")

    def _signal_shape(self, signal_schema: str) -> str:
        name = self._tables["signals"]
        with self._telling(f"cannot describe {name}"):
            columns = set(self._client.query_arrow(f"DESCRIBE TABLE {name}")["name"].to_pylist())
        shape = signal_schema
        if shape == "auto":
            shape = "envelope" if "payload" in columns and "macd" not in columns else "flat"
        needed = {"flat": "macd", "envelope": "payload"}
        if shape not in needed:
            raise SettingsError(f"TRADING_SIGNAL_SCHEMA={signal_schema!r} is no shape (use auto, envelope or flat)")
        if needed[shape] not in columns:
            raise SettingsError(
                f"TRADING_SIGNAL_SCHEMA={signal_schema}, but {name} has no column {needed[shape]} "
                "(use the other shape, or set TRADING_SIGNAL_TABLE)"
            )
        return shape

    @contextmanager
    def _telling(self, failed: str) -> Iterator[None]:
        """Turn what the client raises into a `StateError` with the place and the mend."""
        try:
            yield
        except (ClickHouseError, OSError) as error:
            raise StateError(f"{self._place}: {failed}: {_reason(error)}") from error


def server_client(url: str, username: str = "default", password: str = "") -> tuple[Client, str]:
    """A client of the ClickHouse server at `url` (``http://host:8123``), and what errors call it.

    Raises
    ------
    SettingsError : not the URL of a ClickHouse server.
    StateError : the server does not answer, or refuses the user. Neither message shows a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError("TA_CLICKHOUSE_URL is no URL of ClickHouse's HTTP interface (like http://host:8123)")
    place = f"ClickHouse at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    try:
        client = clickhouse_connect.get_client(
            dsn=url,
            interface=parts.scheme,
            username=None if parts.username else username,  # what the URL says itself is right
            password="" if parts.password else password,
            client_name="torghut",
            autogenerate_session_id=False,  # a session forbids reader and writer thread to ask at the same time
        )
    except ClickHouseError as error:
        raise StateError(f"{place}: {_reason(error)}") from error
    return client, place


def embedded_client(directory: Path) -> tuple[Client, str]:
    """A client of the ClickHouse embedded in this process with its files in `directory`, and what errors call it.

    Raises
    ------
    SettingsError : chdb is not installed.
    StateError : another process has the directory open, this one has another, or it cannot be written.
    """
    if find_spec("chdb") is None:
        raise SettingsError(
            "TA_CLICKHOUSE_URL is not set and the embedded ClickHouse is not installed "
            "(pip install 'torghut[embedded]', or set TA_CLICKHOUSE_URL)"
        )
    place = f"signal store {directory}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return clickhouse_connect.get_client(interface="chdb", path=str(directory)), place
    except OSError as error:
        raise StateError(f"{place}: {error.strerror} (use another --state)") from error
    except ClickHouseError as error:
        if "already initialized with path" in str(error):
            raise StateError(f"{place}: this process has another signal store open (close that one first)") from error
        raise StateError(
            f"{place}: in use by another process, or not to be written (end that process, or use another --state)"
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, without version and stack, and what to do about it where that is known."""
    text = str(error).partition("\n")[0].rpartition("DB::Exception: ")[2].partition(" (version ")[0].rstrip(" .")
    code = error.code if isinstance(error, Error) else None
    if isinstance(error, OSError):
        mend = _MENDS[243]
    elif code is None:
        mend = "check that the server is up and TA_CLICKHOUSE_URL is right"
    else:
        mend = _MENDS.get(code, "ClickHouse's log says more")
    return f"{text} ({mend})"
