"""Merges several streams of events into one, in the order in which they became known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from torghut_core import Batch, IntArray
from torghut_sources.tape.rows import KINDS

NEVER = 2**63 - 1


def merge(streams: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """Merge streams into one, positions from 0.

    The next event is that of the stream whose own next event is least by (time it became known, kind, symbol name, seq);
    kinds are in the order bars, quotes, trades, and equal events in the order of `streams`. So every stream keeps its own
    order, and how it is cut into batches changes nothing.
    """
    if len(streams) == 1:
        yield from streams[0]
        return
    heads = [_Head(stream) for stream in streams]
    position = 0
    while True:
        horizon = min(head.until for head in heads)
        ready = [part for head in heads if (part := head.take(horizon)) is not None]
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

    def __init__(self, stream: Iterator[Batch]) -> None:
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


def _interleave(parts: list[Batch], position: int) -> Batch:
    """Merge the events of `parts`, numbered from `position` on."""
    symbols = parts[0].symbols
    offsets = np.cumsum([0, *map(len, parts)])
    now = np.concatenate([part.now for part in parts])
    kind, symbol, seq = np.zeros((3, len(now)), np.int64)
    tables = {name: _concatenate(name, parts) for name in KINDS}
    rows: dict[str, IntArray] = {}
    for number, (name, table) in enumerate(tables.items()):
        shifts = [
            np.full(len(getattr(part, name)), offset - part.start)
            for part, offset in zip(parts, offsets[:-1], strict=True)
        ]
        row = rows[name] = table.at + np.concatenate(shifts)
        kind[row], symbol[row], seq[row] = number, symbols.ranks[table.symbol], table.seq

    # A row that waits for a greater one before it in its own stream takes that one's rank.
    keys = np.stack((now, kind, symbol, seq))
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
        tables[name] = table.take(np.argsort(table.at, kind="stable"))
    return Batch.of(symbols, position, now[order], **tables)


def _concatenate(name: str, batches: list[Batch]) -> Any:
    tables = [getattr(batch, name) for batch in batches]
    return type(tables[0]).concatenate(tables)
