"""The boundary between the kernel and plugins: what plugin code sets or raises stays on its side.

Three things would otherwise cross it. Arithmetic: `decimal.getcontext().prec = 3` and `numpy.seterr` act on the context that
is current, so each plugin has a `contextvars.Context` of its own, and every call of it is made in there.
Exceptions: a plugin may raise anything, also what ends a process or a task; `from_plugins` is what the kernel catches.
And the event loop, which is `without_event_loop`.
"""

from __future__ import annotations

import asyncio
import decimal
import dis
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from pathlib import Path
from traceback import extract_tb
from types import FunctionType, coroutine
from typing import Any, Generic, TypeVar

from torghut_core.errors import PluginError, TorghutError, reason_of

T = TypeVar("T")

_CONTEXT = "_torghut_context"
_RAISE = dis.opmap["RAISE_VARARGS"]


def new_decimal_context() -> decimal.Context:
    """Make a context of Python's usual decimal arithmetic, 28 digits, whatever was done to `decimal.DefaultContext`."""
    return decimal.Context(
        prec=28,
        rounding=decimal.ROUND_HALF_EVEN,
        Emin=-999_999,
        Emax=999_999,
        capitals=1,
        clamp=0,
        flags=[],
        traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
    )


KERNEL_DECIMAL = new_decimal_context()
"""For arithmetic of the kernel's own in methods that plugins call; it is never the current context."""


def use_decimal_context() -> None:
    """Compute as usual in this thread from now on; the first thing that a thread of the kernel does."""
    decimal.setcontext(new_decimal_context())


# Where plugins are called.


@contextmanager
def without_event_loop() -> Iterator[None]:
    """Hide the event loop of this thread from what is called meanwhile and does not wait.

    A plugin could stop it, cancel the kernel's tasks, or leave a task or callback in it that raises `SystemExit` or never
    returns, and nobody would know whose that is. It gets asyncio's own `RuntimeError` instead, where it asks.
    """
    events = asyncio._get_running_loop()  # noqa: SLF001 - exported, for those who run event loops
    asyncio._set_running_loop(None)  # noqa: SLF001
    try:
        yield
    finally:
        asyncio._set_running_loop(events)  # noqa: SLF001


def new_context() -> Context:
    """Make an empty context with the usual arithmetic."""
    context = Context()
    context.run(decimal.setcontext, new_decimal_context())
    return context


def context_of(plugin: Any) -> Context:
    """Give the context of a plugin, the same at every call."""
    attributes = object.__getattribute__(plugin, "__dict__")
    if _CONTEXT not in attributes:
        attributes[_CONTEXT] = new_context()
    return attributes[_CONTEXT]  # type: ignore[no-any-return]


def make_plugin(cls: Callable[..., T], *args: Any) -> T:
    """Make a plugin in the context in which it is called from then on."""
    context = new_context()
    plugin = context.run(cls, *args)
    object.__getattribute__(plugin, "__dict__")[_CONTEXT] = context
    return plugin


def bound_method(plugin: Any, method: str) -> Callable[..., Any]:
    """A method of a plugin that runs in its context: what the hot path calls."""
    context = context_of(plugin)
    own = plugin.__dict__.get(method)
    if own is None and type(own := getattr(type(plugin), method)) is FunctionType:
        return partial(context.run, own, plugin)
    if type(own) is FunctionType:
        return partial(context.run, own)
    return partial(call_method, plugin, method)  # a property, or anything else: it is read where it is called


def call_method(plugin: Any, method: str, *args: Any) -> Any:
    """Call a method of a plugin in its context."""
    return context_of(plugin).run(_call_method, plugin, method, args)


def _call_method(plugin: Any, method: str, args: tuple[Any, ...]) -> Any:
    return getattr(plugin, method)(*args)


@coroutine
def await_in(context: Context, work: Awaitable[T]) -> Generator[Any, Any, T]:
    """Await something step by step in a context, as part of the task that awaits this."""
    steps: Any = context.run(work.__await__)
    resume, given = steps.send, None
    while True:
        try:
            waits_for = context.run(resume, given)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            resume, given = steps.send, (yield waits_for)
        except BaseException as error:  # a cancellation: for what is awaited
            resume, given = steps.throw, error


class SourceIterator(AsyncIterator[T], Generic[T]):
    """Iterates over what a source yields, in a context of its own.

    Parameters
    ----------
    name : of the plugin, for errors.
    begin : gives the source's iterator.

    Raises
    ------
    PluginError : the source raised something else than a `TorghutError`.
    """

    def __init__(self, name: str, begin: Callable[[], AsyncIterator[T]]) -> None:
        self._name = name
        self._begin = begin
        self._context = new_context()
        self._iterator: AsyncIterator[T] | None = None

    async def __anext__(self) -> T:
        try:
            if self._iterator is None:
                self._iterator = self._context.run(self._begin)
            return await await_in(self._context, self._iterator.__anext__())
        except (StopAsyncIteration, TorghutError):
            raise
        except from_plugins() as error:
            raise PluginError(self._name, reason_and_place(error)) from error


async def await_sink(sink: Any, method: str, *args: Any) -> None:
    """Await a method of a sink in a context.

    Raises
    ------
    PluginError : it raised something else than a `TorghutError`.
    """
    context = new_context()
    try:
        await await_in(context, context.run(getattr(sink, method), *args))
    except TorghutError:
        raise
    except from_plugins() as error:
        raise PluginError(type(sink).__name__, reason_and_place(error)) from error


def call_plugin(name: str, call: Callable[..., T], *args: Any) -> T:
    """Call what a pipeline cannot do without.

    Raises
    ------
    PluginError : it raised something else than a `TorghutError`.
    """
    try:
        return call(*args)
    except TorghutError:
        raise
    except from_plugins() as error:
        raise PluginError(name, reason_and_place(error)) from error


# What plugins raise.


def from_plugins() -> tuple[type[BaseException], ...]:
    """What the kernel catches where it calls a plugin: anything, but for what a person or the kernel sent meanwhile.

    Written as ``except from_plugins() as error``: it looks at the exception on its way.
    """
    error = sys.exc_info()[1]
    if error is None or _is_interrupt(error) or _is_cancellation(error):
        return ()
    return (BaseException,)


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is a person's Ctrl-C, and not what plugin code raised by a statement of its own."""
    if not issubclass(type(error), KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return True
    code = trace.tb_frame.f_code
    handler: Any = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # written in C: the last frame is the interrupted one
        return code.co_code[trace.tb_lasti] != _RAISE
    return code is getattr(getattr(handler, "func", handler), "__code__", None)


def _is_cancellation(error: BaseException) -> bool:
    """Whether it is a cancellation of the task that runs."""
    if not issubclass(type(error), asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return False
    return task is not None and task.cancelling() > 0


def reason_and_place(error: BaseException) -> str:
    """What a plugin raised, on one line, and the line of its code that did."""
    frames = extract_tb(error.__traceback__)
    file = Path(frames[-1].filename) if frames else Path()
    is_here = file == Path(__file__) or file.parent == Path(__file__).parent / "plugin_host"
    if not frames or isinstance(error, SyntaxError) or is_here or "importlib" in frames[-1].filename:
        return reason_of(error)
    return f"{reason_of(error)} ({file.name}:{frames[-1].lineno})"
