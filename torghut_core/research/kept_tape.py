"""A tape that is kept in memory, to be played many times."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from torghut_core.model.corporate_actions import CorporateAction
from torghut_core.model.market import Batch
from torghut_core.ports import Source
from torghut_core.trading.loop import BATCH_SIZE


class KeptTape(Source):
    """A source that plays what another one, a tape, has played; any number of times.

    Attributes
    ----------
    params : the batches of source events, and the corporate actions.
    """

    def __init__(self, params: tuple[Sequence[Batch], Sequence[CorporateAction]]) -> None:
        super().__init__(params)
        self._kept, self._actions = params

    @classmethod
    def of(cls, source: Source) -> KeptTape:
        """Read a tape to its end.

        Raises
        ------
        TapeError : as `Source.batches`.
        """

        async def read() -> list[Batch]:
            async with aclosing(source.batches(BATCH_SIZE)) as batches:  # type: ignore[type-var]  # a generator
                return [batch async for batch in batches]

        return cls((asyncio.run(read()), tuple(source.corporate_actions())))

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield the batches, with symbol numbers of their own; see `Source.batches`."""
        symbols = copy.deepcopy(self._kept[0].symbols) if self._kept else None
        for kept in self._kept:
            assert symbols is not None
            rest = Batch.of(symbols, kept.start, kept.now, kept.trades, kept.quotes, kept.bars)
            rest.duplicates = kept.duplicates
            while len(rest) > size:
                ready, rest = rest.split(rest.start + size)
                yield ready
            yield rest

    @property
    def total(self) -> int:
        """How many events there are."""
        return sum(map(len, self._kept))

    def corporate_actions(self) -> Sequence[CorporateAction]:
        """Return the splits and dividends of the tape."""
        return self._actions
