"""A server on loopback in a thread of its own, whose listener and connections a test can end.

It accepts by itself: asyncio's own server loses a socket that it accepted just before it is closed.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from torghut_testing.loopback.connection import Connection

HOST = "127.0.0.1"
T = TypeVar("T")
Talk = TypeVar("Talk", bound=asyncio.Protocol)


class Loopback(ABC):
    """Serves inside its ``with`` block.

    Attributes
    ----------
    port : where it listens; 0 takes a free one.
    is_listening : whether it accepts connections now.
    connections : those that are open.
    """

    def __init__(self, port: int, name: str) -> None:
        self.port = port
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self.is_listening = False
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._happened = 0
        self._changed = threading.Condition()

    @abstractmethod
    def talk(self, head: bytes, transport: asyncio.Transport) -> asyncio.Protocol:
        """What takes the bytes of a connection whose first request has this head: HTTP, or a stream."""

    @property
    def url(self) -> str:
        """Where HTTP is served."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; `port` is known from here on.

        Raises
        ------
        OSError : the port is taken.
        """
        self._bind()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(self._loop,), name=self._name, daemon=True)
        self._thread.start()
        self._do(self._open_listener)

    def stop(self) -> None:
        """End all connections and free the port; stopping twice is harmless."""
        if self._loop is None or self._thread is None:
            return
        self._run(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None
        if self._socket is not None:
            self._socket.close()

    def stop_listening(self) -> None:
        """Refuse new connections; open ones stay, and the port stays ours."""
        self._do(self._close_listener)

    def listen_again(self) -> None:
        """Accept connections again, on the same port."""
        self._do(self._open_listener)

    def drop_connections(self) -> None:
        """End all connections, also in the middle of an answer."""
        if threading.current_thread() is self._thread:  # a script asks for it over HTTP, and hears the answer first
            self._tasks.add(task := asyncio.ensure_future(self._abort_connections()))
            task.add_done_callback(self._tasks.discard)
        else:
            self._run(self._abort_connections)

    def wait_until(self, is_so: Callable[[], Any], timeout: float = 60.0) -> None:
        """Wait until `is_so` returns something true; it is called after each change here.

        Raises
        ------
        TimeoutError : it did not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        seen = self._happened
        while not is_so():
            with self._changed:
                if not self._changed.wait_for(partial(self._is_past, seen), deadline - time.monotonic()):
                    raise TimeoutError(f"the awaited condition did not happen in {timeout} s")
                seen = self._happened

    def _is_past(self, seen: int) -> bool:
        return self._happened != seen

    def notify(self) -> None:
        """Wake those who wait for a change."""
        with self._changed:
            self._happened += 1
            self._changed.notify_all()

    def talks(self, kind: type[Talk]) -> list[Talk]:
        """What is spoken on the open connections, as far as it is of a kind."""
        return [each.talk for each in list(self.connections) if isinstance(each.talk, kind)]

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function in the server's thread, and wait for it."""
        if self._loop is None:
            raise RuntimeError("the fake is not started (use it in a with block)")
        if threading.current_thread() is self._thread:
            raise RuntimeError("the fake's own thread cannot wait for itself (call this from the test's thread)")
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    def _do(self, work: Callable[[], None]) -> None:
        """Call a function in the server's thread, and wait for it; callable from there too."""

        async def call() -> None:
            work()

        if threading.current_thread() is self._thread:
            work()
        else:
            self._run(call)

    def _bind(self) -> None:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((HOST, self.port))
            bound.setblocking(False)
        except OSError:
            bound.close()
            raise
        self._socket, self.port = bound, bound.getsockname()[1]

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def _open_listener(self) -> None:
        if not self.is_listening:
            assert self._loop is not None
            assert self._socket is not None
            self._socket.listen(1024)
            self._loop.add_reader(self._socket, self._take_client, self._loop, self._socket)
            self.is_listening = True

    def _take_client(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # the client is gone again
            return
        self._arriving.add(task := loop.create_task(self._welcome(loop, client)))
        task.add_done_callback(self._arriving.discard)

    async def _welcome(self, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        client.setblocking(False)
        await loop.connect_accepted_socket(self._connect, client)

    def _connect(self) -> Connection:
        return Connection(self)

    def _close_listener(self) -> None:
        if self.is_listening:
            assert self._loop is not None
            assert self._socket is not None
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self.is_listening = False
            self._bind()  # bound and not listening: connections are refused, and no other process gets the port

    async def _abort_connections(self) -> None:
        if self._arriving:
            await asyncio.wait(self._arriving)
        ended = list(self.connections)
        for connection in ended:
            connection.transport.abort()
        await asyncio.gather(*(connection.lost for connection in ended))

    async def _shut(self) -> None:
        self._close_listener()
        await self._abort_connections()
