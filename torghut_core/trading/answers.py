"""Whether what a strategy answered is a decision that can be judged: its types, its symbol, and amounts that add up exactly."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection
from decimal import Decimal
from itertools import product
from operator import attrgetter
from types import NoneType
from typing import Any

from torghut_core.boundary import KERNEL_DECIMAL, context_of
from torghut_core.errors import text_of
from torghut_core.model.trading import Bracket, Cancel, Decision, OrderType, Side, TimeInForce
from torghut_core.trading.subscription import Listener

MOST_DIGITS = 18
"""Digits of a decision's amount before its point, or zeros behind it, at most: sums of such amounts stay exact."""


def _is_exact(amount: Decimal) -> bool:
    """Whether the books can add an amount to others without rounding, and anybody can write it out."""
    if not amount.is_finite():
        return False
    return not amount or (abs(amount.adjusted()) <= MOST_DIGITS and KERNEL_DECIMAL.plus(amount) == amount)


_TYPES = {
    "action": (Side,),
    "quantity": (Decimal,),
    "because": (str,),
    "order_type": (OrderType,),
    "limit_price": (Decimal, NoneType),
    "stop_price": (Decimal, NoneType),
    "trail_price": (Decimal, NoneType),
    "trail_pct": (Decimal, NoneType),
    "time_in_force": (TimeInForce,),
    "is_close": (bool,),
    "bracket": (Bracket, NoneType),
    "replaces": (str,),
}
_read = attrgetter(*_TYPES)
_SOUND = frozenset(product(*_TYPES.values()))


def complaint(proposed: Any, listener: Listener, symbols: Collection[str]) -> str:
    """What is wrong with what a handler gave, "" when it is a decision on a symbol that it may decide on, or None."""
    if proposed is None:
        return ""
    handler = listener.handler
    if type(proposed) not in (Decision, Cancel):
        return f"{handler} gave {_shown(proposed, listener, reprlib.repr):.200}, not a Decision"
    if type(proposed.symbol) is not str or proposed.symbol not in symbols:
        known = f"{', '.join(symbols):.200}"
        return f"{handler} gave a decision on {_shown(proposed.symbol, listener):.80} when it was shown {known}"
    if type(proposed) is Cancel:
        is_sound = type(proposed.client_order_id) is str and type(proposed.because) is str
        return "" if is_sound else f"{handler} gave a cancel whose id and reason are not both text"
    if tuple(map(type, _read(proposed))) in _SOUND:
        amounts = proposed.quantity, proposed.limit_price, proposed.stop_price, proposed.trail_price, proposed.trail_pct
        if proposed.bracket is not None:
            amounts += tuple(proposed.bracket.given.values())
        endless = [
            amount for amount in amounts if amount is not None and not (type(amount) is Decimal and _is_exact(amount))
        ]
        return f"{handler} gave a decision with the amount {endless[0]}" if endless else ""
    wrong = next(name for name, types in _TYPES.items() if type(getattr(proposed, name)) not in types)
    text = _shown(getattr(proposed, wrong), listener, repr)
    return f"{handler} gave a decision whose {wrong} is {text:.80}, not a {_TYPES[wrong][0].__name__}"


def _shown(given: Any, listener: Listener, show: Callable[[Any], str] = str) -> str:
    """What a strategy gave, as text: its own code may be what shows it."""
    return context_of(listener.subscription.instance.strategy).run(text_of, given, show)
