"""The store on a ClickHouse server: a small HTTP server with the embedded engine behind it speaks for one.

The client is the real one, so what goes over the wire is what a server would get: user and password, one statement per
request, the bound values, the settings of an insert, and Arrow both ways.
"""

import base64
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from torghut_core.errors import SettingsError, StateError
from torghut_core.signals import clickhouse as clickhouse_module
from torghut_core.signals import open_signal_store

pytest.importorskip("chdb", reason="the engine behind the server is torghut[embedded]")

KEPT = {"microbars_ttl_days": None, "signals_ttl_days": None}
USER = "Basic " + base64.b64encode(b"trader:open sesame").decode()


class Request(BaseHTTPRequestHandler):
    """One statement: in the body, or in the query where the body is the data of an insert."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        options = dict(parse_qsl(urlsplit(self.path).query))
        if self.headers["Authorization"] != USER:
            self.reply(403, b"Code: 516. DB::Exception: trader: Authentication failed: password is incorrect.", "516")
            return
        try:
            answer = self.run(options, body)
        except DatabaseError as error:
            self.reply(500, str(error).encode(), str(error.code))
            return
        if self.server.drops and "insert_deduplication_token" in options:
            self.server.drops -= 1
            self.close_connection = True  # the insert is done, and nobody hears of it
        else:
            self.reply(200, answer)

    def run(self, options, body):
        engine = self.server.engine
        if "query" in options:
            target, _, form = options["query"].removeprefix("INSERT INTO ").partition(" FORMAT ")
            table, _, columns = target.partition(" ")
            self.server.inserts.append(options)
            keep = {"insert_deduplication_token", "async_insert", "max_partitions_per_insert_block"}
            settings = {name: value for name, value in options.items() if name in keep}
            engine.raw_insert(table, columns.strip("()").replace("`", "").split(", "), body, settings, form)
            return b""
        bound = {name.removeprefix("param_"): value for name, value in options.items() if name.startswith("param_")}
        return engine.raw_query(body.decode(), parameters=bound)

    def reply(self, status, answer, code=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A running server; `drops` inserts are done without an answer, `inserts` holds the options of each."""
    monkeypatch.setattr(clickhouse_module, "_RETRY_DELAYS_S", (0, 0))
    with (
        closing(clickhouse_connect.get_client(interface="chdb", path=str(tmp_path / "server"))) as engine,
        ThreadingHTTPServer(("127.0.0.1", 0), Request) as running,
    ):
        running.engine, running.drops, running.inserts = engine, 0, []
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def store(server):
    with closing(open_signal_store(url=server.url, username="trader", password="open sesame", **KEPT)) as store:
        yield store


def test_rows_go_to_the_server_and_come_back(store, derived_batch, tmp_path):
    """What is written over HTTP is read over HTTP: readers, counts and export, values bound and not pasted."""
    store.write(derived_batch([1.0, float("nan"), 3.0]))
    store.flush()

    assert store.bars("ES", "PT1S", since=0)["close"].to_pylist() == [1.0, None, 3.0]
    assert store.bars("ES' OR 1 = 1 --").num_rows == 0
    assert store.counts() == {"microbars": 3, "signals": 3}
    assert store.export("signals", str(tmp_path / "signals.parquet")) == 3


def test_tables_of_the_server_keep_their_own_ttl(store, server):
    """A server's tables may belong to its operator: then the days in the settings hold only for a table that is made."""
    ttl = "TTL toDateTime(event_ts) + toIntervalDay(90)"
    server.engine.command(f"ALTER TABLE torghut.ta_signals MODIFY {ttl}")
    open_signal_store(url=server.url, username="trader", password="open sesame", apply_ttl=False).close()

    assert ttl in server.engine.command("SHOW CREATE TABLE torghut.ta_signals")


def test_a_lost_answer_leaves_no_duplicate(store, server, derived_batch):
    """The server stored the block and its answer was lost: it is sent again with the same token, and stays one."""
    server.drops = 2
    store.write(derived_batch([1.0, 2.0]))
    store.flush()

    tokens = [options["insert_deduplication_token"] for options in server.inserts if "ta_microbars" in options["query"]]
    assert len(tokens) > 1
    assert len(set(tokens)) == 1
    assert server.engine.command("SELECT count() FROM torghut.ta_microbars") == 2


def test_inserts_wait_until_they_are_stored(store, server, derived_batch):
    """A server that buffers inserts by default does not buffer ours: acknowledged is stored."""
    store.write(derived_batch([1.0]))
    store.flush()

    assert {options["async_insert"] for options in server.inserts} == {"0"}


def test_a_server_that_went_away_is_an_error_and_nothing_is_lost(store, server, derived_batch):
    """The error names the server; when it is back, the rows that waited are stored."""
    server.drops = 100
    store.write(derived_batch([1.0]))
    with pytest.raises(StateError, match=rf"ClickHouse at {server.url}: cannot write .*TA_CLICKHOUSE_URL is right"):
        store.flush()

    server.drops = 0
    store.flush()
    assert store.counts() == {"microbars": 1, "signals": 1}


def test_a_server_that_does_not_answer_is_named():
    """Nobody listens on the port: the error says where nobody is, and which setting to look at."""
    with pytest.raises(StateError, match=r"ClickHouse at http://127.0.0.1:9: .*TA_CLICKHOUSE_URL"):
        open_signal_store(url="http://user:secret@127.0.0.1:9")


@pytest.mark.parametrize("url", ["http://{}", "http://trader:hunter2@{}"])
def test_a_wrong_password_is_not_shown(server, url):
    """The server refuses the user: the message names the settings, and neither the password nor the URL that has it."""
    with pytest.raises(StateError, match=r"Authentication failed.*TA_CLICKHOUSE_USERNAME") as raised:
        open_signal_store(url=url.format(server.url.removeprefix("http://")), password="hunter2")

    assert "hunter2" not in f"{raised.value} {raised.value.__cause__}"


def test_user_and_password_may_be_in_the_url(server):
    """A URL with a user in it is complete: the user of the settings, whose default is `default`, stands back."""
    url = server.url.replace("http://", "http://trader:open%20sesame@")
    open_signal_store(url=url, password="of another user").close()


@pytest.mark.parametrize("url", ["clickhouse:8123", "tcp://db:9000", "http://", "jdbc:postgresql://u:hunter2@db:8123"])
def test_a_url_of_another_kind_is_refused(url):
    """A native-protocol or JDBC URL is refused before anything is sent; its password is not shown."""
    with pytest.raises(SettingsError, match=r"TA_CLICKHOUSE_URL .*like http://host:8123") as raised:
        open_signal_store(url=url)

    assert "hunter2" not in str(raised.value)
