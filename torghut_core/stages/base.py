"""The contract of a stage, and the compiler for its loops."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeVar, cast
from weakref import WeakKeyDictionary

from numba import njit, types

from torghut_core.model.market import Batch
from torghut_core.ports import Plugin

F = TypeVar("F", bound=Callable[..., Any])


def _content_of(record: types.Record) -> tuple[str, tuple[int, ...]]:
    """The part of the names of machine code that stands for a record type: made of what the type is.

    numba's own is the number of the type in this process. Code that another process has cached has the numbers of that
    process, so two functions of different records could have one name here, and one was called for the other.
    """
    return type(record).__name__, (int.from_bytes(sha256(record.name.encode()).digest()[:7], "big"),)


types.Record.mangling_args = property(_content_of)  # type: ignore[method-assign,assignment]


def kernel(function: F) -> F:
    """Compile a loop over columns, once per machine: the machine code is cached beside the module.

    Rounding is IEEE (no fast math), so that a value does not depend on how the stream is cut into batches. The
    interpreter lock is released while it runs.
    """
    compiled: Any = njit(cache=True, nogil=True, error_model="numpy")(function)
    # numba checks the kernel's own file only, and a kernel contains the code of those that it calls: without this, an
    # edit of another module would leave old machine code in use. There is no public way to set it.
    compiled._cache._cache_file._source_stamp = _sources(function)  # noqa: SLF001
    return cast("F", compiled)


_digests: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()


def _sources(function: Any) -> str:
    """Give the sha256 of all modules of the package that a function is of; of those beside it where it is of none."""
    module = sys.modules.get(function.__module__.partition(".")[0])
    if module is not None and module in _digests:  # a package that is imported anew is another module
        return _digests[module]
    if folders := getattr(module, "__path__", ()):
        paths = [path for folder in folders for path in Path(folder).rglob("*.py")]
    else:
        paths = list(Path(function.__code__.co_filename).parent.glob("*.py"))
    digest = sha256(b"records are named by their content")
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    if module is not None:
        _digests[module] = digest.hexdigest()
    return digest.hexdigest()


class Stage(Plugin, ABC):
    """One incremental computation over the event stream.

    A stage is its parameters plus state per symbol or series: arrays that it changes in place, that `save_state` and
    `load_state` carry over, and that do not grow with time. The laws, on any input: however the stream is cut into
    batches, the output is the same to the bit; saving and restoring in between changes nothing; later events change no
    earlier output.
    """

    derives: ClassVar[str] = ""
    """The table of the signal store whose rows it derives, ``microbars`` or ``signals``; "" for none."""

    resamples: ClassVar[bool] = False
    """Whether it makes bars of the timeframes in its parameter `timeframes`. One is added to a pipeline that trades, before the
    stages that derive signals, where features need bars of a timeframe that no listed stage makes."""

    @abstractmethod
    def update(self, batch: Batch) -> Batch:
        """Add what this stage derives and return the batch (the same object, or a new one).

        The stage does not write to a returned batch again: the signal store keeps it.

        A derived row carries in ``at`` the position of the event that made it known, and rows are in order of
        (at, event_ts, symbol name, step).
        """

    def drain_ns(self) -> int:
        """How far past the last event the time has to advance until every complete row is derived, nanoseconds."""
        return 0

    def rescale(self, symbol: str, factor: float) -> None:
        """Go on as if the prices of a symbol had always been `factor` times what they were, and its volumes 1 / `factor`.

        Called between two batches at a split. Does nothing where the stage keeps no price from one session to the next.
        """
        del symbol, factor
