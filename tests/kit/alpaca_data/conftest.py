"""A fake market, plain clients of its stream, and plain requests to its REST history."""

import http.client
import json
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import pytest
from torghut_testing.alpaca_data import FakeMarketData
from websockets.sync.client import connect

from support.waiting import PATIENCE

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"


class Client:
    """A connection of the stream."""

    def __init__(self, socket, *, is_msgpack=False):
        self.socket = socket
        self.codec = msgspec.msgpack if is_msgpack else msgspec.json
        self.left = []

    def say(self, **message):
        said = self.codec.encode(message)
        self.socket.send(said if self.codec is msgspec.msgpack else said.decode())

    def frame(self, timeout=PATIENCE):
        """The messages of the next frame."""
        data = self.socket.recv(timeout=timeout)
        assert isinstance(data, bytes) == (self.codec is msgspec.msgpack)
        return self.codec.decode(data)

    def receive(self, timeout=PATIENCE):
        """The next message."""
        while not self.left:
            self.left = self.frame(timeout)
        return self.left.pop(0)

    def numbers(self, count):
        """The numbers of the next trades."""
        return [self.receive()["i"] - 2**60 for _ in range(count)]

    def log_in(self, market):
        assert self.receive() == {"T": "success", "msg": "connected"}
        self.say(action="auth", key=market.key, secret=market.secret)
        assert self.receive() == {"T": "success", "msg": "authenticated"}
        return self

    def subscribe(self, **channels):
        self.say(action="subscribe", **channels)
        return self.receive()


@pytest.fixture(scope="session")
def trade():
    """Makes the trade of a number, a millisecond after the one before."""

    def make(number, symbol="BTC/USD", at=None):
        at = 1_700_000_000_000_000_000 + number * 1_000_000 if at is None else at
        return {"T": "t", "S": symbol, "i": 2**60 + number, "p": 25_000.5 + number, "s": 0.25, "t": at, "tks": "B"}

    return make


@pytest.fixture(scope="session")
def trades(trade):
    """Makes so many trades, numbered."""

    def make(count, symbol="BTC/USD", first=0):
        return [trade(number, symbol) for number in range(first, first + count)]

    return make


@pytest.fixture
def market():
    """A fake that lets many clients in."""
    with FakeMarketData(connection_limit=None) as served:
        yield served


@pytest.fixture
def dial():
    """Makes a connection of the stream that has not logged in."""
    with ExitStack() as open_sockets:

        def make(market, path="/v1beta3/crypto/us", *, is_msgpack=False, headers=(), **options):
            typed = {"Content-Type": "application/msgpack"} if is_msgpack else {}
            options = {"close_timeout": 0.2, "compression": None, "max_size": None} | options
            socket = connect(market.url + path, additional_headers=typed | dict(headers), **options)
            return Client(open_sockets.enter_context(socket), is_msgpack=is_msgpack)

        yield make


@pytest.fixture
def listen(dial):
    """Makes a client that is subscribed to trades, of BTC/USD where nothing else is said."""

    def make(market, path="/v1beta3/crypto/us", *, is_msgpack=False, **channels):
        client = dial(market, path, is_msgpack=is_msgpack).log_in(market)
        assert client.subscribe(**(channels or {"trades": ["BTC/USD"]}))["T"] == "subscription"
        return client

    return make


class Rest:
    """Asks for pages."""

    def __init__(self, market, timeout=PATIENCE):
        self.headers = {"APCA-API-KEY-ID": market.key, "APCA-API-SECRET-KEY": market.secret}
        self.connection = http.client.HTTPConnection("127.0.0.1", market.port, timeout=timeout)

    def raw(self, path, **query):
        """Status and body of an answer."""
        try:
            self.connection.request("GET", f"{path}?{urlencode(query)}", headers=self.headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except BaseException:
            self.connection.close()
            raise

    def __call__(self, path, **query):
        """Status and JSON value of an answer."""
        status, body = self.raw(path, **query)
        return status, json.loads(body)

    def pages(self, path, **query):
        """All pages of a question."""
        token, pages = None, []
        while token is not None or not pages:
            status, page = self(path, **query, **({"page_token": token} if token else {}))
            assert status == 200, page
            pages.append(page)
            token = page["next_page_token"]
        return pages


@pytest.fixture
def rest_of():
    """Makes a client of a market's REST."""
    asked = []

    def make(market, **options):
        asked.append(Rest(market, **options))
        return asked[-1]

    yield make
    for one in asked:
        one.connection.close()


@pytest.fixture
def rest(market, rest_of):
    """Who asks `market`."""
    return rest_of(market)


@pytest.fixture(scope="session")
def recorded():
    """Messages of the real venue, by name."""
    if not SHARED.exists():
        pytest.skip("needs the recorded data beside the project (../shared)")
    files = ("control_messages", "market_data_stocks_v2", "market_data_crypto_v1beta3", "rest_market_data")
    cases = [json.loads((SHARED / "alpaca" / f"{name}.json").read_text()) for name in files]
    return {f"{name}/{case['name']}": case["message"] for name, of in zip(files, cases, strict=True) for case in of}


@pytest.fixture(scope="session")
def shared_tape():
    """Where a recorded tape is."""

    def find(name):
        path = SHARED / name
        if not path.exists():
            pytest.skip("needs the recorded data beside the project (../shared)")
        return path

    return find
