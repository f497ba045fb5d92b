"""A signal store that can be asked what it holds, and the one that lives in memory."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from torghut_core.errors import InputError, NotFoundError
from torghut_core.model.market import SIGNAL_COLUMNS, Batch
from torghut_core.ports import SignalReader, SignalStore
from torghut_core.signals.failures import StoreError
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


LONGEST_STEP = 86_400_000_000_000
"""No bar is longer than a day, ns: a row that was known at a time began no earlier than that before."""

SINCE_KEY = ("window_end", "symbol", "window_size", "seq")
"""The order of `SignalReader.signals_since`: that in which rows could be known at the earliest."""

SINCE_BAR_COLUMNS = (*BAR_VALUES, "count")
"""What `SignalReader.signals_since` adds of a signal's bar."""


def since_schema() -> pa.Schema:
    """The columns of what `SignalReader.signals_since` gives."""
    signals, bars = arrow_schema("signals"), arrow_schema("microbars")
    names = (*KEY, "window_end", "ingest_ts", *SIGNAL_COLUMNS)
    return pa.schema([*(signals.field(name) for name in names), *(bars.field(name) for name in SINCE_BAR_COLUMNS)])


class Selection(msgspec.Struct, frozen=True):
    """Which rows are asked for; None leaves a bound open.

    Times are nanoseconds since the epoch, `since` included and `until` not; `limit` keeps the newest rows.
    """

    symbol: str | None = None
    window_size: str | None = None
    since: int | None = None
    until: int | None = None
    limit: int | None = None


class SignalDatabase(SignalStore, SignalReader):
    """A signal store with readers, and with what `Guardrails` asks it.

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

    @abstractmethod
    def newest_event_ts(self, table: str) -> int | None:
        """The largest `event_ts` of ``microbars`` or ``signals``, ns; None of an empty table."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Room on the fullest of the disks that it writes to; None where it writes to none, or nobody knows to which."""

    def kept_days(self, table: str) -> int | None:
        """Days after their `event_ts` for which ``microbars`` or ``signals`` are kept; None for ever, as far as is known."""
        del table
        return None

    def pause(self, reason: StoreError) -> None:
        """Write nothing until `resume`: rows are taken as far as there is room in memory, then `reason` is raised."""
        del reason

    def resume(self) -> None:
        """Write again, what waits first."""

    @property
    def trouble(self) -> StoreError | None:
        """Why rows that were taken are not being stored; None while nothing is wrong."""
        return None

    @property
    def errors(self) -> dict[str, int]:
        """How often it could not do what it was asked, by `StoreError.error_class`."""
        return {}

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

    Parameters
    ----------
    learned_at : see `open_signal_store`.

    Examples
    --------
    >>> MemorySignalStore().counts()
    {'microbars': 0, 'signals': 0}
    """

    def __init__(self, learned_at: int | None = None) -> None:
        self._learned_at = learned_at
        self._rows: dict[str, list[Rows]] = {table: [] for table in TABLES}

    def write(self, batch: Batch) -> None:
        """Keep the derived rows of a batch."""
        for table, rows in derived_rows(batch, self._learned_at).items():
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

    def newest_event_ts(self, table: str) -> int | None:
        """See `SignalDatabase.newest_event_ts`."""
        return self._largest(table, "event_ts")

    def signals_until(self) -> int | None:
        """See `SignalReader.signals_until`."""
        return self._largest("signals", "window_end")

    def _largest(self, table: str, column: str) -> int | None:
        times = arrow_table(table, self._rows[table]).cast(arrow_schema(table))[column]
        return pc.max(times.cast(pa.int64())).as_py() if len(times) else None

    def free_bytes(self) -> int | None:
        """None: memory is no disk."""
        return None

    def signals_since(
        self, since: Mapping[str, int], *, after: tuple[int, str, str, int] | None, limit: int
    ) -> pa.Table:
        """See `SignalReader.signals_since`."""
        rows = self._distinct("signals").select(since_schema().names[: -len(SINCE_BAR_COLUMNS)])
        end = pc.field("window_end")
        wanted = [
            rows.filter((pc.field("symbol") == symbol) & (end >= pa.scalar(bound, TIMESTAMP)))
            for symbol, bound in since.items()
        ]
        rows = pa.concat_tables(wanted) if wanted else rows.slice(0, 0)
        if after is not None:
            is_later = pc.field("seq") > after[3]
            for name, value in reversed(list(zip(SINCE_KEY[:3], after[:3], strict=True))):
                bound = pa.scalar(value, TIMESTAMP) if name == "window_end" else value
                is_later = (pc.field(name) > bound) | ((pc.field(name) == bound) & is_later)
            rows = rows.filter(is_later)
        bars = self._distinct("microbars").select([*KEY, *SINCE_BAR_COLUMNS])
        order = [(name, "ascending") for name in SINCE_KEY]
        rows = rows.join(bars, list(KEY), join_type="left outer", use_threads=False).sort_by(order).slice(0, limit)
        return rows.select(since_schema().names).cast(since_schema())

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
    apply_ttl: bool | None = None,
    block_age_s: float = 1.0,
    waits: bool = True,
    learned_at: int | None = None,
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
    apply_ttl : whether tables that are there get these days too, which may delete rows; None: where it deletes none.
    block_age_s : how long a row may wait for others to be stored with, seconds.
    waits : whether `write` waits for a store that is slow, and raises what went wrong. Otherwise rows are kept in memory
        meanwhile, `SignalDatabase.trouble` says why, and `write` raises only when there is no more room for them.
    learned_at : the time, ns, that `ingest_ts` of no row is before: rows of a back-fill have to replace what is there. None:
        it is the loop's time, so that deriving the same again gives the same rows.

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
        return MemorySignalStore(learned_at)
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
            apply_ttl=apply_ttl,
            directory=None if url else directory,
            block_age_s=block_age_s,
            waits=waits,
            learned_at=learned_at,
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
