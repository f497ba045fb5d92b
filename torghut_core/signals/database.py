"""What every signal store promises besides being written to: readers, and what `Guardrails` needs."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from torghut_core.calendars import LONGEST_DAY
from torghut_core.errors import InputError, NotFoundError
from torghut_core.model.market import SIGNAL_COLUMNS
from torghut_core.ports import SignalReader, SignalStore
from torghut_core.signals.failures import StoreError
from torghut_core.signals.schema import BAR_VALUES, KEY, arrow_schema

BAR_FIELDS = (*KEY, *BAR_VALUES.values(), "count")
"""Columns of what `SignalDatabase.bars` gives: the kernel's words, not the table's letters."""


LONGEST_STEP = LONGEST_DAY
"""No bar is longer than a day, ns: a row that is known at a time began at most so long before."""

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
    """Which rows are wanted; None leaves a bound open.

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
        """Free bytes on the fullest of the disks that it writes to; None where it writes to none, or that is not known."""

    def kept_days(self, table: str) -> int | None:
        """Days after their `event_ts` for which rows of ``microbars`` or ``signals`` are kept; None: for ever, or not known."""
        del table
        return None

    def pause(self, reason: StoreError) -> None:
        """Write nothing until `resume`: rows are kept while there is room in memory, after that `reason` is raised."""
        del reason

    def resume(self) -> None:
        """Write again, waiting rows first."""

    @property
    def trouble(self) -> StoreError | None:
        """Why rows that were taken are not being stored; None while nothing is wrong."""
        return None

    @property
    def errors(self) -> dict[str, int]:
        """How often it failed, by `StoreError.error_class`."""
        return {}

    def bars(
        self,
        symbol: str | None = None,
        window_size: str | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """Derived bars, columns `BAR_FIELDS`; the arguments are those of `Selection`."""
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
