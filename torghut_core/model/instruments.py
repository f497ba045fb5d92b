"""Instruments: the terms on which a symbol is traded, and the rounding of orders to them."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

import msgspec

from torghut_core.model.trading import ZERO, Bracket, Decision, Intent, Side

_BUY, _ONE = Side.BUY, Decimal(1)
_DOWN, _UP = Context(prec=80, rounding=ROUND_FLOOR), Context(prec=80, rounding=ROUND_CEILING)
"""Precise enough for any amount that a decision may name."""


class Instrument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The terms of one symbol.

    Attributes
    ----------
    asset_class : `equity`, `crypto` or `future`; "" where it is not known.
    currency : of its prices; "" for the account's.
    calendar : of its sessions, a name of exchange_calendars, or 24/7.
    tick_size, quantity_step : prices and quantities of orders are whole multiples of these; 0 for any.
    min_quantity : least quantity of an order, units.
    min_notional : least notional of an order that opens something, in its currency.
    multiplier : money that a unit gains when its price rises by 1.
    margin : share of its notional that a position takes of the buying power; 1 where all of it is paid.
    adjusted : its prices are adjusted for splits.

    Examples
    --------
    >>> future = Instrument(tick_size=Decimal("0.25"), quantity_step=Decimal(1), multiplier=Decimal(50))
    >>> future.notional(Decimal(2), Decimal("1640.25")), future.whole(Decimal("2.7"))
    (Decimal('164025.00'), Decimal('2'))
    """

    asset_class: str = ""
    currency: str = ""
    calendar: str = "24/7"
    tick_size: Decimal = ZERO
    quantity_step: Decimal = ZERO
    min_quantity: Decimal = ZERO
    min_notional: Decimal = ZERO
    multiplier: Decimal = _ONE
    margin: Decimal = _ONE
    adjusted: bool = False

    @property
    def smallest_order(self) -> Decimal:
        """The least quantity of an order, units. What a strategy holds below it is dust: it counts as nothing held."""
        return max(self.min_quantity, self.quantity_step)

    def notional(self, quantity: Decimal, price: Decimal) -> Decimal:
        """What a quantity is worth at a price, in its currency."""
        return quantity * price * self.multiplier

    def whole(self, quantity: Decimal) -> Decimal:
        """The whole steps in an unsigned quantity."""
        step = self.quantity_step
        if not step or not _DOWN.remainder(quantity, step):
            return quantity
        return _DOWN.multiply(_DOWN.divide_int(quantity, step), step)

    def rounded(self, decision: Decision) -> Decision:
        """The decision in whole ticks and steps, towards less risk; the same object where it is in them already.

        The quantity is rounded down. The prices of an order to buy are rounded down, and those of an order to sell up: it
        never pays more or gets less than was proposed, and a stop that protects a position is reached no later. A trailing
        stop's distance is rounded down too. The legs of a bracket are rounded as the exits that they are. What is less than a
        step or a tick stays, to be denied.
        """
        quantity = self.whole(decision.quantity) or decision.quantity
        terms: dict[str, Any] = {} if quantity == decision.quantity else {"quantity": quantity}
        terms |= self.whole_prices(decision.action, decision)
        return msgspec.structs.replace(decision, **terms) if terms else decision

    def whole_prices(self, side: Side, terms: Decision | Intent) -> dict[str, Any]:
        """The prices of an order that are not in whole ticks, in whole ticks; see `rounded`."""
        prices: dict[str, Any] = {}
        if self.tick_size:
            context = _DOWN if side is _BUY else _UP
            for name, rounding in (("limit_price", context), ("stop_price", context), ("trail_price", _DOWN)):
                price = getattr(terms, name)
                whole = price and self._ticks(price, rounding)
                if whole and whole != price:
                    prices[name] = whole
            bracket = terms.bracket
            if bracket is not None and (protection := self._rounded_bracket(bracket, side)) != bracket:
                prices["bracket"] = protection
        return prices

    def _rounded_bracket(self, bracket: Bracket, entry: Side) -> Bracket:
        context = _UP if entry is _BUY else _DOWN
        roundings = {"stop_loss": context, "take_profit": context, "trail": _DOWN}
        whole = {name: self._ticks(amount, roundings[name]) or amount for name, amount in bracket.given.items()}
        return msgspec.structs.replace(bracket, **whole)

    def price_below(self, price: Decimal) -> Decimal:
        """The highest price in whole ticks that is at most this one."""
        return self._ticks(price, _DOWN) if self.tick_size else price

    def _ticks(self, price: Decimal, context: Context) -> Decimal:
        tick = self.tick_size
        return context.multiply(context.divide(price, tick).to_integral_value(context.rounding), tick)


ANY_TERMS = Instrument()
"""The terms of a symbol of which nothing is known."""
