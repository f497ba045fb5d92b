"""The orders that are out, what the broker says of them, and the positions that they make.

A working order belongs to one strategy's view of one symbol (`Context`); its fills go there. A simulated broker is shown
the event stream before it is asked, so that orders have met every event up to the loop's position, and no later one. An
order to a real venue waits in the `outbox` until its intent is durable.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain
from zoneinfo import ZoneInfo

import msgspec

from torghut_core.errors import IllegalTransition
from torghut_core.model.market import Batch
from torghut_core.model.order_state import TRANSITIONS, apply_report, is_done, reports_of
from torghut_core.model.positions import add_position, apply_fill
from torghut_core.model.trading import (
    ZERO,
    Account,
    Fill,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    OrderStatus,
    Position,
    Purpose,
    Report,
    Side,
    money,
)
from torghut_core.ports import AccountView, AuditStore, Broker, Context, OpenOrder
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE, from_datetime, to_datetime
from torghut_core.trading.subscription import StrategyTotals

FINEST = Decimal("1E-9")
"""Finest part of a unit."""

MANY = 1024
"""Of more orders than this, those that were sent more than a minute ago are forgotten."""

LATE_FILLS = 10_000
"""So many orders that are done are remembered, for news of them that was under way."""


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
    open_quantity: Decimal = ZERO
    """Signed units that the order would still add to the position."""
    reserve: Decimal = ZERO
    """Cash that these may cost, of a buy."""
    was_given_up: bool = False
    """Whether it was done before the venue had said a word of it."""


# Reached for every report; a member of an enum, reached through its class, is slow in Python 3.11.
_BUY = Side.BUY
_ACCEPT, _REJECTED = OrderEvent.ACCEPT, OrderEvent.REJECTED
_FILLED = OrderState.FILLED
_OUR_ACTS = (OrderEvent.SUBMIT, OrderEvent.CANCEL_REJECTED, OrderEvent.REPLACE_REJECTED)
"""What an executor tells of its own requests: no news where the order has meanwhile gone on."""


class Books(AccountView):
    """Orders and positions on one account.

    Parameters
    ----------
    broker : the truth about orders; of a real venue the `Executor` before it.
    label : the account under which everything is written down.
    audit : where it is written down.
    totals : where it is counted.
    lines : where the digest's lines go.
    on_fill : told each fill and the strategy's position after it.
    permits : the last look, right before an order goes to a simulated broker: why it may not leave, "" when it may.

    Attributes
    ----------
    working : the orders that are out, by client order id.
    outbox : orders to a real venue that are not on their way yet.
    position, now : what the loop has reached in the stream, and its time, ns.
    last_account : the account when it was last asked for.
    day_start_equity, day_low_equity : equity when the account's day began, or when the loop did; and the least that was
        seen since.
    bought : by symbol and strategy, units bought lately for which the venue may still keep a fee in kind.
    moves : how often the net position in each symbol has changed, at a real venue.
    spent, spent_before : cash that all fills have cost, fees included, less what they brought: till now, and till the
        venue was last asked for the account.
    strangers : orders at the venue that nobody here made, by client order id, as they were last shown.
    """

    def __init__(
        self,
        broker: Broker,
        label: str,
        audit: AuditStore,
        totals: Totals,
        lines: list[str],
        on_fill: Callable[[Fill, Position], None],
        permits: Callable[[Intent], str] | None = None,
    ) -> None:
        self.working: dict[str, Working] = {}
        self.outbox: list[Intent] = []
        self.foreign: dict[str, Order] = {}
        self.moves: dict[str, int] = {}
        self.spent = self.spent_before = ZERO
        self.position = 0
        self.now = 0
        self.last_account = broker.account()
        self.day_start_equity = self.last_account.day_start_equity or self.last_account.equity
        self.day_low_equity = min(self.day_start_equity, self.last_account.equity)
        self.bought: dict[str, dict[str, Decimal]] = {}
        self._broker = broker
        self._is_simulated = broker.capabilities.simulated
        self._label = label
        self._audit = audit
        self._totals = totals
        self._lines = lines
        self._on_fill = on_fill
        self._permits = permits
        self._contexts: dict[tuple[str, str], Context] = {}
        self._views: dict[str, list[Context]] = {}
        """Contexts by symbol."""
        self._marks: dict[str, tuple[float, Decimal]] = {}
        """By symbol, the last price that was made a decimal of."""
        self._held: dict[tuple[str, str], Context] = {}
        """Contexts with a position."""
        self._orders: dict[str, dict[str, Working]] = {}
        """Working orders by symbol."""
        self._ended: dict[str, Working] = {}
        self._net: dict[str, Decimal] = {}
        self._reserved = ZERO
        self._sent_at: deque[int] = deque()
        self._batch: Batch | None = None
        self._shown = 0
        self._zone = ZoneInfo(broker.day_zone)
        self._day_ends = 0

    def context(self, strategy: str, symbol: str) -> Context:
        """The view of one strategy on one symbol: the same object from the first row on, over reloads too."""
        context = self._contexts.get((strategy, symbol))
        if context is None:
            usual = self._broker.usual_time_in_force(symbol)
            context = self._contexts[strategy, symbol] = Context(strategy, symbol, self._label, self, usual)
            self._views.setdefault(symbol, []).append(context)
        return context

    def restore(self, positions: Mapping[tuple[str, str], Position], orders: Iterable[Order]) -> None:
        """Go on where an earlier process was: with what it had written down.

        `orders` are those that are not done, and those that were done lately, of which there may be news; oldest first.
        """
        for (strategy, symbol), position in positions.items():
            self._put(self.context(strategy, symbol), position)
        for order in orders:
            intent = order.intent
            context = self.context(intent.strategy_id, intent.symbol)
            context.last_order_at = intent.decided_at
            self._sent_at.append(intent.decided_at)
            if intent.side is _BUY:
                self._note_bought(context, order.filled_quantity)
            if is_done(order.state):  # so if it works at the venue, it should not
                self._ended[intent.client_order_id] = Working(order, context, ZERO, was_given_up=True)
            else:
                self._add(Working(order, context, ZERO))

    # The way through the stream.

    def begin(self, batch: Batch) -> None:
        """Go over to the next batch."""
        self._batch = batch
        self._shown = batch.start
        if not self._day_ends:
            self._day_ends = self._midnight(int(batch.now[0]))

    def advance_to(self, stop: int) -> None:
        """Let orders meet the events before `stop`, and take in what the broker reports."""
        self._show(stop)
        self.apply_updates()

    def finish(self, batch: Batch) -> None:
        """Let orders meet the rest of the batch."""
        self.position = batch.stop - 1
        self.now = int(batch.now[-1])
        self.advance_to(batch.stop)
        self._batch = None

    def _show(self, stop: int) -> None:
        """Show the broker the events before `stop` that it has not seen; note the equity at each midnight on the way."""
        batch = self._batch
        if batch is None or stop <= self._shown:
            return
        while batch.now.item(stop - 1 - batch.start) >= self._day_ends:
            first = batch.start + int(batch.now.searchsorted(self._day_ends))
            if first > self._shown:
                self._broker.advance(batch, self._shown, first)
                self._shown = first
            account = self._broker.account()
            self.day_start_equity = account.day_start_equity or account.equity
            self.day_low_equity = account.equity
            self._day_ends = self._midnight(batch.now.item(first - batch.start))
        self._broker.advance(batch, self._shown, stop)
        self._shown = stop

    def _midnight(self, now: int) -> int:
        """The first midnight of the account's zone after a time."""
        day = to_datetime(now).astimezone(self._zone).date() + timedelta(days=1)
        return from_datetime(datetime(day.year, day.month, day.day, tzinfo=self._zone))

    # What is asked.

    def send(self, intent: Intent, context: Context, price: Decimal) -> None:
        """Hand an order, whose intent is written down, to the broker; `price` is the decision's, zero without one.

        To a real venue it leaves at the next `dispatch`.
        """
        self._show(self.position + 1)
        number = intent.client_order_id
        self._add(Working(Order(intent=intent), context, price))
        self._totals.orders += 1
        self._sent_at.append(intent.decided_at)
        if len(self._sent_at) > MANY:
            self.orders_since(intent.decided_at - MINUTE)
        if not self._is_simulated:
            self.outbox.append(intent)
            return
        refusal = self._permits(intent) if self._permits is not None else ""
        if refusal:
            self._take_back(number, refusal)
            return
        self._broker.submit(intent)
        self.apply_updates()

    def dispatch(self, refusal: Callable[[Intent], str] = lambda _intent: "") -> None:
        """Let what is in the outbox go, but what `refusal` gives a reason for: that is taken back."""
        leaving, self.outbox = self.outbox, []
        for intent in leaving:
            reason = refusal(intent)
            if intent.client_order_id not in self.working:
                continue  # it was canceled before it left
            if reason:
                self._take_back(intent.client_order_id, reason)
            else:
                self._broker.submit(intent)

    def _take_back(self, number: str, reason: str) -> None:
        working = self.working[number]
        at = max(self.now, working.order.intent.decided_at)
        reason = f"not sent: {reason}"
        self._take(working, Report(client_order_id=number, event=OrderEvent.CANCELED, event_ts=at, reason=reason))

    def cancel(self, strategy: str | None = None, symbol: str | None = None, *, but_exits: bool = False) -> None:
        """Ask that orders be canceled: all, or those of a strategy, in a symbol; `but_exits` leaves exits working."""
        for number, working in list(self.working.items()):
            intent = working.order.intent
            if strategy not in (None, working.context.strategy_id) or symbol not in (None, working.context.symbol):
                continue
            if working.order.state is OrderState.PENDING_CANCEL or (but_exits and intent.purpose is not Purpose.ENTRY):
                continue
            if intent in self.outbox:
                self._take_back(number, "canceled before it left")
                continue
            if not self._is_simulated:
                self._take(working, Report(client_order_id=number, event=OrderEvent.CANCEL, event_ts=self.now))
            self._broker.cancel(number)
        self.apply_updates()

    # What is told.

    def apply_updates(self) -> int:
        """Take in what the broker tells; give how much of it was news."""
        heard = 0
        for news in self._broker.updates():
            if not isinstance(news, Report):
                heard += self.apply_status(news)
                continue
            working = self.working.get(news.client_order_id) or self._ended.get(news.client_order_id)
            if working is None:
                logs.warning("report of an unknown order", client_order_id=news.client_order_id, said=news.event)
            elif self._is_simulated or news.event not in _OUR_ACTS or news.event in TRANSITIONS[working.order.state]:
                heard += self._try(working, news)
        return heard

    def apply_status(self, status: OrderStatus) -> int:
        """Take in how the venue shows an order; give how much of it was news. Orders of others are kept as strangers."""
        number = status.order.intent.client_order_id
        working = self._known(number)
        if working is None:
            if is_done(status.order.state):
                self.foreign.pop(number, None)
            else:
                self.foreign[number] = status.order
            return 0
        return sum(self._try(working, report) for report in reports_of(working.order, status))

    def apply_report(self, report: Report) -> int:
        """Take in what is certain by other means than the venue's word, such as that an order never reached it."""
        working = self._known(report.client_order_id)
        return 0 if working is None else self._try(working, report)

    def adopt(self, order: Order, strategy: str) -> None:
        """Take in an order that the venue has under an id of ours, and that is not written down here."""
        intent = msgspec.structs.replace(order.intent, account=self._label, strategy_id=strategy)
        self.foreign.pop(intent.client_order_id, None)
        self._add(Working(Order(intent=intent), self.context(strategy, intent.symbol), ZERO))
        self.apply_status(OrderStatus(order=order))

    def knows(self, number: str) -> bool:
        """Whether an order, working or just done, is one of ours."""
        return self._known(number) is not None

    def was_given_up(self, number: str) -> bool:
        """Whether an order of ours was taken for done without a word of the venue."""
        ended = self._ended.get(number)
        return ended is not None and ended.was_given_up

    def _known(self, number: str) -> Working | None:
        return self.working.get(number) or self._ended.get(number)

    def _try(self, working: Working, report: Report) -> bool:
        """Take in a report; one that cannot be is told of, and changes nothing."""
        try:
            return self._take(working, report)
        except IllegalTransition as error:
            self._totals.illegal_reports += 1
            logs.warning("report refused", error=str(error), client_order_id=report.client_order_id)
            return False

    def account(self) -> Account:
        """The account at the position that the loop has reached."""
        self._show(self.position + 1)
        account = self._broker.account()
        if not self._is_simulated and self.spent > self.spent_before:
            spent = self.spent - self.spent_before  # the venue's word on the account is older than these fills
            account = msgspec.structs.replace(
                account, cash=account.cash - spent, buying_power=account.buying_power - spent
            )
        self.day_low_equity = min(self.day_low_equity, account.equity)
        self.last_account = account
        return account

    def refresh(self) -> None:
        """Ask for the account for whoever looks on; between two batches."""
        self.last_account = self._broker.account()

    @property
    def positions(self) -> dict[tuple[str, str], Position]:
        """What each strategy holds, by (strategy, symbol)."""
        return {
            key: context.position for key, context in list(self._contexts.items())
        }  # threads of the admin API read it

    @property
    def nets(self) -> dict[str, Decimal]:
        """Signed units that the account holds by its fills, in each symbol in which that is not zero."""
        return {symbol: quantity for symbol, quantity in self._net.items() if quantity}

    @property
    def holding(self) -> set[str]:
        """Strategies that hold a position or have an order out."""
        holding = {strategy for strategy, _ in self._held}
        return holding | {working.context.strategy_id for working in self.working.values()}

    @property
    def symbols(self) -> set[str]:
        """Symbols in which something is held or an order is out."""
        return {symbol for _, symbol in self._held} | {each.context.symbol for each in self.working.values()}

    @property
    def held(self) -> list[Context]:
        """The views in which something is held, by strategy and symbol."""
        return [self._held[key] for key in sorted(self._held)]

    def holds(self, strategy: str, symbols: Iterable[str]) -> bool:
        """Whether a strategy has a position or an order in one of these symbols."""
        if any((strategy, symbol) in self._held for symbol in symbols):
            return True
        return any(
            working.context.strategy_id == strategy
            for symbol in symbols
            for working in self._orders.get(symbol, {}).values()
        )

    def net(self, symbol: str) -> Decimal:
        """Signed units that the account holds, by its fills."""
        return self._net.get(symbol, ZERO)

    # What risk looks at.

    @property
    def reserved(self) -> Decimal:
        """Cash that working buys may cost."""
        return self._reserved

    def open_orders(self, symbol: str) -> tuple[OpenOrder, ...]:
        """The account's working orders in a symbol."""
        working = self._orders.get(symbol)
        if not working:
            return ()
        return tuple(
            OpenOrder(
                strategy_id=each.context.strategy_id,
                side=each.order.intent.side,
                quantity=abs(each.open_quantity),
                order_type=each.order.intent.order_type,
                limit_price=each.order.intent.limit_price,
                stop_price=each.order.intent.stop_price,
            )
            for each in working.values()
        )

    def exposures(self, strategy: str) -> tuple[Decimal, Decimal]:
        """Notional of positions and working orders, unsigned, at the last prices: the account's, and one strategy's."""
        gross = own = ZERO
        for symbol, net in self._net.items():
            if net:
                gross += abs(net) * self._price(symbol)
        for (name, symbol), context in self._held.items():
            if name == strategy:
                own += abs(context.position.quantity) * self._price(symbol)
        for working in self.working.values():
            intent = working.order.intent
            price = intent.limit_price or intent.stop_price or self._price(intent.symbol)
            notional = abs(working.open_quantity) * price
            gross += notional
            if working.context.strategy_id == strategy:
                own += notional
        return gross, own

    def _price(self, symbol: str) -> Decimal:
        """The newest price that any strategy was shown of a symbol; where there was none, what was paid."""
        views = self._views[symbol]
        newest = views[0] if len(views) == 1 else max(views, key=lambda view: (view.price == view.price, view.now))
        price = newest.price
        if price != price:
            return max((view.position.average_price for view in views), default=ZERO)
        mark = self._marks.get(symbol)
        if mark is None or mark[0] != price:
            mark = self._marks[symbol] = price, money(price)
        return mark[1]

    def orders_since(self, since: int) -> int:
        """How many orders were sent after a time."""
        while self._sent_at and self._sent_at[0] <= since:
            self._sent_at.popleft()
        return len(self._sent_at)

    # What moves.

    def hand_over(self, strategy: str, heir: str, symbol: str) -> None:
        """Give a strategy's position and working orders in a symbol to another strategy."""
        context, other = self.context(strategy, symbol), self.context(heir, symbol)
        held = context.position
        self._move(other, add_position(other.position, held), f"handed over by {strategy}")
        gone = msgspec.structs.replace(held, quantity=ZERO, average_price=ZERO)
        self._move(context, gone, f"handed over to {heir}")
        for working in chain(self.working.values(), self._ended.values()):
            if working.context is context:
                working.context = other
        other.working += context.working
        context.working = ZERO
        if math.isnan(other.price):
            other.price = context.price

    def adjust(self, strategy: str, symbol: str, quantity: Decimal, reason: str) -> None:
        """Add signed units to a strategy's position that no order of ours made, at the price that they are worth."""
        context = self.context(strategy, symbol)
        outside = Position(quantity, self._price(symbol))
        self._move(context, add_position(context.position, outside), reason)

    def _pay(self, fill: Fill, context: Context) -> None:
        """Keep account of what the venue's word on the account may not have in it yet."""
        cost = fill.quantity * fill.price
        if fill.side is _BUY:
            self.spent += fill.fee + cost
            self._note_bought(context, fill.quantity)
        else:
            self.spent += fill.fee - cost

    def _note_bought(self, context: Context, quantity: Decimal) -> None:
        bought = self.bought.setdefault(context.symbol, {})
        bought[context.strategy_id] = bought.get(context.strategy_id, ZERO) + quantity

    def charge(self, symbol: str, quantity: Decimal, rate: Decimal) -> None:
        """Take units off the positions of those who bought them: the venue has kept them, a share `rate`, as its fee."""
        bought = self.bought[symbol]
        total = sum(bought.values(), ZERO)
        left = quantity
        for number, (strategy, units) in enumerate(sorted(bought.items()), start=1):
            part = left if number == len(bought) else (quantity * units / total).quantize(FINEST)
            left -= part
            bought[strategy] = max(ZERO, units - part / rate)
            context = self.context(strategy, symbol)
            held = context.position
            position = msgspec.structs.replace(
                held, quantity=held.quantity - part, fees=held.fees + part * self._price(symbol)
            )
            self._move(context, position, "fee in kind")

    def _move(self, context: Context, position: Position, reason: str) -> None:
        """Set a position otherwise than by a fill, and write it down."""
        self._put(context, position)
        self._audit.record_position(
            self._label, context.strategy_id, context.symbol, position, max(self.now, context.now), reason
        )

    def _put(self, context: Context, position: Position) -> None:
        change = position.quantity - context.position.quantity
        context.position = position
        symbol = context.symbol
        if change:
            self._net[symbol] = self._net.get(symbol, ZERO) + change
            if not self._is_simulated:
                self.moves[symbol] = self.moves.get(symbol, 0) + 1
        if position.quantity:
            self._held[context.strategy_id, symbol] = context
        else:
            self._held.pop((context.strategy_id, symbol), None)

    def _add(self, working: Working) -> None:
        number, symbol = working.order.intent.client_order_id, working.context.symbol
        self.working[number] = working
        self._orders.setdefault(symbol, {})[number] = working
        self._weigh(working)

    def _weigh(self, working: Working) -> None:
        """Keep the sums of what works up to date."""
        order = working.order
        rest = order.remaining if order.intent.side is _BUY else -order.remaining
        working.context.working += rest - working.open_quantity
        working.open_quantity = rest
        reserve = ZERO
        if rest and order.intent.side is _BUY:
            reserve = rest * (order.intent.limit_price or working.price)
        if reserve is not working.reserve:
            self._reserved += reserve - working.reserve
            working.reserve = reserve

    def _take(self, working: Working, report: Report) -> bool:
        order, context = working.order, working.context
        if not apply_report(order, report):
            return False  # a fill that was seen before
        if is_done(order.state):
            self._end(working)
        elif report.event is not _ACCEPT:
            self._weigh(working)
        if report.fill is not None:
            report = msgspec.structs.replace(report, fill=self._fold(report.fill, context, working.price))
        elif report.event is _REJECTED:
            self._totals.rejected += 1
        self._audit.record_report(self._label, order, report, context.position, context.strategy_id)
        self._lines.append(_line_of(order, report))
        if report.fill is not None:
            self._on_fill(report.fill, context.position)
        return True

    def _end(self, working: Working) -> None:
        """Keep an order that is done for a while, because a late fill of it still counts."""
        number = working.order.intent.client_order_id
        if self.working.pop(number, None) is None:
            return
        working.context.working -= working.open_quantity
        working.open_quantity = ZERO
        if working.reserve:
            self._reserved -= working.reserve
            working.reserve = ZERO
        del self._orders[working.context.symbol][number]
        if working.order.state is _FILLED and self._is_simulated:
            return  # nothing can come of it any more
        working.was_given_up = not working.order.venue_order_id
        self._ended[number] = working
        if len(self._ended) > LATE_FILLS:
            del self._ended[next(iter(self._ended))]

    def _fold(self, fill: Fill, context: Context, price: Decimal) -> Fill:
        self._put(context, apply_fill(context.position, fill))
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


def _line_of(order: Order, report: Report) -> str:
    """What the digest sees of a report: the order and the fill, without ids."""
    intent = order.intent
    fill = report.fill
    done = "" if fill is None else f" {fill.quantity} {fill.price} {fill.fee}"
    return (
        f"order {intent.strategy_id} {intent.symbol} {intent.side} {intent.quantity} {report.event} "
        f"{report.event_ts}{done}\n"
    )
