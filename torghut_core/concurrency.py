"""Calls in threads that nobody has to wait for: what asyncio hands its blocking work to, in the loop and the admin API."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class DaemonThreads(ThreadPoolExecutor):
    """Makes each call in a daemon thread of its own: one that hangs holds up no other, and not the process' end."""

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
