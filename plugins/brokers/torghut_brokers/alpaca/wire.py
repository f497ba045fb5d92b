"""Translates the venue's messages to torghut's model and back, without IO.

Numbers come as text and become `Decimal`; they are sent as text without an exponent. Times come with none to nine fraction
digits and in mixed zones, even in one message. Positions name a pair without its slash (``BTCUSD``), and orders once did
too: everything of the asset class ``crypto`` gets the slash back.

**Legs.** A change (PATCH) makes a new order that names the old one in `replaces`; the old one stays ``replaced`` and
names the new one in `replaced_by`. Torghut keeps one order under the id of the first, so `joined` adds the legs up:
total filled, mean price, and the newest leg's terms and state. The quantity of a leg is what *it* has to fill: without a
quantity in the change the venue copies that of the old order, whatever of it was filled (https://github.com/alpacahq/Alpaca-API/issues/165, read
2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from torghut_brokers.alpaca import terms
from torghut_brokers.alpaca.terms import BOUNDED, PRICES, price_below
from torghut_core import (
    Account,
    Fill,
    Intent,
    Order,
    OrderState,
    OrderStatus,
    OrderType,
    Position,
    Side,
    TimeInForce,
    from_datetime,
    parse_timestamp,
)

T = TypeVar("T")
ZERO = Decimal(0)
MAX_DIGITS = 30
"""Digits of an amount before its point, or zeros behind it, at most."""
QUOTE_CURRENCIES = ("USDT", "USDC", "USD", "BTC")
"""Quote currencies of crypto (https://docs.alpaca.markets/docs/crypto-trading, read 2026-11-21), longest first."""

STATES: dict[str, OrderState] = {
    "pending_new": OrderState.ACCEPTED,
    "new": OrderState.ACCEPTED,
    "accepted": OrderState.ACCEPTED,
    "accepted_for_bidding": OrderState.ACCEPTED,
    "pending_review": OrderState.ACCEPTED,
    "held": OrderState.ACCEPTED,
    "stopped": OrderState.ACCEPTED,
    "suspended": OrderState.ACCEPTED,
    "calculated": OrderState.ACCEPTED,
    "done_for_day": OrderState.ACCEPTED,  # continues the next day, or is reported canceled or expired
    "partially_filled": OrderState.PARTIALLY_FILLED,
    "filled": OrderState.FILLED,
    "pending_cancel": OrderState.PENDING_CANCEL,
    "pending_replace": OrderState.PENDING_REPLACE,
    "replaced": OrderState.REPLACED,
    "canceled": OrderState.CANCELED,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}
"""The venue's statuses; an order with another status counts as open, as nothing else is known."""

FILL_EVENTS = ("fill", "partial_fill")


class WireOrder(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The fields that are used of an order of the venue."""

    id: str
    client_order_id: str
    symbol: str
    side: str
    status: str
    type: str
    time_in_force: str
    updated_at: str
    submitted_at: str | None = None
    created_at: str | None = None
    asset_class: str = ""
    qty: Decimal | None = None
    filled_qty: Decimal = ZERO
    filled_avg_price: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    replaces: str | None = None
    replaced_by: str | None = None
    order_class: str = ""
    legs: list[WireOrder] | None = None

    @property
    def is_replaced(self) -> bool:
        """Whether another order replaced it."""
        return self.status == "replaced"


class TradeUpdate(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """One message of the stream ``trade_updates``; `price` and `qty` are those of the fill alone."""

    event: str
    order: WireOrder
    timestamp: str | None = None
    execution_id: str | None = None
    price: Decimal | None = None
    qty: Decimal | None = None
    reason: str | None = None


class WireAccount(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The fields that are used of the venue's account."""

    account_number: str
    status: str
    cash: Decimal
    equity: Decimal
    buying_power: Decimal
    non_marginable_buying_power: Decimal | None = None
    last_equity: Decimal | None = None
    currency: str = "USD"
    trading_blocked: bool = False
    account_blocked: bool = False


class WireAsset(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The fields that are used of an asset in the venue's list."""

    symbol: str
    min_order_size: Decimal | None = None
    min_trade_increment: Decimal | None = None
    price_increment: Decimal | None = None

    @property
    def terms(self) -> dict[str, Decimal]:
        """The fields of an `Instrument` that it states."""
        stated = {
            "min_quantity": self.min_order_size,
            "quantity_step": self.min_trade_increment,
            "tick_size": self.price_increment,
        }
        return {name: size for name, size in stated.items() if size is not None and _is_amount(size) and size > 0}


class _WirePosition(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    symbol: str
    qty: Decimal
    avg_entry_price: Decimal
    asset_class: str = ""
    side: str = "long"


class _WireSession(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    date: str
    open: str
    close: str


for _shape in (WireOrder, TradeUpdate, WireAccount, WireAsset, _WirePosition, _WireSession):
    msgspec.json.Decoder(_shape)  # now: two threads that are the first to ask msgspec for a type end the process


def _is_amount(number: Decimal) -> bool:
    """Whether a number is finite and can be written out; the digits of ``1e+999999999`` are a gigabyte."""
    return number.is_finite() and abs(number.adjusted()) <= MAX_DIGITS


def _read(message: Any, shape: type[T]) -> T:
    try:
        return msgspec.convert(message, shape)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def read_order(message: Any) -> WireOrder:
    """Parse an order of the venue.

    Raises
    ------
    ValueError : a required field is missing or invalid.
    """
    order = _read(message, WireOrder)
    _check(order)
    return order


def _check(order: WireOrder) -> None:
    if not (order.client_order_id and order.id):
        raise ValueError("an order without an id")
    numbers = (order.qty, order.filled_qty, order.filled_avg_price, order.limit_price, order.stop_price)
    if any(number is not None and not (_is_amount(number) and number >= 0) for number in numbers):
        raise ValueError(f"order {order.id} has impossible numbers")


def read_orders(message: Any) -> tuple[list[WireOrder], list[str]]:
    """Parse a list of orders; and return why some foreign orders (with several legs, or of unknown kinds) cannot be read.

    Raises
    ------
    ValueError : it is no list of objects at all.
    """
    orders, problems = [], []
    for item in _read(message, list[dict[str, Any]]):
        try:
            order = read_order(item)
            status_of([order])
            orders.append(order)
        except (ValueError, ArithmeticError) as error:
            problems.append(f"order {item.get('id')}: {error}")
    return orders, problems


def read_update(message: Any) -> TradeUpdate:
    """Parse the `data` of a message of ``trade_updates``.

    Raises
    ------
    ValueError : no order in it, or one that makes no sense.
    """
    update = _read(message, TradeUpdate)
    _check(update.order)
    return update


def joined(legs: Sequence[WireOrder], reason: str = "") -> Order:
    """Join the legs of an order, oldest first, under the client order id of the first.

    A leg that was refused, or is not in force yet because the one before it is still open, does not count.

    Raises
    ------
    ValueError : an unknown side, type or time in force.
    """
    while len(legs) > 1 and not legs[-2].is_replaced:
        legs = legs[:-1]
    root, newest = legs[0], legs[-1]
    before = sum((leg.filled_qty for leg in legs[:-1]), ZERO)
    filled = before + newest.filled_qty
    cost = sum((leg.filled_qty * (leg.filled_avg_price or ZERO) for leg in legs), ZERO)
    order_type = OrderType(newest.type)
    prices = {name: getattr(newest, name) for name in PRICES[order_type]}  # other prices are informative only
    state = STATES.get(newest.status, OrderState.ACCEPTED)
    if filled and state in (OrderState.ACCEPTED, OrderState.REPLACED):
        state = OrderState.PARTIALLY_FILLED
    began = root.submitted_at or root.created_at
    return Order(
        intent=Intent(
            client_order_id=root.client_order_id,
            decision_hash="",
            account="",
            strategy_id="",
            symbol=symbol_of(newest.symbol, newest.asset_class),
            side=Side(newest.side),
            # An order for an amount of money has no quantity: only what was filled is known.
            quantity=filled if newest.qty is None else before + newest.qty,
            decided_at=parse_timestamp(began) if began else 0,
            order_type=order_type,
            trail_price=newest.trail_price,
            trail_pct=newest.trail_percent,
            time_in_force=TimeInForce(newest.time_in_force),
            **prices,
        ),
        state=state,
        venue_order_id=newest.id,
        filled_quantity=filled,
        average_price=(newest.filled_avg_price or ZERO) if not before else cost / filled,
        updated_at=max(parse_timestamp(leg.updated_at) for leg in legs),
        reason=reason,
    )


def status_of(legs: Sequence[WireOrder], update: TradeUpdate | None = None) -> OrderStatus:
    """Return the status of an order, with the fill of `update` if it has one; raises as `joined` does."""
    order = joined(legs, (update and update.reason) or "")
    return OrderStatus(order=order, fill=None if update is None else _fill(order, update))


def _fill(order: Order, update: TradeUpdate) -> Fill | None:
    quantity, price = update.qty, update.price
    if update.event not in FILL_EVENTS or not update.execution_id or not update.timestamp:
        return None
    if quantity is None or price is None or not (_is_amount(quantity) and _is_amount(price) and quantity > 0):
        return None
    return Fill(
        client_order_id=order.intent.client_order_id,
        fill_id=update.execution_id,
        symbol=order.intent.symbol,
        side=order.intent.side,
        quantity=quantity,
        price=price,
        fee=ZERO,  # not in the update: the fee of crypto is taken from what is credited, and shows in position and cash
        event_ts=parse_timestamp(update.timestamp),
    )


def body_of(intent: Intent) -> dict[str, str]:
    """Return the body of the POST that places an order: all text, so that no number becomes a binary float.

    The venue keeps a highest price as the limit of a limit or a stop-limit order; it has no such trailing stop. A stop of crypto,
    which the venue does not have, is a stop-limit order with room for the price to fall, or to rise.

    Examples
    --------
    >>> text(Decimal("0.000100")), text(Decimal("1E+3"))
    ('0.000100', '1000')
    """
    order_type, limit_price = intent.order_type, intent.limit_price
    if intent.highest_price is not None and order_type in BOUNDED:
        order_type, limit_price = BOUNDED[order_type], price_below(intent.highest_price, intent.symbol)
    if order_type is OrderType.STOP and terms.asset_class(intent.symbol) == "crypto":
        order_type, limit_price = OrderType.STOP_LIMIT, terms.limit_beyond(intent)
    body = {
        "symbol": intent.symbol,
        "qty": text(intent.quantity),
        "side": intent.side.value,
        "type": order_type.value,
        "time_in_force": intent.time_in_force.value,
        "client_order_id": intent.client_order_id,
    }
    prices = {
        "limit_price": limit_price,
        "stop_price": intent.stop_price,
        "trail_price": intent.trail_price,
        "trail_percent": intent.trail_pct,
    }
    return body | {name: text(price) for name, price in prices.items() if price is not None}


def is_answer_to(order: WireOrder, intent: Intent) -> bool:
    """Return whether `order` is what `intent` asked for."""
    return (
        order.client_order_id == intent.client_order_id
        and symbol_of(order.symbol, order.asset_class) == intent.symbol
        and order.side == intent.side.value
        and order.qty == intent.quantity
    )


def text(value: Decimal) -> str:
    """Format a decimal for the venue: all its digits, no exponent."""
    return f"{value:f}"


def symbol_of(symbol: str, asset_class: str) -> str:
    """Return the symbol as torghut writes it.

    Examples
    --------
    >>> symbol_of("BTCUSD", "crypto"), symbol_of("ETHUSDT", "crypto"), symbol_of("TUSD", "us_equity")
    ('BTC/USD', 'ETH/USDT', 'TUSD')
    """
    if asset_class != "crypto" or "/" in symbol:
        return symbol
    quote = next((end for end in QUOTE_CURRENCIES if symbol.endswith(end) and symbol != end), None)
    return f"{symbol.removesuffix(quote)}/{quote}" if quote else symbol


def read_assets(message: Any) -> dict[str, WireAsset]:
    """Parse the venue's list of assets, by symbol.

    Raises
    ------
    ValueError : a required field is missing or not a number.
    """
    assets: list[WireAsset] = _read(message, list[WireAsset])
    return {asset.symbol: asset for asset in assets}


def read_account(message: Any) -> WireAccount:
    """Parse the account of the venue.

    Raises
    ------
    ValueError : a required field is missing or not a number.
    """
    account = _read(message, WireAccount)
    if not all(map(_is_amount, (account.cash, account.equity, account.buying_power))):
        raise ValueError("the account has an amount that is not finite")
    return account


def account_of(account: WireAccount, *, use_margin: bool) -> Account:
    """Return torghut's account; without `use_margin` buying power is what is there without borrowing."""
    power = account.buying_power
    if not use_margin:
        unborrowed = account.non_marginable_buying_power
        power = max(ZERO, min(power, account.cash if unborrowed is None else unborrowed))
    return Account(
        cash=account.cash,
        equity=account.equity,
        buying_power=power,
        currency=account.currency,
        number=account.account_number,
        day_start_equity=account.last_equity,
    )


def positions_of(message: Any) -> dict[str, Position]:
    """Return the position by symbol, short ones negative.

    Raises
    ------
    ValueError : not a list of positions, or an invalid number.
    """
    positions = {}
    for held in _read(message, list[_WirePosition]):
        quantity = -abs(held.qty) if held.side == "short" else held.qty
        if not (_is_amount(quantity) and _is_amount(held.avg_entry_price)):
            raise ValueError(f"the position in {held.symbol} is not finite")
        positions[symbol_of(held.symbol, held.asset_class)] = Position(quantity, held.avg_entry_price)
    return positions


def sessions_of(message: Any, zone: ZoneInfo) -> list[tuple[int, int]]:
    """Return open and close of each session, ns, oldest first; the venue writes them in `zone`.

    Raises
    ------
    ValueError : not a list of sessions.
    """
    return [
        (_moment(day.date, day.open, zone), _moment(day.date, day.close, zone))
        for day in _read(message, list[_WireSession])
    ]


def _moment(date: str, clock: str, zone: ZoneInfo) -> int:
    return from_datetime(datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=zone))
