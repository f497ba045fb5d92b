"""Strategies that decide on whole batches: what they are shown, and how their targets become decisions, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import CodeType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torghut_core.boundary import context_of, from_plugins
from torghut_core.model.market import FloatArray, IntArray, Signal, Signals
from torghut_core.model.trading import Decision, Position
from torghut_core.ports.strategy import Columns, Context, LiveContext, Strategy

PRICES = ("open", "high", "low", "close", "volume")
OWN = ("symbol", "event_ts", "bars", "row")
"""Fields of a row that are no column or feature of the strategy's."""


LEGS = ("stop_loss", "take_profit")
"""What a target may be protected by, prices."""


BEGINNING = 4_096
"""Of the rows that come together, `decide` is asked again about beginnings of so many at most: see `LooksAhead`."""


class LooksAhead(TypeError):
    """`decide` gave rows other targets than where they came without later ones: it used what was not known yet."""


class Targets(NamedTuple):
    """What `decide` gave for some rows.

    Attributes
    ----------
    units : shape (rows,); NaN is none.
    because : the reason of all of them, or of each, shape (rows,); None where it gave none.
    legs : prices of what protects what is opened, by name, each of shape (rows,); NaN is none.
    """

    units: FloatArray
    because: str | NDArray[Any] | None
    legs: Mapping[str, FloatArray]

    def reason(self, place: int) -> str:
        """The reason of one row's target."""
        if self.because is None:
            return f"target {self.units[place]:g}"
        return self.because if isinstance(self.because, str) else str(self.because.item(place))

    def protection(self, place: int) -> dict[str, float]:
        """What protects what one row's target opens."""
        prices = {name: prices.item(place) for name, prices in self.legs.items()}
        return {name: price for name, price in prices.items() if price == price}


def targets_of(name: str, strategy: Strategy, columns: Columns) -> Targets:
    """What `decide` gives; the watchdog reads `name`, see `CALLERS`.

    Raises
    ------
    LooksAhead : the targets of rows depend on those after them, as far as asking about a few beginnings shows.
    TypeError : it gave something else; and whatever it raises.
    """
    answer, rows = strategy.decide(columns), len(columns)
    parts = answer if isinstance(answer, tuple) and len(answer) in (2, 3) else (answer,)
    given, because, legs = (*parts, None, None, None)[:3]
    units = np.array(given, np.float64)
    if units.shape != (rows,) or np.isinf(units).any():
        raise TypeError(f"decide gave {answer!r:.200}, and not a finite number, or NaN, for each of {rows} rows")
    if because is not None and not isinstance(because, str):
        because = np.asarray(because)
        if because.shape != (rows,):
            raise TypeError(f"decide gave {because.size} reasons for {rows} rows")
    legs = {} if legs is None else legs
    if not isinstance(legs, Mapping) or not legs.keys() <= {*LEGS}:
        raise TypeError(f"decide gave {legs!r:.200} as protection, and not a dict of {' and '.join(LEGS)}")
    for some in _beginnings(units):
        _check_beginning(name, strategy, columns, units, some)
    prices = {leg: np.broadcast_to(np.asarray(price, np.float64), (rows,)) for leg, price in legs.items()}
    return Targets(units, because, prices)


def _beginnings(units: FloatArray) -> Sequence[int]:
    """How many of the first rows to ask about alone: up to where the target first changes, where a look ahead would show."""
    if len(units) < 2:
        return ()
    changes = np.flatnonzero(units[1:BEGINNING] != units[: BEGINNING - 1][: len(units) - 1])[:2] + 2
    return sorted({1, *changes.tolist(), min(len(units) - 1, BEGINNING // 8)} - {len(units)})


def _check_beginning(name: str, strategy: Strategy, columns: Columns, units: FloatArray, some: int) -> None:  # noqa: ARG001
    """Ask about the first rows alone: they have the same targets, but for what rounding of whole arrays may change.

    The watchdog reads `name`, see `CALLERS`.
    """
    answer = strategy.decide(columns._first(some))  # noqa: SLF001 - the kernel's own
    alone = np.asarray(answer[0] if isinstance(answer, tuple) else answer, np.float64)
    if alone.shape == (some,) and np.allclose(alone, units[:some], rtol=1e-9, atol=0, equal_nan=True):
        return
    raise LooksAhead(
        f"decide gives the first {some} of {len(columns)} rows other targets than when they come alone: it uses later rows "
        "(a mean of a whole column? a shift back? Use features, which know what was known at each row)"
    )


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
        self._targets = Targets(np.zeros(0), None, {})
        """Of the rows of the table at `_index`."""
        self._units: dict[int, float] = {}
        """By row of the table."""
        self._looks_ahead: LooksAhead | None = None
        """What is raised at the next row."""
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
        except LooksAhead as error:
            self._units, self._looks_ahead = {}, error
            return
        except from_plugins():  # it is asked again for each row, and fails at the one that it cannot take
            self._units = {}
            return
        self._index = index
        self._units = dict(zip(index.tolist(), self._targets.units.tolist(), strict=True))

    def __call__(self, signal: Signal, context: Context) -> Decision | None:
        """Answer one row.

        Raises
        ------
        LooksAhead : what it said of the row's batch used later rows; and whatever `decide` raises.
        """
        if self._looks_ahead is not None:
            raise self._looks_ahead
        units, targets, place = self._units.get(signal.row) if signal.bars is self._table else None, self._targets, -1
        if units is None:
            targets, place = self.decide_on([signal]), 0
            units = targets.units.item(0)
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
        if place < 0:
            place = int(self._index.searchsorted(signal.row))
        because = targets.reason(place)
        if not units:
            return context.close(because=because)
        opens = (units > live.position.quantity) is (units > 0)
        return context.target(_exact(units), because=because, **(targets.protection(place) if opens else {}))

    def decide_on(self, rows: Sequence[Signal]) -> Targets:
        """Give the targets of some rows."""
        fields = [name for name in type(rows[0]).__struct_fields__ if name not in OWN]
        values = {name: np.array([getattr(row, name) for row in rows]) for name in (*PRICES, *fields)}
        times = np.array([row.event_ts for row in rows])
        return self._decide(Columns([row.symbol for row in rows], times, values))

    def _decide(self, columns: Columns) -> Targets:
        units, because, legs = context_of(self._strategy).run(targets_of, self.name, self._strategy, columns)
        # Copies: they are read later, and the arrays are the strategy's.
        reasons = because if because is None or isinstance(because, str) else np.array(because, str)
        return Targets(units, reasons, {name: np.array(prices) for name, prices in legs.items()})

    CALLERS: ClassVar[dict[CodeType, str]] = {targets_of.__code__: "name", _check_beginning.__code__: "name"}
    """The functions here that call a strategy, each with the local variable that names it; see `Watchdog`."""
