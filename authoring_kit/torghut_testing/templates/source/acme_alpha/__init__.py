"""A random walk as market data: put what your data says in its place."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from torghut_core import SECOND, Batch, Register, Source, SymbolTable, Trades, hookimpl, param, parse_timestamp

START = parse_timestamp("2026-01-05T00:00:00Z")


class AcmeAlpha(Source):
    """One trade a second of `symbol`, at prices of a random walk that begins at 100; it ends after `count` trades."""

    class Params(Source.Params):
        """Parameters of `AcmeAlpha`."""

        symbol: str = param("BTC/USD", help="what is traded, as in the catalog")
        count: int = param(1_000, ge=1, le=10_000_000, help="trades in all")
        seed: int = param(1, ge=0, help="another walk for each number")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._next = 0

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield the trades, `size` at a time."""
        symbols, count = SymbolTable(), self.params.count
        number = symbols.number(self.params.symbol)
        prices = 100 + np.cumsum(np.random.default_rng(self.params.seed).normal(0, 0.01, count)).round(2)
        while self._next < count:
            first, stop = self._next, min(self._next + size, count)
            at = np.arange(first, stop)
            trades = Trades.from_columns(
                at=at,
                event_ts=START + at * SECOND,
                symbol=np.full(len(at), number),
                seq=at,
                price=prices[first:stop],
                size=np.ones(len(at)),
            )
            self._next = stop
            yield Batch.of(symbols, first, trades.event_ts, trades=trades)

    @property
    def total(self) -> int:
        """How many trades there are in all."""
        return int(self.params.count)

    def cursor(self) -> dict[str, Any]:
        """The trade to go on with."""
        return {"next": self._next}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Go on there."""
        self._next = cursor["next"]


@hookimpl
def register_sources(register: Register[Source]) -> None:
    """Register the name that a catalog gives in `use:`."""
    register("acme-alpha", AcmeAlpha)
