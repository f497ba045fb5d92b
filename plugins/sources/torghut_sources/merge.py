"""Several streams of events become one, in the order in which things became known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from torghut_core import Batch, IntArray
from torghut_sources.rows import KINDS

NEVER = 2**63 - 1


def merge(streams: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """One stream of all events, positions from 0.

    At each step the stream whose next event is least by (time it became known, kind, symbol name, seq) gives that
    event; the kinds stand in the order bars, quotes, trades, and equals go by the order of `streams`. So each stream
    keeps its own order, and the result depends neither on how the streams are cut into batches nor, but for equals, on
    their order.
    """
    if len(streams) == 1:
        yield from streams[0]
        return
    heads = [_Head(stream) for stream in streams]
    position = 0
    while heads:
        horizon = min(head.until for head in heads)
        ready = [part for head in heads if len(part := head.take(horizon))]
        if ready:
            batch = _interleave(ready, position)
            yield batch
            position = batch.stop
        for head in heads:
            if head.until == horizon:
                head.load()
        heads = [head for head in heads if head.rest is not None]


class _Head:
    """What is loaded of a stream and not given out.

    Whatever the stream still holds becomes known at `until` or later.
    """

    def __init__(self, stream: Iterator[Batch]) -> None:
        self._stream = stream
        self.rest: Batch | None = None
        self.until = -NEVER
