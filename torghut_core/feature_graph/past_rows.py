"""The last rows of symbols that are going to be split: features are computed anew from them, in the prices of after the split."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from torghut_core.feature_graph.plan import FeaturePlan, Frame
from torghut_core.model.market import SIGNAL_COLUMNS, Batch, Signals, SymbolTable

_PRICES = tuple(
    name
    for name in (*SIGNAL_COLUMNS, "open", "high", "low", "close", "vwap")
    if name not in ("rsi14", "vol_realized_w60s", "imbalance_bid_sz", "imbalance_ask_sz")
)
_SIZES = ("imbalance_bid_sz", "imbalance_ask_sz", "volume")

MORE = 65_536
"""So many rows beyond twice what is needed wait until they are dropped."""


class PastRows:
    """As many of the last rows of some symbols as a plan's features depend on.

    Parameters
    ----------
    symbols : those of which rows are kept.
    """

    def __init__(self, symbols: Collection[str]) -> None:
        self._names = frozenset(symbols)
        self._table = SymbolTable()
        self._is_kept = np.zeros(0, bool)
        self._rows = Signals.empty()
        self._new: list[Signals] = []
        self._count = 0

    def add(self, batch: Batch, plan: FeaturePlan) -> None:
        """Keep the rows of a batch that features of this plan may need."""
        signals = batch.signals
        if not len(signals):
            return
        self._follow(batch.symbols)
        kept = self._is_kept[signals.symbol]
        if not kept.any():
            return
        self._new.append(signals.take(kept))
        self._count += len(self._new[-1])
        if self._count > 2 * len(self._rows) + MORE:
            self._drop_old(plan)

    def rescale(self, symbol: str, factor: float) -> None:
        """Give the rows of a symbol prices `factor` times what they were, and volumes 1 / `factor`."""
        self._join()
        rescale_rows(self._rows, self._rows.symbol == self._table.number(symbol), factor)

    def batch(self, plan: FeaturePlan, now: int) -> Batch:
        """The rows as a batch, each known at the end of its bar, and a clock tick after them at the loop's time, ns."""
        self._drop_old(plan)
        rows, table = self._rows, self._table
        rows = rows.take(np.lexsort((-rows.step, table.ranks[rows.symbol], rows.end)))
        rows.at[:] = np.arange(len(rows))
        made = Batch.of(table, 0, np.append(rows.end, now))
        made.signals = rows
        return made

    def _follow(self, table: SymbolTable) -> None:
        """Continue with a table of symbols, which may be another one or have grown."""
        if table is not self._table:
            self._join()
            self._rows.symbol[:] = table.numbers(self._table.names)[self._rows.symbol]
            self._table = table
        elif len(self._is_kept) == len(table):
            return
        self._is_kept = np.fromiter((name in self._names for name in table.names), bool, len(table))

    def _join(self) -> None:
        self._rows = Signals.concatenate([self._rows, *self._new])
        self._new = []
        self._count = 0

    def _drop_old(self, plan: FeaturePlan) -> None:
        self._join()
        rows = self._rows
        kept = np.zeros(len(rows), bool)
        for frame, most in rows_needed(plan).items():
            of_frame = np.flatnonzero(rows.step == frame.step)
            for symbol in np.unique(rows.symbol[of_frame]).tolist():
                kept[of_frame[rows.symbol[of_frame] == symbol][-most:]] = True
        self._rows = rows.take(kept)


def rescale_rows(rows: Signals, chosen: NDArray[np.bool_], factor: float) -> None:
    """Give chosen rows prices `factor` times what they were, and volumes 1 / `factor`."""
    for name in _PRICES:
        getattr(rows, name)[chosen] *= factor
    for name in _SIZES:
        getattr(rows, name)[chosen] /= factor


def rows_needed(plan: FeaturePlan) -> dict[Frame, int]:
    """How many rows of each frame the nodes that are computed there depend on; of rows of other frames they keep the last value."""
    most = dict.fromkeys(plan.symbols, 1)
    depth: dict[str, int] = {}
    for key, node in plan.nodes.items():
        inputs = [plan.nodes[each] for each in node.inputs]
        if node.source is not None or not inputs:
            depth[key] = 1
        else:
            depth[key] = node.memory - max(each.memory for each in inputs) + max(depth[each] for each in node.inputs)
        most[node.frame] = max(most[node.frame], depth[key])
    return most


def read_elsewhere(plan: FeaturePlan, symbols: Collection[str]) -> dict[str, frozenset[str]]:
    """The nodes that rows of other symbols have values of some symbols in: by key, the symbols of their frame."""
    found: dict[str, frozenset[str]] = {}
    for key, node in plan.nodes.items():
        if node.named in symbols or found.keys() & set(node.inputs):
            found[key] = frozenset(plan.symbols[node.frame])
    return found
