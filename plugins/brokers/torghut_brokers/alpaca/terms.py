"""Which orders the venue accepts, as a table: asset class x order type -> times in force, and those of fractions.

Equities: https://alpaca.markets/docs/trading/orders/ (its text is content/trading/orders.md of
github.com/alpacahq/alpaca-docs). Fractions: https://docs.alpaca.markets/docs/trading-1 (for the day only),
https://docs.alpaca.markets/us/changelog?page=5 (stop and stop-limit too),
https://alpaca.markets/support/how-can-i-pass-a-fractional-order (nine decimals). Crypto:
https://docs.alpaca.markets/docs/crypto-orders. All read 2026-11-21. Sub-pennies: rule 612 of the SEC's Regulation NMS.
A combination that the venue's pages do not mention is left out: such an order is denied here before the venue rejects it.

Whether a sale would make a short position depends on the account, not on the terms: crypto cannot be sold short, and the
venue answers ``insufficient-quantity``.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

import msgspec

from torghut_core import Bracket, Decision, Intent, OrderType, Side, TimeInForce

CENT, SUB_PENNY, FINEST = Decimal("0.01"), Decimal("0.0001"), Decimal("1E-9")
MOST_DECIMALS = 9
"""Decimals that a quantity may have."""


class Terms(msgspec.Struct, frozen=True):
    """What the venue accepts for one order type in one asset class; `fractional` holds the times in force for fractions."""

    times_in_force: frozenset[TimeInForce]
    fractional: frozenset[TimeInForce]


def _terms(times_in_force: str, fractional: str = "") -> Terms:
    return Terms(*(frozenset(map(TimeInForce, text.split())) for text in (times_in_force, fractional)))


TERMS: dict[str, dict[OrderType, Terms]] = {
    "equity": {
        OrderType.MARKET: _terms("day gtc ioc fok opg cls", "day"),
        OrderType.LIMIT: _terms("day gtc ioc fok opg cls", "day"),
        OrderType.STOP: _terms("day gtc", "day"),
        OrderType.STOP_LIMIT: _terms("day gtc", "day"),
        OrderType.TRAILING_STOP: _terms("day gtc"),
    },
    "crypto": {
        OrderType.MARKET: _terms("gtc ioc", "gtc ioc"),
        OrderType.LIMIT: _terms("gtc ioc", "gtc ioc"),
        OrderType.STOP_LIMIT: _terms("gtc ioc", "gtc ioc"),
    },
}

PRICES: dict[OrderType, tuple[str, ...]] = {
    OrderType.MARKET: (),
    OrderType.LIMIT: ("limit_price",),
    OrderType.STOP: ("stop_price",),
    OrderType.STOP_LIMIT: ("limit_price", "stop_price"),
    OrderType.TRAILING_STOP: (),
}
"""Prices that an order type needs; it takes no others."""


BOUNDED = {OrderType.MARKET: OrderType.LIMIT, OrderType.STOP: OrderType.STOP_LIMIT}
"""What an order with a highest price is at the venue."""


def price_below(price: Decimal, symbol: str) -> Decimal:
    """Return the highest price, at most this one, that the venue takes.

    Examples
    --------
    >>> price_below(Decimal("101.6789"), "AAPL"), price_below(Decimal("0.12345"), "AAPL")
    (Decimal('101.67'), Decimal('0.1234'))
    """
    if asset_class(symbol) == "crypto":
        return price.quantize(FINEST, ROUND_DOWN)
    return price.quantize(CENT if price >= 1 else SUB_PENNY, ROUND_DOWN)


STOP_ROOM = Decimal("0.05")
"""How far beyond its stop price a stop of crypto, which is a stop-limit order there, may fill: a share of the price."""


def limit_beyond(intent: Intent) -> Decimal:
    """Return the limit price of a stop that the venue takes as a stop-limit order only.

    Examples
    --------
    >>> stop = {"client_order_id": "", "decision_hash": "", "account": "", "strategy_id": "", "decided_at": 0}
    >>> limit_beyond(Intent(**stop, symbol="BTC/USD", side=Side.SELL, quantity=Decimal(1), stop_price=Decimal(90)))
    Decimal('85.50')
    """
    assert intent.stop_price is not None
    room = intent.stop_price * STOP_ROOM
    limit = intent.stop_price - room if intent.side is Side.SELL else intent.stop_price + room
    return limit.quantize(FINEST, ROUND_DOWN) if _decimals(limit) > MOST_DECIMALS else limit


def asset_class(symbol: str) -> str:
    """Return ``crypto`` for a pair with a slash, else ``equity``."""
    return "crypto" if "/" in symbol else "equity"


def objection(decision: Decision) -> str:
    """Return why the venue does not accept an order with these terms; "" when it does."""
    kind = asset_class(decision.symbol)
    order_type, time_in_force, quantity = decision.order_type, decision.time_in_force, decision.quantity
    terms = TERMS[kind].get(order_type)
    if terms is None:
        return f"order type {order_type} for {kind}"
    if time_in_force not in terms.times_in_force:
        return f"time in force {time_in_force} for {order_type} of {kind}"
    if quantity != quantity.to_integral_value() and time_in_force not in terms.fractional:
        return f"fraction {quantity} with {order_type} {time_in_force} of {kind}"
    if _decimals(quantity) > MOST_DECIMALS:
        return f"quantity {quantity} with more than {MOST_DECIMALS} decimals"
    problem = _price_objection(decision, kind)
    return problem if problem or decision.bracket is None else _bracket_objection(decision.bracket, decision, kind)


def _bracket_objection(bracket: Bracket, decision: Decision, kind: str) -> str:
    """Why the venue does not take the legs of an entry, as orders of their own."""
    given = bracket.given
    asked = " and ".join(given)
    if kind == "crypto":
        return f"{asked} for crypto" if "trail" in given else ""
    if decision.quantity != decision.quantity.to_integral_value():
        return f"{asked} for a fraction"
    for name, price in given.items():
        step = CENT if price >= 1 else SUB_PENNY
        if price % step:
            return f"{name} {price} is not a multiple of {step}"
    return ""


def _price_objection(decision: Decision, kind: str) -> str:
    order_type = decision.order_type
    for name in PRICES[order_type]:
        price = getattr(decision, name)
        if price is None:
            return f"{order_type} without {name}"
        if kind == "equity":
            step = CENT if price >= 1 else SUB_PENNY
            if price % step:
                return f"{name} {price} is not a multiple of {step}"
    if order_type is OrderType.TRAILING_STOP and (decision.trail_price is None) is (decision.trail_pct is None):
        return "trailing_stop needs one of trail_price and trail_pct"
    return ""


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0
