"""The open orders of one symbol at the venue, by the prices that they wait for: an event finds those that it reaches.

No other order is looked at, so an order that rests far away costs nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from torghut_brokers.events import NEVER, Events, View
from torghut_brokers.matching import PlacedOrder


class Place(NamedTuple):
    """Where an order is: it has to meet prices up to `below` and from `above` on; `number` counts arrivals."""

    below: float
    above: float
    number: int


class Side:
    """The orders that buy, or those that sell: (price, number, order), sorted."""

    __slots__ = ("above", "below")

    def __init__(self) -> None:
        self.below: list[tuple[float, int, PlacedOrder]] = []
        self.above: list[tuple[float, int, PlacedOrder]] = []

    @property
    def bounds(self) -> tuple[float, float]:
        """The prices of the events that one of the orders has to meet: up to the first, and from the second on."""
        return self.below[-1][0] if self.below else -np.inf, self.above[0][0] if self.above else np.inf

    def reached(self, view: View) -> dict[int, PlacedOrder]:
        """The orders that have to meet an event, by number."""
        if not view.first > 0:  # nobody offers anything
            return {}
        low, high = min(view.best, view.worst), max(view.best, view.worst)
        below = self.below[bisect_left(self.below, (low,)) :]
        above = self.above[: bisect_right(self.above, (high, np.inf))]
        return {number: placed for _, number, placed in chain(below, above)}


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

    def put(self, placed: PlacedOrder) -> None:
        """Add an order, or find its place anew after it has changed."""
        before = self._places.get(placed)
        if before is None:
            self._arrived += 1
            place = Place(*placed.levels, self._arrived)
        else:
            place = Place(*placed.levels, before.number)
            if place == before:
                return
            self._take(placed, before)
        self._places[placed] = place
        side = self.sides[placed.is_buy]
        if place.below != -np.inf:
            insort(side.below, (place.below, place.number, placed))
        if place.above != np.inf:
            insort(side.above, (place.above, place.number, placed))

    def remove(self, placed: PlacedOrder) -> None:
        """Remove an order that is done."""
        self._take(placed, self._places.pop(placed))

    def _take(self, placed: PlacedOrder, place: Place) -> None:
        side = self.sides[placed.is_buy]
        if place.below != -np.inf:
            del side.below[bisect_left(side.below, (place.below, place.number))]
        if place.above != np.inf:
            del side.above[bisect_left(side.above, (place.above, place.number))]

    def reached(self, events: Events, row: int) -> list[tuple[PlacedOrder, View]]:
        """The orders that have to meet an event, in the order in which they meet it, each with the event as it sees it."""
        met = {}
        for is_buy, side in enumerate(self.sides):
            if side.below or side.above:
                view = events.view(row, bool(is_buy))
                met.update({number: (placed, view) for number, placed in side.reached(view).items()})
        return [met[number] for number in sorted(met, key=lambda each: (met[each][0].sort_key(), each))]
