"""What is in a tape: symbols, spans, gaps by calendar, and prices to look at, each with what it means and what to do.

The tape is read by the source that replays it, so that what is reported is what a replay meets. Only counts, and the last
rows of each series, are kept: a tape may be larger than memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from torghut_core.calendars import PAIRS_AND_US_EQUITIES, ROUND_THE_CLOCK, calendar_of, exchange_sessions
from torghut_core.model.market import TIMEFRAME_NAMES, Bars, Batch, FloatArray, IntArray, window_size
from torghut_core.timestamps import DAY, HOUR, MINUTE, format_timestamp, to_datetime

SPIKE_PCT = 10.0
"""A price that is so far from the one before and comes back is a spike, percent."""

SPLITS = (1.5, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)
NEAR_SPLIT = 0.04
"""A ratio of prices is as of a split if it is so near to one, as a share of it: the market moves meanwhile."""

MOST_PLACES = 5
"""Places of a kind that are listed."""

_YEARS = 8


class Finding(msgspec.Struct, frozen=True):
    """Something to know of a tape.

    Attributes
    ----------
    what : what was found, with its number.
    count : how often.
    places : the first, or the largest, of them.
    means, todo : what it means, and what to do about it.
    """

    what: str
    count: int
    places: list[str]
    means: str
    todo: str


class SeriesReport(msgspec.Struct, frozen=True):
    """One symbol's bars at one step, or its trades or quotes.

    Attributes
    ----------
    outside_pct : share of rows outside the sessions of the calendar, percent.
    sessions, missing_sessions : of the calendar from the first row to the last; those without a row.
    missing_bars : bars that are not there in sessions that have some; None for trades and quotes.
    """

    symbol: str
    kind: str
    timeframe: str
    rows: int
    first: str
    last: str
    calendar: str
    sessions: int
    missing_sessions: int
    missing_bars: int | None
    outside_pct: float
    findings: list[Finding]


class Inspection(msgspec.Struct, frozen=True):
    """What is in one or several tapes that are read as one.

    Attributes
    ----------
    duplicates : bars that are not newer than the last of their series, and trades and quotes that two tapes have.
    bad_rows : rows that a replay does not take, by reason with the first place; it stops there, or skips them.
    """

    tapes: list[str]
    rows: int
    duplicates: int
    bad_rows: dict[str, int]
    series: list[SeriesReport]


async def inspect(
    batches: AsyncIterator[Batch],
    calendars: Mapping[str, str] = PAIRS_AND_US_EQUITIES,
    spike_pct: float = SPIKE_PCT,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> tuple[list[SeriesReport], int, int]:
    """Read all batches; give the series, the number of rows, and how many were duplicates.

    Parameters
    ----------
    calendars : exchange calendar by symbol pattern; a symbol without one trades round the clock.
    spike_pct : see `SPIKE_PCT`.
    """
    found: dict[tuple[str, str, int], _Series] = {}
    known: dict[str, _Sessions] = {}
    rows = duplicates = 0
    async for batch in batches:
        rows += len(batch)
        duplicates += batch.duplicates
        names = batch.symbols.names
        for kind, table in (("bars", batch.bars), ("trades", batch.trades), ("quotes", batch.quotes)):
            if not len(table):
                continue
            steps = table.step if isinstance(table, Bars) else np.zeros(len(table), np.int64)
            order = np.lexsort((steps, table.symbol))
            cuts = np.flatnonzero((np.diff(table.symbol[order]) != 0) | (np.diff(steps[order]) != 0)) + 1
            for part in np.split(order, cuts):
                key = kind, names[int(table.symbol[part[0]])], int(steps[part[0]])
                if key not in found:
                    calendar = calendar_of(key[1], calendars) or ROUND_THE_CLOCK
                    if calendar not in known:
                        known[calendar] = _Sessions(calendar, int(table.event_ts[part[0]]))
                    found[key] = _Series(*key, known[calendar], spike_pct / 100)
                found[key].add(table.take(part))
        on_progress(rows)
    return [series.report() for _, series in sorted(found.items())], rows, duplicates


class _Sessions:
    """The sessions of a calendar, from some time before the first row on; more are added as rows need them."""

    def __init__(self, name: str, first: int) -> None:
        self.name = name
        self._first = to_datetime(first - 40 * DAY).date()
        self._last = self._first
        self.opens = self.closes = np.empty(0, np.int64)

    def cover(self, last: int) -> None:
        """Have all sessions up to a time."""
        until = to_datetime(last).date()
        if self._last > self._first and until < self._last:
            return
        self._last = until.replace(year=min(until.year + _YEARS, 2259), day=min(until.day, 28))
        known = exchange_sessions(self.name, self._first.isoformat(), self._last.isoformat())
        self.opens, self.closes = known.opens, known.closes


class _Worst(NamedTuple):
    """A stretch of time, by its length."""

    length: int
    start: int
    end: int


class _Series:
    """One series while its rows come."""

    def __init__(self, kind: str, symbol: str, step: int, sessions: _Sessions, spike: float) -> None:
        self._kind, self._symbol, self._step = kind, symbol, step
        self._sessions = sessions
        self._spike = spike
        self._rows = self._outside = self._no_volume = self._off_step = self._same = 0
        self._first = self._last = 0
        self._of_session: NDArray[np.int64] = np.zeros(0, np.int64)
        self._gaps: list[_Worst] = []
        self._counts: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}
        self._times: IntArray = np.empty(0, np.int64)
        self._prices: FloatArray = np.empty((4, 0))

    def add(self, table: Any) -> None:
        """Take the next rows, in order."""
        times = table.event_ts
        if not self._rows:
            self._first = int(times[0])
        self._last = max(self._last, int(times.max()))
        self._rows += len(times)
        self._sessions.cover(int(times.max()) + self._step)
        self._count_sessions(times)
        if self._kind == "bars":
            prices = np.stack((table.open, table.high, table.low, table.close))
            self._no_volume += int(np.count_nonzero(table.volume == 0))
            if 0 < self._step < DAY:
                self._off_step += int(np.count_nonzero(times % self._step))
        elif self._kind == "trades":
            prices = np.stack([table.price] * 4)
        else:
            middle = np.where(
                np.isnan(table.bid_price + table.ask_price),
                np.where(np.isnan(table.bid_price), table.ask_price, table.bid_price),
                (table.bid_price + table.ask_price) / 2,
            )
            self._note("crossed", times[table.bid_price > table.ask_price])
            prices = np.stack([middle] * 4)
        # Two rows of before are kept, so that how rows are cut into batches changes nothing.
        times = np.concatenate((self._times, times))
        prices = np.concatenate((self._prices, prices), axis=1)
        new = len(self._times)
        self._count_gaps(times, new)
        self._count_prices(times, prices, new)
        self._times, self._prices = times[-2:].copy(), prices[:, -2:].copy()

    def _session(self, times: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """The number of each time's session, the last that has opened, and whether it is within it."""
        if self._step >= DAY:  # the session that ends within the bar
            number = np.searchsorted(self._sessions.closes, times, side="right")
            known = number < len(self._sessions.opens)
            number = np.minimum(number, len(self._sessions.opens) - 1)
            return number, known & (self._sessions.opens[number] < times + self._step)
        number = np.searchsorted(self._sessions.opens, times, side="right") - 1
        return number, (number >= 0) & (times < self._sessions.closes[number])

    def _count_sessions(self, times: IntArray) -> None:
        if not len(self._sessions.opens):
            self._outside += len(times)
            return
        number, inside = self._session(times)
        self._outside += len(times) - int(np.count_nonzero(inside))
        counts = np.bincount(number[inside], minlength=len(self._of_session))
        counts[: len(self._of_session)] += self._of_session
        self._of_session = counts

    def _count_gaps(self, times: IntArray, new: int) -> None:
        """Keep the longest stretches without a row within a session."""
        after, before = times[max(new, 1) :], times[max(new, 1) - 1 : -1]
        if not len(after) or not len(self._sessions.opens) or self._step >= DAY:
            return
        number, inside = self._session(before)
        ends = np.where(inside, self._sessions.closes[number], before)
        since = before + self._step
        lengths = np.minimum(after, ends) - since
        least = max(self._step, MINUTE)
        rows = np.flatnonzero(inside & (lengths >= (least if self._kind == "bars" else 5 * MINUTE)))
        self._counts["gaps"] = self._counts.get("gaps", 0) + len(rows)
        worst = rows[np.argsort(-lengths[rows], kind="stable")[:MOST_PLACES]]
        found = [_Worst(int(lengths[row]), int(since[row]), int(since[row] + lengths[row])) for row in worst.tolist()]
        self._gaps = sorted([*self._gaps, *found], key=lambda each: (-each.length, each.start))[:MOST_PLACES]

    def _count_prices(self, times: IntArray, prices: FloatArray, new: int) -> None:
        open_, high, low, close = prices
        if len(times) < 2:
            return
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.abs(np.log(close[1:] / close[:-1]))
        limit = np.log1p(self._spike)
        # A spike is judged once the row after it is there.
        middle = np.arange(max(1, new - 1), len(times) - 1)
        left, right = change[middle - 1], change[middle]
        with np.errstate(divide="ignore", invalid="ignore"):
            around = np.abs(np.log(close[middle + 1] / close[middle - 1]))
        is_spike = (left > limit) & (right > limit) & (around < limit / 3)
        self._note("spikes", times[middle][is_spike], close[middle][is_spike])
        rows = np.arange(max(1, new), len(times))
        if self._kind == "bars":
            top = np.maximum(np.maximum(open_[rows], close[rows]), close[rows - 1])
            bottom = np.minimum(np.minimum(open_[rows], close[rows]), close[rows - 1])
            far = high[rows] > top * (1 + self._spike)
            self._note("wicks", times[rows][far], high[rows][far])
            far = low[rows] < bottom / (1 + self._spike)
            self._note("wicks", times[rows][far], low[rows][far])
        ratio = open_[rows] / close[rows - 1]
        ratio = np.where(ratio < 1, 1 / ratio, ratio)
        splits = np.array(SPLITS)
        near = np.abs(ratio[:, None] / splits - 1).min(axis=1) < NEAR_SPLIT
        pause = times[rows] - times[rows - 1] >= (DAY if self._step >= DAY else 4 * HOUR)
        is_split = near & pause & (np.abs(np.log(ratio)) > np.log(1.4))
        self._note("splits", times[rows][is_split], ratio[is_split])

    def _note(self, what: str, times: IntArray, values: FloatArray | None = None) -> None:
        if not len(times):
            return
        self._counts[what] = self._counts.get(what, 0) + len(times)
        places = self._places.setdefault(what, [])
        shown = [""] * len(times) if values is None else [f" {value:.10g}" for value in values[:MOST_PLACES].tolist()]
        for at, value in zip(times[: MOST_PLACES - len(places)].tolist(), shown, strict=False):
            places.append(f"{format_timestamp(at)}{value}")

    def report(self) -> SeriesReport:
        """Give what was found; nothing is added after."""
        missing, expected, lost = self._missing()
        bars = self._kind == "bars"
        return SeriesReport(
            symbol=self._symbol,
            kind=self._kind,
            timeframe=TIMEFRAME_NAMES.get(self._step) or window_size(self._step) if bars else "",
            rows=self._rows,
            first=format_timestamp(self._first),
            last=format_timestamp(self._last),
            calendar=self._sessions.name,
            sessions=expected,
            missing_sessions=len(missing),
            missing_bars=lost if bars else None,
            outside_pct=round(100 * self._outside / self._rows, 2),
            findings=self._findings(missing, lost),
        )

    def _missing(self) -> tuple[list[int], int, int]:
        """Sessions without a row, as numbers; how many there are in all; and bars that are not there in the others."""
        if not len(self._sessions.opens):
            return [], 0, 0
        opens, closes = self._sessions.opens, self._sessions.closes
        first = int(np.searchsorted(closes, self._first, side="right"))
        last = int(np.searchsorted(opens, self._last + (self._step if self._step >= DAY else 0), side="left"))
        last = max(last, int(np.searchsorted(opens, self._last, side="right")))
        counts = np.zeros(max(last, len(self._of_session)), np.int64)
        counts[: len(self._of_session)] = self._of_session
        own = counts[first:last]
        missing = (np.flatnonzero(own == 0) + first).tolist()
        if self._kind != "bars" or self._step >= DAY:
            return missing, last - first, 0
        since, until = (
            np.maximum(opens[first:last], self._first),
            np.minimum(closes[first:last], self._last + self._step),
        )
        wanted = np.maximum(-(-(until - since) // self._step), 0)
        return missing, last - first, int(np.maximum(wanted - own, 0)[own > 0].sum())

    def _findings(self, missing: Sequence[int], lost: int) -> list[Finding]:
        made: list[Finding] = []

        def add(what: str, count: int, places: Sequence[str], means: str, todo: str) -> None:
            if count:
                made.append(Finding(what, count, list(places), means, todo))

        name = self._sessions.name
        add(
            f"sessions of {name} without a row",
            len(missing),
            [format_timestamp(int(self._sessions.opens[number]))[:10] for number in missing[:MOST_PLACES]],
            "days are missing, or the symbol has another calendar",
            "get the days, or say the calendar: --calendar 'PATTERN=NAME'",
        )
        stretches = [
            f"{format_timestamp(each.start)} to {format_timestamp(each.end)}"
            for each in sorted(self._gaps, key=lambda each: each.start)
        ]
        if self._kind == "bars":
            add(
                "bars missing in sessions",
                lost,
                stretches,
                "a minute without a trade has no bar at most vendors; long stretches are lost data",
                "compare the longest stretches with another source",
            )
        else:
            add(
                "stretches of five minutes and more without a row in sessions",
                self._counts.get("gaps", 0),
                stretches,
                "a quiet market, a halt, or lost data",
                "compare the longest with another source",
            )
        outside = self._outside / self._rows
        add(
            f"rows outside the sessions of {name} ({100 * outside:.1f} %)",
            self._outside if self._step < DAY else 0,
            [],
            "extended hours or the night: thinner, with wider spreads; most rows outside mean another calendar or zone",
            "say the calendar (--calendar), check the zone of the import, or trade in sessions alone",
        )
        for key, what, means, todo in _SUSPICIONS:
            add(what, self._counts.get(key, 0), self._places.get(key, []), means, todo)
        add(
            "bars with a volume of 0",
            self._no_volume,
            [],
            "nothing was traded: the price repeats an old one, or the source has no volumes",
            "an order cannot have been filled there: limit fills by volume, or leave these bars out",
        )
        add(
            "bars that do not begin at a multiple of their length",
            self._off_step,
            [],
            "the times are those of the ends, or the length is not what it seems",
            "import again with --times end, or with --timeframe",
        )
        return made


_SUSPICIONS = (
    (
        "spikes",
        "prices that jump and come back at once",
        "a bad print, or a thin market; a backtest fills there what nobody could have traded",
        "compare with another source, and remove the rows",
    ),
    (
        "wicks",
        "highs or lows far from their bar and the close before",
        "a bad print within the bar; stops and limits fill there",
        "compare with another source, and correct the bar",
    ),
    (
        "splits",
        "opens that differ from the close before as in a split",
        "prices are raw across a split, and every indicator and position is wrong from there on",
        "give the split to the replay (--actions), or import adjusted prices (--adjusted)",
    ),
    (
        "crossed",
        "quotes with a bid above the ask",
        "two venues disagree for a moment, or the sides are mixed up",
        "many of them: check which column is which",
    ),
)
