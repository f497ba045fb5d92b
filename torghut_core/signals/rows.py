"""The derived rows of batches as Arrow tables, ready to insert: whole columns at a time, no row touched in Python."""

from __future__ import annotations

import hashlib
from itertools import groupby
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from torghut_core.model.market import (
    SIGNAL_COLUMNS,
    Bars,
    Batch,
    IntArray,
    Signals,
    SymbolTable,
    stored_seq,
    window_size,
)
from torghut_core.signals.arrays import column, dictionary, mask
from torghut_core.signals.schema import BAR_VALUES, TIMESTAMP, arrow_schema

BoolArray: TypeAlias = NDArray[np.bool_]

SOURCE = "ta"
"""What the column ``source`` says of every row that torghut computes."""

VERSION = 1
"""Version of the row format, as the envelope has it."""

_OBJECTS = 600
"""Bytes of the objects that a `Rows` is made of, measured: nearly all that a few rows take."""


class Rows(msgspec.Struct, frozen=True):
    """Rows of one table out of one batch, with the time at which each became known, the loop's (shape (n,), ns)."""

    symbols: SymbolTable
    values: Bars | Signals
    ingest_ts: IntArray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def memory(self) -> int:
        """About how many bytes it takes in memory; of rows that come one at a time, most is for the objects."""
        return self.values.ints.nbytes + self.values.floats.nbytes + self.ingest_ts.nbytes + _OBJECTS

    def split(self, count: int) -> tuple[Rows, Rows]:
        """The first `count` rows and the others, without a copy."""
        n = len(self)
        if count >= n:
            return self, self._rows(n, n)
        return self._rows(0, count), self._rows(count, n)

    def _rows(self, start: int, stop: int) -> Rows:
        return Rows(self.symbols, self.values.rows(start, stop), self.ingest_ts[start:stop])


def derived_rows(batch: Batch, learned_at: int | None = None) -> dict[str, Rows]:
    """The rows of a batch for each table that gets any; copied where they are a part of a larger block.

    `learned_at` is the earliest time, ns, at which any of them was known here, whatever the loop's time was; None: the
    loop's time is the time.
    """
    known = batch.now if learned_at is None else np.maximum(batch.now, learned_at)
    tables: dict[str, Bars | Signals] = {"microbars": batch.microbars, "signals": batch.signals}
    return {
        table: Rows(
            batch.symbols,
            type(values)(np.ascontiguousarray(values.ints), np.ascontiguousarray(values.floats)),
            known[values.at - batch.start],
        )
        for table, values in tables.items()
        if len(values)
    }


def arrow_table(table: str, rows: list[Rows]) -> pa.Table:
    """The rows as one Arrow table with the columns of `table`; text columns are dictionaries, NaN is null."""
    if not rows:
        return arrow_schema(table).empty_table()
    parts = [_arrow_part(table, list(group)) for _, group in groupby(rows, key=lambda part: id(part.symbols))]
    return parts[0] if len(parts) == 1 else pa.concat_tables(parts).unify_dictionaries()


def digest(block: pa.Table) -> str:
    """A hexadecimal token that the same rows always have, in however many chunks they are."""
    block = block.combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as stream:
        stream.write_table(block)
    return hashlib.blake2b(sink.getvalue(), digest_size=16).hexdigest()


def _arrow_part(table: str, rows: list[Rows]) -> pa.Table:
    """The rows of one symbol table."""
    kind: Any = type(rows[0].values)
    values = kind.concatenate([part.values for part in rows])
    n = len(values)
    steps, step = np.unique(values.step, return_inverse=True)
    window = dictionary(step, [window_size(int(step)) for step in steps])
    start = column(values.event_ts, TIMESTAMP)
    columns = [
        dictionary(values.symbol, rows[0].symbols.names),
        start,
        column(stored_seq(rows[0].symbols, values) if table == "signals" else values.seq, pa.int64()),
        column(np.concatenate([part.ingest_ts for part in rows]), TIMESTAMP),
        mask(np.ones(n, np.bool_)),
        dictionary(np.zeros(n, np.int64), [SOURCE]),
        window,
        window,
        start,
        column(values.end, TIMESTAMP),
        column(np.full(n, VERSION, np.uint32), pa.uint32()),
    ]
    if table == "microbars":
        columns += [column(getattr(values, name), pa.float64()) for name in BAR_VALUES.values()]
        columns.append(column(values.count, pa.int64()))
    else:
        columns += [column(getattr(values, name), pa.float64()) for name in SIGNAL_COLUMNS]
    return pa.Table.from_arrays(columns, names=arrow_schema(table).names)
