"""The way to a broker: sends orders and cancels, applies the updates to the books, reads the account.

A simulated broker is shown the event stream before it is asked anything, so that orders have met every event up to the
loop's position, and no later one; it fills in the loop's thread, so a sent order's reports are applied at once. An order
to a real venue waits in an outbox until its intent is durable (`dispatch`), and its reports come when they come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import msgspec

from torghut_core.boundary import bound, calls
from torghut_core.model.market import Batch
from torghut_core.model.order_state import TRANSITIONS
from torghut_core.model.trading import (
    Account,
    Intent,
    OrderEvent,
    OrderState,
    OrderStatus,
    Purpose,
    Report,
    TimeInForce,
)
from torghut_core.ports import LiveContext, OrderEntry
from torghut_core.telemetry import logs
from torghut_core.timestamps import from_datetime, to_datetime
from torghut_core.trading.books import Books, WorkingOrder


class Gateway(ABC):
    """Orders of one account on their way to its broker, and the broker's updates on their way to the books.

    Parameters
    ----------
    broker : the truth about orders; of a real venue the `Executor` before it.
    books : of the account.

    Attributes
    ----------
    at : position in the stream that the loop has reached.
    last_account : the account when it was last asked for.
    day_start_equity, day_low_equity : equity when the account's day began, or when the loop did; and the least that was
        seen since.
    """

    own_events: ClassVar[tuple[OrderEvent, ...]] = ()
    """Reports of our own requests: ignored where the order has since moved on."""

    def __init__(self, broker: OrderEntry, books: Books) -> None:
        self.books = books
        self.at = 0
        self.last_account = broker.account()
        self.day_start_equity = self.last_account.day_start_equity or self.last_account.equity
        self.day_low_equity = min(self.day_start_equity, self.last_account.equity)
        self._broker = broker
        self._batch: Batch | None = None
        self._shown = 0
        """Position up to which the broker was shown the stream."""
        self._zone = ZoneInfo(broker.day_zone)
        self._day_ends = 0

    # The way through the stream.

    def begin(self, batch: Batch) -> None:
        """Start the next batch."""
        self._batch = batch
        self._shown = batch.start
        if not self._day_ends:
            self._day_ends = self._midnight(int(batch.now[0]))

    def advance_to(self, stop: int) -> None:
        """Let orders meet the events before `stop`, and apply what the broker reports."""
        self._show(stop)
        self.apply_updates()

    def finish(self, batch: Batch) -> None:
        """Let orders meet the rest of the batch."""
        self.at = batch.stop - 1
        self.books.now = int(batch.now[-1])
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

    @abstractmethod
    def send(self, intent: Intent, context: LiveContext, price: Decimal) -> None:
        """Send an order whose intent is recorded; `price` is the decision's, zero without one."""

    @abstractmethod
    def dispatch(self, refusal: Callable[[Intent], str] = lambda _intent: "") -> None:
        """Send what waits in the outbox; an order that `refusal` gives a reason for is canceled instead."""

    def cancel(self, strategy: str | None = None, symbol: str | None = None, *, but_exits: bool = False) -> None:
        """Ask that orders be canceled: all, or those of a strategy, in a symbol; `but_exits` leaves exits working."""
        for working in list(self.books.working.values()):
            if strategy not in (None, working.context.strategy_id) or symbol not in (None, working.context.symbol):
                continue
            is_exit = working.order.intent.purpose is not Purpose.ENTRY
            if working.order.state is OrderState.PENDING_CANCEL or (but_exits and is_exit):
                continue
            self._cancel(working)
        self.apply_updates()

    @abstractmethod
    def _cancel(self, working: WorkingOrder) -> None:
        """Ask that an order be canceled."""

    def _take_back(self, working: WorkingOrder, reason: str) -> None:
        """Cancel an order that was not sent."""
        intent = working.order.intent
        report = Report(
            client_order_id=intent.client_order_id,
            event=OrderEvent.CANCELED,
            event_ts=max(self.books.now, intent.decided_at),
            reason=f"not sent: {reason}",
        )
        self.books.take_report(working, report)

    def apply_updates(self) -> int:
        """Apply the broker's updates; return how many changed something."""
        changes = 0
        books = self.books
        for update in self._broker.updates():
            if not isinstance(update, Report):
                changes += books.apply_status(update)
                continue
            working = books.find(update.client_order_id)
            if working is None:
                logs.warning(
                    "report of an unknown order", client_order_id=update.client_order_id, reported=update.event
                )
            elif update.event not in self.own_events or update.event in TRANSITIONS[working.order.state]:
                changes += books.try_report(working, update)
        return changes


class SimulatedEntry(OrderEntry):
    """A simulated broker as the loop calls it: in a room of its own, and what it raises is a `PluginError`.

    Parameters
    ----------
    name : of the broker, for errors.
    broker : the plugin.
    """

    def __init__(self, name: str, broker: OrderEntry) -> None:
        self.day_zone = broker.day_zone
        self._name = name
        self._broker = broker

    def _call(self, method: str, *terms: Any) -> Any:
        return calls(self._name, bound(self._broker, method), *terms)

    def usual_time_in_force(self, symbol: str) -> TimeInForce:
        """See `OrderEntry`."""
        return self._call("usual_time_in_force", symbol)  # type: ignore[no-any-return]

    def submit(self, intent: Intent) -> None:
        """See `OrderEntry`."""
        self._call("submit", intent)

    def cancel(self, client_order_id: str) -> None:
        """See `OrderEntry`."""
        self._call("cancel", client_order_id)

    def account(self) -> Account:
        """See `OrderEntry`."""
        return self._call("account")  # type: ignore[no-any-return]

    def updates(self) -> Sequence[Report | OrderStatus]:
        """See `OrderEntry`."""
        return self._call("updates")  # type: ignore[no-any-return]

    def advance(self, batch: Batch, first: int, stop: int) -> None:
        """See `OrderEntry`."""
        self._call("advance", batch, first, stop)


class SimulatedGateway(Gateway):
    """The way to a broker that is simulated in the loop's thread.

    Parameters
    ----------
    broker, books : see `Gateway`.
    permits : the last check, right before an order is sent: why it may not be, "" when it may.
    """

    def __init__(self, broker: OrderEntry, books: Books, permits: Callable[[Intent], str] | None = None) -> None:
        super().__init__(broker, books)
        self._permits = permits

    def send(self, intent: Intent, context: LiveContext, price: Decimal) -> None:
        """See `Gateway.send`: it is sent at once."""
        self._show(self.at + 1)
        books = self.books
        books.open_order(intent, context, price)
        refusal = self._permits(intent) if self._permits is not None else ""
        if refusal:
            self._take_back(books.working[intent.client_order_id], refusal)
            return
        self._broker.submit(intent)
        self.apply_updates()

    def dispatch(self, refusal: Callable[[Intent], str] = lambda _intent: "") -> None:
        """See `Gateway.dispatch`: nothing waits."""

    def _cancel(self, working: WorkingOrder) -> None:
        self._broker.cancel(working.order.intent.client_order_id)


class VenueGateway(Gateway):
    """The way to a real venue.

    Attributes
    ----------
    outbox : orders that are recorded and not sent yet.
    """

    own_events = (OrderEvent.SUBMIT, OrderEvent.CANCEL_REJECTED, OrderEvent.REPLACE_REJECTED)

    def __init__(self, broker: OrderEntry, books: Books) -> None:
        super().__init__(broker, books)
        self.outbox: list[Intent] = []

    def send(self, intent: Intent, context: LiveContext, price: Decimal) -> None:
        """See `Gateway.send`: it is sent at the next `dispatch`."""
        self._show(self.at + 1)
        self.books.open_order(intent, context, price)
        self.outbox.append(intent)

    def dispatch(self, refusal: Callable[[Intent], str] = lambda _intent: "") -> None:
        """See `Gateway.dispatch`."""
        waiting, self.outbox = self.outbox, []
        for intent in waiting:
            reason = refusal(intent)
            working = self.books.working.get(intent.client_order_id)
            if working is None:
                continue  # it was canceled before it was sent
            if reason:
                self._take_back(working, reason)
            else:
                self._broker.submit(intent)

    def _cancel(self, working: WorkingOrder) -> None:
        intent = working.order.intent
        if intent in self.outbox:
            self._take_back(working, "canceled before it was sent")
            return
        client_order_id, now = intent.client_order_id, self.books.now
        self.books.take_report(working, Report(client_order_id=client_order_id, event=OrderEvent.CANCEL, event_ts=now))
        self._broker.cancel(client_order_id)

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
