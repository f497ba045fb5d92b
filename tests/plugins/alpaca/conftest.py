"""A stand-in of the venue, and brokers that are connected to it."""

from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from torghut_brokers.alpaca import Alpaca
from torghut_testing import intent
from torghut_testing.alpaca import FakeAlpaca

from support.waiting import until
from torghut_core import Connection, TimeInForce

KEY, SECRET = "PKPLANTEDKEY", "planted/secret/value"


@pytest.fixture
def fake():
    with FakeAlpaca(key=KEY, secret=SECRET) as served:
        served.venue.set_price("BTC/USD", 100)
        yield served


@pytest.fixture
def kit(fake):
    """Functions that connect brokers, make orders and wait."""
    made = []

    def connection(is_live=False, key=KEY, secret=SECRET):
        secrets = {"ALPACA_KEY_ID": key, "ALPACA_SECRET_KEY": secret}
        return Connection(is_live=is_live, secret=lambda name: SecretStr(secrets[name]))

    def make(**params):
        broker = Alpaca(Alpaca.Params(**{"url": fake.url, "timeout_seconds": 1.0} | params))
        made.append(broker)
        return broker

    def connect(**params):
        broker = make(**params)
        broker.connect(connection())
        until(lambda: not broker.health())
        return broker

    def order(name="tg-1", side="buy", quantity="5", **fields):
        return intent(name, side, quantity, **{"time_in_force": TimeInForce.GTC} | fields)

    yield SimpleNamespace(connection=connection, make=make, connect=connect, order=order, until=until)
    for broker in made:
        broker.close()


@pytest.fixture
def broker(kit):
    return kit.connect()
