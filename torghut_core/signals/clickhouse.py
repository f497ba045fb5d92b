"""The signal store in ClickHouse: an embedded one in the state directory, or a server by URL.

Both are reached through clickhouse-connect, so there is one store class, one SQL and one way to insert. Rows are
inserted as Arrow in large blocks by a thread (`writer`); each block carries a deduplication token made of its content,
and of the mark that it follows, so that sending it again after a lost connection, or after a crash, adds nothing. The
content is in the token of a marked block too: should the same offsets ever give other rows, they must not be mistaken for
those that are stored. Rows that are stored twice (a tape replayed again, a back-fill) ClickHouse replaces when it merges,
some time later: every reader here takes the latest of equal keys itself, by ``LIMIT 1 BY``, which unlike FINAL also works
on a view or on a table of another engine, and measured faster.

The embedded engine is one per process, and one process owns its directory. It is opened in the calling thread: its
import changes the working directory for a moment.
"""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.httputil import get_pool_manager_options
from urllib3 import BaseHTTPResponse, PoolManager

from torghut_core.errors import SettingsError, StateError, hide
from torghut_core.model.market import SIGNAL_COLUMNS, Batch
from torghut_core.signals.database import (
    LONGEST_STEP,
    SINCE_BAR_COLUMNS,
    SINCE_KEY,
    Selection,
    SignalDatabase,
    since_schema,
    write_parquet,
)
from torghut_core.signals.failures import Remedy, StoreError, back_off, classify
from torghut_core.signals.rows import Rows, arrow_table, derived_rows, digest
from torghut_core.signals.schema import (
    KEY,
    TIME_ORDER,
    arrow_schema,
    database_ddl,
    has_daily_partitions,
    kept_days,
    table_columns,
    table_ddl,
    ttl_change,
    ttl_setting,
)
from torghut_core.signals.shape import Shape, missing, readable, shape_of
from torghut_core.signals.writer import BlockWriter
from torghut_core.telemetry import logs

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_PAGE_ROWS = 100_000
_RETRY_DELAYS_S = (0.2, 1.0, 3.0)
_INSERT_SETTINGS = {
    "async_insert": 0,  # an acknowledged block is a stored one
    "max_partitions_per_insert_block": 0,  # a block may span years, and a partition be a day
    "optimize_on_insert": 0,  # looking for duplicates inside the block takes half of the time, and readers do it anyway
}
_CONNECT_S = 5
_ANSWER_S = 30
"""How long a server may take to accept a connection, and to send the next bytes of an answer, seconds."""

_SILENT_WAITS = 3
"""So many failed attempts in a row at an overloaded store are retried before the caller gets the error."""


class ClickHouseSignalStore(SignalDatabase):
    """The signal store in ClickHouse.

    Parameters
    ----------
    client : a clickhouse-connect client, embedded or of a server; `close` closes it.
    place : what errors call this store.
    tables : ``database.table`` of ``microbars`` and of ``signals``.
    signal_schema : shape of the signal table: ``flat`` columns, ``envelope`` (values in a JSON text `payload`; such a
        table is only read), or ``auto`` to detect it.
    ttl_days : days that each table keeps its rows, None for ever.
    cluster : name of the ClickHouse cluster that replicates the tables, "" for none.
    apply_ttl : whether existing tables get these `ttl_days` too; None: where that deletes no row.
    directory : where the files of an embedded store are; None of a server, which reports its own free space.
    block_age_s : how long a row may wait for others to be stored with, seconds; not after a mark.
    waits : whether `write` waits for a slow store and raises its errors; see `BlockWriter`.
    learned_at : see `open_signal_store`.

    Raises
    ------
    SettingsError : a signal table of another shape than `signal_schema` says.
    StateError : the tables cannot be read or created.
    """

    def __init__(
        self,
        client: Client,
        place: str,
        tables: dict[str, str],
        signal_schema: str = "auto",
        ttl_days: dict[str, int | None] | None = None,
        cluster: str = "",
        apply_ttl: bool | None = None,
        directory: Path | None = None,
        block_age_s: float = 1.0,
        waits: bool = True,
        learned_at: int | None = None,
    ) -> None:
        self._learned_at = learned_at
        self._directory = directory
        self._errors: Counter[str] = Counter()
        self._client = client
        self._place = place
        self._tables = tables
        self._is_closed = False
        self._readable: dict[str, str] = {}
        """What each table is read from: its name, or what gives it our columns."""
        self._unwritable: dict[str, str] = {}
        """Why a table is only read."""
        for table, name in tables.items():
            self._ensure_table(table, name, (ttl_days or {}).get(table), cluster, apply_ttl, signal_schema)
        self._writer = BlockWriter(self._insert, block_age_s=block_age_s, waits=waits, retry=_retry)

    def write(self, batch: Batch) -> None:
        """Take the derived rows of a batch; a thread stores them when they are many or the oldest is a second old.

        Raises
        ------
        StateError : an earlier block could not be stored. It and these rows are kept and retried. Where `waits` is
            false: so many rows were kept that no more can be.
        """
        rows = derived_rows(batch, self._learned_at)
        for table in self._unwritable.keys() & rows:
            raise SettingsError(self._unwritable[table])
        self._writer.put(rows)

    def mark(self, token: str) -> None:
        """Begin a new block here; `token` names the place, and is the same when the same rows come again."""
        self._writer.mark(token)

    def flush(self) -> None:
        """Wait until everything taken is stored.

        Raises
        ------
        StateError : disk full, server gone; what was stored is readable, what was not is kept and retried.
        """
        self._writer.flush()

    def pause(self, reason: StoreError) -> None:
        """See `SignalDatabase.pause`."""
        self._writer.pause(reason)

    def resume(self) -> None:
        """See `SignalDatabase.resume`."""
        self._writer.resume()

    @property
    def trouble(self) -> StoreError | None:
        """See `SignalDatabase.trouble`."""
        error = self._writer.trouble
        if error is None or isinstance(error, StoreError):
            return error
        return StoreError(str(error), "other", Remedy.STOP)

    @property
    def errors(self) -> dict[str, int]:
        """See `SignalDatabase.errors`."""
        return dict(self._errors)

    def close(self) -> None:
        """Flush and let go; closing twice is harmless.

        Raises
        ------
        StateError : rows that were taken are not stored; how many, and why.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._writer.close()
        except StoreError as error:
            kept = self._writer.kept
            lost = f"{kept:,} {'row was' if kept == 1 else 'rows were'} not saved: {error}"
            raise StoreError(lost, error.error_class, error.remedy) from error
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
            sql = f"SELECT count() FROM (SELECT 1 FROM {self._readable[table]} LIMIT 1 BY {', '.join(KEY)})"  # noqa: S608 - a checked name
            with self._explained(f"cannot count {name}"):
                counts[table] = int(str(self._client.command(sql)))
        return counts

    def newest_event_ts(self, table: str) -> int | None:
        """See `SignalDatabase.newest_event_ts`."""
        return self._largest(table, "event_ts")

    def signals_until(self) -> int | None:
        """See `SignalReader.signals_until`."""
        return self._largest("signals", "window_end")

    def _largest(self, table: str, column: str) -> int | None:
        sql = f"SELECT toUnixTimestamp64Nano(maxOrNull({column})) FROM {self._readable[table]}"  # noqa: S608 - a checked name
        with self._explained(f"cannot read {self._tables[table]}"):
            largest = self._client.query(sql).result_rows[0][0]
        return None if largest is None else int(largest)

    def signals_since(
        self, since: Mapping[str, int], *, after: tuple[int, str, str, int] | None, limit: int, until: int | None = None
    ) -> pa.Table:
        """See `SignalReader.signals_since`."""
        if not since:
            return since_schema().empty_table()
        key = ", ".join(SINCE_KEY)
        where = [
            "symbol IN {symbols:Array(String)}",
            "event_ts >= fromUnixTimestamp64Nano({oldest:Int64}, 'UTC')",  # the order of the table, and its partitions
            "toUnixTimestamp64Nano(window_end) >= transform(symbol, {symbols:Array(String)}, {since:Array(Int64)}, toInt64(0))",
        ]
        oldest = max(min(since.values()) - LONGEST_STEP, -(2**63))
        values: dict[str, Any] = {"symbols": list(since), "since": list(since.values()), "oldest": oldest}
        if until is not None:  # the second for the index: a row begins before it ends
            where += [
                f"{name} < fromUnixTimestamp64Nano({{until:Int64}}, 'UTC')" for name in ("window_end", "event_ts")
            ]
            values["until"] = until
        if after is not None:
            where.append(
                f"({key}) > (fromUnixTimestamp64Nano({{end:Int64}}, 'UTC'), {{symbol:String}}, {{window:String}}, {{seq:Int64}})"
            )
            values.update(zip(("end", "symbol", "window", "seq"), after, strict=True))
        same = ", ".join(KEY)
        columns = f"{same}, window_end, ingest_ts, {', '.join(SIGNAL_COLUMNS)}"
        rows = (
            f"SELECT {columns} FROM {self._readable['signals']} WHERE {' AND '.join(where)}"  # noqa: S608 - the names are ours or checked, the values are bound
            f" ORDER BY {key}, ingest_ts DESC LIMIT 1 BY {same} LIMIT {limit}"
        )
        bars = (
            f"SELECT {same}, {', '.join(SINCE_BAR_COLUMNS)} FROM {self._readable['microbars']}"  # noqa: S608 - as above
            f" WHERE ({same}) IN (SELECT {same} FROM ({rows})) ORDER BY {same}, ingest_ts DESC LIMIT 1 BY {same}"
        )
        schema = since_schema()
        sql = (
            f"SELECT {', '.join(schema.names)} FROM ({rows}) AS signal LEFT JOIN ({bars}) AS bar USING ({same})"  # noqa: S608 - as above
            f" ORDER BY {key} SETTINGS join_use_nulls = 1"
        )
        with self._explained(f"cannot read {self._tables['signals']}"):
            return self._client.query_arrow(sql, parameters=values).cast(schema)

    def free_bytes(self) -> int | None:
        """See `SignalDatabase.free_bytes`."""
        names = ", ".join("('{}', '{}')".format(*name.split(".")) for name in self._tables.values())
        sql = (
            "SELECT minOrNull(free) FROM (SELECT policy_name, max(free_space) AS free FROM system.disks AS disk"  # noqa: S608 - checked names
            " JOIN (SELECT policy_name, arrayJoin(disks) AS name FROM system.storage_policies WHERE policy_name IN"
            f" (SELECT storage_policy FROM system.tables WHERE (database, name) IN ({names}))) AS policy USING (name)"
            " GROUP BY policy_name)"
        )
        with self._explained("cannot read its free space"):
            if self._directory is not None:
                return shutil.disk_usage(self._directory).free
            room = self._client.query(sql).result_rows[0][0]
            return None if room is None else int(room)

    def kept_days(self, table: str) -> int | None:
        """See `SignalDatabase.kept_days`."""
        name = self._tables[table]
        with self._explained(f"cannot describe {name}"):
            return kept_days(str(self._client.command(f"SHOW CREATE TABLE {name}")))

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
            last = _first_row(page.slice(page.num_rows - 1).select(KEY)) or {}

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
        read = list(dict.fromkeys((*columns, "symbol", "event_ts"))) if by_symbol else columns
        sql = (
            f"SELECT {', '.join(read)}"  # noqa: S608 - the names are ours or checked, the values are bound
            f" FROM {self._readable[table]}{' WHERE ' + ' AND '.join(where) if where else ''}"
            f" ORDER BY {', '.join(order)}, ingest_ts DESC LIMIT 1 BY {', '.join(KEY)}"
            f"{'' if limit is None or by_symbol else f' LIMIT {limit}'}"
        )
        if by_symbol and limit is not None:
            order_by = f"ORDER BY symbol, event_ts DESC LIMIT {limit} BY symbol"
            sql = f"SELECT {', '.join(columns)} FROM ({sql}) {order_by}"  # noqa: S608 - as above
        schema = pa.schema([arrow_schema(table).field(column) for column in columns])
        with self._explained(f"cannot read {self._tables[table]}"):
            return self._client.query_arrow(sql, parameters=parameters).cast(schema)

    def _insert(self, table: str, rows: list[Rows], mark: str) -> None:
        """Store a block: what the writer's thread calls."""
        name = self._tables[table]
        block = arrow_table(table, rows)
        token = f"{mark}/{digest(block)}" if mark else digest(block)
        with self._explained(f"cannot write {name}"):
            self._client.insert_arrow(name, block, settings={**_INSERT_SETTINGS, "insert_deduplication_token": token})

    def _ensure_table(
        self, table: str, name: str, days: int | None, cluster: str, apply_ttl: bool | None, signal_schema: str
    ) -> None:
        """Create the table where it is missing; otherwise set its TTL, and where it is embedded its partitions.

        A table of another shape is left as it is.
        """
        with self._explained(f"cannot create {name}, or set its TTL"):
            if not self._client.command(f"EXISTS TABLE {name}"):
                self._client.command(database_ddl(name, cluster))
                self._client.command(table_ddl(table, name, days, cluster))
                self._readable[table] = name
                return
            self._find_shape(table, name, signal_schema)
            if table in self._unwritable:
                return
            if self._directory is not None:
                self._renew_partitions(table, name)
            if apply_ttl is False:
                return
            sql = ttl_change(name, str(self._client.command(f"SHOW CREATE TABLE {name}")), days, cluster)
            if not sql:
                return
            if days is None or apply_ttl or not self._has_rows_before(name, days):
                self._client.command(sql)
                return
        logs.warning(
            f"{name} has rows older than {ttl_setting(table)}={days}: they are kept, and its TTL stays as it is "
            "(TA_CLICKHOUSE_APPLY_TTL=true deletes them; false keeps them without this warning)"
        )

    def _renew_partitions(self, table: str, name: str) -> None:
        """Copy an embedded table that an earlier version partitioned by day; the copy replaces it whole or not at all."""
        made = str(self._client.command(f"SHOW CREATE TABLE {name}"))
        if not has_daily_partitions(made):
            return
        logs.info(f"{self._place}: copying {name} once, into larger partitions")
        copy = f"{name}_copy"
        self._client.command(f"DROP TABLE IF EXISTS {copy} SYNC")  # of a copy that was interrupted
        self._client.command(table_ddl(table, copy, kept_days(made)))
        self._client.command(f"INSERT INTO {copy} SELECT * FROM {name}", settings=_INSERT_SETTINGS)  # noqa: S608 - a checked name
        self._client.command(f"EXCHANGE TABLES {name} AND {copy}")
        self._client.command(f"DROP TABLE {copy} SYNC")

    def _has_rows_before(self, name: str, days: int) -> bool:
        """Whether a TTL of so many days would delete anything at once."""
        sql = f"SELECT count() FROM (SELECT 1 FROM {name} WHERE event_ts < now() - toIntervalDay({days}) LIMIT 1)"  # noqa: S608 - a checked name
        return int(str(self._client.command(sql))) > 0

    def _find_shape(self, table: str, name: str, signal_schema: str) -> None:
        """Find how a table that is there is read, and whether it can be written."""
        described = self._client.query_arrow(f"DESCRIBE TABLE {name}")
        columns = dict(zip(described["name"].to_pylist(), described["type"].to_pylist(), strict=True))
        shape = shape_of(columns, name, signal_schema) if table == "signals" else Shape.FLAT
        self._readable[table] = readable(table, name, columns, shape)
        lacks = missing(table, columns)
        if lacks or shape is Shape.ENVELOPE:
            what = "the envelope shape" if shape is Shape.ENVELOPE else f"no column {lacks[0]}"
            setting = "TRADING_PRICE_TABLE" if table == "microbars" else "TRADING_SIGNAL_TABLE"
            self._unwritable[table] = (
                f"{name} has {what}, which torghut reads and does not write (set {setting} to a table of its own)"
            )

    @contextmanager
    def _explained(self, failed: str) -> Iterator[None]:
        """Turn the client's errors into `StoreError`s, with the place and the fix."""
        try:
            yield
        except (ClickHouseError, OSError) as error:
            explained = _store_error(f"{self._place}: {failed}", error)
            self._errors[explained.error_class] += 1
            raise explained from error


def _first_row(table: pa.Table) -> dict[str, Any] | None:
    """The first row with `event_ts` as nanoseconds, None of an empty table."""
    if not table.num_rows:
        return None
    column = table.schema.get_field_index("event_ts")
    row: dict[str, Any] = table.set_column(column, "event_ts", table["event_ts"].cast(pa.int64())).to_pylist()[0]
    return row


def _retry(error: Exception, failures: int) -> tuple[float, bool]:
    """Seconds until a block is retried, and whether the caller gets the error: see `BlockWriter`."""
    remedy = error.remedy if isinstance(error, StoreError) else None
    if remedy is Remedy.RETRY and failures <= len(_RETRY_DELAYS_S):
        return _RETRY_DELAYS_S[failures - 1] * random.uniform(0.5, 1.5), False
    return back_off(error, failures), remedy is not Remedy.WAIT or failures > _SILENT_WAITS


class _Direct(PoolManager):
    """Sends requests to the address that they are for: rows and password go to no proxy, and follow no redirect."""

    def urlopen(self, method: str, url: str, redirect: bool = False, **options: Any) -> BaseHTTPResponse:  # type: ignore[override]
        del redirect
        return super().urlopen(method, url, redirect=False, **options)


_POOL = _Direct(**get_pool_manager_options())

_JDBC = re.compile(r"jdbc:(?:clickhouse|ch):(?:(?P<scheme>https?):)?//(?P<rest>.+)", re.IGNORECASE)


def http_url(url: str) -> str:
    """The HTTP address of a server that is given as JDBC has it, with its user; any other address as it is.

    Database and options are left out: each table is named with its database.

    Examples
    --------
    >>> http_url("jdbc:clickhouse://host:8123/torghut?user=me&password=pw"), http_url("jdbc:ch:https://host:8443")
    ('http://me:pw@host:8123', 'https://host:8443')
    """
    found = _JDBC.fullmatch(url)
    if found is None:
        return url
    parts = urlsplit(f"//{found['rest']}")
    options = dict(parse_qsl(parts.query))
    scheme = found["scheme"] or ("https" if options.get("ssl") == "true" or parts.netloc.endswith(":8443") else "http")
    user = ":".join(quote(options[name], safe="") for name in ("user", "password") if name in options)
    return f"{scheme}://{user}@{parts.netloc}" if "user" in options else f"{scheme}://{parts.netloc}"


def server_client(url: str, username: str = "torghut", password: str = "") -> tuple[Client, str]:
    """A client of the ClickHouse server at `url` (``http://host:8123``, or as JDBC has it), and what errors call it.

    Raises
    ------
    SettingsError : not the URL of a ClickHouse server.
    StateError : the server does not answer, or refuses the user. Neither message shows a password.
    """
    url = http_url(url)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(
            "TA_CLICKHOUSE_URL is not a URL of ClickHouse's HTTP interface (use one like http://host:8123)"
        )
    if parts.password:
        hide(unquote(parts.password))
    place = f"ClickHouse at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    try:
        client = clickhouse_connect.get_client(
            dsn=url,
            interface=parts.scheme,
            username=None if parts.username else username,  # the URL's own user comes first
            password="" if parts.password else password,
            client_name="torghut",
            connect_timeout=_CONNECT_S,
            send_receive_timeout=_ANSWER_S,
            pool_mgr=_POOL,
            autogenerate_session_id=False,  # a session does not let reader and writer thread query at the same time
        )
    except ClickHouseError as error:
        raise _store_error(place, error) from error
    return client, place


def embedded_client(directory: Path) -> tuple[Client, str]:
    """A client of the ClickHouse embedded in this process with its files in `directory`, and what errors call it.

    Raises
    ------
    StateError : another process has the directory open, this one has another, or it cannot be written, or is damaged.
    """
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
            f"{place}: in use by another process, not writable, or damaged: the engine's line on standard error says which"
            " (end that process, or use another --state, or move the folder away: its rows can be derived again)"
        ) from error


def _store_error(failed: str, error: Exception) -> StoreError:
    """The error without version and stack, with its class and its fix."""
    text = str(error).partition("\n")[0].rpartition("DB::Exception: ")[2].partition(" (version ")[0].rstrip(" .")
    root: BaseException = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    if isinstance(root, OSError) and root.strerror:  # the client's text about its retries ends with it
        text = root.strerror
    error_class, remedy, hint = classify(error)
    return StoreError(f"{failed}: {text} ({hint})", error_class, remedy)
