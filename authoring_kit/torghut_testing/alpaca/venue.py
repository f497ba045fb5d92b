"""The exchange as plain objects: what a script does with it, what the API asks of it, and how orders fill. No IO."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

from torghut_core import SECOND
from torghut_testing.alpaca import classes, rules, wire
from torghut_testing.alpaca.book import SYMBOLS, Book, State, asset_wire
from torghut_testing.alpaca.orders import MATCHABLE, STATUSES, ZERO, Holding, Order
from torghut_testing.alpaca.rules import NANO, Asset, Refusal
from torghut_testing.alpaca.sessions import Sessions
from torghut_testing.alpaca.wire import number

Number = Decimal | int | str
Event = dict[str, Any]
T = TypeVar("T")
EVENTS_KEPT = 10_000
REPLACEABLE = ("qty", "limit_price", "stop_price", "time_in_force", "client_order_id")
REPLACEABLE_STATUSES = ("new", "partially_filled", "held")


class _Kept(Generic[T]):
    """An attribute of the venue that a restart keeps, because it is stored in the state."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, venue: FakeVenue, owner: type | None = None) -> T:
        return getattr(venue._book.state, self._name)  # type: ignore[no-any-return]  # noqa: SLF001 - the venue's own part

    def __set__(self, venue: FakeVenue, value: T) -> None:
        setattr(venue._book.state, self._name, value)  # noqa: SLF001 - as above


class FakeVenue:
    """Alpaca's side of an account, in memory. Every method may be called from any thread.

    Orders are named by their id or by the client's id. What the API answers comes as dicts of plain JSON values. A
    market order fills whole at the price set for its symbol; orders in a symbol without a price do not fill.

    Parameters
    ----------
    cash : dollars.
    multiplier : of equity, for the buying power of equities; crypto is bought with cash alone.
    shorting : whether equities may be sold short.
    crypto_fee_bps : taken from the coins on a buy, from the dollars on a sell; hundredths of a percent.
    clock : returns nanoseconds since the epoch; `skew_ns` is added.

    Attributes
    ----------
    skew_ns : how far the venue's timestamps are ahead of the clock; negative when behind.
    is_open : whether equities trade; None follows the calendar. True at first, so that no test depends on the hour.
    sessions : the calendar.
    blocks_wash_trades : refuse an order that might trade with an open order of the account. True at first.
    suspended_by_user : refuse all new orders, as the switch in the account's settings does.
    slow_cancels, slow_replaces : leave a requested cancel or replacement pending until `cancel` or `confirm_replace`, or
        until `reject_cancel` or `reject_replace`.
    stops_replace : a stop that is reached replaces its take-profit, as was reported once, instead of canceling it.
    listeners : called with each update, in order, under the venue's lock: they must not wait.

    Examples
    --------
    >>> venue = FakeVenue(cash=1000)
    >>> venue.set_price("BTC/USD", 100)
    >>> order = venue.place("BTC/USD", "buy", 2)
    >>> order["status"], venue.account()["cash"], [event["event"] for event in venue.events]
    ('filled', '800', ['pending_new', 'new', 'fill'])
    """

    skew_ns = _Kept[int]()
    is_open = _Kept["bool | None"]()
    blocks_wash_trades = _Kept[bool]()
    suspended_by_user = _Kept[bool]()
    slow_cancels = _Kept[bool]()
    slow_replaces = _Kept[bool]()
    stops_replace = _Kept[bool]()

    def __init__(
        self,
        cash: Number = 100_000,
        *,
        multiplier: Number = 1,
        shorting: bool = True,
        crypto_fee_bps: Number = 0,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.lock = threading.RLock()
        self.sessions = Sessions()
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.listeners: list[Callable[[Event], None]] = []
        self._clock = clock
        self._event_ids = wire.EventIds()
        state = State(
            cash=Decimal(cash),
            multiplier=Decimal(multiplier),
            shorting=shorting,
            crypto_fee_bps=Decimal(crypto_fee_bps),
            account_id=wire.new_id(),
            created_at=clock(),
            last_equity=Decimal(cash),
            assets={symbol: Asset(symbol=symbol, shortable="/" not in symbol) for symbol in SYMBOLS},
        )
        self._book = Book(state, clock)

    # For scripts.

    def now(self) -> int:
        """The venue's time, nanoseconds since the epoch."""
        return self._book.now()

    @property
    def events(self) -> list[Event]:
        """The last updates, oldest first."""
        with self.lock:
            return list(self._events)

    def list_asset(
        self,
        symbol: str,
        *,
        tradable: bool = True,
        fractionable: bool = True,
        shortable: bool = True,
        min_order_size: Decimal = NANO,
    ) -> None:
        """List a symbol, or change its listing; one with a slash is crypto, which is never shortable."""
        with self.lock:
            self._book.state.assets[symbol] = Asset(
                symbol=symbol,
                tradable=tradable,
                fractionable=fractionable,
                min_order_size=min_order_size,
                shortable=shortable and "/" not in symbol,
            )

    def set_price(self, symbol: str, price: Number) -> None:
        """Set the market price of a symbol, dollars per unit; orders that become marketable fill, and stops trigger."""
        with self.lock:
            try:
                listed = self._book.asset(symbol).symbol
            except Refusal:
                self.list_asset(symbol)
                listed = symbol
            self._book.state.prices[listed] = Decimal(price)
            self._match_symbol(listed)

    def hold(self, symbol: str, at: str = "new") -> None:
        """Let orders of a symbol fill by `fill` only; new orders stop in state `at`: new, accepted or pending_new."""
        if at not in ("new", "accepted", "pending_new"):
            raise ValueError(f"an order cannot be held at {at!r} (use new, accepted or pending_new)")
        with self.lock:
            listed = self._book.asset(symbol).symbol
            self._book.state.held[listed] = at
            self._match_symbol(listed)  # orders that waited in an earlier state advance to it

    def release(self, symbol: str) -> None:
        """Undo `hold`: waiting orders advance and fill."""
        with self.lock:
            listed = self._book.asset(symbol).symbol
            self._book.state.held.pop(listed, None)
            self._match_symbol(listed)

    def fill(
        self, key: str, quantity: Number | None = None, price: Number | None = None, *, late: bool = False
    ) -> Event:
        """Fill an order, in part with `quantity`, at `price` or the market's; `late` fills even an order that is done.

        Returns
        -------
        The order after the fill.

        Raises
        ------
        LookupError : no such order.
        ValueError : more than is left, an order that is done, or no price.
        """
        with self.lock:
            order = self._book.find_active(key)
            if order.status in ("filled", "rejected") or (order.is_done and not late):
                raise ValueError(f"order {key} is {order.status} and cannot be filled")
            at = self._book.state.prices.get(order.symbol, order.limit_price) if price is None else Decimal(price)
            if at is None:
                raise ValueError(f"order {key} has no price to fill at (give one, or set_price({order.symbol!r}, ...))")
            left = order.left(at)
            wanted = left if quantity is None else Decimal(quantity)
            if not ZERO < wanted <= left:
                raise ValueError(f"order {key} has {number(left)} left to fill, not {number(wanted)}")
            if not order.is_done and (before := self._book.waits_for(order)) is not None:
                if not before.opens:
                    self._start_instead(order, before)
                else:
                    raise ValueError(f"order {key} waits until {before.id} is filled (fill that first)")
            self._fill(order, wanted, at)
            return order.wire()

    def cancel(self, key: str) -> Event:
        """Cancel an order as the venue: in answer to a pending cancel, or unasked."""
        return self._end(key, "canceled")

    def expire(self, key: str) -> Event:
        """Let an order expire."""
        return self._end(key, "expired")

    def reject(self, key: str, reason: str = "rejected by the venue") -> Event:
        """Reject an order that the venue had accepted; the update has this `reason`."""
        return self._end(key, "rejected", reason=reason)

    def reject_cancel(self, key: str) -> Event:
        """Reject a pending cancel: the order stays open."""
        with self.lock:
            order = self._book.find_pending(key, "pending_cancel")
            self._reopen(order, "order_cancel_rejected")
            return order.wire()

    def confirm_replace(self, key: str) -> Event:
        """Confirm the pending replacement of an order, named by the old one; return the new order."""
        with self.lock:
            old = self._book.find_pending(key, "pending_replace")
            new = self._book.replacement(old)
            self._complete_replacement(old, new)
            return new.wire()

    def reject_replace(self, key: str) -> Event:
        """Reject the pending replacement of an order, named by the old one, which stays open."""
        with self.lock:
            old = self._book.find_pending(key, "pending_replace")
            self._reject_replacement(old)
            return old.wire()

    def report(self, key: str, event: str, status: str | None = None) -> Event:
        """Send an update that moves no money, such as ``done_for_day``, ``suspended`` or ``restated``.

        The order's status becomes `status`; left out, the status with the event's name, if there is one.
        """
        with self.lock:
            order = self._book.find_active(key)
            becomes = status or (event if event in STATUSES else order.status)
            if becomes not in STATUSES:
                raise ValueError(f"{becomes!r} is not a status of an order (there are {', '.join(sorted(STATUSES))})")
            self._book.set_status(order, becomes)
            self._emit(event, order)
            return order.wire()

    def place(self, symbol: str, side: str, qty: Number | None = None, **fields: Any) -> Event:
        """Place an order by hand, as in the venue's web page; `fields` are those of the API. Market by default.

        Returns
        -------
        The order, perhaps filled already.

        Raises
        ------
        Refusal : as for an order of the API.
        """
        day_or_gtc = "gtc" if "/" in symbol else "day"
        body = {"symbol": symbol, "side": side, "type": "market", "time_in_force": day_or_gtc, **fields}
        if qty is not None:
            body["qty"] = str(qty)
        body = {name: str(value) if isinstance(value, Decimal) else value for name, value in body.items()}
        with self.lock:
            return self.order(self.submit(body)["id"])

    def set_position(self, symbol: str, qty: Number, price: Number | None = None) -> None:
        """Set a position, signed units, as if it was moved by hand: no order, no fill, no cash."""
        with self.lock:
            listed = self._book.asset(symbol).symbol
            cost = self._book.state.prices.get(listed, ZERO) if price is None else Decimal(price)
            self._book.state.holdings[listed] = Holding(Decimal(qty), cost)
            if not Decimal(qty):
                del self._book.state.holdings[listed]

    def set_cash(self, cash: Number) -> None:
        """Set the account's cash, dollars."""
        with self.lock:
            self._book.state.cash = Decimal(cash)

    def open_market(self) -> None:
        """Open the session: accepted orders can fill, and auction orders for the open fill."""
        with self.lock:
            self._book.state.is_open = True
            for order in list(self._book.open_orders.values()):
                if order.time_in_force == "opg":
                    self._auction(order)
            for symbol in list(self._book.state.assets):
                self._match_symbol(symbol)

    def close_market(self) -> None:
        """Close the session: auction orders for the close fill, and day orders of equities expire."""
        with self.lock:
            for order in list(self._book.open_orders.values()):
                if order.time_in_force == "cls":
                    self._auction(order)
                elif order.asset_class == "us_equity" and order.time_in_force in ("day", "opg") and not order.is_done:
                    self._finish(order, "expired")
            self._book.state.is_open = False

    # For the API.

    def submit(self, body: dict[str, Any]) -> Event:
        """Accept an order from its body; return it with its legs as it is accepted, before it can fill.

        Raises
        ------
        Refusal : not accepted, and why.
        """
        with self.lock:
            symbol = body.get("symbol")
            if not isinstance(symbol, str) or not symbol:
                raise rules.malformed("symbol is required")
            asset = self._book.asset(symbol)
            request = classes.read(body, asset)
            self._book.require_unique(request.client_order_id)
            if self._book.state.suspended_by_user:
                raise rules.forbidden("new orders are rejected by user request")
            order = self._book.make(request, asset)
            if request.legs:
                classes.check_intent(order.order_class, opens=order.opens)
                classes.check_distance(request, self._book.state.prices.get(asset.symbol))
            self._book.check(order, asset)
            self._book.add(order)
            for one in request.legs:
                self._book.add(self._book.make_leg(one, asset, order))
            self._emit("pending_new", order)
            for leg in self._book.legs(order):
                self._emit("held", leg)
            answer = self._book.wire(order)
            self._accept(order)
            return answer

    def replace(self, order_id: str, changes: dict[str, Any]) -> Event:
        """Accept a replacement from its body; return the new order.

        Its `qty` includes what the old order has filled; the new order is for the rest. It takes the old one's place among
        orders of one request.

        Raises
        ------
        Refusal : not accepted, and why.
        """
        with self.lock:
            old = self._book.by_id(order_id)
            if old.is_done:
                raise rules.unprocessable(f'order is already in "{old.status}" state')
            if old.status not in REPLACEABLE_STATUSES:
                raise rules.unprocessable(f"cannot replace order in {old.status} status")
            new = self._changed(old, changes)
            old.status_before = old.status
            old.replaced_by = new.id
            self._book.add(new)
            answer = new.wire()
            self._book.set_status(old, "pending_replace")
            if self._book.state.slow_replaces:
                self._emit("pending_replace", old)
            else:
                self._complete_replacement(old, new)
            return answer

    def request_cancel(self, order_id: str) -> None:
        """Accept the request to cancel an order.

        Raises
        ------
        Refusal : 404 unknown, 422 done or pending already.
        """
        with self.lock:
            order = self._book.by_id(order_id)
            if order.is_done:
                raise rules.unprocessable(f'order is already in "{order.status}" state')
            if order.status == "pending_cancel":
                raise rules.unprocessable("order pending cancel")
            if self._book.waits_to_replace(order):
                raise rules.unprocessable("order chain not fully replaced")
            if order.status == "pending_replace":
                self._reject_replacement(order)
            order.cancel_requested_at = self.now()
            if self._book.state.slow_cancels:
                order.status_before = order.status
                self._book.set_status(order, "pending_cancel")
                self._emit("pending_cancel", order)
            else:
                self._finish_group(order, "canceled")

    def order(self, key: str, *, nested: bool = False) -> Event:
        """An order by its id or the client's id; `nested` with its legs.

        Raises
        ------
        LookupError : no such order.
        """
        with self.lock:
            found = self._book.find(key)
            return self._book.wire(found) if nested else found.wire()

    def orders(
        self,
        status: str = "all",
        *,
        limit: int | None = None,
        after: int | None = None,
        until: int | None = None,
        ascending: bool = True,
        symbols: set[str] | None = None,
        side: str | None = None,
        nested: bool = False,
    ) -> list[Event]:
        """Orders by when they were submitted, strictly between `after` and `until`, nanoseconds since the epoch.

        `status` is open, closed or all; a held leg is closed. `symbols` come with or without a slash. `nested` puts legs
        under their order, which alone is searched.
        """
        wanted = {symbol.replace("/", "") for symbol in symbols} if symbols else None
        found = []
        with self.lock:
            candidates: list[Order] = (
                list(self._book.open_orders.values()) if status == "open" else self._book.state.orders
            )
            for order in candidates if ascending else reversed(candidates):
                is_closed = order.is_done or order.status == "held"
                if (
                    (status == "all" or is_closed == (status == "closed"))
                    and not (nested and order.parent is not None)
                    and (after is None or order.created_at > after)
                    and (until is None or order.created_at < until)
                    and (wanted is None or order.symbol.replace("/", "") in wanted)
                    and (side is None or order.side == side)
                ):
                    found.append(self._book.wire(order) if nested else order.wire())
                    if len(found) == limit:
                        break
        return found

    def position(self, symbol: str) -> Event:
        """The position in a symbol.

        Raises
        ------
        Refusal : 404, flat.
        """
        with self.lock:
            listed = self._book.asset(symbol).symbol
            if listed not in self._book.state.holdings:
                raise rules.not_found("position does not exist")
            holding = self._book.state.holdings[listed]
            opposite = "sell" if holding.qty > 0 else "buy"
            free = abs(holding.qty) - self._book.committed(listed, opposite)
            return holding.wire(listed, free if holding.qty > 0 else -free, self._book.mark(listed))

    def positions(self) -> list[Event]:
        """All positions that are not flat, by symbol."""
        with self.lock:
            return [self.position(symbol) for symbol in sorted(self._book.state.holdings)]

    def close_position(self, symbol: str, qty: Decimal | None = None, percentage: Decimal | None = None) -> Event:
        """Send the market order that closes a position, or a part of it; return the order as it is accepted.

        Raises
        ------
        Refusal : 404 flat; otherwise as for any order.
        """
        with self.lock:
            listed = self._book.asset(symbol).symbol
            held = self._book.state.holdings.get(listed)
            if held is None:
                raise rules.not_found("position does not exist")
            if qty is None:
                qty = abs(held.qty) * (percentage or Decimal(100)) / 100
            return self.submit(
                {
                    "symbol": listed,
                    "side": "sell" if held.qty > 0 else "buy",
                    "qty": number(qty),
                    "type": "market",
                    "time_in_force": "gtc" if "/" in listed else "day",
                },
            )

    def account(self) -> dict[str, Any]:
        """The account."""
        with self.lock:
            return self._book.account()

    def asset(self, symbol: str) -> dict[str, Any]:
        """The listing of a symbol.

        Raises
        ------
        Refusal : 404, not listed.
        """
        with self.lock:
            try:
                asset = self._book.asset(symbol)
            except Refusal:
                raise rules.not_found(f"asset not found for {symbol}") from None
            return asset_wire(asset)

    def assets(self, asset_class: str | None = None) -> list[dict[str, Any]]:
        """All listings by symbol; those of one class where it is given."""
        with self.lock:
            listed = [asset for _, asset in sorted(self._book.state.assets.items())]
            return [asset_wire(asset) for asset in listed if asset_class in (None, asset.asset_class)]

    def activities(self, after: int | None = None, until: int | None = None) -> list[dict[str, Any]]:
        """Fills, oldest first, strictly between two times, nanoseconds since the epoch."""
        with self.lock:
            return self._book.activities(after, until)

    def clock(self) -> dict[str, Any]:
        """The venue's time, and whether equities trade."""
        now = self.now()
        return self.sessions.clock(now, is_open=self._is_open())

    # Restart.

    def dump(self) -> bytes:
        """The whole state as JSON, for `load`."""
        with self.lock:
            self._book.state.last_event_id = str(self._event_ids.last)
            return msgspec.json.encode(self._book.state)

    def load(self, dumped: bytes) -> None:
        """Continue from the state that `dump` returned, also of another venue.

        Raises
        ------
        msgspec.ValidationError : not the state of a venue.
        """
        with self.lock:
            self._book = Book(msgspec.json.decode(dumped, type=State), self._clock)
            self._event_ids = wire.EventIds(int(self._book.state.last_event_id))

    # Inside; the lock is held.

    def _is_open(self) -> bool:
        return self.sessions.is_open(self.now()) if self._book.state.is_open is None else self._book.state.is_open

    def _trades_now(self, order: Order) -> bool:
        return order.asset_class == "crypto" or order.extended_hours or self._is_open()

    def _accept(self, order: Order) -> None:
        if self._book.waits_for(order) is not None:
            self._book.set_status(order, "held")
            self._emit("held", order)
            self._match(order)
            return
        held = self._book.state.held.get(order.symbol)
        if held == "pending_new":
            if order.status == "held":
                self._book.set_status(order, "pending_new")
                self._emit("pending_new", order)
            return
        if held == "accepted" or not self._trades_now(order):
            if order.status != "accepted":
                self._book.set_status(order, "accepted")
                self._emit("accepted", order)
            return
        self._book.set_status(order, "new")
        self._emit("new", order)
        self._match(order)

    def _match_symbol(self, symbol: str) -> None:
        for order in self._book.open_in(symbol):
            if self._book.waits_to_replace(order):
                continue
            if order.status in ("pending_new", "accepted"):
                self._accept(order)
            else:
                self._match(order)

    def _start_legs(self, entry: Order) -> None:
        """Let the legs begin that do not wait any longer."""
        for leg in self._book.legs(entry):
            if leg.status == "held" and self._book.waits_for(leg) is None:
                self._accept(leg)

    def _start_instead(self, stop: Order, target: Order) -> None:
        """Let a stop take the units of its take-profit, which ends."""
        if self._book.state.stops_replace:
            target.replaced_by, stop.replaces = stop.id, target.id
        self._finish(target, "replaced" if self._book.state.stops_replace else "canceled")
        if stop.status == "held":
            self._book.set_status(stop, "new")
            self._emit("new", stop)

    def _is_reached(self, stop: Order, price: Decimal | None) -> bool:
        if price is not None:
            stop.is_marketable(price)
        return stop.is_triggered

    def _match(self, order: Order) -> None:
        """Fill an order that the market would fill; cancel the rest of one that is immediate or cancel."""
        price = self._book.state.prices.get(order.symbol)
        if order.symbol in self._book.state.held or order.is_done or not self._trades_now(order):
            return
        if order.time_in_force in rules.AUCTION:
            return
        if (before := self._book.waits_for(order)) is not None:
            if before.opens or not self._is_reached(order, price):
                return
            self._start_instead(order, before)
        if order.status not in MATCHABLE:
            return
        if price is not None and order.is_marketable(price) and (left := order.left(price)):
            self._fill(order, left, price)
        if order.time_in_force in ("ioc", "fok") and not order.is_done:
            self._finish(order, "canceled")

    def _auction(self, order: Order) -> None:
        price = self._book.state.prices.get(order.symbol)
        if price is not None and order.is_marketable(price):
            self._fill(order, order.left(price), price)
        else:
            self._finish(order, "canceled")

    def _fill(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        now = self.now()
        is_whole = quantity == order.left(price)
        order.filled_qty += quantity
        order.filled_value += quantity * price
        order.filled_at = now
        position = self._book.settle(order, quantity, price)
        if is_whole:
            replaced = order.status == "pending_replace"
            self._book.set_status(order, "filled")
            if replaced:
                self._reject_replacement(order)
        else:  # a pending or canceled order is that still
            waits = order.status.startswith("pending_") and order.status != "pending_new"
            self._book.set_status(order, order.status if waits or order.is_done else "partially_filled")
        kind = "fill" if is_whole else "partial_fill"
        self._book.add_fill(order, kind, quantity, price, now)
        fields = {"price": number(price), "qty": number(quantity), "position_qty": number(position)}
        if order.asset_class == "crypto":
            day = datetime.fromtimestamp(now // SECOND, wire.NEW_YORK)
            fields |= {"swap_rate": "1", "settle_date": f"{day:%Y-%m-%d}"}
        self._emit(kind, order, **fields)
        self._follow(order)

    def _follow(self, order: Order) -> None:
        """Do what a fill of an order does to the others of its request."""
        others = [other for other in self._book.group(order) if other is not order and not other.is_done]
        if order.opens:
            self._start_legs(order)
        elif order.status == "filled":
            for other in others:
                self._finish_open(other, "canceled")
        else:
            for other in others:
                other.qty = order.left(ZERO)  # the stop of a take-profit that is filled in part

    def _end(self, key: str, status: str, **fields: str) -> Event:
        with self.lock:
            order = self._book.find_active(key)
            if order.is_done:
                raise ValueError(f"order {key} is {order.status} and cannot become {status}")
            self._finish_group(order, status, **fields)
            return order.wire()

    def _finish_group(self, order: Order, status: str, **fields: str) -> None:
        """End an order, and with it those of its request that are open."""
        self._finish_open(order, status, **fields)
        for other in self._book.group(order):
            if not other.is_done:
                self._finish_open(other, "expired" if status == "expired" else "canceled")

    def _finish_open(self, order: Order, status: str, **fields: str) -> None:
        if order.status == "pending_replace":
            self._reject_replacement(order)
        self._finish(order, status, **fields)

    def _finish(self, order: Order, status: str, **fields: str) -> None:
        setattr(order, {"rejected": "failed_at"}.get(status, f"{status}_at"), self.now())
        self._book.set_status(order, status)
        self._emit(status, order, **fields)

    def _reopen(self, order: Order, event: str) -> None:
        self._book.set_status(order, "partially_filled" if order.filled_qty else order.status_before)
        self._emit(event, order)
        self._match(order)

    def _changed(self, old: Order, changes: dict[str, Any]) -> Order:
        """The order that is to replace `old`, checked and not in the book yet."""
        asset = self._book.asset(old.symbol)
        if old.order_class == "oto":
            raise rules.unprocessable("order replacement is not supported for oto orders")
        if old.notional is not None:
            raise rules.unprocessable("notional orders cannot be replaced")
        fields = set(rules.OrderRequest.__struct_fields__) - {"client_order_id", "order_class", "legs"}
        body: dict[str, Any] = {field: getattr(old, field) for field in fields}
        if old.type == "trailing_stop":
            body["stop_price"] = None  # follows from the trail
        trail = "trail_percent" if old.trail_price is None else "trail_price"
        names = {"trail": trail} | {name: name for name in REPLACEABLE}
        given = {names[key]: value for key, value in changes.items() if key in names and value not in (None, "")}
        wanted = rules.read(body | given, asset)
        if msgspec.structs.replace(wanted, client_order_id=None) == rules.read(body, asset):
            raise rules.unprocessable("order parameters are not changed")
        if old.order_class in classes.NAMES and wanted.qty != old.qty:
            raise rules.unprocessable(f"qty of {old.order_class} orders cannot be replaced")
        if old.asset_class == "us_equity" and wanted.qty != old.qty and any(q and q % 1 for q in (wanted.qty, old.qty)):
            raise rules.unprocessable("qty of fractional orders cannot be replaced")
        if wanted.qty is not None and wanted.qty <= old.filled_qty:
            raise rules.unprocessable("qty must be > filled_qty")
        left = None if wanted.qty is None else wanted.qty - old.filled_qty
        request = msgspec.structs.replace(wanted, qty=left)
        self._book.require_unique(request.client_order_id)
        new = self._book.make(request, asset)
        new.replaces, new.hwm, new.position_intent = old.id, old.hwm, old.position_intent
        new.order_class, new.parent = old.order_class, old.parent
        self._book.check(new, asset, replaces=old)
        new.reserved = max(ZERO, new.reserved - old.reserved)  # besides what the old order still reserves
        return new

    def _complete_replacement(self, old: Order, new: Order) -> None:
        self._finish(old, "replaced")
        if old.order_class in classes.NAMES:
            new.qty = old.left(ZERO)  # a stop may have shrunk with its take-profit meanwhile
            self._book.take_place(new, old)
        self._accept(new)

    def _reject_replacement(self, old: Order) -> None:
        """Reject the new order; the old one keeps its status, or returns to the one before."""
        new = self._book.replacement(old)
        old.replaced_by = None
        if old.is_done:
            self._emit("order_replace_rejected", old)
        else:
            self._reopen(old, "order_replace_rejected")
        self._finish(new, "rejected")

    def _emit(self, event: str, order: Order, **fields: str) -> None:
        now = self.now()
        update: Event = {
            "at": wire.timestamp(now, micros=True),
            "event_id": self._event_ids.next(now),
            "event": event,
            "timestamp": wire.timestamp(now),
            "order": order.wire(),
            **fields,
        }
        if event != "pending_new":
            update["execution_id"] = wire.new_id()
        self._events.append(update)
        for listener in self.listeners:
            listener(update)
