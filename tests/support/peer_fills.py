"""How four other simulators fill one order, as their code says; written anew from reading it, for docs/fills.md.

Each gives ``"PRICE @N"`` for a fill by the N-th event (0: at once), or ``"open"``. An order is a `Terms`; an event has a kind
(trade, quote, bar) and prices: one, bid and ask, or open, high, low and close. Orders are good till canceled.
"""

from typing import NamedTuple


class Terms(NamedTuple):
    """An order: prices are None where it has none."""

    is_buy: bool
    limit: float | None = None
    stop: float | None = None
    trail: float | None = None


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
    """LEAN's `EquityFillModel` (commit 040718e): prices beyond a level, not at it; the last price is that of now."""
    side = _Side(terms.is_buy)
    if terms.limit is None and terms.stop is None:
        return _shown(seen[-1].price(terms.is_buy), 0)
    is_triggered = False
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


def nautilus(terms, seen, events):
    """NautilusTrader's matching engine (1.221): a bar is its open, high, low and close; a limit order gets its limit."""
    side, market = _Side(terms.is_buy), seen[-1].price(terms.is_buy) if seen else None
    is_passive = terms.stop is not None or terms.trail is not None or market is None
    if not is_passive and (terms.limit is None or side.within(market, terms.limit)):
        return _shown(market, 0)
    stop, is_triggered = terms.stop, False
    if terms.trail is not None:
        stop = market + side.sign * terms.trail
    for number, event in enumerate(events, 1):
        path = event.prices if event.kind == "bar" else (event.price(terms.is_buy),)
        for place, price in enumerate(path):
            if stop is not None and not is_triggered:
                if not side.reached(price, stop):
                    if terms.trail is not None:
                        stop = side.better(stop, price + side.sign * terms.trail)
                    continue
                is_triggered = True
                if terms.limit is None:
                    return _shown(price if place == 0 else stop, number)
            if terms.limit is None or side.within(price, terms.limit):
                return _shown(price if terms.limit is None else terms.limit, number)
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
