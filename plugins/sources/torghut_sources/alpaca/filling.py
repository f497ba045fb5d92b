"""Fills gaps: requests from the history what was missed, up to the first event of the stream after it; see `gap`.

Up to when the history is complete is judged by the feed's own time; see `feed`. The time of day is used only while the
stream has sent nothing yet, and then `max_ahead_ms` of error are allowed for.
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
    """How gaps are filled. Times are ns, except those in seconds (`_s`).

    Attributes
    ----------
    is_on : whether the history is asked at all.
    channels : the channels to request from the history.
    lag : how far the history may be behind the stream.
    overlap : how far events may overtake each other.
    ahead : how far the time of day may be wrong.
    longest_s : the longest gap that is filled completely; of longer ones the end is.
    pause_s, longest_pause_s : the first and the longest pause after the history did not answer.
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
        return self._feed.limit(self._wall())

    async def fill(self) -> AsyncGenerator[Events, None]:
        """Yield what was missed, in order; ends when all of it was taken."""
        connection, inbox = self._connection, self._connection.inbox
        found_at = inbox.came_by(self._clock())
        is_filled, gaps = False, 0
        while not is_filled:
            gaps += 1
            self._counts["gaps"] += 1
            await self._wait_for_history(found_at)
            if connection.is_over:
                return
            gap = self._open_gap(found_at)
            inbox.bridge()
            async with aclosing(self._from_history(gap)) as found:
                async for events in found:
                    yield events
            is_filled = gap.is_filled
        self.problem = None
        self._counts["backfills"] += gaps
        self._feed.resume(self._clock())
        if not inbox.has_gap:
            connection.session.filled()

    def look_up(self, last_symbols: Sequence[str], latest: int) -> AsyncGenerator[Events, None] | None:
        """Return what the history has after `latest`, ns, of symbols that had events last; None where it cannot be asked.

        Bars are left out: they always come late.
        """
        symbols = [symbol for symbol in last_symbols if symbol in self._connection.session.confirmed]
        channels = [channel for channel in self._how.channels if channel != "bars"]
        if not (self._how.is_on and symbols and channels):
            return None
        return self._history.events(channels, symbols, latest + 1, self.limit() + 1)

    async def _from_history(self, gap: Gap) -> AsyncGenerator[Events, None]:
        """Yield what the history has of a gap; ends when it is filled, or joined with a later one, or the connection is closed."""
        connection, feed, how = self._connection, self._feed, self._how
        inbox, symbols = connection.inbox, sorted(connection.session.confirmed)
        after = _AfterGap(inbox, Wire(how.encoding), feed.complete_until or 0)
        retry = _Retry(how.pause_s, how.longest_pause_s, self._chance, self._report_unanswered)
        if not (how.is_on and symbols):
            gap.answered()
        while not gap.is_filled and not connection.is_over:
            limit = self.limit()
            first = after.first(limit)
            if first is None and inbox.has_gap and connection.session.is_subscribed:
                inbox.miss()  # the stream continues after a later gap, and does not show the end of this one: both become one
                return
            since, until = gap.aim(first, self._feed_at(self._clock())[0] - how.lag, limit)
            async with retry, aclosing(self._request(symbols, since, until)) as answer:
                async for events in answer:
                    found = self._admit(gap.take(events))
                    if len(found):
                        self._counts["backfill_events"] += len(found)
                        feed.observe(int(found.known_ts().max()), self._clock())
                        yield found
                    feed.complete(gap.complete_until, self._clock())
                    if gap.goes_beyond:
                        break
                gap.answered()
                if not gap.is_filled:
                    await asyncio.sleep(how.lag / SECOND)

    async def _wait_for_history(self, found_at: float) -> None:
        """Wait until the stream has been subscribed for so long that the history has everything before."""
        connection = self._connection
        lag_s = self._how.lag / SECOND if self._how.is_on else 0.0
        while not connection.is_over:
            wait = None
            if connection.session.is_subscribed:
                wait = max(found_at, connection.session.subscribed_at) + lag_s - self._clock()
                if wait <= 0:
                    return
            await connection.inbox.changed(wait)

    def _open_gap(self, found_at: float) -> Gap:
        """Return the gap: from when on events may be missing, and from when on the stream has all."""
        connection, feed, how, now = self._connection, self._feed, self._how, self._clock()
        since = feed.complete_until
        if since is None:  # nothing was ever received: from the subscription on
            since = (connection.listening_since or self._wall()) - how.ahead
        away = (self._feed_at(now)[0] - since) / SECOND
        if away > how.longest_s:
            self._counts["backfill_truncated"] += 1
            log.error(
                "alpaca: a gap of %.0f s is filled for its last %.0f s only (backfill_max_s)", away, how.longest_s
            )
            since += int((away - how.longest_s) * SECOND) + how.overlap
        feed.complete(since, now)
        earliest, latest = self._feed_at(max(found_at, connection.session.subscribed_at))
        return Gap(since - how.overlap, (earliest, latest + how.lag), how.overlap)

    def _feed_at(self, moment: float) -> tuple[int, int]:
        """The feed's time at a moment, monotonic, seconds: the earliest and the latest that it can be, ns."""
        return self._feed.at(moment, self._wall() - int((self._clock() - moment) * SECOND))

    async def _request(self, symbols: Sequence[str], since: int, until: int) -> AsyncGenerator[Events, None]:
        """Yield what became known from `since` up to `until`; bars, which the stream may give late, from earlier on."""
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
        self.problem = Closed(f"the history does not answer, and is retried: {error}", "history")
        self._counts["backfill_failures"] += 1
        log.warning("alpaca: back-fill failed, and is retried: %s", error)


class _AfterGap:
    """Finds, while a gap is filled, the first event of the stream after it that shows the venue's time.

    Bars come late; and events before `since`, the end of what was given out before the gap, are repeated or late.
    """

    def __init__(self, inbox: Inbox, wire: Wire, since: int) -> None:
        self._inbox, self._wire, self._since = inbox, wire, since
        self._read = 0
        self._first: int | None = None

    def first(self, limit: int) -> int | None:
        """Return the time of that event, ns, which is at most `limit`; None while there is none."""
        for frame in self._inbox.ready_from(self._read) if self._first is None else ():
            self._read += 1
            events = self._wire.read([frame]).events
            times = [
                ts
                for ts, event in zip(events.event_ts.tolist(), events.items, strict=True)
                if isinstance(event, Trade | Quote) and self._since <= ts <= limit
            ]
            if times:
                self._first = times[0]
                break
        return self._first


class _Retry:
    """Swallows a failure of the history: reports it, and waits, longer each time."""

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
