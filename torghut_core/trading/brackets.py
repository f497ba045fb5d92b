"""The legs of brackets: which protect the same units, what is left of these, and which legs have lapsed.

An entry with a bracket gets, with each of its fills, a pair of legs (`Intent.legs`): a stop and a take-profit of the filled
quantity, of which each loses what the other fills. The `Books` record them with the fill; the `Gateway` sends them, and makes
them smaller where the strategy sells otherwise.

Where a venue does not hold two exits of the same units (`OrderEntry.holds_pair`), the kernel keeps the take-profit: it waits
in the outbox until the market reaches its price. Then the stop is canceled, and when that is done the take-profit is sent, to
be filled at once or not at all; where it is not, both legs are sent, and kept, anew.

A leg that ends without a fill, and not because we asked for it, has *lapsed*: what it protected is held without it. One that
never reached the venue, or has expired there, is sent anew, and so is one that a venue has canceled with its partner, or that we
have canceled because it could not be made smaller. One that the venue has refused, or canceled by itself, is reported until the
position is closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from torghut_core.model.order_state import is_done
from torghut_core.model.trading import ZERO, Intent, Order, OrderState, OrderType, Side
from torghut_core.trading.working_order import WorkingOrder

_BUY = Side.BUY
_FILLED, _EXPIRED, _CANCELED = OrderState.FILLED, OrderState.EXPIRED, OrderState.CANCELED
_PENDING_CANCEL, _REJECTED = OrderState.PENDING_CANCEL, OrderState.REJECTED

MADE_WAY = "its take-profit is reached"
"""Why a stop was canceled that makes way for a take-profit of the same units."""

TOO_LARGE = "a smaller one takes its place"
"""Why a leg was canceled that the venue could not make smaller."""

CLOSED = "what it protects is closed"
"""Why a leg was canceled otherwise, where nobody has given a reason."""


class Brackets:
    """The legs of one account's brackets, by pair (`Intent.pair`)."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], list[WorkingOrder]] = {}
        """As long as one leg of the pair is open."""
        self._lapsed: dict[tuple[str, str, OrderType], WorkingOrder] = {}
        """By pair and kind."""
        self.has_due = False
        """Whether a leg has lapsed that is to be sent anew at once."""

    def add(self, working: WorkingOrder) -> None:
        """Add an order, where it is a leg."""
        if working.order.intent.parent:
            self._pairs.setdefault(working.order.intent.pair, []).append(working)

    def forget_done(self, pair: tuple[str, str] | None = None) -> None:
        """Drop the pairs, or one, whose legs are done."""
        for each in list(self._pairs) if pair is None else [pair]:
            if all(is_done(leg.order.state) for leg in self._pairs.get(each, ())):
                self._pairs.pop(each, None)

    def left(self, pair: tuple[str, str]) -> Decimal:
        """Units of a fill that its legs have not sold; 0 once all of them are done."""
        legs = [leg.order for leg in self._pairs.get(pair, ())]
        size = max((leg.intent.quantity for leg in legs), default=ZERO)
        return size - sum((leg.filled_quantity for leg in legs), ZERO)

    def partner(self, intent: Intent) -> WorkingOrder | None:
        """The other leg of a pair, where it is not done; None for an order that is no leg."""
        legs = self._pairs.get(intent.pair, ()) if intent.parent else ()
        others = (leg for leg in legs if leg.order.intent.order_type is not intent.order_type)
        return next((leg for leg in others if not is_done(leg.order.state)), None)

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
        order = leg.order
        is_asked = leg.was_taken_back or (was is _PENDING_CANCEL and leg.cancel_reason != TOO_LARGE)
        if not is_done(order.state) or order.state is _FILLED or is_asked:
            return
        if self.left(order.intent.pair) > 0:
            self._lapsed[_kind(leg)] = leg
            others = [each for each in self._pairs[order.intent.pair] if _kind(each) != _kind(leg)]
            if leg.is_reached:  # it was not filled there: the stop that has made way is missed again
                self._lapsed.update({_kind(each): each for each in others if _has_made_way(each.order)})
            is_with_other = order.state is _CANCELED and any(each.cancel_reason for each in others)
            leg.is_due_again = leg.is_reached or leg.cancel_reason == TOO_LARGE or is_with_other
            self.has_due = self.has_due or leg.is_due_again

    def resume(self) -> None:
        """Note, of the legs that an earlier process recorded, what has lapsed, and drop pairs that are done."""
        for pair, legs in list(self._pairs.items()):
            for leg in legs:
                order = leg.order
                is_lapse = _is_renewable(order) or order.state is _REJECTED or not order.reason
                if is_done(order.state) and is_lapse and self.left(pair) > 0:
                    self._lapsed[_kind(leg)] = leg
        self.forget_done()

    def _is_missed(self, leg: WorkingOrder) -> bool:
        """Whether something is held that a leg would close, and no other leg of its kind is there to."""
        intent, side = leg.order.intent, leg.context.side
        is_held = side < 0 if intent.side is _BUY else side > 0
        legs = self._pairs.get(intent.pair, ())
        alike = [each.order for each in legs if each.order.intent.order_type is intent.order_type]
        return is_held and all(is_done(each.state) for each in alike)

    @property
    def unprotected(self) -> list[str]:
        """What is held without the protection that its strategy has asked for, a line each; any thread."""
        return [_line(leg) for leg in list(self._lapsed.values()) if self._is_missed(leg)]

    def take_renewable(self) -> list[WorkingOrder]:
        """Take out the lapsed legs that can be sent anew: those that the venue never had, or no longer has."""
        found = []
        for kind, leg in list(self._lapsed.items()):
            is_missed = self._is_missed(leg)
            if not is_missed or leg.is_due_again or _is_renewable(leg.order):
                del self._lapsed[kind]
                found += [leg] if is_missed else []
        self.has_due = False
        return found


def _is_renewable(order: Order) -> bool:
    """Whether a leg that has lapsed would be taken if it were sent anew."""
    is_replaced = _has_made_way(order) or order.reason == TOO_LARGE
    return order.state is _EXPIRED or is_replaced or order.reason.startswith("not sent")


def _has_made_way(order: Order) -> bool:
    """Whether a stop was canceled for its take-profit, before it was sent or after."""
    return order.state is _CANCELED and order.reason.endswith(MADE_WAY)


def _kind(leg: WorkingOrder) -> tuple[str, str, OrderType]:
    return *leg.order.intent.pair, leg.order.intent.order_type


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
