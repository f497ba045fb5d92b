"""Requests to the venue: what is sent, what each failure becomes, how long it may take, and that no key gets out."""

import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from decimal import Decimal

import pydantic
import pytest
from torghut_brokers.alpaca import Alpaca
from torghut_testing.alpaca import Fault

from support.waiting import PATIENCE
from torghut_core import (
    DuplicateOrder,
    NotSent,
    OrderRefused,
    OrderState,
    OrderType,
    SettingsError,
    Throttled,
    TimeInForce,
    Unanswered,
    VenueError,
)

KEY, SECRET = "PKPLANTEDKEY", "planted/secret/value"  # those of conftest.py
POST = {"method": "POST", "path": "/v2/orders"}
OTHER = {
    "id": "x",
    "client_order_id": "tg-other",
    "symbol": "BTC/USD",
    "asset_class": "crypto",
    "side": "buy",
    "type": "market",
    "time_in_force": "gtc",
    "status": "new",
    "qty": "5",
    "updated_at": "2026-01-05T14:30:00Z",
}
FAULTS = {
    "html": (Fault.html(200, **POST), Unanswered),
    "truncated": (Fault.truncate(**POST), Unanswered),
    "another-order": (Fault.reject(200, OTHER, **POST), Unanswered),
    "no-order": (Fault.reject(200, {}, **POST), Unanswered),
    "null": (Fault.reject(200, None, **POST), Unanswered),
    "redirect": (Fault.reject(307, {"message": "elsewhere"}, **POST), Unanswered),
    "unauthorized": (Fault.reject(401, {"message": "unauthorized"}, **POST), OrderRefused),
    "forbidden": (Fault.reject(403, {"message": "forbidden."}, **POST), OrderRefused),
    "invalid": (Fault.reject(422, {"code": 42210000, "message": "no"}, **POST), OrderRefused),
    "throttled": (Fault.throttle(2, **POST), Throttled),
    "500-before": (Fault.server_error(500, **POST), Unanswered),
    "503-after": (Fault.server_error(503, after=True, **POST), Unanswered),
    "504-after": (Fault.server_error(504, after=True, **POST), Unanswered),
    "bad-gateway": (Fault.html(502, **POST), Unanswered),
    "timeout-before": (Fault.timeout(**POST), Unanswered),
    "timeout-after": (Fault.timeout(after=True, **POST), Unanswered),
    "cut-before": (Fault.cut(**POST), Unanswered),
    "cut-after": (Fault.cut(after=True, **POST), Unanswered),
    "cut-mid-body": (Fault.cut(mid_body=True, **POST), Unanswered),
    "drip": (Fault.drip(0.02, **POST), Unanswered),
}


def leaks(error, log):
    """Everything that an error and the log would show, with the variables of every frame."""
    trace = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    hidden = error.__context__ or error.__cause__
    shown = f"{trace}{error!r}{error}{error.args}{vars(error)}{hidden!r}{log.text}"
    return [secret for secret in (KEY, SECRET) if secret in shown]


# Failures


@pytest.mark.parametrize("name", FAULTS)
def test_failure_becomes_its_error(name, fake, kit, broker, caplog):
    """Every kind of failure raises its error class, within the time limit, after one request, without a key in it."""
    caplog.set_level(logging.DEBUG)
    fault, kind = FAULTS[name]
    fault = fake.faults.add(type(fault)(**{field: getattr(fault, field) for field in fault.__struct_fields__}))
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        broker.submit(kit.order())
    assert time.monotonic() - began < 1.0 + 0.5
    assert type(caught.value) is kind
    assert leaks(caught.value, caplog) == []
    assert fault.fired == 1
    assert sum(request.method == "POST" for request in fake.requests) == 1
    # What comes after it is not disturbed by what is left of it.
    assert broker.submit(kit.order("tg-2")).order.intent.client_order_id == "tg-2"


def test_limit_says_how_long(fake, kit, broker):
    """``Retry-After`` arrives, and where there is none, when the limit is reset."""
    fake.faults.add(Fault.throttle(2, **POST))
    with pytest.raises(Throttled) as caught:
        broker.submit(kit.order())
    assert caught.value.retry_after == 2.0
    fake.faults.add(Fault.throttle(None, **POST))
    with pytest.raises(Throttled) as caught:
        broker.submit(kit.order())
    assert 0 <= caught.value.retry_after <= 60


def test_no_listener_is_not_sent(fake, kit, broker, caplog):
    """A refused connection, also where one was kept open before, cannot have carried an order."""
    fake.stop_listening()
    fake.drop_connections()
    with pytest.raises(NotSent) as caught:
        broker.submit(kit.order())
    assert leaks(caught.value, caplog) == []
    assert f"no connection to the venue at {fake.url}" in str(caught.value)
    fake.listen_again()
    assert broker.submit(kit.order()).order.venue_order_id


def test_unknown_host_is_not_sent(kit):
    """A name that resolves to nothing cannot have carried anything either; a stand-in is addressed by name here."""
    from torghut_brokers.alpaca.rest import Rest

    key = pydantic.SecretStr("k")
    rest = Rest("http://unknown.invalid", key, key, 2.0, use_proxies=False)
    with pytest.raises(NotSent, match=r"at http://unknown\.invalid: .*check the network"):
        rest.get("/clock")
    rest.close()


def test_connection_that_does_not_come_about_is_not_sent():
    """A connection that is neither accepted nor refused: it ends in time, and sent nothing."""
    from torghut_brokers.alpaca.rest import Rest

    key = pydantic.SecretStr("k")
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for waiting in (first, second):  # more than the queue holds: whoever comes now is left hanging
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        rest = Rest(f"http://127.0.0.1:{server.getsockname()[1]}", key, key, 0.3, use_proxies=False)
        began = time.monotonic()
        with pytest.raises(NotSent):
            rest.post("/orders", {"qty": "1"})
        assert 0.25 < time.monotonic() - began < 0.6
        rest.close()


class Raw:
    """A server that plays `script` on the first connection: what it says, byte by byte or not at all."""

    def __init__(self, answer=b"", pause=0.0):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._answer, self._pause = answer, pause
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._is_over = threading.Event()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._server.close()
        self._thread.join(2)

    def _serve(self):
        connection, _ = self._server.accept()
        with connection:
            connection.recv(65536)
            for byte in self._answer:
                if self._is_over.wait(self._pause):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
            self._is_over.wait(2)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000, b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 800],
)
def test_slow_drip_ends_in_time(answer):
    """Headers and body may come byte by byte; the request ends by its deadline all the same."""
    from torghut_brokers.alpaca.rest import Rest

    key = pydantic.SecretStr("k")
    with Raw(answer, pause=0.01) as server:
        rest = Rest(server.url, key, key, 0.3, use_proxies=False)
        began = time.monotonic()
        with pytest.raises(Unanswered):
            rest.post("/orders", {"qty": "1"})
        assert 0.25 < time.monotonic() - began < 0.6
        rest.close()


def test_answer_beyond_measure_is_none(monkeypatch):
    """An answer that does not end is not read to its end, and means nothing."""
    from torghut_brokers.alpaca import rest as module

    monkeypatch.setattr(module, "LARGEST", 10)
    key = pydantic.SecretStr("k")
    with Raw(b'HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{"timestamp": "12345678901234"') as server:
        rest = module.Rest(server.url, key, key, 1.0, use_proxies=False)
        with pytest.raises(Unanswered):
            rest.get("/clock")
        rest.close()


def test_silence_after_a_drip_ends_in_time():
    """The deadline is that of the whole: no byte that came puts it off."""
    from torghut_brokers.alpaca.rest import Rest

    key = pydantic.SecretStr("k")
    with Raw(b"HTTP/1.1 200 OK\r\nX-Sl", pause=0.01) as server:
        rest = Rest(server.url, key, key, 0.4, use_proxies=False)
        began = time.monotonic()
        with pytest.raises(Unanswered):
            rest.get("/clock")
        assert time.monotonic() - began < 0.57
        rest.close()


def test_number_that_is_no_text_stays_exact():
    """Should the venue write a number as a JSON number, no digit passes through binary floating point."""
    from torghut_brokers.alpaca.rest import Rest

    key = pydantic.SecretStr("k")
    with Raw(b'HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\n{"cash":0.30000000000000000000004}') as server:
        rest = Rest(server.url, key, key, 1.0, use_proxies=False)
        assert rest.get("/account") == {"cash": Decimal("0.30000000000000000000004")}
        rest.close()


# Orders


def test_order_is_posted_as_text_and_answered(fake, kit, broker):
    """One POST, all text; the answer is what the venue made of it."""
    asked = kit.order(quantity="0.000100", order_type=OrderType.LIMIT, limit_price=Decimal("50.10"))
    status = broker.submit(asked)
    (request,) = [request for request in fake.requests if request.method == "POST"]
    assert '"qty": "0.000100"' in request.body
    assert '"limit_price": "50.10"' in request.body
    assert status.order.intent.quantity == Decimal("0.0001")
    assert status.order.state is OrderState.ACCEPTED
    assert status.order.venue_order_id


def test_duplicate_is_recognised(kit, broker, fake):
    """The second of two equal orders is no second order, and says so."""
    broker.submit(kit.order())
    with pytest.raises(DuplicateOrder):
        broker.submit(kit.order())
    assert len(fake.venue.orders(status="all")) == 1


def test_many_threads_send_at_once(fake, kit, broker):
    """Each thread has a client of its own; every order arrives once."""
    failures = []

    def send(first):
        try:
            for number in range(first, first + 10):
                broker.submit(kit.order(f"tg-{number}", quantity="0.01"))
        except VenueError as error:
            failures.append(error)

    threads = [threading.Thread(target=send, args=(10 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(fake.venue.orders(status="all", limit=500)) == 60


def test_open_orders_come_page_by_page(fake, kit, broker, monkeypatch):
    """However many there are, all come, oldest first, foreign orders too."""
    monkeypatch.setattr("torghut_brokers.alpaca.broker.PAGE", 4)
    fake.venue.blocks_wash_trades = False
    names = [f"other-{number}" for number in range(11)]
    for name in names:
        fake.venue.place("BTC/USD", "buy", "0.1", type="limit", limit_price="50", client_order_id=name)
    found = broker.orders()
    assert [order.intent.client_order_id for order in found] == names
    assert {order.intent.strategy_id for order in found} == {""}


def test_not_found_is_none_only_where_the_venue_says_so(fake, kit, broker):
    """A proxy's 404 is no proof that there is no order: whoever believes it sends a second one."""
    assert broker.find("tg-1") is None
    for fault in (Fault.reject(404, {"message": "no route"}), Fault.html(404)):
        fake.faults.add(fault)
        with pytest.raises(Unanswered):
            broker.find("tg-1")


def test_find_checks_what_it_found(fake, broker):
    """An answer about another order is no answer."""
    fake.faults.add(Fault.reject(200, OTHER))
    with pytest.raises(Unanswered):
        broker.find("tg-1")


# Changes


@pytest.fixture
def working(fake, kit, broker):
    """A limit order that is away from the market."""
    broker.submit(kit.order(order_type=OrderType.LIMIT, limit_price=Decimal(50)))
    return broker


def test_change_is_a_new_leg_of_the_same_order(fake, kit, working):
    """The venue makes orders ``-r2`` and ``-r3`` of it; here it stays one, with the newest terms and all fills."""
    fake.venue.fill("tg-1", 2, 50)
    working.replace("tg-1", limit_price=Decimal(51))
    patched = [request.body for request in fake.requests if request.method == "PATCH"]
    assert patched == ['{"client_order_id": "tg-1-r2", "qty": "3", "limit_price": "51"}']
    (order,) = working.orders()
    found = working.find("tg-1").order
    assert order == found
    assert (found.intent.client_order_id, found.intent.limit_price) == ("tg-1", Decimal(51))
    assert found.filled_quantity >= 2
    assert found.venue_order_id == fake.venue.order("tg-1-r2")["id"]
    working.replace("tg-1", limit_price=Decimal(52))
    newest = fake.venue.order("tg-1-r3")["id"]
    assert working.find("tg-1").order.venue_order_id == newest
    kit.until(lambda: any(status.order.venue_order_id == newest for status in working.updates()))
    working.orders()  # the stream's thread has looked its legs up by now
    asked = len(fake.requests)
    working.orders()
    assert len(fake.requests) == asked + 1  # legs that are over are not looked up again
    working.cancel("tg-1")
    assert working.find("tg-1").order.state is OrderState.CANCELED
    assert fake.venue.order("tg-1-r3")["status"] == "canceled"


def test_change_that_was_refused_leaves_the_order(fake, working):
    """The order works on as it was; the next change takes a name that nothing has had."""
    fake.venue.slow_replaces = True
    working.replace("tg-1", limit_price=Decimal(51))
    assert working.find("tg-1").order.intent.limit_price == 50
    fake.venue.reject_replace("tg-1")
    assert working.find("tg-1").order.state is OrderState.ACCEPTED
    fake.venue.slow_replaces = False
    working.replace("tg-1", limit_price=Decimal(52))
    found = working.find("tg-1").order
    assert (found.intent.limit_price, found.venue_order_id) == (52, fake.venue.order("tg-1-r3")["id"])


def test_change_by_a_person_is_followed(fake, working):
    """Someone changes the order at the venue's page: under whatever id, it stays ours."""
    old = fake.venue.order("tg-1")["id"]
    fake.venue.replace(old, {"limit_price": "53", "client_order_id": "by-hand"})
    (order,) = working.orders()
    assert (order.intent.client_order_id, order.intent.limit_price) == ("tg-1", 53)
    assert working.find("tg-1").order == order


def test_change_of_nothing_changes_nothing(fake, working):
    """An order that is unknown or done is left alone."""
    working.replace("tg-unknown", limit_price=Decimal(1))
    working.cancel("tg-1")
    working.replace("tg-1", limit_price=Decimal(1))
    assert not [request for request in fake.requests if request.method == "PATCH"]


def test_names_run_out(fake, kit, broker):
    """An id that leaves no room for another leg is an error with its code, before the venue is asked."""
    name = "tg-" + "a" * 44
    broker.submit(kit.order(name, order_type=OrderType.LIMIT, limit_price=Decimal(50)))
    with pytest.raises(OrderRefused) as caught:
        broker.replace(name, limit_price=Decimal(51))
    assert caught.value.code == "too-many-changes"


def test_change_below_what_is_filled_is_refused(fake, working):
    """A quantity counts what is filled already."""
    fake.venue.fill("tg-1", 2, 50)
    with pytest.raises(OrderRefused):
        working.replace("tg-1", quantity=Decimal(2))


def test_cancel_may_be_asked_twice(fake, working):
    """Canceling again while a cancel is pending, or an order that has ended, is no error."""
    fake.venue.slow_cancels = True
    working.cancel("tg-1")
    assert working.find("tg-1").order.state is OrderState.PENDING_CANCEL
    working.cancel("tg-1")
    working.cancel("tg-unknown")
    assert len([request for request in fake.requests if request.method == "DELETE"]) == 1


def test_cancel_that_the_venue_refuses_is_an_error(fake, working):
    """A refused cancel raises, because the order stays open."""
    fake.faults.add(Fault.reject(422, {"code": 42210000, "message": "not now"}, method="DELETE"))
    with pytest.raises(OrderRefused):
        working.cancel("tg-1")


# The account


def test_books_of_the_account(fake, kit, broker):
    """Positions by torghut's symbols, money as the venue counts it."""
    broker.submit(kit.order(quantity="2"))
    assert broker.positions()["BTC/USD"].quantity == 2
    account = broker.account()
    assert (account.cash, account.equity, account.day_start_equity) == (99_800, 100_000, 100_000)
    assert account.number


def test_sessions(broker):
    """Sessions that touch the time between."""
    now = time.time_ns()
    week = 7 * 86_400 * 10**9
    sessions = broker.sessions(now, now + week)
    assert 3 <= len(sessions) <= 6
    assert sessions == sorted(sessions)
    assert all(opened < closed and closed >= now and opened <= now + week for opened, closed in sessions)


# Coming and going


@pytest.mark.parametrize(
    ("account", "said"),
    [
        ({"trading_blocked": True}, "trading_blocked"),
        ({"account_blocked": True}, "account_blocked"),
        ({"status": "SUBMITTED"}, "SUBMITTED"),
    ],
)
def test_account_that_may_not_trade_is_an_error(fake, kit, account, said):
    """An account that may not trade is an error at the start, not at the first order."""
    fake.faults.add(Fault.reject(200, fake.venue.account() | account, path="/v2/account"))
    with pytest.raises(VenueError, match=said):
        kit.make().connect(kit.connection())


def test_refused_keys_are_an_error_with_a_hint(kit, caplog):
    """The error names the settings and does not show the keys."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(VenueError, match="ALPACA_SECRET_KEY") as caught:
        kit.make().connect(kit.connection(key=KEY, secret=SECRET + "x"))
    assert leaks(caught.value, caplog) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://api.alpaca.markets",
        "http://10.0.0.1:80",
        "ftp://127.0.0.1",
        "127.0.0.1:80",
        "http://u:p@localhost",
        "http://[::2]",
    ],
)
def test_url_is_for_a_stand_in(url):
    """The catalog cannot send orders to any other address than this machine's."""
    with pytest.raises(pydantic.ValidationError, match="TRADING_LIVE_ENABLED"):
        Alpaca.Params(url=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://localhost:1/", "http://[::1]:5"])
def test_url_of_a_stand_in(url):
    """A stand-in is any address of this machine."""
    assert Alpaca.Params(url=url).url == url.rstrip("/")


def test_only_live_leads_to_the_live_address(kit):
    """Paper unless trading is live; a stand-in and live contradict each other."""
    venue = Alpaca(Alpaca.Params())
    assert venue._address(is_live=False) == ("https://paper-api.alpaca.markets", False)
    assert venue._address(is_live=True) == ("https://api.alpaca.markets", False)
    with pytest.raises(SettingsError, match=r"params\.url"):
        kit.make().connect(kit.connection(is_live=True))


def test_missing_secret_is_a_settings_error(kit):
    """The connection's error about a missing secret is raised as it is."""

    def missing(name):
        raise SettingsError(f"{name} is not set")

    connection = kit.connection()
    with pytest.raises(SettingsError, match="ALPACA_KEY_ID"):
        kit.make().connect(type(connection)(is_live=False, secret=missing))


def test_missing_library_is_an_error_with_a_hint(kit, monkeypatch):
    """Without the extra, the error says what to install."""
    monkeypatch.delitem(sys.modules, "torghut_brokers.alpaca.rest", raising=False)
    monkeypatch.setitem(sys.modules, "alpaca.trading.client", None)
    with pytest.raises(SettingsError, match=r"torghut-brokers\[alpaca\]"):
        kit.make().connect(kit.connection())


def test_unconnected_broker_says_so_and_closes(kit):
    """Without a connection calls raise; closing is harmless, before and after and twice."""
    venue = kit.make()
    assert venue.health()
    with pytest.raises(VenueError, match="not connected"):
        venue.orders()
    venue.close()
    venue.close()


def test_class_costs_little_to_import():
    """Importing the plugin does not import the venue's libraries."""
    heavy = ("alpaca", "requests", "websockets", "pandas")
    code = f"import sys, torghut_brokers; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=2 * PATIENCE
    )
    assert done.stdout.strip() == "[]"


def test_environment_cannot_send_a_stand_ins_orders_elsewhere(kit, monkeypatch):
    """Proxies that the environment names are not for loopback."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert kit.connect().submit(kit.order()).order.venue_order_id


def test_time_in_force_goes_out(fake, kit, broker):
    """Equities go out as they were decided."""
    fake.venue.set_price("AAPL", 100)
    status = broker.submit(kit.order(symbol="AAPL", quantity="1", time_in_force=TimeInForce.IOC))
    assert status.order.intent.time_in_force is TimeInForce.IOC
    assert fake.venue.order("tg-1")["time_in_force"] == "ioc"
