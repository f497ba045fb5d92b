"""The legs of brackets: which protect the same units, what is left of these, and which legs have lapsed.

An entry with a bracket gets, with each of its fills, a pair of legs (`Intent.legs`): a stop and a take-profit of the filled
quantity, of which each loses what the other fills. The `Books` record them with the fill; the `Gateway` sends them, and makes
them smaller where the strategy sells otherwise.

A leg that ends without a fill, and not because we asked for it, has *lapsed*: what it protected is held without it. One that
never reached the venue, or has expired there, is sent anew; so is one that the venue canceled with the other of its pair, which
we had asked to cancel, and one that the venue could not make smaller. One that the venue has refused or canceled is reported,
until the position is closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from torghut_core.model.order_state import is_done
from torghut_core.model.trading import ZERO, Intent, Order, OrderState, Side
from torghut_core.trading.working_order import WorkingOrder

_BUY = Side.BUY
_FILLED, _EXPIRED, _PENDING_CANCEL = OrderState.FILLED, OrderState.EXPIRED, OrderState.PENDING_CANCEL
_CANCELED = OrderState.CANCELED


class Brackets:
    """The legs of one account's brackets, by pair (`Intent.pair`)."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], list[Order]] = {}
        """As long as one leg of the pair is open."""
        self._asked: set[tuple[str, str]] = set()
        """Pairs of which we have asked to cancel a leg."""
        self._lapsed: dict[str, WorkingOrder] = {}
        """By client order id."""
        self._renewable: set[str] = set()
        """Those of them that can be sent anew."""

    def add(self, order: Order) -> None:
        """Add an order, where it is a leg."""
        if order.intent.parent:
            self._pairs.setdefault(order.intent.pair, []).append(order)

    def forget_done(self, pair: tuple[str, str] | None = None) -> None:
        """Drop the pairs, or one, whose legs are done."""
        for each in list(self._pairs) if pair is None else [pair]:
            if all(is_done(leg.state) for leg in self._pairs.get(each, ())):
                self._pairs.pop(each, None)
                self._asked.discard(each)

    def left(self, pair: tuple[str, str]) -> Decimal:
        """Units of a fill that its legs have not sold; 0 once all of them are done."""
        legs = self._pairs.get(pair, ())
        size = max((leg.intent.quantity for leg in legs), default=ZERO)
        return size - sum((leg.filled_quantity for leg in legs), ZERO)

    def partner(self, intent: Intent) -> Intent | None:
        """The other leg of a pair, where it is not done; None for an order that is no leg."""
        legs = self._pairs.get(intent.pair, ()) if intent.parent else ()
        return next(
            (leg.intent for leg in legs if leg.intent.order_type is not intent.order_type and not is_done(leg.state)),
            None,
        )

    def shares(self, orders: Iterable[WorkingOrder], exits: Side, rest: Decimal) -> dict[tuple[str, str], Decimal]:
        """How many units each pair is to protect, of `rest` in all.

        The newest comes first: what a strategy sells otherwise is what it has held longest.

        Parameters
        ----------
        orders : the working orders of a view, oldest first.
        exits : the side of what closes its position.
        """
        largest: dict[tuple[str, str], Decimal] = {}
        for working in orders:
            order, intent = working.order, working.order.intent
            if intent.parent and intent.side is exits:
                largest[intent.pair] = max(order.remaining, largest.get(intent.pair, ZERO))
        shares = {}
        for pair, units in reversed(largest.items()):
            shares[pair] = max(ZERO, min(self.left(pair), units, rest))
            rest -= shares[pair]
        return shares

    # Legs that have lapsed.

    def note_end(self, leg: WorkingOrder, was: OrderState) -> None:
        """Note that a leg has changed, whose state `was` another one before: it may have lapsed."""
        order, pair = leg.order, leg.order.intent.pair
        if order.state is _PENDING_CANCEL:
            self._asked.add(pair)
        if not is_done(order.state) or order.state is _FILLED or leg.was_taken_back:
            return
        is_too_large = leg.requested_quantity is not None and not leg.cancel_reason
        if (was is _PENDING_CANCEL and not is_too_large) or self.left(pair) <= 0:
            return
        client_order_id = order.intent.client_order_id
        self._lapsed[client_order_id] = leg
        is_canceled = order.state is _CANCELED and (is_too_large or pair in self._asked)
        if is_canceled or order.state is _EXPIRED or order.reason.startswith("not sent"):
            self._renewable.add(client_order_id)

    def _is_missed(self, leg: WorkingOrder) -> bool:
        """Whether something is held that a leg would close, and no other leg of its kind is there to."""
        intent, side = leg.order.intent, leg.context.side
        is_held = side < 0 if intent.side is _BUY else side > 0
        legs = self._pairs.get(intent.pair, ())
        return is_held and not any(
            each.intent.order_type is intent.order_type and not is_done(each.state) for each in legs
        )

    @property
    def unprotected(self) -> list[str]:
        """What is held without the protection that its strategy has asked for, a line each; any thread."""
        return [_line(leg) for leg in list(self._lapsed.values()) if self._is_missed(leg)]

    def take_renewable(self) -> list[WorkingOrder]:
        """Take out the lapsed legs that can be sent anew: once no exit is on its way, which needs the units."""
        found = []
        for client_order_id, leg in list(self._lapsed.items()):
            is_missed, orders = self._is_missed(leg), leg.context.open_orders.values()
            is_leaving = any(order.intent.is_exit and not order.intent.is_protection for order in orders)
            if not is_missed or (client_order_id in self._renewable and not is_leaving):
                del self._lapsed[client_order_id]
                self._renewable.discard(client_order_id)
                found += [leg] if is_missed else []
        return found


def _line(leg: WorkingOrder) -> str:
    order, context = leg.order, leg.context
    kind = str(order.intent.order_type).replace("_", " ")
    return (
        f"{context.strategy_id} holds {context.symbol} without its {kind} order: {order.state} {order.reason}".rstrip()
    )


def renewed_id(client_order_id: str) -> str:
    """The id of a leg that takes the place of another.

    Examples
    --------
    >>> renewed_id("tg-ab-s1"), renewed_id("tg-ab-s1r2")
    ('tg-ab-s1r2', 'tg-ab-s1r3')
    """
    first, _, number = client_order_id.partition("r")
    return f"{first}r{int(number or 1) + 1}"
