"""A broker that fills orders from the event stream: for paper trading, replay and backtests.

What is asked (an order, a cancel, a replace) travels for `latency_ms` and arrives before the first event at or after
that. An order then meets the events of its symbol, one after the other, in stream order. It never meets an event that
began before it arrived, nor, once it was triggered or partly filled, one that began before the event that did that. For
a bar that means its start: what a bar's high and low say of the time before the order came is no use to it.

**The market's price** for an order is the touch (ask to buy, bid to sell) at a quote, and at a trade or bar when a
quote is known that is at most `quote_max_age_ms` old; else the trade's price or the bar's open, moved against the order
by `slippage_bps`. A touch does not slip.

**market**: the market's price at the first event.

**limit**: at the first event, when the market is at the limit or better, the market's price, at worst the limit. After
that it rests and gets its limit and no better when a trade, the touch or a bar's low or high reaches it. Only a bar that
opens beyond the limit fills at its open: that is a gap.

**stop**: triggered by a trade or touch at the stop or beyond, and filled at it; by a bar at its open when that is
beyond, else at the stop when the high or low reaches it. Slippage comes on top. What is then not filled is a market
order.

**stop_limit**: triggered in the same way, and filled in the same event when the triggering price is within the limit;
else it rests as a limit order from the next event on.

**trailing_stop**: a stop that follows the best price met since the order arrived, at a distance of `trail_price` or
`trail_pct` of that price. In a bar it follows the open, is tried against the worse end, and only then follows the better
end: what came first inside a bar nobody knows.

**Time in force.** DAY orders end at the next `day_end`, and meet no event that begins then or later. IOC takes what the
first event gives and FOK all or nothing; the rest is canceled. An order that waits for a trigger cannot be either.

**participation** is the share of an event's volume (the trade's size, the bar's volume, the size at the touch) that one
order may take; the rest goes on to the next event. Without it an order is filled whole.

**Fees** of an order are ``fee_bps`` of its notional plus ``fee_per_unit`` of its quantity, at least ``fee_minimum``,
rounded half up to ``fee_decimals``. A fill is charged what is due by then less what was charged before, so that an order
pays the same in however many parts.

Cash moves at fills. Buying power is cash: there is no margin, and nothing is refused for want of money either, nor a
short sale; that is what risk rules are for. One currency for everything, no contract multiplier.

The fill's `slippage` is left to the kernel, which knows the decision's price.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec
import numpy as np

from torghut_brokers.events import BarEvents, Events, Levels, QuoteEvents, Touch, TradeEvents, View
from torghut_core import (
    Account,
    Batch,
    Broker,
    Capabilities,
    Fill,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Position,
    Report,
    Side,
    TimeInForce,
    apply_fill,
    apply_report,
    money,
    param,
)

ZERO = Decimal(0)
MILLISECOND = 1_000_000
DAY = 86_400_000_000_000
NEVER = 2**63 - 1
"""A time that does not come, ns."""
FEW = 32
"""So many events are shown to the orders one by one; of more, those that matter are picked out first."""

_PRICES = ("limit_price", "stop_price", "trail_price", "trail_pct")
_NEEDED: dict[OrderType, tuple[tuple[str, ...], ...]] = {
    OrderType.MARKET: ((),),
    OrderType.LIMIT: (("limit_price",),),
    OrderType.STOP: (("stop_price",),),
    OrderType.STOP_LIMIT: (("limit_price", "stop_price"),),
    OrderType.TRAILING_STOP: (("trail_price",), ("trail_pct",)),
}
_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)
_TRIGGERED = (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP)


class Working(msgspec.Struct, eq=False):
    """An order at the venue, or on its way there, and what the venue knows of it.

    `since` is the earliest time at which an event that it meets may begin; `ends_at` the time at which one may not, and
    `until` the loop time from which on it is known that no more such events come. `mark` is the best price that a
    trailing stop has met, None before the first. `stop` is where the stop is now.
    """

    order: Order
    is_buy: bool
    since: int
    ends_at: int = NEVER
    until: int = NEVER
    is_fresh: bool = True
    is_triggered: bool = False
    stop: Decimal | None = None
    mark: float | None = None
    fee_due: Decimal = ZERO

    @property
    def takes_any_price(self) -> bool:
        """Whether the next event matters, whatever its price."""
        order_type = self.order.intent.order_type
        return (
            self.is_fresh
            or order_type is OrderType.MARKET
            or (self.is_triggered and order_type is not OrderType.STOP_LIMIT)
        )

    @property
    def levels(self) -> tuple[float, float]:
        """It wants to see prices up to the first and from the second on."""
        if self.takes_any_price:
            return np.inf, -np.inf
        intent = self.order.intent
        below, above = -np.inf, np.inf
        if intent.order_type is OrderType.LIMIT or self.is_triggered:
            assert intent.limit_price is not None
            limit = float(intent.limit_price)
            return (limit, above) if self.is_buy else (below, limit)
        assert self.stop is not None
        stop = float(self.stop)
        if self.mark is not None:
            below, above = np.nextafter(self.mark, below), np.nextafter(self.mark, above)
        return (below, stop) if self.is_buy else (stop, above)


class Request(msgspec.Struct, frozen=True):
    """What was asked and has not arrived: SUBMIT, CANCEL, or REPLACE with the new terms."""

    due: int
    client_order_id: str
    event: OrderEvent
    intent: Intent | None = None


class Saved(msgspec.Struct):
    """The state of a `Simulated` broker."""

    cash: Decimal
    clock: int
    known: list[str]
    orders: list[Working]
    requests: list[Request]
    reports: list[Report]
    positions: dict[str, Position]
    marks: dict[str, Decimal]
    touches: dict[str, Touch]


class Simulated(Broker):
    """Fill orders from the event stream; the rules are at the top of this module.

    `is_idle` says that nothing works, so that no event needs to be shown before prices are asked for.
    """

    class Params(Broker.Params):
        """Parameters of `Simulated`."""

        cash: Decimal = param("100000", help="cash at the start, in `currency`")
        currency: str = param("USD", min_length=1, help="currency of the account and of every price")
        fee_bps: Decimal = param("0", ge=0, help="fee on the notional, basis points")
        fee_per_unit: Decimal = param("0", ge=0, help="fee per unit, in `currency`")
        fee_minimum: Decimal = param("0", ge=0, help="least fee of an order that is filled at all, in `currency`")
        fee_decimals: int | None = param(None, ge=0, le=12, help="decimals that fees are rounded to; none: not rounded")
        slippage_bps: Decimal = param("0", ge=0, lt=10_000, help="move against us at a trade or bar, basis points")
        latency_ms: int = param(0, ge=0, help="time that an order, cancel or replace travels, milliseconds")
        participation: Decimal | None = param(
            None, gt=0, le=1, help="share of an event's volume that an order may take; none: any quantity"
        )
        quote_max_age_ms: int = param(5000, ge=0, help="how old a quote may be to be the touch, milliseconds")
        day_end: str = param(
            "00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", help="time of day, UTC, at which DAY orders end, HH:MM"
        )

    capabilities = Capabilities(order_types=frozenset(OrderType), times_in_force=frozenset(TimeInForce), simulated=True)

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        slippage = params.slippage_bps / 10_000
        self._slip = {True: (1 + slippage).normalize(), False: (1 - slippage).normalize()}
        self._fee_rate = (params.fee_bps / 10_000).normalize()
        self._fee_unit = None if params.fee_decimals is None else Decimal(1).scaleb(-params.fee_decimals)
        self._is_free = not (params.fee_bps or params.fee_per_unit or params.fee_minimum)
        self._latency = params.latency_ms * MILLISECOND
        self._quote_max_age = params.quote_max_age_ms * MILLISECOND
        hours, minutes = params.day_end.split(":")
        self._day_end = (int(hours) * 60 + int(minutes)) * 60_000 * MILLISECOND

        self._cash: Decimal = params.cash
        self._clock = 0
        self._known: set[str] = set()
        self._orders: dict[str, Working] = {}
        self._requests: list[Request] = []
        self._reports: list[Report] = []
        self._positions: dict[str, Position] = {}
        self._marks: dict[str, Decimal] = {}
        self._touches: dict[str, Touch] = {}

        self._at_venue: dict[str, list[Working]] = {}
        self._alarm = NEVER
        self._batch: Batch | None = None
        self._events: list[Events] = []
        self._quotes: QuoteEvents | None = None
        self._first = self._marked = self._stop = 0
        self._levels: Levels | None = None
        self._changed: set[str] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no order works or is on its way."""
        return not self._orders

    # -- what is asked --------------------------------------------------------------------------------------------

    def submit(self, intent: Intent) -> None:
        """Take an order; see `Broker.submit`."""
        if intent.client_order_id in self._known:
            return
        self._known.add(intent.client_order_id)
        arrival = intent.decided_at + self._latency
        order = Order(intent=intent, state=OrderState.SUBMITTED, updated_at=intent.decided_at)
        self._orders[intent.client_order_id] = Working(order, intent.side is Side.BUY, arrival, stop=intent.stop_price)
        self._send(Request(arrival, intent.client_order_id, OrderEvent.SUBMIT))

    def cancel(self, client_order_id: str) -> None:
        """Ask that an order be canceled; see `Broker.cancel`."""
        working = self._orders.get(client_order_id)
        if working is not None and working.order.state is not OrderState.PENDING_CANCEL:
            self._ask(working, OrderEvent.CANCEL)

    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Ask that a working order be changed; one that is unknown or done changes nothing.

        The order meets the market anew, from the arrival of the change on. A `quantity` is that of the whole order,
        with what is filled.

        Raises
        ------
        IllegalTransition : a cancel or another change of the order is on its way.
        """
        working = self._orders.get(client_order_id)
        if working is None:
            return
        asked = {"quantity": quantity, "limit_price": limit_price, "stop_price": stop_price}
        terms = {name: value for name, value in asked.items() if value is not None}
        self._ask(working, OrderEvent.REPLACE, msgspec.structs.replace(working.order.intent, **terms))

    def _ask(self, working: Working, event: OrderEvent, intent: Intent | None = None) -> None:
        order = working.order
        now = max(self._clock, order.updated_at)
        apply_report(order, Report(client_order_id=order.intent.client_order_id, event=event, event_ts=now))
        self._send(Request(now + self._latency, order.intent.client_order_id, event, intent))

    def _send(self, request: Request) -> None:
        if not self._latency:
            self._arrive(request)
            return
        self._requests.append(request)
        self._requests.sort(key=lambda each: each.due)
        self._alarm = min(self._alarm, request.due)

    # -- what is told ---------------------------------------------------------------------------------------------

    def orders(self) -> Sequence[Order]:
        """All orders that are not done, oldest first."""
        return [working.order for working in self._orders.values()]

    def positions(self) -> dict[str, Position]:
        """Position by symbol, those that were closed too."""
        return dict(self._positions)

    def account(self) -> Account:
        """The account at the last event shown, with positions at the last trade, close, or middle of bid and ask."""
        self._mark(self._stop)
        equity = self._cash
        for symbol, price in self._marks.items():
            equity += self._positions[symbol].quantity * price
        return Account(self._cash, equity, self._cash, self.params.currency)

    def updates(self) -> list[Report]:
        """Reports since the last call, oldest first."""
        reports, self._reports = self._reports, []
        return reports

    def save_state(self) -> dict[str, Any]:
        """Everything but the parameters."""
        self._settle()
        saved: dict[str, Any] = msgspec.to_builtins(
            Saved(
                self._cash,
                self._clock,
                sorted(self._known),
                list(self._orders.values()),
                self._requests,
                self._reports,
                self._positions,
                self._marks,
                self._touches,
            )
        )
        return saved

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """Go on with the books of another instance; see `Plugin.load_state`."""
        super().load_state({}, version)
        saved = msgspec.convert(state, Saved)
        self._cash, self._clock = saved.cash, saved.clock
        self._known = set(saved.known)
        self._orders = {working.order.intent.client_order_id: working for working in saved.orders}
        self._requests, self._reports = saved.requests, saved.reports
        self._positions, self._marks, self._touches = saved.positions, saved.marks, saved.touches
        self._at_venue = {}
        for working in saved.orders:
            if working.order.venue_order_id:
                self._at_venue.setdefault(working.order.intent.symbol, []).append(working)
        self._set_alarm()
        self._batch, self._events, self._quotes = None, [], None

    # -- the way through the stream -------------------------------------------------------------------------------

    def advance(self, batch: Batch, first: int, stop: int) -> None:
        """Let orders meet the events at positions `first` to `stop` - 1; see `Broker.advance`."""
        if stop <= first:
            return
        if batch is not self._batch:
            self._settle()
            self._open(batch, first)
        if self._orders:
            self._walk(batch, first, stop)
        self._stop = stop
        self._clock = batch.now.item(stop - 1 - batch.start)

    def _open(self, batch: Batch, first: int) -> None:
        self._batch = batch
        self._first = self._marked = self._stop = first
        self._quotes = QuoteEvents(batch.quotes) if len(batch.quotes) else None
        self._events = [] if self._quotes is None else [self._quotes]
        if len(batch.trades):
            self._events.append(TradeEvents(batch.trades))
        if len(batch.bars):
            self._events.append(BarEvents(batch.bars))
        self._levels = None

    def _walk(self, batch: Batch, first: int, stop: int) -> None:
        """Show the working orders the events that matter to them, in order.

        Stretches without any are passed in growing strides. A stride ends where something arrives or ends, and after
        each event picked out, as it may have changed what matters.
        """
        now, start, names = batch.now, batch.start, batch.symbols.names
        stride = FEW
        while first < stop and self._orders:
            end = min(first + stride, stop)
            if now.item(end - 1 - start) >= self._alarm:
                end = start + int(now.searchsorted(self._alarm))
                if end <= first:
                    self._wake(now.item(first - start))
                    continue
            alarm, is_picked = self._alarm, end - first > FEW
            for at, events, row in self._rows(first, end, self._current_levels(batch) if is_picked else None):
                symbol = names[events.symbol.item(row)]
                for working in tuple(self._at_venue.get(symbol, ())):
                    self._meet(working, events, row, at)
                if is_picked or self._alarm != alarm:
                    first, stride = at + 1, FEW
                    break
            else:
                first, stride = end, stride * 4

    def _rows(self, first: int, stop: int, levels: Levels | None = None) -> list[tuple[int, Events, int]]:
        """(position, table, row) of the events at positions `first` to `stop` - 1, those at `levels` only, in order."""
        found: list[tuple[int, Events, int]] = []
        for events in self._events:
            low, high = int(events.at.searchsorted(first)), int(events.at.searchsorted(stop))
            rows: Iterable[int] = range(low, high)
            if levels is not None:
                rows = (low + np.flatnonzero(events.hits(low, high, levels))).tolist()
            found += [(events.at.item(row), events, row) for row in rows]
        if len(self._events) > 1:
            found.sort(key=lambda each: each[0])
        return found

    def _current_levels(self, batch: Batch) -> Levels:
        if self._levels is None:
            self._levels = Levels(len(batch.symbols))
            self._changed = set(self._at_venue)
        for symbol in self._changed:
            number = batch.symbols.find(symbol)
            if number is not None and number < self._levels.symbols:  # later ones have no event in this batch
                self._levels.clear(number)
                for working in self._at_venue.get(symbol, ()):
                    self._levels.watch(number, working.is_buy, *working.levels)
        self._changed.clear()
        return self._levels

    def _set_alarm(self) -> None:
        ends = (working.until for working in self._orders.values())
        self._alarm = min(ends, default=NEVER)
        if self._requests:
            self._alarm = min(self._alarm, self._requests[0].due)

    def _wake(self, now: int) -> None:
        """Let happen, in order, what is due by the loop time `now`."""
        while self._alarm <= now:
            moment = self._alarm
            for working in tuple(self._orders.values()):
                if working.until <= moment:
                    self._expire(working)
            while self._requests and self._requests[0].due <= moment:
                self._arrive(self._requests.pop(0))
            self._set_alarm()

    # -- the venue ------------------------------------------------------------------------------------------------

    def _arrive(self, request: Request) -> None:
        working = self._orders.get(request.client_order_id)
        if working is None:
            return
        if request.event is OrderEvent.CANCEL:
            self._end(working, OrderEvent.CANCELED, request.due)
            return
        intent = request.intent or working.order.intent
        problem = _problem(intent)
        if request.event is OrderEvent.SUBMIT:
            if problem:
                self._end(working, OrderEvent.REJECTED, request.due, problem)
                return
            self._report(working, OrderEvent.ACCEPT, request.due, venue_order_id=f"sim-{request.client_order_id}")
            self._at_venue.setdefault(intent.symbol, []).append(working)
            if intent.time_in_force is TimeInForce.DAY:
                # Until it has met an event nobody knows how long its bars are; none is longer than a day.
                working.ends_at = (working.since - self._day_end) // DAY * DAY + self._day_end + DAY
                working.until = working.ends_at + DAY
                self._alarm = min(self._alarm, working.until)
        else:
            if intent.quantity <= working.order.filled_quantity:
                problem = f"{working.order.filled_quantity} of {intent.quantity} units are filled already"
            if problem:
                self._report(working, OrderEvent.REPLACE_REJECTED, request.due, reason=problem)
                return
            self._report(working, OrderEvent.REPLACED, request.due, intent=intent)
            working.since, working.is_fresh = request.due, True
            if intent.stop_price is not None:
                working.stop = intent.stop_price
        self._changed.add(intent.symbol)

    def _expire(self, working: Working) -> None:
        self._end(working, OrderEvent.EXPIRED, working.ends_at)

    def _end(self, working: Working, event: OrderEvent, event_ts: int, reason: str = "") -> None:
        self._report(working, event, event_ts, reason=reason)
        self._forget(working)

    def _forget(self, working: Working) -> None:
        intent = working.order.intent
        del self._orders[intent.client_order_id]
        at_venue = self._at_venue.get(intent.symbol, [])
        if working in at_venue:
            at_venue.remove(working)
            if not at_venue:
                del self._at_venue[intent.symbol]
        self._changed.add(intent.symbol)

    def _report(self, working: Working, event: OrderEvent, event_ts: int, **fields: Any) -> None:
        report = Report(client_order_id=working.order.intent.client_order_id, event=event, event_ts=event_ts, **fields)
        apply_report(working.order, report)
        self._reports.append(report)

    def _meet(self, working: Working, events: Events, row: int, at: int) -> None:
        """Let one order meet one event of its symbol."""
        view = events.view(row, working.is_buy)
        if view.begin < working.since or not view.first > 0:
            return
        if view.begin >= working.ends_at:
            self._expire(working)
            return
        intent = working.order.intent
        was_triggered = working.is_triggered
        price = self._offer(working, view, events, at)
        if working.is_fresh:
            working.is_fresh = False
            if working.ends_at != NEVER:
                working.until = working.ends_at + view.end - view.begin
                self._alarm = min(self._alarm, working.until)
        if price is not None or working.is_triggered is not was_triggered:
            working.since = view.end
        if price is not None:
            self._take(working, view, price, at)
        self._changed.add(intent.symbol)
        if working.order.state is OrderState.FILLED:
            self._forget(working)
        elif intent.time_in_force in _AT_ONCE:
            self._end(working, OrderEvent.CANCELED, view.begin)

    def _offer(self, working: Working, view: View, events: Events, at: int) -> Decimal | None:
        """The price at which the event fills the order, None where it does not; moves and triggers stops."""
        intent = working.order.intent
        order_type = intent.order_type
        sign = 1 if working.is_buy else -1
        if order_type in _TRIGGERED and not working.is_triggered:
            price = self._trigger(working, view, sign)
            if price is None:
                return None
            working.is_triggered = True
            slipped = price if events.is_quote else price * self._slip[working.is_buy]
            limit = intent.limit_price
            if limit is None:
                return slipped
            return _within(limit, slipped, working.is_buy) if sign * price <= sign * limit else None
        limit = intent.limit_price
        if limit is None:
            return self._market(working, view, events, at)[1]
        level = float(limit)
        if working.is_fresh or events.is_bar:
            first, price = self._market(working, view, events, at)
            if sign * first <= sign * level:
                return _within(limit, price, working.is_buy)
        return limit if sign * view.best <= sign * level else None

    def _trigger(self, working: Working, view: View, sign: int) -> Decimal | None:
        """The price at which the event triggers a stop, before slippage; None where it does not."""
        is_trailing = working.order.intent.order_type is OrderType.TRAILING_STOP
        if is_trailing:
            _trail(working, view.first, sign)
        assert working.stop is not None
        level = float(working.stop)
        if sign * view.first >= sign * level:
            return money(view.first)
        if sign * view.worst >= sign * level:
            return working.stop
        if is_trailing:
            _trail(working, view.best, sign)
        return None

    def _market(self, working: Working, view: View, events: Events, at: int) -> tuple[float, Decimal]:
        """What the market asks of the order at an event: the price to compare, and the price with slippage."""
        if events.is_quote:
            return view.first, money(view.first)
        touch = self._touch(working, view.begin, at)
        if touch is not None:
            return touch, money(touch)
        return view.first, money(view.first) * self._slip[working.is_buy]

    def _touch(self, working: Working, event_ts: int, at: int) -> float | None:
        """The ask to buy at or bid to sell at, by the last quote before position `at`; None where none is fresh."""
        symbol = working.order.intent.symbol
        touch = self._touches.get(symbol)
        if self._quotes is not None and self._batch is not None:
            number = self._batch.symbols.find(symbol)
            row = -1 if number is None else self._quotes.last(number, self._first, at)
            if row >= 0:
                touch = self._quotes.touch(row)
        if touch is None or not 0 <= event_ts - touch.event_ts <= self._quote_max_age:
            return None
        return touch.ask if working.is_buy else touch.bid

    def _take(self, working: Working, view: View, price: Decimal, at: int) -> None:
        """Fill what the event's volume allows."""
        order = working.order
        intent = order.intent
        quantity = order.remaining
        if self.params.participation is not None:
            share = money(view.volume) * self.params.participation if view.volume > 0 else ZERO
            if share < quantity:
                quantity = ZERO if intent.time_in_force is TimeInForce.FOK else share
        if not quantity:
            return
        notional = price * quantity
        fill = Fill(
            client_order_id=intent.client_order_id,
            fill_id=f"{intent.client_order_id}:{len(order.fill_ids) + 1}",
            symbol=intent.symbol,
            side=intent.side,
            quantity=quantity,
            price=price,
            fee=ZERO if self._is_free else self._charge(working, notional, quantity),
            event_ts=view.begin,
        )
        self._report(working, OrderEvent.FILL, view.begin, fill=fill)
        self._cash -= (notional if working.is_buy else -notional) + fill.fee
        held = self._positions.get(intent.symbol, _FLAT)
        self._positions[intent.symbol] = position = apply_fill(held, fill)
        if not position.quantity:
            del self._marks[intent.symbol]
        elif not held.quantity:
            self._mark(at)
            self._marks[intent.symbol] = price

    def _charge(self, working: Working, notional: Decimal, quantity: Decimal) -> Decimal:
        working.fee_due += notional * self._fee_rate + quantity * self.params.fee_per_unit
        due: Decimal = max(working.fee_due, self.params.fee_minimum)
        if self._fee_unit is not None:
            due = due.quantize(self._fee_unit, ROUND_HALF_UP)
        return due - working.order.fees

    # -- last prices ----------------------------------------------------------------------------------------------

    def _mark(self, stop: int) -> None:
        """Bring the last prices of what is held up to position `stop`."""
        first, self._marked = self._marked, stop
        if self._batch is None or stop <= first or not self._marks:
            return
        if stop - first <= FEW * len(self._marks):
            names = self._batch.symbols.names
            for _, events, row in self._rows(first, stop):
                symbol = names[events.symbol.item(row)]
                if symbol in self._marks:
                    self._marks[symbol] = events.price(row) or self._marks[symbol]
            return
        for symbol in self._marks:
            number = self._batch.symbols.find(symbol)
            if number is not None:
                self._marks[symbol] = self._last_price(number, first, stop) or self._marks[symbol]

    def _last_price(self, symbol: int, first: int, stop: int) -> Decimal | None:
        price = None
        for events in self._events:
            row = events.last(symbol, first, stop)
            while row >= 0:
                found, at = events.price(row), events.at.item(row)
                if found is not None:
                    price, first = found, at  # of the other tables only what is later counts
                    break
                row = events.last(symbol, first, at)
        return price

    def _settle(self) -> None:
        """Keep of the batch what matters after it: last prices, and quotes that may still be fresh."""
        batch, quotes = self._batch, self._quotes
        self._mark(self._stop)
        if batch is None or quotes is None or self._stop == self._first:
            return
        oldest = min(self._clock, *(working.since for working in self._orders.values()), NEVER) - self._quote_max_age
        first = max(self._first, batch.start + int(batch.now.searchsorted(oldest)))
        low, high = int(quotes.at.searchsorted(first)), int(quotes.at.searchsorted(self._stop))
        last_row = np.full(len(batch.symbols), -1)
        last_row[quotes.symbol[low:high]] = np.arange(low, high)
        for number in np.flatnonzero(last_row >= 0).tolist():
            self._touches[batch.symbols.names[number]] = quotes.touch(last_row.item(number))


_FLAT = Position()


def _within(limit: Decimal, price: Decimal, is_buy: bool) -> Decimal:
    """`price`, but not worse than `limit`."""
    return min(limit, price) if is_buy else max(limit, price)


def _trail(working: Working, price: float, sign: int) -> None:
    """Move a trailing stop after a price that is better than all before."""
    if working.mark is not None and sign * price >= sign * working.mark:
        return
    if not price > 0:
        return
    working.mark = price
    intent, mark = working.order.intent, money(price)
    distance = intent.trail_price if intent.trail_pct is None else mark * intent.trail_pct / 100
    assert distance is not None
    working.stop = mark + sign * distance


def _problem(intent: Intent) -> str:
    """Why the venue cannot take an order, "" where it can."""
    given = tuple(name for name in _PRICES if getattr(intent, name) is not None)
    if given not in _NEEDED[intent.order_type]:
        needed = " or ".join(" and ".join(names) or "no price" for names in _NEEDED[intent.order_type])
        return f"a {intent.order_type} order takes {needed}, not {' and '.join(given) or 'none'}"
    for name in ("quantity", *given):
        value = getattr(intent, name)
        if not (value.is_finite() and value > 0):
            return f"{name} {value} is not positive"
    if intent.trail_pct is not None and intent.trail_pct >= 100:
        return f"trail_pct {intent.trail_pct} is not below 100"
    if intent.time_in_force in _AT_ONCE and intent.order_type in _TRIGGERED:
        return f"a {intent.order_type} order waits for its trigger and cannot be {intent.time_in_force}"
    return ""
