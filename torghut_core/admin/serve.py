"""The process of the admin API: a web server that asks the kernel in another process. `api_process` starts it.

Its standard input is a socket to that process: over it come what to serve, the listener, the sockets to the kernel, and then
the word to stop. Where the other end is closed the other process has ended, and this one ends at once: the port is free.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from torghut_core.admin.api_process import READY, Served
from torghut_core.admin.auth import Guard
from torghut_core.admin.kernel_calls import RemoteKernel
from torghut_core.admin.worker_pools import CALLS_AT_ONCE
from torghut_core.concurrency import DaemonThreads

if TYPE_CHECKING:
    from uvicorn import Server

    from torghut_core.admin.connections import Connections

NICE = 5
"""How much the process that serves gives way to the one that trades, where both want the same core: it gets a third of its time."""


def serve(control: socket.socket, on_lost: Callable[[], object], on_start: Callable[[], object] = lambda: None) -> None:
    """Serve what the process at the other end of a socket hands over, until it says to stop.

    `on_start` is called when all is imported and made, `on_lost` where the other process ends without a word.
    """
    control.sendall(READY)
    text, files, *_ = socket.recv_fds(control, 1 << 16, 1 + CALLS_AT_ONCE)
    listener, *sockets = (socket.socket(fileno=file) for file in files) if files else (None,)
    while listener is not None and not text.endswith(b"\n"):
        more = control.recv(1 << 16)
        text, listener = text + more, listener if more else None
    if listener is None:
        return
    stop = threading.Event()
    threading.Thread(target=_watch, args=(control, stop, on_lost), name="torghut-watch", daemon=True).start()
    server, connections = _make_server(msgspec.json.decode(text, type=Served), RemoteKernel(sockets))
    with ExitStack() as stack:
        for each in (listener, *sockets):
            stack.enter_context(each)
        on_start()
        asyncio.run(_run(server, connections, listener, stop))


def _watch(control: socket.socket, stop: threading.Event, on_lost: Callable[[], object]) -> None:
    with suppress(OSError):
        while control.recv(1):
            stop.set()
    on_lost()


def _make_server(served: Served, kernel: RemoteKernel) -> tuple[Server, Connections]:
    import uvicorn

    from torghut_core.admin.app import APPS
    from torghut_core.admin.connections import Connection, Connections
    from torghut_core.admin.request_limit import RequestLimit

    guard = Guard(served.tokens, hosts=served.hosts, is_open=served.is_open)
    connections = Connections(guard)
    config = uvicorn.Config(
        RequestLimit(APPS[served.routes](kernel, guard), guard),
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
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # it ends on the other process's word
    return server, connections


async def _run(server: Server, connections: Connections, listener: socket.socket, stop: threading.Event) -> None:
    asyncio.get_running_loop().set_default_executor(DaemonThreads())

    async def end() -> None:
        await asyncio.to_thread(stop.wait)
        server.should_exit = True

    works = [asyncio.ensure_future(work) for work in (connections.watch(), connections.serve(), end())]
    await server.serve(sockets=[listener])
    for work in works:
        work.cancel()


def main() -> None:
    """Serve, and leave signals to the process that trades: a signal to both must not take the answers away first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        serve(socket.socket(fileno=0), partial(os._exit, 1), partial(os.nice, NICE))


if __name__ == "__main__":
    main()
