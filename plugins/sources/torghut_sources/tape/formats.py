"""The formats of tapes: Parquet, CSV and JSONL."""

from __future__ import annotations

import bisect
import csv
import gzip
import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pyarrow.types as arrow

from torghut_core import BarEnds, Envelope, InputError, IntArray, SymbolTable, TapeError, Window
from torghut_sources.tape.rows import BARS, KINDS, TIME, TRADES, Columns, Complaint, Kind, Rows, filled, is_text
from torghut_sources.tape.tapes import Block, Tape

pa.enable_signal_handlers(False)  # or SIGTERM would end a read as if the file were damaged

BLOCK_ROWS = 65_536
BLOCK_BYTES = 1 << 20
BUFFER_BYTES = 1 << 15

WINDOW_SIZE = b"window_size"
"""Key of a Parquet file's metadata under which it says how long its bars are, as PT1M; `torghut data import` writes it."""

SKIPPED_CHANNELS = (
    "microbars",
    "signals",
    "status",
    "ta-status",
    "trade-updates",
    "dailyBars",
    "updatedBars",
    "statuses",
    "lulds",
    "corrections",
    "cancelErrors",
    "orderbooks",
)
"""Channels that a recording may hold and a replay skips."""


def open_tape(
    path: Path, *, skip: bool = False, step: int | None = None, follow: bool = False, ends: BarEnds | None = None
) -> Tape:
    """Return the tape in a file, by the end of its name; nothing is read yet.

    Raises
    ------
    TapeError : an unknown ending, or a tape to follow in a format that does not grow.
    """
    for suffix, format_ in FORMATS.items():
        if path.name.lower().endswith(suffix):
            if follow and suffix not in GROWING:
                hint = f"follow a file that ends in {' or '.join(GROWING)}, or leave out follow"
                raise TapeError(path, f"cannot be followed: a {suffix} file does not grow line by line", hint)
            return format_(path, skip=skip, step=step, follow=follow, ends=ends)
    raise TapeError(path, "is of an unknown format", f"use a file that ends in {', '.join(FORMATS)}")


class ParquetTape(Tape):
    """A Parquet file, read a few pages at a time; places are 0-based rows.

    If the symbols follow one another, each in one stretch of rows, every symbol is a stream of its own. To find out, the
    symbol column is read first, up to the first symbol that comes back.
    """

    def _check_content(self) -> None:
        with self._reading(), self._open() as file:
            schema = file.schema_arrow
            self._of = self._kind(schema.names)
            optional = [name for name in self._of.optional if name in schema.names]
            names = [*self._of.required, *(name for name in optional if not arrow.is_null(schema.field(name).type))]
            for name in names:
                self._check_type(name, schema.field(name).type)
            self._schema = pa.schema([(name, _plain(schema.field(name).type)) for name in names])
            self.total = file.metadata.num_rows
            if not self.total:
                raise self._error("has no rows: there is nothing to replay", "name a file with rows in it")
            if self._of is BARS and self._step is None:
                self._step = self._said_step(schema.metadata or {})
            if self._of is BARS and self._step is None:
                first = next(file.iter_batches(BLOCK_ROWS, columns=["symbol", "event_ts"]))
                self._step = self._bar_step(_by_name(first))

    def _said_step(self, metadata: Mapping[bytes, bytes]) -> int | None:
        """Return the length of the bars that the file's metadata say; None where they do not."""
        said = metadata.get(WINDOW_SIZE)
        if said is None:
            return None
        try:
            size = said.decode()
            return Window(size=size, step=size, start=0, end=0).length
        except (UnicodeDecodeError, InputError) as error:
            raise self._error(
                f"its metadata say bars of {said!r}: {error}", "write a duration there, like PT1M"
            ) from error

    def _check_type(self, name: str, type_: pa.DataType) -> None:
        if name in ("event_ts", "ingest_ts"):
            if arrow.is_timestamp(type_) and type_.tz is None:
                raise self._error(f"column {name!r} has no time zone", "write it as timestamp[ns, UTC]")
            fits, hint = arrow.is_timestamp(type_), "timestamp[ns, UTC], converting whole seconds or milliseconds"
        elif name in ("symbol", "exchange", "conditions"):
            fits, hint = is_text(type_), "text"
        elif name == "trade_id":
            fits, hint = is_text(type_) or arrow.is_integer(type_), "int64 or text, which keep all digits"
        elif name == "seq":
            fits, hint = arrow.is_integer(type_), "int64"
        elif name == "suspicious":
            fits, hint = arrow.is_boolean(type_), "bool"
        else:
            fits = arrow.is_integer(type_) or arrow.is_floating(type_) or arrow.is_decimal(type_)
            hint = "float64"
        if not fits:
            raise self._error(f"column {name!r} is of type {type_}", f"write it as {hint}")

    def _blocks(self, symbols: SymbolTable) -> list[Iterator[Block]]:
        starts = self._starts()
        streams = [self._read(self._schema.names)] if len(starts) == 1 else self._spill(starts)
        return [self._parsed(stream, symbols) for stream in streams]

    def _parsed(self, stream: Iterator[tuple[int, pa.RecordBatch]], symbols: SymbolTable) -> Iterator[Block]:
        for row, batch in stream:
            places = np.arange(row, row + len(batch))
            yield [Rows(self._of, places, _by_name(batch), symbols, step=self._step or 0)], []

    def _read(self, names: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield all rows in file order, each batch with the number of its first row."""
        row = 0
        with self._reading(), self._open() as file:
            for batch in file.iter_batches(BLOCK_ROWS, columns=names):
                batch.validate(full=True)  # Parquet does not promise that text is UTF-8
                yield row, batch
                row += len(batch)

    def _starts(self) -> list[int]:
        """Return the first row of each symbol if the symbols follow one another, else just 0."""
        starts: dict[str | None, int] = {}
        last = None
        for row, batch in self._read(["symbol"]):
            names = batch.column(0).dictionary_encode()
            numbers = filled(names.indices, -1)
            for change in [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()]:
                name = names[change].as_py()
                if name in starts and name != last:
                    return [0]
                starts.setdefault(name, row + change)
                last = name
        return list(starts.values())

    def _spill(self, starts: list[int]) -> list[Iterator[tuple[int, pa.RecordBatch]]]:
        """Return the rows from each start to the next, as streams that are read side by side.

        Parquet can only be read from the front, and a stream for each of hundreds of symbols would read the file as often.
        So it is read once, into a temporary file of plain columns, which is deleted with the last stream.
        """
        size = max(BLOCK_ROWS // len(starts), 1024)
        pieces: list[list[tuple[int, int]]] = [[] for _ in starts]  # of each stream: first row, number in the file
        count = 0
        try:
            with tempfile.NamedTemporaryFile(suffix=".arrow") as file:
                with pa.ipc.new_file(file.name, self._schema) as writer:
                    for row, batch in self._read(self._schema.names):
                        columns = [batch.column(field.name).cast(field.type) for field in self._schema]
                        plain = pa.record_batch(columns, schema=self._schema)
                        first, end = row, row + len(batch)
                        while first < end:
                            stream = bisect.bisect(starts, first) - 1
                            until = min(end, first + size, *starts[stream + 1 : stream + 2])
                            writer.write_batch(plain.slice(first - row, until - first))
                            pieces[stream].append((first, count))
                            first, count = until, count + 1
                reader = pa.ipc.open_file(pa.memory_map(file.name))
        except OSError as error:
            hint = "sort the file by event_ts, or free space in the folder for temporary files"
            raise self._error(f"has its symbols one after the other and cannot be merged: {error}", hint) from error
        return [((row, reader.get_batch(number)) for row, number in stream) for stream in pieces]

    def _open(self) -> pyarrow.parquet.ParquetFile:
        return pyarrow.parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=BUFFER_BYTES)


class TextTape(Tape):
    """A file of lines, plain or gzipped; places are 1-based lines."""

    UNIT: ClassVar[str] = "line"

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield whole lines in blocks of about `BLOCK_BYTES`, each with the number of its first line.

        Where a followed file ends for now a block is empty, and an incomplete line waits for its end.
        """
        line, rest = 1, b""
        with self._reading(), self._open() as file:
            for chunk in self._chunks(file):
                if not chunk:
                    yield line, b""
                    continue
                head, newline, tail = chunk.rpartition(b"\n")
                if not newline:
                    rest += chunk
                    continue
                block, rest = rest + head + newline, tail
                yield line, block
                line += block.count(b"\n")
            if rest:
                yield line, rest

    def _chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield the bytes of the file, a chunk at a time; a followed file has no end, and an empty chunk where it ends for now."""
        size = 0
        while (chunk := file.read(BLOCK_BYTES)) or self._follow:
            if self._follow:
                size = self._check_growth(file, size, is_at_end=not chunk)
            yield chunk

    def _check_growth(self, file: IO[bytes], size: int, *, is_at_end: bool) -> int:
        """Check that a followed file has only grown since it had this `size`; return its size."""
        status = os.fstat(file.fileno())
        hint = "only append to a tape that is followed; to follow another file, restart"
        if status.st_size < size:
            raise self._error("was truncated while it was followed", hint)
        if is_at_end:  # a file that was moved is read to its end first
            try:
                is_same = os.path.samestat(status, self.path.stat())
            except FileNotFoundError:
                is_same = False
            if not is_same:
                raise self._error("was replaced or removed while it was followed", hint)
        return status.st_size

    def _open(self) -> IO[bytes]:
        return gzip.open(self.path) if self.path.suffix.lower() == ".gz" else self.path.open("rb")  # type: ignore[return-value]

    def _blocks(self, symbols: SymbolTable) -> list[Iterator[Block | None]]:
        return [(self._block(line, lines, symbols) if lines else None for line, lines in self._lines())]

    @abstractmethod
    def _block(self, line: int, lines: bytes, symbols: SymbolTable) -> Block:
        """Return the rows of lines, of which the first has this number."""


class CsvTape(TextTape):
    """A CSV file with a header, commas, and times in RFC 3339."""

    HEADER: ClassVar[int | None] = 1

    def _check_content(self) -> None:
        line, lines = next(self._lines(), (1, b""))
        columns, places, complaints = self._columns(line, lines) if lines else ({}, np.empty(0, np.int64), [])
        if self._follow:  # the other checks depend on how many rows are there
            return
        if not complaints and not len(places):
            raise self._error("has no rows: there is nothing to replay", "name a file with rows in it")
        if len(places):
            rows = Rows(self._of, places, columns, SymbolTable(), step=1)
            for complaint in rows.complaints:
                if complaint.reason.endswith(TIME) and complaint.rows == len(places):
                    raise self._error(
                        complaint.message, f"write {rows.clock} with date, time and zone", complaint.place
                    )
        if self._of is BARS and self._step is None:
            self._step = self._bar_step(columns or dict.fromkeys(("symbol", "event_ts"), pa.array([], pa.string())))

    def _read_header(self, header: bytes) -> None:
        try:
            self._header = next(csv.reader([header.decode("utf-8-sig").rstrip("\r")], strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise self._error(
                f"not a line of CSV: {error}", "write a header with the names of the columns", 1
            ) from error
        self._of = self._kind(self._header)
        self._names = [name for name in (*self._of.required, *self._of.optional) if name in self._header]
        if self._follow and self._of is BARS and self._step is None:
            raise self._error("does not show how long its bars are while it grows", "set it, like bar_step: 1Min")

    def _block(self, line: int, lines: bytes, symbols: SymbolTable) -> Block:
        columns, places, complaints = self._columns(line, lines)
        rows = [Rows(self._of, places, columns, symbols, origin=2, step=self._step or 0)] if len(places) else []
        return rows, complaints

    def _columns(self, line: int, lines: bytes) -> tuple[Columns, IntArray, list[Complaint]]:
        """Return text by column, the line of each row, and complaints about lines that are no rows."""
        if line == 1:
            header, _, lines = lines.partition(b"\n")
            self._read_header(header)
            line = 2
        n = lines.count(b"\n") + (not lines.endswith(b"\n"))
        is_quoted_in_pairs = lines.count(b'"') % 2 == 0  # Arrow would take the end of the block as a closing quote
        table = self._table(lines) if is_quoted_in_pairs else None
        if table is not None and len(table) == n:
            return _by_name(table), np.arange(line, line + n), []
        good, places, complaints = self._sift(lines, line)
        table = self._table(b"\n".join(good))
        if good and (table is None or len(table) != len(good)):
            raise self._error("cannot be read as CSV", "use commas, and double quotes around text with a comma", line)
        return ({} if table is None else _by_name(table)), np.array(places, np.int64), complaints

    def _sift(self, lines: bytes, line: int) -> tuple[list[bytes], list[int], list[Complaint]]:
        """Check a block line by line; return the good lines, their numbers, and complaints."""
        good, places, complaints = [], [], []
        for place, text in enumerate(lines.split(b"\n"), line):
            if not text.strip():
                continue
            try:
                fields = next(csv.reader([text.decode()], strict=True))
            except (UnicodeDecodeError, csv.Error) as error:
                complaints.append(Complaint(place, "not a line of CSV", f"not a line of CSV: {error}"))
                continue
            if len(fields) == len(self._header):
                good.append(text)
                places.append(place)
            else:
                message = f"has {len(fields)} fields, the header {len(self._header)}"
                complaints.append(Complaint(place, "has another number of fields than the header", message))
        return good, places, complaints

    def _table(self, lines: bytes) -> pa.RecordBatch | None:
        """Return the lines as columns of text; None where Arrow finds a line that is no row."""
        if not lines:
            return None
        try:
            table = pyarrow.csv.read_csv(
                pa.py_buffer(lines),
                pyarrow.csv.ReadOptions(column_names=self._header, use_threads=False, block_size=len(lines) + 1),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=self._names,
                    column_types=dict.fromkeys(self._names, pa.string()),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
        except pa.ArrowInvalid:
            return None
        return next(iter(table.combine_chunks().to_batches()), None)


class JsonlTape(TextTape):
    """Envelopes, one per line. The channel says what a line is; channels without market data are skipped."""

    def _check_content(self) -> None:
        if not self._follow and not any(lines.strip() for _, lines in self._lines()):
            raise self._error("has no rows: there is nothing to replay", "name a file with rows in it")

    def _block(self, line: int, lines: bytes, symbols: SymbolTable) -> Block:
        envelopes: dict[str, list[Envelope[Any]]] = {name: [] for name in KINDS}
        places: dict[str, list[int]] = {name: [] for name in KINDS}
        complaints = []
        for place, text in enumerate(lines.split(b"\n"), line):
            if not text.strip():
                continue
            try:
                envelope = Envelope.decode(text)
            except InputError as error:
                complaints.append(Complaint(place, "not an envelope", str(error)))
                continue
            if envelope.channel not in KINDS:
                if envelope.channel not in SKIPPED_CHANNELS:
                    complaints.append(_unknown_channel(place, envelope.channel))
            elif envelope.is_final:
                envelopes[envelope.channel].append(envelope)
                places[envelope.channel].append(place)
        rows = [
            Rows(kind, np.array(places[name]), self._columns(kind, envelopes[name]), symbols)
            for name, kind in KINDS.items()
            if places[name]
        ]
        return rows, complaints

    def _columns(self, kind: Kind, envelopes: list[Envelope[Any]]) -> Columns:
        payloads = [envelope.payload for envelope in envelopes]
        columns = {
            "symbol": pa.array([envelope.symbol for envelope in envelopes], pa.string()),
            "event_ts": pa.array([envelope.event_ts for envelope in envelopes], pa.int64()),
            "ingest_ts": pa.array([envelope.ingest_ts for envelope in envelopes], pa.int64()),
            "seq": pa.array([envelope.seq for envelope in envelopes], pa.int64()),
        }
        for name in kind.table.FLOAT_COLUMNS:
            columns[name] = pa.array([getattr(payload, name) for payload in payloads], pa.float64())
        if kind is TRADES:
            ids = (payload.trade_id for payload in payloads)
            columns["trade_id"] = pa.array([None if id_ is None else str(id_) for id_ in ids], pa.string())
            columns["exchange"] = pa.array([payload.exchange for payload in payloads], pa.string())
            conditions = (payload.conditions for payload in payloads)
            columns["conditions"] = pa.array([",".join(each) if each else None for each in conditions], pa.string())
        if kind is BARS:
            columns["trade_count"] = pa.array([payload.count for payload in payloads], pa.float64())
            columns["step"] = pa.array([self._length(envelope) for envelope in envelopes], pa.int64())
        return columns

    def _length(self, envelope: Envelope[Any]) -> int | None:
        if self._step is not None or envelope.window is None:
            return self._step
        try:
            length: int = envelope.window.length
        except InputError:
            return None
        return length


FORMATS: dict[str, type[Tape]] = {
    ".parquet": ParquetTape,
    ".csv": CsvTape,
    ".csv.gz": CsvTape,
    ".jsonl": JsonlTape,
    ".jsonl.gz": JsonlTape,
}
GROWING = (".csv", ".jsonl")
"""Formats that grow by a line, so that a tape of them can be followed."""


def _unknown_channel(place: int, channel: str) -> Complaint:
    near = get_close_matches(channel, KINDS, 1)
    hint = f"write {near[0]!r}" if near else f"use {', '.join(KINDS)}"
    return Complaint(place, "unknown channel", f"unknown channel {channel!r}", hint)


def _plain(type_: pa.DataType) -> pa.DataType:
    """Return the type without a dictionary, which may differ from batch to batch."""
    return type_.value_type if arrow.is_dictionary(type_) else type_


def _by_name(batch: pa.RecordBatch) -> Columns:
    return dict(zip(batch.schema.names, batch.columns, strict=True))
