"""The playback of a tape: at its pace, with its faults."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import Any, Protocol

from torghut_core import SECOND
from torghut_testing.alpaca_data.events import Event
from torghut_testing.alpaca_data.faults import RESHAPING, Fault

BLOCK = 256
"""Events that are sent before it is checked whether clients keep up; a playback keeps no more of a tape in memory."""


class Market(Protocol):
    """What a playback needs of its market; but for `wait_until`, in the server's thread."""

    def wait_until(self, is_so: Callable[[], Any], timeout: float) -> None:
        """Wait until `is_so` returns something true."""

    def happen(self, events: Iterable[Event]) -> None:
        """Add events to the history."""

    def deliver(self, events: Sequence[Event]) -> None:
        """Send events to the clients that are subscribed to them."""

    async def trickle(self, event: Event, seconds: float) -> None:
        """Send one event in two pieces, with a pause between them."""

    async def drained(self) -> None:
        """Wait until every client has taken most of what it was sent."""

    async def suffer(self, fault: Fault, meanwhile: Callable[[], None]) -> None:
        """Have a fault happen; `meanwhile` is called while no client is subscribed."""

    def is_heard(self, symbols: Collection[str]) -> bool:
        """Whether a client is subscribed to all of these symbols."""

    async def change(self) -> None:
        """Wait for a change."""

    def notify(self) -> None:
        """Wake those who wait for a change."""


class Playback:
    """A tape that is being played; made by `FakeMarketData.play`.

    Attributes
    ----------
    played : number of events so far, received by a client or not.
    faults : those that are still to come; what is left at the end was beyond the tape.
    is_done : whether it ended.
    error : the error that ended it early, if any.
    """

    def __init__(
        self,
        market: Market,
        events: Iterator[Event],
        *,
        speed: float | None,
        faults: Iterable[Fault],
        wait_for: Collection[str],
    ) -> None:
        self.played = 0
        self.faults = deque(sorted(faults, key=lambda fault: fault.at))
        self.is_done = False
        self.error: BaseException | None = None
        self._market = market
        self._events = events
        self._speed = speed
        self._wait_for = wait_for
        self._ahead: deque[Event] = deque()
        self._start: tuple[float, int] | None = None

    def wait(self, timeout: float = 60.0) -> int:
        """Wait until it ends; return the number of events.

        Raises
        ------
        TimeoutError : it did not within `timeout` seconds.
        RuntimeError : it ended early, because of something that is not an event, or because the server stopped.
        """
        self._market.wait_until(lambda: self.is_done, timeout)
        if self.error is not None:
            raise RuntimeError(f"the playback ended early, at event {self.played}") from self.error
        return self.played

    async def run(self) -> None:
        """Play to the end, in the server's thread."""
        try:
            while await self._step():
                self._market.notify()
        except BaseException as error:  # raised by `wait`: nothing awaits this task
            self.error = error
        finally:
            self.is_done = True
            self._market.notify()

    async def _step(self) -> bool:
        while self.faults and self.faults[0].at <= self.played:
            await self._happen(self.faults.popleft())
        if not self.played:
            await self._subscribers()  # so that a tape that starts now starts once it is received
        self._read_ahead(1)
        if not self._ahead:
            return False
        await self._subscribers()
        block = self._take(self.faults[0].at - self.played if self.faults else BLOCK)
        if self._speed is not None:
            block = await self._due(block, self._speed)
        self._market.happen(block)
        self._market.deliver(block)
        self.played += len(block)
        if self._speed is None:
            await self._market.drained()
        await asyncio.sleep(0)
        return True

    async def _happen(self, fault: Fault) -> None:
        if not fault.is_armed:
            await self._subscribers()
        if fault.kind not in RESHAPING:
            await self._market.suffer(fault, lambda: self._lose(fault.lost))
            self._start = None
            return
        block = self._take(fault.count)
        self._market.happen(block)
        self.played += len(block)
        match fault.kind:
            case "duplicate":
                self._market.deliver([event for event in block for _ in range(2)])
            case "reorder":
                self._market.deliver(block[::-1])
            case _:
                for event in block:
                    await self._market.trickle(event, 0.01 if fault.seconds is None else fault.seconds)
        await self._market.drained()

    def _lose(self, count: int) -> None:
        """Let the next events happen without any client receiving them."""
        while count and (block := self._take(count)):
            self._market.happen(block)
            self.played += len(block)
            count -= len(block)

    async def _subscribers(self) -> None:
        """Wait for a client that is subscribed to all symbols of `wait_for`."""
        while self._wait_for and not self._market.is_heard(self._wait_for):
            self._start = None  # the tape's time does not pass while it waits
            await self._market.change()

    async def _due(self, block: list[Event], speed: float) -> list[Event]:
        """Wait for the time of the first event; return it and what is due with it, and put the rest back."""
        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start = loop.time(), block[0].at
        began, first = self._start
        wait = began + (block[0].at - first) / SECOND / speed - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        now = max(first + (loop.time() - began) * SECOND * speed, block[0].at)
        due = list(takewhile(lambda event: event.at <= now, block))
        self._ahead.extendleft(reversed(block[len(due) :]))
        return due

    def _read_ahead(self, count: int) -> None:
        self._ahead.extend(islice(self._events, max(0, count - len(self._ahead))))

    def _take(self, count: int) -> list[Event]:
        count = min(count, BLOCK)
        self._read_ahead(count)
        return [self._ahead.popleft() for _ in range(min(count, len(self._ahead)))]
