"""How an event fills an order: the rules of the simulated venue, without state of their own.

**The market's price** for an order is the touch (ask to buy, bid to sell) at a quote, and at a trade or bar when a fresh
quote is known; else the trade's price or the bar's open, moved against the order by the slippage. A touch does not slip.

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
end: which came first inside a bar is unknown.

**ioc, fok**: filled by the first event at its first price, or not at all. An order that waits for a trigger can be neither.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np

from torghut_brokers.events import View
from torghut_core import Intent, Order, OrderType, TimeInForce, money

ZERO = Decimal(0)
NEVER = 2**63 - 1
"""A time that does not come, ns."""
AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)

_TRIGGERED = (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP)
_PRICES = ("limit_price", "stop_price", "trail_price", "trail_pct")
_NEEDED: dict[OrderType, tuple[tuple[str, ...], ...]] = {
    OrderType.MARKET: ((),),
    OrderType.LIMIT: (("limit_price",),),
    OrderType.STOP: (("stop_price",),),
    OrderType.STOP_LIMIT: (("limit_price", "stop_price"),),
    OrderType.TRAILING_STOP: (("trail_price",), ("trail_pct",)),
}


class PlacedOrder(msgspec.Struct, eq=False):
    """An order at the venue, or on its way there, and its state at the venue.

    `since` is the earliest time at which an event that it meets may begin; `ends_at` the time at which one may not, and
    `until` the loop time from which on it is known that no more such events come. `is_fresh` until it has met an event.
    `stop` is where the stop is now; `mark` the best price that a trailing stop has met, None before the first.
    `fee_due` is what its fills cost, before minimum and rounding.
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

    def sort_key(self) -> bool:
        """Sorts orders that meet one event: stops that only reduce a position come before all others."""
        intent = self.order.intent
        return not (intent.is_protection and intent.order_type in _TRIGGERED)

    @property
    def takes_market(self) -> bool:
        """Whether it may fill at the market's price, so that it has to meet the next event whatever its price."""
        order_type = self.order.intent.order_type
        return (
            self.is_fresh
            or order_type is OrderType.MARKET
            or (self.is_triggered and order_type is not OrderType.STOP_LIMIT)
        )

    @property
    def levels(self) -> tuple[float, float]:
        """The prices of the events that it has to meet: up to the first, and from the second on."""
        if self.takes_market:
            return np.inf, -np.inf
        below, above = -np.inf, np.inf
        limit = self.order.intent.limit_price
        if limit is not None and (self.is_triggered or self.stop is None):
            return (float(limit), above) if self.is_buy else (below, float(limit))
        assert self.stop is not None
        if self.mark is not None:  # a better price moves the stop
            below, above = np.nextafter(self.mark, below), np.nextafter(self.mark, above)
        return (below, float(self.stop)) if self.is_buy else (float(self.stop), above)


def offer(placed: PlacedOrder, view: View, touch: float | None, slip: Decimal) -> Decimal | None:
    """Return the price at which an event fills an order, None where it does not. Moves and triggers its stop.

    Parameters
    ----------
    placed : an order that may meet the event.
    view : the event, as seen by the order's side.
    touch : ask (to buy) or bid (to sell) of a fresh quote known before the event, None where there is none or where
        the order does not use the market's price.
    slip : what a price that slips is multiplied by.
    """
    intent = placed.order.intent
    limit, is_buy = intent.limit_price, placed.is_buy
    sign = 1 if is_buy else -1
    if intent.order_type in _TRIGGERED and not placed.is_triggered:
        trigger = _trigger(placed, view, sign)
        if trigger is None:
            return None
        placed.is_triggered = True
        price = trigger * slip if view.slips else trigger
        if limit is None:
            return price
        return _within(limit, price, is_buy) if sign * trigger <= sign * limit else None
    market = view.first if touch is None else touch
    if limit is None:
        return money(market) * slip if view.slips and touch is None else money(market)
    level = float(limit)
    if (placed.is_fresh or view.is_bar) and sign * market <= sign * level:
        price = money(market) * slip if view.slips and touch is None else money(market)
        return _within(limit, price, is_buy)
    if intent.time_in_force in AT_ONCE:
        return None
    return limit if sign * view.best <= sign * level else None


def problem(intent: Intent) -> str:
    """Return why an order is invalid at any venue, "" where it is valid."""
    given = tuple([name for name in _PRICES if getattr(intent, name) is not None])
    if given not in _NEEDED[intent.order_type]:
        needed = " or ".join(" and ".join(names) or "no price" for names in _NEEDED[intent.order_type])
        return f"a {intent.order_type} order takes {needed}, not {' and '.join(given) or 'none'}"
    for name in ("quantity", *given):
        value = getattr(intent, name)
        if not (value.is_finite() and value > 0):
            return f"{name} {value} is not positive"
    if intent.trail_pct is not None and intent.trail_pct >= 100:
        return f"trail_pct {intent.trail_pct} is not below 100"
    if intent.time_in_force in AT_ONCE and intent.order_type in _TRIGGERED:
        return f"a {intent.order_type} order waits for its trigger and cannot be {intent.time_in_force}"
    return ""


def _within(limit: Decimal, price: Decimal, is_buy: bool) -> Decimal:
    return min(limit, price) if is_buy else max(limit, price)


def _trigger(placed: PlacedOrder, view: View, sign: int) -> Decimal | None:
    """Return the price at which the event triggers the stop, before slippage."""
    is_trailing = placed.order.intent.order_type is OrderType.TRAILING_STOP
    if is_trailing:
        _trail(placed, view.first, sign)
    assert placed.stop is not None
    level = float(placed.stop)
    if sign * view.first >= sign * level:
        return money(view.first)
    if sign * view.worst >= sign * level:
        return placed.stop
    if is_trailing:
        _trail(placed, view.best, sign)
    return None


def _trail(placed: PlacedOrder, price: float, sign: int) -> None:
    """Move the stop after a price that is better than all before."""
    if not price > 0 or (placed.mark is not None and sign * price >= sign * placed.mark):
        return
    intent, best = placed.order.intent, money(price)
    distance = intent.trail_price if intent.trail_pct is None else best * intent.trail_pct / 100
    assert distance is not None
    placed.mark = price
    placed.stop = best + sign * distance
