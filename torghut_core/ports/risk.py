"""Risk rules and advisors: a decision in, a verdict out; and the context that they judge by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from typing import ClassVar, Literal

import msgspec

from torghut_core.model.instruments import ANY_TERMS, Instrument
from torghut_core.model.trading import ZERO, Account, Decision, Limits, OrderType, Side, Verdict
from torghut_core.ports.plugin import Plugin

_BUY, _SELL = Side.BUY, Side.SELL  # a member of an enum, reached through its class, is slow in Python 3.11


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An open order, as a rule sees it; `quantity` is the part that is not filled, unsigned units."""

    strategy_id: str
    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    is_protection: bool = False
    """An exit that waits for its price; an exit of its own strategy cancels it first."""


class RiskContext(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The account and the market when the decision was made, for the rules. It is recorded with the decision.

    Quantities are signed units, money is in the account's currency. `position` is the account's net position in the
    symbol, as the venue has it, `strategy_position` this strategy's part of it by its own fills; `orders` are the account's open orders in the symbol, and
    `reserved_cash` what open buy orders of all symbols may cost.
    """

    now: int
    strategy_id: str
    price: Decimal
    price_ts: int
    position: Decimal
    strategy_position: Decimal
    reserved_cash: Decimal
    account: Account
    limits: Limits
    allow_shorts: bool
    last_order_at: int | None
    """When this strategy last had an order allowed in this symbol; None for never."""
    orders: tuple[OpenOrder, ...] = ()
    day_start_equity: Decimal = ZERO
    """Equity at the beginning of the account's day (`Broker.day_zone`)."""
    day_low_equity: Decimal = ZERO
    """The lowest equity since then by which a decision was judged, including this one."""
    gross_exposure: Decimal = ZERO
    """Notional of the account's positions and open entries, all symbols, each unsigned, at the last prices or those before
    them, whichever are higher. Exits open nothing."""
    strategy_exposure: Decimal = ZERO
    """The same of this strategy's own."""
    open_orders: int = 0
    """How many orders of the account are open, all symbols."""
    orders_last_minute: int = 0
    """Orders that the account was sent within the 60 s up to `now`."""
    difference: Decimal = ZERO
    """Signed units of `position` that our books do not explain, as the venue last showed it."""
    recent_price: Decimal | None = None
    """Median of the closes right before `price`, see `recent_prices`; None where there were none."""
    bar_ns: int = 0
    """Step of the bar that it was decided on, ns; 0 where it is not known."""
    bid: Decimal | None = None
    ask: Decimal | None = None
    """The fresh quote; None where there is none, or its spread is too wide to say anything."""
    collar: Decimal = ZERO
    """How much worse than the reference price an order without a limit is judged, as a share of it."""
    instrument: Instrument = ANY_TERMS
    """The terms of the symbol."""

    @property
    def reference_price(self) -> Decimal:
        """What a unit costs at least: the largest of `price`, `recent_price` and `ask`, so that no bad print makes it cheap."""
        known = (self.price, self.recent_price, self.ask)
        return max(abs(price) for price in known if price is not None)

    def worst_price(self, decision: Decision) -> Decimal:
        """The highest price at which the order may trade, as far as it can be known; limits are judged at it.

        The largest of the reference price and the prices that the order names; with the collar on top, unless a limit
        price bounds it. Orders to sell have no such bound: they may always trade higher.
        """
        reference, trail = self.reference_price, decision.trail_price
        if decision.trail_pct is not None:
            trail = reference * decision.trail_pct / 100
        named = (reference, decision.limit_price, decision.stop_price, None if trail is None else reference + trail)
        worst = max(abs(price) for price in named if price is not None)
        is_bounded = decision.action is _BUY and decision.limit_price is not None
        return worst if is_bounded else worst * (1 + self.collar)

    def worst_cost(self, decision: Decision) -> Decimal:
        """What a unit is worth at the worst price: that times the instrument's multiplier, in the account's currency."""
        return self.worst_price(decision) * self.instrument.multiplier

    @property
    def working(self) -> Decimal:
        """Signed units that this strategy's open orders in the symbol would still add."""
        return sum((_signed(order) for order in self.orders if order.strategy_id == self.strategy_id), ZERO)

    @property
    def account_working(self) -> Decimal:
        """Signed units that all open orders of the account in the symbol would still add."""
        return sum(map(_signed, self.orders), ZERO)

    def closable(self, action: Side) -> Decimal:
        """How many units an order with this action can close: of a long position (SELL) or of a short one (BUY).

        The smaller of the strategy's and the account's position counts, less the open orders in the same direction: an exit
        on its way counts as done, an entry on its way does not count yet. So overlapping exits never reverse a position.
        The strategy's own protection does not count: it is canceled first.
        """
        account = self.position if action is _SELL else -self.position
        return max(ZERO, min(self.own_closable(action), account - self._on_their_way[action][1]))

    def own_closable(self, action: Side) -> Decimal:
        """How many units of the strategy's own position such an order can close, whatever the account holds."""
        held = self.strategy_position if action is _SELL else -self.strategy_position
        return max(ZERO, held - self._on_their_way[action][0])

    @property
    def _on_their_way(self) -> Mapping[Side, tuple[Decimal, Decimal]]:
        """By side, units of the strategy's open orders and of the account's, without the strategy's own protection."""
        return self._sums_by_side if self.orders else _NOTHING

    @cached_property
    def _sums_by_side(self) -> Mapping[Side, tuple[Decimal, Decimal]]:
        strategy, own, others = self.strategy_id, {_BUY: ZERO, _SELL: ZERO}, {_BUY: ZERO, _SELL: ZERO}
        protection: dict[tuple[Side, str], list[Decimal]] = {}
        for order in self.orders:
            if order.strategy_id == strategy:
                own[order.side] += ZERO if order.is_protection else order.quantity
            elif order.is_protection:
                either = protection.setdefault((order.side, order.strategy_id), [ZERO, ZERO])
                either[order.order_type is _LIMIT] += order.quantity
            else:
                others[order.side] += order.quantity
        for (side, _), either in protection.items():
            others[side] += max(either)  # of a stop and a take-profit one ends the other
        return {side: (own[side], own[side] + others[side]) for side in own}


_LIMIT = OrderType.LIMIT
_NOTHING = dict.fromkeys(Side, (ZERO, ZERO))


def _signed(order: OpenOrder) -> Decimal:
    return order.quantity if order.side is _BUY else -order.quantity


class RuleTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule does to a strategy's decisions, where that is one of a few things with a number; exits pass all of them.

    Attributes
    ----------
    kind : what `limit` bounds, and so what an order that opens something is cut to:

        - `notional` : the order's, at its worst price, quote currency;
        - `position-share` : the account's position in the symbol with the order, at its worst price, share of equity;
        - `buying-power` : the margin of what it opens, with `limit` on top (a share of it), is paid for by what is left;
        - `pause` : seconds since the strategy's last order in the symbol, which have to have passed;
        - `no-shorts` : nothing is sold that is not held, but where shorts are allowed.
    limit : None for no limit.
    step : what is left of an order is a multiple of this, or of the instrument's step where that is larger, units.
    """

    kind: Literal["notional", "position-share", "buying-power", "pause", "no-shorts"]
    limit: Decimal | None = None
    step: Decimal = ZERO


class RiskRule(Plugin, ABC):
    """One deterministic rule. It can only tighten: the kernel's own gates run before and after it."""

    limit: ClassVar[str] = ""
    """The field of `Limits` that it enforces: where a strategy states that limit and the catalog lists no rule for it, the
    kernel adds this rule with its default parameters. "" for a rule that runs only where the catalog lists it."""

    @abstractmethod
    def check(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow, shrink to a smaller quantity, or deny, with code, value and limit.

        The decision's quantity is as earlier rules have shrunk it. All rules run, in catalog order, also after a denial
        (then with the quantity before it): an operator sees every reason at once.
        """

    def terms(self, limits: Limits) -> RuleTerms | None:
        """What it does to the decisions of a strategy with these limits, for backtests in compiled code.

        None where that is more than numbers say: then every decision has to be shown to it.
        """
        del limits
        return None


class Advisor(Plugin, ABC):
    """A second opinion that may veto or shrink a decision, never enlarge it."""

    @abstractmethod
    def review(self, decision: Decision, context: RiskContext) -> Verdict:
        """Allow, shrink or deny; the risk rules come after and have the last word."""
