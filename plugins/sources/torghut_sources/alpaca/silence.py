"""The time of a feed that is silent: that of its last event plus what has passed since.

It is given out (a clock tick) only where the history confirms that nothing happened: it is asked for the symbols of the last
events. Where the history has more than the stream sent, the stream is mute, and the connection is opened again. Without
back-fill a pong is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from torghut_core import Closed, VenueError
from torghut_sources.alpaca.events import Events
from torghut_sources.alpaca.session import State
from torghut_sources.alpaca.wire import Complaint

if TYPE_CHECKING:
    from torghut_sources.alpaca.connection import StreamConnection
    from torghut_sources.alpaca.feed import FeedClock

GRACE_S = 0.1
"""How much longer than the history the stream may take for the same event, seconds."""


class Silence:
    """Gives the time of a feed that is silent, once it is confirmed that nothing was missed.

    Parameters
    ----------
    look_up : asks the history for the symbols of the last events, after a time, ns; None where it cannot be asked.
    complain : called when neither can confirm it.
    clock : monotonic time, seconds.
    tick_s : silence after which the time is given, seconds; 0 for never. Each pause is twice as long as the one before,
        up to `longest_tick_s`.
    lag_s : how far the history may be behind, seconds.
    """

    def __init__(
        self,
        connection: StreamConnection,
        feed: FeedClock,
        *,
        look_up: Callable[[int], AsyncGenerator[Events, None] | None],
        complain: Callable[[Complaint], None],
        clock: Callable[[], float],
        tick_s: float,
        longest_tick_s: float,
        lag_s: float,
    ) -> None:
        self._connection, self._feed = connection, feed
        self._look_up, self._complain = look_up, complain
        self._clock = clock
        self._tick_s, self._longest_tick_s, self._lag_s = tick_s, longest_tick_s, lag_s
        self._confirmation: asyncio.Task[float | None] | None = None
        self._due = self._pause = 0.0
        self.broken()

    def broken(self) -> None:
        """A frame arrived: the silence is over."""
        if self._confirmation is not None:
            self._confirmation.cancel()
            self._confirmation = None
        self._pause = self._tick_s
        self._due = self._clock() + self._pause

    async def wait(self) -> int | None:
        """Wait until a frame arrives (None), or until silence is confirmed (the feed's time, ns)."""
        connection, now = self._connection, self._clock()
        has_time = self._tick_s > 0 and self._feed.silent_at(now) is not None
        is_due = has_time and connection.session.state is State.LIVE and connection.session.confirmed
        if not is_due or now < self._due:
            await connection.inbox.changed(max(0.0, self._due - now) if is_due else None)
            return None
        if self._confirmation is None:
            self._confirmation = asyncio.create_task(self._confirm(now))
            self._confirmation.add_done_callback(lambda _: connection.inbox.wake())
        if not self._confirmation.done():
            await connection.inbox.changed(None)
            return None
        confirmation, self._confirmation = self._confirmation, None
        self._due, self._pause = now + self._pause, min(2 * self._pause, self._longest_tick_s)
        confirmed = confirmation.result()
        return None if confirmed is None else self._feed.silent_at(confirmed)

    async def _confirm(self, now: float) -> float | None:
        """Return the moment (monotonic, seconds) up to which nothing is missing; None where that is unknown."""
        connection = self._connection
        answer = self._look_up(self._feed.latest or 0)
        if answer is None:
            await connection.pong()
            return now
        try:
            async with aclosing(answer) as stream:
                async for events in stream:
                    if len(events):
                        # A frame that arrives meanwhile cancels this task.
                        await asyncio.sleep(max(self._lag_s, GRACE_S))
                        connection.lose(
                            Closed(
                                f"open, but without an event that the history has of {events.items[0].symbol}", "mute"
                            )
                        )
                        return None
        except VenueError as error:
            self._complain(Complaint("history", f"it is unknown whether a silent feed is mute: {error}"))
            return None
        return now - self._lag_s
