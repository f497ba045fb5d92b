"""Rows on their way to a tape: kept in a file as they come, then written in order of time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from torghut_core.errors import InputError
from torghut_core.model.market import IntArray, window_size

ROWS_AT_A_TIME = 65_536
WINDOW_SIZE = b"window_size"
"""Key of the length of bars in a tape's metadata, as PT1M, so that its reader has nothing to guess."""

_TIME = pa.timestamp("ns", "UTC")
_FLOAT = pa.float64()
_TEXT = pa.string()
_PLACE = [("file", pa.int32()), ("place", pa.int64())]

SCHEMAS: dict[str, list[tuple[str, pa.DataType]]] = {
    "bars": [
        ("symbol", _TEXT),
        ("event_ts", _TIME),
        *((name, _FLOAT) for name in ("open", "high", "low", "close", "volume", "vwap")),
        ("trade_count", pa.int64()),
    ],
    "trades": [
        ("symbol", _TEXT),
        ("event_ts", _TIME),
        ("price", _FLOAT),
        ("size", _FLOAT),
        ("exchange", _TEXT),
        ("conditions", _TEXT),
        ("trade_id", _TEXT),
        ("suspicious", pa.bool_()),
    ],
    "quotes": [
        ("symbol", _TEXT),
        ("event_ts", _TIME),
        *((name, _FLOAT) for name in ("bid_price", "bid_size", "ask_price", "ask_size")),
    ],
}
"""The columns of a tape of each kind."""


class Repeats(NamedTuple):
    """Rows that came again: how many with the same values, how many bars with others, and the first of those (file, place)."""

    same: int
    other: int
    first_same: tuple[int, int] | None
    first_other: tuple[int, int] | None


class Staging:
    """Rows of one kind, in the order in which they came.

    Attributes
    ----------
    rows : how many there are.
    is_sorted : whether each row is later than the one before it, or of trades and quotes not earlier.
    early : how many rows are before one that came before them.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.rows = 0
        self.is_sorted = True
        self.early = 0
        self._path = folder / f"{kind}.arrow"
        self._schema = pa.schema([*SCHEMAS[kind], *_PLACE])
        self._writer = pa.ipc.new_file(str(self._path), self._schema)
        self._numbers: dict[str, int] = {}
        self._last = (-(2**63), -1)
        self._sizes: list[int] = []

    def add(self, columns: dict[str, pa.Array], times: IntArray) -> None:
        """Keep rows, with the file and place of each in the columns `file` and `place`."""
        if not len(times):
            return
        n = len(times)
        arrays = [columns.get(field.name) for field in self._schema]
        batch = pa.record_batch(
            [
                pa.nulls(n, field.type) if array is None else array
                for field, array in zip(self._schema, arrays, strict=True)
            ],
            schema=self._schema,
        )
        self._writer.write_batch(batch)
        self._sizes.append(n)
        self.rows += n
        codes = self._codes(columns["symbol"])
        latest = np.maximum.accumulate(np.append(self._last[0], times))
        self.early += int(np.count_nonzero(times < latest[:-1]))
        before, codes_before = np.append(self._last[0], times[:-1]), np.append(self._last[1], codes[:-1])
        if self.kind == "bars":
            in_order = (times > before) | ((times == before) & (codes > codes_before))
        else:
            in_order = times >= before
        self.is_sorted = self.is_sorted and bool(in_order.all())
        self._last = int(max(latest)), int(codes[-1])

    def _codes(self, symbols: pa.Array) -> NDArray[np.int32]:
        """The number of each symbol, in order of first appearance."""
        names = symbols.dictionary_encode()
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names.dictionary.to_pylist()]
        codes: NDArray[np.int32] = np.array(numbers, np.int32)[np.from_dlpack(names.indices)]
        return codes

    def write(self, path: Path, step: int | None) -> Repeats:
        """Write the tape, in order of time; of bars, and trades with an id, that came more than once the first counts."""
        self._writer.close()
        metadata = {WINDOW_SIZE: window_size(step).encode()} if step else None
        schema = pa.schema(SCHEMAS[self.kind], metadata=metadata)
        found = Repeats(0, 0, None, None)
        # Mapped where rows are taken from all over it; read in parts, which leave memory again, where not.
        opened = pa.OSFile(str(self._path)) if self.is_sorted else pa.memory_map(str(self._path))
        with opened as file, pq.ParquetWriter(path, schema, compression="zstd") as writer:
            reader = pa.ipc.open_file(file)
            batches = (
                self._in_order(reader)
                if not self.is_sorted
                else map(reader.get_batch, range(reader.num_record_batches))
            )
            last: pa.RecordBatch | None = None
            seen: set[str] = set()
            for batch in batches:
                kept = batch
                if self.kind == "bars" and not self.is_sorted:
                    kept, found = _without_repeats(batch, last, found)
                    last = batch.slice(len(batch) - 1)
                elif self.kind == "trades" and batch["trade_id"].null_count < len(batch):
                    kept, found, seen = _without_repeated_trades(batch, seen, found)
                writer.write_batch(kept.select(schema.names).cast(schema), row_group_size=2 * ROWS_AT_A_TIME)
        return found

    def _in_order(self, reader: pa.ipc.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
        times, codes = np.empty(self.rows, np.int64), np.empty(self.rows, np.int32)
        done = 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            part = slice(done, done + len(batch))
            times[part] = np.from_dlpack(batch["event_ts"].cast(pa.int64()))
            codes[part] = self._codes(batch["symbol"])
            done += len(batch)
        order = np.lexsort((codes, times)) if self.kind == "bars" else np.argsort(times, kind="stable")
        del times, codes
        ends = np.cumsum(self._sizes)
        starts = ends - self._sizes
        for start in range(0, len(order), ROWS_AT_A_TIME):
            rows = order[start : start + ROWS_AT_A_TIME]
            of = np.searchsorted(ends, rows, side="right")
            used = np.unique(of)
            if len(used) > 64:  # scattered over the whole file: a table of what is needed, part by part
                parts = [reader.get_batch(int(each)).take(pa.array(rows[of == each] - starts[each])) for each in used]
                place = np.empty(len(rows), np.int64)
                place[np.argsort(of, kind="stable")] = np.arange(len(rows))
                yield _one(parts).take(pa.array(place))
            else:
                offsets = np.zeros(len(self._sizes), np.int64)
                offsets[used] = np.cumsum([0, *(self._sizes[each] for each in used[:-1])])
                whole = pa.Table.from_batches([reader.get_batch(int(each)) for each in used])
                yield _one(whole.take(pa.array(rows - starts[of] + offsets[of])).to_batches())


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _without_repeats(
    batch: pa.RecordBatch, last: pa.RecordBatch | None, found: Repeats
) -> tuple[pa.RecordBatch, Repeats]:
    """Leave out the bars of a batch, in order, that have the symbol and time of the one before."""
    whole = batch if last is None else _one([last, batch])
    new = 0 if last is None else 1
    times = np.from_dlpack(whole["event_ts"].cast(pa.int64()))
    names = np.from_dlpack(whole["symbol"].dictionary_encode().indices)
    again = np.append(False, (times[1:] == times[:-1]) & (names[1:] == names[:-1]))
    if not again.any():
        return batch, found
    values = np.stack([np.from_dlpack(whole[name]) for name in ("open", "high", "low", "close", "volume")])
    is_other = np.append(False, (values[:, 1:] != values[:, :-1]).any(axis=0)) & again
    is_same = again & ~is_other

    found = Repeats(
        found.same + int(np.count_nonzero(is_same)),
        found.other + int(np.count_nonzero(is_other)),
        found.first_same or _place(whole, is_same),
        found.first_other or _place(whole, is_other),
    )
    return batch.filter(pa.array(~again[new:])), found


def _without_repeated_trades(
    batch: pa.RecordBatch, seen: set[str], found: Repeats
) -> tuple[pa.RecordBatch, Repeats, set[str]]:
    """Leave out the trades of a batch, in order of time, whose symbol, time, exchange and id came before; give those of its last time.

    `seen` are those of the last time before it.
    """
    times = batch["event_ts"].cast(pa.int64())
    exchanges = batch["exchange"].fill_null("")
    keys = pc.binary_join_element_wise(batch["symbol"], times.cast(pa.string()), exchanges, batch["trade_id"], " ")
    encoded = keys.dictionary_encode()
    numbers = np.from_dlpack(encoded.indices.fill_null(-1))
    again = np.ones(len(batch), np.bool_)
    again[np.unique(numbers, return_index=True)[1]] = False
    if seen:
        again |= np.from_dlpack(pc.is_in(keys, pa.array(sorted(seen))).cast(pa.uint8())) != 0
    again &= numbers >= 0
    moments = np.from_dlpack(times)
    last = {key for key in keys.filter(pa.array(moments == moments[-1])).to_pylist() if key is not None}
    if moments[0] == moments[-1]:
        last |= seen
    if again.any():
        found = found._replace(
            same=found.same + int(np.count_nonzero(again)), first_same=found.first_same or _place(batch, again)
        )
        batch = batch.filter(pa.array(~again))
    return batch, found, last


def _place(batch: pa.RecordBatch, rows: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The file and place of the first of these rows; None for none."""
    if not rows.any():
        return None
    at = int(rows.argmax())
    return batch["file"][at].as_py(), batch["place"][at].as_py()


@contextmanager
def beside(path: Path) -> Iterator[tuple[Path, Path]]:
    """Give a folder for what is kept meanwhile, and the file that takes the place of `path` if all goes well.

    Raises
    ------
    InputError : the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part.parquet")
    try:
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            try:
                yield Path(folder), part
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error} (choose another file)") from error
