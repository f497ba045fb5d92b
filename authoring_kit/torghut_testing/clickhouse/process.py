"""A shared signal store in a process of its own, for tests."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from torghut_testing.clickhouse.faults import Fault
from torghut_testing.clickhouse.request import Request


class ClickHouseProcess:
    """``python -m torghut_testing.clickhouse``, for the duration of a ``with`` block.

    Parameters
    ----------
    path : directory of the files; data of an earlier process there is served again.
    user, password : credentials that a client has to send; any user will do where `user` is empty.

    Attributes
    ----------
    url : of the HTTP interface, for ``TA_CLICKHOUSE_URL``.
    """

    def __init__(self, path: Path, *, user: str = "", password: str = "", port: int = 0) -> None:
        self._command = [sys.executable, "-m", "torghut_testing.clickhouse", "--path", str(path)]
        self._command += ["--user", user, "--password", password]
        self.port = port
        self._process: subprocess.Popen[str] | None = None
        self._script: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the HTTP interface is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start serving, again on the same port after a stop.

        Raises
        ------
        RuntimeError : it does not start; its own message is on standard error.
        """
        command = [*self._command, "--port", str(self.port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
        self._process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"the store did not start: {' '.join(self._command)}")
        self.port = int(line.rpartition(":")[2])
        self._script = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.requests()  # opens the connection while the server still listens

    def stop(self) -> None:
        """End it by SIGTERM; stopping twice is harmless."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self._end(lambda process: process.kill())

    def _end(self, how: Callable[[subprocess.Popen[str]], None]) -> None:
        script, self._script = self._script, None
        if script is not None:
            script.close()
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        self._control("POST", "faults", fault)

    def clear(self) -> None:
        """Remove all faults; connections that wait for an answer because of a ``timeout`` are closed."""
        self._control("DELETE", "faults")

    def set_disks(self, disks: Mapping[str, tuple[int, int]] | None = None, **named: tuple[int, int]) -> None:
        """Set free and total bytes that ``system.disks`` shows, by disk; without any, show those of this machine again."""
        self._control("POST", "disks", {**(disks or {}), **named})

    def stop_listening(self) -> None:
        """Refuse new connections; open ones stay."""
        self._control("POST", "stop_listening")

    def listen_again(self) -> None:
        """Accept connections again."""
        self._control("POST", "listen_again")

    def requests(self, statement: str = "") -> list[Request]:
        """Of the last 1000 statements, those that contain this text, oldest first."""
        found = msgspec.convert(self._control("GET", "requests"), list[Request])
        return [request for request in found if statement in request.statement]

    def wait_until(self, is_so: Callable[[], Any], timeout: float = 60.0) -> None:
        """Wait until `is_so` returns something true.

        Raises
        ------
        TimeoutError : it did not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the awaited condition did not happen within {timeout} s")
            time.sleep(0.01)

    def _control(self, method: str, name: str, value: Any = None) -> Any:
        if self._script is None:
            raise RuntimeError("the store is not started (use it in a with block)")
        self._script.request(method, f"/_fake/{name}", None if value is None else msgspec.json.encode(value))
        answer = self._script.getresponse()
        body = msgspec.json.decode(answer.read())
        if answer.status != 200:
            raise ValueError(body["message"])
        return body
