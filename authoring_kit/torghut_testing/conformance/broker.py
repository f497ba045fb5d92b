"""What every broker promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

import pytest
from pydantic import SecretStr

from torghut_core import (
    Account,
    Broker,
    Capabilities,
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
"""At which the market of a simulated broker trades, quote currency per unit."""
PATIENCE = 5.0
"""Seconds in which a real venue's broker has to hear of what happened."""
FAULTS: dict[str, type[VenueError]] = {
    "refused": OrderRefused,
    "throttled": Throttled,
    "unreachable": NotSent,
    "failed": Unanswered,
    "nonsense": Unanswered,
    "lost": Unanswered,
}
"""What can go wrong with an order, and the error that it has to become. The venue takes ``lost``, and no other."""


class BrokerConformance(PluginConformance):
    """Checks of a broker: idempotent orders, harmless cancels, news that adds up, errors that say what is known.

    A simulated broker is shown trades of ``BTC/USD`` at 100, and needs nothing more. For a real venue override `make` to
    give a broker that is connected to a stand-in of the venue (see `connected`): an empty account and a market in
    `symbol` at about 100, where market orders fill. Until then the checks that need a venue are skipped.

    Attributes
    ----------
    broker : the class under test.
    params : its parameters, where the defaults will not do.
    symbol : what is traded.
    """

    broker: ClassVar[type[Broker]]
    symbol: ClassVar[str] = SYMBOL

    @property
    def subject(self) -> type[Broker]:
        """The class under test."""
        return self.broker

    def connected(self, broker: AnyBroker, **secrets: str) -> AnyBroker:
        """Connect a broker, for paper money, with these secrets by the names of their settings, and wait until it hears.

        `close_brokers` closes it.
        """
        broker.connect(Connection(is_live=False, secret=lambda name: SecretStr(secrets[name])))
        self.__dict__.setdefault("_connected", []).append(broker)
        assert _until(lambda: not broker.health()), f"not clean within {PATIENCE} s: {broker.health()}"
        return broker

    def close_brokers(self) -> None:
        """Close what `connected` gave; best before the stand-in goes, and done after each check in any case."""
        for broker in self.__dict__.pop("_connected", []):
            broker.close()

    def teardown_method(self) -> None:
        """What pytest calls after each check."""
        self.close_brokers()

    def settle(self, broker: Broker) -> None:
        """Let the venue act on what it was asked. A stand-in that acts by itself needs nothing here."""
        if not broker.capabilities.simulated:
            return
        if not hasattr(self, "_symbols"):
            self._symbols, self._position = SymbolTable(), 0
        first, count = self._position, 5
        rows = [(self.symbol, NOW + (first + number) * 10**9, PRICE, 1_000.0) for number in range(1, count + 1)]
        self._position += count
        broker.advance(trade_batch(rows, self._symbols, first), first, self._position)

    def faults(self) -> Mapping[str, Callable[[], object]]:
        """How to make the next order at the stand-in go wrong, by the names in `FAULTS`; what is left out is not checked."""
        return {}

    # Terms.

    def test_capabilities_are_stated(self) -> None:
        """The kernel knows what it may ask for, and a market order for the day or until canceled is among it."""
        capabilities = self.broker.capabilities
        assert isinstance(capabilities, Capabilities)
        assert OrderType.MARKET in capabilities.order_types
        assert capabilities.times_in_force & {TimeInForce.DAY, TimeInForce.GTC}

    def test_objection_knows_the_capabilities(self) -> None:
        """What the capabilities leave out is objected to, and the same order gets the same answer every time."""
        broker: Broker = super().make()
        able = broker.capabilities
        for order_type in OrderType:
            for time_in_force in TimeInForce:
                asked = decision(order_type=order_type, time_in_force=time_in_force, symbol=self.symbol)
                objection = broker.objection(asked)
                assert broker.objection(asked) == objection
                if order_type not in able.order_types or time_in_force not in able.times_in_force:
                    assert objection

    # Orders.

    def test_new_account_is_flat(self) -> None:
        """Nothing is held, nothing works, nothing is reported, and the account is in finite money."""
        broker = self._open()
        assert not any(position.quantity for position in broker.positions().values())
        assert not broker.orders()
        assert list(broker.updates()) == []
        account = broker.account()
        assert isinstance(account, Account)
        assert all(amount.is_finite() for amount in (account.cash, account.equity, account.buying_power))

    def test_order_is_filled_and_reported(self) -> None:
        """A market order comes to its fills by legal reports; they make the position; each report comes once."""
        broker = self._open()
        book = Book(broker)
        book.submit(self._order())
        self.settle(broker)
        reports = book.news(OrderState.FILLED)
        assert {report.client_order_id for report in reports} == {"tg-test-1"}
        assert book.orders["tg-test-1"].state is OrderState.FILLED
        assert _bought(reports) == broker.positions()[self.symbol].quantity == Decimal(2)
        assert not broker.orders()
        assert book.news() == []

    def test_fill_ids_are_unique(self) -> None:
        """No two fills of one order share an id."""
        broker = self._open()
        book = Book(broker)
        book.submit(self._order())
        self.settle(broker)
        fills = _fills(book.news(OrderState.FILLED))
        assert len({(fill.client_order_id, fill.fill_id) for fill in fills}) == len(fills) > 0

    def test_same_order_twice_is_one_order(self) -> None:
        """Sending again is harmless, while the order works and when it is done; a real venue may say `DuplicateOrder`."""
        broker = self._open()
        book = Book(broker)
        book.submit(self._order())
        book.submit(self._order())
        assert len(broker.orders()) <= 1
        self.settle(broker)
        reports = book.news(OrderState.FILLED)
        book.submit(self._order())
        self.settle(broker)
        reports += book.news()
        assert _bought(reports) == broker.positions()[self.symbol].quantity == Decimal(2)

    def test_cancel_of_unknown_order_changes_nothing(self) -> None:
        """Canceling what the venue never heard of is harmless."""
        broker = self._open()
        broker.cancel("tg-nobody")
        self.settle(broker)
        assert list(broker.updates()) == []
        assert not broker.orders()

    def test_cancel_of_filled_order_changes_nothing(self) -> None:
        """Canceling too late is harmless."""
        broker = self._open()
        book = Book(broker)
        book.submit(self._order())
        self.settle(broker)
        book.news(OrderState.FILLED)
        broker.cancel("tg-test-1")
        self.settle(broker)
        assert broker.positions()[self.symbol].quantity == Decimal(2)

    def test_canceled_order_is_not_filled(self) -> None:
        """A limit order away from the market works until it is canceled, and then is gone."""
        broker, book = self._working()
        broker.cancel("tg-test-1")
        self.settle(broker)
        reports = book.news(OrderState.CANCELED)
        assert [report.event for report in reports][-1] is OrderEvent.CANCELED
        assert not _fills(reports)
        assert not broker.orders()

    def test_changed_order_keeps_its_id(self) -> None:
        """A changed limit is reported, and shown, under the client order id that the order has had all along."""
        if not self.broker.capabilities.replace:
            pytest.skip("the broker changes no orders")
        broker, book = self._working()
        try:
            broker.replace("tg-test-1", limit_price=Decimal(2))
        except NotImplementedError:
            pytest.skip("the broker changes no orders")
        self.settle(broker)
        book.news(OrderState.REPLACED)
        assert book.orders["tg-test-1"].intent.limit_price == Decimal(2)
        assert [(order.intent.client_order_id, order.intent.limit_price) for order in broker.orders()] == [
            ("tg-test-1", Decimal(2))
        ]
        broker.cancel("tg-test-1")
        self.settle(broker)
        book.news(OrderState.CANCELED)
        assert not broker.orders()

    def test_saved_state_carries_on(self) -> None:
        """A broker that saves state has its books back from it."""
        broker = self._open()
        if not broker.save_state():
            pytest.skip("the broker saves no state")
        broker.submit(self._order())
        self.settle(broker)
        broker.updates()
        successor = self._open()
        successor.load_state(plain_copy(broker.save_state()), broker.state_version)
        assert successor.positions() == broker.positions()
        assert successor.account() == broker.account()
        assert list(successor.orders()) == list(broker.orders())

    # A real venue.

    def test_news_comes_by_itself(self) -> None:
        """Once health is clean a fill is told without being asked for."""
        broker = self._open()
        if broker.capabilities.simulated:
            pytest.skip("a simulated broker is its own venue")
        assert _until(lambda: not broker.health()), broker.health()
        broker.submit(self._order())
        self.settle(broker)
        heard: list[Report | OrderStatus] = []

        def is_told() -> bool:
            heard.extend(broker.updates())
            return any(isinstance(told, OrderStatus) and told.order.state is OrderState.FILLED for told in heard)

        assert _until(is_told), heard

    def test_order_is_found_by_its_id(self) -> None:
        """An order is found while it works and when it is done; one that never was is not."""
        broker, book = self._working()
        if broker.capabilities.simulated:
            pytest.skip("a simulated broker is never asked")
        assert broker.find("tg-nobody") is None
        found = broker.find("tg-test-1")
        assert found is not None
        assert not is_done(found.order.state)
        broker.cancel("tg-test-1")
        self.settle(broker)
        book.news(OrderState.CANCELED)
        found = broker.find("tg-test-1")
        assert found is not None
        assert found.order.state is OrderState.CANCELED

    @pytest.mark.parametrize("name", FAULTS)
    def test_fault_becomes_its_error(self, name: str) -> None:
        """Each failure is told for what it is, and only what the venue took can be found; then a new try goes well."""
        inject = self.faults().get(name)
        if inject is None:
            pytest.skip(f"no fault {name!r} is given")
        broker = self._open()
        inject()
        with pytest.raises(FAULTS[name]) as caught:
            broker.submit(self._order())
        assert type(caught.value) is FAULTS[name]
        if name == "unreachable":
            return  # and stays so, as far as this suite knows
        assert (broker.find("tg-test-1") is not None) is (name == "lost")
        book = Book(broker)
        book.submit(self._order())
        self.settle(broker)
        book.news(OrderState.FILLED)
        assert broker.positions()[self.symbol].quantity == Decimal(2)

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

    def _working(self) -> tuple[Broker, Book]:
        """A broker with a limit order that is too low to be filled."""
        if OrderType.LIMIT not in self.broker.capabilities.order_types:
            pytest.skip("the broker takes no limit orders")
        broker = self._open()
        book = Book(broker)
        book.submit(self._order(order_type=OrderType.LIMIT, limit_price=Decimal(1)))
        self.settle(broker)
        assert not _fills(book.news())
        assert [order.intent.client_order_id for order in broker.orders()] == ["tg-test-1"]
        return broker, book


class Book:
    """The orders that a check sent, brought up to date as the kernel does it: by reports, statuses and asking.

    Attributes
    ----------
    orders : as far as is known, by client order id.
    """

    def __init__(self, broker: Broker) -> None:
        self.orders: dict[str, Order] = {}
        self._broker = broker

    def submit(self, order: Intent) -> None:
        """Send an order, perhaps again."""
        self.orders.setdefault(order.client_order_id, Order(intent=order))
        with suppress(DuplicateOrder):
            self._broker.submit(order)

    def news(self, state: OrderState | None = None) -> list[Report]:
        """What is new: all that a simulated broker has, or what a real one tells until each order came to `state`."""
        reports = self._take()

        def is_there() -> bool:
            reports.extend(self._take())
            return all(order.state is state for order in self.orders.values())

        if not self._broker.capabilities.simulated and state is not None:
            _until(is_there)
        return reports

    def _take(self) -> list[Report]:
        told = list(self._broker.updates())
        if not self._broker.capabilities.simulated:
            told += filter(None, map(self._broker.find, self.orders))
        return [report for news in told for report in self._apply(news)]

    def _apply(self, news: Report | OrderStatus) -> list[Report]:
        if isinstance(news, Report):
            reports, order = [news], self.orders[news.client_order_id]
        else:
            order = self.orders[news.order.intent.client_order_id]
            reports = reports_of(order, news)
        for report in reports:
            apply_report(order, report)
        return reports


def _until(is_so: Callable[[], object]) -> bool:
    """Whether something comes to be so in time."""
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
