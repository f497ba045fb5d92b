"""The contract of a stage, and the compiler for its loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from numba import njit

from torghut_core.model.market import Batch
from torghut_core.ports import Plugin

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a loop over columns, once per machine: the machine code is cached beside the module.

    Rounding is IEEE (no fast math), so that a value does not depend on how the stream is cut into batches. The
    interpreter lock is released while it runs.
    """
    compiled: Any = njit(cache=True, nogil=True, error_model="numpy")(function)
    # numba checks the kernel's own file only, and a kernel contains the code of those that it calls: without this, an
    # edit of a neighbouring module would leave old machine code in use. There is no public way to set it.
    compiled._cache._cache_file._source_stamp = _sources(Path(function.__code__.co_filename).parent)  # noqa: SLF001
    return cast("F", compiled)


@lru_cache
def _sources(folder: Path) -> tuple[tuple[str, str], ...]:
    """Name and sha256 of every module of a folder."""
    return tuple((path.name, sha256(path.read_bytes()).hexdigest()) for path in sorted(folder.glob("*.py")))


class Stage(Plugin, ABC):
    """One incremental computation over the event stream.

    A stage is its parameters plus state per symbol or series: arrays that it changes in place, that `save_state` and
    `load_state` carry over, and that do not grow with time. The laws, on any input: however the stream is cut into
    batches, the output is the same to the bit; saving and restoring in between changes nothing; later events change no
    earlier output.
    """

    derives: ClassVar[str] = ""
    """The table of the signal store whose rows it derives, ``microbars`` or ``signals``; "" for none."""

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
