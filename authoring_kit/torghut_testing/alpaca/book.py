"""What the venue knows: assets, prices, orders, positions and money, and whether an order is covered by them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from torghut_core import SECOND
from torghut_testing.alpaca import rules, wire
from torghut_testing.alpaca.orders import ZERO, Holding, Order
from torghut_testing.alpaca.rules import Asset
from torghut_testing.alpaca.wire import number

SYMBOLS = (
    *("AAVE/USD", "BTC/USD", "DOGE/USD", "ETH/USD", "LTC/USD", "SOL/USD"),
    *("AAPL", "AMZN", "MSFT", "NVDA", "QQQ", "SPY", "TSLA"),
)
"""Symbols that are listed from the start; `FakeVenue.set_price` and `FakeVenue.list_asset` list more."""
SHORT_MARGIN = Decimal("1.03")
LONGEST_GTC_DAYS = 89


class State(msgspec.Struct, kw_only=True):
    """Everything that a restart keeps."""

    cash: Decimal
    multiplier: Decimal
    shorting: bool
    crypto_fee_bps: Decimal
    blocks_wash_trades: bool = True
    suspended_by_user: bool = False
    slow_cancels: bool = False
    slow_replaces: bool = False
    stops_replace: bool = False
    is_open: bool | None = True
    skew_ns: int = 0
    last_event_id: str = "0"
    account_id: str
    created_at: int
    last_equity: Decimal
    assets: dict[str, Asset] = {}
    prices: dict[str, Decimal] = {}
    held: dict[str, str] = {}
    holdings: dict[str, Holding] = {}
    orders: list[Order] = []
    activities: list[dict[str, Any]] = []


class Book:
    """The venue's state with its indices; not thread-safe by itself.

    Attributes
    ----------
    open_orders : orders that are not done, by id.
    reserved : dollars of buying power that they take together.
    """

    def __init__(self, state: State, clock: Callable[[], int]) -> None:
        self.state = state
        self._clock = clock
        self._ids = {order.id: order for order in state.orders}
        self._client_ids = {order.client_order_id: order for order in state.orders}
        self.open_orders = {order.id: order for order in state.orders if not order.is_done}
        self._open_in: dict[str, dict[str, Order]] = {}
        self._legs: dict[str, list[Order]] = {}
        self.reserved = ZERO
        for order in state.orders:
            self._list_leg(order)
        for order in self.open_orders.values():
            self._open_in.setdefault(order.symbol, {})[order.id] = order
            self.reserved += order.reserved
        self._fill_times = [wire.read_timestamp(row["transaction_time"]) for row in state.activities]

    def now(self) -> int:
        """The venue's time, nanoseconds since the epoch."""
        return self._clock() + self.state.skew_ns

    def asset(self, symbol: str) -> Asset:
        """The listed asset of a symbol, written with its slash or without.

        Raises
        ------
        Refusal : 422, not listed.
        """
        assets = self.state.assets
        found = assets.get(symbol) or next((a for s, a in assets.items() if s.replace("/", "") == symbol), None)
        if found is None:
            raise rules.unprocessable(f'asset "{symbol}" not found')
        return found

    def by_id(self, order_id: str) -> Order:
        """An order by the venue's id.

        Raises
        ------
        Refusal : 404, no such order.
        """
        if order_id not in self._ids:
            raise rules.not_found(f"order not found for {order_id}")
        return self._ids[order_id]

    def find(self, key: str) -> Order:
        """An order by its id or the client's id.

        Raises
        ------
        LookupError : no such order.
        """
        found = self._ids.get(key) or self._client_ids.get(key)
        if found is None:
            raise LookupError(f"no order has the id or client_order_id {key!r}")
        return found

    def open_in(self, symbol: str) -> list[Order]:
        """The open orders of a symbol."""
        return list(self._open_in.get(symbol, {}).values())

    def replacement(self, old: Order) -> Order:
        """The order that is to replace `old`."""
        assert old.replaced_by is not None
        return self._ids[old.replaced_by]

    def waits_to_replace(self, order: Order) -> bool:
        """Whether an order is a replacement that the venue has not confirmed yet."""
        return order.replaces is not None and self._ids[order.replaces].status == "pending_replace"

    def legs(self, order: Order) -> list[Order]:
        """The legs of an order, without those that were replaced or wait to replace one."""
        legs = self._legs.get(order.id, [])
        return [
            leg
            for leg in legs
            if leg.status != "replaced"
            and not (leg.replaces and (leg.status == "rejected" or self.waits_to_replace(leg)))
        ]

    def group(self, order: Order) -> list[Order]:
        """All orders of one request: the first, then its legs."""
        first = order if order.parent is None else self._ids[order.parent]
        return [first, *self.legs(first)]

    def waits_for(self, leg: Order) -> Order | None:
        """The order that a leg waits for: the entry until it is filled, and of a stop then the open take-profit."""
        if leg.parent is None:
            return None
        first = self._ids[leg.parent]
        if leg.order_class != "oco" and first.status != "filled":
            return first
        if leg.stop_price is None:
            return None
        exits = [first] if leg.order_class == "oco" else self.legs(first)
        return next((exit_ for exit_ in exits if exit_.stop_price is None and not exit_.is_done), None)

    def take_place(self, new: Order, old: Order) -> None:
        """Let a replacement be what the legs of the old order depend on."""
        for leg in self._legs.pop(old.id, []):
            leg.parent = new.id
            self._list_leg(leg)

    def _list_leg(self, order: Order) -> None:
        if order.parent is not None:
            self._legs.setdefault(order.parent, []).append(order)

    def wire(self, order: Order) -> dict[str, Any]:
        """An order as the venue writes it, with its legs."""
        return order.wire() | {"legs": [leg.wire() for leg in self.legs(order)] or None}

    def find_active(self, key: str) -> Order:
        """An order that is not a replacement still waiting for its confirmation.

        Raises
        ------
        LookupError : no such order.
        ValueError : it waits.
        """
        order = self.find(key)
        if self.waits_to_replace(order):
            raise ValueError(f"order {key} waits to replace {order.replaces} (confirm_replace or reject_replace that)")
        return order

    def find_pending(self, key: str, status: str) -> Order:
        """An order that is in a pending status.

        Raises
        ------
        LookupError : no such order.
        ValueError : it is in another status.
        """
        order = self.find(key)
        if order.status != status:
            raise ValueError(f"order {key} is {order.status}, not {status}")
        return order

    def mark(self, symbol: str) -> Decimal:
        """The price that values a position: the market's, or without one its average."""
        price = self.state.prices.get(symbol)
        return self.state.holdings[symbol].price if price is None else price

    def require_unique(self, client_order_id: str | None) -> None:
        """Refuse a client's id that an order has already.

        Raises
        ------
        Refusal : 422.
        """
        if client_order_id in self._client_ids:
            raise rules.malformed("client_order_id must be unique")

    def make(self, request: rules.OrderRequest, asset: Asset) -> Order:
        """Make the order of a request, without its legs; `add` puts it into the book."""
        now = self.now()
        held = self.state.holdings.get(asset.symbol, Holding()).qty
        closes = held < 0 if request.side == "buy" else held > 0
        return Order(
            id=wire.new_id(),
            client_order_id=request.client_order_id or wire.new_id(),
            symbol=asset.symbol,
            asset_class=asset.asset_class,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            position_intent=f"{request.side}_to_{'close' if closes else 'open'}",
            qty=request.qty,
            notional=request.notional,
            limit_price=request.limit_price,
            stop_price=request.stop_price,
            trail_price=request.trail_price,
            trail_percent=request.trail_percent,
            order_class=request.order_class,
            extended_hours=request.extended_hours,
            is_in_new_york=len(self.state.orders) % 2 == 1,
            created_at=now,
            updated_at=now,
            expires_at=_expiry(now, request.time_in_force),
        )

    def make_leg(self, request: rules.OrderRequest, asset: Asset, parent: Order) -> Order:
        """Make a leg of an order; `add` puts it into the book."""
        leg = self.make(request, asset)
        leg.parent, leg.order_class = parent.id, parent.order_class
        leg.position_intent = f"{leg.side}_to_close"
        leg.created_at, leg.is_in_new_york = parent.created_at, parent.is_in_new_york
        leg.status = "held"
        return leg

    def _at_market(self, symbol: str, but: str | None) -> list[Order]:
        """The open orders of a symbol apart from legs that wait and from the order with the id `but`."""
        return [order for order in self.open_in(symbol) if order.id != but and self.waits_for(order) is None]

    def committed(self, symbol: str, side: str, but: str | None = None) -> Decimal:
        """Units that open orders on a side still take, apart from the order with the id `but`.

        A pair of exits takes them once, and so do an order and its replacement.
        """
        price = self.state.prices.get(symbol) or Decimal(1)
        taken = ZERO
        for order in self._at_market(symbol, but):
            if order.side == side:
                before = ZERO
                if order.replaces is not None and self.waits_to_replace(order):
                    before = self._ids[order.replaces].left(price)
                taken += max(ZERO, order.left(price) - before)
        return taken

    def check(self, order: Order, asset: Asset, replaces: Order | None = None) -> None:
        """Check that the account has the units or the money for an order, and reserve the money.

        Raises
        ------
        Refusal : it has not, may not sell short, or might trade with itself.
        """
        but, freed = (None, ZERO) if replaces is None else (replaces.id, replaces.reserved)
        if self.waits_for(order) is None:
            self._check_units(order, asset, but)
        self._check_wash(order, but)
        self._check_money(order, freed)

    def _check_units(self, order: Order, asset: Asset, but: str | None) -> None:
        price = self.state.prices.get(order.symbol)
        if order.qty is None and price is None:
            return
        wanted = order.left(price or ZERO)
        held = self.state.holdings.get(order.symbol, Holding()).qty
        if not order.opens or (asset.is_crypto and not order.is_buy):
            committed = self.committed(order.symbol, order.side, but)
            available = max(ZERO, abs(held) - committed)
            if wanted <= available:
                return
            if asset.is_crypto:
                raise rules.forbidden(
                    f"insufficient balance for {order.symbol.partition('/')[0]} "
                    f"(requested: {number(wanted)}, available: {number(available)})",
                    available=number(available),
                    balance=number(held),
                    symbol=order.symbol,
                )
            raise rules.forbidden(
                f"insufficient qty available for order (requested: {number(wanted)}, available: {number(available)})",
                available=number(available),
                existing_qty=number(abs(held)),
                held_for_orders=number(committed),
                symbol=order.symbol,
            )
        if not order.is_buy:
            if not self.state.shorting:
                raise rules.forbidden("account is not allowed to short")
            if not asset.shortable:
                raise rules.unprocessable(f'asset "{asset.symbol}" cannot be sold short')
            if order.notional is not None or wanted % 1:
                raise rules.unprocessable("fractional orders cannot be sold short")

    def _check_wash(self, order: Order, but: str | None) -> None:
        if not self.state.blocks_wash_trades:
            return
        for other in self._at_market(order.symbol, but):
            if other.side == order.side:
                continue
            buy, sell = (order, other) if order.is_buy else (other, order)
            if buy.limit_price is None or sell.limit_price is None or buy.limit_price >= sell.limit_price:
                raise rules.forbidden("potential wash trade detected. use complex orders")

    def _check_money(self, order: Order, freed: Decimal) -> None:
        order.reserved = self._reserve(order)
        available = self.buying_power(order.asset_class) + freed
        if order.reserved > available:
            raise rules.forbidden(
                "insufficient buying power",
                buying_power=number(max(ZERO, available)),
                cost_basis=number(order.reserved),
            )

    def _reserve(self, order: Order) -> Decimal:
        """Dollars of buying power that the rest of an order takes; none without a price."""
        if order.is_done or not order.opens:
            return ZERO
        if order.notional is not None:
            return max(ZERO, order.notional - order.filled_value)
        prices = (order.limit_price, order.stop_price, self.state.prices.get(order.symbol))
        if order.is_buy:
            price = next((p for p in prices if p is not None), ZERO)
        else:
            price = max((p for p in prices if p is not None), default=ZERO) * SHORT_MARGIN
        return order.left(price) * price

    def buying_power(self, asset_class: str) -> Decimal:
        """Dollars that new orders of a class may cost; negative where open orders take more than there is."""
        state = self.state
        if asset_class == "crypto":
            return state.cash - self.reserved
        values = [holding.qty * self.mark(symbol) for symbol, holding in state.holdings.items()]
        equity, gross = state.cash + sum(values, ZERO), sum(map(abs, values), ZERO)
        return state.multiplier * equity - gross - self.reserved

    def add(self, order: Order) -> None:
        """Put a new order into the book."""
        self.state.orders.append(order)
        self._ids[order.id] = order
        self._client_ids[order.client_order_id] = order
        self.open_orders[order.id] = order
        self._open_in.setdefault(order.symbol, {})[order.id] = order
        self._list_leg(order)
        self.reserved += order.reserved

    def set_status(self, order: Order, status: str) -> None:
        """Change an order's status, and free the buying power that it no longer takes."""
        order.status = status
        order.updated_at = self.now()
        reserved = self._reserve(order)
        if order.is_done:
            self.open_orders.pop(order.id, None)
            self._open_in.get(order.symbol, {}).pop(order.id, None)
        self.reserved += reserved - order.reserved
        order.reserved = reserved

    def settle(self, order: Order, quantity: Decimal, price: Decimal) -> Decimal:
        """Move money and units, less the fee; return the position after it, signed units."""
        fee = self.state.crypto_fee_bps / 10_000 if order.asset_class == "crypto" else ZERO
        holding = self.state.holdings.setdefault(order.symbol, Holding())
        if order.is_buy:
            self.state.cash -= quantity * price
            holding.add(quantity * (1 - fee), price)
        else:
            self.state.cash += quantity * price * (1 - fee)
            holding.add(-quantity, price)
        if not holding.qty:
            del self.state.holdings[order.symbol]
        return holding.qty

    def add_fill(self, order: Order, kind: str, quantity: Decimal, price: Decimal, now: int) -> None:
        """Add a fill to the account's activities."""
        activity = {
            "id": wire.activity_id(now),
            "activity_type": "FILL",
            "transaction_time": wire.timestamp(now, micros=True),
            "type": kind,
            "price": number(price),
            "qty": number(quantity),
            "side": order.side,
            "symbol": order.symbol,
            "leaves_qty": number(ZERO if kind == "fill" else order.left(price)),
            "order_id": order.id,
            "cum_qty": number(order.filled_qty),
            "order_status": order.status,
            "swap_rate": "1",
        }
        self.state.activities.append(activity)
        self._fill_times.append(now - now % 1000)  # as it is written: to the microsecond

    def account(self) -> dict[str, Any]:
        """The account as the venue writes it."""
        state = self.state
        values = [holding.qty * self.mark(symbol) for symbol, holding in state.holdings.items()]
        long, short = sum((v for v in values if v > 0), ZERO), sum((v for v in values if v < 0), ZERO)
        equity = number(state.cash + long + short)
        power = number(max(ZERO, self.buying_power("us_equity")))
        return {
            "id": state.account_id,
            "account_number": f"PA{state.account_id[:8].upper()}",
            "status": "ACTIVE",
            "crypto_status": "ACTIVE",
            "currency": "USD",
            "cash": number(state.cash),
            "buying_power": power,
            "regt_buying_power": power,
            "daytrading_buying_power": "0",
            "non_marginable_buying_power": number(max(ZERO, self.buying_power("crypto"))),
            "accrued_fees": "0",
            "pending_transfer_in": "0",
            "pending_transfer_out": "0",
            "daytrade_count": "0",
            "equity": equity,
            "portfolio_value": equity,
            "last_equity": number(state.last_equity),
            "long_market_value": number(long),
            "short_market_value": number(short),
            "initial_margin": number((long - short) / state.multiplier),
            "maintenance_margin": number((long - short) * Decimal("0.3")),
            "last_maintenance_margin": "0",
            "multiplier": number(state.multiplier),
            "sma": "0",
            "pattern_day_trader": False,
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": state.suspended_by_user,
            "shorting_enabled": state.shorting,
            "created_at": wire.timestamp(state.created_at, micros=True),
        }

    def activities(self, after: int | None, until: int | None) -> list[dict[str, Any]]:
        """Fills, oldest first, strictly between two times, nanoseconds since the epoch."""
        rows = self.state.activities
        if after is None and until is None:
            return list(rows)
        return [
            row
            for row, at in zip(rows, self._fill_times, strict=True)
            if (after is None or at > after) and (until is None or at < until)
        ]


def _expiry(now: int, time_in_force: str) -> int:
    """Nanoseconds since the epoch: 21:00 UTC of the day, or of the last day that an order may stay open."""
    day = datetime.fromtimestamp(now // SECOND, wire.NEW_YORK)
    last = day + timedelta(days=LONGEST_GTC_DAYS if time_in_force == "gtc" else 0)
    return wire.read_timestamp(f"{last:%Y-%m-%d}T21:00:00Z")


def asset_wire(asset: Asset) -> dict[str, Any]:
    """An asset as the venue writes it."""
    crypto = asset.is_crypto
    margin = "100" if crypto else "30"
    sizes = {
        "min_order_size": f"{asset.min_order_size:f}",
        "min_trade_increment": "0.000000001",
        "price_increment": "0.01",
    }
    return {
        "id": wire.asset_id(asset.symbol),
        "class": asset.asset_class,
        "exchange": "CRYPTO" if crypto else "NASDAQ",
        "symbol": asset.symbol,
        "name": asset.symbol.replace("/USD", " / US Dollar"),
        "status": "active" if asset.tradable else "inactive",
        "tradable": asset.tradable,
        "marginable": not crypto,
        "maintenance_margin_requirement": int(margin),
        "margin_requirement_long": margin,
        "margin_requirement_short": margin,
        "shortable": asset.shortable,
        "easy_to_borrow": asset.shortable,
        "fractionable": asset.fractionable,
        "attributes": [],
        **(sizes if crypto else {}),
    }
