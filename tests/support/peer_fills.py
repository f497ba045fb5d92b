"""How four other simulators fill one order, as their code says; written anew from reading it, for docs/fills.md.

`nautilus` and `backtrader` are what those two do when they are run: tests/plugins/brokers/test_peers.py compares.

Each gives ``"PRICE @N"`` for a fill by the N-th event (0: at once), ``"open"``, or another end, such as ``"rejected @0"``. An
order is a `Terms`; an event has a kind (trade, quote, bar) and prices: one, bid and ask, or open, high, low and close.
"""

from operator import gt, lt, ne
from typing import NamedTuple


class Terms(NamedTuple):
    """An order: prices are None where it has none."""

    is_buy: bool
    limit: float | None = None
    stop: float | None = None
    trail: float | None = None
    time_in_force: str = "gtc"


class Event(NamedTuple):
    """An event, with its volume."""

    kind: str
    prices: tuple[float, ...]
    volume: float = 10.0

    def price(self, is_buy):
        """The last price for a side."""
        return self.prices[1 if is_buy else 0] if self.kind == "quote" else self.prices[-1]


def _shown(price, number):
    return f"{price:g} @{number}"


class _Side:
    """Compares prices as a buyer does; a seller's are negative."""

    def __init__(self, is_buy):
        self.sign = 1 if is_buy else -1

    def reached(self, price, level):
        """Whether a price is at a stop or beyond."""
        return self.sign * price >= self.sign * level

    def within(self, price, level):
        """Whether a price is at a limit or better."""
        return self.sign * price <= self.sign * level

    def better(self, *prices):
        return min(prices, key=lambda price: self.sign * price)

    def worse(self, *prices):
        return max(prices, key=lambda price: self.sign * price)

    def ends(self, prices):
        """The best and the worst price of a bar or trade."""
        return self.better(*prices), self.worse(*prices)


def lean(terms, seen, events):
    """LEAN's `EquityFillModel` (commit 040718e): prices beyond a level, not at it; the last price is that of now.

    A trailing stop (`FillModel` of a later commit) is reached at its level, and follows the better end of a bar afterwards.
    """
    side, is_triggered = _Side(terms.is_buy), False
    if terms.trail is not None:
        return _lean_trailing(side, terms.trail, seen[-1].prices[-1], events)
    if terms.limit is None and terms.stop is None:
        return _shown(seen[-1].price(terms.is_buy), 0)
    for number, event in enumerate(events, 1):
        if event.kind == "quote":
            continue
        (best, worst), now = side.ends(event.prices), event.prices[-1]
        if terms.stop is None:
            if not side.reached(best, terms.limit):
                return _shown(side.better(worst, terms.limit), number)
            continue
        is_triggered = is_triggered or not side.within(worst, terms.stop)
        if is_triggered and terms.limit is None:
            return _shown(side.worse(terms.stop, now), number)
        if is_triggered and not side.reached(now, terms.limit):
            return _shown(side.better(worst, terms.limit), number)
    return "open"


def _lean_trailing(side, trail, market, events):
    stop = market + side.sign * trail
    for number, event in enumerate(events, 1):
        best, worst = side.ends(event.prices)
        if side.reached(worst, stop):
            return _shown(side.worse(stop, event.prices[-1]), number)
        stop = side.better(stop, best + side.sign * trail)
    return "open"


def nautilus(terms, seen, events):
    """NautilusTrader's matching engine (1.221): a price at a time, those of a bar that are news too; a stop gets its price.

    A trailing stop follows the last trade, which is the price before in a bar.
    """
    side, market, last, steps = _Side(terms.is_buy), None, None, []
    for number, event in enumerate((*seen, *events), 1 - len(seen)):
        if number == 1:
            market, last_seen = steps[-1][1] if steps else None, last
        if event.kind == "quote":
            steps.append((number, event.price(terms.is_buy), last))
        elif event.kind == "trade" and event.volume:
            last = event.prices[0]
            steps.append((number, last, last))
        elif event.kind == "bar":
            for is_news, price in zip((ne, gt, lt, ne), event.prices, strict=True):
                if last is None or is_news(price, last):
                    steps.append((number, price, last))
                    last = price
    limit, stop, is_waiting = terms.limit, terms.stop, terms.stop is not None or terms.trail is not None
    if terms.trail is not None:
        if None in (market, last_seen):
            return "error @0"
        stop = last_seen + side.sign * terms.trail
    elif is_waiting:
        if market is not None and side.reached(market, stop):
            return "rejected @0"
    elif market is not None and (limit is None or side.within(market, limit)):
        return _shown(market, 0)
    elif limit is None:
        return "rejected @0"
    elif terms.time_in_force in ("ioc", "fok"):
        return "canceled @0"
    for number, price, last in steps:
        if number < 1:
            continue
        if is_waiting and side.reached(price, stop):
            is_waiting = False
            if limit is None or side.within(price, limit):
                return _shown(stop, number)
        elif not is_waiting and side.within(price, limit):
            return _shown(limit if stop is None else side.worse(price, side.better(limit, stop)), number)
        if terms.trail is not None:
            stop = side.better(stop, last + side.sign * terms.trail)
    return "open"


def backtrader(terms, seen, events):
    """backtrader's `bbroker` (commit 048b8ca; trailing stops as in 1.9.78): the open, then what lies between low and high."""
    side, is_triggered = _Side(terms.is_buy), False
    stop = terms.stop if terms.trail is None else seen[-1].prices[-1] + side.sign * terms.trail
    for number, event in enumerate(events, 1):
        (best, worst), opened, closed = side.ends(event.prices), event.prices[0], event.prices[-1]
        if stop is None or is_triggered or (terms.limit is not None and side.reached(opened, stop)):
            is_triggered = True
            if terms.limit is None or side.within(opened, terms.limit):
                return _shown(opened, number)
            if side.within(best, terms.limit):
                return _shown(terms.limit, number)
        elif side.reached(worst, stop):
            is_triggered = True
            if terms.limit is None:
                return _shown(side.worse(stop, opened), number)
            if side.within(stop, terms.limit):
                return _shown(stop, number)
            falls = side.sign * opened > side.sign * closed or (not terms.is_buy and opened == closed)
            if falls and side.within(closed, terms.limit):
                return _shown(terms.limit, number)
        if terms.trail is not None:
            stop = side.better(stop, closed + side.sign * terms.trail)
    return "open"


def zipline(terms, _seen, events):
    """zipline-reloaded 3.2 (commit 79c6230): the close of a bar with a volume, at no impact."""
    side, is_triggered = _Side(terms.is_buy), terms.stop is None
    for number, event in enumerate(events, 1):
        close = event.prices[-1]
        if not event.volume:
            continue
        is_triggered = is_triggered or side.reached(close, terms.stop)
        if is_triggered and (terms.limit is None or side.within(close, terms.limit)):
            return _shown(close, number)
    return "open"
