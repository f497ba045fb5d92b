"""Strategies that decide on whole batches: what they are shown, and how their targets become decisions, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import CodeType
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torghut_core.boundary import context_of, from_plugins
from torghut_core.model.market import FloatArray, IntArray, Signal, Signals
from torghut_core.model.trading import Decision, Position
from torghut_core.ports.strategy import Columns, Context, LiveContext, Strategy

PRICES = ("open", "high", "low", "close", "volume")
OWN = ("symbol", "event_ts", "bars", "row")
"""Fields of a row that are no column or feature of the strategy's."""


class Targets(NamedTuple):
    """What `decide` gave for some rows.

    Attributes
    ----------
    units : shape (rows,); NaN is none.
    because : the reason of all of them, or of each, shape (rows,); None where it gave none.
    """

    units: FloatArray
    because: str | NDArray[np.str_] | None

    def reason(self, place: int) -> str:
        """The reason of one row's target."""
        if self.because is None:
            return f"target {self.units[place]:g}"
        return self.because if isinstance(self.because, str) else self.because.item(place)


def _targets(name: str, strategy: Strategy, columns: Columns) -> Targets:  # noqa: ARG001
    """What `decide` gives; the watchdog reads `name`, see `CALLERS`.

    Raises
    ------
    TypeError : it gave something else; and whatever it raises.
    """
    answer, rows = strategy.decide(columns), len(columns)
    given, because = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
    units = np.array(given, np.float64)
    if units.shape != (rows,) or np.isinf(units).any():
        raise TypeError(f"decide gave {answer!r:.200}, and not a finite number, or NaN, for each of {rows} rows")
    if because is None or isinstance(because, str):
        return Targets(units, because)
    reasons = np.array(because, str)
    if reasons.shape != (rows,):
        raise TypeError(f"decide gave {reasons.size} reasons for {rows} rows")
    return Targets(units, reasons)


def _exact(units: float) -> Decimal:
    return Decimal(int(units)) if units.is_integer() else Decimal(repr(units))


class Deciding:
    """Answers rows for a strategy that has `decide`: the order, if any, that brings what is held to its target.

    Parameters
    ----------
    name : of the strategy: the watchdog reads it.
    """

    def __init__(self, name: str, strategy: Strategy) -> None:
        self.name = name
        self._strategy = strategy
        self._table: Signals | None = None
        self._index = np.zeros(0, np.int64)
        self._targets = Targets(np.zeros(0), None)
        """Of the rows of the table at `_index`."""
        self._units: dict[int, float] = {}
        """By row of the table."""
        self._held: dict[str, tuple[Position, float]] = {}
        """By symbol, a position that was the target: numbers of two types are slow to compare."""

    def begin(
        self, signals: Signals, index: IntArray, symbols: Sequence[str], features: Mapping[str, FloatArray]
    ) -> None:
        """Have it decide on the rows of a batch at once.

        Parameters
        ----------
        index : shape (rows,), the rows in the table, rising.
        symbols : of each row.
        features : by name, each of shape (rows,).
        """
        values = {**{name: getattr(signals, name)[index] for name in PRICES}, **features}
        self._table = signals
        try:
            self._targets = self._decide(Columns(symbols, signals.event_ts[index], values))
        except from_plugins():  # it is asked again for each row, and fails at the one that it cannot take
            self._units = {}
            return
        self._index = index
        self._units = dict(zip(index.tolist(), self._targets.units.tolist(), strict=True))

    def __call__(self, signal: Signal, context: Context) -> Decision | None:
        """Answer one row."""
        units, because = self._units.get(signal.row) if signal.bars is self._table else None, None
        if units is None:
            ((units, because),) = self.decide_on([signal])
        if units != units:
            return None
        live: LiveContext = context._live  # noqa: SLF001 - the kernel's own
        if not units:
            if not live.side:
                return None
        elif not live.buying and not live.selling:
            position = live.position
            held = self._held.get(signal.symbol)
            if held is not None and held[0] is position and held[1] == units:
                return None
            if position.quantity == units:
                self._held[signal.symbol] = position, units
                return None
        if because is None:
            because = self._targets.reason(int(self._index.searchsorted(signal.row)))
        return context.target(_exact(units), because=because) if units else context.close(because=because)

    def decide_on(self, rows: Sequence[Signal]) -> list[tuple[float, str]]:
        """Give the target of each of some rows, and its reason; NaN is none."""
        fields = [name for name in type(rows[0]).__struct_fields__ if name not in OWN]
        values = {name: np.array([getattr(row, name) for row in rows]) for name in (*PRICES, *fields)}
        times = np.array([row.event_ts for row in rows])
        targets = self._decide(Columns([row.symbol for row in rows], times, values))
        return [(units, targets.reason(place)) for place, units in enumerate(targets.units.tolist())]

    def _decide(self, columns: Columns) -> Targets:
        return context_of(self._strategy).run(_targets, self.name, self._strategy, columns)

    CALLERS: ClassVar[dict[CodeType, str]] = {_targets.__code__: "name"}
    """The functions here that call a strategy, each with the local variable that names it; see `Watchdog`."""
