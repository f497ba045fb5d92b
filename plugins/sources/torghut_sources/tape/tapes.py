"""A tape: one file of recorded market data, checked row by row and given out as batches.

A tape is a recording, so its rows keep their order. Without a column `ingest_ts` they have to be in order of `event_ts`;
with one, which every JSONL envelope has, in order of that, and `event_ts` may fall: such events are late. What can be
checked without reading all rows is checked before the first event, each row when it is read. A file may be larger than
memory.

A tape that is followed has no end. Where it ends for now its streams give an empty batch, and the next request reads again:
the caller waits as long as it likes. Nothing about a row depends on when it was written.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from torghut_core import BarEnds, Bars, Batch, InputError, IntArray, SymbolTable, TapeError
from torghut_sources.tape.rows import BARS, KINDS, Columns, Complaint, Kind, Rows, bar_step

Block: TypeAlias = tuple[list[Rows], list[Complaint]]
"""A part of a tape: its rows by kind, and complaints about lines that are no rows."""

EARLIEST = -(2**63)

MAX_COLUMNS = 4_096
"""Columns of a tape at most; what is searched for in their names takes time for each."""

HINTS: dict[type[OSError], str] = {
    FileNotFoundError: "check the path, which counts from the working directory",
    PermissionError: "give the user that runs torghut read access to it",
    IsADirectoryError: "name the files in it",
}


class Skipped(NamedTuple):
    """How many rows were skipped for one reason, and the place of the first."""

    rows: int
    first: int


class Tape(ABC):
    """One file of market data.

    Parameters
    ----------
    path : the file.
    skip : skip and count bad rows, instead of stopping at the first.
    step : length of its bars, ns; None: read it from the file.
    follow : continue at its end with what is written later.
    ends : when its bars are complete; without calendars where None.

    Attributes
    ----------
    total : rows in it; None before `check`, and for text, which would have to be read for that.
    is_numbered : whether `seq` of its rows is its own, and not their place in the file; known after `check`.
    skipped : rows skipped since `streams` was called, by reason.
    """

    UNIT: ClassVar[str] = "row"
    HEADER: ClassVar[int | None] = None
    """The place of the names of the columns."""

    def __init__(
        self,
        path: Path,
        *,
        skip: bool = False,
        step: int | None = None,
        follow: bool = False,
        ends: BarEnds | None = None,
    ) -> None:
        self.path = path
        self.total: int | None = None
        self.is_numbered = True
        self.skipped: dict[str, Skipped] = {}
        self._skip = skip
        self._step = step
        self._follow = follow
        self._ends = ends or BarEnds()

    def check(self) -> None:
        """Check what can be checked without reading all rows: the file, its columns, their types.

        Raises
        ------
        TapeError : it cannot be replayed.
        """
        if self.path.exists() and not (self.path.is_file() or self.path.is_dir()):  # to open a pipe may take for ever
            raise self._error("is not a regular file", "write what it gives to a file first")
        try:
            with self.path.open("rb") as file:
                is_empty = not file.read(1)
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}", HINTS.get(type(error), "check the file")) from error
        if is_empty and not self._follow:
            raise self._error("is empty", "name a file with rows in it")
        with self._reading():
            self._check_content()

    def streams(self, symbols: SymbolTable) -> list[Iterator[Batch]]:
        """Return the tape as streams of batches, each with positions from 0: one, or one for each symbol.

        They raise `TapeError` at the first bad row, unless such rows are skipped. An empty batch, of a followed tape only,
        says that there is no more for now.
        """
        self.skipped = {}
        return [self._contained(self._stream(blocks, symbols)) for blocks in self._blocks(symbols)]

    @abstractmethod
    def _check_content(self) -> None:
        """Check what is particular to the format; the file is there, and not empty unless it is followed."""

    @abstractmethod
    def _blocks(self, symbols: SymbolTable) -> Sequence[Iterator[Block | None]]:
        """Return the rows in file order, a part at a time, for each stream; None where a followed tape ends for now."""

    def _contained(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            with self._reading():
                batch = next(stream, None)
            if batch is None:
                return
            yield batch

    def _stream(self, blocks: Iterable[Block | None], symbols: SymbolTable) -> Iterator[Batch]:
        """Check the order of the rows, drop bad ones, and number the others."""
        start = 0
        arrived = now = EARLIEST
        for block in blocks:
            if block is None:
                yield Batch.of(symbols, start, np.empty(0, np.int64))
                continue
            parts, complaints = block
            if parts:
                order = np.argsort(np.concatenate([part.places for part in parts]), kind="stable")
                arrived = _check_order(parts, order, arrived)
            self._count_or_raise([*complaints, *(complaint for part in parts for complaint in part.complaints)])
            if not parts or all(part.bad.all() for part in parts):
                continue
            good = ~np.concatenate([part.bad for part in parts])
            at = np.empty(len(good), np.int64)
            at[order] = np.cumsum(good[order]) - 1
            known = np.empty(np.count_nonzero(good), np.int64)
            tables: dict[str, Any] = {}
            for part, ranks in zip(parts, _split(at, parts), strict=True):
                table: Any = part.table.take(~part.bad) if part.bad.any() else part.table
                rank = ranks[~part.bad]
                table.at[:] = start + rank
                known[rank] = table.event_ts
                if part.kind is BARS:
                    table.end[:] = self._ends.of(symbols.names, table.symbol, table.event_ts, table.step)
                    known[rank] = table.end
                    _number_series(table, symbols)
                tables[part.kind.name] = table
            known[0] = max(int(known[0]), now)
            np.maximum.accumulate(known, out=known)
            now = int(known[-1])
            yield Batch.of(symbols, start, known, **tables)
            start += len(known)
        if not start and not self.skipped:
            raise self._error("has nothing to replay", "name a file with trades, quotes or bars in it")

    def _count_or_raise(self, complaints: list[Complaint]) -> None:
        """Raise at the first bad row, or count the rows that are skipped."""
        if complaints and not self._skip:
            first = min(complaints, key=lambda complaint: complaint.place)
            raise self._error(first.message, first.hint, first.place)
        for complaint in complaints:
            before = self.skipped.get(complaint.reason, Skipped(0, complaint.place))
            self.skipped[complaint.reason] = Skipped(before.rows + complaint.rows, min(before.first, complaint.place))

    def _error(self, message: str, hint: str, place: int | None = None) -> TapeError:
        return TapeError(self.path, message, hint, place, self.UNIT)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn the errors of libraries about a damaged file into a `TapeError`."""
        try:
            yield
        except InputError:
            raise
        except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            reason = str(error).partition("\n")[0]
            raise self._error(f"cannot be read: {reason}", "the file is damaged or cut off: write it again") from error
        except Exception as error:  # whatever is in the file
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise self._error(f"cannot be read: {reason}", "report it, with the file") from error

    def _kind(self, names: list[str]) -> Kind:
        """Return the kind of rows that the columns belong to."""
        self.is_numbered = "seq" in names
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise self._error(f"column {twice[0]!r} occurs more than once", "remove all but one", self.HEADER)
        if len(names) > MAX_COLUMNS:
            raise self._error(f"has {len(names):,} columns", f"leave at most {MAX_COLUMNS:,}", self.HEADER)
        if "bid_open" in names or "ask_open" in names:
            raise self._error(
                "holds quote bars, which cannot be replayed",
                "replay its quotes, or rename bid_close and ask_close to bid_price and ask_price and set event_ts to "
                "the end of each interval",
            )

        def fit(kind: Kind) -> tuple[bool, float]:
            """Return whether all columns of only this kind are there, and the share of them that at least resembles one."""
            own = [name for name in kind.required if name not in ("symbol", "event_ts")]
            return set(own) <= set(names), sum(bool(get_close_matches(name, names, 1)) for name in own) / len(own)

        kind = max(KINDS.values(), key=fit)
        wanted = f"{kind.name} have {', '.join(kind.required)}"
        if not any(fit(kind)):
            raise self._error(f"holds no trades, quotes or bars, but {', '.join(names)}", f"for example, {wanted}")
        for name in kind.required:
            if name not in names:
                close = get_close_matches(name, set(names) - {*kind.required, *kind.optional}, 1)
                importing = "; `torghut data import` makes a tape of a file for one symbol" if name == "symbol" else ""
                hint = f"rename {close[0]!r} to {name!r}" if close else wanted + importing
                raise self._error(f"column {name!r} is missing", hint)
        return kind

    def _bar_step(self, columns: Columns) -> int:
        """Return the length of the bars, from the first of them."""
        step = bar_step(columns)
        if step is None:
            raise self._error("does not show how long its bars are", "set it, like bar_step: 1Min")
        return step


def _check_order(parts: list[Rows], order: IntArray, arrived: int) -> int:
    """Reject rows that arrived before a row above them; return the last arrival.

    `order` sorts the rows of all parts by their place; `arrived` is the last arrival before them.
    """
    arrival = np.concatenate([np.where(part.bad, EARLIEST, part.arrival) for part in parts])
    latest = np.empty(len(order), np.int64)
    latest[order] = np.maximum.accumulate(np.maximum(arrival[order], arrived))
    for part, own in zip(parts, _split(latest, parts), strict=True):
        part.reject_before(own)
    return int(latest[order[-1]])


def _split(values: IntArray, parts: list[Rows]) -> list[IntArray]:
    """Split `values`, of all parts, into those of each part."""
    return np.split(values, np.cumsum([len(part.places) for part in parts])[:-1])


def _number_series(bars: Bars, symbols: SymbolTable) -> None:
    for step in np.unique(bars.step).tolist():
        rows = bars.step == step
        own = bars.symbol[rows]
        numbers = np.zeros(len(symbols), np.int64)
        for symbol in np.flatnonzero(np.bincount(own)).tolist():
            numbers[symbol] = symbols.series(symbol, step, of_venue=True)
        bars.series[rows] = numbers[own]
