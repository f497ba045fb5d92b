"""Positions and working orders of one account, by strategy and symbol, and the sums over them that risk reads.

A working order belongs to one strategy's view of one symbol (`LiveContext`); its fills go there. The way of a report: order
state, position and sums, audit, digest, observers. Nothing here talks to a broker: that is the `Gateway`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np

from torghut_core.errors import IllegalTransition
from torghut_core.model.corporate_actions import Adjustment, AppliedAction, CorporateAction, PositionChange
from torghut_core.model.instruments import Instrument
from torghut_core.model.order_state import apply_report, is_done, reports_of
from torghut_core.model.positions import add_position, apply_fill
from torghut_core.model.trading import (
    ZERO,
    Charge,
    Fill,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    OrderStatus,
    Position,
    Report,
    Side,
    TimeInForce,
    money,
)
from torghut_core.ports import AccountView, Journal, LiveContext, OpenOrder
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE
from torghut_core.trading.brackets import CLOSED, Brackets
from torghut_core.trading.exposures import Exposures, rung_of
from torghut_core.trading.recent_prices import FEW, RecentPrices
from torghut_core.trading.totals import StrategyTotals, Totals
from torghut_core.trading.working_order import WorkingOrder

SMALLEST_FEE_PART = Decimal("1E-9")
"""Smallest part of a unit that a fee in kind is divided into."""

MANY = 1024
"""When the times of more orders than this are kept, those older than a minute are dropped."""

DONE_ORDERS = 10_000
"""So many orders that are done are kept, for reports of them that come late."""


# Reached for every report; a member of an enum, reached through its class, is slow in Python 3.11.
_BUY = Side.BUY
_ACCEPT, _REJECTED, _CANCELED = OrderEvent.ACCEPT, OrderEvent.REJECTED, OrderEvent.CANCELED
_FILLED, _PENDING_CANCEL = OrderState.FILLED, OrderState.PENDING_CANCEL
_ANSWERS = (OrderEvent.REPLACED, OrderEvent.REPLACE_REJECTED)
_REQUESTS = (OrderEvent.SUBMIT, OrderEvent.CANCEL, OrderEvent.REPLACE)
"""Reports of what was asked of the venue."""


class News(NamedTuple):
    """What a venue has reported of an order: the order after it, and the fill where it is one."""

    context: LiveContext
    order: Order
    fill: Fill | None


class Books:
    """Positions and working orders of one account.

    Parameters
    ----------
    account_label : the account under which everything is recorded.
    audit : records reports and positions.
    totals : counts orders and fills.
    lines : the digest's lines are appended here.
    on_fill : called with each fill and the strategy's position after it.
    account_view : where a strategy's context reads the account.
    usual_time_in_force : by symbol, see `OrderEntry`.
    instrument_of : gives the terms of a symbol.
    recent_prices : bound what a position, or an open order, is worth.
    is_simulated : the broker reports in order and completely, so nothing is kept for late reports and fees in kind.

    Attributes
    ----------
    working : orders that are not done, by client order id.
    outbox : those of them that are recorded and not sent yet.
    brackets : the legs of brackets among them.
    foreign : open orders at the venue that this account's strategies did not make, by client order id, as last reported.
    now : the loop's time, ns.
    reports : how many reports have changed an order, and how often interest was charged.
    moves : how often the net position in each symbol has changed.
    spent, spent_before : cash that all fills have cost, fees included, less what they earned: till now, and till the
        venue was last asked for the account. Only for a real venue.
    bought : by symbol and strategy, units bought lately for which a real venue may still take a fee in kind.
    differences : by symbol, signed units that the venue holds more than the books, as it was last compared.
    compared_at : by symbol, when the snapshot began by which it was last compared, ns of wall time.
    bought_since_snapshot : symbols in which units were bought since the last snapshot of the venue: it may hold less, by its fee.
    listeners : strategies that want to know what is reported of their orders.
    news : what was reported of those, oldest first, until it is handed out.
    misfit_protection : views whose protection may not fit their position any more, by strategy and symbol, see `Gateway`.
    """

    def __init__(
        self,
        account_label: str,
        audit: Journal,
        totals: Totals,
        lines: list[str],
        on_fill: Callable[[Fill, Position], None],
        account_view: AccountView,
        usual_time_in_force: Callable[[str], TimeInForce],
        instrument_of: Callable[[str], Instrument],
        recent_prices: RecentPrices,
        *,
        is_simulated: bool,
    ) -> None:
        self.working: dict[str, WorkingOrder] = {}
        self.outbox: dict[str, Intent] = {}
        self.brackets = Brackets()
        self.foreign: dict[str, Order] = {}
        self.now = 0
        self.reports = 0
        self.moves: dict[str, int] = {}
        self.spent = self.spent_before = ZERO
        self.bought: dict[str, dict[str, Decimal]] = {}
        self.differences: dict[str, Decimal] = {}
        self.compared_at: dict[str, int] = {}
        self.bought_since_snapshot: set[str] = set()
        self.listeners: Collection[str] = ()
        self.news: deque[News] = deque()
        self.misfit_protection: dict[tuple[str, str], LiveContext] = {}
        self._account_label = account_label
        self._audit = audit
        self._totals = totals
        self._lines = lines
        self._on_fill = on_fill
        self._account_view = account_view
        self._usual_time_in_force = usual_time_in_force
        self._instrument_of = instrument_of
        self._recent_prices = recent_prices
        self._is_simulated = is_simulated
        self._contexts: dict[tuple[str, str], LiveContext] = {}
        self._views: dict[str, list[LiveContext]] = {}
        """Contexts by symbol."""
        self._held: dict[tuple[str, str], LiveContext] = {}
        """Contexts with a position that is more than dust, see `Instrument.smallest_order`."""
        self._orders: dict[str, dict[str, WorkingOrder]] = {}
        """Working orders by symbol."""
        self._open: dict[str, dict[str, OpenOrder]] = {}
        """Working orders by symbol, as rules see them."""
        self._touched: dict[str, WorkingOrder] = {}
        """Orders that have changed since what rules read was last brought up to date."""
        self._done: dict[str, WorkingOrder] = {}
        """Orders that were done lately."""
        self._net: dict[str, Decimal] = {}
        self._exposures = Exposures(self._prices_of, self._net, self._views)
        self._reserved = ZERO
        self._sent_at: deque[int] = deque()

    def context(self, strategy: str, symbol: str) -> LiveContext:
        """The view of one strategy on one symbol: the same object from the first row on, over reloads too."""
        context = self._contexts.get((strategy, symbol))
        if context is None:
            context = self._contexts[strategy, symbol] = LiveContext(
                strategy,
                symbol,
                self._account_label,
                self._account_view,
                self._usual_time_in_force(symbol),
                self._instrument_of(symbol),
            )
            self._views.setdefault(symbol, []).append(context)
        return context

    def restore(self, positions: Mapping[tuple[str, str], Position], orders: Iterable[Order]) -> None:
        """Resume with what an earlier process recorded.

        `orders` are those that are not done, and those that were done lately, of which reports may still come; oldest
        first.
        """
        for (strategy, symbol), position in positions.items():
            self._set_position(self.context(strategy, symbol), position)
        legs, exits = [], []
        protected: set[tuple[str, str]] = set()
        for order in orders:
            intent = order.intent
            context = self.context(intent.strategy_id, intent.symbol)
            context.last_order_at = intent.decided_at
            self._sent_at.append(intent.decided_at)
            if intent.side is _BUY:
                self._count_bought(context, order.filled_quantity)
            working = WorkingOrder(order, context, ZERO)
            if intent.parent:
                legs.append(working)
            if intent.is_protection:
                protected.add((intent.strategy_id, intent.symbol))
            elif intent.is_exit and (intent.strategy_id, intent.symbol) in protected:
                working.made_room = True
                exits.append(working)
            if is_done(order.state):
                working.was_given_up = True  # so if the venue shows it open, it has to be canceled
                self._done[intent.client_order_id] = working
            else:
                self._add(working)
            if context.protections:  # the process before may have ended before it made it fit
                self.note_misfit(context)
        self.brackets.restore(legs, exits)

    # Orders and what is reported of them.

    def open_order(self, intent: Intent, context: LiveContext, price: Decimal) -> None:
        """Add an order that is about to be sent; `price` is the decision's, zero without one."""
        working = WorkingOrder(Order(intent=intent), context, price)
        self.brackets.add(working)
        self._add(working)
        self._totals.orders += 1
        self._sent_at.append(intent.decided_at)
        if len(self._sent_at) > MANY:
            self.orders_since(intent.decided_at - MINUTE)

    def open_leg(self, intent: Intent, context: LiveContext, price: Decimal) -> None:
        """Record and add a further order of a decision, besides the one that was recorded with it."""
        self._audit.record_leg(intent)
        self.open_order(intent, context, price)

    def _protect(self, entry: WorkingOrder, fill: Fill) -> None:
        """Record the orders that protect a fill of an entry, with the fill: a crash loses both or none."""
        intent = entry.order.intent
        at = max(intent.decided_at, fill.event_ts, 0 if self._is_simulated else self.now)
        number = len(entry.order.fill_ids)
        legs = intent.legs(fill, at, number)
        while any(self.find(leg.client_order_id) for leg in legs):  # taken in from the venue
            number += 1
            legs = intent.legs(fill, at, number)
        for leg in legs:
            self.open_leg(leg, entry.context, entry.price)
            self.outbox[leg.client_order_id] = leg
        self.note_misfit(entry.context)

    def note_misfit(self, context: LiveContext) -> None:
        """Note that a view's protection may not fit its position any more."""
        self.misfit_protection[context.strategy_id, context.symbol] = context

    def orders_in(self, symbol: str) -> list[WorkingOrder]:
        """The working orders in a symbol."""
        return list(self._orders.get(symbol, {}).values())

    def orders_of(self, context: LiveContext) -> list[WorkingOrder]:
        """The working orders of a view."""
        return [self.working[number] for number in context.open_orders]

    def adopt(self, order: Order, strategy: str) -> None:
        """Add an order that the venue has under an id of ours and that is not recorded here.

        A leg of a bracket joins those of its entry, of which the fill is known by now; any other order is the strategy's.
        """
        sibling = self.brackets.sibling(order.intent.client_order_id)
        terms: dict[str, Any] = {"strategy_id": strategy}
        if sibling is not None:
            terms = {name: getattr(sibling, name) for name in ("strategy_id", "purpose", "parent", "parent_fill")}
        intent = msgspec.structs.replace(order.intent, account=self._account_label, **terms)
        self.foreign.pop(intent.client_order_id, None)
        working = WorkingOrder(Order(intent=intent), self.context(intent.strategy_id, intent.symbol), ZERO)
        self.brackets.add(working)
        self._add(working)
        self.apply_status(OrderStatus(order=order))

    def open_liquidation(self, intent: Intent, reason: str) -> WorkingOrder:
        """Add an order of the venue's own, by which it closes a position for want of margin; recorded when it is reported."""
        intent = msgspec.structs.replace(intent, account=self._account_label)
        logs.warning("liquidated by the venue", symbol=intent.symbol, quantity=str(intent.quantity), reason=reason)
        working = WorkingOrder(Order(intent=intent), self.context(intent.strategy_id, intent.symbol), ZERO)
        self._add(working)
        self._totals.liquidations += 1
        return working

    def find(self, client_order_id: str) -> WorkingOrder | None:
        """An order of ours, working or done lately."""
        return self.working.get(client_order_id) or self._done.get(client_order_id)

    def was_given_up(self, client_order_id: str) -> bool:
        """Whether we took an order of ours for done before the venue had reported anything about it."""
        done = self._done.get(client_order_id)
        return done is not None and done.was_given_up

    def apply_status(self, status: OrderStatus) -> int:
        """Apply an order as the venue shows it; return how many changes that was. Foreign orders are kept apart."""
        client_order_id = status.order.intent.client_order_id
        working = self.find(client_order_id)
        if working is None:
            if is_done(status.order.state):
                self.foreign.pop(client_order_id, None)
            else:
                self.foreign[client_order_id] = status.order
            return 0
        self.outbox.pop(client_order_id, None)  # an earlier process has sent it
        return sum(self.try_report(working, report) for report in reports_of(working.order, status))

    def apply_report(self, report: Report) -> int:
        """Apply what is certain without a report of the venue, such as that an order never reached it."""
        working = self.find(report.client_order_id)
        return 0 if working is None else self.try_report(working, report)

    def try_report(self, working: WorkingOrder, report: Report) -> bool:
        """Apply a report, and return whether it changed something; an illegal one is logged and changes nothing."""
        try:
            return self.take_report(working, report)
        except IllegalTransition as error:
            self._totals.illegal_reports += 1
            logs.warning("report refused", error=str(error), client_order_id=report.client_order_id)
            return False

    def take_report(self, working: WorkingOrder, report: Report) -> bool:
        """Apply a report, and return whether it changed something.

        Raises
        ------
        IllegalTransition : the order's state does not allow it; nothing is changed.
        """
        order, context = working.order, working.context
        was = order.state
        if report.event is _CANCELED and not report.reason:
            because = working.cancel_reason
            if order.intent.parent and was is _PENDING_CANCEL:
                because = because or CLOSED
            if because:
                report = msgspec.structs.replace(report, reason=because)
        if not apply_report(order, report):
            return False  # a fill that was seen before
        self.reports += 1
        if order.intent.parent:
            self.brackets.note_change(working, was, report.fill)
        elif working.made_room:
            self.brackets.note_exit(working, was)
        if working.asked is not None and report.event in _ANSWERS:
            working.asked = None
            if order.intent.is_protection:
                self.note_misfit(context)
        if working.requested_quantity is not None and order.intent.quantity <= working.requested_quantity:
            working.requested_quantity = None
        if is_done(order.state):
            self._close(working)
        elif report.event is not _ACCEPT:
            self._update_sums(working)
        if report.fill is not None:
            report = msgspec.structs.replace(report, fill=self._apply_fill(report.fill, context, working.price))
        elif report.event is _REJECTED:
            self._totals.rejected += 1
        self._audit.record_report(self._account_label, order, report, context.position, context.strategy_id)
        self._lines.append(_line_of(order, report))
        if report.fill is not None:
            self._on_fill(report.fill, context.position)
            if order.intent.bracket is not None:
                self._protect(working, report.fill)
        if context.strategy_id in self.listeners and report.event not in _REQUESTS:
            self.news.append(News(context, order.copy(), report.fill))
        return True

    def _add(self, working: WorkingOrder) -> None:
        client_order_id, symbol = working.order.intent.client_order_id, working.context.symbol
        self.working[client_order_id] = working
        self._orders.setdefault(symbol, {})[client_order_id] = working
        working.context.open_orders[client_order_id] = working.order
        self._update_sums(working)

    def _update_sums(self, working: WorkingOrder) -> None:
        """Bring the sums over working orders up to date with this one."""
        intent, remaining = working.worst_terms
        self._touched[intent.client_order_id] = working
        if intent.side is _BUY:
            _count(working, remaining)
            if intent.limit_price is None and (not working.worst_price or working.asked is not None):
                _, _, floor, rate, distance = rung_of(intent, ZERO)
                worst = self._prices(working.context.symbol)[1] * rate + distance
                working.worst_price = max(working.worst_price, worst, floor)
            instrument = working.context.instrument
            reserve = instrument.notional(remaining, intent.limit_price or working.worst_price) * instrument.margin
            self._reserved += reserve - working.reserve
            working.reserve = reserve
        else:
            _count(working, -remaining)

    def _settle(self) -> None:
        """Bring what rules read up to date with the orders that have changed."""
        for client_order_id, working in self._touched.items():
            strategy, symbol = working.context.strategy_id, working.context.symbol
            self._exposures.discount(client_order_id)
            shown = self._open.setdefault(symbol, {})
            if client_order_id not in self.working:
                shown.pop(client_order_id, None)
                continue
            intent, remaining = working.worst_terms
            if not intent.is_exit:
                rung = rung_of(intent, remaining * working.context.instrument.multiplier)
                self._exposures.count(client_order_id, strategy, symbol, rung)
            shown[client_order_id] = OpenOrder(
                strategy_id=strategy,
                side=intent.side,
                quantity=remaining,
                order_type=intent.order_type,
                limit_price=intent.limit_price,
                stop_price=intent.stop_price,
                is_protection=intent.is_protection,
            )
        self._touched.clear()

    def _close(self, working: WorkingOrder) -> None:
        """Take an order that is done out of the sums, and keep it for a while, because a late fill of it still counts."""
        client_order_id = working.order.intent.client_order_id
        if self.working.pop(client_order_id, None) is None:
            return
        _count(working, ZERO)
        if working.reserve:
            self._reserved -= working.reserve
            working.reserve = ZERO
        self._touched[client_order_id] = working
        if working.order.intent.parent:
            self.brackets.forget_done(working.order.intent.pair)
        del self._orders[working.context.symbol][client_order_id], working.context.open_orders[client_order_id]
        if working.order.state is _FILLED and self._is_simulated:
            return  # no report of it can follow
        working.was_given_up = not working.order.venue_order_id
        self._done[client_order_id] = working
        if len(self._done) > DONE_ORDERS:
            del self._done[next(iter(self._done))]

    def _apply_fill(self, fill: Fill, context: LiveContext, price: Decimal) -> Fill:
        """Move the position by a fill; return the fill with its slippage against the decision's price."""
        self._set_position(context, apply_fill(context.position, fill, context.instrument.multiplier))
        self._totals.fills += 1
        totals = self._totals.strategies.get(context.strategy_id)
        if totals is None:  # of an earlier process
            totals = self._totals.strategies[context.strategy_id] = StrategyTotals()
        totals.fills += 1
        self._totals.fees += fill.fee
        if not self._is_simulated:
            self._pay(fill, context)
        if not price:
            return fill
        against_us = fill.price - price if fill.side is _BUY else price - fill.price
        return msgspec.structs.replace(fill, slippage=against_us)

    def _pay(self, fill: Fill, context: LiveContext) -> None:
        """Sum up what the account, as the venue last reported it, may not include yet."""
        cost = context.instrument.notional(fill.quantity, fill.price)
        if fill.side is _BUY:
            self.spent += fill.fee + cost
            self.bought_since_snapshot.add(fill.symbol)
            self._count_bought(context, fill.quantity)
        else:
            self.spent += fill.fee - cost

    def _count_bought(self, context: LiveContext, quantity: Decimal) -> None:
        bought = self.bought.setdefault(context.symbol, {})
        bought[context.strategy_id] = bought.get(context.strategy_id, ZERO) + quantity

    # Positions that change without a fill.

    def hand_over(self, strategy: str, heir: str, symbol: str) -> None:
        """Give a strategy's position and working orders in a symbol to another strategy."""
        context, other = self.context(strategy, symbol), self.context(heir, symbol)
        held = context.position
        self._record_position(
            other, add_position(other.position, held, other.instrument.multiplier), f"handed over by {strategy}"
        )
        emptied = msgspec.structs.replace(held, quantity=ZERO, average_price=ZERO)
        self._record_position(context, emptied, f"handed over to {heir}")
        for number, working in chain(self.working.items(), self._done.items()):
            if working.context is not context:
                continue
            working.context = other
            self._touched[number] = working
            order = working.order
            if not is_done(order.state) or self.brackets.has_lapsed(working):
                order.intent = msgspec.structs.replace(order.intent, strategy_id=heir)
                self._audit.record_owner(self._account_label, number, heir)
            if number in self.outbox:
                self.outbox[number] = order.intent
        other.open_orders |= context.open_orders
        context.open_orders.clear()
        other.buying += context.buying
        other.selling += context.selling
        other.protecting += context.protecting
        other.protections += context.protections
        context.buying = context.selling = context.protecting = ZERO
        context.protections = 0
        if other.protections:
            self.note_misfit(other)
        if math.isnan(other.price):
            other.price = context.price

    def adjust(self, strategy: str, symbol: str, quantity: Decimal, reason: str) -> None:
        """Add signed units that no order of ours made to a strategy's position, at their present price."""
        context = self.context(strategy, symbol)
        outside = Position(quantity, self._price(symbol))
        position = add_position(context.position, outside, context.instrument.multiplier)
        self._record_position(context, position, reason)

    def charge_interest(self, charge: Charge) -> None:
        """Record interest that the venue has charged to the account; it is no strategy's."""
        self.reports += 1
        self._totals.interest += charge.amount
        self._audit.record_charge(self._account_label, charge)

    def apply_action(self, action: CorporateAction, at: int) -> tuple[AppliedAction, Adjustment]:
        """Apply a corporate action at a time, ns, to the positions in its symbol; return what it does to them, and to the account.

        Of open orders it gives the new terms; they change when the broker reports so.
        """
        symbol, changes, cash = action.symbol, [], ZERO
        views = self._views.get(symbol, [])
        price = self._price(symbol) if views else ZERO
        for context in views:
            held = context.position
            if not held.quantity:
                continue
            after, paid = action.applied(held, context.instrument, price)
            cash += paid
            changes.append(PositionChange(strategy_id=context.strategy_id, before=held, after=after, cash=paid))
            self._record_position(context, after, f"{action}: cash {paid}" if paid else str(action))
            self._lines.append(f"action {context.strategy_id} {symbol} {action} {after.quantity!s} {paid!s}\n")
        orders = {}
        if action.is_split and views:
            self.brackets.apply_split(action)
            for context in views:
                context.price *= action.factor
            for client_order_id, working in self._orders.get(symbol, {}).items():
                working.price, working.worst_price = action.price(working.price), action.price(working.worst_price)
                working.requested_quantity = None
                intent, filled = working.asked or working.order.intent, working.order.filled_quantity
                orders[client_order_id] = action.terms(intent, filled, working.context.instrument)
            self._exposures.change(symbol)
        holdings = {each.strategy_id: each.after.quantity for each in changes if each.after.quantity}
        return (
            AppliedAction(at=at, fills=self._totals.fills, action=action, changes=tuple(changes)),
            Adjustment(action=action, at=at, price=action.price(price), holdings=holdings, cash=cash, orders=orders),
        )

    def charge_in_kind(self, symbol: str, quantity: Decimal, rate: Decimal) -> None:
        """Take units off the positions of those who hold some, in proportion: the venue has kept a share `rate` as its fee."""
        bought = self.bought[symbol]
        paid = quantity / rate
        for strategy, units in sorted(bought.items()):
            bought[strategy], paid = max(ZERO, units - paid), max(ZERO, paid - units)
        holders = self.holders(symbol)
        total = sum((context.position.quantity for context in holders), ZERO)
        left = quantity
        for number, context in enumerate(holders, start=1):
            held = context.position
            part = left if number == len(holders) else (quantity * held.quantity / total).quantize(SMALLEST_FEE_PART)
            left -= part
            fee = context.instrument.notional(part, self._price(symbol))
            position = msgspec.structs.replace(held, quantity=held.quantity - part, fees=held.fees + fee)
            self._record_position(context, position, "fee in kind")

    def _record_position(self, context: LiveContext, position: Position, reason: str) -> None:
        """Set a position otherwise than by a fill, and record why."""
        self._set_position(context, position)
        self._audit.record_position(
            self._account_label, context.strategy_id, context.symbol, position, max(self.now, context.now), reason
        )

    def _set_position(self, context: LiveContext, position: Position) -> None:
        change = position.quantity - context.position.quantity
        context.hold(position)
        symbol = context.symbol
        if change:
            self._net[symbol] = self._net.get(symbol, ZERO) + change
            self.moves[symbol] = self.moves.get(symbol, 0) + 1
            if context.protections:
                self.note_misfit(context)
        if context.side:
            self._held[context.strategy_id, symbol] = context
        else:
            self._held.pop((context.strategy_id, symbol), None)
        self._exposures.change(symbol)

    # What is held.

    @property
    def positions(self) -> dict[tuple[str, str], Position]:
        """What each strategy holds, by (strategy, symbol)."""
        contexts = list(self._contexts.items())  # threads of the admin API call this
        return {key: context.position for key, context in contexts}

    @property
    def nets(self) -> dict[str, Decimal]:
        """Signed units that the account holds by its fills, in each symbol in which that is not zero."""
        return {symbol: quantity for symbol, quantity in self._net.items() if quantity}

    def net(self, symbol: str) -> Decimal:
        """Signed units that the account holds, by its fills."""
        return self._net.get(symbol, ZERO)

    def net_at_venue(self, symbol: str) -> Decimal:
        """Signed units that the venue holds: what it showed last, and fills since."""
        return self.net(symbol) + self.differences.get(symbol, ZERO)

    @property
    def traded(self) -> set[str]:
        """Symbols in which a strategy has a view."""
        return set(self._views)

    @property
    def holding(self) -> set[str]:
        """Strategies with a position or a working order."""
        holding = {strategy for strategy, _ in self._held}
        return holding | {working.context.strategy_id for working in self.working.values()}

    @property
    def symbols(self) -> set[str]:
        """Symbols with a position or a working order."""
        return {symbol for _, symbol in self._held} | {each.context.symbol for each in self.working.values()}

    def holders(self, symbol: str) -> list[LiveContext]:
        """The views with a long position in a symbol, dust too, by strategy."""
        held = [view for view in self._views.get(symbol, ()) if view.position.quantity > 0]
        return sorted(held, key=lambda view: view.strategy_id)

    @property
    def held(self) -> list[LiveContext]:
        """The views with a position that is more than dust, by strategy and symbol."""
        return [self._held[key] for key in sorted(self._held)]

    def holds(self, strategy: str, symbols: Iterable[str]) -> bool:
        """Whether a strategy has a position or a working order in one of these symbols."""
        if any((strategy, symbol) in self._held for symbol in symbols):
            return True
        views = (self._contexts.get((strategy, symbol)) for symbol in symbols)
        return any(view is not None and view.open_orders for view in views)

    # What risk reads.

    @property
    def reserved(self) -> Decimal:
        """Buying power that working buys may take."""
        return self._reserved

    def open_orders(self, symbol: str, but: Collection[str] = ()) -> tuple[OpenOrder, ...]:
        """The account's working orders in a symbol, but some, by client order id."""
        self._settle()
        return tuple(order for number, order in self._open.get(symbol, {}).items() if number not in but)

    def exposures(self, strategy: str, but: str = "") -> tuple[Decimal, Decimal, Decimal]:
        """Notional of positions and open entries but one, unsigned: the account's, and a strategy's; and what positions are worth.

        Each at the last price of its symbol or the prices before it, whichever is worse: more for a notional, less for what
        a position is worth.
        """
        self._settle()
        if but:
            self._exposures.discount(but)
            self._touched[but] = self.working[but]
        return self._exposures.read(strategy, self._recent_prices.moved)

    def orders_since(self, since: int) -> int:
        """How many orders were sent after a time."""
        while self._sent_at and self._sent_at[0] <= since:
            self._sent_at.popleft()
        return len(self._sent_at)

    def _prices(self, symbol: str) -> tuple[Decimal, Decimal]:
        """The newest price and that of the prices before it, the lower first."""
        price, recent = self._price(symbol), self._recent_prices.before(symbol)
        if recent is None:
            return price, price
        return min(price, recent), max(price, recent)

    def _prices_of(self, symbols: Sequence[str]) -> Iterable[tuple[Decimal, Decimal]]:
        """`_prices` of each of some symbols."""
        if len(symbols) <= FEW:
            return map(self._prices, symbols)
        newest = np.array([_newest(self._views[symbol]).price for symbol in symbols])
        before = self._recent_prices.before_all(symbols)
        low, high = np.fmin(newest, before).tolist(), np.fmax(newest, before).tolist()
        lows, highs = list(map(money, low)), list(map(money, high))
        for place in np.flatnonzero(newest != newest).tolist():
            lows[place], highs[place] = self._prices(symbols[place])
        return zip(lows, highs, strict=True)

    def _price(self, symbol: str) -> Decimal:
        """The newest price that any strategy was shown of a symbol; where there was none, what was paid."""
        views = self._views[symbol]
        price = _newest(views).price
        return money(price) if price == price else max(view.position.average_price for view in views)


def _newest(views: list[LiveContext]) -> LiveContext:
    """The view of a symbol that was shown its newest price."""
    return views[0] if len(views) == 1 else max(views, key=lambda view: (view.price == view.price, view.now))


def _count(working: WorkingOrder, rest: Decimal) -> None:
    """Count in its view that an order would still add `rest` signed units."""
    context, intent = working.context, working.order.intent
    before, working.open_quantity = working.open_quantity, rest
    change = rest - before
    if intent.is_protection:
        context.protecting += change
        context.protections += bool(rest) - bool(before)
    elif intent.side is _BUY:
        context.buying += change
    else:
        context.selling -= change


def _line_of(order: Order, report: Report) -> str:
    """What the digest sees of a report: the order and the fill, without ids."""
    intent = order.intent
    fill = report.fill
    done = "" if fill is None else f" {fill.quantity!s} {fill.price!s} {fill.fee!s}"
    return (  # a member of an enum, and a decimal, are slow to format
        f"order {intent.strategy_id} {intent.symbol} {intent.side!s} {intent.quantity!s} {report.event!s} "
        f"{report.event_ts}{done}\n"
    )
