"""The source `stored-signals`: a window of the signal store, from its first row to its last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from torghut_core import (
    HOUR,
    MINUTE,
    Batch,
    Closed,
    Connection,
    InputError,
    SettingsError,
    SignalReader,
    Source,
    SymbolTable,
    param,
)
from torghut_sources.signal_store import batch_of, rows_of

LEAST, MOST = MINUTE, 8192 * HOUR
"""How much time one query covers, ns: between these, so that about a page is found."""


class StoredSignals(Source):
    """Read the signals that became known in a window of time, each with its bar, an event each, in the order of that moment.

    A signal whose bar is not stored has no price: it is left out and counted. Rows that were stored twice come once.
    Memory holds one page, however long the window is.

    Parameters
    ----------
    params : see `Params`.
    """

    class Params(Source.Params):
        """Parameters of a window of the signal store as a source."""

        symbols: tuple[str, ...] = param((), help="symbols to read")
        since: int = param(0, ge=0, help="rows that became known after this time, ns since 1970")
        until: int = param(0, ge=0, help="and until this one, inclusive, ns since 1970")
        limit: int | None = param(None, ge=1, help="events at most; null: all")
        batch: int = param(20_000, ge=1, help="rows per query")

    is_stored: ClassVar[bool] = True
    is_recorded: ClassVar[bool] = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._reader: SignalReader | None = None
        self._symbols = SymbolTable()
        self._unpriced = 0

    def connect(self, connection: Connection) -> None:
        """Take the signal store; reads nothing yet.

        Raises
        ------
        SettingsError : there is no signal store.
        """
        if connection.signals is None:
            raise SettingsError("stored-signals needs a signal store (set TA_CLICKHOUSE_URL, or give --state)")
        self._reader = connection.signals

    def gates(self) -> Mapping[str, Closed | None]:
        """The gate ``store``: it was given one."""
        is_closed = self._reader is None
        return {"store": Closed("there is no signal store yet (call `connect`)", "starting") if is_closed else None}

    @property
    def skipped(self) -> dict[str, int]:
        """How many signals had no bar."""
        return {"signals without a stored bar, which have no price": self._unpriced} if self._unpriced else {}

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` rows, positions running from 0, to the end of the window.

        Raises
        ------
        InputError : `connect` was not called.
        StateError : the store cannot be read.
        """
        if self._reader is None:
            raise InputError("stored-signals is not connected (call `connect` before `batches`)")
        position, now, left = 0, 0, self.params.limit
        async for page in self._pages(self._reader):
            rows = rows_of(page)
            places = [place for place, row in enumerate(rows) if row.is_priced]
            self._unpriced += len(rows) - len(places)
            for first in range(0, len(places[:left]), size):
                batch = batch_of(self._symbols, position, now, page, rows, places[:left][first : first + size])
                position, now = batch.stop, int(batch.now[-1])
                yield batch
            if left is not None:
                left -= len(places[:left])
                if not left:
                    return

    async def _pages(self, reader: SignalReader) -> AsyncIterator[Any]:
        """Yield pages of rows, each query over a part of the window that is as long as the last ones have suggested."""
        limit, end = self.params.batch, self.params.until + 1
        since, span = self.params.since + 1, HOUR
        after: tuple[int, str, str, int] | None = None
        while since < end and self.params.symbols:
            until = min(since + span, end)
            known_from = dict.fromkeys(self.params.symbols, since)
            page = await asyncio.to_thread(reader.signals_since, known_from, after=after, limit=limit, until=until)
            if page.num_rows:
                yield page
            if page.num_rows == limit:
                last = rows_of(page.slice(limit - 1))[0]
                since, after = last.end, (last.end, last.symbol, last.window_size, last.seq)
                span = max(LEAST, span // 2)
                continue
            if page.num_rows < limit // 4:
                span = min(MOST, 2 * span)
            since, after = until, None
