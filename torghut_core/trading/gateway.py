"""The way to a broker: sends orders and cancels, applies the updates to the books, reads the account.

A simulated broker is shown the event stream before it is asked anything, so that orders have met every event up to the
loop's position, and no later one; it fills in the loop's thread, so a sent order's reports are applied at once. An order
to a real venue waits in an outbox until its intent is durable (`dispatch`), and its reports come when they come.

Two kinds of order wait longer. An exit waits until the orders that protected its position are canceled or smaller, and
entries on its side that a close takes back: a venue keeps the units of a stop from being sold by anything else. And the
second leg of an order from long to short, or from short to long, waits until the first has filled; where the first does
not, it is never sent.

**Protection** (stops and take-profits that only reduce a position) is never larger than what is held and is not being sold
already: when a position shrinks it is made smaller, and canceled when the position is gone. The legs of a bracket come with
the fills of their entry (`Books`); those of one fill are a pair, of which each loses what the other fills, and all pairs
together protect what is held once: of what a strategy sells otherwise the oldest pair is released first. What is too large
is found in `protection`, what belongs together in `brackets`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import ClassVar
from zoneinfo import ZoneInfo

import msgspec

from torghut_core.model.corporate_actions import AppliedAction, CorporateAction
from torghut_core.model.market import Batch
from torghut_core.model.order_state import TRANSITIONS, is_done
from torghut_core.model.trading import (
    ZERO,
    Account,
    Cancel,
    Charge,
    Decision,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Purpose,
    Report,
    TimeInForce,
    client_order_id,
)
from torghut_core.ports import LiveContext, OrderEntry
from torghut_core.telemetry import logs
from torghut_core.timestamps import EARLIEST, SECOND, SYSTEM_CLOCK, Clock, from_datetime, to_datetime
from torghut_core.trading.books import Books
from torghut_core.trading.brackets import CLOSED, MADE_WAY, TOO_LARGE, renewed_id
from torghut_core.trading.protection import closable, reaches, too_large
from torghut_core.trading.working_order import WorkingOrder

REACH_AGAIN = 5 * SECOND
"""How long after a stop has made way for its take-profit it does so again, where that was not filled, ns of loop time."""

SNAPSHOT_WAIT_S = 5.0
"""How long an exit waits for a snapshot of the venue, seconds."""

_CHANGING = (OrderState.PENDING_CANCEL, OrderState.PENDING_REPLACE)


def _is_in_the_way(order: Order, exit_: Intent) -> bool:
    """Whether an order of the same strategy uses the units that an exit is to close.

    Its protection does, and so does an entry on the exit's side.
    """
    intent = order.intent
    return intent.is_protection or (intent.side is exit_.side and not intent.is_exit)


class Gateway:
    """Orders of one account on their way to its broker, and the broker's updates on their way to the books.

    Parameters
    ----------
    broker : the truth about orders; of a real venue the `Executor` before it.
    books : of the account.

    Attributes
    ----------
    at : position in the stream that the loop has reached.
    quiet_to : position in the batch up to which the broker has nothing to report, as long as nothing is asked of it.
    outbox : orders that are recorded and not sent yet, by client order id.
    request_snapshot : asks for a snapshot of the venue, at once.
    may_liquidate : see `OrderEntry`.
    on_news : called when `Books.news` has something, with the loop's time, ns.
    last_account : the account when it was last asked for.
    day_start_equity, day_low_equity : equity when the account's day began, or when the loop did; and the least that was
        seen since.
    """

    own_events: ClassVar[tuple[OrderEvent, ...]] = ()
    """Reports of our own requests: ignored where the order has since moved on."""

    def __init__(self, broker: OrderEntry, books: Books) -> None:
        self.books = books
        self.at = self.quiet_to = 0
        self.outbox = books.outbox
        self.request_snapshot: Callable[[], None] = lambda: None
        self.on_news: Callable[[int], None] = lambda _now: None
        self.may_liquidate = broker.may_liquidate
        self._broker = broker
        self._firsts: dict[str, WorkingOrder] = {}
        """By the client order id of a second leg, the first, which has to fill before."""
        self._batch: Batch | None = None
        self._shown = 0
        """Position up to which the broker was shown the stream."""
        self._zone = ZoneInfo(broker.day_zone)
        self.begin_day()

    def begin_day(self) -> None:
        """Begin the account's day with what the broker reports now."""
        self.last_account = self._broker.account()
        self.day_start_equity = self.last_account.day_start_equity or self.last_account.equity
        self.day_low_equity = min(self.day_start_equity, self.last_account.equity)
        self._day_ends = 0

    # The way through the stream.

    def begin(self, batch: Batch, traded_to: int = EARLIEST) -> None:
        """Start the next batch; its events until the loop time `traded_to`, ns, were traded by an earlier process."""
        self._batch = batch
        self._shown = batch.start
        if batch.now.item(0) <= traded_to:  # open orders have met them
            self._shown += int(batch.now.searchsorted(traded_to, "right"))
        if not self._day_ends:
            self._day_ends = self._midnight(int(batch.now[0]))

    def advance_to(self, stop: int) -> None:
        """Let orders meet the events before `stop`, and apply what the broker reports."""
        self._show(stop)
        self._respond()
        batch = self._batch
        if batch is not None and stop < batch.stop and (self.books.working or self.may_liquidate):
            self.quiet_to = self._broker.quiet_to(batch, stop)

    def finish(self, batch: Batch) -> None:
        """Let orders meet the rest of the batch."""
        self.at = batch.stop - 1
        self.advance_to(batch.stop)
        self.books.now = int(batch.now[-1])
        self._batch = None

    def _show(self, stop: int) -> None:
        """Show the broker the events before `stop` that it has not seen; note the equity at each midnight on the way."""
        batch = self._batch
        if batch is None or stop <= self._shown:
            return
        while batch.now.item(stop - 1 - batch.start) >= self._day_ends:
            first = batch.start + int(batch.now.searchsorted(self._day_ends))
            self._show_same_day(batch, first)
            self._respond()
            account = self._broker.account()
            self.day_start_equity = account.day_start_equity or account.equity
            self.day_low_equity = account.equity
            self._day_ends = self._midnight(batch.now.item(first - batch.start))
        self._show_same_day(batch, stop)

    def _show_same_day(self, batch: Batch, stop: int) -> None:
        """Show events, and respond to each report of the broker before it sees more."""
        while self._shown < stop:
            self._shown = self._broker.advance_to_report(batch, self._shown, stop)
            if self._shown < stop:
                self._respond()

    def _respond(self) -> None:
        """Apply what the broker reports of the last event that it was shown, and hand it out there."""
        self.apply_updates()
        if self.books.news:
            at, self.at = self.at, self._shown - 1
            self.on_news(self._now)
            self.at = at

    def _midnight(self, now: int) -> int:
        """The first midnight of the account's zone after a time."""
        day = to_datetime(now).astimezone(self._zone).date() + timedelta(days=1)
        return from_datetime(datetime(day.year, day.month, day.day, tzinfo=self._zone))

    @property
    def _now(self) -> int:
        """Loop time of the last event that the broker was shown, ns."""
        batch = self._batch
        if batch is None or self._shown <= batch.start:
            return self.books.now
        return batch.now.item(self._shown - 1 - batch.start)

    # The account.

    def account(self) -> Account:
        """The account at the position that the loop has reached."""
        self._show(self.at + 1)
        account = self.last_account = self._broker.account()
        self.day_low_equity = min(self.day_low_equity, account.equity)
        return account

    def refresh(self) -> None:
        """Read the account for `last_account`; between two batches."""
        self.last_account = self._broker.account()

    # Orders.

    def send(
        self,
        intent: Intent,
        context: LiveContext,
        price: Decimal,
        second: Intent | None = None,
        *,
        is_close: bool = False,
    ) -> None:
        """Send an order whose intent is recorded, as soon as it may leave.

        Parameters
        ----------
        price : the decision's, zero without one.
        second : the second leg, which is sent once the first has filled.
        is_close : all protection of the position is canceled first, and entries that would sell what is held.
        """
        self._show(self.at + 1)
        books = self.books
        books.open_order(intent, context, price)
        self.outbox[intent.client_order_id] = intent
        if second is not None:
            books.open_leg(second, context, price)
            self._firsts[second.client_order_id] = books.working[intent.client_order_id]
            self.outbox[second.client_order_id] = second
        if is_close and intent.is_exit:
            for working in books.orders_of(context):
                is_own = working.order.intent is intent or working.order.intent is second
                if not is_own and _is_in_the_way(working.order, intent):
                    self._request_cancel(working)
        if context.protections and intent.is_exit:
            books.working[intent.client_order_id].made_room = True
            books.note_misfit(context)
            self._fit_protection()

    def resume(self, orders: Sequence[Order]) -> None:
        """Take over open orders of an earlier process, whose last requests are perhaps lost.

        Cancels are repeated, replacements count as refused, and legs that were not sent wait in the outbox.
        """
        for order in orders:
            client_order_id, at = order.intent.client_order_id, order.updated_at
            if order.state is OrderState.PENDING_CANCEL and order.venue_order_id:
                self._broker.cancel(client_order_id)
            elif order.state is OrderState.PENDING_REPLACE:
                lost = Report(client_order_id=client_order_id, event=OrderEvent.REPLACE_REJECTED, event_ts=at)
                self.books.apply_report(msgspec.structs.replace(lost, reason="the process that asked for it has ended"))
            if order.is_unsent_leg:
                self.outbox[client_order_id] = order.intent

    def renew_legs(self, refusal: Callable[[Intent], str] = lambda _intent: "") -> None:
        """Record legs of brackets anew that have lapsed, as far as they can be sent: they wait in the outbox.

        One that `refusal` gives a reason for stays lapsed.
        """
        books = self.books
        for leg, left in books.brackets.renewable():
            intent, context = leg.order.intent, leg.context
            most = min(left, closable(books, leg, self._firsts))
            quantity = context.instrument.whole(max(ZERO, most))
            if quantity and quantity >= context.smallest_order and not refusal(intent):
                anew = self._open_again(leg, msgspec.structs.replace(intent, quantity=quantity))
                anew.is_reached = False
                books.note_misfit(context)

    def dispatch(self, refusal: Callable[[Intent], str] = lambda _intent: "") -> None:
        """Send what waits in the outbox and may leave; an order that `refusal` gives a reason for is canceled instead."""
        if self.books.misfit_protection:  # a snapshot of the venue may have changed what is held
            self._fit_protection()
        waiting = list(self.outbox.values())
        self.outbox.clear()
        for intent in waiting:
            working = self.books.working.get(intent.client_order_id)
            if working is None:
                self._firsts.pop(intent.client_order_id, None)  # it was canceled before it was sent
                continue
            if not self._is_due(working):
                self.outbox[intent.client_order_id] = intent
                continue
            reason = refusal(intent)
            if reason:
                self._cancel_unsent(working, reason)
            elif not intent.is_exit or self._fits(working):
                self._broker.submit(self._stamped(intent))

    def _stamped(self, intent: Intent) -> Intent:
        """The order as it is sent."""
        return intent

    def _is_due(self, working: WorkingOrder) -> bool:
        """Whether nothing has to happen before an order is sent; one whose first leg did not fill is canceled."""
        intent, context = working.order.intent, working.context
        if intent.is_exit:
            return not any(
                order.state in _CHANGING and _is_in_the_way(order, intent) for order in context.open_orders.values()
            )
        first = self._firsts.get(intent.client_order_id)
        if first is None:
            return True
        if is_done(first.order.state):
            del self._firsts[intent.client_order_id]
            if first.order.state is not OrderState.FILLED:
                self._cancel_unsent(working, "the first leg did not fill")
                return False
            return True
        return False

    def _fits(self, working: WorkingOrder) -> bool:
        """Whether all that an exit would close is still held; one that is too large is sent again, as large as it may be."""
        left = closable(self.books, working, self._firsts)
        if working.order.intent.quantity <= left:
            return True
        self._cut_unsent(working, max(ZERO, left))
        return False

    def _cut_unsent(self, working: WorkingOrder, left: Decimal) -> None:
        """Cancel an exit that was not sent and is too large, and record it anew, as large as it may be."""
        intent, context = working.order.intent, working.context
        quantity = context.instrument.whole(left)
        self._cancel_unsent(working, f"{quantity} of {intent.quantity} can still be closed")
        if quantity and quantity >= context.smallest_order:
            self._open_again(working, msgspec.structs.replace(intent, quantity=quantity))

    def _open_again(self, working: WorkingOrder, terms: Intent) -> WorkingOrder:
        """Record an order on these terms in the place of one that was not sent, or has lapsed; it waits in the outbox."""
        new_id, numbers = terms.client_order_id, count(2)
        while self.books.find(new_id) is not None:
            new_id = renewed_id(new_id) if terms.parent else client_order_id(terms.decision_hash, next(numbers))
        decided_at = max(self._now, terms.decided_at)
        intent = msgspec.structs.replace(terms, client_order_id=new_id, decided_at=decided_at)
        self.books.open_leg(intent, working.context, working.price)
        self.outbox[new_id] = intent
        anew = self.books.working[new_id]
        anew.is_reached = working.is_reached
        return anew

    def cancel(
        self, strategy: str | None = None, symbol: str | None = None, *, but: Callable[[Intent], bool] = lambda _: False
    ) -> None:
        """Ask that orders be canceled: all, or those of a strategy, in a symbol; `but` says which stay."""
        self._show(self.at + 1)
        orders = list(self.books.working.values()) if symbol is None else self.books.orders_in(symbol)
        for working in orders:
            if strategy in (None, working.context.strategy_id) and not but(working.order.intent):
                self._request_cancel(working)
        self.apply_updates()

    def cancel_order(self, wanted: Cancel, context: LiveContext) -> None:
        """Ask that an order of a view be canceled; nothing happens where it is done, or another's."""
        self._show(self.at + 1)
        working = self.books.working.get(wanted.client_order_id)
        if working is not None and working.context is context:
            self._request_cancel(working, wanted.because)
            self.apply_updates()

    def replaceable(self, client_order_id: str, context: LiveContext) -> WorkingOrder | None:
        """The order of a view that can be replaced now; None where it is done, not sent yet, or being changed or canceled."""
        self._show(self.at + 1)
        working = self.books.working.get(client_order_id)
        if working is None or working.context is not context or client_order_id in self.outbox:
            return None
        return None if working.order.state in _CHANGING else working

    def replace(self, working: WorkingOrder, terms: Decision, quantity: Decimal) -> None:
        """Ask that an open order get the prices of `terms`, and that so much of it remain; nothing happens where it is so already."""
        order, intent = working.order, working.order.intent
        asked = {
            "quantity": order.filled_quantity + quantity,
            "limit_price": terms.limit_price,
            "stop_price": terms.stop_price,
        }
        changed = {name: value for name, value in asked.items() if value != getattr(intent, name)}
        if changed:
            working.asked = msgspec.structs.replace(intent, **changed)
            self._request(working, OrderEvent.REPLACE)
            self._broker.replace(intent.client_order_id, **changed)
            self.apply_updates()

    def cancel_all_but_flattening(self) -> None:
        """Ask that every order be canceled that does not close a position at once."""
        for working in list(self.books.working.values()):
            intent = working.order.intent
            if not intent.is_exit or intent.is_protection:
                self._request_cancel(working)
        self.apply_updates()

    def _request_cancel(self, working: WorkingOrder, because: str = "") -> None:
        """Ask that an order be canceled; one that was not sent is canceled at once, and a liquidation is the venue's alone."""
        intent = working.order.intent
        if working.order.state is OrderState.PENDING_CANCEL or intent.purpose is Purpose.LIQUIDATION:
            return
        if intent.client_order_id in self.outbox:
            working.was_taken_back = bool(intent.parent)
            self._cancel_unsent(working, because or "canceled before it was sent")
            return
        working.cancel_reason = because or (CLOSED if intent.parent else "")
        self._request(working, OrderEvent.CANCEL)
        self._broker.cancel(intent.client_order_id)

    def _request(self, working: WorkingOrder, event: OrderEvent) -> None:
        """Note in the books that the broker is about to be asked to cancel or replace an order."""
        client_order_id, now = working.order.intent.client_order_id, self._now
        self.books.take_report(working, Report(client_order_id=client_order_id, event=event, event_ts=now))

    def _cancel_unsent(self, working: WorkingOrder, reason: str) -> None:
        """Cancel an order that was not sent."""
        intent = working.order.intent
        report = Report(
            client_order_id=intent.client_order_id,
            event=OrderEvent.CANCELED,
            event_ts=max(self._now, intent.decided_at),
            reason=f"{'taken back' if working.was_taken_back else 'not sent'}: {reason}",
        )
        self.books.take_report(working, report)

    def apply_updates(self) -> int:
        """Apply the broker's updates, and make protection fit what is held then; return how many changed something."""
        changes = self.quiet_to = 0
        books = self.books
        for update in self._broker.updates():
            if isinstance(update, Charge):
                books.charge_interest(update)
                continue
            if not isinstance(update, Report):
                changes += books.apply_status(update)
                continue
            working = books.find(update.client_order_id)
            if working is None and update.event is OrderEvent.ACCEPT and update.intent is not None:
                working = books.open_liquidation(update.intent, update.reason)
            if working is None:
                logs.warning(
                    "report of an unknown order", client_order_id=update.client_order_id, reported=update.event
                )
            elif update.event not in self.own_events or update.event in TRANSITIONS[working.order.state]:
                changes += books.try_report(working, update)
        if books.misfit_protection:
            self._fit_protection()
        return changes

    def hand_over(self, strategy: str, heir: str, symbol: str) -> None:
        """Give a strategy's position and working orders in a symbol to another strategy."""
        self._show(self.at + 1)
        self.apply_updates()
        self.books.hand_over(strategy, heir, symbol)
        self._broker.hand_over(strategy, heir, symbol)

    def apply_action(self, action: CorporateAction, at: int) -> AppliedAction:
        """Apply a corporate action at a time, ns, to positions and open orders; between two batches."""
        books = self.books
        applied, change = books.apply_action(action, at)
        self._broker.adjust(change)
        for number, terms in change.orders.items():
            if number not in self.outbox:
                continue  # the broker reports it
            working = books.working[number]
            del self.outbox[number]
            first = self._firsts.pop(number, None)
            self._cancel_unsent(working, str(action))
            if terms is not None:
                anew = self._open_again(working, terms)
                if first is not None:
                    self._firsts[anew.order.intent.client_order_id] = first
        self.apply_updates()
        return applied

    def _fit_protection(self) -> None:
        """Make protection smaller that is larger than what it protects, and cancel it where nothing is left."""
        for key, context in list(self.books.misfit_protection.items()):
            misfits = too_large(self.books, context)
            for working, left in misfits:
                intent = working.order.intent
                if intent.parent and left and intent.client_order_id in self.outbox:
                    self._cut_unsent(working, left)
                elif working.order.state is not OrderState.PENDING_REPLACE or not left:
                    self._shrink(working, left)
            if not misfits:
                del self.books.misfit_protection[key]

    def _shrink(self, working: WorkingOrder, left: Decimal) -> None:
        """Leave so many units of an order open, or none where that is zero or was asked for in vain."""
        order = working.order
        left = working.context.instrument.whole(left)
        quantity = order.filled_quantity + left
        if not left or working.requested_quantity == quantity or order.intent.client_order_id in self.outbox:
            self._request_cancel(working, TOO_LARGE if left and order.intent.parent else "")
            return
        working.requested_quantity = quantity
        self._request(working, OrderEvent.REPLACE)
        self._broker.replace(order.intent.client_order_id, quantity)


class SimulatedGateway(Gateway):
    """The way to a broker that is simulated in the loop's thread: what may leave is sent at once.

    Parameters
    ----------
    broker, books : see `Gateway`.
    permits : the last check, right before an order is sent: why it may not be, "" when it may.
    """

    def __init__(self, broker: OrderEntry, books: Books, permits: Callable[[Intent], str] | None = None) -> None:
        super().__init__(broker, books)
        self._permits = permits
        self._has_asked = False
        """Whether the broker was asked to cancel or replace an order since its updates were last applied."""

    def send(
        self,
        intent: Intent,
        context: LiveContext,
        price: Decimal,
        second: Intent | None = None,
        *,
        is_close: bool = False,
    ) -> None:
        """See `Gateway.send`."""
        super().send(intent, context, price, second, is_close=is_close)
        self.dispatch()
        self.apply_updates()

    def dispatch(self, refusal: Callable[[Intent], str] = lambda _intent: "") -> None:
        """See `Gateway.dispatch`."""
        permits, waiting = self._permits, set(self.outbox)
        checked = refusal if permits is None else lambda intent: permits(intent) or refusal(intent)
        super().dispatch(checked)
        if self.outbox.keys() - waiting:  # the rest of an exit that was too large
            super().dispatch(checked)

    def apply_updates(self) -> int:
        """See `Gateway.apply_updates`; what waited for these updates is sent."""
        changes = new = super().apply_updates()
        while self._has_asked or (new and self.outbox):
            self._has_asked = False
            self.dispatch()
            new = super().apply_updates()
            changes += new
        return changes

    def _request(self, working: WorkingOrder, event: OrderEvent) -> None:
        """See `Gateway._request`."""
        super()._request(working, event)
        self._has_asked = True

    def _stamped(self, intent: Intent) -> Intent:
        """See `Gateway._stamped`: an order that has waited meets no event of before."""
        now = self._now
        return intent if now <= intent.decided_at else msgspec.structs.replace(intent, decided_at=now)


class VenueGateway(Gateway):
    """The way to a real venue: an order is sent at the next `dispatch`.

    An exit of units that were bought just now, of which the venue may have kept its fee, waits for a snapshot of it. A
    take-profit that the venue does not hold beside its stop waits until the market reaches it, see `brackets`.

    Parameters
    ----------
    broker, books : see `Gateway`.
    clock : where it asks for the time.
    """

    own_events = (OrderEvent.SUBMIT, OrderEvent.CANCEL_REJECTED, OrderEvent.REPLACE_REJECTED)

    def __init__(self, broker: OrderEntry, books: Books, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(broker, books)
        self._clock = clock
        self._waiting_since: dict[str, float] = {}
        """By client order id of an exit, when it began to wait for a snapshot of the venue."""
        self._reached_at: dict[tuple[str, str], int] = {}
        """By pair, when its stop last made way for its take-profit, ns."""

    def finish(self, batch: Batch) -> None:
        """See `Gateway.finish`; stops make way for the take-profits that the batch has reached."""
        super().finish(batch)
        now = self.books.now
        self._reached_at = {pair: at for pair, at in self._reached_at.items() if now - at < REACH_AGAIN}
        for profit in list(self.outbox.values()):
            working, stop = self.books.working.get(profit.client_order_id), self._stop_beside(profit)
            if working is None or stop is None or profit.pair in self._reached_at or not reaches(batch, profit):
                continue
            self._reached_at[profit.pair] = now
            working.is_reached = True
            self._request_cancel(stop, MADE_WAY)

    def _stop_beside(self, profit: Intent) -> WorkingOrder | None:
        """The stop on whose account a take-profit is kept; None for any other order."""
        if not profit.parent or profit.order_type is not OrderType.LIMIT:
            return None
        stop = self.books.brackets.partner(profit)
        return None if stop is None or self._holds_pair(stop.order.intent, profit) else stop

    def _holds_pair(self, one: Intent, other: Intent) -> bool:
        """Whether the venue holds two legs of a pair at a time."""
        stop, profit = (other, one) if one.order_type is OrderType.LIMIT else (one, other)
        return self._broker.holds_pair(stop, profit)

    def apply_updates(self) -> int:
        """See `Gateway.apply_updates`; a pair whose take-profit was reached in vain is recorded anew."""
        changes = super().apply_updates()
        if self.books.brackets.has_due:
            self.renew_legs()
        return changes

    def _stamped(self, intent: Intent) -> Intent:
        """See `Gateway._stamped`: a take-profit for which its stop made way is filled at once or not at all.

        A leg comes with its partner where the venue holds both: it may want them at once.
        """
        if self.books.working[intent.client_order_id].is_reached:
            return msgspec.structs.replace(intent, time_in_force=TimeInForce.IOC)
        partner = self.books.brackets.partner(intent)
        if partner is None or not self._holds_pair(intent, partner.order.intent):
            return intent
        return msgspec.structs.replace(intent, partner=partner.order.intent)

    def _is_due(self, working: WorkingOrder) -> bool:
        """See `Gateway._is_due`."""
        intent = working.order.intent
        if self._stop_beside(intent) is not None or not super()._is_due(working):
            return False
        if (
            intent.is_exit
            and intent.symbol in self.books.bought_since_snapshot
            and self._broker.fee_in_kind(intent.symbol)
        ):
            now = self._clock.monotonic()
            if now - self._waiting_since.setdefault(intent.client_order_id, now) < SNAPSHOT_WAIT_S:
                self.request_snapshot()
                return False
        self._waiting_since.pop(intent.client_order_id, None)
        return True

    def account(self) -> Account:
        """See `Gateway.account`; less the cash that fills have cost since the venue last reported the account."""
        account = super().account()
        books = self.books
        if books.spent > books.spent_before:
            spent = books.spent - books.spent_before
            account = self.last_account = msgspec.structs.replace(
                account, cash=account.cash - spent, buying_power=account.buying_power - spent
            )
        return account
