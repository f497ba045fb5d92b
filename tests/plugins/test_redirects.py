"""Keys go to the configured address alone: no client follows a redirect, and no proxy or ``.netrc`` gets into plain http."""

import asyncio
import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from torghut_brokers.alpaca.rest import Rest
from torghut_brokers.alpaca.stream import Stream
from torghut_sources.alpaca.history import History
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.alpaca.source import Alpaca

from support.waiting import until, until_async
from torghut_core import Connection, TorghutError, Universe
from torghut_core.bus.registry import Registry
from torghut_core.signals.clickhouse import server_client

KEY, SECRET = SecretStr("PKPLANTEDKEY"), SecretStr("planted/secret/value")
STATUSES = (301, 302, 303, 307, 308)


class Listed(Universe):
    symbols = ("BTC/USD",)

    async def changed(self):
        await asyncio.Event().wait()


class Elsewhere:
    """A host that nobody configured: counts who connects, and keeps what it is sent."""

    def __init__(self):
        self.sent = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.sent.append(connection.recv(65536))
                connection.close()

    def close(self):
        self._server.close()


@pytest.fixture
def elsewhere():
    with contextlib.closing(Elsewhere()) as host:
        yield host


@pytest.fixture
def hosts(elsewhere):
    """The configured address, which answers everything with a redirect of `status` to the other."""
    hosts = SimpleNamespace(status=307, asked=0, elsewhere=elsewhere)

    class Redirects(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # what clients of websockets take

        def answer(self):
            hosts.asked += 1
            scheme = "ws" if "Upgrade" in self.headers else "http"
            self.send_response(hosts.status)
            self.send_header("Location", f"{scheme}://{elsewhere.address}/there")
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - names of the library

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirects) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        hosts.address = f"127.0.0.1:{server.server_address[1]}"
        yield hosts
        server.shutdown()


def requests_of_the_broker(address):
    rest = Rest(f"http://{address}", KEY, SECRET, 2.0, use_proxies=False)
    for call in (
        lambda: rest.get("/account"),
        lambda: rest.post("/orders", {"qty": "1"}),
        lambda: rest.patch("/orders/1", {"qty": "1"}),
        lambda: rest.delete("/orders/1"),
    ):
        with pytest.raises(TorghutError):
            call()
    rest.close()


def stream_of_the_broker(address):
    stream = Stream(f"ws://{address}/stream", KEY, SECRET, 2.0, lambda _: None, use_proxies=False)
    stream.start()
    until(lambda: stream.problem.startswith("down"))
    stream.close()


def settings_of(address):
    return AlpacaSettings(
        alpaca_market_type="crypto",
        alpaca_stream_url=f"ws://{address}",
        alpaca_base_url=f"http://{address}",
        reconnect_base_ms=60_000,
        reconnect_max_ms=60_000,
    )


def history(address):
    async def main():
        past = History(settings_of(address), KEY, SECRET, complain=lambda _: None)
        try:
            with pytest.raises(TorghutError):
                await past.page("trades", ["BTC/USD"], 0, 10**9)
        finally:
            await past.aclose()

    asyncio.run(main())


def stream_of_the_source(address):
    async def main():
        source = Alpaca(Alpaca.Params(backfill=False), settings_of(address), chance=lambda: 1.0)
        keys = {"ALPACA_KEY_ID": KEY, "ALPACA_SECRET_KEY": SECRET}
        universe = Listed()
        source.connect(Connection(is_live=False, secret=keys.__getitem__, universe=universe))
        taking = asyncio.create_task(anext(source.batches(100), None))
        await until_async(lambda: source.metrics()["ws_ws_connect_errors_total"])
        source.close()
        await asyncio.wait([taking])

    asyncio.run(main())


def registry(address):
    client = Registry(f"http://{address}", "user", SECRET)
    for call in (lambda: client.schema(1), lambda: client.register("subject", "{}")):
        with pytest.raises(TorghutError):
            call()
    client.close()


def signal_store(address):
    with pytest.raises(TorghutError):
        server_client(f"http://{address}", "user", SECRET.get_secret_value())


CLIENTS = [requests_of_the_broker, stream_of_the_broker, history, stream_of_the_source, registry, signal_store]


@pytest.mark.parametrize("client", CLIENTS)
def test_no_redirect_is_followed(client, hosts):
    """Whatever the status, the host that it names is not even asked."""
    for hosts.status in STATUSES:
        asked = hosts.asked
        client(hosts.address)
        assert hosts.asked > asked
    assert hosts.elsewhere.sent == []


@pytest.mark.parametrize("client", CLIENTS)
def test_proxy_of_the_environment_gets_no_plain_request(client, hosts, monkeypatch):
    """Keys in plain http go to the configured address, whatever proxies the environment names."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{hosts.elsewhere.address}")
    client(hosts.address)
    assert hosts.asked
    assert hosts.elsewhere.sent == []


def test_netrc_is_not_sent(elsewhere, tmp_path, monkeypatch):
    """Other passwords of this user are not sent to the venue, also where the environment's proxies are used."""
    file = tmp_path / "netrc"
    file.write_text("default login me password not-for-the-venue\n")
    monkeypatch.setenv("NETRC", str(file))
    rest = Rest(f"http://{elsewhere.address}", KEY, SECRET, 2.0, use_proxies=True)
    with pytest.raises(TorghutError):
        rest.get("/account")
    rest.close()
    (sent,) = elsewhere.sent
    assert KEY.get_secret_value().encode() in sent
    assert b"Authorization: Basic" not in sent
