"""What positions and working orders may cost, summed up as they change: nothing is walked where a decision asks.

A sum moves with orders, positions and prices, and only those of a symbol that has changed are computed again. Sums are exact
(`EXACT`), so what they are does not depend on the order in which things came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection
from decimal import Context, Decimal
from operator import attrgetter
from typing import NamedTuple

from torghut_core.model.trading import ZERO, Intent, Side

EXACT = Context(prec=200)
"""Adds amounts without rounding."""

_BUY = Side.BUY
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


_ONE = Decimal(1)


def rung_of(intent: Intent, quantity: Decimal) -> Rung:
    """What `quantity` units of an order may cost.

    An order to buy trades at its limit price at most; any other at the market's price, which a trailing stop is at a
    distance from, or at a price that it names, whichever is higher.
    """
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
    """What is held and ordered in one symbol, and what that was worth when it was last computed."""

    __slots__ = ("gross", "held", "ladders", "net", "own", "worth")

    def __init__(self) -> None:
        self.net = ZERO
        self.held: dict[str, Decimal] = {}
        """By strategy, unsigned units."""
        self.ladders: dict[str, Ladder] = {}
        """By strategy."""
        self.gross = self.worth = ZERO
        self.own: dict[str, Decimal] = {}
        """By strategy."""


class Exposures:
    """Notional of all positions and working orders, the account's and each strategy's.

    Parameters
    ----------
    prices : gives the newest price of a symbol and that of the prices before it, the lower first.
    """

    def __init__(self, prices: Callable[[str], tuple[Decimal, Decimal]]) -> None:
        self._prices = prices
        self._symbols: dict[str, SymbolExposure] = {}
        self._changed: set[str] = set()
        """Symbols in which something else than the price has changed."""
        self._gross = self._worth = ZERO
        self._own: dict[str, Decimal] = {}

    def hold(self, strategy: str, symbol: str, quantity: Decimal, net: Decimal) -> None:
        """Note what a strategy holds in a symbol now, unsigned units, and what the account does, signed."""
        exposure = self._change(symbol)
        exposure.net = net
        if quantity:
            exposure.held[strategy] = quantity
        else:
            exposure.held.pop(strategy, None)

    def replace(self, strategy: str, symbol: str, before: Rung | None, after: Rung | None) -> None:
        """Replace what an order may still cost by something else; None where it costs nothing."""
        ladders = self._change(symbol).ladders
        ladder = ladders.get(strategy)
        if ladder is None:
            ladder = ladders[strategy] = Ladder()
        if before is not None:
            ladder.remove(before)
        if after is not None:
            ladder.add(after)
        elif not ladder:
            del ladders[strategy]

    def _change(self, symbol: str) -> SymbolExposure:
        self._changed.add(symbol)
        exposure = self._symbols.get(symbol)
        if exposure is None:
            exposure = self._symbols[symbol] = SymbolExposure()
        return exposure

    def read(self, strategy: str, moved: Collection[str]) -> tuple[Decimal, Decimal, Decimal]:
        """What all costs, what a strategy's part does, and what positions are worth; see `Books.exposures`.

        `moved` are the symbols whose price may have changed since the last time.
        """
        symbols = self._symbols
        self._changed.update(symbols.keys() & moved if len(moved) > 1 else [each for each in moved if each in symbols])
        for symbol in self._changed:
            self._compute(symbol)
        self._changed.clear()
        return _rounded(self._gross), _rounded(self._own.get(strategy, ZERO)), _rounded(self._worth)

    def _compute(self, symbol: str) -> None:
        """Bring the sums up to date with a symbol."""
        exposure = self._symbols[symbol]
        net, held, ladders, before = exposure.net, exposure.held, exposure.ladders, exposure.own
        gross = worth = ZERO
        own: dict[str, Decimal] = {}
        if net or held or ladders:
            low, high = self._prices(symbol)
            gross, worth = abs(net) * high, net * (low if net > 0 else high)
            for strategy, quantity in held.items():
                own[strategy] = quantity * high
            for strategy, ladder in ladders.items():
                notional = ladder.notional(high)
                gross = _add(gross, notional)
                own[strategy] = _add(own.get(strategy, ZERO), notional)
        else:
            del self._symbols[symbol]
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
