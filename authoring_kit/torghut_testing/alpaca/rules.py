"""Which orders the venue accepts: the body of an order, checked against the rules of its asset class."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

SIDES = ("buy", "sell")
TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
TIMES_IN_FORCE = ("day", "gtc", "opg", "cls", "ioc", "fok")
CRYPTO_TYPES = ("market", "limit", "stop_limit")
CRYPTO_TIMES_IN_FORCE = ("gtc", "ioc")
AUCTION = ("opg", "cls")
CLIENT_ORDER_ID_LENGTH = 128
MALFORMED = 40010001
UNPROCESSABLE = 42210000
FORBIDDEN = 40310000
NOT_FOUND = 40410000


class Refusal(Exception):
    """A refusal of the venue: the HTTP status and the JSON body of its answer."""

    def __init__(self, status: int, code: int, message: str, **fields: Any) -> None:
        self.status = status
        self.body = {"code": code, "message": message, **fields}
        super().__init__(f"{status}: {message}")


NANO = Decimal("0.000000001")
"""The least units of an order, where a listing says nothing else."""


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """An asset that can be traded; the `symbol` of a crypto asset has a slash."""

    symbol: str
    tradable: bool = True
    fractionable: bool = True
    shortable: bool = True
    min_order_size: Decimal = NANO
    """Units; of crypto only."""

    @property
    def is_crypto(self) -> bool:
        """Whether it is a pair of currencies."""
        return "/" in self.symbol

    @property
    def asset_class(self) -> str:
        """The venue's name for its class."""
        return "crypto" if self.is_crypto else "us_equity"


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The validated body of an order; quantities in units, prices in dollars per unit."""

    symbol: str
    side: str
    type: str
    time_in_force: str
    qty: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_price: Decimal | None
    trail_percent: Decimal | None
    extended_hours: bool
    client_order_id: str | None
    order_class: str = ""
    legs: tuple[OrderRequest, ...] = ()
    """The orders that depend on it: the take-profit before the stop."""


def malformed(message: str) -> Refusal:
    """422 for a body that makes no sense."""
    return Refusal(422, MALFORMED, message)


def unprocessable(message: str, **fields: Any) -> Refusal:
    """422 for a body that is well-formed and not allowed."""
    return Refusal(422, UNPROCESSABLE, message, **fields)


def forbidden(message: str, **fields: Any) -> Refusal:
    """403 for an order that the account may not place now."""
    return Refusal(403, FORBIDDEN, message, **fields)


def not_found(message: str) -> Refusal:
    """404."""
    return Refusal(404, NOT_FOUND, message)


def read(body: dict[str, Any], asset: Asset) -> OrderRequest:
    """Validate the body of a simple order for `asset`: its values fit each other and the asset's class.

    Raises
    ------
    Refusal : 422, with what is not allowed.
    """
    request = OrderRequest(
        symbol=asset.symbol,
        side=_choice(body, "side", SIDES),
        type=_choice(body, "type", TYPES),
        time_in_force=_choice(body, "time_in_force", TIMES_IN_FORCE),
        qty=_positive(body, "qty"),
        notional=_positive(body, "notional"),
        limit_price=_positive(body, "limit_price"),
        stop_price=_positive(body, "stop_price"),
        trail_price=_positive(body, "trail_price"),
        trail_percent=_positive(body, "trail_percent"),
        extended_hours=body.get("extended_hours") is True,
        client_order_id=client_order_id(body),
    )
    if not asset.tradable:
        raise unprocessable(f"asset {asset.symbol} is not tradable")
    _check_size(request)
    _check_prices(request)
    if asset.is_crypto:
        _check_crypto(request, asset)
    else:
        _check_equity(request, asset)
    return request


def client_order_id(body: dict[str, Any]) -> str | None:
    """The client's id of the order, None where it has none.

    Raises
    ------
    Refusal : 422, not text, or too long.
    """
    given = body.get("client_order_id")
    if given is None or given == "":
        return None
    if not isinstance(given, str) or len(given) > CLIENT_ORDER_ID_LENGTH:
        raise malformed(f"client_order_id must be text of at most {CLIENT_ORDER_ID_LENGTH} characters")
    return given


def decimal(value: Any, name: str) -> Decimal | None:
    """A number that was sent as text or as a number; None stays None.

    Raises
    ------
    Refusal : 422, not a number.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise malformed(f"{name} must be a number")
    try:
        parsed = Decimal(str(value))
    except InvalidOperation:
        raise malformed(f"{name} must be a number") from None
    if not parsed.is_finite():
        raise malformed(f"{name} must be a number")
    return parsed


def _positive(body: dict[str, Any], name: str) -> Decimal | None:
    value = decimal(body.get(name), name)
    if value is not None and value <= 0:
        raise unprocessable(f"{name} must be > 0")
    return value


def _choice(body: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
    given = body.get(name)
    if given is None or given == "":
        raise malformed(f"{name} is required")
    if given not in choices:
        raise malformed(f"invalid {name}")
    return str(given)


def _check_size(request: OrderRequest) -> None:
    if request.qty is None and request.notional is None:
        raise malformed("qty or notional is required")
    if request.qty is not None and request.notional is not None:
        raise malformed("only one of qty or notional is accepted")
    if request.notional is not None and request.type != "market":
        raise unprocessable("notional orders must be market orders")


def _check_prices(request: OrderRequest) -> None:
    wanted = {
        "limit_price": request.type in ("limit", "stop_limit"),
        "stop_price": request.type in ("stop", "stop_limit"),
    }
    for name, is_wanted in wanted.items():
        if is_wanted and getattr(request, name) is None:
            raise malformed(f"{request.type} orders require {name}")
        if not is_wanted and getattr(request, name) is not None:
            raise malformed(f"{request.type} orders must not have {name}")
    trails = [value for value in (request.trail_price, request.trail_percent) if value is not None]
    if len(trails) != (1 if request.type == "trailing_stop" else 0):
        raise malformed("trailing_stop orders, and only they, require one of trail_price and trail_percent")


def _check_crypto(request: OrderRequest, asset: Asset) -> None:
    if request.qty is not None and request.qty < asset.min_order_size:
        raise unprocessable(f"qty must be at least {asset.min_order_size:f}")
    if request.type not in CRYPTO_TYPES:
        raise unprocessable("invalid order type for crypto order")
    if request.time_in_force not in CRYPTO_TIMES_IN_FORCE:
        raise unprocessable("invalid crypto time_in_force")
    if request.extended_hours:
        raise unprocessable("extended hours order must be DAY limit orders")


def _check_equity(request: OrderRequest, asset: Asset) -> None:
    is_fractional = request.notional is not None or (request.qty is not None and request.qty % 1 != 0)
    if is_fractional and not asset.fractionable:
        raise forbidden(f'asset "{asset.symbol}" is not fractionable')
    if is_fractional and request.time_in_force != "day":
        raise unprocessable("fractional orders must be DAY orders")
    if is_fractional and request.type == "trailing_stop":
        raise unprocessable("fractional orders must not be trailing_stop orders")
    if request.extended_hours and (request.type != "limit" or request.time_in_force != "day"):
        raise unprocessable("extended hours order must be DAY limit orders")
    if request.time_in_force in AUCTION and request.type not in ("market", "limit"):
        raise unprocessable(f"{request.time_in_force} orders must be market or limit orders")
    if request.type == "trailing_stop" and request.time_in_force not in ("day", "gtc"):
        raise unprocessable("trailing_stop orders must be DAY or GTC orders")
    if request.type in ("stop", "stop_limit") and request.time_in_force in ("ioc", "fok"):
        raise unprocessable(f"{request.type} orders must be DAY or GTC orders")
    for name in ("limit_price", "stop_price"):
        price = getattr(request, name)
        smallest = Decimal("0.01") if price is not None and price >= 1 else Decimal("0.0001")
        if price is not None and price % smallest != 0:
            raise unprocessable(
                f"invalid {name} {price}. sub-penny increment does not fulfill minimum pricing criteria"
            )
