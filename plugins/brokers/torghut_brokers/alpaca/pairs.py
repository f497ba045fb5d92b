"""A stop and a take-profit of the same units as one order of the venue's class ``oco``.

The venue holds the units of an exit for it alone, so two orders cannot protect the same ones (docs/alpaca-orders.md). In an
``oco`` the take-profit is the order, under our client order id, and the stop is its leg, to which the venue gives an id of its
own. Ours follows from that of the take-profit, which ends in ``p`` where the stop's has an ``s`` (`Intent.legs`), and `Names`
keeps which leg it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from torghut_brokers.alpaca import terms, wire
from torghut_brokers.alpaca.wire import WireOrder
from torghut_core import Intent, OrderType

CLASS = "oco"
_LEG = re.compile(r"(.+-)([sp])(\d+(?:r\d+)?)")


def other_name(client_order_id: str) -> str:
    """The client order id of the other leg of a pair; "" where this is not that of a leg.

    Examples
    --------
    >>> other_name("tg-ab-s1"), other_name("tg-ab-p1r2"), other_name("tg-ab")
    ('tg-ab-p1', 'tg-ab-s1r2', '')
    """
    found = _LEG.fullmatch(client_order_id)
    return "" if found is None else f"{found[1]}{'p' if found[2] == 's' else 's'}{found[3]}"


def is_stop(order: WireOrder) -> bool:
    """Whether an order of the venue is the stop of a pair."""
    return order.order_class == CLASS and order.stop_price is not None


def pair_of(intent: Intent) -> tuple[Intent, Intent] | None:
    """The stop and the take-profit that are sent as one, of which `intent` is one; None where it is sent alone."""
    other = intent.partner
    if other is None:
        return None
    stop, profit = (intent, other) if intent.order_type is OrderType.STOP else (other, intent)
    return (stop, profit) if is_pair(stop, profit) else None


def is_pair(stop: Intent, profit: Intent) -> bool:
    """Whether two orders can be sent as one: legs of equities in whole shares, by their terms, and by their names."""
    return (
        terms.asset_class(stop.symbol) == "equity"
        and (stop.order_type, profit.order_type) == (OrderType.STOP, OrderType.LIMIT)
        and stop.quantity == profit.quantity == stop.quantity.to_integral_value()
        and other_name(stop.client_order_id) == profit.client_order_id
    )


def body_of(stop: Intent, profit: Intent) -> dict[str, object]:
    """Return the body of the POST that places a pair: all numbers are text."""
    assert stop.stop_price is not None
    assert profit.limit_price is not None
    body = wire.body_of(profit)
    return body | {
        "order_class": CLASS,
        "take_profit": {"limit_price": body["limit_price"]},
        "stop_loss": {"stop_price": wire.text(stop.stop_price)},
    }


class Names:
    """Our client order ids of stops that the venue has named, by the venue's id; may be called from any thread."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def learn(self, profit: WireOrder, client_order_id: str) -> None:
        """Keep the names of the legs of a take-profit that was placed under this client order id; foreign ones stay."""
        name = other_name(client_order_id)
        for leg in profit.legs or ():
            self._names.setdefault(leg.id, name or leg.client_order_id)

    def knows(self, order: WireOrder) -> bool:
        """Whether the name of a stop is known."""
        return order.id in self._names

    def named(self, chain: Iterable[WireOrder]) -> list[WireOrder]:
        """An order and what replaced it, oldest first, the first of them under our name."""
        orders = list(chain)
        name = next((self._names[each.id] for each in orders if each.id in self._names), None)
        if name is not None:
            self._names |= {each.id: name for each in orders}
            orders[0] = msgspec.structs.replace(orders[0], client_order_id=name)
        return orders
