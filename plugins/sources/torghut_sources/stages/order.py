"""The order of bars in a stream: (position, time, symbol name, step)."""

from __future__ import annotations

import numpy as np

from torghut_core import Bars, SymbolTable


def merge(symbols: SymbolTable, first: Bars, second: Bars) -> Bars:
    """Merge two tables of bars, each in any order, into one in order of (at, event_ts, symbol name, step)."""
    bars = Bars.concatenate([first, second])
    return bars.take(np.lexsort((bars.step, symbols.ranks[bars.symbol], bars.event_ts, bars.at)))
