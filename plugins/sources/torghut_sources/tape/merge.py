"""Merges several streams of events into one, in the order in which they became known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torghut_core import Batch, IntArray, Trades
from torghut_sources.tape.rows import KINDS

NEVER = 2**63 - 1

OVERLAPPING = ("quotes", "trades")
"""Kinds of which a row that two streams have is one event; of bars, `Repeats` finds it whatever the values."""


def merge(streams: Sequence[Iterator[Batch]], numbered: Sequence[bool] = ()) -> Iterator[Batch]:
    """Merge streams into one, positions from 0.

    The next event is that of the stream whose own next event is least by (time it became known, kind, symbol name, seq);
    kinds are in the order bars, quotes, trades. Of bars of a symbol that end at one time the one that began last comes
    first, whatever its `seq`: a longer bar tells its time again. Equal events come in the order of `streams`. So every
    stream keeps its own order, and how it is cut into batches changes nothing. A trade or quote that two streams have, as
    where tapes overlap, is one event: the place of the second stays empty, as of a clock tick.

    Parameters
    ----------
    streams : each in order of the time at which its events became known.
    numbered : whether the `seq` of each stream's rows is their own, see `Tape.is_numbered`; true of all by default. Where
        a row stands in its own file says nothing of another's: other rows are ordered as if all had the same `seq`, and
        get their place in the result as theirs.
    """
    if len(streams) == 1:
        yield from streams[0]
        return
    heads = [_Head(*each) for each in zip(streams, numbered or [True] * len(streams), strict=True)]
    position = 0
    while True:
        horizon = min(head.until for head in heads)
        ready = [(part, head.is_numbered) for head in heads if (part := head.take(horizon)) is not None]
        if ready:
            batch = _interleave(ready, position)
            position = batch.stop
            yield batch
        if horizon == NEVER:
            return
        for head in heads:
            if head.until == horizon or head.is_low:
                head.load()


class _Head:
    """The events of a stream that are loaded and not given out; those not loaded become known at `until` or later."""

    def __init__(self, stream: Iterator[Batch], is_numbered: bool) -> None:
        self.is_numbered = is_numbered
        self._stream = stream
        self._loaded: Batch | None = None
        self._width = 0
        self.until = -NEVER

    @property
    def is_low(self) -> bool:
        """Whether less than a block is left: loading now saves many small steps where there are many streams."""
        return self.until < NEVER and (self._loaded is None or len(self._loaded) < self._width)

    def load(self) -> None:
        batch = next(self._stream, None)
        if batch is None:
            self.until = NEVER
            return
        self.until = int(batch.now[-1])
        self._width = len(batch)
        self._loaded = batch if self._loaded is None else _join(self._loaded, batch)

    def take(self, horizon: int) -> Batch | None:
        """Take the loaded events that became known before `horizon`; equals of those at it may not be loaded yet."""
        if self._loaded is None:
            return None
        cut = self._loaded.start + int(np.searchsorted(self._loaded.now, horizon))
        ready, rest = self._loaded.split(cut)
        self._loaded = rest if len(rest) else None
        return ready if len(ready) else None


def _join(first: Batch, second: Batch) -> Batch:
    now = np.concatenate((first.now, second.now))
    return Batch.of(first.symbols, first.start, now, **{name: _concatenate(name, [first, second]) for name in KINDS})


def _interleave(ready: list[tuple[Batch, bool]], position: int) -> Batch:
    """Merge the events of parts, from a position on; a row that another part has before leaves its place empty.

    `ready` are the parts, each with whether its rows have a `seq` of their own.
    """
    parts, numbered = [part for part, _ in ready], [is_numbered for _, is_numbered in ready]
    symbols = parts[0].symbols
    offsets = np.cumsum([0, *map(len, parts)])
    now = np.concatenate([part.now for part in parts])
    kind, symbol, begun, seq = np.zeros((4, len(now)), np.int64)
    tables = {name: _concatenate(name, parts) for name in KINDS}
    rows: dict[str, IntArray] = {}
    has_seq: dict[str, NDArray[np.bool_]] = {}
    """By kind, whether the `seq` of a row is its own."""
    for number, (name, table) in enumerate(tables.items()):
        shifts = [
            np.full(len(getattr(part, name)), offset - part.start)
            for part, offset in zip(parts, offsets[:-1], strict=True)
        ]
        row = rows[name] = table.at + np.concatenate(shifts)
        has_seq[name] = np.repeat(numbered, [len(getattr(part, name)) for part in parts])
        kind[row], symbol[row], seq[row] = number, symbols.ranks[table.symbol], np.where(has_seq[name], table.seq, 0)
        if name == "bars":
            begun[row] = -table.event_ts

    # A row that waits for a greater one before it in its own stream takes that one's rank.
    keys = np.stack((now, kind, symbol, begun, seq))
    order = np.lexsort(keys[::-1])
    rank = np.empty(len(now), np.int64)
    rank[order] = np.cumsum(np.any(np.diff(keys[:, order], axis=1, prepend=keys[:, order[:1]]) != 0, axis=0))
    for start, stop in pairwise(offsets.tolist()):
        np.maximum.accumulate(rank[start:stop], out=rank[start:stop])
    order = np.argsort(rank, kind="stable")

    at = np.empty(len(now), np.int64)
    at[order] = np.arange(position, position + len(now))
    for name, table in tables.items():
        table.at[:] = at[rows[name]]
        table.seq[:] = np.where(has_seq[name], table.seq, table.at)
        order_of = np.argsort(table.at, kind="stable")
        if name in OVERLAPPING:
            lengths = [len(getattr(part, name)) for part in parts]
            order_of = order_of[~_are_repeated(table, now[rows[name]], lengths, numbered)[order_of]]
        tables[name] = table.take(order_of)
    return Batch.of(symbols, position, now[order], **tables)


def _are_repeated(table: Any, known: IntArray, lengths: list[int], numbered: list[bool]) -> NDArray[np.bool_]:
    """Return which rows another part has too, at an earlier place, where parts of these lengths overlap.

    They are equal in all, and in the time at which they became `known`; in `seq` too, where there is no trade id and both
    parts are `numbered`. The second of two equal rows of a part is the second of another part's, so that genuine twins stay two.
    """
    repeated = np.zeros(len(table), np.bool_)
    parts_with = np.zeros(int(table.symbol.max(initial=0)) + 1, np.int64)
    for symbols in np.split(table.symbol, np.cumsum(lengths)[:-1]):
        parts_with += np.bincount(symbols, minlength=len(parts_with)) > 0
    shared = parts_with > 1
    if not shared.any():
        return repeated
    part = np.repeat(np.arange(len(lengths)), lengths)
    in_time = np.argsort(known, kind="stable")
    at_once = np.diff(known[in_time]) == 0
    is_twin = np.zeros(len(table), np.bool_)
    is_twin[in_time[1:]] = at_once
    is_twin[in_time[:-1]] |= at_once
    rows = np.flatnonzero(is_twin & shared[table.symbol] & ~np.isnan(table.floats[0]))
    if not len(rows):
        return repeated
    rows = rows[np.argsort(table.at[rows], kind="stable")]  # of equal rows the first is kept
    own = [number for number, name in enumerate(table.INT_COLUMNS) if name not in ("at", "seq")]
    places = np.where(np.array(numbered)[part[rows]], table.seq[rows], -1)
    if isinstance(table, Trades):
        places[table.trade_key[rows] != 0] = -1
    values = np.stack((*table.ints[own][:, rows], *table.floats[:, rows].view(np.int64), known[rows], places))

    def sorted_by(*more: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """Return the order by the values and `more`, and where a row there differs from the one before."""
        keys = np.concatenate((values, np.stack(more))) if more else values
        order = np.lexsort(keys[::-1])
        return order, np.any(np.diff(keys[:, order], axis=1, prepend=keys[:, order[:1]] - 1) != 0, axis=0)

    order, is_first = sorted_by(part[rows])
    here = np.arange(len(rows))
    nth = np.empty(len(rows), np.int64)
    nth[order] = here - np.maximum.accumulate(np.where(is_first, here, 0))
    order, is_first = sorted_by(nth)
    repeated[rows[order[~is_first]]] = True
    return repeated


def _concatenate(name: str, batches: list[Batch]) -> Any:
    tables = [getattr(batch, name) for batch in batches]
    return type(tables[0]).concatenate(tables)
