"""Threads and waits of asyncio: calls that nobody has to wait for, and waiting for an event with a limit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any


class DaemonThreads(ThreadPoolExecutor):
    """What asyncio hands its blocking calls to, in the loop and the admin API: a daemon thread for each call.

    One that hangs holds up no other call, nor the end of the process.
    """

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor.submit`."""
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(call(*args, **kwargs))
            except BaseException as error:  # whatever it is, it belongs to who waits for the result
                future.set_exception(error)

        threading.Thread(target=work, name="torghut-call", daemon=True).start()
        return future


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, at most so many seconds, and clear it.

    (`asyncio.wait_for` of Python 3.11 drops a cancellation that comes together with the event.)
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
