"""Positions: a fold over fills, at average cost.

A fill that increases a position moves its average price; one that reduces it is realized against the average price and
leaves it as it is; a fill through zero closes the position and opens the rest at its own price. Fees are kept apart from
the profit. Prices are per unit, and profits money: a price that rises by 1 earns the instrument's multiplier for each unit.

Only `Decimal` itself rounds (28 digits, and only in the division of an average price), so that
``realized_pnl + unrealized_pnl`` follows the cash paid and received to some 1e-20 of it.
"""

from __future__ import annotations

from decimal import Decimal

from torghut_core.model.trading import ZERO, Fill, Position, Side

ONE = Decimal(1)
_BUY = Side.BUY


def apply_fill(position: Position, fill: Fill, multiplier: Decimal = ONE) -> Position:
    """The position after a fill.

    Parameters
    ----------
    position : before it; `Position()` is flat.
    fill : its quantity is unsigned, its side says the sign.
    multiplier : of its instrument, see `Instrument`.

    Examples
    --------
    >>> from torghut_core.model.trading import Fill
    >>> def fill(side, quantity, price):
    ...     return Fill(client_order_id="", fill_id="", symbol="ES", side=side, quantity=Decimal(quantity),
    ...                 price=Decimal(price), fee=ZERO, event_ts=0)
    >>> long = apply_fill(Position(), fill(Side.BUY, "2", "1640.25"))
    >>> short = apply_fill(long, fill(Side.SELL, "3", "1641.25"))
    >>> short.quantity, short.average_price, short.realized_pnl
    (Decimal('-1'), Decimal('1641.25'), Decimal('2.00'))
    """
    held, average, realized = position.quantity, position.average_price, position.realized_pnl
    price = fill.price
    change = fill.quantity if fill.side is _BUY else -fill.quantity
    total = held + change
    if not held:
        average = price
    elif (held < 0) is (change < 0):
        average = (average * held + price * change) / total
    elif not total:
        realized += (price - average) * held * multiplier
        average = ZERO
    elif (total < 0) is (held < 0):
        realized -= (price - average) * change * multiplier
    else:
        realized += (price - average) * held * multiplier
        average = price
    return Position(total, average, realized, position.fees + fill.fee)


def add_position(position: Position, other: Position, multiplier: Decimal = ONE) -> Position:
    """The position with another one added at its average price; the other's profit and fees are not added.

    Examples
    --------
    >>> add_position(Position(Decimal(1), Decimal(10)), Position(Decimal(3), Decimal(14), Decimal(5))).average_price
    Decimal('13')
    """
    if not other.quantity:
        return position
    taken = Fill(
        client_order_id="",
        fill_id="",
        symbol="",
        side=Side.BUY if other.quantity > 0 else Side.SELL,
        quantity=abs(other.quantity),
        price=other.average_price,
        fee=ZERO,
        event_ts=0,
    )
    return apply_fill(position, taken, multiplier)


def unrealized_pnl(position: Position, price: Decimal, multiplier: Decimal = ONE) -> Decimal:
    """Profit if the position were closed at `price`, in quote currency; fees not subtracted.

    Examples
    --------
    >>> unrealized_pnl(Position(Decimal(-2), Decimal("1640.25")), Decimal("1640.00"))
    Decimal('0.50')
    """
    return (price - position.average_price) * position.quantity * multiplier
