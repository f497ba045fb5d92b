"""The conformance suite of a broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest
from pydantic import SecretStr

from torghut_core import (
    Account,
    Bracket,
    Broker,
    Capabilities,
    Charge,
    Connection,
    DuplicateOrder,
    Fill,
    Intent,
    NotSent,
    Order,
    OrderEvent,
    OrderRefused,
    OrderState,
    OrderStatus,
    OrderType,
    Report,
    Side,
    SymbolTable,
    Throttled,
    TimeInForce,
    Unanswered,
    VenueError,
    apply_report,
    is_done,
    reports_of,
)
from torghut_testing.builders import NOW, SYMBOL, decision, intent, trade_batch
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.plain import plain_copy

AnyBroker = TypeVar("AnyBroker", bound=Broker)
PRICE = 100.0
"""Price of the trades that a simulated broker is shown, quote currency per unit."""
PATIENCE = 5.0
"""Seconds within which a real venue's broker has to report what happened."""
FAULTS: dict[str, type[VenueError]] = {
    "refused": OrderRefused,
    "throttled": Throttled,
    "unreachable": NotSent,
    "failed": Unanswered,
    "nonsense": Unanswered,
    "lost": Unanswered,
}
"""What can go wrong with an order, and the error to raise for it. Of these orders the venue takes only ``lost``."""


class BrokerConformance(PluginConformance):
    """Checks of a broker: idempotent orders, harmless cancels, reports that add up, errors that say what is known.

    A simulated broker is shown trades of ``BTC/USD`` at 100, and needs nothing more. For a real venue override `make` to
    return a broker that is connected to a stand-in of the venue (see `connected`): an empty account and a market in
    `symbol` at about 100, where market orders fill. Until then the checks that need a venue are skipped.

    Attributes
    ----------
    broker : the class under test.
    params : its parameters where the defaults do not work.
    symbol : the symbol that is traded.
    """

    broker: ClassVar[type[Broker]]
    symbol: ClassVar[str] = SYMBOL

    @property
    def subject(self) -> type[Broker]:
        """The class under test."""
        return self.broker

    def connected(self, broker: AnyBroker, **secrets: str) -> AnyBroker:
        """Connect a broker to paper trading, with secrets by the names of their settings, and wait until it is ready.

        `close_brokers` closes it.
        """
        broker.connect(Connection(is_live=False, secret=lambda name: SecretStr(secrets[name])))
        self.__dict__.setdefault("_connected", []).append(broker)
        assert _until(lambda: not broker.health()), f"not ready within {PATIENCE} s: {broker.health()}"
        return broker

    def close_brokers(self) -> None:
        """Close the brokers of `connected`; best before the stand-in ends, and done after each check in any case."""
        for broker in self.__dict__.pop("_connected", []):
            broker.close()

    def teardown_method(self) -> None:
        """Called by pytest after each check."""
        self.close_brokers()

    def settle(self, broker: Broker) -> None:
        """Let the venue act on what it was sent. A stand-in that acts by itself needs nothing here."""
        if not broker.capabilities.simulated:
            return
        if not hasattr(self, "_symbols"):
            self._symbols, self._position = SymbolTable(), 0
        first, count = self._position, 5
        rows = [(self.symbol, NOW + (first + number) * 10**9, PRICE, 1_000.0) for number in range(1, count + 1)]
        self._position += count
        broker.advance(trade_batch(rows, self._symbols, first), first, self._position)

    def faults(self) -> Mapping[str, Callable[[], object]]:
        """How to make the next order at the stand-in fail, by the names in `FAULTS`; those left out are not checked."""
        return {}

    # Terms.

    def test_capabilities_are_stated(self) -> None:
        """The capabilities are stated, and include market orders for the day or good till canceled."""
        capabilities = self.broker.capabilities
        assert isinstance(capabilities, Capabilities), "state `capabilities`, a `torghut_core.Capabilities`"
        assert OrderType.MARKET in capabilities.order_types, "market orders are not among `order_types`"
        lasting = capabilities.times_in_force & {TimeInForce.DAY, TimeInForce.GTC}
        assert lasting, "neither DAY nor GTC is among `times_in_force`"

    def test_objection_knows_the_capabilities(self) -> None:
        """It objects to what the capabilities leave out, and gives the same answer to the same order every time."""
        broker: Broker = super().make()
        able = broker.capabilities
        for order_type in OrderType:
            for time_in_force in TimeInForce:
                terms = f"{order_type} {time_in_force}"
                asked = decision(order_type=order_type, time_in_force=time_in_force, symbol=self.symbol)
                objection = broker.objection(asked)
                assert broker.objection(asked) == objection, f"two answers to the same order ({terms})"
                if order_type not in able.order_types or time_in_force not in able.times_in_force:
                    assert objection, f"no objection to {terms}, which the capabilities leave out"

    # Orders.

    def test_new_account_is_flat(self) -> None:
        """A new account has no position, no open order and no update, and its amounts are finite."""
        broker = self._open()
        assert not any(position.quantity for position in broker.positions().values()), "a new account has a position"
        assert not broker.orders(), "a new account has an open order"
        assert list(broker.updates()) == [], "a new account has an update"
        account = broker.account()
        assert isinstance(account, Account), "`account` returned no `Account`"
        amounts = (account.cash, account.equity, account.buying_power)
        assert all(amount.is_finite() for amount in amounts), "cash, equity or buying power is not finite"

    def test_order_is_filled_and_reported(self) -> None:
        """A market order is filled by legal reports that add up to the position, and each report comes once."""
        broker = self._open()
        book = Book(broker)
        book.submit(self._order())
        self.settle(broker)
        reports = book.receive(OrderState.FILLED)
        ids = {report.client_order_id for report in reports}
        assert ids == {"tg-test-1"}, "a report has another client_order_id than the order"
        assert book.orders["tg-test-1"].state is OrderState.FILLED, "the market order was not filled"
        held = broker.positions()[self.symbol].quantity
        assert _bought(reports) == held == Decimal(2), "fills and position do not add up to the order's quantity"
        assert not broker.orders(), "a filled order is still open"
        assert book.receive() == [], "a report came twice"

    def test_fill_ids_are_unique(self) -> None:
        """No two fills of an order have the same `fill_id`."""
        broker = self._open()
        book = Book(broker)
        book.submit(self._order())
        self.settle(broker)
        fills = _fills(book.receive(OrderState.FILLED))
        assert len({(fill.client_order_id, fill.fill_id) for fill in fills}) == len(fills) > 0, "a fill_id came twice"

    def test_same_order_twice_is_one_order(self) -> None:
        """Sending an order again is harmless, while it is open and when it is done; a real venue may raise `DuplicateOrder`."""
        broker = self._open()
        book = Book(broker)
        book.submit(self._order())
        book.submit(self._order())
        assert len(broker.orders()) <= 1, "the same client_order_id made two open orders"
        self.settle(broker)
        reports = book.receive(OrderState.FILLED)
        book.submit(self._order())
        self.settle(broker)
        reports += book.receive()
        held = broker.positions()[self.symbol].quantity
        assert _bought(reports) == held == Decimal(2), "the same client_order_id was filled twice"

    def test_cancel_of_unknown_order_changes_nothing(self) -> None:
        """Canceling an order that the venue does not know is harmless."""
        broker = self._open()
        broker.cancel("tg-unknown")
        self.settle(broker)
        assert list(broker.updates()) == [], "canceling an unknown order gave an update"
        assert not broker.orders(), "canceling an unknown order made an open order"

    def test_cancel_of_filled_order_changes_nothing(self) -> None:
        """Canceling an order that is filled is harmless."""
        broker = self._open()
        book = Book(broker)
        book.submit(self._order())
        self.settle(broker)
        book.receive(OrderState.FILLED)
        broker.cancel("tg-test-1")
        self.settle(broker)
        assert broker.positions()[self.symbol].quantity == Decimal(2), "canceling a filled order changed the position"

    def test_canceled_order_is_not_filled(self) -> None:
        """A limit order away from the market is open until it is canceled."""
        broker, book = self._open_order()
        broker.cancel("tg-test-1")
        self.settle(broker)
        reports = book.receive(OrderState.CANCELED)
        assert [report.event for report in reports][-1] is OrderEvent.CANCELED, "the last report is not `canceled`"
        assert not _fills(reports), "a canceled order was filled"
        assert not broker.orders(), "a canceled order is still open"

    def test_changed_order_keeps_its_id(self) -> None:
        """A replaced limit price is reported, and shown, under the `client_order_id` that the order has had all along."""
        if not self.broker.capabilities.replace:
            pytest.skip("the broker replaces no orders")
        broker, book = self._open_order()
        try:
            broker.replace("tg-test-1", limit_price=Decimal(2))
        except NotImplementedError:
            pytest.skip("the broker replaces no orders")
        self.settle(broker)
        book.receive(OrderState.REPLACED)
        assert book.orders["tg-test-1"].intent.limit_price == Decimal(2), "the new limit price was not reported"
        shown = [(order.intent.client_order_id, order.intent.limit_price) for order in broker.orders()]
        assert shown == [("tg-test-1", Decimal(2))], "`orders` does not show the replaced order under its id"
        broker.cancel("tg-test-1")
        self.settle(broker)
        book.receive(OrderState.CANCELED)
        assert not broker.orders(), "a canceled order is still open"

    def test_replaced_quantity_is_what_is_filled(self) -> None:
        """An open order gets another quantity and a price at which it is filled: for that quantity."""
        if not self.broker.capabilities.replace:
            pytest.skip("the broker replaces no orders")
        broker, book = self._open_order()
        try:
            broker.replace("tg-test-1", quantity=Decimal(1), limit_price=Decimal(1_000))
        except NotImplementedError:
            pytest.skip("the broker replaces no orders")
        self.settle(broker)
        fills = _fills(book.receive(OrderState.FILLED))
        filled = sum((fill.quantity for fill in fills), Decimal(0))
        assert filled == broker.positions()[self.symbol].quantity == Decimal(1), "not filled for the new quantity"

    # Legs of a bracket.

    def test_a_leg_that_fills_cancels_the_other(self) -> None:
        """Where a leg has filled whole, the other one of the pair fills no more."""
        broker, book, (stop, profit) = self._legs(take_profit=50)
        book.submit(stop)
        book.submit(profit)
        self.settle(broker)
        book.receive(OrderState.FILLED, OrderState.CANCELED)
        states = [str(book.orders[leg.client_order_id].state) for leg in (stop, profit)]
        assert states == ["canceled", "filled"], f"the stop and the take-profit are {states}"
        held = [position.quantity for position in broker.positions().values()]
        assert not any(held), "the take-profit did not close the position"
        assert not broker.orders(), "a leg is still open though the other one has filled"

    def test_a_leg_that_fills_in_part_makes_the_other_smaller(self) -> None:
        """Both legs together never fill more than the fill that they protect."""
        if not self.broker.capabilities.simulated:
            pytest.skip("when a part of an order is filled is the venue's own affair")
        broker, book, (stop, profit) = self._legs(take_profit=50)
        book.submit(stop)
        book.submit(msgspec.structs.replace(profit, quantity=Decimal(1)))
        self.settle(broker)
        book.receive(OrderState.FILLED, OrderState.REPLACED)
        shown = {order.intent.client_order_id: order.remaining for order in broker.orders()}
        assert shown == {stop.client_order_id: Decimal(1)}, f"of two units one was sold, and {shown} is open"
        assert book.orders[stop.client_order_id].remaining == Decimal(1), "the smaller leg was not reported"

    def test_a_canceled_leg_leaves_the_other(self) -> None:
        """Who lets a stop go keeps the take-profit; a venue that cancels both reports both."""
        broker, book, (stop, profit) = self._legs(take_profit=1_000)
        book.submit(stop)
        book.submit(profit)
        self.settle(broker)
        assert not _fills(book.receive()), "a leg away from the market was filled"
        broker.cancel(stop.client_order_id)
        self.settle(broker)
        book.receive_until(lambda: is_done(book.orders[stop.client_order_id].state))
        shown = [order.intent.client_order_id for order in broker.orders()]
        assert stop.client_order_id not in shown, "the stop is still open"
        if self.broker.capabilities.simulated or not is_done(book.orders[profit.client_order_id].state):
            assert shown == [profit.client_order_id], "the take-profit is gone too"

    def _legs(self, take_profit: int) -> tuple[Broker, Book, list[Intent]]:
        """A broker that holds two units, and the legs that protect them: a stop far below the market, and a take-profit."""
        if not self.broker.capabilities.brackets:
            pytest.skip("the broker holds no brackets")
        broker = self._open()
        book = Book(broker)
        entry = self._order(bracket=Bracket(stop_loss=Decimal(1), take_profit=Decimal(take_profit)))
        asked = decision(quantity=2, symbol=self.symbol, time_in_force=entry.time_in_force, bracket=entry.bracket)
        if objection := broker.objection(asked):
            pytest.skip(f"the broker holds no such bracket of {self.symbol}: {objection}")
        book.submit(entry)
        self.settle(broker)
        (fill,) = _fills(book.receive(OrderState.FILLED))
        stop, profit = entry.legs(fill, fill.event_ts, 1)
        if not broker.holds_pair(stop, profit):
            pytest.skip(
                f"the venue holds one exit of the same units of {self.symbol}: the kernel keeps the take-profit"
            )
        if not self.broker.capabilities.simulated:  # as the kernel sends them
            stop, profit = (
                msgspec.structs.replace(leg, partner=other) for leg, other in ((stop, profit), (profit, stop))
            )
        return broker, book, [stop, profit]

    def test_saved_state_carries_on(self) -> None:
        """A broker that loads saved state has the same positions, account and orders."""
        broker = self._open()
        if not broker.save_state():
            pytest.skip("the broker saves no state")
        broker.submit(self._order())
        self.settle(broker)
        broker.updates()
        successor = self._open()
        successor.load_state(plain_copy(broker.save_state()), broker.state_version)
        assert successor.positions() == broker.positions(), "positions were lost in the saved state"
        assert successor.account() == broker.account(), "the account was lost in the saved state"
        assert list(successor.orders()) == list(broker.orders()), "open orders were lost in the saved state"

    # A real venue.

    def test_updates_are_pushed(self) -> None:
        """Once `health` is clean, `updates` has a fill without a look-up of the order."""
        broker = self._open()
        if broker.capabilities.simulated:
            pytest.skip("a simulated broker is its own venue")
        assert _until(lambda: not broker.health()), f"not ready within {PATIENCE} s: {broker.health()}"
        broker.submit(self._order())
        self.settle(broker)
        received: list[Report | OrderStatus | Charge] = []

        def is_reported() -> bool:
            received.extend(broker.updates())
            return any(isinstance(each, OrderStatus) and each.order.state is OrderState.FILLED for each in received)

        assert _until(is_reported), f"no update of the fill within {PATIENCE} s; received: {received}"

    def test_order_is_found_by_its_id(self) -> None:
        """`find` returns an order while it is open and when it is done, and None for an unknown id."""
        broker, book = self._open_order()
        if broker.capabilities.simulated:
            pytest.skip("orders of a simulated broker are never looked up")
        assert broker.find("tg-unknown") is None, "`find` returned an order for an unknown id"
        found = broker.find("tg-test-1")
        assert found is not None, "`find` did not return an open order"
        assert not is_done(found.order.state), f"`find` returned an open order as {found.order.state}"
        broker.cancel("tg-test-1")
        self.settle(broker)
        book.receive(OrderState.CANCELED)
        found = broker.find("tg-test-1")
        assert found is not None, "`find` did not return a canceled order"
        assert found.order.state is OrderState.CANCELED, f"`find` returned a canceled order as {found.order.state}"

    @pytest.mark.parametrize("name", FAULTS)
    def test_fault_becomes_its_error(self, name: str) -> None:
        """Each failure raises its own error, only an order that the venue took can be found, and a retry succeeds."""
        inject = self.faults().get(name)
        if inject is None:
            pytest.skip(f"no fault {name!r} is given")
        broker = self._open()
        inject()
        with pytest.raises(FAULTS[name]) as caught:
            broker.submit(self._order())
        assert type(caught.value) is FAULTS[name], f"raised {type(caught.value).__name__}, not {FAULTS[name].__name__}"
        if name == "unreachable":
            return  # and stays so, as far as this suite knows
        is_found = broker.find("tg-test-1") is not None
        assert is_found is (name == "lost"), (
            f"after {name!r}, `find` {'finds' if is_found else 'does not find'} the order"
        )
        book = Book(broker)
        book.submit(self._order())
        self.settle(broker)
        book.receive(OrderState.FILLED)
        assert broker.positions()[self.symbol].quantity == Decimal(2), "the retry was not filled once"

    def _open(self) -> Broker:
        if not self.broker.capabilities.simulated and type(self).make is PluginConformance.make:
            pytest.skip("a real venue: override `make` to connect to a stand-in of it")
        broker: Broker = self.make()
        return broker

    def _order(self, **fields: Any) -> Intent:
        made = super().make()
        for time_in_force in (TimeInForce.DAY, TimeInForce.GTC):
            asked = decision(quantity=2, symbol=self.symbol, time_in_force=time_in_force, **fields)
            if not made.objection(asked):
                break
        return intent("tg-test-1", Side.BUY, 2, symbol=self.symbol, time_in_force=time_in_force, **fields)

    def _open_order(self) -> tuple[Broker, Book]:
        """A broker with an open limit order that is too low to be filled."""
        if OrderType.LIMIT not in self.broker.capabilities.order_types:
            pytest.skip("the broker takes no limit orders")
        broker = self._open()
        book = Book(broker)
        book.submit(self._order(order_type=OrderType.LIMIT, limit_price=Decimal(1)))
        self.settle(broker)
        assert not _fills(book.receive()), "a limit order far below the market was filled"
        shown = [order.intent.client_order_id for order in broker.orders()]
        assert shown == ["tg-test-1"], "`orders` does not show the open order"
        return broker, book


class Book:
    """The orders that a check sent, updated as the kernel does it: by reports, by statuses, and by look-ups.

    Attributes
    ----------
    orders : as far as is known, by `client_order_id`.
    """

    def __init__(self, broker: Broker) -> None:
        self.orders: dict[str, Order] = {}
        self._broker = broker

    def submit(self, order: Intent) -> None:
        """Send an order, perhaps again."""
        self.orders.setdefault(order.client_order_id, Order(intent=order))
        with suppress(DuplicateOrder):
            self._broker.submit(order)

    def receive(self, *states: OrderState) -> list[Report]:
        """New reports: all that a simulated broker has, or those of a real one until each order is in one of `states`."""
        if not states:
            return self._poll()
        return self.receive_until(lambda: all(order.state in states for order in self.orders.values()))

    def receive_until(self, is_so: Callable[[], bool]) -> list[Report]:
        """New reports: all that a simulated broker has, or those of a real one until something is so."""
        reports = self._poll()

        def is_there() -> bool:
            reports.extend(self._poll())
            return is_so()

        if not self._broker.capabilities.simulated:
            _until(is_there)
        return reports

    def _poll(self) -> list[Report]:
        updates = [update for update in self._broker.updates() if not isinstance(update, Charge)]
        if not self._broker.capabilities.simulated:
            updates += filter(None, map(self._broker.find, self.orders))
        return [report for update in updates for report in self._apply(update)]

    def _apply(self, update: Report | OrderStatus) -> list[Report]:
        if isinstance(update, Report):
            reports, order = [update], self.orders[update.client_order_id]
        else:
            order = self.orders[update.order.intent.client_order_id]
            reports = reports_of(order, update)
        for report in reports:
            apply_report(order, report)
        return reports


def _until(is_so: Callable[[], object]) -> bool:
    """Whether `is_so` becomes true within `PATIENCE` seconds."""
    give_up = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.005)
    return True


def _fills(reports: list[Report]) -> list[Fill]:
    return [report.fill for report in reports if report.fill is not None]


def _bought(reports: list[Report]) -> Decimal:
    return sum((fill.quantity for fill in _fills(reports)), Decimal(0))
