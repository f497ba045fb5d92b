"""The server's life: it listens, it says where, and it ends."""

import json
import socket
import stat
import subprocess
import sys
import threading

import pytest

from support.waiting import PATIENCE
from torghut_core.admin.server import AdminServer
from torghut_core.errors import StateError


@pytest.fixture
def new_threads():
    """The threads of the admin API that this test has started and that still run."""
    before = set(threading.enumerate())

    def names():
        return [t.name for t in set(threading.enumerate()) - before if t.name.startswith("torghut-admin")]

    return names


def test_state_file_is_there_while_it_listens(serve, tmp_path, ask_api):
    """The file says where and with which token, only its owner can read it, and it goes with the server."""
    server = serve()
    file = tmp_path / "admin.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = json.loads(file.read_text())
    assert content["url"] == server.url
    assert ask_api(content["url"], "POST", "/catalog/reload", token=content["token"]).status == 200
    server.stop()
    assert list(tmp_path.iterdir()) == []


def test_state_file_has_no_configured_token(serve, tmp_path, tokens):
    """With tokens configured none is made and none is written down."""
    server = serve(tokens=tokens.known)
    assert set(json.loads((tmp_path / "admin.json").read_text())) == {"url", "pid"}
    assert server.url in (tmp_path / "admin.json").read_text()


def test_file_of_a_killed_process_is_replaced(serve, tmp_path):
    """A file that was left by a killed process, readable by all, is not written into."""
    for name in ("admin.json", "admin.new"):
        (tmp_path / name).write_text("{}")
        (tmp_path / name).chmod(0o644)
    server = serve()
    assert stat.S_IMODE((tmp_path / "admin.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "admin.json").read_text())["url"] == server.url


def test_each_start_has_a_token_of_its_own(serve, tmp_path):
    """The token of an ended process opens nothing later."""
    serve().stop()
    tokens = set()
    for _ in range(2):
        server = serve()
        tokens.add(json.loads((tmp_path / "admin.json").read_text())["token"])
        server.stop()
    assert len(tokens) == 2


def test_taken_port_is_reported_with_its_fix(kernel, tmp_path, new_threads):
    """A port that another process has is named, and what to do; nothing is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = AdminServer(port=port, state_dir=tmp_path)
        with pytest.raises(StateError, match=rf"127\.0\.0\.1:{port}: Address already in use .*--port"):
            server.start(kernel)
    server.stop()
    assert list(tmp_path.iterdir()) == []
    assert new_threads() == []


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_unusable_address_is_reported(kernel, tmp_path, host):
    """An address of another machine, and what is none at all, is named."""
    with pytest.raises(StateError, match=f"cannot listen on {host}:0: "):
        AdminServer(host=host, port=0, state_dir=tmp_path).start(kernel)


def test_state_directory_that_cannot_be_written_is_reported(kernel, tmp_path):
    """A server that could not say where it is does not start, and gives its port back."""
    server = AdminServer(port=0, state_dir=tmp_path / "nowhere")
    with pytest.raises(StateError, match=r"admin\.json: No such file"):
        server.start(kernel)
    with socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))):
        pass


def test_ipv6_loopback_is_served(serve, ask_api):
    """The server listens on `::1` as on 127.0.0.1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert ask_api(serve(host="::1").url, "GET", "/catalog").status == 200


def test_stop_joins_the_thread(serve, ask_api, new_threads):
    """After stop nothing listens and no thread is left, and the port is free at once; stopping again is harmless."""
    server = serve()
    port = int(server.url.rpartition(":")[2])
    ask_api(server.url, "GET", "/catalog")
    with socket.create_connection(("127.0.0.1", port)):  # a client that stays connected and says nothing
        server.stop()
    server.stop()
    assert new_threads() == []
    with pytest.raises(ConnectionRefusedError):
        ask_api(server.url, "GET", "/catalog")
    again = serve(port=port)
    assert ask_api(again.url, "GET", "/catalog").status == 200


def test_stop_does_not_wait_for_a_call_that_hangs(serve, ask_api, kernel, new_threads):
    """A request that waits for the kernel, which waits for the stop, does not hold it up."""
    kernel.health = kernel.hang
    server = serve()

    answers = []
    client = threading.Thread(target=lambda: answers.append(ask_api(server.url, "GET", "/healthz").status))
    client.start()
    assert kernel.entered.wait(PATIENCE)
    server.stop()
    assert "torghut-admin" not in new_threads()
    client.join(PATIENCE)
    assert answers == [500]


def test_process_ends_while_a_call_hangs(tmp_path):
    """A process that forgot to stop its server, with a running request, ends all the same."""
    program = """
import http.client, sys, threading
from pathlib import Path
from torghut_core.admin.server import AdminServer

class Kernel:
    entered = threading.Event()
    def health(self):
        self.entered.set()
        threading.Event().wait()

server = AdminServer(port=0, state_dir=Path(sys.argv[1]))
server.start(Kernel())
connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
connection.request("GET", "/healthz")
assert Kernel.entered.wait(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_import_loads_no_web_server():
    """The command line can import the client and the server's module without waiting for a web framework."""
    program = (
        "import sys, torghut_core.admin.client, torghut_core.admin.server;"
        "print([name for name in ('litestar', 'uvicorn', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=2 * PATIENCE
    )
    assert done.stdout.strip() == "[]"
