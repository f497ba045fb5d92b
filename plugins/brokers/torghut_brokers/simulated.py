"""The broker `simulated`: fills orders from the event stream, for paper trading, replay and backtests.

A request (an order, a cancel, a replace) travels for `latency_ms` and arrives, in the order of sending, before the first
event at or after that. An order then meets the events of its symbol, one after the other, in stream order.

**Nothing is met twice or backwards.** No order meets an event that began before it arrived, nor, once an event moved or
triggered its stop or filled a part, one that began before the end of that event. A bar begins at its start: its high and
low may be from before the order arrived. What began before the end of a trade or bar of the symbol that came earlier in
the stream is met by no order: a bar made of trades that were seen tells nothing new. Nor is an event without volume.

How an event fills each type of order is in `matching`. A quote that is at most `quote_max_age_ms` old is fresh.

**Sessions** are those of the symbol's calendar in `calendars`. Orders meet events in sessions alone: trades and quotes of
these hours, and bars that overlap with them. An order that comes while the market is closed is for the next session; one
that the calendar knows no session for is rejected. A symbol without a calendar trades whenever it has events, and its
sessions are the days of UTC on which it has some.

**Time in force.** DAY orders expire at the close of their session; without a calendar at the end of the UTC day in which the
first event began that they met. IOC fills what its first event allows, FOK everything or nothing; the rest is canceled, and
so is all of it where the session ends before that event.

**participation** is the share of an event's volume (the trade's size, the bar's volume, the size at the touch) that all
orders together may take, in whole steps of 1e-9; the rest waits for the next event. Without it an order is filled
completely.

**Fees and slippage** are in `costs`. A fill of a limit order that rested before the event brings liquidity (maker), any other
takes it (taker). Only what takes liquidity has an impact on the price, up to its limit and its `highest_price`.

An order with a `highest_price` (see `Intent`) meets no event above it.

Cash changes at fills, by the notional: price x quantity x the symbol's multiplier. Buying power is cash, and of a symbol
with a margin below 1 also what its position is worth, less that share of it; no order is rejected for lack of money, nor a
short sale; that is what risk rules are for. One currency for everything.

**Interest** is in `interest`, **leverage** in `margin`. With `leverage` an order that would take more than the buying power is
rejected when it arrives, and the requirement is checked at each event that is the newest price of a position. What the venue then
closes are market orders of its own; they arrive at that event, and meet those after it as any other.

**Exits** (`Intent.purpose`) never fill beyond what the account and their strategy hold. Where an event
reaches stops and take-profits of one strategy in a symbol, the stops fill, since what came first inside a bar is unknown. The
legs of a bracket go by pairs (`Intent.pair`): one event fills one of each pair, and what fills of one leg the other loses at once.

The fill's `slippage` is left to the kernel, which knows the decision's price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any, Literal, Self

import msgspec
from pydantic import model_validator

from torghut_brokers.costs import BPS, Bill, Fees, FeesByPattern, SlippageByPattern, Slips, Tally, fee_terms, impact
from torghut_brokers.events import NEVER, Levels, Touch, View
from torghut_brokers.interest import Accrual, InterestRates
from torghut_brokers.margin import LeverageByPattern, Margin
from torghut_brokers.market import Market
from torghut_brokers.matching import AT_ONCE, PlacedOrder, arrive, offer, problem, rest_of
from torghut_brokers.resting import Resting
from torghut_core import (
    DAY,
    MILLISECOND,
    ROUND_THE_CLOCK,
    Account,
    Adjustment,
    Batch,
    Broker,
    Calendars,
    Capabilities,
    Charge,
    Decision,
    Fill,
    FillTerms,
    Instrument,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Position,
    Purpose,
    Report,
    Session,
    Side,
    TimeInForce,
    apply_fill,
    apply_report,
    calendar_of,
    first_match,
    is_done,
    money,
    param,
    session_at,
)

ZERO, ONE = Decimal(0), Decimal(1)
FLAT = Position()
STEP = Decimal("1e-9")
"""Quantities are multiples of this, units: what Alpaca takes."""
NO_TERMS: Mapping[str, Decimal] = {}
AUCTIONS = (TimeInForce.OPG, TimeInForce.CLS)
FEW_EVENTS = 32
"""Up to so many events are shown to the orders one by one; of more, those that matter are selected first."""
INFINITY = float("inf")
FIRST_STRIDE = 128
"""So many events are looked at together after an order has changed, and more and more until the next change."""


# Used for every order; access to a member of an enum through its class is slow in Python 3.11.
_BUY = Side.BUY
_SUBMIT, _ACCEPT, _FILL = OrderEvent.SUBMIT, OrderEvent.ACCEPT, OrderEvent.FILL
_SUBMITTED, _FILLED = OrderState.SUBMITTED, OrderState.FILLED
_DAY = TimeInForce.DAY
_LIMIT = OrderType.LIMIT
_COMPARED = (_LIMIT, OrderType.TRAILING_STOP)
"""Orders that are compared with the market when they arrive."""


class ByPattern(dict[str, Decimal]):
    """What a symbol has by its pattern, 1 where none matches; found once for each symbol."""

    def __init__(self, by_pattern: Mapping[str, Decimal]) -> None:
        super().__init__()
        self._by_pattern = by_pattern

    def __missing__(self, symbol: str) -> Decimal:
        """Find what a symbol has."""
        found = first_match(symbol, self._by_pattern)
        self[symbol] = ONE if found is None or found == 1 else found
        return self[symbol]


class Request(msgspec.Struct, frozen=True):
    """A request that has not arrived yet: SUBMIT, CANCEL, or REPLACE with the terms that are to change."""

    due: int
    client_order_id: str
    event: OrderEvent
    terms: dict[str, Decimal] = {}


class Saved(msgspec.Struct):
    """The state of a `Simulated` broker."""

    cash: Decimal
    clock: int
    orders: list[PlacedOrder]
    requests: list[Request]
    reports: list[Report]
    positions: dict[str, Position]
    prices: dict[str, Decimal]
    touches: dict[str, Touch]
    lasts: dict[str, list[float | None]] = {}
    held: dict[str, dict[str, Decimal]] | None = None
    tally: Tally = msgspec.field(default_factory=Tally)
    charges: list[tuple[int, Charge]] = []
    """Each with its place among the reports."""
    interest_due: int = NEVER
    liquidations: int = 0


class Simulated(Broker):
    """Fill orders from the event stream; the rules are at the top of this module.

    While it `is_idle` no order is open, so no event needs to be shown before prices are read.
    """

    class Params(Broker.Params):
        """Parameters of `Simulated`."""

        cash: Decimal = param("100000", help="cash of a new account, in `currency`")
        account: str = param(
            "", pattern=r"^[A-Za-z0-9._-]{0,40}$", help="name of the account; `torghut run` keeps one of each name"
        )
        currency: str = param("USD", min_length=1, help="currency of the account and of every price")
        fees: FeesByPattern = param(
            {},
            help="by symbol pattern (* and ?), first match counts: a fee, a list of fees, or a preset (alpaca-crypto,"
            " alpaca-equities); alpaca: both; see docs/costs.md",
        )
        slippage: SlippageByPattern = param(
            {}, help="by symbol pattern, first match counts: bps, spread_bps, impact_bps; see docs/costs.md"
        )
        cost_multiplier: Decimal = param(
            "1", ge=0, le=100, help="fees and slippage are multiplied by it, to see what a result owes to them"
        )
        interest: InterestRates | None = param(
            None,
            help="yearly rates of borrowed money and shares, or alpaca; none: nothing is charged; see docs/costs.md",
        )
        leverage: LeverageByPattern | None = param(
            None,
            help="by symbol pattern, first match counts: times, maintenance_pct; or alpaca; none: no order is rejected for want"
            " of margin and no position liquidated; see docs/costs.md",
        )
        latency_ms: int = param(0, ge=0, help="time until an order, cancel or replace arrives, milliseconds")
        participation: Decimal | None = param(
            None, gt=0, le=1, help="share of an event's volume that all orders together may take; none: any quantity"
        )
        time_in_force: Literal[TimeInForce.DAY, TimeInForce.GTC] = param(
            TimeInForce.DAY, help="how long orders stay open whose strategy says nothing"
        )
        quote_max_age_ms: int = param(5000, ge=0, help="largest age of a quote that is used for fills, milliseconds")
        calendars: Calendars = param(
            {"*/*": ROUND_THE_CLOCK},
            help="exchange calendar by symbol pattern (* and ?), first match counts, for the sessions in which orders are"
            " filled; 24/7 has one each day of UTC; where none matches, each day of UTC with events of the symbol is one",
        )

        multipliers: dict[str, Decimal] = param(
            {}, help="money that a unit gains when its price rises by 1, by symbol pattern, first match counts; else 1"
        )
        margins: dict[str, Decimal] = param(
            {},
            help="share of its notional that a position takes of the buying power, by symbol pattern, first match counts; else 1",
        )

        @model_validator(mode="after")
        def _check_multiplier(self) -> Self:
            most = max((bps for each in self.slippage.values() for _, bps in each), default=ZERO)
            if most * self.cost_multiplier >= BPS / 2:
                raise ValueError(f"cost_multiplier {self.cost_multiplier} makes a slippage of half the price and more")
            return self

    capabilities = Capabilities(
        order_types=frozenset(OrderType),
        times_in_force=frozenset(TimeInForce) - set(AUCTIONS),
        brackets=True,
        simulated=True,
    )

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        factor = params.cost_multiplier
        self._charged = {pattern: [fee.times(factor) for fee in fees] for pattern, fees in params.fees.items()}
        """The fees by symbol pattern, multiplied."""
        self._slips = Slips({pattern: slippage.times(factor) for pattern, slippage in params.slippage.items()})
        self._latency = params.latency_ms * MILLISECOND
        self._quote_max_age = params.quote_max_age_ms * MILLISECOND
        self._calendars: dict[str, str | None] = {}
        """By symbol, as soon as it is asked for."""
        self._multipliers = ByPattern(params.multipliers)
        self._margins = ByPattern(params.margins)
        self._margin = None if params.leverage is None else Margin(params.leverage, self._margins)
        self.may_liquidate = self._margin is not None
        self._taken: dict[bool, Decimal] = {}
        """What orders have taken of the event that they meet, units; of a quote by side."""
        self._restore(Saved(params.cash, 0, [], [], [], {}, {}, {}, held={}))

    def _restore(self, saved: Saved) -> None:
        self._cash = saved.cash
        self._orders = {placed.order.intent.client_order_id: placed for placed in saved.orders}
        self._known = set(self._orders)
        self._requests = saved.requests
        self._reports: list[Report | Charge] = [*saved.reports]
        for place, charge in saved.charges:
            self._reports.insert(place, charge)
        self._positions = saved.positions
        self._held = saved.held
        """Signed units by symbol and strategy; None where the account is from a state that did not have them."""
        self._fees = Fees(self._charged, saved.tally) if self._charged else None
        rates = self.params.interest
        self._accrual = None if rates is None else Accrual(rates, self._margins, saved.interest_due)
        self._liquidations = saved.liquidations
        """How many orders the venue has made itself."""
        self._market = Market(saved.clock, saved.prices, saved.touches, saved.lasts)
        self._worths: dict[str, Decimal] = {}
        """What each position was worth when the account was last asked for."""
        self._credits: dict[str, Decimal] = {}
        """Of symbols with a margin, what that adds to the buying power."""
        self._bounds: dict[str, tuple[float, float]] = {}
        """By symbol, the prices at which the margin has to be checked; see `Margin.bounds`."""
        self._at_venue: dict[str, Resting] = {}
        """Orders that have arrived and are open, by symbol."""
        for placed in saved.orders:
            if placed.order.venue_order_id:
                self._at_venue.setdefault(placed.order.intent.symbol, Resting()).put(placed)
        self._levels: Levels | None = None
        self._changed: set[str] = set()
        """Symbols whose `_levels` are out of date."""
        self._quiet_to = 0
        """Position in the batch up to which no order has to meet an event, or is due; 0 where it is not known."""
        self._stride = FIRST_STRIDE
        self._rests: dict[str, View] = {}
        """By client order id of entries that the newest event filled, what their legs meet of it."""
        self._lost: dict[tuple[str, str], Decimal] = {}
        """By pair, what a leg filled of the newest event: the other one may still arrive."""
        self._next_due = NEVER
        self._find_next_due()
        self._watch_margin(self._value(0))

    @property
    def is_idle(self) -> bool:
        """Whether no order is open or on its way."""
        return not self._orders

    # Requests.

    def usual_time_in_force(self, symbol: str) -> TimeInForce:  # noqa: ARG002  the same for all
        """Return the parameter; see `Broker.usual_time_in_force`."""
        usual: TimeInForce = self.params.time_in_force
        return usual

    def instrument(self, symbol: str, stated: Instrument) -> Instrument:
        """Return the terms, with the venue's step where none is stated, and its initial margin; see `Broker.instrument`."""
        terms = {"quantity_step": stated.quantity_step or STEP}
        if self._margin is not None:
            terms["margin"] = self._margin[symbol].initial
        return msgspec.structs.replace(stated, **terms)

    def objection(self, decision: Decision) -> str:
        """Return why an order is not accepted: an auction, or a part of a step; see `Broker.objection`."""
        if decision.time_in_force in AUCTIONS:
            return f"time in force {decision.time_in_force}"
        return _part_of_a_step(decision.quantity)

    def fill_terms(self, symbol: str) -> FillTerms | str:
        """Return how orders of a symbol are filled; see `Broker.fill_terms`."""
        params = self.params
        unsaid = {
            "latency_ms": bool(self._latency),
            "participation": params.participation is not None,
            "interest": self._accrual is not None,
            "leverage": self._margin is not None,
            "impact_bps of its slippage": bool(self._slips[symbol][2]),
        }
        fees = fee_terms(first_match(symbol, self._charged) or ())
        found = [name for name, is_set in unsaid.items() if is_set]
        if isinstance(fees, str) or found:
            return f"{' and '.join([*found, *([fees] if isinstance(fees, str) else [])])}: what happens depends on more than the order"
        sale, purchase, _ = self._slips[symbol]
        return FillTerms(
            sale=sale,
            purchase=purchase,
            fees=fees,
            calendar=calendar_of(symbol, params.calendars),
            multiplier=self._multipliers[symbol],
            margin=self._margins[symbol],
        )

    def submit(self, intent: Intent) -> None:
        """Take an order; see `Broker.submit`."""
        if intent.client_order_id in self._known:
            return
        self._known.add(intent.client_order_id)
        arrival = intent.decided_at + self._latency
        order = Order(intent=intent, state=_SUBMITTED, updated_at=intent.decided_at)
        self._orders[intent.client_order_id] = PlacedOrder(order, intent.side is _BUY, arrival, stop=intent.stop_price)
        self._queue_request(Request(arrival, intent.client_order_id, _SUBMIT))

    def cancel(self, client_order_id: str) -> None:
        """Ask that an order be canceled, but none of the venue's own; see `Broker.cancel`."""
        placed = self._orders.get(client_order_id)
        if placed is None or placed.order.intent.purpose is Purpose.LIQUIDATION:
            return
        if placed.order.state is not OrderState.PENDING_CANCEL:
            self._request(placed, OrderEvent.CANCEL)

    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Ask that an open order be changed; an unknown or done order is left alone.

        The order meets the market as if new, from the arrival of the change on. A `quantity` is that of the whole order,
        including what is filled.

        Raises
        ------
        IllegalTransition : a cancel or another change of the order is on its way.
        """
        placed = self._orders.get(client_order_id)
        if placed is None:
            return
        asked = {"quantity": quantity, "limit_price": limit_price, "stop_price": stop_price}
        terms = {name: value for name, value in asked.items() if value is not None}
        self._request(placed, OrderEvent.REPLACE, terms)

    def _request(self, placed: PlacedOrder, event: OrderEvent, terms: Mapping[str, Decimal] = NO_TERMS) -> None:
        order = placed.order
        now = max(self._market.clock, order.updated_at)
        apply_report(order, Report(client_order_id=order.intent.client_order_id, event=event, event_ts=now))
        self._queue_request(Request(now + self._latency, order.intent.client_order_id, event, dict(terms)))

    def _queue_request(self, request: Request) -> None:
        if not self._latency:
            self._arrive(request)
            return
        self._requests.append(request)
        self._next_due = min(self._next_due, request.due)
        self._quiet_to = 0

    def hand_over(self, strategy: str, heir: str, symbol: str) -> None:
        """Let a strategy's position and orders in a symbol be another's; see `Broker.hand_over`."""
        held = (self._held or {}).get(symbol, {})
        if strategy in held:
            held[heir] = held.get(heir, ZERO) + held.pop(strategy)
        for placed in self._orders.values():
            intent = placed.order.intent
            if (intent.strategy_id, intent.symbol) == (strategy, symbol):
                placed.order.intent = msgspec.structs.replace(intent, strategy_id=heir)

    def adjust(self, change: Adjustment) -> None:
        """Apply a corporate action; see `Broker.adjust`."""
        action, symbol = change.action, change.action.symbol
        for request in self._requests:
            self._arrive(request)
        self._requests.clear()
        self._close_market()
        self._cash += change.cash
        before, quantity = self._positions.get(symbol), ZERO
        if before is not None:
            quantity = sum(change.holdings.values(), ZERO)
            average = action.price(before.average_price)
            paid_out = (action.units(before.quantity) - quantity) * average * self._multipliers[symbol]
            realized = before.realized_pnl + change.cash - paid_out
            self._positions[symbol] = Position(quantity, average if quantity else ZERO, realized, before.fees)
            if self._held is not None:
                self._held[symbol] = dict(change.holdings)
            if before.quantity and not quantity:
                self._leave(symbol)
        if action.is_split:
            self._market.split(symbol, action)
        if before is not None and quantity and not before.quantity:  # parts of a unit were rounded away on one side
            self._market.follow(symbol, change.price, self._market.stop)
        for client_order_id, intent in change.orders.items():
            placed = self._orders.get(client_order_id)
            if placed is None:
                continue
            if intent is None:
                self._finish(placed, OrderEvent.CANCELED, change.at, f"nothing is left of it after a {action}")
                continue
            self._report(placed, OrderEvent.REPLACED, change.at, intent=intent, reason=str(action))
            placed.stop = intent.stop_price or (placed.stop and action.price(placed.stop))
            placed.mark = placed.mark and placed.mark * action.factor
            self._place(placed)
        self._find_next_due()
        self._quiet_to = 0
        if self._margin is not None:  # until it is checked, any event may matter
            self._bound(dict.fromkeys(self._market.prices, (INFINITY, -INFINITY)))

    # State of orders and account.

    def orders(self) -> Sequence[Order]:
        """Return all open orders, oldest first."""
        return [placed.order for placed in self._orders.values()]

    def positions(self) -> dict[str, Position]:
        """Return the position by symbol, closed ones too."""
        return dict(self._positions)

    def account(self) -> Account:
        """Return the account at the last event shown, with positions at the last trade, close, or middle of bid and ask."""
        self._value(self._market.stop)
        equity, power = sum(self._worths.values(), self._cash), sum(self._credits.values(), self._cash)
        return Account(self._cash, equity, power, self.params.currency, self.params.account)

    def _value(self, stop: int) -> dict[str, Decimal]:
        """Return what each position is worth at the last price before position `stop`, signed."""
        market = self._market
        market.refresh(stop)
        for symbol in market.moved:
            worth = self._positions[symbol].quantity * market.prices[symbol] * self._multipliers[symbol]
            self._worths[symbol] = worth
            margin = self._margins[symbol] if self._margin is None else self._margin[symbol].initial
            if margin is not ONE or self._margin is not None:
                self._credits[symbol] = worth - abs(worth) * margin
        market.moved.clear()
        return self._worths

    def updates(self) -> list[Report | Charge]:
        """Return reports and interest since the last call, oldest first."""
        reports, self._reports = self._reports, []
        return reports

    def save_state(self) -> dict[str, Any]:
        """Return everything but the parameters, and the ids of orders that are done."""
        market = self._market
        self._close_market()
        for resting in self._at_venue.values():
            for placed in resting:
                placed.since = max(placed.since, resting.told)
        saved: dict[str, Any] = msgspec.to_builtins(
            Saved(
                self._cash,
                market.clock,
                list(self._orders.values()),
                self._requests,
                [each for each in self._reports if isinstance(each, Report)],
                self._positions,
                market.prices,
                market.touches(self._oldest_quote()),
                market.lasts,
                self._held,
                Tally() if self._fees is None else self._fees.tally,
                [(place, each) for place, each in enumerate(self._reports) if isinstance(each, Charge)],
                NEVER if self._accrual is None else self._accrual.due,
                self._liquidations,
            )
        )
        return saved

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """Continue with the state of another instance; see `Plugin.load_state`."""
        super().load_state({}, version)
        self._restore(msgspec.convert(state, Saved))

    # Through the stream.

    def advance(self, batch: Batch, first: int, stop: int) -> None:
        """Let orders meet the events at positions `first` to `stop` - 1; see `Broker.advance`."""
        while first < stop:
            first = self.advance_to_report(batch, first, stop)

    def advance_to_report(self, batch: Batch, first: int, stop: int) -> int:
        """Let orders meet events until one of them has news; see `Broker.advance_to_report`."""
        if stop <= first:
            return stop
        self._rests.clear()
        self._lost.clear()
        market = self._market
        if not market.holds(batch):
            self._close_market()
            market.open(batch, first)
            self._quiet_to = 0
            if self._levels is not None and not self._levels.fits(batch.symbols):
                self._levels = None
            if self._accrual is not None and self._accrual.due == NEVER:
                self._accrual.begin(batch.now.item(first - batch.start))
                self._find_next_due()
        if self._is_busy(batch.now.item(stop - 1 - batch.start)):
            stop = self._walk(batch, first, stop)
        if stop > first:
            market.stop = stop
            market.clock = batch.now.item(stop - 1 - batch.start)
        return stop

    def _close_market(self) -> None:
        """Keep what counts of the batch, as orders do not meet again what was told in it."""
        market, at_venue = self._market, self._at_venue
        for symbol, told in market.told_to(at_venue) if at_venue else ():
            at_venue[symbol].told = max(at_venue[symbol].told, told)
        market.close()

    def _is_busy(self, now: int) -> bool:
        """Return whether an event up to the loop time `now` may matter: to an order, to the margin, or for interest."""
        if self._orders or (self._margin is not None and self._market.prices):
            return True
        return self._accrual is not None and self._accrual.due <= now

    def _walk(self, batch: Batch, first: int, stop: int) -> int:
        """Show the open orders the events that matter to them, in order, until one has news; return where that was."""
        now, start, names = batch.now, batch.start, batch.symbols.names
        reports = len(self._reports)
        while first < stop and self._is_busy(now.item(stop - 1 - start)):
            end = stop
            if first < self._quiet_to or stop - first > FEW_EVENTS:
                quiet_to = self.quiet_to(batch, first)
                if quiet_to > first:
                    first = quiet_to
                    continue
                end = first + 1
            if now.item(end - 1 - start) >= self._next_due:
                end = start + int(now.searchsorted(self._next_due))
                if end <= first:
                    self._market.stop = first
                    self._run_due(now.item(first - start))
                    if len(self._reports) != reports:
                        return first
                    continue
            next_due = self._next_due
            for at, events, row in self._market.rows(first, end):
                symbol = names[events.symbol.item(row)]
                if symbol in self._at_venue:
                    self._meet_all(symbol, events, row, at)
                if symbol in self._bounds and self._is_beyond(self._bounds[symbol], events.price(row)):
                    self._check_margin(at + 1, now.item(at - start))
                if len(self._reports) != reports:
                    return at + 1
                if self._next_due != next_due:
                    first = at + 1
                    break
            else:
                first = end
        return stop

    def quiet_to(self, batch: Batch, first: int) -> int:
        """Return up to where no order has to meet an event, or is due; see `Broker.quiet_to`.

        It looks a stride ahead, four times as far as the last time; a small one again once an order has changed.
        """
        if not self._market.holds(batch):
            return first
        if not self._is_busy(NEVER):
            return batch.stop
        if first < self._quiet_to:
            return self._quiet_to
        self._stride = 4 * self._stride if self._quiet_to else FIRST_STRIDE
        stop = min(first + self._stride, batch.stop)
        if batch.now.item(stop - 1 - batch.start) >= self._next_due:
            stop = max(first, batch.start + int(batch.now.searchsorted(self._next_due)))
        self._quiet_to = self._market.next_at(first, stop, self._current_levels(batch))
        return self._quiet_to

    def _place(self, placed: PlacedOrder) -> None:
        """Note that an order has arrived, or that other events may matter to it."""
        symbol = placed.order.intent.symbol
        resting = self._at_venue.get(symbol)
        if resting is None:
            resting = self._at_venue[symbol] = Resting()
        if resting.put(placed):
            self._changed.add(symbol)
            self._quiet_to = 0

    def _meet_all(self, symbol: str, events: Any, row: int, at: int) -> None:
        """Let orders of a symbol meet an event that reaches them.

        Of protection stops come first. One leg of a bracket fills; of a strategy's own stops and take-profits, either those or
        these, each only if all that it closes is still held.
        """
        resting = self._at_venue[symbol]
        if events.event_ts.item(row) < max(resting.told, self._market.told(events, row)):
            return
        self._taken.clear()
        # By pair, or by strategy of its own protection: whether what has filled is a take-profit.
        is_profit: dict[str | tuple[str, str], bool] = {}
        for placed, view in resting.reached(events, row):
            order, intent = placed.order, placed.order.intent
            if not intent.is_protection:
                self._meet(placed, view, at)
                continue
            either = intent.pair if intent.parent else intent.strategy_id
            is_limit, before = intent.order_type is _LIMIT, order.filled_quantity
            if is_done(order.state):
                continue
            if either in is_profit:
                is_other_kind = is_profit[either] is not is_limit
                if intent.parent or is_other_kind or self._closable(placed) < order.remaining:
                    continue
            self._meet(placed, view, at)
            if order.filled_quantity != before:
                is_profit[either] = is_limit

    def _closable(self, placed: PlacedOrder) -> Decimal:
        """Return how many units an exit can close: what is held, by the account and by its strategy."""
        intent, sign = placed.order.intent, -1 if placed.is_buy else 1
        held = sign * self._positions.get(intent.symbol, FLAT).quantity
        if intent.purpose is not Purpose.FLATTEN and self._held is not None:
            held = min(held, sign * self._held.get(intent.symbol, {}).get(intent.strategy_id, ZERO))
        return max(ZERO, held)

    def _current_levels(self, batch: Batch) -> Levels:
        if self._levels is None:
            self._levels = Levels(batch.symbols)
            self._changed = {*self._at_venue, *self._bounds}
        for symbol in self._changed:
            number = batch.symbols.find(symbol)
            if number is not None and number < self._levels.symbols:  # later ones have no event in this batch
                self._levels.clear(number)
                if symbol in self._at_venue:
                    for is_buy, side in enumerate(self._at_venue[symbol].sides):
                        self._levels.watch(number, bool(is_buy), *side.bounds)
                if symbol in self._bounds:
                    for is_buy in (False, True):  # the middle of a quote is within its sides
                        self._levels.watch(number, is_buy, *self._bounds[symbol])
        self._changed.clear()
        return self._levels

    def _find_next_due(self) -> None:
        """Find the loop time at which the next request arrives, the next order expires or interest is charged."""
        self._next_due = min((placed.until for placed in self._orders.values()), default=NEVER)
        if self._accrual is not None:
            self._next_due = min(self._next_due, self._accrual.due)
        if self._requests:
            self._next_due = min(self._next_due, self._requests[0].due)

    def _run_due(self, now: int) -> None:
        """Expire orders, deliver requests and charge interest that are due by the loop time `now`, in order."""
        while self._next_due <= now:
            moment = self._next_due
            for placed in tuple(self._orders.values()):
                if placed.until <= moment:
                    self._finish(placed, OrderEvent.EXPIRED, placed.ends_at)
            while self._requests and self._requests[0].due <= moment:
                self._arrive(self._requests.pop(0))
            if self._accrual is not None and self._accrual.due <= moment:
                self._charge_interest(self._accrual, moment)
            self._find_next_due()

    # Money that is borrowed.

    def _charge_interest(self, accrual: Accrual, now: int) -> None:
        """Take what the day costs that ends at a time, ns, from the cash."""
        charges = accrual.charge(self._cash, self._value(self._market.stop))
        self._cash -= sum((charge.amount for charge in charges), ZERO)
        self._reports += charges
        if charges and self._margin is not None:
            self._check_margin(self._market.stop, now)

    def _unaffordable(self, placed: PlacedOrder, intent: Intent) -> str:
        """Return why an order on these terms takes more than the buying power, "" where it does not."""
        if self._margin is None or intent.is_exit:
            return ""
        others = [each for each in self._orders.values() if each is not placed and each.order.venue_order_id]
        taken = sum((self._needed(each, each.order.intent) for each in others if not each.order.intent.is_exit), ZERO)
        needed, left = self._needed(placed, intent), self.account().buying_power - taken
        if needed <= left:
            return ""
        return f"it needs {needed:.2f} of margin, and {left:.2f} of the buying power is left"

    def _needed(self, placed: PlacedOrder, intent: Intent) -> Decimal:
        """Return the initial margin of what is open of an order and would add to the account's position; 0 without a price."""
        assert self._margin is not None
        symbol = intent.symbol
        price = intent.limit_price or intent.stop_price
        if price is None:
            last = self._market.last_price(symbol, placed.is_buy, self._market.stop)
            price = ZERO if last is None else money(last)
        quantity = intent.quantity - placed.order.filled_quantity
        held = self._positions.get(symbol, FLAT).quantity
        added = abs(held + (quantity if placed.is_buy else -quantity)) - abs(held)
        return max(ZERO, added) * price * self._multipliers[symbol] * self._margin[symbol].initial

    def _check_margin(self, stop: int, now: int) -> None:
        """Close positions where equity does not cover the maintenance margin after the events before position `stop`."""
        assert self._margin is not None
        symbols, reason = self._margin.shortfall(self._cash, self._value(stop), self._leaving)
        for symbol in symbols:
            self._liquidate(symbol, reason, now)
        self._watch_margin(self._worths)

    @property
    def _leaving(self) -> set[str]:
        """Symbols in which the venue is closing the position."""
        intents = [placed.order.intent for placed in self._orders.values()]
        return {intent.symbol for intent in intents if intent.purpose is Purpose.LIQUIDATION}

    @staticmethod
    def _is_beyond(bounds: tuple[float, float], price: Decimal | None) -> bool:
        """Return whether the margin has to be checked at a price, None where an event has none."""
        return price is not None and not bounds[0] < price < bounds[1]

    def _watch_margin(self, worths: Mapping[str, Decimal]) -> None:
        """Find anew at which prices the margin has to be checked, of positions that are worth this."""
        if self._margin is not None:
            self._bound(self._margin.bounds(self._cash, worths, self._market.prices, self._leaving))

    def _bound(self, bounds: dict[str, tuple[float, float]]) -> None:
        """Check the margin at prices up to the first and from the second on, by symbol; see `Margin.bounds`."""
        self._changed |= self._bounds.keys() | bounds.keys()
        self._bounds = bounds
        self._quiet_to = 0

    def _liquidate(self, symbol: str, reason: str, now: int) -> None:
        """Close a position of the account at the market, strategy by strategy, the one that holds most first."""
        net = self._positions[symbol].quantity
        side, sign, left = (Side.SELL, 1, net) if net > 0 else (Side.BUY, -1, -net)
        held = {"": net} if self._held is None else self._held.get(symbol, {})
        for strategy, units in sorted(held.items(), key=lambda each: (-sign * each[1], each[0])):
            quantity = min(left, sign * units)
            if quantity <= 0:
                return
            left -= quantity
            self._liquidations += 1
            intent = Intent(
                client_order_id=f"liquidation-{self._liquidations}",
                decision_hash="",
                account=self.params.account,
                strategy_id=strategy,
                symbol=symbol,
                side=side,
                quantity=quantity,
                decided_at=now,
                time_in_force=TimeInForce.GTC,
                purpose=Purpose.LIQUIDATION,
            )
            order = Order(intent=intent, state=_SUBMITTED, updated_at=now)
            placed = self._orders[intent.client_order_id] = PlacedOrder(order, side is _BUY, now)
            self._accept(placed, now, f"liquidation: {reason}")

    def _oldest_quote(self) -> int:
        """Return the time before which no quote can be used for any order any more, ns."""
        arrivals = (placed.since for placed in self._orders.values())
        oldest: int = min(self._market.clock, *arrivals, NEVER) - self._quote_max_age
        return oldest

    # The venue.

    def _arrive(self, request: Request) -> None:
        placed = self._orders.get(request.client_order_id)
        if placed is None:
            return
        if request.event is _SUBMIT:
            self._accept(placed, request.due)
        elif request.event is OrderEvent.CANCEL:
            self._finish(placed, OrderEvent.CANCELED, request.due)
        else:
            self._change(placed, msgspec.structs.replace(placed.order.intent, **request.terms), request.due)

    def _accept(self, placed: PlacedOrder, now: int, why: str = "") -> None:
        """Accept an order or reject it; `why` the venue has made it itself, "" where it was sent."""
        intent = placed.order.intent
        refusal = problem(intent) or _part_of_a_step(intent.quantity) or self._unaffordable(placed, intent)
        rest = self._rests.get(intent.parent)
        session = self._session(intent.symbol, now if rest is None else rest.begin)
        if not refusal and session is None:
            refusal = f"the calendar of {intent.symbol} knows no session from then on"
        if refusal or session is None:
            self._finish(placed, OrderEvent.REJECTED, now, refusal)
            return
        placed.opens_at, placed.ends_at = session
        made = {"intent": intent, "reason": why} if why else {}
        self._report(placed, _ACCEPT, now, venue_order_id=f"sim-{intent.client_order_id}", **made)
        if rest is None:
            self._meet_market(placed, now)
            self._place(placed)
        else:
            self._meet_rest(placed, rest, now)
        if intent.time_in_force is _DAY and placed.ends_at != NEVER:
            # The length of its bars is unknown until it has met an event; none is longer than a day.
            placed.until = placed.ends_at + DAY
            self._next_due = min(self._next_due, placed.until)

    def _session(self, symbol: str, time: int) -> Session | None:
        """Return the session of a symbol that a time (ns) is in, or the next one; without a calendar that lasts for ever."""
        if symbol not in self._calendars:
            self._calendars[symbol] = calendar_of(symbol, self.params.calendars)
        calendar = self._calendars[symbol]
        return Session(-NEVER, NEVER) if calendar is None else session_at(calendar, time)

    def _closes(self, symbol: str, time: int) -> bool:
        """Return whether no session of a symbol begins at the end (ns) of another."""
        session = self._session(symbol, time)
        return session is None or session.opens > time

    def _meet_market(self, placed: PlacedOrder, now: int) -> None:
        """Let an order that arrives meet the market as it is known then; a limit order that waits for an open does not."""
        if placed.order.intent.order_type not in _COMPARED and not placed.is_triggered:
            return
        market, at = None, self._market.stop
        if now >= placed.opens_at or placed.order.intent.limit_price is None:
            market = self._touch(placed, now, at) or self._market.last_price(
                placed.order.intent.symbol, placed.is_buy, at
            )
        arrive(placed, market)

    def _meet_rest(self, placed: PlacedOrder, rest: View, now: int) -> None:
        """Let a leg meet what is left of the event that has just filled its entry, less what its other leg has filled of it."""
        if lost := self._lost.get(placed.order.intent.pair, ZERO):
            self._lose(placed, placed.order.remaining - lost, now)
        if is_done(placed.order.state):
            return
        placed.since = rest.begin
        arrive(placed, rest.first)
        self._place(placed)
        self._meet(placed, rest, self._market.stop - 1)
        placed.since = max(placed.since, rest.end)

    def _lose(self, placed: PlacedOrder, left: Decimal, now: int) -> None:
        """Leave so much of a leg open, as the other one has filled the rest."""
        order = placed.order
        if left >= order.remaining:
            return
        if left <= 0:
            self._finish(placed, OrderEvent.CANCELED, now, "the other leg of its bracket has filled")
        else:
            terms = msgspec.structs.replace(order.intent, quantity=order.filled_quantity + left)
            self._report(placed, OrderEvent.REPLACED, now, intent=terms)

    def _fill_pair(self, leg: PlacedOrder, quantity: Decimal, now: int) -> None:
        """Let the other legs of a pair lose what one has filled."""
        pair = leg.order.intent.pair
        self._lost[pair] = self._lost.get(pair, ZERO) + quantity
        for other in list(self._at_venue.get(leg.order.intent.symbol, ())):
            if other is not leg and other.order.intent.pair == pair:
                self._lose(other, other.order.remaining - quantity, now)

    def _change(self, placed: PlacedOrder, intent: Intent, now: int) -> None:
        refusal = problem(intent)
        refusal = refusal or _part_of_a_step(intent.quantity)
        if not refusal and intent.quantity <= placed.order.filled_quantity:
            refusal = f"quantity {intent.quantity} is filled already"
        refusal = refusal or self._unaffordable(placed, intent)
        if refusal:
            self._report(placed, OrderEvent.REPLACE_REJECTED, now, reason=refusal)
            return
        self._report(placed, OrderEvent.REPLACED, now, intent=intent)
        placed.since, placed.is_fresh = now, True
        placed.stop = intent.stop_price or placed.stop
        self._meet_market(placed, now)
        self._place(placed)

    def _meet(self, placed: PlacedOrder, view: View, at: int) -> None:
        """Let an order meet the event at position `at`."""
        if view.begin < placed.since or not view.first > 0 or view.volume == 0:
            return
        intent = placed.order.intent
        opens_at, begin, end = placed.opens_at, view.begin, view.end
        if begin >= placed.ends_at:
            if intent.time_in_force is _DAY:
                if placed.is_fresh:  # others may be skipped in a stride: they expire by the clock alone
                    self._finish(placed, OrderEvent.EXPIRED, placed.ends_at)
                return
            if intent.time_in_force in AT_ONCE and self._closes(intent.symbol, placed.ends_at):
                self._finish(placed, OrderEvent.CANCELED, placed.ends_at)
                return
            opens_at, _ = self._session(intent.symbol, begin) or (NEVER, NEVER)
        if begin < opens_at >= end:
            return
        was = placed.is_triggered, placed.mark
        touch = self._touch(placed, begin, at) if view.slips and not placed.is_resting else None
        is_maker = placed.is_resting
        price = offer(placed, view, touch, self._slips[intent.symbol][placed.is_buy])
        if price is not None and intent.highest_price is not None and price > intent.highest_price:
            price = None
        if placed.is_fresh:
            placed.is_fresh = False
            if intent.time_in_force is _DAY:
                if placed.ends_at == NEVER:
                    placed.ends_at = begin // DAY * DAY + DAY
                placed.until = placed.ends_at + end - begin
                self._next_due = min(self._next_due, placed.until)
        if price is not None or (placed.is_triggered, placed.mark) != was:
            placed.since = end
        if price is not None:
            filled = placed.order.filled_quantity
            self._fill_at(placed, view, price, at, is_maker=is_maker)
            if intent.bracket is not None and view.is_bar and placed.order.filled_quantity != filled:
                self._rests[intent.client_order_id] = rest_of(placed, view, float(price), was_triggered=was[0])
        if placed.order.state is _FILLED:
            self._forget(placed)
        elif is_done(placed.order.state):
            return
        elif intent.time_in_force in AT_ONCE:
            self._finish(placed, OrderEvent.CANCELED, view.begin)
        else:
            self._place(placed)

    def _touch(self, placed: PlacedOrder, begin: int, at: int) -> float | None:
        """Return the ask (to buy) or the bid (to sell) at a time; None where no quote before position `at` is fresh then."""
        touch = self._market.touch(placed.order.intent.symbol, at)
        if touch is None or not 0 <= begin - touch.event_ts <= self._quote_max_age:
            return None
        return touch.ask if placed.is_buy else touch.bid

    def _fill_at(self, placed: PlacedOrder, view: View, price: Decimal, at: int, *, is_maker: bool) -> None:
        """Fill, at `price` and what its own impact adds, what the event's volume allows."""
        order = placed.order
        intent = order.intent
        quantity = order.remaining
        if intent.is_exit:
            quantity = min(quantity, self._closable(placed))
            if not quantity:
                self._finish(placed, OrderEvent.CANCELED, view.begin, "nothing is held that it could close")
                return
        if self.params.participation is not None:
            side = view.slips or placed.is_buy
            taken = self._taken.get(side, ZERO)
            share = money(view.volume) * self.params.participation if view.volume > 0 else ZERO
            left = max(ZERO, share - taken).quantize(STEP, ROUND_DOWN)
            if left < quantity:
                quantity = ZERO if intent.time_in_force is TimeInForce.FOK else left
            self._taken[side] = taken + quantity
        if not quantity:
            return
        if not is_maker and (impact_bps := self._slips[intent.symbol][2]):
            price = _moved(placed, price, impact(impact_bps, quantity, money(view.volume) if view.volume > 0 else ZERO))
        multiplier = self._multipliers[intent.symbol]
        notional = price * quantity * multiplier
        fee = ZERO
        if self._fees is not None:
            bill = placed.bill = placed.bill or Bill()
            fee = self._fees.charge(intent.symbol, bill, intent.side, notional, quantity, view.begin, is_maker=is_maker)
        fill = Fill(
            client_order_id=intent.client_order_id,
            fill_id=f"{intent.client_order_id}:{len(order.fill_ids) + 1}",
            symbol=intent.symbol,
            side=intent.side,
            quantity=quantity,
            price=price,
            fee=fee,
            event_ts=view.begin,
        )
        self._report(placed, _FILL, view.begin, fill=fill)
        self._cash -= (notional if placed.is_buy else -notional) + fill.fee
        before = self._positions.get(intent.symbol, FLAT)
        position = self._positions[intent.symbol] = apply_fill(before, fill, multiplier)
        if self._held is not None:
            held = self._held.setdefault(intent.symbol, {})
            change = quantity if placed.is_buy else -quantity
            held[intent.strategy_id] = held.get(intent.strategy_id, ZERO) + change
        if intent.parent:
            self._fill_pair(placed, quantity, view.begin)
        if not position.quantity:
            self._leave(intent.symbol)
        elif not before.quantity:
            self._market.follow(intent.symbol, price, at)
        else:
            self._market.moved[intent.symbol] = None
        if self._margin is not None:  # until it is checked, any event may matter
            self._bound(dict.fromkeys(self._market.prices, (INFINITY, -INFINITY)))

    def _leave(self, symbol: str) -> None:
        """Value a symbol no more, as nothing is held in it."""
        self._market.leave(symbol)
        self._worths.pop(symbol, None)
        self._credits.pop(symbol, None)

    def _finish(self, placed: PlacedOrder, event: OrderEvent, event_ts: int, reason: str = "") -> None:
        self._report(placed, event, event_ts, reason=reason)
        self._forget(placed)

    def _forget(self, placed: PlacedOrder) -> None:
        intent = placed.order.intent
        del self._orders[intent.client_order_id]
        resting = self._at_venue.get(intent.symbol)
        if resting is not None and placed in resting:
            resting.remove(placed)
            if not resting:
                del self._at_venue[intent.symbol]
            self._changed.add(intent.symbol)
        self._quiet_to = 0

    def _report(self, placed: PlacedOrder, event: OrderEvent, event_ts: int, **fields: Any) -> None:
        report = Report(client_order_id=placed.order.intent.client_order_id, event=event, event_ts=event_ts, **fields)
        apply_report(placed.order, report)
        self._reports.append(report)


def _moved(placed: PlacedOrder, price: Decimal, part: Decimal) -> Decimal:
    """Return a price moved against an order by a part of itself, no worse than the order takes."""
    intent = placed.order.intent
    if not placed.is_buy:
        return max(price * (1 - part), intent.limit_price or ZERO)
    bounds = (price * (1 + part), intent.limit_price, intent.highest_price)
    return min(bound for bound in bounds if bound is not None)


def _part_of_a_step(quantity: Decimal) -> str:
    """Return that a quantity is no multiple of `STEP`, "" where it is one."""
    _, digits, exponent = quantity.as_tuple()
    if not isinstance(exponent, int) or exponent >= -9 or not any(digits[exponent + 9 :]):
        return ""
    return f"quantity {quantity} has more than nine decimals"
