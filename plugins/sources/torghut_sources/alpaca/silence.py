"""The time of a feed that is silent: that of its last event and what passed since.

It is told (a clock tick) only where somebody else confirms that nothing happened: the history is asked for the symbols that
were heard last. Where it knows more than the stream told, the stream is mute, and it is opened again. Without
back-fill a pong has to do.
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
"""How much longer than the history the stream may take to tell the same, seconds."""


class Silence:
    """Tells the time of a feed that is silent, as far as somebody confirms that nothing was missed.

    Parameters
    ----------
    look_up : gives what the history tells of the symbols that were heard last, after a time, ns; None where it tells of none.
    complain : is told when nobody can say.
    clock : monotonic time, seconds.
    tick_s : after how much silence the time is told, seconds; 0 for never. Each pause is twice as long as the one before,
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
        self._look: asyncio.Task[float | None] | None = None
        self._due = self._pause = 0.0
        self.broken()

    def broken(self) -> None:
        """Something came."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._pause = self._tick_s
        self._due = self._clock() + self._pause

    async def wait(self) -> int | None:
        """Wait until something comes, or silence is confirmed; then the feed's time, ns."""
        connection, now = self._connection, self._clock()
        has_time = self._tick_s > 0 and self._feed.silent_at(now) is not None
        is_told = has_time and connection.session.state is State.LIVE and connection.session.confirmed
        if not is_told or now < self._due:
            await connection.inbox.changed(max(0.0, self._due - now) if is_told else None)
            return None
        if self._look is None:
            self._look = asyncio.create_task(self._confirm(now))
            self._look.add_done_callback(lambda _: connection.inbox.wake())
        if not self._look.done():
            await connection.inbox.changed(None)
            return None
        look, self._look = self._look, None
        self._due, self._pause = now + self._pause, min(2 * self._pause, self._longest_tick_s)
        confirmed = look.result()
        return None if confirmed is None else self._feed.silent_at(confirmed)

    async def _confirm(self, now: float) -> float | None:
        """Until when (monotonic, seconds) nothing happened but what is known; None where nobody can say."""
        connection = self._connection
        answer = self._look_up(self._feed.latest or 0)
        if answer is None:
            await connection.pong()
            return now
        try:
            async with aclosing(answer) as stream:
                async for events in stream:
                    if len(events):
                        await asyncio.sleep(max(self._lag_s, GRACE_S))  # and if nothing came by then, which ends this:
                        connection.lose(
                            Closed(f"open, but silent on what the history tells of {events.items[0].symbol}", "mute")
                        )
                        return None
        except VenueError as error:
            self._complain(Complaint("history", f"nobody can say whether a silent feed is mute: {error}"))
            return None
        return now - self._lag_s
