"""Which symbols are wanted: a list that does not change by itself. What Jangar lists is in `jangar`."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from torghut_core.model.market import SYMBOL_PATTERN
from torghut_core.ports import Closed, Universe
from torghut_core.telemetry.metrics import Metric, MetricSpec

AssetClass: TypeAlias = Literal["equity", "crypto"]


def is_of(symbol: Any, asset_class: AssetClass) -> bool:
    """Whether this is a symbol of the market: crypto's have a ``/``, those of equities none."""
    return (
        isinstance(symbol, str)
        and SYMBOL_PATTERN.fullmatch(symbol) is not None
        and ("/" in symbol) == (asset_class == "crypto")
    )


class ListedUniverse(Universe):
    """A list of symbols, less those that are disabled, and those that wait for a change of it."""

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = ()

    def __init__(self, disabled: Iterable[str]) -> None:
        self._disabled = frozenset(disabled)
        self._listed: frozenset[str] = frozenset()
        self._kept: frozenset[str] = frozenset()
        self._symbols: tuple[str, ...] = ()
        self._change = asyncio.Event()

    @property
    def symbols(self) -> tuple[str, ...]:
        """In alphabetical order; see `Universe.symbols`."""
        return self._symbols

    async def changed(self) -> None:
        """Wait until `symbols` are others than they were when this was called."""
        before = self._symbols
        while self._symbols == before:
            await self._change.wait()

    def keep(self, symbols: Iterable[str]) -> None:
        """Keep these in, whatever the list says, until the next call: what holds a position needs its market data."""
        kept = frozenset(symbols)
        if kept != self._kept:
            self._kept = kept
            self._set_list(self._listed)

    def _set_list(self, symbols: Iterable[str]) -> None:
        self._listed = frozenset(symbols)
        wanted = tuple(sorted((self._listed - self._disabled) | self._kept))
        if wanted != self._symbols:
            self._symbols = wanted
            change, self._change = self._change, asyncio.Event()
            change.set()

    def follow(self, symbols: Iterable[str]) -> None:
        """The catalog's strategies trade these now; only a list that was theirs changes."""

    @abstractmethod
    def start(self) -> None:
        """Begin to watch the list, in the running loop; does not wait."""

    @abstractmethod
    def close(self) -> None:
        """Stop watching; closing twice is harmless."""

    @abstractmethod
    def gates(self) -> dict[str, Closed | None]:
        """Check ``universe``: closed while there is no symbol at all, for whatever reason."""

    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """The numbers of `metric_specs`, by name."""


class StaticUniverse(ListedUniverse):
    """The list of the settings, or the symbols of the catalog's strategies.

    Parameters
    ----------
    symbols : in any order.
    disabled : symbols to leave out.
    follows : of which market the catalog's symbols become the list when they change; None: the list never changes.
    """

    def __init__(self, symbols: Iterable[str], disabled: Iterable[str] = (), follows: AssetClass | None = None) -> None:
        super().__init__(disabled)
        self._follows = follows
        self._set_list(symbols)

    def follow(self, symbols: Iterable[str]) -> None:
        """See `ListedUniverse.follow`."""
        if self._follows is not None:
            market = self._follows
            self._set_list(symbol for symbol in symbols if is_of(symbol, market))

    def start(self) -> None:
        """Nothing to watch."""

    def close(self) -> None:
        """Nothing to stop."""

    def gates(self) -> dict[str, Closed | None]:
        """Check ``universe``: closed where the list is empty."""
        hint = "no symbol is wanted (set TRADING_STATIC_SYMBOLS, or list symbols of ALPACA_MARKET_TYPE in the catalog)"
        return {"universe": None if self._symbols else Closed(hint, "no-symbols")}

    def metrics(self) -> Mapping[str, Metric]:
        """None: nothing is fetched."""
        return {}
