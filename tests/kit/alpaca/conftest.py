"""A fake, a plain client of its REST API, and plain listeners to its stream."""

import http.client
import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from torghut_testing.alpaca import FakeAlpaca
from websockets.sync.client import connect

from support.waiting import PATIENCE

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "alpaca"


class Client:
    """Asks one fake, over one connection that is made anew when it ended."""

    def __init__(self, fake, timeout=PATIENCE):
        self.fake = fake
        self.headers = {"APCA-API-KEY-ID": fake.key, "APCA-API-SECRET-KEY": fake.secret}
        self.connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=timeout)
        self.answer = None

    def raw(self, method, path, body=None):
        """The body of the answer, as bytes; `answer` is the rest of it."""
        try:
            self.connection.request(method, path, None if body is None else json.dumps(body), self.headers)
            self.answer = self.connection.getresponse()
            return self.answer.read()
        except BaseException:
            self.connection.close()
            raise

    def __call__(self, method, path, body=None):
        """Status and JSON value of the answer."""
        text = self.raw(method, path, body)
        return self.answer.status, json.loads(text) if text else None

    def post(self, client_order_id=None, symbol="BTC/USD", side="buy", qty="1", **fields):
        """Send an order, market and good till canceled (day for equities) where `fields` say nothing else."""
        lasts = "gtc" if "/" in symbol else "day"
        order = {"symbol": symbol, "side": side, "qty": qty, "type": "market", "time_in_force": lasts, **fields}
        if client_order_id:
            order["client_order_id"] = client_order_id
        return self("POST", "/v2/orders", order)


class Listener:
    """A connection of the stream that has logged in and listens."""

    def __init__(self, fake, socket):
        self.socket = socket
        self.say(action="auth", key=fake.key, secret=fake.secret)
        assert self.receive()["data"]["status"] == "authorized"
        self.say(action="listen", data={"streams": ["trade_updates"]})
        assert self.receive() == {"stream": "listening", "data": {"streams": ["trade_updates"]}}

    def say(self, **message):
        self.socket.send(json.dumps(message))

    def receive(self, timeout=PATIENCE):
        return json.loads(self.socket.recv(timeout=timeout))

    def events(self, count):
        """The names of the next updates."""
        return [self.receive()["data"]["event"] for _ in range(count)]


@pytest.fixture
def fake():
    """A fake where one BTC costs 100 dollars and one AAPL 10."""
    with FakeAlpaca() as served:
        served.venue.set_price("BTC/USD", 100)
        served.venue.set_price("AAPL", 10)
        yield served


@pytest.fixture
def client_of():
    """Makes a client of a fake."""
    clients = []

    def make(fake, **options):
        clients.append(Client(fake, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.connection.close()


@pytest.fixture
def api(fake, client_of):
    """A client of `fake`."""
    return client_of(fake)


@pytest.fixture
def listen():
    """Makes a listener to a fake's stream."""
    with ExitStack() as open_sockets:

        def make(fake):
            socket = open_sockets.enter_context(connect(fake.stream_url, close_timeout=0.2))
            return Listener(fake, socket)

        yield make


@pytest.fixture(scope="session")
def recorded():
    """Messages of the real venue, by name."""
    if not SHARED.exists():
        pytest.skip("needs the recorded data beside the project (../shared)")
    files = ("rest_trading.json", "trade_updates.json")
    return {case["name"]: case["message"] for file in files for case in json.loads((SHARED / file).read_text())}
