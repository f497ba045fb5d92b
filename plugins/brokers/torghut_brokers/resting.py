"""The open orders of one symbol at the venue, by the prices that they wait for: an event finds those that it reaches.

No other order is looked at, so an order that rests far away costs nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from torghut_brokers.events import NEVER, Events, View
from torghut_brokers.matching import PlacedOrder

_INFINITY = float("inf")


class Place(NamedTuple):
    """Where an order is: it has to meet prices up to `below` and from `above` on; `number` counts arrivals."""

    below: float
    above: float
    number: int


class Side:
    """The orders that buy, or those that sell: those that any event reaches, by number, and (price, number, order), sorted."""

    __slots__ = ("above", "always", "below")

    def __init__(self) -> None:
        self.always: dict[int, PlacedOrder] = {}
        self.below: list[tuple[float, int, PlacedOrder]] = []
        self.above: list[tuple[float, int, PlacedOrder]] = []

    def add(self, placed: PlacedOrder, place: Place) -> None:
        """Add an order."""
        below, above, number = place
        if below == _INFINITY:
            self.always[number] = placed
            return
        if below != -_INFINITY:
            insort(self.below, (below, number, placed))
        if above != _INFINITY:
            insort(self.above, (above, number, placed))

    def remove(self, place: Place) -> None:
        """Remove the order at a place."""
        below, above, number = place
        if self.always.pop(number, None) is not None:
            return
        if below != -_INFINITY:
            del self.below[bisect_left(self.below, (below, number))]
        if above != _INFINITY:
            del self.above[bisect_left(self.above, (above, number))]

    @property
    def bounds(self) -> tuple[float, float]:
        """The prices of the events that one of the orders has to meet: up to the first, and from the second on."""
        if self.always:
            return _INFINITY, -_INFINITY
        return self.below[-1][0] if self.below else -_INFINITY, self.above[0][0] if self.above else _INFINITY

    def reached(self, view: View) -> dict[int, PlacedOrder]:
        """The orders that have to meet an event, by number."""
        if not view.first > 0:  # nobody offers anything
            return {}
        low, high = min(view.best, view.worst), max(view.best, view.worst)
        below = self.below[bisect_left(self.below, (low,)) :]
        above = self.above[: bisect_right(self.above, (high, _INFINITY))]
        return self.always | {number: placed for _, number, placed in chain(below, above)}


class Resting:
    """The orders of one symbol that have arrived and are open, oldest first.

    Attributes
    ----------
    told : up to which time the events of earlier batches have told the symbol's trades, ns.
    sides : the orders that sell, and those that buy.
    """

    def __init__(self) -> None:
        self.told = -NEVER
        self.sides = (Side(), Side())
        self._places: dict[PlacedOrder, Place] = {}
        self._arrived = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, placed: PlacedOrder) -> bool:
        return placed in self._places

    def __iter__(self) -> Iterator[PlacedOrder]:
        return iter(self._places)

    def put(self, placed: PlacedOrder) -> bool:
        """Add an order, or find its place anew after it has changed; return whether that is another place."""
        below, above = placed.levels
        before, side = self._places.get(placed), self.sides[placed.is_buy]
        if before is None:
            self._arrived += 1
            place = Place(below, above, self._arrived)
        else:
            place = Place(below, above, before.number)
            if place == before:
                return False
            side.remove(before)
        self._places[placed] = place
        side.add(placed, place)
        return True

    def remove(self, placed: PlacedOrder) -> None:
        """Remove an order that is done."""
        self.sides[placed.is_buy].remove(self._places.pop(placed))

    def reached(self, events: Events, row: int) -> list[tuple[PlacedOrder, View]]:
        """The orders that have to meet an event, in the order in which they meet it, each with the event as it sees it."""
        if len(self._places) == 1:
            (placed,) = self._places
            return [(placed, events.view(row, placed.is_buy))]
        met = {}
        for is_buy, side in enumerate(self.sides):
            if side.always or side.below or side.above:
                view = events.view(row, bool(is_buy))
                met.update({number: (placed, view) for number, placed in side.reached(view).items()})
        return [met[number] for number in sorted(met, key=lambda each: (met[each][0].sort_key(), each))]
