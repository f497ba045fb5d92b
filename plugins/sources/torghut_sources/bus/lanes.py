"""One lane: the topics of one partition number, as one stream of events in order of time. No IO, and no clock of its own.

Every topic keeps its own order. Between them, an event is given out when each other topic has shown one that is later,
or is idle: at its end, where nothing came for a while. So the stream of what has piled up does not depend on how it was
fetched; what comes late after an idle while comes late in the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from torghut_core import Bars, Batch, IntArray, SymbolTable, Table
from torghut_sources.bus.contract import Offsets
from torghut_sources.rows import KINDS, Kind

NEVER = 2**63 - 1
SECOND = 1_000_000_000
MOST = 20_000
"""Events of a topic that wait for the other topics; nothing more is fetched of it meanwhile."""

ORDER = {name: number for number, name in enumerate(KINDS)}


class _Stream:
    """One topic of a lane: what came of it and was not merged yet."""

    def __init__(self, kind: Kind, offset: int, now: float) -> None:
        self.kind = kind
        self.next = offset
        """Offset after the last record that came."""
        self.given = offset
        """Offset after the last event that was given out."""
        self.left = 0
        """Events that came and were not given out, merged or not."""
        self.until = -NEVER
        """What is still to come became known at this time or later."""
        self.heard = now
        self.at_end = False
        self.table: Table = kind.table.empty()
        self.known: IntArray = np.empty(0, np.int64)
        self.offsets: IntArray = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.known)

    def add(self, table: Table, offsets: IntArray) -> None:
        known = table.event_ts + table.step if isinstance(table, Bars) else table.event_ts.copy()  # type: ignore[attr-defined]
        known[0] = max(int(known[0]), self.until)
        np.maximum.accumulate(known, out=known)
        self.until = int(known[-1])
        self.left += len(known)
        self.table = self.kind.table.concatenate([self.table, table]) if len(self) else table
        self.known = np.concatenate((self.known, known))
        self.offsets = np.concatenate((self.offsets, offsets))

    def take(self, horizon: int, *, inclusive: bool) -> tuple[Table, IntArray, IntArray]:
        """What became known before `horizon`, or at it too: rows, times, offsets."""
        cut = int(np.searchsorted(self.known, horizon, side="right" if inclusive else "left"))
        taken = self.table.rows(0, cut), self.known[:cut], self.offsets[:cut]
        self.table = self.table.rows(cut, len(self))
        self.known, self.offsets = self.known[cut:], self.offsets[cut:]
        return taken

    def is_idle(self, now: float, idle: float) -> bool:
        return self.at_end and now - self.heard >= idle


class Lane:
    """One partition number of all topics.

    Parameters
    ----------
    name : the partition number, as text.
    topics : what each holds.
    offsets : where each topic is read from.
    now : monotonic time, seconds; so in all methods.
    idle : how long nothing has to come before a topic counts as idle, seconds.
    tick : how long nothing has to come before time goes on without events, seconds; 0 for never.
    cursor : what `cursor` of an earlier one gave, to go on with its numbers and its time.
    """

    def __init__(
        self,
        name: str,
        topics: Mapping[str, Kind],
        offsets: Offsets,
        now: float,
        *,
        idle: float,
        tick: float,
        cursor: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.symbols = SymbolTable()
        self._streams = {topic: _Stream(kind, offsets[topic], now) for topic, kind in topics.items()}
        self._idle = idle
        self._tick = tick
        self._position = 0
        self._now = self._base = -NEVER
        self._base_at = now
        if cursor is not None:
            self._position = int(cursor["position"])
            self._now = self._base = int(cursor["now"])
            for symbol in cursor["symbols"]:
                self.symbols.number(symbol)
            for text, suspicious in cursor["conditions"]:
                self.symbols.condition(text, suspicious)
            for number, step in cursor["series"]:
                self.symbols.series(number, step)
        self._ready = Batch.of(self.symbols, self._position, np.empty(0, np.int64))
        self._topic_of: IntArray = np.empty(0, np.int64)
        self._offset_of: IntArray = np.empty(0, np.int64)

    @property
    def now(self) -> int:
        """The lane's time: that of the last event that was given out, ns."""
        return self._now

    @property
    def offsets(self) -> Offsets:
        """By topic, the next record that was not given out."""
        return {topic: stream.given if stream.left else stream.next for topic, stream in self._streams.items()}

    @property
    def full(self) -> AbstractSet[str]:
        """Topics of which enough waits for the others."""
        least = min(stream.until for stream in self._streams.values())
        return {topic for topic, stream in self._streams.items() if len(stream) >= MOST and stream.until > least}

    def cursor(self) -> dict[str, Any]:
        """Plain values to go on from after the last batch that was given out."""
        symbols = self.symbols
        return {
            "offsets": self.offsets,
            "position": self._position,
            "now": self._now,
            "symbols": list(symbols.names),
            "conditions": [list(pair) for pair in symbols.conditions],
            "series": [list(pair) for pair in zip(symbols.series_symbol, symbols.series_step, strict=True)],
        }

    def add(self, topic: str, table: Table, offsets: IntArray, stop: int, now: float) -> None:
        """Take rows of a topic and their offsets; `stop` is the offset after the last record, with a row or without."""
        stream = self._streams[topic]
        stream.next = max(stream.next, stop)
        stream.heard = now
        stream.at_end = False
        if not len(table):
            return
        if isinstance(table, Bars):
            pairs = zip(table.symbol.tolist(), table.step.tolist(), strict=True)
            table.series[:] = [self.symbols.series(symbol, step) for symbol, step in pairs]
        stream.add(table, offsets)
        if stream.until > self._base:
            self._base, self._base_at = stream.until, now

    def end(self, topic: str) -> None:
        """There is nothing more in a topic for now."""
        self._streams[topic].at_end = True

    def next(self, size: int, now: float) -> Batch | None:
        """At most `size` of the events that may be given out, or a clock tick; None where there is neither."""
        if not len(self._ready):
            self._merge(now)
        if not len(self._ready):
            return self._tick_at(now)
        cut = min(size, len(self._ready))
        batch, self._ready = self._ready.split(self._position + cut)
        for number, stream in enumerate(self._streams.values()):
            given = self._offset_of[:cut][self._topic_of[:cut] == number]
            if len(given):
                stream.left -= len(given)
                stream.given = int(given[-1]) + 1
        self._topic_of, self._offset_of = self._topic_of[cut:], self._offset_of[cut:]
        return self._give(batch)

    def _give(self, batch: Batch) -> Batch:
        batch.lane = self.name
        self._position = batch.stop
        self._now = int(batch.now[-1])
        return batch

    def _tick_at(self, now: float) -> Batch | None:
        """Time goes on where nothing comes and nothing is known to be missing."""
        if not self._tick or self._base == -NEVER or any(stream.left for stream in self._streams.values()):
            return None
        if not all(stream.is_idle(now, self._idle) for stream in self._streams.values()):
            return None
        reached = self._base + round((now - self._base_at) * SECOND)
        if reached - self._now < self._tick * SECOND:
            return None
        return self._give(Batch.of(self.symbols, self._position, np.array([reached])))

    def _merge(self, now: float) -> None:
        streams = list(self._streams.values())
        if not any(len(stream) for stream in streams):
            return
        horizon, inclusive = self._horizon(streams, now)
        parts = [stream.take(horizon, inclusive=inclusive) for stream in streams]
        known = np.concatenate([times for _, times, _ in parts])
        if not len(known):
            return
        lengths = [len(times) for _, times, _ in parts]
        topic_of = np.repeat(np.arange(len(streams)), lengths)
        kind_of = np.array([ORDER[stream.kind.name] for stream in streams])[topic_of]
        order = np.lexsort((kind_of, known))
        at = np.empty(len(order), np.int64)
        at[order] = np.arange(self._position, self._position + len(order))
        tables: dict[str, Any] = {}
        for stream, (table, _, _), rows in zip(
            streams, parts, np.split(at, np.cumsum(lengths)[:-1].tolist()), strict=True
        ):
            table.at[:] = rows  # type: ignore[attr-defined]
            tables[stream.kind.name] = table
        times = known[order]
        times[0] = max(int(times[0]), self._now)
        np.maximum.accumulate(times, out=times)
        self._ready = Batch.of(self.symbols, self._position, times, **tables)
        self._topic_of = topic_of[order]
        self._offset_of = np.concatenate([offsets for _, _, offsets in parts])[order]

    def _horizon(self, streams: list[_Stream], now: float) -> tuple[int, bool]:
        """Up to when everything has come, and whether that holds for the time itself."""
        awaited = streams if len(streams) > 1 else []
        awaited = [stream for stream in awaited if not stream.is_idle(now, self._idle)]
        if not awaited:
            return NEVER, True
        horizon = min(stream.until for stream in awaited)
        holders = [stream for stream in awaited if stream.until == horizon]
        at_it = sum(bool(_has(stream, horizon)) for stream in streams)
        # Who alone holds the others up has its own last events free, unless another has some of the same time. And two
        # topics that show nothing later however much comes of both have no order between them.
        return horizon, (len(holders) == 1 and at_it <= 1) or all(len(stream) >= MOST for stream in streams)


def _has(stream: _Stream, moment: int) -> bool:
    """Whether an event that became known at just this time waits."""
    place = int(np.searchsorted(stream.known, moment))
    return place < len(stream) and int(stream.known[place]) == moment
