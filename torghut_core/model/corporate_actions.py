"""Corporate actions: splits and cash dividends, and what they do to positions and orders.

A split of 7:1 makes 7 units of each 1: quantities are multiplied by 7, prices divided by it. A cash dividend is paid for each unit
that is held, and owed for each unit that is short.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from torghut_core.model.instruments import Instrument
from torghut_core.model.trading import ZERO, Bracket, Intent, Position

_ONE = Decimal(1)
_PRICES = ("limit_price", "stop_price", "trail_price", "highest_price")


class CorporateAction(msgspec.Struct, frozen=True, kw_only=True):
    """A split or a cash dividend of one symbol.

    Attributes
    ----------
    ex_date : the first day on which the market trades the symbol after a split, or without the dividend.
    new, old : a split makes `new` units of `old` ones; both 1 of a dividend.
    dividend : money per unit, in the currency of the symbol's prices; 0 of a split.
    payable_date : when a dividend is paid out; None where it is not known.

    Examples
    --------
    >>> split = CorporateAction(symbol="AAPL", ex_date=date(2014, 6, 9), new=Decimal(7))
    >>> str(split), split.units(Decimal(100)), split.price(Decimal("645.57"))
    ('split 7:1 on 2014-06-09', Decimal('700'), Decimal('92.22428571428571428571428571'))
    """

    symbol: str
    ex_date: date
    new: Decimal = _ONE
    old: Decimal = _ONE
    dividend: Decimal = ZERO
    payable_date: date | None = None

    def __str__(self) -> str:
        what = f"split {self.new:f}:{self.old:f}" if self.is_split else f"dividend of {self.dividend:f} a unit"
        return f"{what} on {self.ex_date}"

    @property
    def is_split(self) -> bool:
        """Whether it changes quantities and prices."""
        return self.new != self.old

    @property
    def factor(self) -> float:
        """What prices before it are multiplied by, so that they compare with those after it; 1 of a dividend."""
        return float(self.old / self.new)

    def units(self, quantity: Decimal) -> Decimal:
        """What a quantity of before is after it."""
        return quantity * self.new / self.old

    def price(self, price: Decimal) -> Decimal:
        """What a price of before is after it."""
        return price * self.old / self.new

    def applied(self, position: Position, instrument: Instrument, price: Decimal) -> tuple[Position, Decimal]:
        """The position after it, and the cash that it pays; owed where that is negative.

        What is less than a whole step of the instrument after a split is paid in cash.

        Parameters
        ----------
        position : before it.
        price : the last one before it.

        Examples
        --------
        >>> split = CorporateAction(symbol="AIG", ex_date=date(2009, 7, 1), old=Decimal(20))
        >>> whole = Instrument(quantity_step=Decimal(1))
        >>> after, cash = split.applied(Position(Decimal(110), Decimal("1.50")), whole, Decimal("1.16"))
        >>> after.quantity, after.average_price, after.realized_pnl, cash
        (Decimal('5'), Decimal('30.00'), Decimal('-3.400'), Decimal('11.600'))
        """
        exact, average = self.units(position.quantity), self.price(position.average_price)
        whole = instrument.whole(abs(exact)).copy_sign(exact) if self.is_split else exact
        rest = exact - whole
        cash = instrument.notional(rest, self.price(price)) + instrument.notional(position.quantity, self.dividend)
        profit = cash - instrument.notional(rest, average)
        after = Position(whole, average if whole else ZERO, position.realized_pnl + profit, position.fees)
        return after, cash

    def terms(self, intent: Intent, filled: Decimal, instrument: Instrument) -> Intent | None:
        """The terms of an open order after it; None where less than the smallest order remains.

        Prices are rounded to the tick and quantities to the step, as those of a decision are. What is filled stays as it was.
        """
        remaining = instrument.whole(self.units(intent.quantity - filled))
        if not remaining or remaining < instrument.smallest_order:
            return None
        prices: dict[str, Any] = {
            name: self.price(price) for name in _PRICES if (price := getattr(intent, name)) is not None
        }
        if intent.bracket is not None:
            prices["bracket"] = Bracket(**{name: self.price(price) for name, price in intent.bracket.given.items()})
        exact = msgspec.structs.replace(intent, quantity=filled + remaining, **prices)
        return msgspec.structs.replace(exact, **instrument.whole_prices(exact.side, exact))


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """What a corporate action does to an account.

    Attributes
    ----------
    at : when, ns.
    price : the last one before it, as it compares with those after it; 0 where none is known.
    holdings : signed units after it, by strategy; those that hold some.
    cash : what it pays in all; owed where that is negative.
    orders : the terms of each open order after a split, by client order id; None where the order is to be canceled.
    """

    action: CorporateAction
    at: int
    price: Decimal
    holdings: Mapping[str, Decimal]
    cash: Decimal
    orders: Mapping[str, Intent | None]


class PositionChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a corporate action has done to one strategy's position: the position before and after it, and the cash that was paid."""

    strategy_id: str
    before: Position
    after: Position
    cash: Decimal


class AppliedAction(msgspec.Struct, frozen=True, kw_only=True):
    """A corporate action that was applied at a time, ns, after so many `fills` of the account, and what it did to positions."""

    at: int
    fills: int
    action: CorporateAction
    changes: tuple[PositionChange, ...]

    def __str__(self) -> str:
        cash = sum((change.cash for change in self.changes), ZERO)
        before = sum((change.before.quantity for change in self.changes), ZERO)
        after = sum((change.after.quantity for change in self.changes), ZERO)
        held = f": {before.normalize():f} -> {after.normalize():f} units" if before != after else ""
        paid = f", cash {cash:+.2f}" if cash else ""
        return f"{self.action.symbol} {self.action}{held}{paid}"
