"""The orders that are out, what the broker says of them, and the positions that they make.

A working order belongs to one strategy's view of one symbol (`Context`); its fills go there. The broker is shown the
event stream before it is asked, so that orders have met every event up to the loop's position, and no later one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import chain

import msgspec

from torghut_core import logs
from torghut_core.context import Books, Context
from torghut_core.errors import IllegalTransition
from torghut_core.model.market import Batch
from torghut_core.model.trading import (
    ZERO,
    Account,
    Fill,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    Position,
    Report,
    Side,
)
from torghut_core.order_state import apply_report, is_done
from torghut_core.ports import AuditStore, Broker
from torghut_core.positions import add_position, apply_fill
from torghut_core.routes import StrategyTotals

LATE_FILLS = 10_000
"""So many canceled, expired and rejected orders are remembered for fills that were under way."""


class Totals(msgspec.Struct):
    """What happened so far, counted."""

    events: int = 0
    late: int = 0
    duplicates: int = 0
    excluded: int = 0
    microbars: int = 0
    signals: int = 0
    decisions: int = 0
    denied: int = 0
    repeated: int = 0
    orders: int = 0
    rejected: int = 0
    fills: int = 0
    illegal_reports: int = 0
    fees: Decimal = ZERO
    denials: dict[str, int] = msgspec.field(default_factory=dict)
    """How often each verdict code denied."""
    strategies: dict[str, StrategyTotals] = msgspec.field(default_factory=dict)
    """Of every strategy that has traded in this run."""
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    """Plugins that raised: name -> what, the first time."""


class Working(msgspec.Struct):
    """An order that is out, with the view that it belongs to and the price that it was decided at."""

    order: Order
    context: Context
    price: Decimal
    open_quantity: Decimal
    """Signed units that the order would still add to the position."""


# Reached for every report; a member of an enum, reached through its class, is slow in Python 3.11.
_BUY = Side.BUY
_ACCEPT, _REJECTED = OrderEvent.ACCEPT, OrderEvent.REJECTED
_FILLED = OrderState.FILLED


class Blotter(Books):
    """Orders and positions on one account.

    Parameters
    ----------
    broker : the truth about orders.
    label : the account under which everything is written down.
    audit : where it is written down.
    totals : where it is counted.
    lines : where the digest's lines go.
    on_fill : told each fill and the strategy's position after it.

    Attributes
    ----------
    working : the orders that are out, by client order id.
    position, now : what the loop has reached in the stream, and its time, ns.
    last_account : the account when it was last asked for.
    """

    def __init__(
        self,
        broker: Broker,
        label: str,
        audit: AuditStore,
        totals: Totals,
        lines: list[str],
        on_fill: Callable[[Fill, Position], None],
    ) -> None:
        self.working: dict[str, Working] = {}
        self.position = 0
        self.now = 0
        self.last_account = broker.account()
        self._broker = broker
        self._is_simulated = broker.capabilities.simulated
        self._label = label
        self._audit = audit
        self._totals = totals
        self._lines = lines
        self._on_fill = on_fill
        self._contexts: dict[tuple[str, str], Context] = {}
        self._ended: dict[str, Working] = {}
        self._net: dict[str, Decimal] = {}
        self._batch: Batch | None = None
        self._shown = 0

    def context(self, strategy: str, symbol: str) -> Context:
        """The view of one strategy on one symbol: the same object from the first row on, over reloads too."""
        context = self._contexts.get((strategy, symbol))
        if context is None:
            context = self._contexts[strategy, symbol] = Context(strategy, symbol, self._label, self)
        return context

    # The way through the stream.

    def begin(self, batch: Batch) -> None:
        """Go over to the next batch."""
        self._batch = batch
        self._shown = batch.start

    def meet(self, stop: int) -> None:
        """Let orders meet the events before `stop`, and take in what the broker reports."""
        self._show(stop)
        self.hear()

    def finish(self, batch: Batch) -> None:
        """Let orders meet the rest of the batch."""
        self.position = batch.stop - 1
        self.now = int(batch.now[-1])
        self.meet(batch.stop)
        self._batch = None

    def _show(self, stop: int) -> None:
        """Show the broker the events before `stop` that it has not seen."""
        if self._batch is not None and stop > self._shown:
            self._broker.advance(self._batch, self._shown, stop)
            self._shown = stop

    # What is asked.

    def send(self, intent: Intent, context: Context, price: Decimal) -> None:
        """Hand an order, whose intent is written down, to the broker; `price` is the decision's, zero without one."""
        self._show(self.position + 1)
        number = intent.client_order_id
        order = Order(intent=intent)
        working = self.working[number] = Working(order, context, price, _open_quantity(order))
        context.working += working.open_quantity
        self._totals.orders += 1
        self._broker.submit(intent)
        if not self._is_simulated:  # a simulated order cannot be lost on its way
            self._take(working, Report(client_order_id=number, event=OrderEvent.SUBMIT, event_ts=intent.decided_at))
        self.hear()

    def cancel(self, strategy: str, symbol: str) -> None:
        """Ask that a strategy's orders in a symbol be canceled."""
        for number, working in list(self.working.items()):
            if (working.context.strategy_id, working.context.symbol) != (strategy, symbol):
                continue
            if not self._is_simulated:
                self._take(working, Report(client_order_id=number, event=OrderEvent.CANCEL, event_ts=self.now))
            self._broker.cancel(number)
        self.hear()

    # What is told.

    def hear(self) -> None:
        """Take in what the broker reports."""
        for report in self._broker.updates():
            number = report.client_order_id
            working = self.working.get(number) or self._ended.get(number)
            if working is None:
                logs.warning("report of an unknown order", client_order_id=number, said=report.event)
                continue
            try:
                self._take(working, report)
            except IllegalTransition as error:
                self._totals.illegal_reports += 1
                logs.warning("report refused", error=str(error), client_order_id=number)

    def account(self) -> Account:
        """The account at the position that the loop has reached."""
        self._show(self.position + 1)
        self.last_account = self._broker.account()
        return self.last_account

    @property
    def positions(self) -> dict[tuple[str, str], Position]:
        """What each strategy holds, by (strategy, symbol)."""
        return {key: context.position for key, context in self._contexts.items()}

    @property
    def holding(self) -> set[str]:
        """Strategies that hold a position or have an order out."""
        holding = {name for (name, _), context in self._contexts.items() if context.position.quantity}
        return holding | {working.context.strategy_id for working in self.working.values()}

    def holds(self, strategy: str, symbols: Iterable[str]) -> bool:
        """Whether a strategy has a position or an order in one of these symbols."""
        contexts = (self._contexts.get((strategy, symbol)) for symbol in symbols)
        if any(context is not None and context.position.quantity for context in contexts):
            return True
        return any(
            working.context.strategy_id == strategy and working.context.symbol in symbols
            for working in self.working.values()
        )

    def net(self, symbol: str) -> Decimal:
        """Signed units that the account holds, by its fills."""
        return self._net.get(symbol, ZERO)

    def open_orders(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Signed units that working orders would still add in a symbol, and cash that working buys of all may cost."""
        units = reserved = ZERO
        for working in self.working.values():
            intent, rest = working.order.intent, working.open_quantity
            if rest > 0:
                reserved += rest * (intent.limit_price or working.price)
            if intent.symbol == symbol:
                units += rest
        return units, reserved

    def hand_over(self, strategy: str, heir: str, symbol: str) -> None:
        """Give a strategy's position and working orders in a symbol to another strategy."""
        context, other = self.context(strategy, symbol), self.context(heir, symbol)
        held = context.position
        other.position = add_position(other.position, held)
        context.position = msgspec.structs.replace(held, quantity=ZERO, average_price=ZERO)
        for working in chain(self.working.values(), self._ended.values()):
            if working.context is context:
                working.context = other
        other.working += context.working
        context.working = ZERO
        if math.isnan(other.price):
            other.price = context.price

    def _take(self, working: Working, report: Report) -> None:
        order, context = working.order, working.context
        if not apply_report(order, report):
            return  # a fill that was seen before
        if report.event is not _ACCEPT:
            after = _open_quantity(order)
            context.working += after - working.open_quantity
            working.open_quantity = after
        if is_done(order.state):
            self._end(working)
        if report.fill is not None:
            report = msgspec.structs.replace(report, fill=self._fold(report.fill, context, working.price))
        elif report.event is _REJECTED:
            self._totals.rejected += 1
        self._audit.record_report(self._label, order, report, context.position)
        self._lines.append(_line_of(order, report))
        if report.fill is not None:
            self._on_fill(report.fill, context.position)

    def _end(self, working: Working) -> None:
        """Keep an order that is done for a while, because a late fill of it still counts."""
        number = working.order.intent.client_order_id
        if self.working.pop(number, None) is not None and working.order.state is not _FILLED:
            self._ended[number] = working
            if len(self._ended) > LATE_FILLS:
                del self._ended[next(iter(self._ended))]

    def _fold(self, fill: Fill, context: Context, price: Decimal) -> Fill:
        signed = fill.quantity if fill.side is _BUY else -fill.quantity
        context.position = apply_fill(context.position, fill)
        self._net[fill.symbol] = self._net.get(fill.symbol, ZERO) + signed
        self._totals.fills += 1
        self._totals.strategies[context.strategy_id].fills += 1
        self._totals.fees += fill.fee
        if not price:
            return fill
        against_us = fill.price - price if fill.side is _BUY else price - fill.price
        return msgspec.structs.replace(fill, slippage=against_us)


def _open_quantity(order: Order) -> Decimal:
    """Signed units that an order would still add to the position."""
    if is_done(order.state):
        return ZERO
    return order.remaining if order.intent.side is _BUY else -order.remaining


def _line_of(order: Order, report: Report) -> str:
    """What the digest sees of a report: the order and the fill, without ids."""
    intent = order.intent
    fill = report.fill
    done = "" if fill is None else f" {fill.quantity} {fill.price} {fill.fee}"
    return (
        f"order {intent.strategy_id} {intent.symbol} {intent.side} {intent.quantity} {report.event} "
        f"{report.event_ts}{done}\n"
    )
