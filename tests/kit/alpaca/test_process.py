"""The fake as a process of its own, with its script over HTTP."""

import http.client
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from torghut_testing.alpaca.__main__ import main

from support.waiting import PATIENCE


@pytest.fixture
def process(tmp_path, client_of):
    """A fake in a process, started with the given options; gives it with a client of it."""
    processes = []

    def start(*options):
        started = subprocess.Popen(
            [sys.executable, "-m", "torghut_testing.alpaca", *options], stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        processes.append(started)
        port = int(started.stdout.readline().rpartition(":")[2])
        return started, client_of(SimpleNamespace(port=port, key="fake-key", secret="fake-secret"))

    yield start
    for started in processes:
        started.kill()
        started.wait()
        started.stdout.close()


def test_process_keeps_its_state(process):
    """It prints its URL when it listens, ends cleanly on SIGTERM, and the next one continues with its state."""
    first, api = process("--state", "state.json", "--price", "BTC/USD=25000", "--cash", "50000")
    assert api.post("it")[0] == 200
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE) == 0
    _, api = process("--state", "state.json")
    assert api("GET", "/v2/orders:by_client_order_id?client_order_id=it")[1]["filled_avg_price"] == "25000"
    assert api("GET", "/v2/account")[1]["cash"] == "25000"


@pytest.mark.parametrize(
    ("option", "said"), [("BTC/USD", "write SYMBOL=PRICE"), ("BTC/USD=much", "'much' is not a number")]
)
def test_wrong_options(option, said, capsys):
    """An option that cannot be read is named, with the fix."""
    with pytest.raises(SystemExit):
        main(["--price", option])
    assert said in capsys.readouterr().err


def test_taken_port(fake, capsys):
    """A port that is in use is an error in one line."""
    with pytest.raises(SystemExit):
        main(["--port", str(fake.port)])
    assert "Address already in use" in capsys.readouterr().err


def test_wrong_state(tmp_path, capsys):
    """A file that is not a state is named in the error, and left as it is."""
    path = tmp_path / "state.json"
    path.write_text('{"cash": "much"}')
    with pytest.raises(SystemExit):
        main(["--state", str(path)])
    assert f"{path} is not the state of a fake venue" in capsys.readouterr().err
    assert path.read_text() == '{"cash": "much"}'


def test_script_over_http(fake, api, listen):
    """Every verb of a script is a route, and its body the verb's arguments."""
    listener = listen(fake)

    def do(verb, **arguments):
        status, answer = api("POST", f"/_fake/{verb}", arguments)
        assert status == 200, answer
        return answer

    do("price", symbol="AAPL", price="12.5")
    do("hold", symbol="AAPL")
    order = do("place", symbol="AAPL", side="buy", qty="4", client_order_id="it")
    assert order["status"] == "new"
    assert do("fill", key="it", quantity="1", price="12")["filled_qty"] == "1"
    assert do("cancel", key="it")["status"] == "canceled"
    assert listener.events(4) == ["pending_new", "new", "partial_fill", "canceled"]
    do("position", symbol="BTCUSD", qty="2", price="90")
    do("cash", cash="77")
    do("set", skew_ns=5, slow_cancels=True)
    do("stream/send", message={"stream": "x"})
    assert listener.receive() == {"stream": "x"}
    state = api("GET", "/_fake/state")[1]
    assert (state["account"]["cash"], [row["symbol"] for row in state["positions"]]) == ("77", ["AAPL", "BTCUSD"])
    assert [event["event"] for event in state["events"]][-1] == "canceled"
    assert (fake.venue.skew_ns, fake.venue.slow_cancels, state["listeners"]) == (5, True, 1)
    assert state["requests"] == []


def test_faults_over_http(fake, api):
    """A fault is added as JSON, and all are taken away again."""
    status, fault = api(
        "POST", "/_fake/faults", {"kind": "throttle", "retry_after": 2, "path": "/v2/clock", "status": 429}
    )
    assert (status, fault["fired"]) == (200, 0)
    assert api("GET", "/v2/clock")[0] == 429
    assert api.answer.headers["Retry-After"] == "2"
    api("POST", "/_fake/faults", {"kind": "cut"})
    assert api("DELETE", "/_fake/faults") == (200, {})
    assert api("GET", "/v2/clock")[0] == 200


@pytest.mark.parametrize(
    ("verb", "arguments", "status", "said"),
    [
        ("nothing", {}, 404, "no route of a script: POST /_fake/nothing"),
        ("stream/__init__", {}, 404, "no route"),
        ("fill", {"key": "it"}, 422, "no order has the id or client_order_id 'it'"),
        ("price", {"symbol": "AAPL"}, 422, "price"),
        ("price", {"symbol": "AAPL", "price": "much"}, 422, "price"),
        ("faults", {"kind": "cut", "colour": "red"}, 422, "colour"),
        ("faults", {"kind": "cut", "path": "("}, 422, "missing )"),
        ("set", {"colour": "red"}, 422, "no settings: colour"),
        ("place", {"symbol": "NOPE", "side": "buy", "qty": "1"}, 422, 'asset "NOPE" not found'),
    ],
)
def test_wrong_scripts(fake, api, verb, arguments, status, said):
    """A wrong request of a script is answered with the reason."""
    given, answer = api("POST", f"/_fake/{verb}", arguments)
    assert given == status
    assert said in answer["message"]


def test_restart_over_http(fake, api):
    """A script restarts the fake: the connection ends, the orders stay."""
    api.post("it")
    assert api("POST", "/_fake/restart") == (200, {})
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        api("GET", "/v2/clock")
    assert api("GET", "/v2/orders:by_client_order_id?client_order_id=it")[1]["status"] == "filled"


def test_listener_and_connections_over_http(fake, api, client_of):
    """A script closes the listener, and opens it again on the connection that it has."""
    api("POST", "/_fake/stop_listening")
    api("GET", "/_fake/state")
    with pytest.raises(ConnectionRefusedError):
        client_of(fake)("GET", "/v2/clock")
    api("POST", "/_fake/listen_again")
    api("GET", "/_fake/state")
    assert client_of(fake)("GET", "/v2/clock")[0] == 200
    api("POST", "/_fake/drop_connections")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        api("GET", "/v2/clock")
    assert api("GET", "/v2/clock")[0] == 200
