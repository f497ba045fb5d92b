"""The order lifecycle: one table, state x event -> state, and the function that applies it.

Rule 1. All that changes an `Order` is here. The table says which report is possible in which state; a pair that is
missing from it raises `IllegalTransition` and changes nothing. An order is never repaired by guessing: an impossible
report is for the reconciler, which asks the venue.

Rule 2. Where the table cannot say, quantity does, in two cases. A fill that leaves nothing makes the order FILLED,
whatever the table says of a partial one; and an order that goes back to ACCEPTED with something filled is
PARTIALLY_FILLED.

Rule 3. Our own acts (SUBMIT, CANCEL, REPLACE) are events like the venue's reports. Our request only makes the state
PENDING_*; the venue's answer decides what follows. In between the order is live and fills. A PENDING order is recorded,
and taken to have been sent as soon as the venue mentions it: we may have stopped between sending it and recording that.

Rule 4. FILLED, CANCELED, REJECTED and EXPIRED are final: no order becomes open again. Venues still report two things
of an order that is done, because messages cross. A fill after a cancel or an expiry was made before the venue
took the order off: it counts, the order stays CANCELED or EXPIRED with more filled, and is FILLED when nothing remains.
A refused cancel or replace of an order that had meanwhile filled, expired or been canceled changes nothing. A fill of a
REJECTED order is neither: it is illegal.

Rule 5. A REPLACED order is open: the same order, with the terms that the report carries in `intent`. A venue that
puts a new order in the old one's place reports it under the old `client_order_id`, with the new `venue_order_id`.

Rule 6. Reports come at least once. A fill is known by its `fill_id`, which the order keeps: the second time it changes
nothing, in any state. A repeated ACCEPT changes nothing while the order is open (venues report "received" and "live"
separately, and may fill before they report either).

Rule 7. An overfill (more than was ordered), like a fill of zero, is illegal.

Rule 8. A venue may also show an order in full (`OrderStatus`), in a message or as the answer to a query. `reports_of`
turns that into the reports that are new in it, by quantities: the filled total tells a fill that was missed from one that
comes twice or too late. So it does not matter by which way updates come, how often, or in which order. Times are not
compared: our own acts are stamped by our clock, the venue's by its own.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from torghut_core.errors import IllegalTransition
from torghut_core.model.trading import Fill, Intent, Order, OrderEvent, OrderState, OrderStatus, OrderType, Report

TRANSITIONS: dict[OrderState, dict[OrderEvent, OrderState]] = {
    # Recorded; whether it was sent is not recorded.
    OrderState.PENDING: {
        OrderEvent.SUBMIT: OrderState.SUBMITTED,
        OrderEvent.ACCEPT: OrderState.ACCEPTED,
        OrderEvent.FILL: OrderState.PARTIALLY_FILLED,
        OrderEvent.CANCEL: OrderState.PENDING_CANCEL,
        OrderEvent.CANCELED: OrderState.CANCELED,
        OrderEvent.REPLACE: OrderState.PENDING_REPLACE,
        OrderEvent.REJECTED: OrderState.REJECTED,
        OrderEvent.EXPIRED: OrderState.EXPIRED,
    },
    # Sent; the venue has not answered.
    OrderState.SUBMITTED: {
        OrderEvent.ACCEPT: OrderState.ACCEPTED,
        OrderEvent.FILL: OrderState.PARTIALLY_FILLED,
        OrderEvent.CANCEL: OrderState.PENDING_CANCEL,
        OrderEvent.CANCELED: OrderState.CANCELED,
        OrderEvent.REPLACE: OrderState.PENDING_REPLACE,
        OrderEvent.REJECTED: OrderState.REJECTED,
        OrderEvent.EXPIRED: OrderState.EXPIRED,
    },
    # Open. A venue may reject an order that it had accepted (at the open), cancel or restate it unasked (a halt).
    OrderState.ACCEPTED: {
        OrderEvent.ACCEPT: OrderState.ACCEPTED,
        OrderEvent.FILL: OrderState.PARTIALLY_FILLED,
        OrderEvent.CANCEL: OrderState.PENDING_CANCEL,
        OrderEvent.CANCELED: OrderState.CANCELED,
        OrderEvent.REPLACE: OrderState.PENDING_REPLACE,
        OrderEvent.REPLACED: OrderState.REPLACED,
        OrderEvent.REJECTED: OrderState.REJECTED,
        OrderEvent.EXPIRED: OrderState.EXPIRED,
    },
    OrderState.PARTIALLY_FILLED: {
        OrderEvent.ACCEPT: OrderState.PARTIALLY_FILLED,
        OrderEvent.FILL: OrderState.PARTIALLY_FILLED,
        OrderEvent.CANCEL: OrderState.PENDING_CANCEL,
        OrderEvent.CANCELED: OrderState.CANCELED,
        OrderEvent.REPLACE: OrderState.PENDING_REPLACE,
        OrderEvent.REPLACED: OrderState.REPLACED,
        OrderEvent.EXPIRED: OrderState.EXPIRED,
    },
    OrderState.REPLACED: {
        OrderEvent.ACCEPT: OrderState.REPLACED,
        OrderEvent.FILL: OrderState.PARTIALLY_FILLED,
        OrderEvent.CANCEL: OrderState.PENDING_CANCEL,
        OrderEvent.CANCELED: OrderState.CANCELED,
        OrderEvent.REPLACE: OrderState.PENDING_REPLACE,
        OrderEvent.REPLACED: OrderState.REPLACED,
        OrderEvent.REJECTED: OrderState.REJECTED,
        OrderEvent.EXPIRED: OrderState.EXPIRED,
    },
    # Open, with a request on its way to the venue.
    OrderState.PENDING_REPLACE: {
        OrderEvent.ACCEPT: OrderState.PENDING_REPLACE,
        OrderEvent.FILL: OrderState.PENDING_REPLACE,
        OrderEvent.CANCEL: OrderState.PENDING_CANCEL,
        OrderEvent.CANCELED: OrderState.CANCELED,
        OrderEvent.REPLACED: OrderState.REPLACED,
        OrderEvent.REPLACE_REJECTED: OrderState.ACCEPTED,
        OrderEvent.REJECTED: OrderState.REJECTED,
        OrderEvent.EXPIRED: OrderState.EXPIRED,
    },
    OrderState.PENDING_CANCEL: {
        OrderEvent.ACCEPT: OrderState.PENDING_CANCEL,
        OrderEvent.FILL: OrderState.PENDING_CANCEL,
        OrderEvent.CANCELED: OrderState.CANCELED,
        OrderEvent.CANCEL_REJECTED: OrderState.ACCEPTED,
        OrderEvent.REPLACED: OrderState.PENDING_CANCEL,
        OrderEvent.REPLACE_REJECTED: OrderState.PENDING_CANCEL,
        OrderEvent.REJECTED: OrderState.REJECTED,
        OrderEvent.EXPIRED: OrderState.EXPIRED,
    },
    # Done: only messages that crossed.
    OrderState.FILLED: {
        OrderEvent.CANCEL_REJECTED: OrderState.FILLED,
        OrderEvent.REPLACE_REJECTED: OrderState.FILLED,
    },
    OrderState.CANCELED: {
        OrderEvent.FILL: OrderState.CANCELED,
        OrderEvent.CANCEL_REJECTED: OrderState.CANCELED,
        OrderEvent.REPLACE_REJECTED: OrderState.CANCELED,
    },
    OrderState.EXPIRED: {
        OrderEvent.FILL: OrderState.EXPIRED,
        OrderEvent.CANCEL_REJECTED: OrderState.EXPIRED,
        OrderEvent.REPLACE_REJECTED: OrderState.EXPIRED,
    },
    OrderState.REJECTED: {},
}
"""The state after each event in each state; a pair that is not here is illegal."""

_DONE = frozenset({OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED, OrderState.EXPIRED})


# In Python 3.11 reading a member of an enum costs more than the rest of a line; these are read for every report.
_FILL, _REPLACED = OrderEvent.FILL, OrderEvent.REPLACED
_ACCEPTED, _FILLED, _PARTIALLY_FILLED = OrderState.ACCEPTED, OrderState.FILLED, OrderState.PARTIALLY_FILLED


def is_done(state: OrderState) -> bool:
    """Whether this state is final: the order never becomes open again."""
    return state in _DONE


def apply_report(order: Order, report: Report) -> bool:
    """Apply a report to `order`, in place.

    Returns
    -------
    False for a fill that the order has seen before (nothing was changed, and nothing else may be done for it), else
    True.

    Raises
    ------
    IllegalTransition : the table has no such pair, or the quantity cannot be; nothing was changed.

    Notes
    -----
    `average_price` is the mean of the fills' prices weighted by their quantities.
    """
    event, fill, intent = report.event, report.fill, order.intent
    if fill is not None and fill.fill_id in order.fill_ids:
        return False
    state = TRANSITIONS[order.state].get(event)
    if state is None:
        raise IllegalTransition(intent.client_order_id, order.state, event)
    if (fill is None) is (event is _FILL):
        raise IllegalTransition(
            intent.client_order_id, order.state, f"{event} {'without' if fill is None else 'with'} a fill"
        )

    filled = order.filled_quantity
    if fill is not None:
        quantity = fill.quantity
        total = filled + quantity
        if quantity <= 0 or total > intent.quantity:
            raise IllegalTransition(
                intent.client_order_id, order.state, f"fill of {quantity} where {order.remaining} remains"
            )
        order.average_price = (order.average_price * filled + fill.price * quantity) / total if filled else fill.price
        order.filled_quantity = total
        order.fees += fill.fee
        order.fill_ids.append(fill.fill_id)
        if total == intent.quantity:
            state = _FILLED
    elif event is _REPLACED and report.intent is not None:
        if report.intent.quantity <= filled:
            raise IllegalTransition(
                intent.client_order_id, order.state, f"replaced by {report.intent.quantity} where {filled} is filled"
            )
        order.intent = msgspec.structs.replace(report.intent, strategy_id=intent.strategy_id)
    elif state is _ACCEPTED and filled:
        state = _PARTIALLY_FILLED

    order.state = state
    order.updated_at = report.event_ts
    if report.venue_order_id:
        order.venue_order_id = report.venue_order_id
    if report.reason:
        order.reason = report.reason
    return True


_ENDS = {
    OrderState.CANCELED: OrderEvent.CANCELED,
    OrderState.EXPIRED: OrderEvent.EXPIRED,
    OrderState.REJECTED: OrderEvent.REJECTED,
}
_TERMS = {
    OrderType.MARKET: ("quantity",),
    OrderType.LIMIT: ("quantity", "limit_price"),
    OrderType.STOP: ("quantity", "stop_price"),
    OrderType.STOP_LIMIT: ("quantity", "limit_price", "stop_price"),
    OrderType.TRAILING_STOP: ("quantity",),  # its stop is the venue's to move
}
"""The terms that a replace can change, by order type."""


def reports_of(order: Order, status: OrderStatus) -> list[Report]:
    """The reports that bring `order`, as we know it, to the status that the venue shows; none when nothing has changed.

    Applied one after the other they are all legal, unless the venue shows an impossible order. The price of fills that
    were missed is computed from the averages; their `fill_id` is ``total-`` and the filled total.
    """
    seen, intent = status.order, order.intent
    client_order_id, updated_at = intent.client_order_id, seen.updated_at
    is_over = is_done(order.state)
    is_refused = seen.state is OrderState.REJECTED and not seen.filled_quantity
    fresh = seen.filled_quantity - order.filled_quantity
    reports: list[Report] = []

    def add(event: OrderEvent, fill: Fill | None = None, terms: Intent | None = None, reason: str = "") -> None:
        reports.append(
            Report(
                client_order_id=client_order_id,
                event=event,
                event_ts=updated_at if fill is None else fill.event_ts,
                venue_order_id=seen.venue_order_id,
                fill=fill,
                intent=terms,
                reason=reason,
            )
        )

    is_open = not is_over and not is_refused
    if is_open and not order.venue_order_id:
        add(OrderEvent.ACCEPT)
    names = _TERMS[intent.order_type]
    terms = {name: getattr(seen.intent, name) for name in names}
    if is_open and fresh >= 0 and terms != {name: getattr(intent, name) for name in names}:
        intent = msgspec.structs.replace(intent, **terms)
        add(OrderEvent.REPLACED, terms=intent)
    if fresh > 0:
        fill = status.fill
        if fill is None or fill.quantity != fresh or fill.fill_id in order.fill_ids:
            fill = Fill(
                client_order_id=client_order_id,
                fill_id=f"total-{seen.filled_quantity}",
                symbol=intent.symbol,
                side=intent.side,
                quantity=fresh,
                price=_missed_price(order, seen, fresh),
                fee=Decimal(0),
                event_ts=updated_at,
            )
        add(OrderEvent.FILL, fill=fill)
    if not is_over and seen.filled_quantity < intent.quantity and seen.state in _ENDS and fresh >= 0:
        event = _ENDS[seen.state]
        if event is OrderEvent.REJECTED and not is_refused:  # an order that has filled cannot have been rejected
            event = OrderEvent.CANCELED
        add(event, reason=seen.reason)
    return reports


def _missed_price(order: Order, seen: Order, quantity: Decimal) -> Decimal:
    """Price of a fill that changed the average price from one value to the other."""
    if not order.filled_quantity:
        return seen.average_price
    cost = seen.average_price * seen.filled_quantity - order.average_price * order.filled_quantity
    price = cost / quantity
    return price if price > 0 else seen.average_price


def diagram() -> str:
    """The table as a Mermaid state diagram: what ``docs/order-lifecycle.md`` shows.

    An arrow carries all events that lead the same way. Events that leave the state as it is are left out.
    """
    arrows: dict[tuple[OrderState, OrderState], list[str]] = {}
    for state, events in TRANSITIONS.items():
        for event, target in events.items():
            label = event.value
            if event is OrderEvent.FILL:
                label = "fill of a part"
                arrows.setdefault((state, OrderState.FILLED), []).append("fill of all that remains")
            elif event in (OrderEvent.CANCEL_REJECTED, OrderEvent.REPLACE_REJECTED) and target is OrderState.ACCEPTED:
                arrows.setdefault((state, OrderState.PARTIALLY_FILLED), []).append(f"{event} of a partly filled order")
            if target is not state:
                arrows.setdefault((state, target), []).append(label)
    lines = [f"    [*] --> {OrderState.PENDING}"]
    lines += [f"    {state} --> {target}: {', '.join(events)}" for (state, target), events in arrows.items()]
    lines += [f"    {state} --> [*]" for state in TRANSITIONS if is_done(state)]
    return "\n".join(["stateDiagram-v2", *lines])
