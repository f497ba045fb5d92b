"""An order that is not done, as the books keep it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from torghut_core.model.trading import ZERO, Intent, Order
from torghut_core.ports import LiveContext


class WorkingOrder(msgspec.Struct):
    """An order that is not done, with the view that it belongs to and the price that it was decided at."""

    order: Order
    context: LiveContext
    price: Decimal
    worst_price: Decimal = ZERO
    """The highest price at which it may trade, as far as that was known when it was added."""
    open_quantity: Decimal = ZERO
    """Signed units that the order would still add to the position."""
    reserve: Decimal = ZERO
    """Buying power that these may take, of a buy."""
    asked: Intent | None = None
    """The terms that its strategy has asked for and the venue has not answered about."""
    requested_quantity: Decimal | None = None
    """The quantity that the broker was asked to change it to, and has not."""
    cancel_reason: str = ""
    """Why its strategy has asked that it be canceled."""
    made_room: bool = False
    """Whether it is an exit for which protection was canceled or made smaller."""
    is_reached: bool = False
    """Of a take-profit that the kernel keeps, whether the market has reached its price."""
    is_due_again: bool = False
    """Of a leg of a bracket that has ended, whether it is to be sent anew at once."""
    was_taken_back: bool = False
    """Whether we canceled it before it was sent."""
    was_given_up: bool = False
    """Whether we took it for done before the venue had reported anything about it."""

    @property
    def worst_terms(self) -> tuple[Intent, Decimal]:
        """Its terms and the units that remain of it; while it is being replaced, what costs more of both."""
        order, asked = self.order, self.asked
        intent, remaining = order.intent, order.remaining
        if asked is None:
            return intent, remaining
        prices = {
            name: max(getattr(intent, name), getattr(asked, name))
            for name in ("limit_price", "stop_price")
            if getattr(intent, name) is not None
        }
        return msgspec.structs.replace(intent, **prices), max(remaining, asked.quantity - order.filled_quantity)
