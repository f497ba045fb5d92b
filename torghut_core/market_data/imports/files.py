"""Files of lines and of JSON, plain, gzipped or in a zip archive, given as columns a block at a time."""

from __future__ import annotations

import codecs
import csv
import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from torghut_core.errors import InputError
from torghut_core.market_data.imports.layouts import is_header
from torghut_core.model.market import IntArray

BLOCK_BYTES = 1 << 22
HEAD_BYTES = 1 << 16
DELIMITERS = (";", "\t", "|", ",")
MOST_JSON_BYTES = 1 << 28
"""JSON is one value, and so is read whole."""

MOST_LINE_BYTES = 1 << 24
_MOST_LINES_BEFORE = 5
_WIDTH = "has another number of fields than the first line"


class Left(NamedTuple):
    """Rows that were not taken: the place of the first, why, an example of what was wrong, and how many."""

    place: int
    reason: str
    example: str = ""
    rows: int = 1


class Block(NamedTuple):
    """A part of a file: columns by name, the 1-based line (or number in a list) of each row, and what was left out."""

    columns: dict[str, pa.Array]
    places: IntArray
    left: list[Left]


class Member(NamedTuple):
    """A file to read: its path, and its name in the archive where it is in one."""

    path: Path
    entry: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.entry}" if self.entry else str(self.path)


def members(path: Path) -> list[Member]:
    """Give what is to be read of a file: of an archive each of its entries, by name.

    Raises
    ------
    InputError : there is no such file, or no file in it.
    """
    with reading(Member(path)):
        if not path.is_file():
            raise InputError(f"{path}: there is no such file (check the path, which counts from the working directory)")
        if path.suffix.lower() != ".zip":
            return [Member(path)]
        with zipfile.ZipFile(path) as archive:
            names = sorted(each.filename for each in archive.infolist() if not each.is_dir() and each.file_size)
    if not names:
        raise InputError(f"{path}: has no file in it (name an archive with CSV files)")
    return [Member(path, name) for name in names if not name.startswith("__MACOSX/")]


@contextmanager
def reading(member: Member) -> Iterator[None]:
    """Turn the errors of libraries about a file into one that names it.

    Raises
    ------
    InputError : the file cannot be read.
    """
    try:
        yield
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeError, pa.ArrowException, RuntimeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise InputError(f"{member}: cannot be read: {reason} (check the file, or get it again)") from error


class Lines:
    """A file of lines with fields.

    Attributes
    ----------
    cells : of the first line that is neither a remark nor a title.
    heads : of that line and the two after it, as far as they are there.
    delimiter : what parts fields.
    """

    def __init__(self, member: Member) -> None:
        self.member = member
        with reading(member), _open(member) as file:
            head = next(_decoded(file, HEAD_BYTES), b"")
        if not head.strip():
            raise InputError(f"{member}: is empty (name a file with rows in it)")
        lines = head.decode("utf-8", "replace").splitlines()
        if len(lines) > 1 and len(head) >= HEAD_BYTES:
            lines.pop()
        self.delimiter = _delimiter(lines)
        self._first = self._first_line(lines)
        self.heads = [self._split(line) for line in lines[self._first : self._first + 3]]
        self.cells = self.heads[0]

    def blocks(self, names: Sequence[str], *, heads: int) -> Iterator[Block]:
        """Yield the rows after the header, a block at a time.

        Parameters
        ----------
        names : of the columns; "" for one that is not read.
        heads : lines that the header has.
        """
        line, rest = 1, b""
        skipped = self._first + heads
        with reading(self.member), _open(self.member) as file:
            for chunk in _decoded(file, BLOCK_BYTES):
                head, newline, tail = chunk.rpartition(b"\n")
                if not newline:
                    rest += chunk
                    if len(rest) > MOST_LINE_BYTES:
                        raise InputError(
                            f"{self.member}: line {line} has more than {MOST_LINE_BYTES >> 20} MB (is it a file of lines?)"
                        )
                    continue
                lines, rest = rest + head + newline, tail
                yield from self._rows(lines, line, skipped, names)
                line += lines.count(b"\n")
            if rest:
                yield from self._rows(rest, line, skipped, names)

    def before(self) -> list[Left]:
        """Give the lines before the first one that counts, such as an address or a remark."""
        return [Left(1, "lines before the header", rows=self._first)] if self._first else []

    def _rows(self, lines: bytes, line: int, skipped: int, names: Sequence[str]) -> Iterator[Block]:
        if line <= skipped:
            cut = 0
            for _ in range(skipped - line + 1):
                cut = lines.find(b"\n", cut) + 1
                if not cut:
                    return
            lines, line = lines[cut:], skipped + 1
        if not lines.strip():
            return
        if b"\r" in lines:  # one that ends no line would end one to Arrow
            lines = lines.replace(b"\r\n", b"\n").replace(b"\r", b" ")
        if lines.count(b'"') % 2:
            raise InputError(
                f"{self.member}: line {line} or one of those after it has an open quotation mark (close it)"
            )
        unique = [name or f" {number}" for number, name in enumerate(names)]
        wanted = [name for name in dict.fromkeys(names) if name]
        bad: list[tuple[int, str]] = []

        def keep(row: Any) -> str:
            bad.append((row.number - 1, row.text))
            return "skip"

        table = pyarrow.csv.read_csv(
            pa.py_buffer(lines),
            pyarrow.csv.ReadOptions(column_names=unique, use_threads=False, block_size=len(lines) + 1),
            pyarrow.csv.ParseOptions(
                delimiter=self.delimiter, ignore_empty_lines=False, invalid_row_handler=keep, newlines_in_values=False
            ),
            pyarrow.csv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=False
            ),
        ).combine_chunks()
        count = lines.count(b"\n") + (not lines.endswith(b"\n"))
        places = np.delete(np.arange(line, line + count), [number for number, _ in bad])
        left = [
            Left(line + number, _WIDTH, f"{content[:80]!r}")
            for number, content in bad
            if content.strip(f" \r{self.delimiter}")
        ]
        batches = table.to_batches()
        arrays = batches[0].columns if batches else [pa.array([], pa.string()) for _ in wanted]
        if b"\n\n" in lines or lines.startswith(b"\n"):  # an empty line is a row of empty fields to Arrow
            is_row = np.zeros(len(places), np.bool_)
            for array in arrays:
                is_row |= np.from_dlpack(pc.binary_length(array)) > 0
            arrays, places = [array.filter(pa.array(is_row)) for array in arrays], places[is_row]
        yield Block(dict(zip(wanted, arrays, strict=True)), places, left)

    def _first_line(self, lines: Sequence[str]) -> int:
        """Give the number of the first line that is the header or a row, from 0: as many fields as those after it."""
        for number in range(min(_MOST_LINES_BEFORE, len(lines) - 1)):
            text = lines[number]
            if (
                text.strip()
                and not text.startswith("#")
                and len(self._split(text)) == len(self._split(lines[number + 1]))
            ):
                return number
        return 0

    def _split(self, text: str) -> list[str]:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=self.delimiter), [])]


class Records:
    """JSON of Alpaca's market data: rows in a list, or in lists by symbol, of one answer or of a list of answers.

    Attributes
    ----------
    cells : the names of all fields.
    """

    def __init__(self, member: Member) -> None:
        self.member = member
        with reading(member), _open(member) as file:
            content = file.read(MOST_JSON_BYTES + 1)
        if len(content) > MOST_JSON_BYTES:
            raise InputError(
                f"{member}: has more than {MOST_JSON_BYTES >> 20} MB of JSON (write CSV, which is read in parts)"
            )
        try:
            self._rows = list(_records(msgspec.json.decode(content)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{member}: is not JSON: {error} (get it again)") from error
        if not self._rows:
            raise InputError(
                f"{member}: has no bars, trades or quotes (give the answer of Alpaca's market data as it is)"
            )
        self.cells = list(dict.fromkeys(key for row in self._rows for key in row))

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Yield the rows, text by column."""
        size = 65_536
        for start in range(0, len(self._rows), size):
            rows = self._rows[start : start + size]
            columns = {name: pa.array([_text(row.get(name)) for row in rows], pa.string()) for name in names if name}
            yield Block(columns, np.arange(start + 1, start + len(rows) + 1), [])


def _records(value: Any, symbol: str | None = None) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for each in value:
            yield from _records(each, symbol)
    elif isinstance(value, dict):
        names = [name for name in ("bars", "trades", "quotes") if isinstance(value.get(name), list | dict)]
        for name in names:
            inner = value[name]
            if isinstance(inner, dict):
                for key, rows in inner.items():
                    yield from _records(rows, key)
            else:
                yield from _records(inner, value.get("symbol", symbol))
        if not names and "t" in value:
            yield value if symbol is None else {**value, "symbol": symbol}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(map(str, value))
    return repr(value)


@contextmanager
def _open(member: Member) -> Iterator[IO[bytes]]:
    if member.entry:
        with zipfile.ZipFile(member.path) as archive, archive.open(member.entry) as file:
            yield file
    elif member.path.suffix.lower() == ".gz":
        with gzip.open(member.path) as file:
            yield file  # type: ignore[misc]
    else:
        with member.path.open("rb") as file:
            yield file


def _decoded(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the file as UTF-8 without its mark; UTF-16 by its mark, and what is not UTF-8 as Latin-1, of which only names have letters."""
    chunk = file.read(size)
    encoding = "utf-16" if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None
    chunk = chunk.removeprefix(codecs.BOM_UTF8)
    decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
    utf8 = codecs.getincrementaldecoder("utf-8")()
    while chunk:
        if decoder is not None:
            text = decoder.decode(chunk).encode()
        else:
            try:
                utf8.decode(chunk)
                text = chunk
            except UnicodeDecodeError:
                decoder = codecs.getincrementaldecoder("latin-1")()
                text = decoder.decode(chunk).encode()
        if b"\n" not in text and b"\r" in text:
            text = text.replace(b"\r", b"\n")
        yield text
        chunk = file.read(size)


def _delimiter(lines: Sequence[str]) -> str:
    """Give what parts the fields: what each of the first lines has equally often, or else most often."""
    some = [line for line in lines[:20] if line.strip() and not line.startswith("#")][-10:]
    best, most = ",", 0
    for delimiter in DELIMITERS:
        counts = [len(next(csv.reader([line], delimiter=delimiter), [])) - 1 for line in some]
        if counts and min(counts) == max(counts) > 0:
            return delimiter
        if counts and sum(counts) > most and is_header(some[0].split(delimiter)):
            best, most = delimiter, sum(counts)
    return best
