"""The signal store in memory: for tests, and for runs that keep nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from torghut_core.model.market import Batch
from torghut_core.signals.arrays import column, mask
from torghut_core.signals.database import (
    SINCE_BAR_COLUMNS,
    SINCE_KEY,
    Selection,
    SignalDatabase,
    since_schema,
    write_parquet,
)
from torghut_core.signals.rows import Rows, arrow_table, derived_rows
from torghut_core.signals.schema import KEY, TABLES, TIME_ORDER, TIMESTAMP, arrow_schema, table_columns


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
        rows = self._distinct(table, columns)
        wanted = []
        if selection.symbol is not None:
            wanted.append(pc.field("symbol") == selection.symbol)
        if selection.window_size is not None:
            wanted.append(pc.field("window_size") == selection.window_size)
        if selection.since is not None:
            wanted.append(pc.field("event_ts") >= pa.scalar(selection.since, TIMESTAMP))
        if selection.until is not None:
            wanted.append(pc.field("event_ts") < pa.scalar(selection.until, TIMESTAMP))
        if wanted:
            rows = rows.filter(reduce(and_, wanted))
        rows = _sorted(rows, [(name, "ascending") for name in TIME_ORDER])
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
        """None: it writes to no disk."""
        return None

    def signals_since(
        self, since: Mapping[str, int], *, after: tuple[int, str, str, int] | None, limit: int, until: int | None = None
    ) -> pa.Table:
        """See `SignalReader.signals_since`."""
        rows = self._distinct("signals").select(since_schema().names[: -len(SINCE_BAR_COLUMNS)])
        end = pc.field("window_end")
        wanted = [
            rows.filter((pc.field("symbol") == symbol) & (end >= pa.scalar(bound, TIMESTAMP)))
            for symbol, bound in since.items()
        ]
        rows = pa.concat_tables(wanted) if wanted else rows.slice(0, 0)
        if until is not None:
            rows = rows.filter(end < pa.scalar(until, TIMESTAMP))
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

    def _distinct(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows in order of `KEY`, of equal keys the one with the latest `ingest_ts`; all columns, or these and those of the key."""
        rows = arrow_table(table, self._rows[table]).cast(arrow_schema(table))
        if columns is not None:
            rows = rows.select(list(dict.fromkeys([*KEY, *TIME_ORDER, "ingest_ts", *columns])))
        rows = _sorted(rows, [*((name, "ascending") for name in KEY), ("ingest_ts", "descending")]).combine_chunks()
        is_first = np.zeros(rows.num_rows, np.bool_)
        is_first[:1] = True
        for name in KEY:
            differs = pc.not_equal(rows[name][1:], rows[name][:-1]).combine_chunks()
            is_first[1:] |= np.from_dlpack(differs.cast(pa.uint8())) != 0
        return rows if is_first.all() else rows.filter(mask(is_first))


def _sorted(rows: pa.Table, keys: list[tuple[str, str]]) -> pa.Table:
    """The rows in order; as they are where that is their order, as it is of one symbol."""
    order = np.from_dlpack(pc.sort_indices(rows, sort_keys=keys))
    is_so = len(order) == 0 or bool((np.diff(order.astype(np.int64)) == 1).all())
    return rows if is_so else rows.take(column(order, pa.uint64()))
