"""Whoever misuses the API: it goes on answering probes and stops, and asks the kernel for little at a time."""

import asyncio
import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from support.effort import examples
from support.waiting import PATIENCE, until
from torghut_core.admin import catalog_check, connections, request_limit
from torghut_core.admin.auth import Guard
from torghut_core.admin.catalog_check import check_catalog
from torghut_core.admin.routes import probes
from torghut_core.admin.worker_pools import TooManyRequests, WorkerPool
from torghut_core.catalog import load
from torghut_core.errors import StateError

HEAD = "Host: localhost\r\n"


@pytest.fixture
def connect():
    """Opens sockets to a server; all are closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_one(url, said=b""):
            parts = urlsplit(url)
            opened = stack.enter_context(socket.create_connection((parts.hostname, parts.port), PATIENCE))
            opened.settimeout(PATIENCE)
            opened.sendall(said)
            return opened

        yield open_one


@pytest.fixture
def impatient(monkeypatch):
    """A server that waits for no client for longer than a moment."""
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.02)
    for phase in connections.LIMITS:
        monkeypatch.setitem(connections.LIMITS, phase, 0.1)


@pytest.fixture
def still_serves(tokens, ask_api, kernel):
    """Asserts that a server answers probes, stops and readers."""

    def look(url):
        for path in ("/healthz", "/readyz", "/metrics"):
            assert ask_api(url, "GET", path).status == 200
        assert ask_api(url, "POST", "/trading/kill", b'{"reason": "attack"}', tokens.operator).status == 200
        assert ask_api(url, "GET", "/catalog", token=tokens.viewer).status == 200

    return look


def is_cut(opened):
    """Whether the server ends a connection; what it says before does not matter."""
    with contextlib.suppress(ConnectionError):
        while opened.recv(65536):
            pass
    return True


def is_deaf(opened):
    """Whether a connection takes no more bytes."""
    try:
        opened.sendall(b"A")
    except ConnectionError:
        return True
    return False


def at_once(number, call):
    """The results of so many calls at a time."""
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(call, range(number)))


def test_idle_connections_keep_nobody_out(serve, tokens, connect, still_serves, monkeypatch):
    """More idle connections than the server keeps: the oldest are cut, and whoever comes is answered."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 96)
    url = serve(tokens=tokens.known).url
    idle = [connect(url) for _ in range(100)]
    still_serves(url)
    assert is_cut(idle[0])
    idle[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert idle[-1].recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "said",
    [
        "",
        "G",
        f"GET /healthz HTTP/1.1\r\n{HEAD}A: ",
        f"POST /catalog/validate HTTP/1.1\r\n{HEAD}Authorization: Bearer TOKEN\r\nContent-Length: 100\r\n\r\nversion",
        f"POST /catalog/validate HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\nversion",
        f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n",
        f"GET /healthz HTTP/1.1\r\n{HEAD}\r\nGET /heal",
    ],
    ids=[
        "nothing",
        "a letter",
        "half a head",
        "half a body",
        "half a body, no token",
        "keep-alive",
        "half a second one",
    ],
)
def test_slow_client_is_disconnected(serve, tokens, connect, still_serves, impatient, said):
    """A client that does not send the rest of what it began, or nothing more, is cut after a while."""
    url = serve(tokens=tokens.known).url
    assert is_cut(connect(url, said.replace("TOKEN", tokens.viewer).encode()))
    still_serves(url)


def test_client_that_sends_a_byte_at_a_time_is_disconnected(serve, tokens, connect, impatient):
    """A head that goes on and on is not waited for, however often something comes."""
    opened = connect(serve(tokens=tokens.known).url, f"GET /catalog HTTP/1.1\r\n{HEAD}".encode())

    assert until(lambda: is_deaf(opened))


def test_client_that_does_not_read_is_disconnected(serve, tokens, kernel, connect, still_serves, impatient):
    """An answer that nobody takes is thrown away."""
    kernel.schema = lambda: {"much": "x" * 20_000_000}
    url = serve(tokens=tokens.known).url
    head = f"GET /catalog/schema HTTP/1.1\r\n{HEAD}Authorization: Bearer {tokens.viewer}\r\n\r\n"
    opened = connect(url)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.sendall(head.encode())

    assert until(lambda: is_deaf(opened))
    still_serves(url)


NONSENSE = [
    b"GET /\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    b"\x00" * 1000,
    b"\r\n" * 5000,
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 200_000 + b"\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\xff\xfe garbage" * 50,
    b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"POST /trading/kill HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /trading/kill HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZZZ\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("said", NONSENSE, ids=lambda said: repr(said[:24]))
def test_nonsense_costs_nothing(serve, tokens, kernel, connect, still_serves, impatient, said):
    """What is no HTTP is refused or cut, changes nothing, and leaves the server as it was."""
    url = serve(tokens=tokens.known).url
    opened = connect(url)
    with contextlib.suppress(ConnectionError):
        opened.sendall(said)
    assert is_cut(opened)
    assert kernel.calls == []
    still_serves(url)


@given(said=st.binary(max_size=300))
@examples(200, 30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_end_the_server(api, said):
    """Whatever bytes are sent, the server answers the next one."""
    parts = urlsplit(api())
    for bytes_ in (said, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
        with socket.create_connection((parts.hostname, parts.port), PATIENCE) as opened:
            opened.sendall(bytes_)
            opened.shutdown(socket.SHUT_WR) if bytes_ is said else None
            answer = opened.recv(12) if bytes_ is not said else b""
    assert answer == b"HTTP/1.1 200"


class Busy:
    """Counts how many calls of the kernel run at a time."""

    def __init__(self):
        self.now = self.most = self.all = 0
        self._lock = threading.Lock()

    def __call__(self, *_, **__):
        with self._lock:
            self.now, self.all = self.now + 1, self.all + 1
            self.most = max(self.most, self.now)
        time.sleep(0.002)
        with self._lock:
            self.now -= 1
        return {}


def test_hundreds_of_requests_at_once_are_few_calls(serve, tokens, kernel, ask_api, still_serves):
    """All are answered, most with 429 and when to come again; the kernel works for few at a time, and shares answers."""
    busy = Busy()
    kernel.catalog = kernel.trading = kernel.schema = kernel.validate = busy
    kernel.trading_health = lambda: {"ok": True, **busy()}
    kernel.rows = lambda *_, **__: [busy()] * 0
    url = serve(tokens=tokens.known).url
    paths = ("/catalog", "/trading/status", "/catalog/schema", "/trading/health", "/trading/decisions", "/nowhere")

    def ask(number):
        if number % 7 == 6:
            return ask_api(url, "POST", "/catalog/validate", b"version: 1", tokens.viewer)
        return ask_api(url, "GET", paths[number % 7], token=tokens.viewer if number % 5 else None)

    answers = at_once(200, ask)
    assert {answer.status for answer in answers} <= {200, 401, 404, 429}
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status == 429)
    assert busy.most <= 3
    still_serves(url)


def test_checks_of_catalogs_wait_in_line(serve, tokens, kernel, ask_api, still_serves):
    """One catalog is checked at a time, a few wait, and further ones are refused; nothing else waits for them."""
    called = []
    kernel.validate = lambda text: called.append(text) or {"problems": kernel.hang()}
    url = serve(tokens=tokens.known).url
    with ThreadPoolExecutor(30) as pool:
        asked = [
            pool.submit(ask_api, url, "POST", "/catalog/validate", b"version: 1", tokens.viewer) for _ in range(30)
        ]
        until(lambda: sum(each.done() for each in asked) == 25)
        assert {each.result().status for each in asked if each.done()} == {429}
        assert len(called) == 1
        still_serves(url)
        kernel.release.set()
    assert sorted(each.result().status for each in asked) == [200] * 5 + [429] * 25


def test_callers_do_not_use_up_the_requests_of_operators(serve, tokens, kernel, ask_api, still_serves):
    """While others have all places that they can have, an operator still reads, reloads and stops."""
    kernel.validate = lambda text: {"problems": kernel.hang()}
    url = serve(tokens=tokens.known).url
    parts = urlsplit(url)
    head = (
        f"POST /catalog/validate HTTP/1.1\r\n{HEAD}Authorization: Bearer {tokens.viewer}\r\nContent-Length: 9\r\n\r\nv"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(request_limit.MAX_REQUESTS_EACH):
            opened = stack.enter_context(socket.create_connection((parts.hostname, parts.port), PATIENCE))
            opened.sendall(head.encode())  # and never the rest
        until(lambda: ask_api(url, "GET", "/catalog", token=tokens.viewer).status == 429)
        assert ask_api(url, "GET", "/catalog", token=tokens.operator).status == 200
        assert ask_api(url, "POST", "/catalog/reload", token=tokens.operator).status == 200
        assert ask_api(url, "POST", "/trading/kill", token=tokens.operator).status == 200
        assert ask_api(url, "GET", "/healthz").status == 200


def test_floods_of_scrapes_leave_room_for_operators(tokens):
    """Whoever asks for `/metrics` over hundreds of connections gets few of the places that operators have."""

    class Asking:
        is_refused = False

        def __init__(self):
            self.flow = self

        def pause_reading(self):
            pass

        def refuse(self):
            self.is_refused = True

    def ask(path, header=""):
        each = Asking()
        waiting.queue(each, f"GET {path} HTTP/1.1\r\n{HEAD}{header}\r\n".encode())
        return not each.is_refused

    waiting = connections.Connections(Guard(tokens.known, hosts=None, is_open=True))
    assert sum(ask("/catalog") for _ in range(500)) == connections.MAX_QUEUED
    assert sum(ask("/metrics") for _ in range(500)) == connections.MAX_SCRAPES
    assert ask("/trading/status", f"Authorization: Bearer {tokens.operator}\r\n")
    assert not ask("/trading/status", f"Authorization: Bearer {tokens.viewer}\r\n")


def test_probes_that_hang_share_calls(serve, kernel, ask_api):
    """However often a probe is asked while the kernel hangs, one call runs; those who wait share the next."""
    calls = []
    kernel.health = lambda: calls.append(1) or kernel.hang()
    url = serve().url
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask_api, url, "GET", "/healthz") for _ in range(20)]
        assert kernel.entered.wait(PATIENCE)
        assert ask_api(url, "GET", "/readyz").status == 200
        assert sum(calls) == 1
        kernel.release.set()
        assert {each.result().status for each in asked} == {200}
    assert sum(calls) < len(asked)


def test_probes_are_answered_while_the_kernel_is_silent(serve, kernel, ask_api, monkeypatch, tokens):
    """A kernel that does not answer is unwell after a bounded time, is asked no second time meanwhile, and can be stopped."""
    monkeypatch.setattr(probes, "ANSWER_SECONDS", 0.05)
    calls = []
    kernel.health = kernel.readiness = kernel.metrics = lambda: calls.append(1) or kernel.hang() or {}
    url = serve(tokens=tokens.known).url
    for _ in range(3):
        answers = {path: ask_api(url, "GET", path) for path in ("/healthz", "/readyz", "/metrics")}
        assert {answer.status for answer in answers.values()} == {503}
        assert answers["/healthz"].json == {"ok": False, "reasons": [probes.SILENT]}
        assert answers["/readyz"].json["gates"] == {"process": probes.SILENT}
    assert ask_api(url, "POST", "/trading/kill", token=tokens.operator).status == 200
    assert len(calls) == 3
    kernel.health = list
    kernel.release.set()
    until(lambda: ask_api(url, "GET", "/healthz").status == 200)


def test_calls_with_the_same_arguments_are_shared():
    """Of those that wait one is made for all with the same arguments; its answer is forgotten then."""

    async def story():
        pool, gate, made = WorkerPool(1, 8, is_shared=True), threading.Event(), []

        @pool
        def ask(**arguments):
            made.append(arguments)
            gate.wait(PATIENCE)
            return len(made)

        asked = [asyncio.ensure_future(ask(limit=number % 2)) for number in range(20)]
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*asked) == [1, 2] * 10
        assert await ask(limit=1) == 3
        assert made == [{"limit": 0}, {"limit": 1}, {"limit": 1}]
        assert not pool._shared
        assert not pool._alone

    asyncio.run(story())


def test_pool_refuses_only_what_has_no_place():
    """Of six calls at a time in a pool of two workers with three places to wait, one is refused; afterwards all places are free."""

    async def story():
        pool, gate = WorkerPool(2, 3), threading.Event()
        calls = [asyncio.ensure_future(pool.run(lambda: gate.wait(PATIENCE))) for _ in range(6)]
        await asyncio.sleep(0)
        calls[4].cancel()
        gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [bool] * 4 + [asyncio.CancelledError, TooManyRequests]
        assert await asyncio.gather(*(pool.run(lambda: 1) for _ in range(5))) == [1] * 5

    asyncio.run(story())


def test_catalog_is_checked_in_another_process(catalog_text, tmp_path):
    """What another process finds is what this one would: problems with their places, and the changes; plugins may print."""
    (tmp_path / "loud.py").write_text(
        "from torghut_core import Strategy, hookimpl\nprint('{}')\n"
        "class Loud(Strategy):\n    def on_signal(self, signal, context):\n        return None\n"
        "@hookimpl\ndef register_strategies(register):\n    register('loud', Loud)\n"
    )
    live = load({"a": catalog_text})
    answer = check_catalog(catalog_text.replace("macd-rsi,", "loud,"), live, [tmp_path])
    assert "rsi_buy" in answer["problems"][0]
    assert answer["diff"]["changes"]
    assert check_catalog("version: [", live)["diff"] is None


def test_check_that_fails_is_said(monkeypatch, catalog_text):
    """A process that ends without an answer, or does not end, is an error that names what to do instead."""
    monkeypatch.setattr(catalog_check, "SECONDS", 0.0)
    with pytest.raises(StateError, match="torghut catalog validate"):
        check_catalog(catalog_text, load({"a": catalog_text}))
