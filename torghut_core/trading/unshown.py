"""Why a strategy was shown no row: the bars that never came, and the values that were never known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from torghut_core.feature_graph.nodes import FrameRows
from torghut_core.model.market import TIMEFRAME_NAMES, FloatArray

MOST_NAMES = 5
"""So many symbols are named; of more the others are counted."""


class Unshown:
    """Rows of a strategy that lacked a value, until the first one that did not.

    Parameters
    ----------
    symbols : of its entry.
    needed : names of the values that a row may not lack.
    step : of its bars, ns.
    """

    def __init__(self, symbols: Sequence[str], needed: Sequence[str], step: int) -> None:
        self._symbols = symbols
        self._timeframe = TIMEFRAME_NAMES[step]
        self._rows = dict.fromkeys(symbols, 0)
        self._known: dict[str, set[str]] = {name: set() for name in needed}
        """By value, the symbols in which it had one."""

    def add(self, rows: FrameRows, listed: NDArray[np.bool_], values: Mapping[str, FloatArray]) -> None:
        """Note the rows of a batch: `listed` are the strategy's, each of `values` is of shape (rows,)."""
        names = rows.table.names
        numbers, counts = np.unique(rows.symbol[listed], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self._rows[names[number]] += count
        for name, known in self._known.items():
            if len(known) < len(self._symbols):
                column = values[name]
                places = np.unique(rows.symbol[listed & (column == column)])
                known.update(names[number] for number in places.tolist())

    @property
    def reason(self) -> str:
        """Why there was no row with all values, and what to do."""
        came = [symbol for symbol in self._symbols if self._rows[symbol]]
        reasons = []
        if absent := [symbol for symbol in self._symbols if not self._rows[symbol]]:
            reasons.append(
                f"no {self._timeframe} bar of {_listed(absent)} came (check `symbols`, and the `timeframes` of the "
                "`resample` stage)"
            )
        lacking: dict[tuple[str, ...], list[str]] = {}
        for name, known in self._known.items():
            if without := tuple(symbol for symbol in came if symbol not in known):
                lacking.setdefault(without, []).append(name)
        for symbols, names in lacking.items():
            most = max(self._rows[symbol] for symbol in symbols)
            reasons.append(
                f"{' and '.join(names)} had no value in {most:,} rows of {_listed(symbols)} (take a longer tape)"
            )
        if apart := [symbol for symbol in came if all(symbol in known for known in self._known.values())]:
            reasons.append(f"{_listed(apart)} had no row with all values at once")
        return "; ".join(reasons)


def _listed(symbols: Sequence[str]) -> str:
    named, more = ", ".join(symbols[:MOST_NAMES]), len(symbols) - MOST_NAMES
    return f"{named} and {more} more" if more > 0 else named
