"""The venue on loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from torghut_testing.alpaca.connection import Connection, Headers, Stream
from torghut_testing.alpaca.control import Control
from torghut_testing.alpaca.faults import Fault, Faults, StreamFaults
from torghut_testing.alpaca.routes import Routes
from torghut_testing.alpaca.venue import Event, FakeVenue
from torghut_testing.loopback import HOST, Ends, Loopback

SHOWN_RATE_LIMIT = 200
CONTROL = "/_fake/"


class Request(msgspec.Struct, kw_only=True):
    """A request that came: its path with the query, its body, when (nanoseconds since the epoch), what it met.

    `status` is what was answered, None while there is no answer; `fault` the kind of the fault that it met.
    `is_taken` tells whether the venue got to see it.
    """

    method: str
    path: str
    body: str
    at: int
    status: int | None = None
    fault: str | None = None
    is_taken: bool = False


class FakeAlpaca(Loopback):
    """Alpaca's trading API on loopback: REST and ``/stream`` on one port. Serves inside its ``with`` block.

    Parameters
    ----------
    venue : a venue with 100,000 dollars where it is left out.
    port : 0 takes a free one.
    key, secret : what a client has to show.
    state_file : the venue's state is read from it at the start, and written to it at the end and at `restart`.
    binary : whether the stream speaks in binary frames, as the paper endpoint does, or in text.
    rate_limit : requests a minute that are answered before 429 comes; None for no limit.

    Attributes
    ----------
    venue : what is behind it; for scripts.
    faults : what goes wrong with requests.
    stream : what goes wrong with updates and connections of the stream.
    requests : every request that came, but those of scripts, oldest first.
    """

    def __init__(
        self,
        venue: FakeVenue | None = None,
        *,
        port: int = 0,
        key: str = "fake-key",
        secret: str = "fake-secret",  # noqa: S107 - opens nothing but this fake
        state_file: str | Path | None = None,
        binary: bool = True,
        rate_limit: int | None = None,
    ) -> None:
        super().__init__(port, "fake-alpaca")
        self.venue = FakeVenue() if venue is None else venue
        self.key = key
        self.secret = secret
        self.faults = Faults()
        self.stream = StreamFaults(self._command)
        self.requests: list[Request] = []
        self.connections: set[Connection] = set()
        self.is_binary = binary
        self.is_muted = False
        self._state_file = None if state_file is None else Path(state_file)
        self._rate_limit = rate_limit
        self._minute = self._in_minute = 0
        self._routes = Routes(self.venue)
        self._control = Control(self)
        self._tasks: set[asyncio.Task[None]] = set()

    # Life.

    @property
    def url(self) -> str:
        """Where the REST API is."""
        return f"http://{HOST}:{self.port}"

    @property
    def stream_url(self) -> str:
        """Where the stream is."""
        return f"ws://{HOST}:{self.port}/stream"

    def start(self) -> None:
        """Serve; `url` is known from here on.

        Raises
        ------
        OSError : the port is taken.
        ValueError : the state file is none.
        """
        if self._state_file is not None and self._state_file.exists():
            try:
                self.venue.load(self._state_file.read_bytes())
            except msgspec.DecodeError as error:
                raise ValueError(
                    f"{self._state_file} is no state of a fake ({error}): remove it to begin anew"
                ) from None
        super().start()
        self.venue.listeners.append(self._on_event)

    def stop(self) -> None:
        """End all connections, write the state and let go of the port; stopping twice is harmless."""
        if self._loop is None:
            return
        super().stop()
        self.venue.listeners.remove(self._on_event)
        self._save()

    def stop_listening(self) -> None:
        """Refuse new connections; those that are there go on. The port stays ours."""
        self._soon(self._close_listener)

    def listen_again(self) -> None:
        """Take connections again, on the same port."""
        self._soon(self._open_listener)

    def drop_connections(self) -> None:
        """End all connections, also in the middle of an answer."""
        self._soon(self._abort_connections)

    def restart(self) -> None:
        """End all connections, and come back on the same port with the state that was saved."""
        self.stop_listening()
        self.drop_connections()
        with self.venue.lock:
            self._save()
            self.venue.load(self.venue.dump())
        self.listen_again()

    # For tests.

    @property
    def listeners(self) -> int:
        """How many connections of the stream listen to updates."""
        return len(self._streams())

    # What connections ask; in the server's thread.

    def register(self, method: str, target: str, body: bytes) -> tuple[Request, Fault | None]:
        """Write down a request, and draw its fault."""
        request = Request(method=method, path=target, body=body.decode(errors="replace"), at=time.time_ns())
        if target.startswith(CONTROL):
            return request, None
        self.requests.append(request)
        fault = self.faults.draw(method, target.partition("?")[0], body)
        request.fault = None if fault is None else fault.kind
        self.notify()
        return request, fault

    def take(self, request: Request, headers: dict[str, str], body: bytes) -> tuple[int, Headers, bytes]:
        """Let the venue have a request; give status, headers and body of its answer."""
        path, _, query = request.path.partition("?")
        if path.startswith(CONTROL):
            status, value = self._control.answer(request.method, path.removeprefix(CONTROL), body)
            return status, [("Content-Type", "application/json")], msgspec.json.encode(value)
        if (headers.get("apca-api-key-id"), headers.get("apca-api-secret-key")) != (self.key, self.secret):
            return 401, [("Content-Type", "application/json")], b'{"message": "unauthorized"}'
        self._count()
        shown = self.rate_headers()
        if self._rate_limit is not None and self._in_minute > self._rate_limit:
            return 429, [*shown, ("Content-Type", "application/json")], b'{"message":"too many requests."}'
        request.is_taken = True
        status, value = self._routes.answer(request.method, path, query, body)
        if value is None:
            return status, shown, b""
        return status, [*shown, ("Content-Type", "application/json; charset=UTF-8")], msgspec.json.encode(value)

    def rate_headers(self) -> Headers:
        """What the venue says of its limit with each answer."""
        limit = SHOWN_RATE_LIMIT if self._rate_limit is None else self._rate_limit
        return [
            ("X-Ratelimit-Limit", str(limit)),
            ("X-Ratelimit-Remaining", str(max(0, limit - self._in_minute))),
            ("X-Ratelimit-Reset", str((self._minute + 1) * 60)),
        ]

    def _count(self) -> None:
        minute = int(time.time()) // 60
        if minute != self._minute:
            self._minute, self._in_minute = minute, 0
        self._in_minute += 1

    # The thread and its sockets.

    def _accept(self) -> Connection:
        return Connection(self)

    def _connections(self) -> list[Ends]:
        return list(self.connections)

    def _soon(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """As `_run`; in the server's thread, where scripts over HTTP ask for it, do not wait."""
        if self._loop is not None and threading.current_thread() is self._thread:
            self._tasks.add(task := self._loop.create_task(work()))
            task.add_done_callback(self._tasks.discard)
        else:
            self._run(work)

    def _save(self) -> None:
        if self._state_file is not None:
            written = self._state_file.with_name(f"{self._state_file.name}.new")
            written.write_bytes(self.venue.dump())
            written.replace(self._state_file)

    # The stream.

    def _streams(self) -> list[Stream]:
        talks = [connection.talk for connection in list(self.connections)]
        return [talk for talk in talks if isinstance(talk, Stream) and talk.is_listening]

    def _on_event(self, update: Event) -> None:
        loop = self._loop
        if loop is None or not self.connections:
            self.notify()
            return
        frame = msgspec.json.encode({"stream": "trade_updates", "data": update})
        with contextlib.suppress(RuntimeError):  # stopped in between
            loop.call_soon_threadsafe(self._publish, frame)

    def _publish(self, frame: bytes) -> None:
        if self._streams():
            assert self._loop is not None
            for seconds, sent in self.stream.apply(frame):
                if seconds:
                    self._loop.call_later(seconds, self._broadcast, sent)
                else:
                    self._broadcast(sent)
        self.notify()

    def _broadcast(self, frame: bytes) -> None:
        if not self.is_muted:
            for stream in self._streams():
                stream.send(frame)

    def _command(self, name: str, value: Any) -> None:
        """What `StreamFaults` wants done with the connections."""

        async def work() -> None:
            talks = [connection.talk for connection in list(self.connections)]
            streams = [talk for talk in talks if isinstance(talk, Stream)]
            if name == "send":
                self._broadcast(value)
            elif name == "cut":
                for stream in streams:
                    stream.cut()
            else:
                self.is_muted = value
                for stream in streams:
                    stream.mute(on=value)

        self._soon(work)
