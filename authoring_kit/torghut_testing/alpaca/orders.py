"""An order and a position, as the venue stores them and as it writes them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from torghut_testing.alpaca.wire import asset_id, number, optional_number, optional_timestamp, timestamp

ZERO = Decimal(0)
DONE = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})
STATUSES = DONE | {
    "accepted",
    "accepted_for_bidding",
    "calculated",
    "done_for_day",
    "held",
    "new",
    "partially_filled",
    "pending_cancel",
    "pending_new",
    "pending_replace",
    "stopped",
    "suspended",
}
MATCHABLE = frozenset({"new", "partially_filled", "pending_cancel", "pending_replace"})
_SMALLEST = Decimal("0.000000001")


class Order(msgspec.Struct, kw_only=True):
    """One order; times are nanoseconds since the epoch, quantities units, prices dollars per unit."""

    id: str
    client_order_id: str
    symbol: str
    asset_class: str
    side: str
    type: str
    time_in_force: str
    position_intent: str
    qty: Decimal | None
    notional: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_price: Decimal | None
    trail_percent: Decimal | None
    order_class: str = ""
    parent: str | None = None
    """The order that this one is a leg of, by its id."""
    hwm: Decimal | None = None
    extended_hours: bool = False
    status: str = "pending_new"
    status_before: str = ""
    """The status that a rejected cancel or replacement returns to."""
    is_triggered: bool = False
    is_in_new_york: bool = False
    """Whether some of its times are written at -04:00, as by the real venue."""
    filled_qty: Decimal = ZERO
    filled_value: Decimal = ZERO
    reserved: Decimal = ZERO
    """Buying power that it reserves, dollars."""
    created_at: int
    updated_at: int
    expires_at: int
    filled_at: int | None = None
    expired_at: int | None = None
    cancel_requested_at: int | None = None
    canceled_at: int | None = None
    failed_at: int | None = None
    replaced_at: int | None = None
    replaced_by: str | None = None
    replaces: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether its status is final."""
        return self.status in DONE

    @property
    def is_buy(self) -> bool:
        """Whether it raises the position."""
        return self.side == "buy"

    @property
    def opens(self) -> bool:
        """Whether it was to enlarge a position when it was accepted."""
        return self.position_intent.endswith("open")

    @property
    def average_price(self) -> Decimal | None:
        """Average price of its fills, to nine digits; None before the first."""
        return (self.filled_value / self.filled_qty).quantize(_SMALLEST) if self.filled_qty else None

    def left(self, price: Decimal) -> Decimal:
        """Units that are not filled yet; of an order for an amount of dollars, those that the rest buys at `price`."""
        if self.qty is not None:
            return self.qty - self.filled_qty
        assert self.notional is not None
        return (max(ZERO, self.notional - self.filled_value) / price).quantize(_SMALLEST, rounding="ROUND_DOWN")

    def is_marketable(self, price: Decimal) -> bool:
        """Whether it would trade at `price`; triggers a stop that the price reaches, and moves a trail."""
        if self.type == "trailing_stop":
            self._trail(price)
        if self.stop_price is not None and not self.is_triggered:
            self.is_triggered = price >= self.stop_price if self.is_buy else price <= self.stop_price
            if not self.is_triggered:
                return False
        if self.limit_price is None:
            return True
        return price <= self.limit_price if self.is_buy else price >= self.limit_price

    def _trail(self, price: Decimal) -> None:
        best = min if self.is_buy else max
        self.hwm = price if self.hwm is None else best(self.hwm, price)
        if self.trail_price is not None:
            distance = self.trail_price
        else:
            assert self.trail_percent is not None
            distance = self.hwm * self.trail_percent / 100
        self.stop_price = self.hwm + distance if self.is_buy else self.hwm - distance

    def wire(self) -> dict[str, Any]:
        """The order as the venue writes it."""
        zone = self.is_in_new_york
        created = timestamp(self.created_at, new_york=zone)
        return {
            "id": self.id,
            "client_order_id": self.client_order_id,
            "created_at": created,
            "updated_at": timestamp(self.updated_at, new_york=zone),
            "submitted_at": created,
            "filled_at": optional_timestamp(self.filled_at),
            "expired_at": optional_timestamp(self.expired_at),
            "cancel_requested_at": optional_timestamp(self.cancel_requested_at),
            "canceled_at": optional_timestamp(self.canceled_at),
            "failed_at": optional_timestamp(self.failed_at),
            "replaced_at": optional_timestamp(self.replaced_at),
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": asset_id(self.symbol),
            "symbol": self.symbol,
            "asset_class": self.asset_class,
            "notional": optional_number(self.notional),
            "qty": optional_number(self.qty),
            "filled_qty": number(self.filled_qty),
            "filled_avg_price": optional_number(self.average_price),
            "order_class": self.order_class,
            "order_type": self.type,
            "type": self.type,
            "side": self.side,
            "position_intent": self.position_intent,
            "time_in_force": self.time_in_force,
            "limit_price": optional_number(self.limit_price),
            "stop_price": optional_number(self.stop_price),
            "status": self.status,
            "extended_hours": self.extended_hours,
            "legs": None,
            "trail_percent": optional_number(self.trail_percent),
            "trail_price": optional_number(self.trail_price),
            "hwm": optional_number(self.hwm),
            "expires_at": timestamp(self.expires_at),
        }


class Holding(msgspec.Struct):
    """A position: signed units of one symbol, and their average price."""

    qty: Decimal = ZERO
    price: Decimal = ZERO

    def add(self, qty: Decimal, price: Decimal) -> None:
        """Add signed units at a price to the position."""
        after = self.qty + qty
        if self.qty * qty >= 0 and after:
            self.price = (self.price * self.qty + price * qty) / after
        elif self.qty * after < 0:  # through zero
            self.price = price
        self.qty = after

    def wire(self, symbol: str, available: Decimal, price: Decimal) -> dict[str, Any]:
        """The position as the venue writes it at a price, the symbol without its slash."""
        is_crypto = "/" in symbol
        value, cost = self.qty * price, self.qty * self.price
        gain = value - cost
        share = number((gain / abs(cost)).quantize(_SMALLEST)) if cost else "0"
        return {
            "asset_id": asset_id(symbol),
            "symbol": symbol.replace("/", ""),
            "exchange": "CRYPTO" if is_crypto else "NASDAQ",
            "asset_class": "crypto" if is_crypto else "us_equity",
            "asset_marginable": not is_crypto,
            "avg_entry_price": number(self.price.quantize(_SMALLEST)),
            "qty": number(self.qty),
            "qty_available": number(available),
            "side": "long" if self.qty > 0 else "short",
            "market_value": number(value),
            "cost_basis": number(cost),
            "unrealized_pl": number(gain),
            "unrealized_plpc": share,
            "unrealized_intraday_pl": number(gain),
            "unrealized_intraday_plpc": share,
            "current_price": number(price),
            "lastday_price": number(price),
            "change_today": "0",
        }
