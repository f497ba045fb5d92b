"""Alpaca passes the kit's suite for brokers, against the kit's stand-in of the venue."""

import pytest
from torghut_brokers.alpaca import Alpaca
from torghut_testing import BrokerConformance
from torghut_testing.alpaca import FakeAlpaca, Fault

from torghut_core import NotSent, TorghutError, VenueError

ORDERS = {"method": "POST", "path": "/v2/orders"}


class TestAlpaca(BrokerConformance):
    broker = Alpaca

    @pytest.fixture(autouse=True)
    def venue(self):
        with FakeAlpaca() as self.fake:
            self.fake.venue.set_price(self.symbol, 100)
            yield
            self.close_brokers()

    def make(self):
        broker = Alpaca(Alpaca.Params(url=self.fake.url, timeout_seconds=0.5))
        return self.connected(broker, ALPACA_KEY_ID=self.fake.key, ALPACA_SECRET_KEY=self.fake.secret)

    def faults(self):
        return {
            "refused": lambda: self.fake.faults.add(Fault.reject(403, {"code": 40310000, "message": "no"}, **ORDERS)),
            "throttled": lambda: self.fake.faults.add(Fault.throttle(1, **ORDERS)),
            "unreachable": lambda: (self.fake.stop_listening(), self.fake.drop_connections()),
            "failed": lambda: self.fake.faults.add(Fault.server_error(503, **ORDERS)),
            "nonsense": lambda: self.fake.faults.add(Fault.html(200, **ORDERS)),
            "lost": lambda: self.fake.faults.add(Fault.timeout(after=True, **ORDERS)),
        }


class TestAlpacaShares(TestAlpaca):
    """Of shares the venue holds both legs of a bracket."""

    symbol = "AAPL"


class Deaf(Alpaca):
    """Hears nothing, and does not say so."""

    def updates(self):
        return []


class Sure(Alpaca):
    """Believes that what was not answered was not sent."""

    def submit(self, intent):
        try:
            return super().submit(intent)
        except VenueError:
            raise NotSent("surely") from None


class Stubborn(Alpaca):
    """Sends again by itself, under another id."""

    def submit(self, intent):
        super().submit(intent)
        return super().submit(type(intent)(**{**_fields(intent), "client_order_id": f"{intent.client_order_id}-again"}))


class Renaming(Alpaca):
    """Lets the venue's name of a change through."""

    def _legs_up_to(self, order):
        return [order]


class Forgetful(Alpaca):
    """Finds what works only."""

    def find(self, client_order_id):
        found = super().find(client_order_id)
        return found if found and found.order.remaining and found.order.state != "canceled" else None


def _fields(struct):
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


@pytest.mark.parametrize(
    ("cls", "check", "arguments"),
    [
        (Deaf, "test_updates_are_pushed", ()),
        (Sure, "test_fault_becomes_its_error", ("lost",)),
        (Stubborn, "test_order_is_filled_and_reported", ()),
        (Stubborn, "test_same_order_twice_is_one_order", ()),
        (Renaming, "test_changed_order_keeps_its_id", ()),
        (Forgetful, "test_order_is_found_by_its_id", ()),
    ],
)
def test_broken_broker_is_caught(cls, check, arguments, monkeypatch):
    """Each of these breaks one promise of a real venue's broker, and the check of that promise says so."""
    monkeypatch.setattr("torghut_testing.conformance.broker.PATIENCE", 0.3)

    class Suite(TestAlpaca):
        broker = cls

        def make(self):
            made = cls(cls.Params(url=self.fake.url, timeout_seconds=0.3))
            return self.connected(made, ALPACA_KEY_ID=self.fake.key, ALPACA_SECRET_KEY=self.fake.secret)

    suite = Suite()
    with FakeAlpaca() as suite.fake:
        suite.fake.venue.set_price("BTC/USD", 100)
        with pytest.raises((AssertionError, LookupError, TorghutError, pytest.fail.Exception)):
            getattr(suite, check)(*arguments)
        suite.close_brokers()
