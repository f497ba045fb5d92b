"""What belongs to the process and not to a plugin: put back where a plugin has changed it.

A plugin runs in the kernel's process, so `signal.signal`, `sys.setrecursionlimit` or `warnings.simplefilter` change it for
all. What the kernel depends on is noted here and put back: after a plugin was imported or made, and after each batch.
``docs/plugins.md`` has the table, with what the kernel does not depend on.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal.getsignal` makes an enum of what it finds, which is slow
import builtins
import decimal
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Self

from torghut_core.plugin_host.running_plugin import LOADER, NO_PLUGIN, RECORD, label
from torghut_core.telemetry import logs


class _Global(NamedTuple):
    """Something that the process has once; `is_of_main` where only the main thread can set it."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    is_of_main: bool = False


def _module(module: Any, *names: str) -> list[_Global]:
    """Attributes of a module, which are compared by identity."""

    def of(name: str) -> _Global:
        return _Global(
            f"{module.__name__}.{name}", lambda: getattr(module, name), lambda value: setattr(module, name, value)
        )

    return [of(name) for name in names]


def _content(module: Any) -> _Global:
    """All that a module has now: what a plugin adds to it later is left there."""
    found = vars(module)
    names = tuple(found)

    def read() -> tuple[Any, ...]:
        return tuple(map(found.get, names))

    return _Global(module.__name__, read, lambda kept: found.update(zip(names, kept, strict=True)))


def _handler(number: signal.Signals) -> _Global:
    return _Global(
        f"the handler of {number.name}",
        lambda: _signal.getsignal(number),
        lambda handler: signal.signal(number, handler),
        is_of_main=True,
    )


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - no path is made of it
    except OSError:  # it was removed
        return None


def _errors() -> tuple[Any, ...]:
    """The filters that make errors of warnings: of everyone's."""
    return tuple(each for each in warnings.filters if each[0] == "error")


def _set_errors(kept: tuple[Any, ...]) -> None:
    warnings.filters[:] = [each for each in warnings.filters if each[0] != "error" or each in kept]  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]  # noqa: SLF001 - as `warnings.resetwarnings` does


def _template() -> tuple[Any, ...]:
    made = decimal.DefaultContext
    traps = tuple(made.traps.values())
    return made.prec, made.rounding, made.Emin, made.Emax, made.capitals, made.clamp, traps


def _set_template(kept: tuple[Any, ...]) -> None:
    made = decimal.DefaultContext
    made.prec, made.rounding, made.Emin, made.Emax, made.capitals, made.clamp, traps = kept
    made.traps = dict(zip(made.traps, traps, strict=True))


_GLOBALS = (
    _Global("sys.setrecursionlimit", sys.getrecursionlimit, sys.setrecursionlimit),
    *map(_handler, (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP, signal.SIGPIPE)),
    _Global(
        "the signal mask",
        lambda: tuple(_signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        lambda mask: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        is_of_main=True,
    ),
    _Global("sys.setswitchinterval", sys.getswitchinterval, sys.setswitchinterval),
    _Global("sys.set_int_max_str_digits", sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    _Global("sys.settrace", sys.gettrace, sys.settrace, is_of_main=True),
    _Global("sys.setprofile", sys.getprofile, sys.setprofile, is_of_main=True),
    _Global("threading.settrace", threading.gettrace, threading.settrace),
    _Global("threading.setprofile", threading.getprofile, threading.setprofile),
    _Global("gc.disable", gc.isenabled, lambda is_on: gc.enable() if is_on else gc.disable()),
    _Global("gc.set_threshold", gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds)),
    _Global("socket.setdefaulttimeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
    _Global("os.chdir", _directory, os.chdir),
    _Global("warnings.simplefilter('error')", _errors, _set_errors),
    _Global("decimal.DefaultContext", _template, _set_template),
    _Global("logging.disable", lambda: logging.root.manager.disable, logging.disable),
    *_module(sys, "stdout", "stderr"),
    *_module(warnings, "showwarning"),
    *map(_content, (builtins, time, decimal)),
)  # fmt: skip

DEEPEST = 10_000
"""Frames that a plugin may ask for: a million would overflow the stack of native code, or take minutes to be left."""

_VALUES = (int, float, bool, str, tuple, type(None))
"""Types that are compared by value."""


class ProcessState:
    """How the process was when this was made; a context manager, in which plugins work.

    Meanwhile a lower recursion limit is refused, for the kernel could not even end the batch with it; and so is one above
    `DEEPEST`. At the end everything is put back.

    Parameters
    ----------
    who : gives the plugins that may have changed it, for the log.
    is_loading : a plugin is imported or made; it is recorded as the `running_plugin`.
    """

    def __init__(self, who: Callable[[], str], *, is_loading: bool = False) -> None:
        self._who = who
        self._is_loading = is_loading
        self._kept = [each.read() for each in _GLOBALS]
        self._logged: set[str] = set()
        self._set_limit = sys.setrecursionlimit

    def __enter__(self) -> Self:
        set_limit, lowest = self._set_limit, sys.getrecursionlimit()
        highest = max(lowest, DEEPEST)
        if self._is_loading:
            RECORD.memory[LOADER] = label("plugin", self._who())
        sys.setrecursionlimit = lambda limit: set_limit(min(max(limit, lowest), highest))
        return self

    def __exit__(self, *_: object) -> None:
        sys.setrecursionlimit = self._set_limit
        if self._is_loading:
            RECORD.memory[LOADER] = NO_PLUGIN
        self.restore()

    def restore(self) -> None:
        """Put back what has changed, and say so, once for each."""
        changed = []
        for each, kept in zip(_GLOBALS, self._kept, strict=True):
            found = each.read()
            if found is kept or (type(found) in _VALUES and type(kept) in _VALUES and found == kept):
                continue
            if each.is_of_main and threading.current_thread() is not threading.main_thread():
                continue
            with suppress(Exception):  # a folder that was removed, a handler that was not set by Python
                each.write(kept)
            changed.append(each.name)
        for name in changed:
            if name not in self._logged:
                self._logged.add(name)
                logs.warning("a plugin changed the process: put back", changed=name, plugin=self._who())


def restoring(plugin: str) -> ProcessState:
    """The process as it is now, to be put back once a plugin was imported or made."""
    return ProcessState(lambda: plugin, is_loading=True)
