"""Orders of the classes bracket, oco and oto: one request for several orders that depend on each other.

What the venue allows is in docs/alpaca-orders.md, each rule with its source.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from torghut_testing.alpaca import rules
from torghut_testing.alpaca.rules import Asset, OrderRequest
from torghut_testing.alpaca.wire import number

SIMPLE = ("", "simple")
NAMES = {"bracket": "otoco", "oco": "oco", "oto": "oto"}
"""Classes of several orders, each with the name that the venue's own messages use for it."""
CENT = Decimal("0.01")


def read(body: dict[str, Any], asset: Asset) -> OrderRequest:
    """Validate the body of an order for `asset`, of any class; the request has its `legs`.

    A simple order may have a `take_profit` and a `stop_loss`: the venue does not look at them.

    Raises
    ------
    Refusal : 422 or 403, with what is not allowed.
    """
    order_class = body.get("order_class") or ""
    if order_class in SIMPLE:
        return msgspec.structs.replace(rules.read(body, asset), order_class=order_class)
    if order_class not in NAMES:
        raise rules.malformed("invalid order_class")
    _check(body, order_class, asset)
    target = _price(body, "take_profit", "limit_price")
    stop, stop_limit = _price(body, "stop_loss", "stop_price"), _price(body, "stop_loss", "limit_price")
    _check_presence(body, order_class, target, stop)
    main = rules.read(body if order_class != "oco" else body | {"limit_price": target}, asset)
    is_sale = (main.side == "sell") == (order_class == "oco")
    if target is not None and stop is not None and not (target > stop if is_sale else target < stop):
        raise rules.unprocessable(f"take_profit.limit_price must be {'>' if is_sale else '<'} stop_loss.stop_price")
    leg = {
        "side": "sell" if is_sale else "buy",
        "qty": main.qty,
        "time_in_force": main.time_in_force,
    }
    legs = []
    if target is not None and order_class != "oco":
        legs.append(rules.read(leg | {"type": "limit", "limit_price": target}, asset))
    if stop is not None:
        kind = "stop" if stop_limit is None else "stop_limit"
        legs.append(rules.read(leg | {"type": kind, "stop_price": stop, "limit_price": stop_limit}, asset))
    return msgspec.structs.replace(main, order_class=order_class, legs=tuple(legs))


def check_intent(order_class: str, *, opens: bool) -> None:
    """Check that an order with legs opens a position, or that a pair of exits closes one.

    Raises
    ------
    Refusal : 422.
    """
    if opens == (order_class == "oco"):
        raise rules.unprocessable(f"{order_class} orders must be {'exit' if opens else 'entry'} orders")


def check_distance(request: OrderRequest, market: Decimal | None) -> None:
    """Check that a stop, and the take-profit of an entry, are a cent from the price where the position begins.

    Parameters
    ----------
    request : of any class.
    market : the market price of its symbol, dollars per unit; None where it is not known.

    Raises
    ------
    Refusal : 422, with the ``base_price`` that decides.
    """
    own = request.limit_price
    for leg in request.legs:
        is_sale = leg.side == "sell"
        if leg.stop_price is not None:
            bases = [price for price in (own, market) if price is not None]
            base = min(bases, default=None) if is_sale else max(bases, default=None)
            _check_side("stop_loss.stop_price", leg.stop_price, base, below=is_sale)
        else:
            assert leg.limit_price is not None
            _check_side("take_profit.limit_price", leg.limit_price, market if own is None else own, below=not is_sale)


def _check_side(name: str, price: Decimal, base: Decimal | None, *, below: bool) -> None:
    if base is None or (price <= base - CENT if below else price >= base + CENT):
        return
    bound = "<= base_price - 0.01" if below else ">= base_price + 0.01"
    raise rules.unprocessable(f"{name} must be {bound}", base_price=number(base))


def _check(body: dict[str, Any], order_class: str, asset: Asset) -> None:
    """Check what a class allows beside the prices of its legs."""
    if asset.is_crypto:
        raise rules.unprocessable(f"crypto orders not allowed for advanced order_class: {NAMES[order_class]}")
    qty = rules.decimal(body.get("qty"), "qty")
    if body.get("notional") not in (None, "") or (qty is not None and qty % 1):
        raise rules.unprocessable("fractional orders must be simple orders")
    if body.get("time_in_force") not in ("day", "gtc"):
        raise rules.malformed(f'{order_class} orders support only "day" or "gtc" time_in_force')
    if body.get("extended_hours") is True:
        raise rules.forbidden(f"{order_class} orders do not support extended hours trading")
    if order_class == "oco" and body.get("type") != "limit":
        raise rules.malformed("oco orders must be limit orders")
    if order_class == "bracket" and body.get("type") not in ("market", "limit"):
        raise rules.malformed("bracket orders must be market or limit orders")


def _check_presence(body: dict[str, Any], order_class: str, target: Decimal | None, stop: Decimal | None) -> None:
    has_target, has_stop = body.get("take_profit") is not None, body.get("stop_loss") is not None
    if order_class == "oto" and has_target == has_stop:
        raise rules.malformed("oto orders require either take_profit or stop_loss")
    if target is None and (has_target or order_class != "oto"):
        raise rules.malformed(f"{order_class} orders require take_profit.limit_price")
    if stop is None and (has_stop or order_class != "oto"):
        raise rules.malformed(f"{order_class} orders require stop_loss.stop_price")


def _price(body: dict[str, Any], part: str, name: str) -> Decimal | None:
    """A price of a leg; other fields of the leg, such as a trail, are not looked at."""
    given = body.get(part)
    if given is None:
        return None
    if not isinstance(given, dict):
        raise rules.malformed(f"{part} must be an object")
    price = rules.decimal(given.get(name), f"{part}.{name}")
    if price is not None and price <= 0:
        raise rules.unprocessable(f"{part}.{name} must be > 0")
    return price
