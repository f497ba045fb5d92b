"""Interrupts plugin code that does not return, so that one strategy cannot stop the others.

While a batch is traded an alarm goes off every tenth of the budget and reads from the stack what the loop's thread is
doing. A plugin that is seen at work ten times in one batch has used up its budget, and `Overrun` is raised inside it.
Nothing is measured per row: a plugin within its budget costs nothing.

The plugin's name comes from a local variable of the kernel's function that called it. Where that function is not calling
a plugin, or has not set the variable yet, no plugin is named and nothing is raised.

Code that never returns to the interpreter (a loop inside a compiled extension) cannot be interrupted this way. The
admin API's ``/healthz`` sees the loop stall then, or does not answer at all where that code keeps the interpreter's lock,
and the supervisor of the process restarts it: it does not react to SIGTERM either.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType

TICKS = 10
"""How often a plugin may be seen at work within its budget."""


class Overrun(BaseException):
    """A plugin has used up its time; raised inside it, and not caught by its own ``except Exception``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it took more than {seconds:g} s of one batch")


class Watchdog:
    """Watches the plugins that the loop calls from its thread, which has to be the main thread.

    Parameters
    ----------
    seconds : how long a plugin may take within one batch.
    callers : functions of the kernel that call a plugin, by their code: the local variable that is the plugin's name, or
        has it as its `name`.
    kernel : folder of the kernel's code: a caller that calls into it is not calling a plugin.
    uninterrupted : folder in it whose functions are never interrupted, also where a plugin has called them.

    Raises
    ------
    ValueError : a caller has no such variable.
    """

    def __init__(self, seconds: float, callers: Mapping[CodeType, str], *, kernel: str, uninterrupted: str) -> None:
        for code, variable in callers.items():
            if variable not in code.co_varnames:
                raise ValueError(f"{code.co_qualname} has no local variable {variable!r} that names the plugin")
        self._seconds = seconds
        self._callers = callers
        self._kernel = kernel
        self._uninterrupted = uninterrupted
        self._seen: Counter[str] = Counter()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the alarm signal; restore the handler of before at the end."""
        before = signal.signal(signal.SIGALRM, self._check)
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

    def _check(self, _signal: int, frame: FrameType | None) -> None:
        name = self._at_work(frame)
        if name is not None:
            self._seen[name] += 1
            if self._seen[name] >= TICKS:
                self._seen[name] = 0
                raise Overrun(self._seconds)

    def _at_work(self, frame: FrameType | None) -> str | None:
        """The plugin that the interrupted code belongs to; None where it is the kernel's own."""
        called: FrameType | None = None
        while frame is not None:
            variable = self._callers.get(frame.f_code)
            if variable is not None:
                if called is None or called.f_code.co_filename.startswith(self._kernel):
                    return None
                value = frame.f_locals.get(variable)
                name = value if isinstance(value, str) else getattr(value, "name", None)
                return name if isinstance(name, str) else None
            if frame.f_code.co_filename.startswith(self._uninterrupted):
                return None
            called, frame = frame, frame.f_back
        return None
