"""The admin API's server as the kernel's process has it: an address, who may ask, and an `api_process` that answers."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep  # themselves: a plugin may replace those of the module
from typing import Any, ClassVar

from torghut_core.admin.api_process import ApiProcess, Routes, Served
from torghut_core.admin.auth import Role, Token
from torghut_core.admin.client import ADMIN_FILE
from torghut_core.environment import login
from torghut_core.errors import StateError
from torghut_core.files import keep_from_children
from torghut_core.telemetry.metrics import Metric, MetricSpec

FREED_SECONDS = 2.0
"""How long the API of a process that was killed may take to give its address back."""


class AdminServer:
    """Serves the admin API of a kernel, once it is started with one, until it is stopped.

    Without tokens one is made for this machine's operator, and written where only the owner of the state directory can
    read it. Reading is then open to anyone who can connect, but only on a loopback address.

    Parameters
    ----------
    host : address to listen on.
    port : 0 for any that is free.
    tokens : the known ones, see `auth.parse_tokens`.
    state_dir : the state directory, where `ADMIN_FILE` is written.
    hosts : names besides the address and ``localhost`` that requests may have in ``Host`` on a loopback address.

    Attributes
    ----------
    url : where this machine reaches it, from `start` on.
    """

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("admin_restarts_total", "Times that the process of the admin API had ended and was started again."),
    )

    def __init__(
        self,
        *,
        state_dir: Path,
        host: str = "127.0.0.1",
        port: int = 8181,
        tokens: Sequence[Token] = (),
        hosts: Collection[str] = (),
    ) -> None:
        self.url = ""
        self._host = host
        self._port = port
        self._tokens = tuple(tokens)
        self._hosts = hosts
        self._file = state_dir / ADMIN_FILE
        self._is_written = False
        self._listener: socket.socket | None = None
        self._process: ApiProcess | None = None

    def start(self, kernel: Any, routes: Routes = Routes.ALL) -> None:
        """Listen; from here on requests are answered.

        Parameters
        ----------
        kernel : what is served, an `admin.kernel.Kernel`, or as much of it as `routes` need.
        routes : what is served of it. While a process is `Routes.WAITING` for its state directory, nothing is written there.

        Raises
        ------
        StateError : the address cannot be used, or the state directory cannot be written.
        """
        local = None if self._tokens else secrets.token_urlsafe(32)
        tokens = self._tokens if local is None else (Token.of(f"local:{login()}", Role.OPERATOR, local),)
        is_loopback = _is_loopback(self._host)
        names = {self._host, "localhost", "127.0.0.1", "::1", *self._hosts}
        hosts = frozenset(name.lower() for name in names) if is_loopback else None
        self._is_written = routes is not Routes.WAITING
        self.listen()
        assert self._listener is not None
        listener, self._listener = self._listener, None
        self.url = _url(self._host, listener.getsockname()[1])
        try:
            if self._is_written:
                self._write_file({"url": self.url, "pid": os.getpid()} | ({"token": local} if local else {}))
        except OSError as error:
            listener.close()
            raise StateError(f"{self._file}: {error.strerror} (make the state directory writable)") from error
        served = Served(routes, tokens, hosts, is_open=is_loopback and local is not None)
        self._process = ApiProcess(kernel, served, listener)

    def stop(self) -> None:
        """Stop listening; running requests get a second to finish. Stopping twice is harmless."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._process is None:
            return
        if self._is_written:
            self._file.unlink(missing_ok=True)
        self._process.stop()
        self._process = None

    def metrics(self) -> Mapping[str, Metric]:
        """See `telemetry.metrics.Measured`."""
        process = self._process
        return {"admin_restarts_total": 0 if process is None else process.restarts}

    def listen(self) -> None:
        """Bind the address; requests wait until `start`. Listening twice is harmless.

        Raises
        ------
        StateError : the address cannot be used.
        """
        if self._listener is not None:
            return
        try:
            self._listener = self._bind()
        except OSError as error:
            reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            raise StateError(
                f"cannot listen on {self._host}:{self._port}: {reason} "
                "(stop the process that listens there, or give another --port)"
            ) from error
        keep_from_children(self._listener.fileno())
        self._port = self._listener.getsockname()[1]  # the same where it listens anew

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        end = monotonic() + FREED_SECONDS
        while True:
            try:
                return socket.create_server((self._host, self._port), family=family)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or monotonic() > end:
                    raise
            sleep(0.02)

    def _write_file(self, content: dict[str, Any]) -> None:
        new = self._file.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        new.replace(self._file)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - told apart, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
