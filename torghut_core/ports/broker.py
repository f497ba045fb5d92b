"""Brokers: orders out, reports in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import ClassVar

import msgspec

from torghut_core.model.corporate_actions import Adjustment
from torghut_core.model.instruments import Instrument
from torghut_core.model.market import Batch
from torghut_core.model.trading import (
    ZERO,
    Account,
    Charge,
    Decision,
    Intent,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Report,
    Side,
    TimeInForce,
)
from torghut_core.ports.connection import Connected, Connection


class Capabilities(msgspec.Struct, frozen=True):
    """What a broker supports. A decision that needs more (see `Broker.objection`) is denied, not sent."""

    order_types: frozenset[OrderType]
    times_in_force: frozenset[TimeInForce]
    replace: bool = True
    fractional: bool = True
    shorts: bool = True
    brackets: bool = False
    """It holds a stop and a take-profit of the same units, of which each loses what the other fills (`Intent.pair`). At a real
    venue that does not, the kernel keeps the take-profit; with a simulated broker that does not, such a decision is denied."""
    simulated: bool = False
    """Fills come from the event stream, through `Broker.advance`, and money is not real."""


class FeeTerms(msgspec.Struct, frozen=True, kw_only=True):
    """A fee of an order that is filled at once, in money; `maker` and `taker` are shares of the notional.

    What it owes is ``notional * rate + quantity * per_unit``, at least `minimum`, at most `maximum` and `maximum_share` of the
    notional. Where it has a `side`, orders of the other one owe nothing.
    """

    maker: Decimal = ZERO
    taker: Decimal = ZERO
    per_unit: Decimal = ZERO
    minimum: Decimal = ZERO
    maximum: Decimal | None = None
    maximum_share: Decimal | None = None
    side: Side | None = None

    def owed(self, side: Side, notional: Decimal, quantity: Decimal, *, is_maker: bool) -> Decimal:
        """What an order of one fill owes."""
        if self.side not in (None, side):
            return ZERO
        owed = max(notional * (self.maker if is_maker else self.taker) + quantity * self.per_unit, self.minimum)
        bounds = (self.maximum, None if self.maximum_share is None else notional * self.maximum_share)
        return min([owed, *(bound for bound in bounds if bound is not None)])


class FillTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How a simulated broker fills the orders of a symbol, where that is a matter of numbers alone.

    An order meets the bars after it, at once and whole, as docs/fills.md says; with bars alone nothing is quoted.

    Attributes
    ----------
    sale, purchase : what a price is multiplied by that slips.
    fees : of each order, added up.
    calendar : of the sessions in which orders are filled; None where these are always.
    multiplier, margin : as in `Instrument`: what it counts with.
    """

    sale: Decimal = Decimal(1)
    purchase: Decimal = Decimal(1)
    fees: tuple[FeeTerms, ...] = ()
    calendar: str | None = None
    multiplier: Decimal = Decimal(1)
    margin: Decimal = Decimal(1)


class OrderEntry(ABC):
    """What the trading loop calls: orders go out, and updates come back. No call waits for a network.

    A simulated broker is held as it is; in front of the broker of a real venue stands the kernel's executor.
    """

    day_zone: str = "UTC"
    """Zone (IANA name) at whose midnight the account's day begins."""

    may_liquidate: bool = False
    """Whether a simulated broker may close positions by itself, for want of margin: it is shown each event while none of our orders is
    open, too."""

    def usual_time_in_force(self, symbol: str) -> TimeInForce:
        """How long an order in a symbol stays open if its strategy does not set it."""
        del symbol
        return TimeInForce.DAY

    def fee_in_kind(self, symbol: str) -> Decimal:
        """The largest share of the units bought that the venue keeps as its fee; 0 where fees are paid in money."""
        del symbol
        return ZERO

    def instrument(self, symbol: str, stated: Instrument) -> Instrument:
        """The terms of a symbol: what the catalog has `stated`, with what the venue's list says in its place."""
        del symbol
        return stated

    @abstractmethod
    def submit(self, intent: Intent) -> OrderStatus | None:
        """Place an order; return the venue's answer. The same `client_order_id` again makes no second order.

        The legs of a pair each come with the other as `partner`, where both are open: a venue that holds the units of an exit
        for one order alone can be sent both at once, in the name of either.

        An order with a `highest_price` must not be filled above that: where the venue has no such order, a limit or a
        stop-limit order at that price is one.

        A simulated broker answers in `updates`, ignores the same order silently, and returns None.
        """

    def holds_pair(self, stop: Intent, profit: Intent) -> bool:
        """Whether the venue holds the two legs of a pair at a time; by their terms alone."""
        del stop, profit
        return True

    @abstractmethod
    def cancel(self, client_order_id: str) -> None:
        """Ask to cancel an order; nothing happens if it is unknown or done. The outcome is an update."""

    @abstractmethod
    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Ask to change an open order; None leaves a value as it is. The outcome is an update."""

    @abstractmethod
    def account(self) -> Account:
        """The account now."""

    @abstractmethod
    def updates(self) -> Sequence[Report | OrderStatus | Charge]:
        """Updates since the last call, oldest first; empty when there are none. Never waits.

        A real venue gives statuses: they may come twice, late or not at all. A simulated one also gives the interest that it has charged.
        """

    def advance(self, batch: Batch, first: int, stop: int) -> None:
        """Show a simulated broker the events at positions `first` to `stop` - 1, once and in order.

        Orders submitted before the call meet these events, and no earlier one. Does nothing for a real venue.
        """
        del batch, first, stop

    def advance_to_report(self, batch: Batch, first: int, stop: int) -> int:
        """Advance up to the event that makes the broker report something, `stop` at most; return where it ended.

        What the kernel does in response then meets the events after that one. A simulated broker that has only `advance`
        is responded to at `stop`.
        """
        self.advance(batch, first, stop)
        return stop

    def quiet_to(self, batch: Batch, first: int) -> int:
        """Up to which position a simulated broker has nothing to do or report at the events from `first` on.

        That is as long as nothing is asked of it; `first` where it cannot tell. The kernel shows it these events later, and
        together, so that an order that rests costs nothing where it is not reached. Nothing else may follow from what it
        finds there: they are not known yet.
        """
        del batch
        return first

    def hand_over(self, strategy: str, heir: str, symbol: str) -> None:
        """Note, at a simulated broker that knows who holds what, that a strategy's position and orders in a symbol are another's."""
        del strategy, heir, symbol

    def adjust(self, change: Adjustment) -> None:
        """Apply a corporate action to what a simulated broker holds; called between two batches.

        Requests on their way arrive before it. Its updates have REPLACED, with the given terms, for each open order, or CANCELED.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot apply {change.action} of {change.action.symbol}")


class Broker(Connected, OrderEntry):
    """Orders out, updates in. The broker is the truth about orders; the audit database only knows what was intended.

    A simulated broker (`Capabilities.simulated`) lives in the loop's thread and acts at once. A real venue is called by
    the kernel's executor, from several threads at a time: a method may wait for the venue, a few seconds at most, and its
    error says what is known: `OrderRefused`, `DuplicateOrder`, `Throttled`, `NotSent`, or `Unanswered` (also for an answer
    that makes no sense). It never retries by itself: the executor does, after looking the order up by its
    `client_order_id`.
    """

    capabilities: ClassVar[Capabilities]

    venue_calendars: ClassVar[Mapping[str, str]] = {}
    """The exchange calendars of what the venue lists, by symbol pattern; the catalog's `instruments` come first. A symbol that
    is in neither cannot be traded at a real venue, but for pairs (``BTC/USD``), which trade round the clock."""

    def connect(self, connection: Connection) -> None:
        """Connect to the venue and its stream of updates; called once, before any other method. Simulated ones do nothing.

        Raises
        ------
        SettingsError : a secret is missing.
        VenueError : the venue cannot be reached, or refuses the keys.
        """

    def objection(self, decision: Decision) -> str:
        """Why the venue does not accept such an order, known without asking it; "" when it does.

        Judges the terms alone (type, time in force, fractions), never the account, and gives the same answer every time.
        """
        able = self.capabilities
        if decision.order_type not in able.order_types:
            return f"order type {decision.order_type}"
        if decision.time_in_force not in able.times_in_force:
            return f"time in force {decision.time_in_force}"
        if decision.bracket is not None:
            needed = {OrderType.STOP: "stop_loss", OrderType.TRAILING_STOP: "trail", OrderType.LIMIT: "take_profit"}
            given = {each: name for each, name in needed.items() if name in decision.bracket.given}
            lacking = [name for each, name in given.items() if each not in able.order_types]
            if TimeInForce.GTC not in able.times_in_force or (able.simulated and not able.brackets):
                lacking = list(given.values())
            if lacking:
                return f"bracket with {' and '.join(lacking)}"
        if not able.fractional and decision.quantity != decision.quantity.to_integral_value():
            return f"fraction {decision.quantity}"
        return ""

    def holds_pair(self, stop: Intent, profit: Intent) -> bool:
        """See `OrderEntry.holds_pair`: what `Capabilities.brackets` says."""
        del stop, profit
        return self.capabilities.brackets

    def fill_terms(self, symbol: str) -> FillTerms | str:
        """How it fills the orders of a symbol, for backtests in compiled code; or why numbers do not say that."""
        del symbol
        return "its fills are not a matter of numbers alone"

    @abstractmethod
    def orders(self) -> Sequence[Order]:
        """All open orders of the account, oldest first, also foreign ones."""

    def done_since(self, since: int) -> Sequence[Order]:
        """Orders that were done after a time, ns, oldest first, also foreign ones; none where the venue keeps none."""
        del since
        return ()

    def find(self, client_order_id: str) -> OrderStatus | None:
        """The order with this `client_order_id`, open or done; None where the venue has none, as far as it knows now."""
        found = (order for order in self.orders() if order.intent.client_order_id == client_order_id)
        return next((OrderStatus(order=order) for order in found), None)

    @abstractmethod
    def positions(self) -> dict[str, Position]:
        """Return the position by symbol; flat ones may be left out."""

    def health(self) -> list[str]:
        """Why it may miss updates of the venue; empty when it receives them."""
        return []
