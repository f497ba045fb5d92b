"""What positions and working orders may cost, summed up as they change: nothing is walked where a decision asks.

A sum moves with orders, positions and prices, and only those of a symbol that has changed are computed again. Sums are exact
(`EXACT`), so what they are does not depend on the order in which things came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Context, Decimal
from operator import attrgetter
from typing import NamedTuple

from torghut_core.model.trading import ZERO, Intent, OrderType, Side
from torghut_core.ports import LiveContext

EXACT = Context(prec=200)
"""Adds amounts without rounding."""

FEW = 4
"""Of so many symbols all are computed again: that costs less than to find out which prices have moved."""

_BUY, _MARKET, _ONE = Side.BUY, OrderType.MARKET, Decimal(1)
_ANY_PRICE, _NO_PRICE = Decimal("-Infinity"), Decimal("Infinity")
_add, _subtract, _multiply = EXACT.add, EXACT.subtract, EXACT.multiply
_threshold = attrgetter("threshold")


class Rung(NamedTuple):
    """Units of an open order, and the highest price at which they may trade: ``price * rate + distance``, or `floor`.

    It is `floor` while the market's price is below `threshold`.
    """

    threshold: Decimal
    quantity: Decimal
    floor: Decimal
    rate: Decimal
    distance: Decimal


def rung_of(intent: Intent, quantity: Decimal) -> Rung:
    """What `quantity` units of an order may cost.

    An order to buy trades at its limit price at most; any other at the market's price, which a trailing stop is at a
    distance from, or at a price that it names, whichever is higher.
    """
    if intent.order_type is _MARKET:
        return Rung(ZERO, quantity, ZERO, _ONE, ZERO)
    limit, stop = intent.limit_price, intent.stop_price
    if limit is not None and intent.side is _BUY:
        return Rung(_NO_PRICE, quantity, limit, _ONE, ZERO)
    floor = max(limit or ZERO, stop or ZERO)
    if intent.trail_price is None and intent.trail_pct is None:
        return Rung(floor, quantity, floor, _ONE, ZERO)
    rate, distance = 1 + (intent.trail_pct or ZERO) / 100, intent.trail_price or ZERO
    return Rung((floor - distance) / rate, quantity, floor, rate, distance)


class Ladder:
    """The open orders of one strategy in one symbol: what they may cost in all, at any price.

    That is a line, ``slope * price + rest``, which bends where the price reaches a rung.
    """

    __slots__ = ("_price", "_reached", "_rest", "_rungs", "_slope")

    def __init__(self) -> None:
        self._rungs: list[Rung] = []
        self._reached = 0
        """So many rungs have a threshold at `_price` or below."""
        self._price = _ANY_PRICE
        self._slope = self._rest = ZERO

    def __len__(self) -> int:
        return len(self._rungs)

    def add(self, rung: Rung) -> None:
        """Add an order."""
        rungs = self._rungs
        rungs.insert(bisect_right(rungs, rung.threshold, key=_threshold), rung)
        is_reached = rung.threshold <= self._price
        self._reached += is_reached
        self._count(rung, is_reached, _add)

    def remove(self, rung: Rung) -> None:
        """Remove an order that was added."""
        rungs = self._rungs
        del rungs[rungs.index(rung, bisect_left(rungs, rung.threshold, key=_threshold))]
        is_reached = rung.threshold <= self._price
        self._reached -= is_reached
        self._count(rung, is_reached, _subtract)
        if not rungs:
            self._slope = self._rest = ZERO

    def notional(self, price: Decimal) -> Decimal:
        """What the orders may cost when this is the market's price."""
        rungs = self._rungs
        if not rungs:
            return ZERO
        self._price = price
        while self._reached < len(rungs) and rungs[self._reached].threshold <= price:
            self._cross(rungs[self._reached], is_reached=True)
            self._reached += 1
        while self._reached and rungs[self._reached - 1].threshold > price:
            self._reached -= 1
            self._cross(rungs[self._reached], is_reached=False)
        return _add(_multiply(self._slope, price), self._rest)

    def _cross(self, rung: Rung, *, is_reached: bool) -> None:
        self._count(rung, not is_reached, _subtract)
        self._count(rung, is_reached, _add)

    def _count(self, rung: Rung, is_reached: bool, into: Callable[[Decimal, Decimal], Decimal]) -> None:
        if is_reached:
            self._slope = into(self._slope, _multiply(rung.quantity, rung.rate))
            self._rest = into(self._rest, _multiply(rung.quantity, rung.distance))
        else:
            self._rest = into(self._rest, _multiply(rung.quantity, rung.floor))


class SymbolExposure:
    """What is ordered in one symbol, and what that and what is held there was worth when it was last computed."""

    __slots__ = ("gross", "ladders", "own", "worth")

    def __init__(self) -> None:
        self.ladders: dict[str, Ladder] = {}
        """By strategy."""
        self.gross = self.worth = ZERO
        """Notional of all, and what the position is worth."""
        self.own: dict[str, Decimal] = {}
        """Notional of each strategy's part."""


class Exposures:
    """Notional of all positions and working orders, the account's and each strategy's.

    Parameters
    ----------
    prices : gives the newest price of a symbol and that of the prices before it, the lower first.
    nets : signed units that the account holds, by symbol.
    views : the strategies' views, by symbol.
    """

    def __init__(
        self,
        prices: Callable[[str], tuple[Decimal, Decimal]],
        nets: Mapping[str, Decimal],
        views: Mapping[str, Sequence[LiveContext]],
    ) -> None:
        self._prices = prices
        self._nets = nets
        self._views = views
        self._symbols: dict[str, SymbolExposure] = {}
        self._counted: dict[str, tuple[str, str, Rung]] = {}
        """Strategy and symbol of each open order, and what it may cost, by client order id."""
        self._changed: set[str] = set()
        """Symbols in which something else than the price has changed."""
        self._gross = self._worth = ZERO
        self._own: dict[str, Decimal] = {}

    def change(self, symbol: str) -> None:
        """Note that a position in a symbol has changed."""
        self._changed.add(symbol)

    def count(self, client_order_id: str, strategy: str, symbol: str, rung: Rung) -> None:
        """Count what an order that was not counted may cost."""
        self._counted[client_order_id] = strategy, symbol, rung
        self._changed.add(symbol)
        exposure = self._symbols.get(symbol)
        if exposure is None:
            exposure = self._symbols[symbol] = SymbolExposure()
        ladder = exposure.ladders.get(strategy)
        if ladder is None:
            ladder = exposure.ladders[strategy] = Ladder()
        ladder.add(rung)

    def discount(self, client_order_id: str) -> None:
        """Count an order no more, if it was counted."""
        counted = self._counted.pop(client_order_id, None)
        if counted is None:
            return
        strategy, symbol, rung = counted
        self._changed.add(symbol)
        ladders = self._symbols[symbol].ladders
        ladders[strategy].remove(rung)
        if not ladders[strategy]:
            del ladders[strategy]

    def read(self, strategy: str, moved: Callable[[], Collection[str]]) -> tuple[Decimal, Decimal, Decimal]:
        """What all costs, what a strategy's part does, and what positions are worth; see `Books.exposures`.

        `moved` gives the symbols whose price may have changed since it was last asked.
        """
        symbols = self._symbols
        self._changed.update(symbols if len(symbols) <= FEW else symbols.keys() & moved())
        for symbol in self._changed:
            self._compute(symbol)
        self._changed.clear()
        return _rounded(self._gross), _rounded(self._own.get(strategy, ZERO)), _rounded(self._worth)

    def _compute(self, symbol: str) -> None:
        """Bring the sums up to date with a symbol."""
        exposure = self._symbols.get(symbol)
        if exposure is None:
            exposure = SymbolExposure()
        net, ladders, before = self._nets.get(symbol, ZERO), exposure.ladders, exposure.own
        gross = worth = ZERO
        own: dict[str, Decimal] = {}
        held = [view for view in self._views[symbol] if view.side]
        if net or held or ladders:
            self._symbols[symbol] = exposure
            low, high = self._prices(symbol)
            gross, worth = abs(net) * high, net * (low if net > 0 else high)
            for view in held:
                own[view.strategy_id] = abs(view.position.quantity) * high
            for strategy, ladder in ladders.items():
                notional = ladder.notional(high)
                gross = _add(gross, notional)
                own[strategy] = _add(own.get(strategy, ZERO), notional)
        else:
            self._symbols.pop(symbol, None)
        self._gross = _add(_subtract(self._gross, exposure.gross), gross)
        self._worth = _add(_subtract(self._worth, exposure.worth), worth)
        for strategy in before.keys() | own.keys():
            change = _subtract(own.get(strategy, ZERO), before.get(strategy, ZERO))
            self._own[strategy] = _add(self._own.get(strategy, ZERO), change)
        exposure.gross, exposure.worth, exposure.own = gross, worth, own
        if not self._symbols:
            self._gross = self._worth = ZERO
            self._own.clear()


def _rounded(total: Decimal) -> Decimal:
    return +total if total else ZERO
