"""How an event fills an order: the rules of the simulated venue, without state of their own.

docs/fills.md has them as a table, with those of others beside them; its tests read that table.

**The market's price** for an order is the touch (ask to buy, bid to sell) at a quote, and at a trade or bar when a fresh
quote is known; else the trade's price or the bar's open, moved against the order by the slippage (`costs`). A touch does not
slip.

**market**: the market's price at the first event.

**limit**: one that crosses the market when it arrives, or whose market is not known then, takes the first event's market
price, at worst its limit. Any other rests, and gets its limit and no better when a trade, the touch or a bar's low or high
reaches it. Only a bar that opens beyond the limit fills at its open: that is a gap.

**stop**: triggered by a trade or touch at the stop or beyond, and filled at it; by a bar at its open when that is
beyond, else at the stop when the high or low reaches it. Slippage comes on top, and a fresh quote that is worse is paid.
What is then not filled is a market order.

**stop_limit**: triggered in the same way, and filled in the same event when the market's price is within the limit; else
it rests as a limit order. What is left of the bar that triggered it counts: all of it where it was its open, else its
close.

**trailing_stop**: a stop that follows the best price from the market at its arrival on, at a distance of `trail_price` or
`trail_pct` of that price. In a bar it follows the open, is tried against the worse end, and only then follows the better
end, as which came first inside a bar is unknown; the close came after both.

**Legs of a bracket** that arrive with the fill of their entry meet the rest of the bar that filled it: all of it after an open
that did; else what certainly came after the fill. That is the close, and where it was a limit that was reached also the end of
the bar on that side: the stop may be reached there, the take-profit at the close alone.

**ioc, fok**: filled by the first event at its first price, or not at all. An order that waits for a trigger can be neither.
"""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter

import msgspec
import numpy as np

from torghut_brokers.costs import Bill
from torghut_brokers.events import NEVER, View
from torghut_core import Intent, Order, OrderType, TimeInForce, money

ZERO = Decimal(0)
AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)

_TRIGGERED = (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP)
_PRICES = ("limit_price", "stop_price", "trail_price", "trail_pct")
_prices_of = attrgetter(*_PRICES)
_NEEDED: dict[OrderType, tuple[tuple[str, ...], ...]] = {
    OrderType.MARKET: ((),),
    OrderType.LIMIT: (("limit_price",),),
    OrderType.STOP: (("stop_price",),),
    OrderType.STOP_LIMIT: (("limit_price", "stop_price"),),
    OrderType.TRAILING_STOP: (("trail_price",), ("trail_pct",)),
}


class PlacedOrder(msgspec.Struct, eq=False):
    """An order at the venue, or on its way there, and its state at the venue.

    `since` is the earliest time at which an event that it meets may begin. Its first session is from `opens_at` to `ends_at`;
    `until` is the loop time from which on it is known that an order for the day meets no more events.
    `is_fresh` until it has met an event; `is_resting` when it is a limit order that did not cross the market.
    `stop` is where the stop is now; `mark` the best price that a trailing stop has followed, None before the first.
    `bill` is what it owes in fees, None before its first fill that has some.
    """

    order: Order
    is_buy: bool
    since: int
    opens_at: int = -NEVER
    ends_at: int = NEVER
    until: int = NEVER
    is_fresh: bool = True
    is_resting: bool = False
    is_triggered: bool = False
    stop: Decimal | None = None
    mark: float | None = None
    bill: Bill | None = None

    def sort_key(self) -> bool:
        """Sorts orders that meet one event: stops that only reduce a position come before all others."""
        intent = self.order.intent
        return not (intent.is_protection and intent.order_type in _TRIGGERED)

    @property
    def levels(self) -> tuple[float, float]:
        """The prices of the events that it has to meet: up to the first, and from the second on."""
        intent = self.order.intent
        order_type, limit = intent.order_type, intent.limit_price
        if self.is_fresh or order_type is OrderType.MARKET or (self.is_triggered and limit is None):
            return np.inf, -np.inf
        below, above = -np.inf, np.inf
        if limit is not None and (self.is_triggered or self.stop is None):
            return (float(limit), above) if self.is_buy else (below, float(limit))
        assert self.stop is not None
        if self.mark is not None:  # a better price moves the stop
            below, above = np.nextafter(self.mark, below), np.nextafter(self.mark, above)
        return (below, float(self.stop)) if self.is_buy else (float(self.stop), above)


def arrive(placed: PlacedOrder, market: float | None) -> None:
    """Let an order meet the market's price at its arrival, None where it is not known."""
    intent, sign = placed.order.intent, 1 if placed.is_buy else -1
    placed.is_resting = False
    if market is None:
        return
    if intent.order_type is OrderType.TRAILING_STOP:
        _trail(placed, market, sign)
    elif intent.limit_price is not None and (placed.is_triggered or intent.order_type is OrderType.LIMIT):
        placed.is_resting = sign * market > sign * float(intent.limit_price)


def offer(placed: PlacedOrder, view: View, touch: float | None, slip: Decimal) -> Decimal | None:
    """Return the price at which an event fills an order, None where it does not. Moves and triggers its stop.

    Parameters
    ----------
    placed : an order that may meet the event.
    view : the event, as seen by the order's side.
    touch : ask (to buy) or bid (to sell) of a fresh quote known before the event, None where there is none.
    slip : what a price that slips is multiplied by.
    """
    intent = placed.order.intent
    limit, is_buy = intent.limit_price, placed.is_buy
    sign = 1 if is_buy else -1
    if intent.order_type in _TRIGGERED and not placed.is_triggered:
        return _trigger(placed, view, touch, slip, sign)
    if placed.is_resting or touch is None:
        market = money(view.first) * slip if view.slips else money(view.first)
        is_within = limit is None or sign * view.first <= sign * float(limit)
    else:
        market = money(touch)
        is_within = limit is None or sign * touch <= sign * float(limit)
    if limit is None:
        return market
    was_resting, placed.is_resting = placed.is_resting, True
    if is_within and (view.is_bar or not was_resting):
        return _within(limit, market, is_buy)
    if intent.time_in_force in AT_ONCE:
        return None
    return limit if sign * view.best <= sign * float(limit) else None


def rest_of(placed: PlacedOrder, view: View, price: float, *, was_triggered: bool) -> View:
    """What is left of a bar that filled an order, as an order of the other side sees it: what certainly came after the fill.

    Parameters
    ----------
    price : of the fill.
    was_triggered : its stop was reached by an earlier event.
    """
    intent, sign = placed.order.intent, 1 if placed.is_buy else -1
    waits = intent.order_type in _TRIGGERED and not was_triggered
    is_at_open = intent.limit_price is None or sign * view.first <= sign * float(intent.limit_price)
    if waits:
        assert placed.stop is not None
        is_at_open = is_at_open and sign * view.first >= sign * float(placed.stop)
    if is_at_open:
        return view._replace(best=view.worst, worst=view.best)
    worse, better = (min, max) if placed.is_buy else (max, min)
    worst = worse(price, view.last, view.last if waits else view.best)
    return view._replace(first=price, best=better(price, view.last), worst=worst)


def problem(intent: Intent) -> str:
    """Return why an order is invalid at any venue, "" where it is valid."""
    given = tuple([name for name, price in zip(_PRICES, _prices_of(intent), strict=True) if price is not None])
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


def _trigger(placed: PlacedOrder, view: View, touch: float | None, slip: Decimal, sign: int) -> Decimal | None:
    """Return the price at which an event that triggers the stop fills the order, None where it does not do both."""
    is_trailing, limit = placed.order.intent.order_type is OrderType.TRAILING_STOP, placed.order.intent.limit_price
    if is_trailing:
        _trail(placed, view.first, sign)
    assert placed.stop is not None
    if sign * view.first >= sign * float(placed.stop):
        trigger, rest = money(view.first), view.best
    else:
        touch, rest = None, view.last  # what was quoted when the bar began is past
        is_reached = sign * view.worst >= sign * float(placed.stop)
        if is_trailing and not is_reached:
            _trail(placed, view.best, sign)
            is_reached = sign * view.last >= sign * float(placed.stop)
        if not is_reached:
            return None
        trigger = placed.stop
    placed.is_triggered = True
    price = trigger * slip if view.slips else trigger
    if touch is not None and sign * touch > sign * trigger:
        trigger, price = money(touch), money(touch) if sign * touch > sign * price else price
    if limit is None:
        return price
    placed.is_resting = True
    if sign * trigger <= sign * limit:
        return _within(limit, price, placed.is_buy)
    return limit if view.is_bar and sign * rest <= sign * float(limit) else None


def _trail(placed: PlacedOrder, price: float, sign: int) -> None:
    """Move the stop after a price that is better than all before."""
    if not price > 0 or (placed.mark is not None and sign * price >= sign * placed.mark):
        return
    intent, best = placed.order.intent, money(price)
    distance = intent.trail_price if intent.trail_pct is None else best * intent.trail_pct / 100
    assert distance is not None
    placed.mark = price
    placed.stop = best + sign * distance
