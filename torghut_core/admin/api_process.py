"""The process that serves the admin API, as the kernel's process sees it: begun, watched, and begun again when it ends.

It has an interpreter of its own, so whatever the API computes, the loop that trades waits for none of it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec

from torghut_core.admin.auth import Token
from torghut_core.admin.kernel_calls import answer_calls
from torghut_core.admin.worker_pools import CALLS_AT_ONCE
from torghut_core.concurrency import DaemonThreads
from torghut_core.files import keep_from_children
from torghut_core.telemetry import logs

STOP_SECONDS = 3.0
"""How long the process may take to end; requests get the first of them to finish."""

RESTART_SECONDS = 0.5
"""Time between the end of a process and the next one."""

PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
"""Variables that the process gets, with those that begin as in `PASSED_ON_PREFIXES`: no keys, passwords or tokens."""

PASSED_ON_PREFIXES = ("PYTHON", "LC_", "LD_")

READY = b"r"
"""What the process says once it would notice that this one has ended."""

STOP = b"s"
"""What it is to hear to finish its requests and end."""


class Routes(StrEnum):
    """Which routes are served."""

    ALL = "all"
    PROBES = "probes"
    WAITING = "waiting"


class Served(msgspec.Struct, frozen=True):
    """What is served, and to whom.

    Attributes
    ----------
    routes : which routes.
    tokens, hosts, is_open : see `auth.Guard`.
    """

    routes: Routes
    tokens: tuple[Token, ...]
    hosts: frozenset[str] | None
    is_open: bool


class ApiProcess:
    """A process that serves the admin API, from now on until `stop`.

    Whatever becomes of it, or of what it waits for, holds up nothing here.

    Parameters
    ----------
    kernel : what is asked, an `admin.kernel.Kernel` or a part of one.
    served : what is served of it, and to whom.
    listener : where; it is closed at the end.

    Attributes
    ----------
    restarts : how often it had to be begun again.
    """

    def __init__(self, kernel: Any, served: Served, listener: socket.socket) -> None:
        self.restarts = 0
        self._kernel = kernel
        self._served = msgspec.json.encode(served) + b"\n"
        self._listener = listener
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()
        self._process: Any = None
        self._control: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="torghut-admin", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; running requests get a second to finish. Stopping twice is harmless."""
        with self._lock:
            self._is_stopping.set()
            self._listener.close()
            if self._control is not None:
                with suppress(OSError):
                    self._control.sendall(STOP)
            elif self._process is not None:  # it does not serve yet
                self._process.kill()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                trouble = f"exit code {self._serve()}"
            except OSError as error:
                trouble = str(error)
            if not self._is_stopping.is_set():
                self.restarts += 1
                logs.error("the admin API's process has ended and is started again; trading goes on", trouble=trouble)
                self._is_stopping.wait(RESTART_SECONDS)

    def _serve(self) -> int | None:
        """Begin a process, have it serve, and give its exit code when it has ended."""
        control, theirs = socket.socketpair()
        keep_from_children(control.fileno())
        with control:
            with theirs, self._lock:
                if self._is_stopping.is_set():
                    return None
                process = self._process = start_process(theirs)
            try:
                if control.recv(1) == READY:
                    self._hand_over(control)
            except OSError:
                process.kill()
                raise
            finally:
                code: int | None = process.wait()
                with self._lock:
                    self._control = None
            return code

    def _hand_over(self, control: socket.socket) -> None:
        """Give it the listener, and sockets to the kernel."""
        sockets = [socket.socketpair() for _ in range(CALLS_AT_ONCE)]
        threads = DaemonThreads()
        for ours, _ in sockets:
            threads.submit(answer_calls, self._kernel, ours)
        with self._lock:
            if not self._is_stopping.is_set():
                files = [self._listener, *(theirs for _, theirs in sockets)]
                socket.send_fds(control, [self._served], [file.fileno() for file in files])
                self._control = control
        for _, theirs in sockets:
            theirs.close()


def start_process(control: socket.socket) -> subprocess.Popen[bytes]:
    """Start the process with one end of a socket; it has ended for sure once the other end is closed.

    It is in a group of its own: Ctrl-C in a terminal is for the process that trades, which stops this one last.
    """
    env = {
        name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    command = [sys.executable, "-P", "-m", "torghut_core.admin.serve"]
    return subprocess.Popen(command, stdin=control.fileno(), stdout=subprocess.DEVNULL, env=env, process_group=0)  # noqa: S603 - ours
