"""A process's life, shared by `torghut run` and the services: its event loop, its signals, its server, its tasks and its end."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from torghut_core.admin.auth import parse_tokens
from torghut_core.admin.server import AdminServer
from torghut_core.concurrency import DaemonThreads
from torghut_core.installation.settings import Settings
from torghut_core.telemetry import logs
from torghut_core.timestamps import SYSTEM_CLOCK, Clock

HEARTBEAT_S = 0.25
"""Seconds between two signs of life of the event loop."""

CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP)
"""Signals of native code that crashed."""


class Life:
    """The event loop of a process, and the signals that end it.

    SIGTERM or SIGINT asks it to end in good order; a second one ends it at once.

    Attributes
    ----------
    events : the event loop of the thread that runs it; there before it runs.
    is_stopping : whether a signal has asked it to end.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.is_stopping = False
        self._clock = clock
        self._alive_at = clock.monotonic()
        # With a factory the loop does not become this thread's: a plugin would find it there, see `without_event_loop`.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.events = self._runner.get_loop()
        self.events.set_default_executor(DaemonThreads())
        self._stopping = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Let the signals end it, and put the handlers back that were there before."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run it in this thread to its end; the event loop is closed then."""
        if threading.current_thread() is threading.main_thread():
            _end_at_crashes()
        with self._runner:
            self._runner.run(main)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Have something called in the loop's thread; from any thread, and without effect once the loop is closed."""
        with suppress(RuntimeError):
            self.events.call_soon_threadsafe(callback)

    async def stopping(self) -> None:
        """Wait until a signal asks it to end, and log that one has."""
        await self._stopping.wait()
        logs.info("stopping", because="a signal has asked the process to end")

    async def heartbeat(self) -> None:
        """Note again and again that the loop runs."""
        while True:
            self._alive_at = self._clock.monotonic()
            await asyncio.sleep(HEARTBEAT_S)

    @property
    def silent_s(self) -> float:
        """Seconds since the last heartbeat."""
        return self._clock.monotonic() - self._alive_at

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.is_stopping:
            os._exit(128 + number)
        self.is_stopping = True
        self.call_soon(self._stopping.set)


def _end_at_crashes() -> None:
    """Let a crash of native code end the process at once, with what each thread was doing on standard error.

    The handlers that chdb installs keep a process that has crashed for minutes, and with it the lease.
    """
    faulthandler.disable()
    for number in CRASHES:
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable(2)  # standard error, whatever a plugin made of `sys.stderr`


def admin_server(settings: Settings, state: Path, host: str, port: int) -> AdminServer:
    """The admin API's server of a process on a state directory, with the tokens and hosts of the settings."""
    return AdminServer(
        state_dir=state,
        host=host,
        port=port,
        tokens=parse_tokens(settings.admin_tokens),
        hosts=settings.admin_hosts.replace(",", " ").split(),
    )


async def run_until_first_ends(
    *works: Coroutine[Any, Any, object],
    at_end: Callable[[list[BaseException]], Awaitable[None]] | None = None,
) -> None:
    """Run all of these until the first ends, cancel the others, and raise the first error in their order.

    `at_end` is awaited once all have ended, with their errors, before one is raised.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [each for each in ended if isinstance(each, BaseException)]
        errors = [error for error in errors if not isinstance(error, asyncio.CancelledError)]
        if at_end is not None:
            await at_end(errors)
    if errors:
        raise errors[0]
