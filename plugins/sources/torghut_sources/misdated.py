"""Which symbols give nothing that can be used because of the times of their events: a stream must not stop silently.

An event that is dated ahead makes all later ones late, and a sender whose clock is wrong is refused: both look like a
market in which nothing happens. A late print now and then is normal, so a symbol counts only when several of its trades
and quotes in a row were late or refused, and until one is in time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import numpy as np

from torghut_core import SECOND, Closed, IntArray

S = TypeVar("S", bound=Hashable)

IN_A_ROW = 3
"""So many misdated events of a symbol in a row are no accident."""
FORGET_S = 120.0
"""So many seconds without another one end the row."""


class Misdated(Generic[S]):
    """Watches the times of trades and quotes, in the order in which they arrive.

    Parameters
    ----------
    overlap : how far events may overtake each other, ns: one that is further behind the newest is late.
    newest : the latest time that was given out before, ns; None where nothing was.

    Attributes
    ----------
    late : events that were late, so far.
    """

    def __init__(self, overlap: int, newest: int | None = None) -> None:
        self._overlap = overlap
        self._newest = -(2**62) if newest is None else newest
        self._found: dict[S, tuple[int, float]] = {}
        """By symbol, misdated events in a row, and when the last one came."""
        self.late = 0

    def take(self, times: IntArray, symbols: Callable[[], Sequence[S]], now: float) -> int:
        """Take events that can be used but for being late; return how many are. `now` is monotonic, seconds.

        `symbols` gives that of each, and is called only where one is needed.
        """
        if not len(times):
            return 0
        newest = np.maximum(np.maximum.accumulate(times), self._newest)
        self._newest = int(newest[-1])
        is_late = times < newest - self._overlap
        late = int(np.count_nonzero(is_late))
        if late or self._found:
            for symbol, each in zip(symbols(), is_late.tolist(), strict=True):
                if each:
                    self._count(symbol, now)
                else:
                    self._found.pop(symbol, None)
        self.late += late
        return late

    def refuse(self, symbols: Sequence[S], now: float) -> None:
        """Events of these symbols were refused, because they are ahead of all clocks."""
        for symbol in symbols:
            self._count(symbol, now)

    def symbols(self, now: float) -> list[S]:
        """The symbols of which nothing can be used now."""
        self._found = {symbol: found for symbol, found in self._found.items() if now - found[1] < FORGET_S}
        return [symbol for symbol, (count, _) in self._found.items() if count >= IN_A_ROW]

    def gate(self, names: Sequence[str]) -> Closed:
        """Why data of these symbols cannot be used."""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return Closed(
            f"the events of {', '.join(sorted(names)[:3])}{more} are ahead of all clocks, or more than "
            f"{self._overlap / SECOND:g} s behind the newest: one was dated ahead (set the clock of this machine; if it is "
            "right, the sender's is wrong)",
            "misdated",
        )

    def _count(self, symbol: S, now: float) -> None:
        count, at = self._found.get(symbol, (0, now))
        self._found[symbol] = (count + 1 if now - at < FORGET_S else 1, now)
