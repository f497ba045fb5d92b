"""A tape that is kept in memory, to be played many times."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from torghut_core.errors import InputError
from torghut_core.model.corporate_actions import CorporateAction
from torghut_core.model.market import Batch
from torghut_core.ports import Source
from torghut_core.trading.loop import BATCH_SIZE


class KeptTape(Source):
    """A source that plays what another one, a tape, has played; any number of times.

    Parameters
    ----------
    params : that source, None where it is elsewhere; its batches, at least one; and its corporate actions.

    Attributes
    ----------
    source : what was read.
    began_at, ended_at : the loop's time at the first and the last event, ns.
    """

    def __init__(self, params: tuple[Source | None, Sequence[Batch], Sequence[CorporateAction]]) -> None:
        super().__init__(params)
        self.source, self._kept, self._actions = params
        self.began_at, self.ended_at = int(self._kept[0].now[0]), int(self._kept[-1].now[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._kept, self._actions)

    @classmethod
    def of(cls, source: Source) -> KeptTape:
        """Read a tape to its end.

        Raises
        ------
        InputError : there is no event; or as `Source.batches`.
        """

        async def read() -> list[Batch]:
            async with aclosing(source.batches(BATCH_SIZE)) as batches:  # type: ignore[type-var]  # a generator
                return [batch async for batch in batches]

        batches = asyncio.run(read())
        if not batches:
            raise InputError("there is no event on the tapes")
        return cls((source, batches, tuple(source.corporate_actions())))

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield the batches, with symbol numbers of their own; see `Source.batches`."""
        symbols = copy.deepcopy(self._kept[0].symbols)
        for kept in self._kept:
            rest = Batch.of(symbols, kept.start, kept.now, kept.trades, kept.quotes, kept.bars)
            rest.duplicates = kept.duplicates
            while len(rest) > size:
                ready, rest = rest.split(rest.start + size)
                yield ready
            yield rest

    @property
    def has_others(self) -> bool:
        """Whether it has anything but bars."""
        return any(len(batch.trades) or len(batch.quotes) for batch in self._kept)

    @property
    def total(self) -> int:
        """How many events there are."""
        return sum(map(len, self._kept))

    @property
    def symbols(self) -> Sequence[str]:
        """The symbols that it has events of."""
        return self._kept[0].symbols.names

    @property
    def skipped(self) -> dict[str, int]:
        """See `Source.skipped`."""
        return {} if self.source is None else self.source.skipped

    def corporate_actions(self) -> Sequence[CorporateAction]:
        """Return the splits and dividends of the tape."""
        return self._actions


def _arrived(kept: Sequence[Batch], actions: Sequence[CorporateAction]) -> KeptTape:
    """The tape of another process, whose arrays may be in memory that is shared, and read-only: kernels are compiled for others."""
    own = [
        msgspec.structs.replace(
            batch,
            now=batch.now.copy(),
            **{name: _copied(getattr(batch, name)) for name in ("trades", "quotes", "bars")},
        )
        for batch in kept
    ]
    return KeptTape((None, own, actions))


def _copied(table: Any) -> Any:
    return type(table)(table.ints.copy(), table.floats.copy())
