"""What every broker promises."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

import pytest

from torghut_core import (
    Account,
    Broker,
    Capabilities,
    Fill,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Report,
    Side,
    SymbolTable,
    TimeInForce,
    apply_report,
)
from torghut_testing.builders import NOW, SYMBOL, intent, trade_batch
from torghut_testing.conformance.plugin import PluginConformance
from torghut_testing.plain import plain_copy

PRICE = 100.0
"""At which the market of a simulated broker trades, quote currency per unit."""


class BrokerConformance(PluginConformance):
    """Checks of a broker: idempotent orders, harmless cancels, reports that add up.

    A simulated broker is shown trades of ``BTC/USD`` at 100. For a real venue override `make` to give a broker that
    is connected to a stand-in of the venue with an empty account, and `settle` to let the stand-in act.

    Attributes
    ----------
    broker : the class under test.
    params : its parameters, where the defaults will not do.
    """

    broker: ClassVar[type[Broker]]

    @property
    def subject(self) -> type[Broker]:
        """The class under test."""
        return self.broker

    def settle(self, broker: Broker) -> list[Report]:
        """Let the venue act on what it was asked, and give what it reports."""
        if not hasattr(self, "_symbols"):
            self._symbols, self._position = SymbolTable(), 0
        first, count = self._position, 5
        rows = [(SYMBOL, NOW + (first + number) * 10**9, PRICE, 1_000.0) for number in range(1, count + 1)]
        self._position += count
        broker.advance(trade_batch(rows, self._symbols, first), first, self._position)
        return broker.updates()

    def test_capabilities_are_stated(self) -> None:
        """The kernel knows what it may ask for, and a market order for the day or until canceled is among it."""
        capabilities = self.broker.capabilities
        assert isinstance(capabilities, Capabilities)
        assert OrderType.MARKET in capabilities.order_types
        assert capabilities.times_in_force & {TimeInForce.DAY, TimeInForce.GTC}

    def test_new_account_is_flat(self) -> None:
        """Nothing is held, nothing works, nothing is reported, and the account is in finite money."""
        broker = self.make()
        assert not any(position.quantity for position in broker.positions().values())
        assert not broker.orders()
        assert broker.updates() == []
        account = broker.account()
        assert isinstance(account, Account)
        assert all(amount.is_finite() for amount in (account.cash, account.equity, account.buying_power))

    def test_order_is_filled_and_reported(self) -> None:
        """A market order comes to its fills by legal reports; they make the position; each report comes once."""
        broker = self.make()
        broker.submit(self._order())
        reports = [*broker.updates(), *self.settle(broker)]
        assert {report.client_order_id for report in reports} == {"tg-test-1"}
        order = Order(intent=self._order())
        for report in reports:
            apply_report(order, report)
        assert order.state is OrderState.FILLED
        assert _bought(reports) == broker.positions()[SYMBOL].quantity == Decimal(2)
        assert not broker.orders()
        assert broker.updates() == []

    def test_fill_ids_are_unique(self) -> None:
        """No two fills of one order share an id."""
        broker = self.make()
        broker.submit(self._order())
        fills = _fills([*broker.updates(), *self.settle(broker)])
        assert len({(fill.client_order_id, fill.fill_id) for fill in fills}) == len(fills) > 0

    def test_same_order_twice_is_one_order(self) -> None:
        """Sending again is harmless, while the order works and when it is done."""
        broker = self.make()
        broker.submit(self._order())
        broker.submit(self._order())
        assert len(broker.orders()) <= 1
        reports = [*broker.updates(), *self.settle(broker)]
        broker.submit(self._order())
        reports += self.settle(broker)
        assert _bought(reports) == broker.positions()[SYMBOL].quantity == Decimal(2)

    def test_cancel_of_unknown_order_changes_nothing(self) -> None:
        """Canceling what the venue never heard of is harmless."""
        broker = self.make()
        broker.cancel("tg-nobody")
        assert self.settle(broker) == []
        assert not broker.orders()

    def test_cancel_of_filled_order_changes_nothing(self) -> None:
        """Canceling too late is harmless."""
        broker = self.make()
        broker.submit(self._order())
        self.settle(broker)
        broker.cancel("tg-test-1")
        self.settle(broker)
        assert broker.positions()[SYMBOL].quantity == Decimal(2)

    def test_canceled_order_is_not_filled(self) -> None:
        """A limit order away from the market works until it is canceled, and then is gone."""
        if OrderType.LIMIT not in self.broker.capabilities.order_types:
            pytest.skip("the broker takes no limit orders")
        broker = self.make()
        broker.submit(self._order(order_type=OrderType.LIMIT, limit_price=Decimal(1)))
        assert not _fills(self.settle(broker))
        assert [order.intent.client_order_id for order in broker.orders()] == ["tg-test-1"]
        broker.cancel("tg-test-1")
        reports = [*broker.updates(), *self.settle(broker)]
        assert [report.event for report in reports][-1] is OrderEvent.CANCELED
        assert not _fills(reports)
        assert not broker.orders()

    def test_saved_state_carries_on(self) -> None:
        """A broker that saves state has its books back from it."""
        broker = self.make()
        if not broker.save_state():
            pytest.skip("the broker saves no state: its books are at the venue")
        broker.submit(self._order())
        self.settle(broker)
        successor = self.make()
        successor.load_state(plain_copy(broker.save_state()), broker.state_version)
        assert successor.positions() == broker.positions()
        assert successor.account() == broker.account()
        assert list(successor.orders()) == list(broker.orders())

    def _order(self, **fields: object) -> Intent:
        able = self.broker.capabilities.times_in_force
        time_in_force = TimeInForce.DAY if TimeInForce.DAY in able else TimeInForce.GTC
        return intent("tg-test-1", Side.BUY, 2, time_in_force=time_in_force, **fields)


def _fills(reports: list[Report]) -> list[Fill]:
    return [report.fill for report in reports if report.fill is not None]


def _bought(reports: list[Report]) -> Decimal:
    return sum((fill.quantity for fill in _fills(reports)), Decimal(0))
