"""The admin API's server: uvicorn in a thread of its own, beside the loop that trades."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from torghut_core.admin.auth import Guard, Role, Token
from torghut_core.admin.client import ADMIN_FILE
from torghut_core.admin.loop_priority import LoopPriority
from torghut_core.admin.request_limit import RequestLimit
from torghut_core.boundary import use_decimal_context
from torghut_core.concurrency import DaemonThreads
from torghut_core.environment import login
from torghut_core.errors import StateError

if TYPE_CHECKING:
    from uvicorn import Server

    from torghut_core.admin.connections import Connections


STOP_SECONDS = 3.0
"""How long `AdminServer.stop` waits; requests get the first of them to finish."""


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
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(
        self,
        kernel: Any,
        is_busy: Callable[[], bool] = lambda: False,
        *,
        is_probed_only: bool = False,
        is_waiting: bool = False,
    ) -> None:
        """Listen; from here on requests are answered.

        Parameters
        ----------
        kernel : what is served, an `admin.kernel.Kernel`, or a `routes.probes.Probed`.
        is_busy : whether the loop works that is not to be slowed, see `loop_priority`.
        is_probed_only : serve `routes.probes.make_probe_app` of it, and not the whole API.
        is_waiting : it is a `waiting.Waiting`: another process owns the state directory, where nothing is written then.

        Raises
        ------
        StateError : the address cannot be used, or the state directory cannot be written.
        """
        import uvicorn

        from torghut_core.admin.connections import Connection, Connections

        local = None if self._tokens else secrets.token_urlsafe(32)
        tokens = self._tokens if local is None else (Token.of(f"local:{login()}", Role.OPERATOR, local),)
        is_loopback = _is_loopback(self._host)
        names = {self._host, "localhost", "127.0.0.1", "::1", *self._hosts}
        known = {name.lower() for name in names} if is_loopback else None
        guard = Guard(tokens, hosts=known, is_open=is_loopback and local is not None)
        priority = LoopPriority(is_busy)
        app = _make_app(kernel, guard, priority, is_probed_only=is_probed_only, is_waiting=is_waiting)
        self._is_written = not is_waiting
        connections = Connections(priority, guard)
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
        config = uvicorn.Config(
            RequestLimit(app, guard),
            http=partial(Connection, connections=connections),  # type: ignore[arg-type]  # it is called as the class is
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # what goes wrong in a request is answered, and logged, by the app
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        server = self._server = uvicorn.Server(config)

        def run() -> None:
            use_decimal_context()
            with listener:
                asyncio.run(_serve(server, listener, connections))

        self._thread = threading.Thread(target=run, name="torghut-admin", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; running requests get a second to finish. Stopping twice is harmless."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._server is None or self._thread is None:
            return
        if self._is_written:
            self._file.unlink(missing_ok=True)
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)
        self._server = self._thread = None

    def listen(self) -> None:
        """Bind the address; requests wait until `start`. Listening twice is harmless.

        Raises
        ------
        StateError : the address cannot be used.
        """
        if self._listener is not None:
            return
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._listener = socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            raise StateError(
                f"cannot listen on {self._host}:{self._port}: {reason} "
                "(stop the process that listens there, or give another --port)"
            ) from error
        self._port = self._listener.getsockname()[1]  # the same where it listens anew

    def _write_file(self, content: dict[str, Any]) -> None:
        new = self._file.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        new.replace(self._file)


def _make_app(kernel: Any, guard: Guard, priority: LoopPriority, *, is_probed_only: bool, is_waiting: bool) -> Any:
    if is_waiting:
        from torghut_core.admin.waiting import make_waiting_app

        return make_waiting_app(kernel, guard)
    if is_probed_only:
        from torghut_core.admin.routes.probes import make_probe_app

        return make_probe_app(kernel, guard)
    from torghut_core.admin.app import make_app

    return make_app(kernel, guard, priority)


async def _serve(server: Server, listener: socket.socket, connections: Connections) -> None:
    loop = asyncio.get_running_loop()
    loop.time = monotonic  # type: ignore[method-assign]  # itself: with a clock that a plugin has stopped it would wait for hours
    loop.set_default_executor(DaemonThreads())
    works = [asyncio.ensure_future(work) for work in (connections.watch(), connections.serve())]
    await server.serve(sockets=[listener])
    for work in works:
        work.cancel()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - told apart, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
