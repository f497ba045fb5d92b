"""A trading loop small enough to read, for strategies on their own."""

from __future__ import annotations

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
    LiveContext,
    LivePortfolio,
    Order,
    OrderState,
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

    Every decision is filled whole, at the next row's price of its symbol, whatever its order type, unless it is canceled
    before; there are no rules and no fees, and the account never changes. `strategy` may be replaced between rows. Of its handlers it calls
    `on_start`, `on_fill`, `on_slice` and `on_signal`.

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
        self._working: dict[str, dict[str, Decision]] = {}
        """By symbol and client order id."""
        self._sent = 0
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
        """Fill the open orders of the row's symbol; return what the strategy proposes at that."""
        seen, proposed = self._contexts[row.signal.symbol], []
        for number, order in self._working.pop(row.signal.symbol, {}).items():
            fill = _fill(order, row)
            seen.hold(apply_fill(seen.position, fill))
            self._count(order, seen, number, -order.quantity)
            seen.reach(fill, _end(row))
            proposed += self._propose("on_fill", fill, seen.read_only)
        return proposed

    def _propose(self, handler: str, *given: Any) -> list[Any]:
        """Call a handler, and open the orders that it proposes, or cancel them."""
        by_target = handler == "on_signal" and type(self.strategy).decide is not Strategy.decide
        answer = (Deciding("", self.strategy) if by_target else getattr(self.strategy, handler))(*given)
        answers = answer if isinstance(answer, list | tuple) else [answer]
        proposed = [each for each in answers if each is not None]
        for each in proposed:  # of what is neither, the suite says so
            if isinstance(each, Cancel):
                order = self._working.get(each.symbol, {}).pop(each.client_order_id, None)
                if order is not None:
                    self._count(order, self._contexts[each.symbol], each.client_order_id, -order.quantity)
            if isinstance(each, Decision):
                self._sent += 1
                self._working.setdefault(each.symbol, {})[f"order-{self._sent}"] = each
                self._count(each, self._contexts[each.symbol], f"order-{self._sent}", each.quantity)
        return proposed

    def _count(self, decision: Decision, seen: LiveContext, number: str, change: Decimal) -> None:
        """Count that an order was opened, or is done, in what its strategy sees."""
        if decision.action is Side.BUY:
            seen.buying += change
        else:
            seen.selling += change
        if change > 0:
            reduces = seen.side * (1 if decision.action is Side.BUY else -1) < 0
            purpose = Purpose.EXIT if reduces else Purpose.ENTRY
            intent = msgspec.structs.replace(decision.to_intent(decision.quantity, purpose), client_order_id=number)
            seen.open_orders[number] = Order(intent=intent, state=OrderState.ACCEPTED)
        else:
            del seen.open_orders[number]


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


def _fill(order: Decision, row: Row) -> Fill:
    return Fill(
        client_order_id="",
        fill_id="",
        symbol=order.symbol,
        side=order.action,
        quantity=order.quantity,
        price=money(row.price),
        fee=ZERO,
        event_ts=row.signal.event_ts,
    )
