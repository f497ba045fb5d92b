"""Waiting for what happens elsewhere, in another thread, task or process.

There is one deadline for all tests. It only has to be longer than anything takes on the slowest machine while other
programs keep its cores busy: a test that passes never waits for it. Never sleep for a time that "is enough" instead.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

PATIENCE = 60.0
"""Seconds after which something that has not happened never will."""

POLLS = 0.002, 0.05
"""Seconds between the first two looks, and at most: who looks takes time from what is waited for."""


def nothing() -> str:
    return "it did not happen"


def pauses() -> Iterator[float]:
    pause, longest = POLLS
    while True:
        yield pause
        pause = min(1.3 * pause, longest)


def until(is_so: Callable[[], Any], problem: Callable[[], object] = nothing, seconds: float = PATIENCE) -> Any:
    """Wait until `is_so` gives something true, and give that.

    Parameters
    ----------
    problem : what to show where it never does: a log, a status.
    """
    end = time.monotonic() + seconds
    for pause in pauses():
        if found := is_so():
            return found
        assert time.monotonic() < end, f"not within {seconds:g} s: {problem()}"
        time.sleep(pause)
    raise AssertionError


async def until_async(
    is_so: Callable[[], Any],
    problem: Callable[[], object] = nothing,
    *,
    tasks: Iterable[asyncio.Task[Any]] = (),
    seconds: float = PATIENCE,
) -> Any:
    """As `until`, while the tasks of this event loop go on; `tasks` are those that must not end meanwhile."""
    end = time.monotonic() + seconds
    for pause in pauses():
        if found := is_so():
            return found
        for task in tasks:
            if task.done():
                task.result()
                raise AssertionError(f"it has ended: {task}")
        assert time.monotonic() < end, f"not within {seconds:g} s: {problem()}"
        await asyncio.sleep(pause)
    raise AssertionError
