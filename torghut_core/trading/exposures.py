"""What positions and working orders may cost, summed up as they change: nothing is walked where a decision asks.

A sum moves with orders, positions and prices, and only those of a symbol that has changed are computed again. Sums are exact
(`EXACT`), so what they are does not depend on the order in which things came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Context, Decimal, localcontext
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
    """Units of an open order times their multiplier, and the highest price at which they may trade: ``price * rate + distance``, or `floor`.

    It is `floor` while the market's price is below `threshold`.
    """

    threshold: Decimal
    quantity: Decimal
    floor: Decimal
    rate: Decimal
    distance: Decimal


class Line(NamedTuple):
    """What something may cost: ``slope * price + rest``, at prices from `since` on and below `until`."""

    slope: Decimal
    rest: Decimal
    since: Decimal
    until: Decimal


def rung_of(intent: Intent, quantity: Decimal) -> Rung:
    """What `quantity` units of an order, times their multiplier, may cost.

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

    That is a line, which bends where the price reaches a rung.
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

    def line(self, price: Decimal) -> Line:
        """What the orders may cost when this is the market's price, and between which prices that is the same line."""
        rungs = self._rungs
        self._price = price
        while self._reached < len(rungs) and rungs[self._reached].threshold <= price:
            self._cross(rungs[self._reached], is_reached=True)
            self._reached += 1
        while self._reached and rungs[self._reached - 1].threshold > price:
            self._reached -= 1
            self._cross(rungs[self._reached], is_reached=False)
        since = rungs[self._reached - 1].threshold if self._reached else _ANY_PRICE
        until = rungs[self._reached].threshold if self._reached < len(rungs) else _NO_PRICE
        return Line(self._slope, self._rest, since, until)

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
    """What is held and ordered in one symbol, and what that was worth when it was last computed.

    Attributes
    ----------
    ladders : open orders, by strategy.
    net : signed units that the account holds, times their multiplier.
    slope, rest, since, until : what all may cost, a `Line`; it holds at no price before it is computed.
    own_lines : the same of each strategy's part, ``(slope, rest)``.
    high : the price at which it was computed, the higher one.
    gross, worth, own : notional of all, what the position is worth, and notional of each strategy's part.
    """

    __slots__ = ("gross", "high", "ladders", "net", "own", "own_lines", "rest", "since", "slope", "until", "worth")

    def __init__(self) -> None:
        self.ladders: dict[str, Ladder] = {}
        self.net = self.slope = self.rest = self.high = self.gross = self.worth = ZERO
        self.since = self.until = _NO_PRICE
        self.own_lines: dict[str, tuple[Decimal, Decimal]] = {}
        self.own: dict[str, Decimal] = {}

    def draw(self, net: Decimal, views: Sequence[LiveContext], price: Decimal) -> None:
        """Find the lines of what is held and ordered at a price."""
        multiplier = views[0].instrument.multiplier
        net *= multiplier
        self.net, slope, rest, since, until = net, abs(net), ZERO, _ANY_PRICE, _NO_PRICE
        lines = {view.strategy_id: (abs(view.position.quantity) * multiplier, ZERO) for view in views if view.side}
        for strategy, ladder in self.ladders.items():
            line = ladder.line(price)
            slope, rest, since, until = (
                slope + line.slope,
                rest + line.rest,
                max(since, line.since),
                min(until, line.until),
            )
            held, _ = lines.get(strategy, (ZERO, ZERO))
            lines[strategy] = held + line.slope, line.rest
        self.slope, self.rest, self.since, self.until, self.own_lines = slope, rest, since, until, lines


class Exposures:
    """Notional of all positions and working orders, the account's and each strategy's.

    Parameters
    ----------
    prices : gives, of each of some symbols, the newest price and that of the prices before it, the lower first.
    nets : signed units that the account holds, by symbol.
    views : the strategies' views, by symbol.
    """

    def __init__(
        self,
        prices: Callable[[Sequence[str]], Iterable[tuple[Decimal, Decimal]]],
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
        self._behind: defaultdict[str, set[str]] = defaultdict(set)
        """By strategy, the symbols in which its part is of older prices: its sum is brought up to date when it is asked for."""

    def change(self, symbol: str) -> SymbolExposure:
        """Note that what is held or ordered in a symbol has changed; return what is known of it."""
        exposure = self._symbols.get(symbol)
        if exposure is None:
            exposure = self._symbols[symbol] = SymbolExposure()
        exposure.since = _NO_PRICE
        self._changed.add(symbol)
        return exposure

    def count(self, client_order_id: str, strategy: str, symbol: str, rung: Rung) -> None:
        """Count what an order that was not counted may cost."""
        self._counted[client_order_id] = strategy, symbol, rung
        ladders = self.change(symbol).ladders
        ladder = ladders.get(strategy)
        if ladder is None:
            ladder = ladders[strategy] = Ladder()
        ladder.add(rung)

    def discount(self, client_order_id: str) -> None:
        """Count an order no more, if it was counted."""
        counted = self._counted.pop(client_order_id, None)
        if counted is None:
            return
        strategy, symbol, rung = counted
        ladders = self.change(symbol).ladders
        ladders[strategy].remove(rung)
        if not ladders[strategy]:
            del ladders[strategy]

    def read(self, strategy: str, moved: Callable[[], Collection[str]]) -> tuple[Decimal, Decimal, Decimal]:
        """What all costs, what a strategy's part does, and what positions are worth; see `Books.exposures`.

        `moved` gives the symbols whose price may have changed since it was last asked.
        """
        symbols = self._symbols
        recent = symbols.keys() if len(symbols) <= FEW else moved()
        stale = list(symbols) if 2 * len(recent) > len(symbols) else [*self._changed.union(symbols.keys() & recent)]
        with localcontext(EXACT):
            self._compute(stale)
            for symbol in self._behind.pop(strategy, ()):
                self._compute_own(strategy, symbols[symbol])
        for symbol in self._changed:
            if not (symbols[symbol].net or symbols[symbol].own_lines):
                del symbols[symbol]
        self._changed.clear()
        if not symbols:
            self._gross = self._worth = ZERO
            self._own.clear()
        return _rounded(self._gross), _rounded(self._own.get(strategy, ZERO)), _rounded(self._worth)

    def _compute(self, stale: Sequence[str]) -> None:
        """Bring the account's sums up to date with some symbols."""
        symbols, behind, gross, worth = self._symbols, self._behind, self._gross, self._worth
        for symbol, (low, high) in zip(stale, self._prices(stale), strict=True):
            exposure = symbols[symbol]
            if not exposure.since <= high < exposure.until:
                self._draw(symbol, exposure, high)
            exposure.high, net = high, exposure.net
            before, exposure.gross = exposure.gross, exposure.slope * high + exposure.rest
            gross += exposure.gross - before
            before, exposure.worth = exposure.worth, net * (low if net > 0 else high)
            worth += exposure.worth - before
            for strategy in exposure.own_lines:
                behind[strategy].add(symbol)
        self._gross, self._worth = gross, worth

    def _compute_own(self, strategy: str, exposure: SymbolExposure) -> None:
        """Bring a strategy's sum up to date with its part in a symbol."""
        slope, rest = exposure.own_lines[strategy]
        part = slope * exposure.high + rest
        self._own[strategy] = self._own.get(strategy, ZERO) + (part - exposure.own.get(strategy, ZERO))
        exposure.own[strategy] = part

    def _draw(self, symbol: str, exposure: SymbolExposure, price: Decimal) -> None:
        """Find a symbol's lines anew, and count no more what strategies had that have no part in it now."""
        before = exposure.own_lines.keys()
        exposure.draw(self._nets.get(symbol, ZERO), self._views[symbol], price)
        for strategy in before - exposure.own_lines.keys():
            self._behind[strategy].discard(symbol)
            if strategy in exposure.own:
                self._own[strategy] -= exposure.own.pop(strategy)


def _rounded(total: Decimal) -> Decimal:
    return +total if total else ZERO
