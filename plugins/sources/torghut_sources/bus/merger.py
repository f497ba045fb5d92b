"""Merges the topics of one partition number, a lane, into one stream in order of time. No IO, and no clock of its own.

Every topic keeps its own order. Between topics, an event is given out when nothing earlier can come from the others: each
has given a later one, or a time mark says so, or it is idle: at its end, with nothing new for a while after the event. So
the stream of a backlog does not depend on how it was fetched; what comes late after an idle while is late in the stream.

A time mark ("every event up to T was sent before") becomes a position without a row. It says where the topics ended when it
was sent, and it counts for a topic once that much of it was read: so nothing is late for a mark, whichever came first. Only
a topic of marks that is behind holds up events; one at its end never does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from torghut_core import SECOND, BarEnds, Bars, Batch, IntArray, SymbolTable, Table
from torghut_sources.bus.contract import Offsets
from torghut_sources.bus.records import MARKS
from torghut_sources.misdated import Misdated
from torghut_sources.tape.rows import KINDS, QUOTES, TRADES, Kind

NEVER = 2**63 - 1
MOST_WAITING = 20_000
"""Events of a topic that may wait for the other topics; no more of it is fetched meanwhile."""

OVERLAP = 2 * SECOND
"""How far trades and quotes of a topic may overtake each other, ns."""

MISSED_SECONDS = 10.0
"""How long a topic may end before the offset that a mark says, until the gate reports missing records."""

ORDER = {name: number for number, name in enumerate([*KINDS, MARKS.name])}
"""Order of events that became known at the same time: a mark comes after the events of its time."""


class _Stream:
    """One topic of a lane: the events that were read and not merged yet."""

    def __init__(self, kind: Kind, offset: int, now: float) -> None:
        self.kind = kind
        self.next = offset
        """Offset after the last record that was read."""
        self.given = offset
        """Offset after the last event that was given out."""
        self.left = 0
        """Events that were read and not given out, merged or not."""
        self.last = -NEVER
        """When the last event that was read became known."""
        self.until = -NEVER
        """What was not read yet became known at this time or later."""
        self.marks: deque[tuple[int, int, float]] = deque()
        """Marks whose events were not all read: the offset where they end, the mark's time, and when it was read."""
        self.read_at = now
        self.at_end = False
        self.table: Table = kind.table.empty()
        self.known: IntArray = np.empty(0, np.int64)
        self.offsets: IntArray = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.known)

    def read(self, stop: int, now: float) -> None:
        """Records up to an offset were read."""
        self.next = max(self.next, stop)
        self.read_at = now
        self.at_end = False
        self._apply_marks()

    def add_mark(self, end: int, moment: int, now: float) -> None:
        """Records from offset `end` on became known after a moment."""
        self.marks.append((end, moment, now))
        self._apply_marks()

    def _apply_marks(self) -> None:
        while self.marks and self.marks[0][0] <= self.next:
            self.until = max(self.until, self.marks.popleft()[1] + 1)

    def add(self, table: Table, known: IntArray, offsets: IntArray) -> None:
        known[0] = max(int(known[0]), self.last)
        np.maximum.accumulate(known, out=known)
        self.last = int(known[-1])
        self.until = max(self.until, self.last)
        self.left += len(known)
        self.table = self.kind.table.concatenate([self.table, table]) if len(self) else table
        self.known = np.concatenate((self.known, known))
        self.offsets = np.concatenate((self.offsets, offsets))

    def take(self, horizon: int, inclusive: bool) -> tuple[Table, IntArray, IntArray]:
        """Take what became known before `horizon`, or also at it: rows, times, offsets."""
        cut = int(np.searchsorted(self.known, horizon, side="right" if inclusive else "left"))
        taken = self.table.rows(0, cut), self.known[:cut], self.offsets[:cut]
        self.table = self.table.rows(cut, len(self))
        self.known, self.offsets = self.known[cut:], self.offsets[cut:]
        return taken

    def is_idle(self, now: float, idle: float) -> bool:
        return self.at_end and not self.marks and now - self.read_at >= idle


class LaneMerger:
    """Merges one partition number of all topics; see the module.

    Parameters
    ----------
    name : the partition number, as text.
    topics : kind of rows by topic; one of them may hold marks.
    offsets : where each topic is read from.
    now : monotonic time, seconds; so in all methods.
    idle : time without records after which a topic counts as idle, seconds.
    tick : time without records after which a clock tick is given, seconds; 0 for never.
    cursor : the `cursor` of an earlier merger, to continue with its numbers and its time.
    ends : when bars are complete; without calendars where None.

    Attributes
    ----------
    misdated : by topic of trades or quotes, the symbols whose events come too late, or are ahead of all clocks.
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
        ends: BarEnds | None = None,
    ) -> None:
        self.name = name
        self.symbols = SymbolTable()
        self._streams = {topic: _Stream(kind, offsets[topic], now) for topic, kind in topics.items()}
        self._events = [stream for stream in self._streams.values() if stream.kind is not MARKS]
        self._marks = next((stream for stream in self._streams.values() if stream.kind is MARKS), None)
        self._ends = ends or BarEnds()
        self._idle = idle
        self._tick = tick
        self._position = 0
        self._now = self._base = -NEVER
        self._base_at = now
        self._rises: deque[tuple[float, int]] = deque()
        """When the newest time rose lately, and to which time."""
        self._settled = -NEVER
        """The newest time that has been known for as long as the others wait for an idle topic."""
        newest = None if cursor is None else int(cursor["now"])
        self.misdated: dict[str, Misdated[int]] = {
            topic: Misdated(OVERLAP, newest) for topic, kind in topics.items() if kind in (TRADES, QUOTES)
        }
        self._bars: dict[int, int] = {}
        """Start of the last bar that was given out, by series; `_bars_read`: of the last that was read."""
        if cursor is not None:
            self._position = int(cursor["position"])
            self._now = self._base = self._settled = int(cursor["now"])
            for symbol in cursor["symbols"]:
                self.symbols.number(symbol)
            for text, suspicious in cursor["conditions"]:
                self.symbols.condition(text, suspicious)
            for which in cursor["series"]:
                self.symbols.series(*which)
            self._bars = dict(cursor["bars"])
        self._bars_read = dict(self._bars)
        self._ready = Batch.of(self.symbols, self._position, np.empty(0, np.int64))
        self._topic_of: IntArray = np.empty(0, np.int64)
        self._offset_of: IntArray = np.empty(0, np.int64)

    @property
    def now(self) -> int:
        """The lane's time: that of the last event that was given out, ns."""
        return self._now

    @property
    def offsets(self) -> Offsets:
        """By topic, the offset of the next record that was not given out."""
        return {topic: stream.given if stream.left else stream.next for topic, stream in self._streams.items()}

    @property
    def full(self) -> AbstractSet[str]:
        """Topics of which enough events wait for the others."""
        least = min(stream.until for stream in self._awaited())
        return {
            topic for topic, stream in self._streams.items() if len(stream) >= MOST_WAITING and stream.until > least
        }

    def missed(self, now: float) -> tuple[str, int, int] | None:
        """Return a topic that has long ended before the offset of a mark: its name, its end, and that offset; None if none has."""
        for topic, stream in self._streams.items():
            if stream.at_end and stream.marks and now - max(stream.marks[0][2], stream.read_at) >= MISSED_SECONDS:
                return topic, stream.next, stream.marks[0][0]
        return None

    def cursor(self) -> dict[str, Any]:
        """Return plain values to resume from after the last batch that was given out."""
        symbols = self.symbols
        return {
            "offsets": self.offsets,
            "position": self._position,
            "now": self._now,
            "symbols": list(symbols.names),
            "conditions": [list(pair) for pair in symbols.conditions],
            "series": [
                list(each)
                for each in zip(symbols.series_symbol, symbols.series_step, symbols.series_of_venue, strict=True)
            ],
            "bars": [list(pair) for pair in self._bars.items()],
        }

    def add(self, topic: str, table: Table, offsets: IntArray, stop: int, now: float) -> int:
        """Take rows of a topic and their offsets; `stop` is the offset after the last record, with a row or without.

        Returns how many were dropped: a bar that is not newer than the last one of its series is an update of it.
        """
        stream = self._streams[topic]
        stream.read(stop, now)
        rows = len(table)
        if isinstance(table, Bars):
            is_new = self._are_new(table)
            table, offsets = table.take(is_new), offsets[is_new]
        if len(table):
            if isinstance(table, Bars):
                table.end[:] = self._ends.of(self.symbols.names, table.symbol, table.event_ts, table.step)
                known = table.end.copy()
            else:
                known = table.event_ts.copy()  # type: ignore[attr-defined]
            stream.add(table, known, offsets)
            self._advance_newest(stream.last, now)
        return rows - len(table)

    def add_marks(
        self, topic: str, moments: IntArray, ends: Sequence[Offsets], offsets: IntArray, stop: int, now: float
    ) -> None:
        """Take time marks, the ends of the topics in each, and their offsets; otherwise as `add`."""
        stream = self._streams[topic]
        stream.read(stop, now)
        if not len(moments):
            return
        for moment, promised in zip(moments.tolist(), ends, strict=True):
            for name in promised.keys() & self._streams.keys():
                self._streams[name].add_mark(promised[name], moment, now)
        stream.add(Table.empty(len(moments)), moments.copy(), offsets)
        self._advance_newest(stream.last, now)

    def _are_new(self, bars: Bars) -> IntArray:
        """Set the series of bars; return the rows of those that are no updates."""
        found = []
        for row, (symbol, step, start) in enumerate(
            zip(bars.symbol.tolist(), bars.step.tolist(), bars.event_ts.tolist(), strict=True)
        ):
            series = bars.series[row] = self.symbols.series(symbol, step, of_venue=True)
            if start > self._bars_read.get(series, -NEVER):
                self._bars_read[series] = start
                found.append(row)
        return np.array(found, np.int64)

    def _advance_newest(self, moment: int, now: float) -> None:
        if moment > self._base:
            self._base, self._base_at = moment, now
            self._rises.append((now, moment))

    def end(self, topic: str) -> None:
        """A topic has no more records for now."""
        self._streams[topic].at_end = True

    def forget_ends(self) -> None:
        """The topics are not read now: they may have more records, so time must not pass over these."""
        for stream in self._streams.values():
            stream.at_end = False

    def next(self, size: int, now: float) -> Batch | None:
        """Return at most `size` of the events that may be given out, or a clock tick; None where there is neither."""
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
        self._bars.update(zip(batch.bars.series.tolist(), batch.bars.event_ts.tolist(), strict=True))
        self._position = batch.stop
        self._now = int(batch.now[-1])
        return batch

    def _tick_at(self, now: float) -> Batch | None:
        """Return a clock tick where nothing comes and nothing is known to be missing."""
        if not self._tick or self._base == -NEVER or any(stream.left for stream in self._streams.values()):
            return None
        if not all(stream.is_idle(now, self._idle) for stream in self._events):
            return None
        if self._marks is not None and not self._marks.at_end:
            return None
        reached = self._base + round((now - self._base_at) * SECOND)
        if reached - self._now < self._tick * SECOND:
            return None
        return self._give(Batch.of(self.symbols, self._position, np.array([reached])))

    def _merge(self, now: float) -> None:
        streams = list(self._streams.values())
        if not any(len(stream) for stream in streams):
            return
        while self._rises and now - self._rises[0][0] >= self._idle:
            self._settled = self._rises.popleft()[1]
        events_until, marks_until = self._horizons(now)
        parts = [stream.take(*((marks_until, False) if stream is self._marks else events_until)) for stream in streams]
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
            if stream is not self._marks:
                table.at[:] = rows  # type: ignore[attr-defined]
                tables[stream.kind.name] = table
        times = known[order]
        times[0] = max(int(times[0]), self._now)
        np.maximum.accumulate(times, out=times)
        self._ready = Batch.of(self.symbols, self._position, times, **tables)
        self._topic_of = topic_of[order]
        self._offset_of = np.concatenate([offsets for _, _, offsets in parts])[order]

    def _awaited(self) -> list[_Stream]:
        """Return the topics that hold up events; a topic of marks only where it is behind."""
        if self._marks is None or self._marks.at_end:
            return self._events
        return [*self._events, self._marks]

    def _until(self, stream: _Stream, now: float) -> int:
        """Return the time from which on events of a topic may still come, as far as the others wait for it."""
        if stream is self._marks:
            return stream.until + 1  # a mark comes after the events of its time
        return max(stream.until, self._settled + 1) if stream.is_idle(now, self._idle) else stream.until

    def _horizons(self, now: float) -> tuple[tuple[int, bool], int]:
        """Return up to when all events were read, and whether that includes the time itself; and up to when marks may be given.

        A mark waits for every topic; events do not wait for an idle one.
        """
        awaited = self._awaited()
        bounds = [self._until(stream, now) for stream in awaited]
        horizon, marks_until = min(bounds), min(bounds[: len(self._events)])
        if len(awaited) == 1:
            return (NEVER, True), marks_until
        holders = [stream for stream, bound in zip(awaited, bounds, strict=True) if bound == horizon]
        # A topic that alone holds up the others may give its own last events, unless another has some of the same time.
        # And two full topics that have nothing later have no order between them.
        is_free = len(holders) == 1 and not any(_has(each, horizon) for each in awaited if each is not holders[0])
        is_stuck = len(self._events) > 1 and all(len(stream) >= MOST_WAITING for stream in self._events)
        return (horizon, is_free or is_stuck), marks_until


def _has(stream: _Stream, moment: int) -> bool:
    """Return whether an event that became known at exactly this time waits."""
    place = int(np.searchsorted(stream.known, moment))
    return place < len(stream) and int(stream.known[place]) == moment
