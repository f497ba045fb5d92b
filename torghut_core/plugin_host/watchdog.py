"""Interrupts plugin code that does not return, so that one strategy cannot stop the others.

While a batch is traded an alarm goes off every tenth of the budget and reads from the stack what the loop's thread is
doing. The plugin that is seen at work is charged with the processor time of the thread since the alarm before, a tenth of
the budget at most; one that has used up its budget in a batch gets `Overrun` raised inside it. Time in which the thread did
not run, because others had the processor, is charged to nobody. A single call that takes `WAITS` budgets by the clock is
interrupted too, whatever it waits for. In a replay, where nobody waits for the next batch, only a single call is measured, by its
processor time: what is slow is no error there, and a call that waits may be a person at a debugger. Nothing is measured per row: a plugin within its budget costs nothing.

Code that catches even `Overrun` and still runs at the next alarm gets it again, so often that its own handlers cannot end.

The plugin's name comes from a local variable of the kernel's function that called it. Where that function is not calling
a plugin, or has not set the variable yet, no plugin is named and nothing is raised.

Code that never returns to the interpreter (a loop inside a compiled extension) cannot be interrupted this way. The
admin API's ``/healthz`` sees the loop stall then, or does not answer at all where that code keeps the interpreter's lock,
and the supervisor of the process restarts it: it does not react to SIGTERM either.
"""

from __future__ import annotations

import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import NoReturn

from torghut_core import boundary

TICKS = 10
"""How often the alarm goes off within a budget."""

WAITS = 10
"""How many budgets a single call may take by the clock."""

AGAIN_S = 50e-6
"""Seconds, at most, until what has caught an `Overrun` gets the next one: so long that one of them comes in its handler."""


class Overrun(BaseException):
    """A plugin has used up its time; raised inside it, and not caught by its own ``except Exception``."""


class Watchdog:
    """Watches the plugins that the loop calls from its thread, which has to be the main thread.

    Parameters
    ----------
    seconds : how much processor time a plugin may take within one batch; within one call where `is_of_a_call`, and the clock
        does not count.
    callers : functions of the kernel that call a plugin, by their code: the local variable that is the plugin's name, or
        has it as its `name`.
    kernel : folder of the kernel's code: a caller that calls into it is not calling a plugin.
    uninterrupted : folder in it whose functions are never interrupted, also where a plugin has called them.

    Raises
    ------
    ValueError : a caller has no such variable.
    """

    def __init__(
        self,
        seconds: float,
        callers: Mapping[CodeType, str],
        *,
        kernel: str,
        uninterrupted: str,
        is_of_a_call: bool = False,
    ) -> None:
        for code, variable in callers.items():
            if variable not in code.co_varnames:
                raise ValueError(f"{code.co_qualname} has no local variable {variable!r} that names the plugin")
        self._seconds = seconds
        self._callers = callers
        self._kernel = kernel
        self._uninterrupted = uninterrupted
        self._is_of_a_call = is_of_a_call
        self._random = random.Random()
        self._used: defaultdict[str, float] = defaultdict(float)
        self._processor_s = 0.0
        self._call: FrameType | None = None
        """What the plugin at work was called for, and when that was first seen."""
        self._since = 0.0
        self._interrupted: FrameType | None = None
        """The call in which `Overrun` was raised, until the plugin has ended; it has a tick of time to clean up."""
        self._reason = ""

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
        self._used.clear()
        self._processor_s = time.thread_time()
        self._tick()
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._call = self._interrupted = None

    def _tick(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._seconds / TICKS, self._seconds / TICKS)

    def _interrupt(self, call: FrameType, reason: str) -> NoReturn:
        self._interrupted, self._reason = call, reason
        raise Overrun(reason)

    def _check(self, _signal: int, frame: FrameType | None) -> None:
        before, self._processor_s = self._processor_s, time.thread_time()
        name, call = self._at_work(frame)
        if self._interrupted is not None:
            if call is self._interrupted:
                signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-6, AGAIN_S))
                raise Overrun(self._reason)
            self._interrupted = None
            self._used.clear()
            self._tick()
        now = time.monotonic()
        if call is not self._call:
            self._call, self._since = call, now
            if self._is_of_a_call:
                self._used.clear()
        if call is None:
            return
        self._used[name] += min(self._processor_s - before, self._seconds / TICKS)
        if self._used[name] >= self._seconds * (1 - 1e-9):
            unit = "call" if self._is_of_a_call else "batch"
            self._interrupt(call, f"it took more than {self._seconds:g} s of one {unit}")
        if not self._is_of_a_call and now - self._since >= self._seconds * WAITS:
            self._interrupt(call, f"a call did not return within {self._seconds * WAITS:g} s")

    def _at_work(self, frame: FrameType | None) -> tuple[str, FrameType | None]:
        """The plugin that the interrupted code belongs to, and the frame of its call; no frame where it is the kernel's own."""
        called: FrameType | None = None
        while frame is not None:
            code = frame.f_code
            variable = self._callers.get(code)
            if variable is not None:
                if called is None or called.f_code.co_filename.startswith(self._kernel):
                    return "", None
                value = frame.f_locals.get(variable)
                name = value if isinstance(value, str) else getattr(value, "name", None)
                return (name, called) if isinstance(name, str) else ("", None)
            if code.co_filename.startswith(self._uninterrupted):
                return "", None
            if code.co_filename != boundary.__file__:
                called = frame
            frame = frame.f_back
        return "", None
