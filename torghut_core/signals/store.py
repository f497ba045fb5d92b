"""A signal store that can be asked what it holds, and the one that lives in memory."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from torghut_core.errors import InputError, NotFoundError
from torghut_core.model.market import SIGNAL_COLUMNS, Batch
from torghut_core.ports import SignalStore
from torghut_core.signals.rows import Rows, arrow_table, derived_rows, mask
from torghut_core.signals.schema import (
    BAR_VALUES,
    KEY,
    TABLES,
    TIME_ORDER,
    TIMESTAMP,
    arrow_schema,
    qualified_name,
    table_columns,
)

BAR_FIELDS = (*KEY, *BAR_VALUES.values(), "count")
"""Columns of what `SignalDatabase.bars` gives: the kernel's words, not the table's letters."""


class Selection(msgspec.Struct, frozen=True):
    """Which rows are asked for; None leaves a bound open.

    Times are nanoseconds since the epoch, `since` included and `until` not; `limit` keeps the newest rows.
    """

    symbol: str | None = None
    window_size: str | None = None
    since: int | None = None
    until: int | None = None
    limit: int | None = None


class SignalDatabase(SignalStore):
    """A signal store with readers.

    They give each row once, the one with the latest `ingest_ts`, in order of (event_ts, symbol, window_size, seq), and
    see only what is stored: `flush` first to see what was just written. Missing values are null.
    """

    @abstractmethod
    def select(self, table: str, columns: Sequence[str], selection: Selection) -> pa.Table:
        """Columns of ``microbars`` or ``signals``, under the names that the table has for them."""

    @abstractmethod
    def newest(self, table: str, columns: Sequence[str], symbols: Sequence[str], selection: Selection) -> pa.Table:
        """As `select` for each of these symbols, `limit` counted for each, in any order; one query where it can be."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Rows of each table, duplicates not counted."""

    def bars(
        self,
        symbol: str | None = None,
        window_size: str | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """Derived bars, columns `BAR_FIELDS`; which ones, `Selection` says."""
        columns = (*KEY, *BAR_VALUES, "count")
        selection = Selection(symbol, window_size, since, until, limit)
        return self.select("microbars", columns, selection).rename_columns(BAR_FIELDS)

    def signals(
        self,
        symbol: str | None = None,
        window_size: str | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        columns: Sequence[str] = SIGNAL_COLUMNS,
    ) -> pa.Table:
        """Signals: symbol, event_ts, window_size, seq, and the value columns that are asked for.

        Raises
        ------
        NotFoundError : a column that ``ta_signals`` does not have.
        """
        unknown = sorted(set(columns) - set(SIGNAL_COLUMNS))
        if unknown:
            raise NotFoundError(f"ta_signals has no column {', '.join(unknown)} (use {', '.join(SIGNAL_COLUMNS)})")
        return self.select("signals", (*KEY, *columns), Selection(symbol, window_size, since, until, limit))

    def latest(self, symbol: str, window_size: str | None = None) -> dict[str, dict[str, Any] | None]:
        """The newest bar and signal of a symbol, as ``bar`` and ``signal``, times as integers; None where none is."""
        newest = {
            "bar": self.bars(symbol, window_size, limit=1),
            "signal": self.signals(symbol, window_size, limit=1),
        }
        return {name: first_row(table) for name, table in newest.items()}


class MemorySignalStore(SignalDatabase):
    """A signal store that is gone when the process ends: for tests, and for runs that keep nothing.

    Examples
    --------
    >>> MemorySignalStore().counts()
    {'microbars': 0, 'signals': 0}
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[Rows]] = {table: [] for table in TABLES}

    def write(self, batch: Batch) -> None:
        """Keep the derived rows of a batch."""
        for table, rows in derived_rows(batch).items():
            self._rows[table].append(rows)

    def flush(self) -> None:
        """Do nothing: no row ever waits."""

    def close(self) -> None:
        """Do nothing: what was written can still be read."""

    def export(self, table: str, path: str) -> int:
        """Write ``microbars`` or ``signals`` to a Parquet file, without duplicates, in order; return the rows."""
        table_columns(table)
        return write_parquet(path, table, [self._distinct(table)])

    def select(self, table: str, columns: Sequence[str], selection: Selection) -> pa.Table:
        """See `SignalDatabase.select`."""
        rows = self._distinct(table)
        if selection.symbol is not None:
            rows = rows.filter(pc.field("symbol") == selection.symbol)
        if selection.window_size is not None:
            rows = rows.filter(pc.field("window_size") == selection.window_size)
        if selection.since is not None:
            rows = rows.filter(pc.field("event_ts") >= pa.scalar(selection.since, TIMESTAMP))
        if selection.until is not None:
            rows = rows.filter(pc.field("event_ts") < pa.scalar(selection.until, TIMESTAMP))
        rows = rows.sort_by([(name, "ascending") for name in TIME_ORDER])
        if selection.limit is not None:
            rows = rows.slice(max(0, rows.num_rows - selection.limit))
        return rows.select(columns)

    def newest(self, table: str, columns: Sequence[str], symbols: Sequence[str], selection: Selection) -> pa.Table:
        """See `SignalDatabase.newest`."""
        return pa.concat_tables(
            [
                self.select(table, columns, msgspec.structs.replace(selection, symbol=symbol))
                for symbol in dict.fromkeys(symbols)
            ]
        )

    def counts(self) -> dict[str, int]:
        """Rows of each table, duplicates not counted."""
        return {table: self._distinct(table).num_rows for table in TABLES}

    def _distinct(self, table: str) -> pa.Table:
        """The rows in order of `KEY`, of equal keys the one with the latest `ingest_ts`."""
        rows = arrow_table(table, self._rows[table]).cast(arrow_schema(table))
        rows = rows.sort_by([*((name, "ascending") for name in KEY), ("ingest_ts", "descending")]).combine_chunks()
        is_first = np.zeros(rows.num_rows, np.bool_)
        is_first[:1] = True
        for name in KEY:
            is_first[1:] |= np.asarray(pc.not_equal(rows[name][1:], rows[name][:-1]))
        return rows.filter(mask(is_first))


def open_signal_store(
    directory: Path | None = None,
    *,
    url: str | None = None,
    username: str = "default",
    password: str = "",
    price_table: str = "torghut.ta_microbars",
    signal_table: str = "torghut.ta_signals",
    signal_schema: str = "auto",
    microbars_ttl_days: int | None = 30,
    signals_ttl_days: int | None = 14,
    cluster: str = "",
) -> SignalDatabase:
    """Open the signal store that the settings ask for: a server, else an embedded one, else one in memory.

    Parameters
    ----------
    directory : where an embedded store has its files, made where it is missing; None, and no `url`: in memory.
    url : ``http://host:8123`` or ``https://host:8443`` of a server.
    username, password : of the server's user, where the URL does not say.
    price_table, signal_table : ``database.table`` of microbars and signals.
    signal_schema : shape of the signal table, ``auto``, ``envelope`` or ``flat``.
    microbars_ttl_days, signals_ttl_days : days that rows are kept, None for ever: replays, whose tapes are old.
    cluster : name of the ClickHouse cluster that replicates the server's tables, "" for none.

    Raises
    ------
    SettingsError : a setting that cannot be right, or neither a server nor chdb.
    StateError : the directory is in use or cannot be written; the server does not answer or refuses the user.
    """
    tables = {
        "microbars": qualified_name("TRADING_PRICE_TABLE", price_table),
        "signals": qualified_name("TRADING_SIGNAL_TABLE", signal_table),
    }
    if not url and directory is None:
        return MemorySignalStore()
    from torghut_core.signals import clickhouse  # the client costs 0.2 s to import, the embedded engine as much again

    if url or directory is None:
        client, place = clickhouse.server_client(url or "", username, password)
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
            owned=not url,
        )
    except BaseException:
        client.close()
        raise


def write_parquet(path: str, table: str, pages: Iterable[pa.Table]) -> int:
    """Write pages of a table's rows to a Parquet file, which appears whole or not at all; return the rows.

    Raises
    ------
    InputError : the file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    schema = arrow_schema(table)
    rows = 0
    try:
        try:
            with part.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for page in pages:
                    writer.write_table(page)
                    rows += page.num_rows
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error} (choose another file)") from error
    return rows


def first_row(table: pa.Table) -> dict[str, Any] | None:
    """The first row with `event_ts` as nanoseconds, None of an empty table."""
    if not table.num_rows:
        return None
    column = table.schema.get_field_index("event_ts")
    row: dict[str, Any] = table.set_column(column, "event_ts", table["event_ts"].cast(pa.int64())).to_pylist()[0]
    return row
