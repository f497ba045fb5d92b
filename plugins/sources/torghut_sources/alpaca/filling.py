"""What was missed is asked of the history, up to the first event that the stream gives behind it: see `gap`.

How far the history can be known to be complete is a matter of the feed's own time: see `feed`. The time of day is in this
only where the stream has told nothing yet, and then `max_ahead_ms` of error are allowed for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from torghut_core import MINUTE, SECOND, Closed, VenueError
from torghut_sources.alpaca.events import Events
from torghut_sources.alpaca.gap import Gap
from torghut_sources.alpaca.messages import Quote, Trade
from torghut_sources.alpaca.wire import Encoding, Wire

if TYPE_CHECKING:
    from torghut_sources.alpaca.connection import StreamConnection
    from torghut_sources.alpaca.feed import FeedClock
    from torghut_sources.alpaca.history import History
    from torghut_sources.alpaca.inbox import Inbox

BARS_LATE = 2 * MINUTE
"""How long after its end a bar, or its update, may come by the stream at most."""

log = logging.getLogger(__name__)


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """How gaps are filled. Times are ns but where they are said to be seconds.

    Attributes
    ----------
    is_on : whether what was missed is asked of the history at all.
    channels : those of the history that are taken.
    lag : how far the history may be behind the stream.
    overlap : how far events may overtake each other.
    ahead : how far the time of day may be wrong.
    longest_s : the longest gap that is filled whole, seconds; of others the end.
    pause_s, longest_pause_s : the first and the longest pause after the history did not answer, seconds.
    """

    is_on: bool
    channels: tuple[str, ...]
    encoding: Encoding
    lag: int
    overlap: int
    ahead: int
    longest_s: float
    pause_s: float
    longest_pause_s: float


class GapFiller:
    """Fills the gaps of a stream from the history.

    Parameters
    ----------
    admit : lets each event through once.
    counts : where gaps, back-fills and their events are counted.
    clock, wall : monotonic time, seconds, and the time of day, ns.
    chance : gives numbers from 0 to 1, for pauses.

    Attributes
    ----------
    problem : why a gap stays open; None while the history answers.
    """

    def __init__(
        self,
        connection: StreamConnection,
        feed: FeedClock,
        history: History,
        how: Filling,
        *,
        admit: Callable[[Events], Events],
        counts: Counter[str],
        clock: Callable[[], float],
        wall: Callable[[], int],
        chance: Callable[[], float],
    ) -> None:
        self._connection, self._feed, self._history, self._how = connection, feed, history, how
        self._admit, self._counts = admit, counts
        self._clock, self._wall, self._chance = clock, wall, chance
        self.problem: Closed | None = None

    def limit(self) -> int:
        """The latest time that an event can have now, ns."""
        return self._feed.limit(self._clock(), self._wall())

    async def fill(self) -> AsyncGenerator[Events, None]:
        """Yield what was missed, in order; ends when it was taken."""
        connection, inbox, found_at = (
            self._connection,
            self._connection.inbox,
            self._connection.inbox.came_by(self._clock()),
        )
        is_filled, gaps = False, 0
        while not is_filled:
            gaps += 1
            self._counts["gaps"] += 1
            await self._listened(found_at)
            if connection.is_over:
                return
            gap = self._gap(found_at)
            inbox.bridge()
            async with aclosing(self._found(gap)) as found:
                async for events in found:
                    yield events
            is_filled = gap.is_filled
        self.problem = None
        self._counts["backfills"] += gaps
        self._feed.go_on(self._clock())
        if not inbox.has_gap:
            connection.session.filled()

    def look_up(self, heard: Sequence[str], latest: int) -> AsyncGenerator[Events, None] | None:
        """What the history has after `latest`, ns, of symbols that were `heard`; None where it is not asked.

        Bars come late by themselves.
        """
        symbols = [symbol for symbol in heard if symbol in self._connection.session.confirmed]
        channels = [channel for channel in self._how.channels if channel != "bars"]
        if not (self._how.is_on and symbols and channels):
            return None
        return self._history.events(channels, symbols, latest + 1, self.limit() + 1)

    async def _found(self, gap: Gap) -> AsyncGenerator[Events, None]:
        """What the history has of a gap; ends when it is filled, or a part of a longer one, or it is over."""
        connection, feed, how = self._connection, self._feed, self._how
        inbox, symbols = connection.inbox, sorted(connection.session.confirmed)
        behind = _Behind(inbox, Wire(how.encoding), feed.whole or 0)
        patience = _Patience(how.pause_s, how.longest_pause_s, self._chance, self._report_unanswered)
        if not (how.is_on and symbols):
            gap.answered()
        while not gap.is_filled and not connection.is_over:
            limit = self.limit()
            first = behind.first(limit)
            if first is None and inbox.has_gap and connection.session.is_subscribed:
                inbox.miss()  # the stream goes on behind a later gap, and tells no end of this one: both are one
                return
            since, until = gap.aim(first, self._feed_at(self._clock())[0] - how.lag, limit)
            async with patience, aclosing(self._missed(symbols, since, until)) as missed:
                async for events in missed:
                    found = self._admit(gap.take(events))
                    if len(found):
                        self._counts["backfill_events"] += len(found)
                        feed.learn(int(found.known_ts().max()), self._clock())
                        yield found
                    feed.fill(gap.whole, self._clock())
                    if gap.goes_beyond:
                        break
                gap.answered()
                if not gap.is_filled:
                    await asyncio.sleep(how.lag / SECOND)

    async def _listened(self, found_at: float) -> None:
        """Wait until the stream was listened to for so long that the history has all before, or it is over."""
        connection = self._connection
        lag_s = self._how.lag / SECOND if self._how.is_on else 0.0
        while not connection.is_over:
            wait = None
            if connection.session.is_subscribed:
                wait = max(found_at, connection.session.subscribed_at) + lag_s - self._clock()
                if wait <= 0:
                    return
            await connection.inbox.changed(wait)

    def _gap(self, found_at: float) -> Gap:
        """From when on events may be missing, and from when on the stream has all."""
        connection, feed, how, now = self._connection, self._feed, self._how, self._clock()
        whole = feed.whole
        if whole is None:  # nothing was ever heard: since it was listened
            whole = (connection.listening_since or self._wall()) - how.ahead
        away = (self._feed_at(now)[0] - whole) / SECOND
        if away > how.longest_s:
            self._counts["backfill_truncated"] += 1
            log.error(
                "alpaca: a gap of %.0f s is filled for its last %.0f s only (backfill_max_s)", away, how.longest_s
            )
            whole += int((away - how.longest_s) * SECOND) + how.overlap
        feed.fill(whole, now)
        earliest, latest = self._feed_at(max(found_at, connection.session.subscribed_at))
        return Gap(whole - how.overlap, (earliest, latest + how.lag), how.overlap)

    def _feed_at(self, moment: float) -> tuple[int, int]:
        """The feed's time at a moment, monotonic, seconds: the earliest and the latest that it can be, ns."""
        return self._feed.at(moment, self._wall() - int((self._clock() - moment) * SECOND))

    async def _missed(self, symbols: Sequence[str], since: int, until: int) -> AsyncGenerator[Events, None]:
        """What became known from `since` up to `until`; what the stream may give late is looked up from earlier on."""
        ask, first = self._history.events, since
        if "bars" in self._how.channels:
            async with aclosing(ask(["bars"], symbols, since - BARS_LATE - MINUTE, since - MINUTE)) as stream:
                async for events in stream:
                    yield events
            first = since - MINUTE
        async with aclosing(ask(self._how.channels, symbols, first, until)) as stream:
            async for events in stream:
                yield events.take(np.flatnonzero(events.known_ts() >= since))

    def _report_unanswered(self, error: VenueError) -> None:
        self.problem = Closed(f"the history does not answer, and is asked again: {error}", "history")
        self._counts["backfill_failures"] += 1
        log.warning("alpaca: back-fill failed, and is tried again: %s", error)


class _Behind:
    """Looks, while a gap is filled, for the first event behind it that tells the venue's time.

    Bars come late, and what is older than `whole`, up to when all was given out before the gap, comes again or late.
    """

    def __init__(self, inbox: Inbox, wire: Wire, whole: int) -> None:
        self._inbox, self._wire, self._whole = inbox, wire, whole
        self._looked_at = 0
        self._first: int | None = None

    def first(self, limit: int) -> int | None:
        """Its time, ns, of those up to `limit`; None while there is none."""
        for frame in self._inbox.ready_from(self._looked_at) if self._first is None else ():
            self._looked_at += 1
            events = self._wire.read([frame]).events
            times = [
                ts
                for ts, event in zip(events.event_ts.tolist(), events.items, strict=True)
                if isinstance(event, Trade | Quote) and self._whole <= ts <= limit
            ]
            if times:
                self._first = times[0]
                break
        return self._first


class _Patience:
    """Retries when the history does not answer: reports it, and waits, longer each time."""

    def __init__(
        self, pause_s: float, longest_s: float, chance: Callable[[], float], report: Callable[[VenueError], None]
    ) -> None:
        self._pause_s, self._longest_s = pause_s, longest_s
        self._chance, self._report = chance, report

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, VenueError):
            return False
        self._report(error)
        await asyncio.sleep(self._pause_s * self._chance())
        self._pause_s = min(2 * self._pause_s, self._longest_s)
        return True
