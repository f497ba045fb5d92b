"""Strategies that decide on whole batches: what they are shown, and how their targets become decisions, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import CodeType
from typing import ClassVar

import numpy as np

from torghut_core.boundary import context_of, from_plugins
from torghut_core.model.market import FloatArray, IntArray, Signal, Signals
from torghut_core.model.trading import Decision, Position
from torghut_core.ports.strategy import Columns, Context, LiveContext, Strategy

PRICES = ("open", "high", "low", "close", "volume")
OWN = ("symbol", "event_ts", "bars", "row")
"""Fields of a row that are no column or feature of the strategy's."""


def _targets(name: str, strategy: Strategy, columns: Columns) -> tuple[list[float], list[str]]:  # noqa: ARG001
    """What `decide` gives, as numbers and reasons of each row; the watchdog reads `name`, see `CALLERS`.

    Raises
    ------
    TypeError : it gave something else; and whatever it raises.
    """
    answer, rows = strategy.decide(columns), len(columns)
    given, because = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
    units = np.asarray(given, np.float64)
    if units.shape != (rows,) or np.isinf(units).any():
        raise TypeError(f"decide gave {answer!r:.200}, and not a finite number, or NaN, for each of {rows} rows")
    targets = units.tolist()
    if because is None:
        return targets, [f"target {target:g}" for target in targets]
    if isinstance(because, str):
        return targets, [because] * rows
    reasons = np.asarray(because, str).tolist()
    if len(reasons) != rows:
        raise TypeError(f"decide gave {len(reasons)} reasons for {rows} rows")
    return targets, reasons


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
        self._targets: dict[int, tuple[float, str]] = {}
        """By row of the table."""
        self._held: dict[str, tuple[Position, float]] = {}
        """By symbol, a position that was the target: numbers of two types are slow to compare."""

    def begin(
        self, signals: Signals, index: IntArray, symbols: Sequence[str], features: Mapping[str, FloatArray]
    ) -> None:
        """Have it decide on the rows of a batch at once.

        Parameters
        ----------
        index : shape (rows,), the rows in the table.
        symbols : of each row.
        features : by name, each of shape (rows,).
        """
        values = {**{name: getattr(signals, name)[index] for name in PRICES}, **features}
        self._table = signals
        try:
            units, because = self._decide(Columns(symbols, signals.event_ts[index], values))
        except from_plugins():  # it is asked again for each row, and fails at the one that it cannot take
            self._targets = {}
            return
        self._targets = dict(zip(index.tolist(), zip(units, because, strict=True), strict=True))

    def __call__(self, signal: Signal, context: Context) -> Decision | None:
        """Answer one row."""
        target = self._targets.get(signal.row) if signal.bars is self._table else None
        if target is None:
            (target,) = self.decide_on([signal])
        units, because = target
        if units != units:
            return None
        live: LiveContext = context._live  # noqa: SLF001 - the kernel's own
        if not units:
            return context.close(because=because) if live.side else None
        if live.buying or live.selling:
            return context.target(_exact(units), because=because)
        held = self._held.get(signal.symbol)
        if held is not None and held[0] is live.position and held[1] == units:
            return None
        if live.position.quantity == units:
            self._held[signal.symbol] = live.position, units
            return None
        return context.target(_exact(units), because=because)

    def decide_on(self, rows: Sequence[Signal]) -> list[tuple[float, str]]:
        """Give the target of each of some rows, and its reason; NaN is none."""
        fields = [name for name in type(rows[0]).__struct_fields__ if name not in OWN]
        values = {name: np.array([getattr(row, name) for row in rows]) for name in (*PRICES, *fields)}
        times = np.array([row.event_ts for row in rows])
        units, because = self._decide(Columns([row.symbol for row in rows], times, values))
        return list(zip(units, because, strict=True))

    def _decide(self, columns: Columns) -> tuple[list[float], list[str]]:
        return context_of(self._strategy).run(_targets, self.name, self._strategy, columns)

    CALLERS: ClassVar[dict[CodeType, str]] = {_targets.__code__: "name"}
    """The functions here that call a strategy, each with the local variable that names it; see `Watchdog`."""
