"""A trading loop small enough to read, for strategies on their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import numpy as np

from torghut_core import (
    BarHistory,
    Cancel,
    Context,
    Deciding,
    Decision,
    Fill,
    Handler,
    History,
    InputError,
    Intent,
    LiveContext,
    LivePortfolio,
    Order,
    OrderState,
    OrderType,
    Purpose,
    Side,
    Signal,
    Slice,
    Strategy,
    apply_fill,
    money,
)
from torghut_testing.builders import STRATEGY, context

ZERO = Decimal(0)


class Row(NamedTuple):
    """What the loop shows a strategy: a signal, and the close of its bar in quote currency per unit."""

    signal: Signal
    price: float


class Rehearsal:
    """Shows rows to a strategy and fills what it proposes.

    An order is filled whole by the next row of its symbol whose price reaches its own, at that row's price; at the market by the next
    row. The legs of a bracket come with that fill, and wait as it did: the stop comes first, and one leg ends the other. There are no rules and no fees, and the account never changes. `strategy` may be replaced between rows. Of
    its handlers it calls `on_start`, `on_fill`, `on_slice` and `on_signal`.

    Examples
    --------
    >>> from torghut_testing import signal
    >>> class Once(Strategy):
    ...     def on_signal(self, signal, context):
    ...         return context.buy(1, because="first row") if context.is_flat else None
    >>> rehearsal = Rehearsal(Once(Once.Params()))
    >>> [decision.quantity for decision in rehearsal.run(Row(signal(), price) for price in (100.0, 101.0, 102.0))]
    [Decimal('1')]
    >>> rehearsal.context("BTC/USD").position.average_price
    Decimal('101.0')
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self._contexts: dict[str, LiveContext] = {}
        self._best: dict[str, Decimal] = {}
        """The best price since a leg came, by client order id."""
        self._sent: Counter[str] = Counter()
        self._portfolio: LivePortfolio | None = None
        self._bars = _ShownBars(strategy)

    def context(self, symbol: str) -> Context:
        """The context that the strategy saw last for a symbol; changes with the next row."""
        if symbol not in self._contexts:
            live = self._contexts[symbol] = context(symbol=symbol)._live  # noqa: SLF001 - the kit stands in for the kernel
            live.bars = self._bars
        return self._contexts[symbol]

    def show(self, row: Row) -> Decision | None:
        """Fill the open orders of the row's symbol, show the row, and return what the strategy proposes first."""
        return next(iter(self.show_together([row])), None)

    def show_together(self, rows: Sequence[Row]) -> list[Decision]:
        """The same with rows that became known at one time, in slices too; return everything that the strategy proposes."""
        for row in rows:
            self.context(row.signal.symbol)
        proposed = []
        if self._portfolio is None:
            view = next(iter(self._contexts.values())).account_view
            self._portfolio = LivePortfolio(STRATEGY, self._contexts, view)
            proposed += self._propose("on_start", self._portfolio.read_only)
        for row in rows:
            proposed += self._fill_orders(row)
        for row in rows:
            self._bars.add(row.signal)
        slice_ = Slice([row.signal for row in rows])
        self._portfolio.reach(slice_, _end(rows[0]))
        proposed += self._propose("on_slice", slice_, self._portfolio.read_only)
        for row in rows:
            seen = self._contexts[row.signal.symbol]
            seen.show(row.signal.event_ts, _end(row), row.price)
            proposed += self._propose("on_signal", row.signal, seen.read_only)
        return proposed

    def run(self, rows: Iterable[Row]) -> list[Decision]:
        """Show rows one after the other, those with one end together to a strategy with `on_slice`; return all decisions."""
        return [decision for together in self.together(rows) for decision in self.show_together(together)]

    def together(self, rows: Iterable[Row]) -> list[list[Row]]:
        """Rows as they are shown: those of one slice together where the strategy has `on_slice`."""
        if not self.strategy.handles(Handler.ON_SLICE):
            return [[row] for row in rows]
        return [list(group) for _, group in groupby(rows, _end)]

    def _fill_orders(self, row: Row) -> list[Decision]:
        """Fill the open orders of the row's symbol whose price is reached, legs last; return what the strategy proposes at that."""
        seen, price, proposed = self._contexts[row.signal.symbol], money(row.price), []
        before = sorted(seen.open_orders.items(), key=lambda item: bool(item[1].intent.parent))
        for number, _ in before:
            order = seen.open_orders.get(number)  # another one's fill may have ended or changed it
            if order is not None and self._reaches(order.intent, price):
                fill = self._fill(order.intent, seen, row)
                seen.reach(fill, _end(row))
                proposed += self._propose("on_fill", fill, seen.read_only)
        return proposed

    def _fill(self, intent: Intent, seen: LiveContext, row: Row) -> Fill:
        """Fill an order, a leg up to what is held; open the legs of an entry, and end those that have nothing left to protect."""
        held = abs(seen.position.quantity)
        fill = Fill(
            client_order_id=intent.client_order_id,
            fill_id="1",
            symbol=intent.symbol,
            side=intent.side,
            quantity=min(intent.quantity, held) if intent.parent else intent.quantity,
            price=money(row.price),
            fee=ZERO,
            event_ts=row.signal.event_ts,
        )
        seen.hold(apply_fill(seen.position, fill))
        self._end(intent, seen)
        for order in list(seen.open_orders.values()):
            leg = order.intent
            protects = Side.SELL if seen.side > 0 else Side.BUY
            is_other_leg = bool(intent.parent) and leg.pair == intent.pair
            if leg.parent and (is_other_leg or not seen.side or leg.side is not protects):
                self._end(leg, seen)
        for leg in intent.legs(fill, _end(row), 1):
            _, _, kind = leg.client_order_id.rpartition("-")
            leg = msgspec.structs.replace(leg, client_order_id=f"{intent.client_order_id}-{kind}")  # noqa: PLW2901
            self._best[leg.client_order_id] = fill.price
            self._open(leg, seen)
        return fill

    def _reaches(self, intent: Intent, price: Decimal) -> bool:
        """Whether an order's price is reached; a trailing stop follows the best price."""
        sign = 1 if intent.side is Side.SELL else -1
        if intent.order_type is OrderType.MARKET:
            return True
        if intent.order_type is OrderType.LIMIT:
            assert intent.limit_price is not None
            return sign * price >= sign * intent.limit_price
        stop = intent.stop_price
        if stop is None:
            best = self._best.get(intent.client_order_id, price)
            self._best[intent.client_order_id] = max(best, price, key=lambda each: sign * each)
            share = best * (intent.trail_pct or ZERO) / 100
            stop = best - sign * (share if intent.trail_price is None else intent.trail_price)
        return sign * price <= sign * stop

    def _propose(self, handler: str, *given: Any) -> list[Any]:
        """Call a handler, and open the orders that it proposes, or cancel or change them."""
        by_target = handler == "on_signal" and type(self.strategy).decide is not Strategy.decide
        answer = (Deciding("", self.strategy) if by_target else getattr(self.strategy, handler))(*given)
        answers = answer if isinstance(answer, list | tuple) else [answer]
        proposed = [each for each in answers if each is not None]
        for each in proposed:  # of what is neither, the suite says so
            seen = self._contexts.get(each.symbol) if isinstance(each, Cancel | Decision) else None
            if seen is None:
                continue
            if isinstance(each, Cancel):
                order = seen.open_orders.get(each.client_order_id)
                if order is not None:
                    self._end(order.intent, seen)
            elif each.replaces:
                self._change(each, seen)
            else:
                self._send(each, seen)
        return proposed

    def _send(self, decision: Decision, seen: LiveContext) -> None:
        """Open the order of a decision: two, where it closes a position and opens one the other way."""
        if decision.is_close:
            for order in list(seen.open_orders.values()):
                if order.intent.parent:
                    self._end(order.intent, seen)
        self._sent[decision.symbol] += 1
        held = seen.position.quantity * (-1 if decision.action is Side.BUY else 1)
        reduced = min(max(ZERO, held), decision.quantity)
        parts = (("", Purpose.EXIT, reduced), ("-2" if reduced else "", Purpose.ENTRY, decision.quantity - reduced))
        for suffix, purpose, quantity in parts:
            if quantity:
                intent = decision.to_intent(quantity, purpose)
                name = f"order-{decision.symbol}-{self._sent[decision.symbol]}{suffix}"
                self._open(msgspec.structs.replace(intent, client_order_id=name), seen)

    def _change(self, decision: Decision, seen: LiveContext) -> None:
        """Give an open order other terms."""
        order = seen.open_orders.get(decision.replaces)
        if order is None:
            return
        terms = {name: getattr(decision, name) for name in ("quantity", "limit_price", "stop_price")}
        _count(order.intent, seen, terms["quantity"] - order.intent.quantity)
        order.intent = msgspec.structs.replace(order.intent, **terms)

    def _open(self, intent: Intent, seen: LiveContext) -> None:
        """Open an order, and count it in what its strategy sees."""
        seen.open_orders[intent.client_order_id] = Order(intent=intent, state=OrderState.ACCEPTED)
        _count(intent, seen, intent.quantity)

    def _end(self, intent: Intent, seen: LiveContext) -> None:
        """End an order."""
        del seen.open_orders[intent.client_order_id]
        self._best.pop(intent.client_order_id, None)
        _count(intent, seen, -intent.quantity)


class _ShownBars(BarHistory):
    """The bars of the rows that were shown, of the strategy's own timeframe alone."""

    def __init__(self, strategy: Strategy) -> None:
        self._declared = strategy.history
        self._bars: dict[str, list[tuple[float, ...]]] = {}

    def add(self, row: Signal) -> None:
        """Add the bar of a row."""
        bar = row.event_ts, row.open, row.high, row.low, row.close, row.volume
        self._bars.setdefault(row.symbol, []).append(bar)

    def last(self, context: LiveContext, bars: int, timeframe: str | None, symbol: str | None) -> History:
        """See `Context.history`."""
        declared = self._declared if isinstance(self._declared, int) else max(self._declared.values(), default=0)
        if bars > declared:
            raise InputError(f"history({bars}): the strategy declares {declared} (write `history = {bars}` in it)")
        if timeframe is not None:
            raise InputError(f"history of {timeframe}: a rehearsal has bars of the strategy's own timeframe alone")
        found = self._bars.get(symbol or context.symbol, [])[-bars:]
        columns = np.array(found).reshape(-1, 6).T
        columns.flags.writeable = False
        return History(columns[0].astype(np.int64), *columns[1:])


def _end(row: Row) -> int:
    """When a row's bar ends, ns."""
    return int(row.signal.bars.end[row.signal.row])


def _count(intent: Intent, seen: LiveContext, change: Decimal) -> None:
    """Count in what a strategy sees that an order would add so many units more."""
    if intent.parent:
        seen.protecting += change if intent.side is Side.BUY else -change
    elif intent.side is Side.BUY:
        seen.buying += change
    else:
        seen.selling += change
