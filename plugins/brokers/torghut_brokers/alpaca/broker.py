"""The broker `alpaca`: turns the kernel's calls into requests to the venue, and the venue's answers into order statuses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
import pydantic

from torghut_brokers.alpaca import pairs, terms, wire
from torghut_brokers.alpaca.refusals import NOT_FOUND
from torghut_brokers.alpaca.wire import TradeUpdate, WireOrder
from torghut_core import (
    DAY,
    PAIRS_AND_US_EQUITIES,
    Account,
    Broker,
    Capabilities,
    Connection,
    Decision,
    Instrument,
    Intent,
    Order,
    OrderRefused,
    OrderState,
    OrderStatus,
    OrderType,
    Position,
    Report,
    SettingsError,
    Throttled,
    TimeInForce,
    Unanswered,
    VenueError,
    format_timestamp,
    is_done,
    param,
    parse_timestamp,
    to_datetime,
)

if TYPE_CHECKING:
    from torghut_brokers.alpaca.rest import Rest
    from torghut_brokers.alpaca.stream import Stream

T = TypeVar("T")
LIVE_URL = "https://api.alpaca.markets"
PAPER_URL = "https://paper-api.alpaca.markets"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PAGE = 500
"""Orders in one answer at most.

Source: data/webapi/endpoints/orders.yaml of github.com/alpacahq/alpaca-docs, read 2026-11-21.
"""
LONGEST_ID = 48
"""Characters of a client order id that the venue accepts by its documentation (the same source)."""
CRYPTO_FEE = Decimal("0.0026")
"""The venue's highest fee for crypto, 25 bps of what is credited, plus its rounding; it is posted at any later time.

Source: https://alpaca.markets/docs/crypto/activities/, read 2026-11-21.
"""
LONGEST_NUMBER = 4
"""Characters that number a change, as in ``-r12``."""
HASH = slice(3, 43)
"""Where a client order id has the decision's hash, which is long enough to lose some characters."""
MOST_LEGS = 32
"""Legs that one order may have: one more than its changes."""
NEW_YORK = ZoneInfo("America/New_York")


class Alpaca(Broker):
    """Trade equities and crypto at Alpaca, on the paper account unless trading is live.

    Orders are sent over REST, one request at a time per thread; their updates come by the stream ``trade_updates``, and the
    kernel looks orders up. A changed order is a new one at the venue (see `wire`): all of it is reported under the id of
    the first. The stop and the take-profit of a bracket are one order there (see `pairs`).
    """

    venue_calendars = PAIRS_AND_US_EQUITIES

    class Params(Broker.Params):
        """Parameters of `Alpaca`."""

        url: str | None = param(
            None,
            help="address of a stand-in of the venue, loopback only; default: the venue, paper or live by the settings",
        )
        timeout_seconds: float = param(5.0, gt=0, le=30, help="time limit of one request, seconds")
        stream_timeout_seconds: float = param(
            10.0, gt=0, le=60, help="time after which a stream that is open and mute is noticed, seconds"
        )
        use_margin: bool = param(
            False, help="count what the venue would lend for equities as buying power; crypto never has margin"
        )

        @pydantic.field_validator("url")
        @classmethod
        def _is_loopback(cls, url: str | None) -> str | None:
            if url is None:
                return None
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or parts.hostname not in LOOPBACK or parts.username is not None:
                raise ValueError(
                    "url is for a stand-in of the venue on this machine, like http://127.0.0.1:8080 (leave it out for "
                    "Alpaca itself: whether paper or live is decided by TRADING_MODE and TRADING_LIVE_ENABLED)"
                )
            return url.rstrip("/")

    capabilities = Capabilities(order_types=frozenset(OrderType), times_in_force=frozenset(TimeInForce), brackets=True)
    secrets = ("ALPACA_KEY_ID", "ALPACA_SECRET_KEY")
    day_zone = "America/New_York"

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._rest: Rest | None = None
        self._stream: Stream | None = None
        self._updates: deque[OrderStatus] = deque()
        self._assets: dict[str, wire.WireAsset] = {}
        """The venue's list of crypto, by symbol."""
        self._replaced: dict[str, tuple[WireOrder, ...]] = {}
        """Legs of changed orders up to one that was replaced, oldest first, by its id: these do not change any more."""
        self._names = pairs.Names()

    def holds_pair(self, stop: Intent, profit: Intent) -> bool:
        """Return whether a stop and a take-profit can be one order of the class ``oco``; see `Broker.holds_pair`."""
        return pairs.is_pair(stop, profit)

    # Connecting and closing.

    def connect(self, connection: Connection) -> None:
        """Check the keys and the account, and start the stream; see `Broker.connect`.

        Raises
        ------
        SettingsError : a key or a library is missing, or trading is live and `url` is a stand-in.
        VenueError : the venue cannot be reached, refuses the keys, or the account may not trade.
        """
        url, is_stand_in = self._address(connection.is_live)
        keys = connection.secret(self.secrets[0]), connection.secret(self.secrets[1])
        try:  # imported here, as these take most of a second and few commands trade
            from torghut_brokers.alpaca.rest import Rest
            from torghut_brokers.alpaca.stream import Stream
        except ModuleNotFoundError as error:
            raise SettingsError(f"broker alpaca: {error} (install torghut-brokers[alpaca])") from None

        params = self.params
        self._rest = Rest(url, *keys, params.timeout_seconds, use_proxies=not is_stand_in)
        try:
            self._check_account()
            self._assets = _read(self._venue.get("/assets", {"asset_class": "crypto"}), wire.read_assets)
        except VenueError:
            self.close()
            raise
        self._stream = Stream(
            f"ws{url.removeprefix('http')}/stream",
            *keys,
            params.stream_timeout_seconds,
            self._receive,
            use_proxies=not is_stand_in,
        )
        self._stream.start()

    def _address(self, is_live: bool) -> tuple[str, bool]:
        url = self.params.url
        if url is None:
            return (LIVE_URL if is_live else PAPER_URL), False
        if is_live:
            raise SettingsError(
                f"broker alpaca: params.url ({url}) names a stand-in of the venue, and trading is live "
                "(take url out of the catalog, or set TRADING_MODE=paper)"
            )
        return url, True

    def _check_account(self) -> None:
        try:
            account = _read(self._venue.get("/account"), wire.read_account)
        except OrderRefused as error:
            raise VenueError(
                f"alpaca refuses the keys: {error} (check ALPACA_KEY_ID and ALPACA_SECRET_KEY; keys of the paper account "
                "do not open the live one, nor the other way round)"
            ) from None
        blocks = {
            "trading_blocked": account.trading_blocked,
            "account_blocked": account.account_blocked,
            f"status is {account.status}": account.status != "ACTIVE",
        }
        found = [name for name, is_set in blocks.items() if is_set]
        if found:
            raise VenueError(
                f"alpaca account {account.account_number} may not trade: {', '.join(found)} (see its page at the venue; "
                "its support can lift a block)"
            )

    def close(self) -> None:
        """End the stream and the connections; see `Broker.close`."""
        if self._stream is not None:
            self._stream.close()
        if self._rest is not None:
            self._rest.close()

    @property
    def _venue(self) -> Rest:
        if self._rest is None:
            raise VenueError("broker alpaca is not connected (call connect first)")
        return self._rest

    # Requests.

    def objection(self, decision: Decision) -> str:
        """Return why the venue does not accept such an order; see `terms`."""
        return terms.objection(decision) or super().objection(decision)

    def usual_time_in_force(self, symbol: str) -> TimeInForce:
        """Return GTC for crypto, which has no trading day; see `Broker.usual_time_in_force`."""
        return TimeInForce.GTC if "/" in symbol else TimeInForce.DAY

    def fee_in_kind(self, symbol: str) -> Decimal:
        """Return the share of bought crypto that the venue keeps, up to 25 bps; see `Broker.fee_in_kind` and docs/brokers.md."""
        return CRYPTO_FEE if "/" in symbol else Decimal(0)

    def instrument(self, symbol: str, stated: Instrument) -> Instrument:
        """Return the terms with what the venue's list of assets says, for crypto; see `Broker.instrument`."""
        asset = self._assets.get(symbol)
        known = stated if asset is None else msgspec.structs.replace(stated, **asset.terms)
        return known if known.quantity_step else msgspec.structs.replace(known, quantity_step=terms.FINEST)

    def submit(self, intent: Intent) -> OrderStatus:
        """Place an order; see `Broker.submit`.

        Raises
        ------
        VenueError : as the kernel's executor expects of a venue.
        """
        pair = pairs.pair_of(intent)
        if pair is not None:
            return self._submit_pair(intent, *pair)
        return _read([self._post(wire.body_of(intent), intent)], wire.status_of)

    def _submit_pair(self, intent: Intent, stop: Intent, profit: Intent) -> OrderStatus:
        """Place two legs as one order, in the name of either: where the other one has done so, the venue says that it is there."""
        try:
            order = self._post(pairs.body_of(stop, profit), profit)
        except OrderRefused as error:
            if "must be exit orders" in str(error):  # the fill is not booked there yet
                raise Throttled(str(error)) from None
            if intent is not stop or error.code != "invalid-order":
                raise
            return _read([self._post(wire.body_of(stop), stop)], wire.status_of)  # protected at least against a loss
        self._names.learn(order, profit.client_order_id)
        if intent is profit:
            return _read([order], wire.status_of)
        found = [leg for leg in order.legs or () if pairs.is_stop(leg)]
        if not found:
            raise Unanswered(f"the venue answered without the stop {stop.client_order_id}")
        return _read(self._names.named(found), wire.status_of)

    def _post(self, body: Mapping[str, object], intent: Intent) -> WireOrder:
        order = _read(self._venue.post("/orders", body), wire.read_order)
        if not wire.is_answer_to(order, intent):
            raise Unanswered(f"the venue answered with another order than {intent.client_order_id}")
        return order

    def cancel(self, client_order_id: str) -> None:
        """Ask that an order be canceled; see `Broker.cancel`. The venue cancels the other order of a pair too."""
        legs = self._find_legs(client_order_id)
        if not legs or _is_ending(legs):
            return
        newest = _read(legs, wire.joined).venue_order_id
        try:
            self._venue.delete(f"/orders/{newest}")
        except OrderRefused:
            if not _is_ending([self._get(newest)]):  # it may have ended, or been canceled by another client, meanwhile
                raise

    def replace(
        self,
        client_order_id: str,
        quantity: Decimal | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
    ) -> None:
        """Ask that an open order be changed; an unknown or done order is left alone.

        A `quantity` is that of the whole order, including what is filled. The venue would start the new leg with all of it,
        so the leg is asked for what is left. The stop of a pair becomes smaller by itself when the take-profit fills.

        Raises
        ------
        OrderRefused : the venue refuses, or ``too-many-changes``: no id is left for another leg.
        """
        legs = self._find_legs(client_order_id)
        if not legs:
            return
        order = _read(legs, wire.joined)
        if is_done(order.state):
            return
        if quantity is not None and legs[-1].order_class == pairs.CLASS:
            if quantity == order.intent.quantity:
                quantity = None
            elif quantity == self._left_of(pairs.other_name(client_order_id)):
                raise Throttled(f"the venue has yet to make {client_order_id} smaller")
            if quantity is limit_price is stop_price is None:
                self._updates.append(_read(legs, wire.status_of))
                return
        body = {"client_order_id": self._next_name(client_order_id, len(legs))}
        if quantity is not None or order.filled_quantity:
            whole = order.intent.quantity if quantity is None else quantity
            if whole <= order.filled_quantity:
                raise OrderRefused("invalid-order", f"quantity {whole} is filled already")
            body["qty"] = wire.text(whole - order.filled_quantity)
        prices = {"limit_price": limit_price, "stop_price": stop_price}
        body |= {name: wire.text(price) for name, price in prices.items() if price is not None}
        answer = self._venue.patch(f"/orders/{order.venue_order_id}", body)
        leg = _read(answer, wire.read_order)
        if leg.client_order_id != body["client_order_id"]:
            raise Unanswered(f"the venue answered with another order than the change of {client_order_id}")

    def _left_of(self, client_order_id: str) -> Decimal | None:
        """What is left of an order that has filled in part; None of any other."""
        found = self.find(client_order_id) if client_order_id else None
        return found.order.remaining if found is not None and found.order.filled_quantity else None

    def _next_name(self, client_order_id: str, legs: int) -> str:
        """Return an id for another leg, which no leg had before, not even a refused one."""
        stem = client_order_id
        if pairs.other_name(stem) and len(stem) > LONGEST_ID - LONGEST_NUMBER:
            stem = stem[: HASH.stop - LONGEST_NUMBER] + stem[HASH.stop :]
        for number in range(legs + 1, MOST_LEGS + 1):
            name = f"{stem}-r{number}"
            if len(name) > LONGEST_ID:
                break
            if self._find_order(name) is None:
                return name
        raise OrderRefused("too-many-changes", f"no id is left for another change of {client_order_id}")

    # State of orders and account.

    def orders(self) -> Sequence[Order]:
        """Return all open orders, oldest first, foreign orders too; see `Broker.orders`.

        Foreign orders of kinds that torghut does not model (several legs at once) are left out.
        """
        found: dict[str, Order] = {}
        listed = self._open_orders()
        if any(order.order_class == pairs.CLASS for order in listed):
            listed += self._open_stops()
        for order in listed:
            status = _read(self._legs_up_to(order), wire.joined)
            if not is_done(status.state):
                found[status.intent.client_order_id] = status
        return sorted(found.values(), key=lambda order: (order.intent.decided_at, order.intent.client_order_id))

    def _open_stops(self) -> list[WireOrder]:
        """Return the stops of pairs, which the list of open orders leaves out while their take-profit works."""
        nested = self._open_orders(nested=True)
        self._learn(nested)
        return [leg for order in nested if order.order_class == pairs.CLASS for leg in order.legs or ()]

    def _open_orders(self, *, nested: bool = False) -> list[WireOrder]:
        """Return all pages of the list; each starts with the last moment of the page before, which may have more orders."""
        found: dict[str, WireOrder] = {}
        query = {"status": "open", "limit": str(PAGE), "direction": "asc", "nested": "true" if nested else "false"}
        while True:
            page, problems = _read(self._venue.get("/orders", query), wire.read_orders)
            fresh = [order for order in page if order.id not in found]
            found |= {order.id: order for order in fresh}
            if len(page) + len(problems) < PAGE or not fresh:
                return list(found.values())
            last = max(parse_timestamp(order.submitted_at or order.created_at or "") for order in page)
            query["after"] = format_timestamp(last - 1)

    def done_since(self, since: int) -> Sequence[Order]:
        """Return orders that were done since a time, as far as one page goes; see `Broker.done_since`."""
        query = {"status": "closed", "limit": str(PAGE), "direction": "desc", "nested": "false"}
        query["after"] = format_timestamp(since - DAY)  # filters by the time of sending, which may be long before
        page, _ = _read(self._venue.get("/orders", query), wire.read_orders)
        found: dict[str, Order] = {}
        for order in page:
            if order.replaced_by is None:
                status = _read(self._legs_up_to(order), wire.joined)
                if is_done(status.state) and status.updated_at >= since:
                    found[status.intent.client_order_id] = status
        return sorted(found.values(), key=lambda order: (order.intent.decided_at, order.intent.client_order_id))

    def find(self, client_order_id: str) -> OrderStatus | None:
        """Return the order of this client order id, with all its legs; see `Broker.find`."""
        legs = self._find_legs(client_order_id)
        return _read(legs, wire.status_of) if legs else None

    def positions(self) -> dict[str, Position]:
        """Return the position by symbol."""
        return _read(self._venue.get("/positions"), wire.positions_of)

    def account(self) -> Account:
        """Return the account now; buying power is without borrowing, or with it if `use_margin` is set."""
        account = _read(self._venue.get("/account"), wire.read_account)
        return wire.account_of(account, use_margin=self.params.use_margin)

    def sessions(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return open and close of the sessions of equities that overlap the time between `first` and `last`; all ns."""
        days = [to_datetime(at).astimezone(NEW_YORK).date().isoformat() for at in (first, last)]
        answer = self._venue.get("/calendar", {"start": days[0], "end": days[1]})
        sessions = _read(answer, lambda message: wire.sessions_of(message, NEW_YORK))
        return [(opened, closed) for opened, closed in sessions if closed >= first and opened <= last]

    def updates(self) -> Sequence[Report | OrderStatus]:
        """Return the updates of the stream since the last call; see `Broker.updates`."""
        return [self._updates.popleft() for _ in range(len(self._updates))]

    def health(self) -> list[str]:
        """Return why updates may be missing: the stream is down, or not confirmed yet."""
        problem = "not connected" if self._stream is None else self._stream.problem
        return [f"alpaca trade_updates: {problem}"] if problem else []

    # Legs.

    def _receive(self, update: TradeUpdate) -> None:
        """Take one update, in the stream's thread; further legs are looked up."""
        try:
            order = update.order
            if order.is_replaced and not order.replaced_by:
                order = self._get(order.id)  # this message shows the order as it was before
            legs = self._legs_from(self._legs_up_to(order))
        except VenueError:
            return  # the kernel will look the order up
        self._updates.append(wire.status_of(legs, update))

    def _find_legs(self, client_order_id: str) -> list[WireOrder]:
        """Return the legs of an order, oldest first; none where the venue has no such order."""
        order = self._find_order(client_order_id)
        if order is None:
            return self._find_stop(client_order_id)
        return self._legs_from([order])

    def _find_stop(self, client_order_id: str) -> list[WireOrder]:
        """Return the legs of the stop of a pair, which is found by its take-profit."""
        name = pairs.other_name(client_order_id)
        profit = self._find_order(name) if name else None
        if profit is None or profit.order_class != pairs.CLASS or pairs.is_stop(profit):
            return []
        newest = self._get(self._legs_from([profit])[-1].id, nested=True)
        self._names.learn(newest, name)
        found = next((leg for leg in newest.legs or () if pairs.is_stop(leg)), None)
        return [] if found is None else self._legs_from(self._legs_up_to(found))

    def _learn(self, orders: Sequence[WireOrder]) -> None:
        """Keep which stops belong to the take-profits in a nested list."""
        for order in orders:
            if order.order_class == pairs.CLASS and any(not self._names.knows(leg) for leg in order.legs or ()):
                self._names.learn(order, self._legs_up_to(order)[0].client_order_id)

    def _find_order(self, client_order_id: str) -> WireOrder | None:
        try:
            answer = self._venue.get("/orders:by_client_order_id", {"client_order_id": client_order_id})
        except OrderRefused as error:
            if error.code == NOT_FOUND:
                return None
            raise
        order = _read(answer, wire.read_order)
        if order.client_order_id != client_order_id:
            raise Unanswered(f"the venue answered with another order than {client_order_id}")
        return order

    def _legs_from(self, legs: list[WireOrder]) -> list[WireOrder]:
        """Return `legs` and those after them."""
        legs = list(legs)
        while legs[-1].replaced_by and len(legs) < MOST_LEGS:
            following = self._get(legs[-1].replaced_by)
            if following.type != legs[-1].type:
                # A stop that was reached, in place of its take-profit: an order of its own.
                legs[-1] = msgspec.structs.replace(legs[-1], status="canceled", replaced_by=None)
                break
            self._keep(legs)
            legs.append(following)
        return legs

    def _legs_up_to(self, order: WireOrder) -> list[WireOrder]:
        """Return the legs before `order`, and `order`."""
        legs = [order]
        while legs[0].replaces and len(legs) < MOST_LEGS:
            before = self._replaced.get(legs[0].replaces)
            if before is not None:
                legs[:0] = before
                break
            earlier = self._get(legs[0].replaces)
            if earlier.type != order.type:
                break
            legs.insert(0, earlier)
        if len(legs) > 1:
            self._keep(legs[:-1])
        if pairs.is_stop(order) and not any(map(self._names.knows, legs)):
            query = {
                "status": "all",
                "limit": str(PAGE),
                "direction": "desc",
                "nested": "true",
                "symbols": order.symbol,
            }
            self._learn(_read(self._venue.get("/orders", query), wire.read_orders)[0])
        return self._names.named(legs)

    def _keep(self, legs: list[WireOrder]) -> None:
        if legs[-1].is_replaced:
            self._replaced[legs[-1].id] = tuple(legs)

    def _get(self, order_id: str, *, nested: bool = False) -> WireOrder:
        query = {"nested": "true"} if nested else None
        return _read(self._venue.get(f"/orders/{order_id}", query), wire.read_order)


def _read(answer: Any, reader: Callable[[Any], T]) -> T:
    """Parse an answer.

    Raises
    ------
    Unanswered : it makes no sense.
    """
    try:
        return reader(answer)
    except (ValueError, ArithmeticError) as error:
        raise Unanswered(f"an answer of the venue that makes no sense: {error}") from None


def _is_ending(legs: list[WireOrder]) -> bool:
    """Return whether an order is done, or about to be canceled."""
    state = _read(legs, wire.joined).state
    return is_done(state) or state is OrderState.PENDING_CANCEL
