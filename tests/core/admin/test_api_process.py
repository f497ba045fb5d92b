"""The API's process: it can be killed, frozen or lost, and nothing beside it is; it knows no secret, and ends with the kernel's."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api_threads import start_real_process
from support.processes import api_process
from support.waiting import PATIENCE, until
from torghut_core.admin import api_process as module
from torghut_core.admin.server import AdminServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")


@pytest.fixture
def real(serve, monkeypatch):
    """Starts a server whose API is served in a process of its own."""
    monkeypatch.setattr(module, "start_process", start_real_process)
    return serve


def pid_of(server):
    """The id of its process, once it serves."""
    until(lambda: server._process._control)
    return api_process(os.getpid())


def test_killed_process_is_started_again_and_said(real, ask_api, capfd):
    """Whoever asks is answered by the next process, at the same address; the log and a metric tell of it."""
    server = real()
    assert ask_api(server.url, "GET", "/healthz").status == 200
    os.kill(pid_of(server), signal.SIGKILL)
    until(lambda: server.metrics()["admin_restarts_total"])
    assert ask_api(server.url, "GET", "/catalog").status == 200
    server.stop()
    assert server.metrics() == {"admin_restarts_total": 0}
    assert "trading goes on" in capfd.readouterr().err


def test_signals_to_all_processes_leave_it_the_last_word(real, ask_api):
    """It is in a group of its own, and takes no SIGTERM: what stops the kernel's process lets this one finish its answers."""
    server = real()
    assert ask_api(server.url, "GET", "/healthz").status == 200
    pid = pid_of(server)
    assert os.getpgid(pid) == pid
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
    assert ask_api(server.url, "GET", "/healthz").status == 200
    assert pid_of(server) == pid


def test_frozen_process_does_not_hold_up_the_stop(real, monkeypatch):
    """One that does not end is killed, and its address is free."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    server = real()
    os.kill(pid_of(server), signal.SIGSTOP)
    server.stop()
    until(lambda: api_process(os.getpid()) is None)
    with socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))):
        pass


def test_stop_before_it_serves(real):
    """A server that is stopped at once leaves no process, and gives its address back."""
    server = real()
    server.stop()
    assert api_process(os.getpid()) is None
    with socket.create_server(("127.0.0.1", int(server.url.rpartition(":")[2]))):
        pass


def test_it_has_no_secrets_and_no_part_of_the_kernels_process(real, ask_api, kernel, monkeypatch):
    """Keys are not in its environment or command, and what a plugin replaces in the kernel's process holds up no answer."""
    monkeypatch.setenv("ALPACA_SECRET_KEY", "a-secret-key")
    server = real()
    assert ask_api(server.url, "GET", "/healthz").status == 200
    for name in ("environ", "cmdline"):
        assert b"secret" not in Path(f"/proc/{pid_of(server)}/{name}").read_bytes()
    with monkeypatch.context() as replaced:
        replaced.setattr(time, "monotonic", lambda: 0.0)
        replaced.setattr(time, "sleep", None)
        replaced.setattr(time, "thread_time", None)
        status = ask_api(server.url, "GET", "/catalog").status
    assert status == 200


PROGRAM = """
import os, sys, time
from pathlib import Path
from torghut_core.admin.server import AdminServer

class Kernel:
    def health(self):
        return []

server = AdminServer(port=int(sys.argv[2]), state_dir=Path(sys.argv[1]))
server.start(Kernel())
print(server.url, flush=True)
input()
if os.fork():  # as a plugin may
    print("forked", flush=True)
time.sleep(600)
"""


def test_killed_kernel_takes_it_along_and_the_next_one_has_the_address(tmp_path, kernel, ask_api):
    """With kill -9 of the kernel's process the API ends, also where a plugin has forked, and another one listens there at once."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        url = program.stdout.readline().strip()
        assert ask_api(url, "GET", "/healthz").status == 200
        pid = api_process(program.pid)
        program.stdin.write("fork\n")
        program.stdin.flush()
        assert program.stdout.readline() == "forked\n"
        program.kill()
        program.wait()
        server = AdminServer(state_dir=tmp_path, port=int(url.rpartition(":")[2]))
        server.start(kernel)
        try:
            assert ask_api(url, "GET", "/catalog").status == 200
            until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())
        finally:
            server.stop()
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        program.stdin.close()
        program.stdout.close()


@pytest.mark.proof
def test_five_hundred_requests_at_once_are_answered(real, ask_api, kernel):
    """Each is answered or refused with when to come again, probes and stops between them too, by the same process."""
    server = real()
    assert ask_api(server.url, "GET", "/healthz").status == 200
    pid = pid_of(server)
    paths = ("/catalog", "/trading/status", "/trading/decisions", "/metrics", "/healthz")

    def ask(number):
        return paths[number % 5], ask_api(server.url, "GET", paths[number % 5]).status

    with ThreadPoolExecutor(500) as pool:
        answers = list(pool.map(ask, range(500)))
    assert {status for _, status in answers} <= {200, 429}
    assert {status for path, status in answers if path == "/healthz"} == {200}
    assert pid_of(server) == pid


def test_calls_that_hang_outlive_no_process_and_hold_up_no_next_one(real, ask_api, kernel):
    """While a call of a killed process hangs in the kernel, the next process answers what does not hang."""
    kernel.health = kernel.hang
    server = real()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_api, server.url, "GET", "/healthz")
        assert kernel.entered.wait(PATIENCE)
        os.kill(pid_of(server), signal.SIGKILL)
        assert asked.exception(PATIENCE) is not None
    assert ask_api(server.url, "GET", "/catalog").status == 200
    before = threading.active_count()
    kernel.release.set()
    until(lambda: threading.active_count() < before)
