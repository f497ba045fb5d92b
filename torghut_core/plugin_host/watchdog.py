"""Interrupts plugin code that does not come back, so that one strategy cannot stop the others.

While a batch is traded an alarm goes off every tenth of the budget and looks at what the loop's thread is doing. A
plugin that is seen at work ten times in one batch has used up its budget, and `Overrun` is raised inside it. Nothing is
measured per row: who is within the budget pays nothing.

Code that never returns to the interpreter (a loop inside a compiled extension) cannot be interrupted this way. The
admin API's ``/healthz`` sees the loop stall then, or does not answer at all where that code keeps the interpreter's lock,
and whoever runs the process restarts it: it does not hear SIGTERM either.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType

TICKS = 10
"""So often within its budget a plugin may be seen at work."""


class Overrun(BaseException):
    """A plugin has used up its time; raised inside it, and no plugin's ``except Exception`` keeps it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it took more than {seconds:g} s of one batch")


FROM_PLUGINS = (Exception, SystemExit, Overrun)
"""What plugin code may raise and the kernel contains. `KeyboardInterrupt` is not the plugin's."""


class Watchdog:
    """Watches the plugins that the loop calls from its thread, which has to be the main thread.

    Parameters
    ----------
    seconds : what a plugin may take of one batch.
    callers : functions of the kernel that call a plugin, by their code: from their local variables, the plugin's name.
    kernel : files whose functions are never interrupted, also where they work for a caller.
    """

    def __init__(
        self, seconds: float, callers: Mapping[CodeType, Callable[[Mapping[str, object]], str]], kernel: frozenset[str]
    ) -> None:
        self._seconds = seconds
        self._callers = callers
        self._kernel = kernel
        self._seen: Counter[str] = Counter()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the alarm signal; give it back at the end."""
        before = signal.signal(signal.SIGALRM, self._look)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Watch one batch."""
        self._seen.clear()
        signal.setitimer(signal.ITIMER_REAL, self._seconds / TICKS, self._seconds / TICKS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        name = self._at_work(frame)
        if name is not None:
            self._seen[name] += 1
            if self._seen[name] >= TICKS:
                self._seen[name] = 0
                raise Overrun(self._seconds)

    def _at_work(self, frame: FrameType | None) -> str | None:
        """The plugin that the interrupted code belongs to; None where it is the kernel's own."""
        inner = None
        while frame is not None:
            naming = self._callers.get(frame.f_code)
            if naming is not None:
                return None if inner is None else naming(frame.f_locals)
            if frame.f_code.co_filename in self._kernel:
                return None
            inner, frame = frame, frame.f_back
        return None
