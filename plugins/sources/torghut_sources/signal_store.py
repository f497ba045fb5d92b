"""The source `clickhouse-signals`: signals that another process derives, read from the signal store as they come."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from torghut_core import (
    MINUTE,
    SECOND,
    SIGNAL_COLUMNS,
    Bars,
    Batch,
    Closed,
    Connection,
    Environment,
    InputError,
    Metric,
    MetricSpec,
    SettingsError,
    SignalReader,
    Signals,
    Source,
    StateError,
    SymbolTable,
    Universe,
    Window,
    param,
)

LONGEST_WAIT_S = 30.0
"""Longest pause before a store that does not answer is asked again, seconds."""

BAR_COLUMNS = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vwap": "vwap"}


class PollSettings(Environment):
    """The environment variables for reading the signal store."""

    trading_poll_ms: int = Field(
        default=5000, ge=1, description="pause between two polls of the signal store, milliseconds"
    )
    trading_signal_lookback_minutes: int = Field(
        default=0,
        ge=0,
        description="how far before the newest row reading starts where it has no cursor, minutes; the look-back at least",
    )


class Row(msgspec.Struct, frozen=True, gc=False):
    """The fields of a row that decide about it: its key, when it was known and stored, and whether its bar is there."""

    symbol: str
    event_ts: int
    window_size: str
    seq: int
    end: int
    ingest_ts: int
    is_priced: bool

    @property
    def key(self) -> tuple[int, str, int]:
        """Key of the row among those of its symbol."""
        return self.event_ts, self.window_size, self.seq

    @property
    def stored(self) -> tuple[int, int]:
        """What is remembered of a row that was seen: its version, and when it may be forgotten."""
        return self.ingest_ts, self.end


class Track(msgspec.Struct):
    """How far one symbol is read.

    Attributes
    ----------
    since : rows that end before it are not read any more, ns.
    newest : the latest end of a row, ns.
    last : `event_ts` of the last row given, by window size.
    seen : rows from `since` on that were given out, late or dropped: key -> `ingest_ts` and end.
    is_wanted : whether the symbol was read in the last poll.
    """

    since: int
    newest: int
    last: dict[str, int] = {}
    seen: dict[tuple[int, str, int], tuple[int, int]] = {}
    is_wanted: bool = True


class ClickHouseSignals(Source):
    """Follow the signal store: a signal and its bar per event, in the order in which they could be known.

    Every poll reads again what ended within the look-back before the newest row of each symbol, so that rows which are
    stored late are found. The rows of a series (a symbol at a window size) are given in order of time, each once: one that
    is not newer than the last is counted as late, one that was written again as a duplicate. Symbols do not wait for each
    other. A signal whose bar is missing holds its series back until the bar comes, or the look-back has passed: then it is
    dropped and counted, because nothing can be decided without a price.

    The age of a row is measured by the wall clock. While a batch is given that has a row older than `fresh_after_s`, the
    gate ``freshness`` is closed, and a batch has no fresh row after an old one: while the source catches up, after a
    restart or because TA was down, no old row is traded as if it were new.

    `now` is the largest end of a bar so far. It depends on the rows alone, until nothing has come for the look-back: then
    a clock tick follows each poll, that far behind.

    Parameters
    ----------
    params : see `Params`.
    wall : the time of day, ns; `clock` : monotonic time, seconds; `sleep` : waits, seconds.
    """

    class Params(Source.Params):
        """Parameters of the signal store as a source."""

        batch: int = param(500, ge=1, help="rows per query")
        poll_ms: int | None = param(None, ge=1, help="pause between polls, milliseconds; default: TRADING_POLL_MS")
        look_back_s: float = param(
            30, ge=0, help="how far behind the newest row of its symbol a late row is still found, seconds"
        )
        start: Literal["newest", "earliest"] = param(
            "newest", help="where to start without a cursor: the newest row less the look-back, or the oldest row"
        )
        fresh_after_s: float | None = param(
            120, gt=0, help="age of a row above which the check `freshness` fails, seconds; null: any age is fresh"
        )

    is_stored: ClassVar[bool] = True
    settings = (PollSettings,)

    def __init__(
        self,
        params: Params,
        wall: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(params)
        self._wall = wall
        self._clock = clock
        self._sleep = sleep
        self._look_back = round(params.look_back_s * SECOND)
        self._start_back = self._look_back
        self._reader: SignalReader | None = None
        self._universe: Universe | None = None
        self._poll_s = 0.0
        self._symbols = SymbolTable()
        self._tracks: dict[str, Track] = {}
        self._origin: int | None = None
        self._position = 0
        self._now = 0
        self._silent_since: tuple[float, int] | None = None
        self._given: int | None = None
        self._fresh_since = 0
        self._held: dict[tuple[str, str], int] = {}
        self._waiting: dict[tuple[str, str], float] = {}
        self._problem: Closed | None = Closed("the signal store was not read yet (wait for the first poll)", "starting")
        self._counted = {"rows": 0, "late": 0, "duplicates": 0, "unpriced": 0, "polls": 0, "errors": 0}
        self._unreported = {"late": 0, "duplicates": 0}

    def connect(self, connection: Connection) -> None:
        """Take the signal store and the universe; reads nothing yet.

        Raises
        ------
        SettingsError : there is no signal store, or a setting does not parse.
        """
        if connection.signals is None or connection.universe is None:
            raise SettingsError("clickhouse-signals needs a signal store (set TA_CLICKHOUSE_URL, or give --state)")
        self._reader, self._universe = connection.signals, connection.universe
        poll_ms = self.params.poll_ms
        settings = PollSettings.read()
        self._poll_s = (settings.trading_poll_ms if poll_ms is None else poll_ms) / 1000
        self._start_back = max(self._look_back, settings.trading_signal_lookback_minutes * MINUTE)

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` rows, positions running from 0 (or from the cursor's); never ends.

        While the store does not answer, the check ``store`` fails, and the store is asked again, less and less often.

        Raises
        ------
        InputError : `connect` was not called.
        """
        if self._reader is None or self._universe is None:
            raise InputError("clickhouse-signals is not connected (call `connect` before `batches`)")
        reader, universe = self._reader, self._universe
        failures = 0
        after: tuple[int, str, str, int] | None = None
        while True:
            try:
                since = await self._read_from(reader, universe.symbols)
                page = await asyncio.to_thread(reader.signals_since, since, after=after, limit=self.params.batch)
            except StateError as error:
                failures += 1
                self._counted["errors"] += 1
                self._problem = Closed(str(error), getattr(error, "error_class", "store"))
                after = None
                await self._sleep(self._back_off(failures))
                continue
            failures, self._problem = 0, None
            if after is None:
                self._held.clear()
                self._counted["polls"] += 1
            rows = rows_of(page)
            for places in self._select(rows, size):
                self._given = rows[places[0]].end
                yield self._batch(page, rows, places)
                self._given = None
            last = rows[-1] if len(rows) == self.params.batch else None
            after = None
            if self._advance(None if last is None else last.end):
                continue
            if last is not None:
                after = last.end, last.symbol, last.window_size, last.seq
                continue
            if (tick := self._tick()) is not None:
                yield tick
            await self._sleep(self._poll_s)

    async def _read_from(self, reader: SignalReader, symbols: tuple[str, ...]) -> dict[str, int]:
        """Return from when on each symbol is read; one that is new, or wanted again, as if it had been read all the time."""
        if self._origin is None and self.params.start == "earliest":
            self._origin = 0
        if self._origin is None:
            until = await asyncio.to_thread(reader.signals_until)
            self._origin = 0 if until is None else until - self._start_back
        reached = max([self._origin, *(track.newest - self._look_back for track in self._tracks.values())])
        for symbol, track in self._tracks.items():
            if not track.is_wanted and symbol in symbols:
                track.since = max(track.since, reached)
            track.is_wanted = symbol in symbols
        floor = reached if self._tracks and self.params.start == "newest" else self._origin
        for symbol in symbols:
            if symbol not in self._tracks:
                self._tracks[symbol] = Track(floor, floor)
        return {symbol: self._tracks[symbol].since for symbol in symbols}

    def _select(self, rows: list[Row], size: int) -> Iterator[list[int]]:
        """Yield the places of the rows to give out, at most `size` at a time; marks each as seen before it is given.

        The limit of freshness is set when a batch starts, as the batches before it may have taken long.
        """
        limit = self.params.fresh_after_s
        for row in rows:
            track = self._tracks[row.symbol]
            track.newest = max(track.newest, row.end)
        places: list[int] = []
        for place, row in enumerate(rows):
            if places and (len(places) == size or rows[places[0]].end < self._fresh_since <= row.end):
                yield places
                places = []
            if self._is_next(row, self._tracks[row.symbol]):
                if not places and limit is not None:
                    self._fresh_since = self._wall() - round(limit * SECOND)
                places.append(place)
        if places:
            yield places

    def _is_next(self, row: Row, track: Track) -> bool:
        """Return whether a row is given out now."""
        series = row.symbol, row.window_size
        before = track.seen.get(row.key)
        if before is None and row.seq < 0 and not row.is_priced:  # of a venue's own bar, which is not in the store
            track.seen[row.key] = row.stored
            self._counted["unpriced"] += 1
            return False
        if before is not None:
            if before != row.stored:
                track.seen[row.key] = row.stored
                self._count("duplicates")
            return False
        last = track.last.get(row.window_size)
        if last is not None and row.event_ts <= last:
            track.seen[row.key] = row.stored
            self._count("late")
            return False
        if series in self._held:
            return False
        if not row.is_priced:
            waited = self._clock() - self._waiting.setdefault(series, self._clock())
            if row.end >= track.newest - self._look_back and waited * SECOND <= self._look_back:
                self._held[series] = row.end
                return False
            self._counted["unpriced"] += 1
        self._waiting.pop(series, None)
        track.seen[row.key] = row.stored
        if not row.is_priced:
            return False
        track.last[row.window_size] = row.event_ts
        self._counted["rows"] += 1
        return True

    def _count(self, name: str) -> None:
        self._counted[name] += 1
        self._unreported[name] += 1

    def _advance(self, read_to: int | None) -> bool:
        """Forget rows before the look-back; return whether a row that waits for its bar is one of them.

        `read_to` is how far this poll has read, ns; None where it is complete. A row beyond it may wait and is unknown.
        """
        is_held_too_long = False
        for symbol, track in self._tracks.items():
            bound = track.newest - self._look_back
            held = min((end for (name, _), end in self._held.items() if name == symbol), default=bound)
            is_held_too_long |= held < bound
            since = min(held, bound) if read_to is None else min(held, bound, read_to)
            if since > track.since:
                track.since = since
                track.seen = {key: stored for key, stored in track.seen.items() if stored[1] >= since}
        return is_held_too_long

    def _batch(self, page: pa.Table, rows: list[Row], places: list[int]) -> Batch:
        """Make a batch of the bars and signals of some rows of a page."""
        batch = batch_of(self._symbols, self._position, self._now, page, rows, places)
        batch.late, batch.duplicates = self._unreported["late"], self._unreported["duplicates"]
        self._unreported = dict.fromkeys(self._unreported, 0)
        self._position, self._now = batch.stop, int(batch.now[-1])
        self._silent_since = self._clock(), self._now
        return batch

    def _tick(self) -> Batch | None:
        """Return a clock tick, where nothing has come for longer than rows may be late."""
        if not self._now or self._held:
            return None
        if self._silent_since is None:
            self._silent_since = self._clock(), self._now
        began, at = self._silent_since
        now = at + round((self._clock() - began) * SECOND) - self._look_back
        if now <= self._now:
            return None
        tick = Batch.of(self._symbols, self._position, np.array([now], np.int64))
        self._position, self._now = tick.stop, now
        return tick

    def _back_off(self, failures: int) -> float:
        longest = min(LONGEST_WAIT_S, max(self._poll_s, 0.1) * 2.0 ** min(failures, 10))
        return longest * random.uniform(0.5, 1.0)

    def cursor(self) -> dict[str, Any]:
        """Return how far each symbol is read, with the keys of the rows within the look-back."""
        return {
            "position": self._position,
            "now": self._now,
            "origin": self._origin,
            "symbols": {
                symbol: {
                    "since": track.since,
                    "newest": track.newest,
                    "last": dict(track.last),
                    "seen": [[*key, *stored] for key, stored in track.seen.items()],
                    "is_wanted": track.is_wanted,
                }
                for symbol, track in self._tracks.items()
            },
        }

    def seek(self, cursor: dict[str, Any]) -> None:
        """Resume after the batch at which `cursor` was taken: no row is given twice, and none is left out."""
        self._position, self._now, self._origin = cursor["position"], cursor["now"], cursor["origin"]
        self._tracks = {
            symbol: Track(
                since=kept["since"],
                newest=kept["newest"],
                last=dict(kept["last"]),
                seen={(row[0], row[1], row[2]): (row[3], row[4]) for row in kept["seen"]},
                is_wanted=kept["is_wanted"],
            )
            for symbol, kept in cursor["symbols"].items()
        }

    def gates(self) -> Mapping[str, Closed | None]:
        """Return the gates: ``store`` (it answers), ``freshness`` (neither its newest row nor one that is being given is too old)."""
        return {"store": self._problem, "freshness": self._staleness()}

    def _staleness(self) -> Closed | None:
        limit, age_s = self.params.fresh_after_s, self._age_s()
        if limit is None:
            return None
        if age_s is None:
            return Closed("no signal has come yet (check that the TA pipeline runs)", "no-rows")
        if age_s > limit:
            reason = f"the newest signal is {age_s:,.0f} s old, more than {limit:g} s (check that the TA pipeline runs)"
            return Closed(reason, "stale")
        if age_s < -limit:
            reason = f"the newest signal is {-age_s:,.0f} s ahead of this machine's clock (set the clock)"
            return Closed(reason, "ahead")
        if self._given is not None and self._given < self._fresh_since:
            age_s = (self._wall() - self._given) / SECOND
            reason = f"catching up: a signal is {age_s:,.0f} s old, more than {limit:g} s (wait; it opens by itself)"
            return Closed(reason, "stale")
        return None

    def _age_s(self) -> float | None:
        """Return the seconds since the newest row that was seen could be known."""
        newest = max((track.newest for track in self._tracks.values() if track.last or track.seen), default=None)
        return None if newest is None else (self._wall() - newest) / SECOND

    metric_specs = (
        MetricSpec("clickhouse_signals_rows_total", "Rows traded on."),
        MetricSpec(
            "clickhouse_signals_late_total", "Rows that came after a newer one of their series and are not traded on."
        ),
        MetricSpec("clickhouse_signals_duplicates_total", "Rows of the signal store that were seen before."),
        MetricSpec("clickhouse_signals_unpriced_total", "Signals without a bar, which are not traded on."),
        MetricSpec("clickhouse_signals_polls_total", "Times that the signal store was asked for rows."),
        MetricSpec("clickhouse_signals_errors_total", "Times that the signal store did not answer."),
        MetricSpec("clickhouse_signals_lag_ms", "Age of the newest row, milliseconds."),
    )

    def metrics(self) -> Mapping[str, Metric]:
        """Return the values of `metric_specs`, by name."""
        numbers: dict[str, Metric] = {
            f"clickhouse_signals_{name}_total": count for name, count in self._counted.items()
        }
        if (age_s := self._age_s()) is not None:
            numbers["clickhouse_signals_lag_ms"] = age_s * 1000
        return numbers


def batch_of(
    symbols: SymbolTable, start: int, now: int, page: pa.Table, rows: Sequence[Row], places: Sequence[int]
) -> Batch:
    """The bars and signals of some rows of a page, an event each; `now` is the loop's time before them, ns."""
    chosen = [rows[place] for place in places]
    n = len(chosen)
    number = [symbols.number(row.symbol) for row in chosen]
    step = [_step(row.window_size) or row.end - row.event_ts for row in chosen]
    bars = Bars.from_columns(
        at=np.arange(start, start + n),
        event_ts=[row.event_ts for row in chosen],
        symbol=number,
        seq=[row.seq for row in chosen],
        step=step,
        end=[row.end for row in chosen],
        series=[symbols.series(*each) for each in zip(number, step, strict=True)],
        count=_numbers(page["count"], 0)[places],
        **{name: _numbers(page[column], np.nan)[places] for column, name in BAR_COLUMNS.items()},
    )
    signals = Signals.from_columns(
        **{name: _numbers(page[name], np.nan)[places] for name in SIGNAL_COLUMNS},
        **{name: getattr(bars, name) for name in Bars.FLOAT_COLUMNS},
    )
    signals.ints = bars.ints
    reached = np.maximum.accumulate(np.array([now, *(row.end for row in chosen)], np.int64))[1:]
    batch = Batch.of(symbols, start, reached, bars=bars)
    batch.signals = signals
    return batch


def rows_of(page: pa.Table) -> list[Row]:
    """The rows of a page of `SignalReader.signals_since`."""
    times = (page[name].cast(pa.int64()).to_pylist() for name in ("event_ts", "window_end", "ingest_ts"))
    others = (page[name].to_pylist() for name in ("symbol", "window_size", "seq"))
    is_priced = pc.is_valid(page["c"]).to_pylist()
    return [
        Row(symbol, event_ts, window, seq, end, ingest_ts, priced)
        for event_ts, end, ingest_ts, symbol, window, seq, priced in zip(*times, *others, is_priced, strict=True)
    ]


def _numbers(column: pa.ChunkedArray, missing: float) -> NDArray[Any]:
    numbers: NDArray[Any] = pc.fill_null(column, missing).to_numpy()
    return numbers


@lru_cache(maxsize=64)
def _step(size: str) -> int | None:
    """Return the length of a window, ns; None where its text is none."""
    try:
        return Window(size=size, step=size, start=0, end=0).length
    except InputError:
        return None
