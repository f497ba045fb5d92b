"""The venue on loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import msgspec

from torghut_testing.alpaca.control import Control
from torghut_testing.alpaca.faults import Fault, StreamFaults
from torghut_testing.alpaca.routes import Routes
from torghut_testing.alpaca.stream import Stream
from torghut_testing.alpaca.venue import Event, FakeVenue
from torghut_testing.loopback import faults
from torghut_testing.loopback.faults import Faults
from torghut_testing.loopback.http import JSON, Exchange, Headers, Http, Reply
from torghut_testing.loopback.request import Request
from torghut_testing.loopback.server import HOST, Loopback

SHOWN_RATE_LIMIT = 200
CONTROL = "/_fake/"


class FakeAlpaca(Loopback):
    """Alpaca's trading API on loopback: REST and ``/stream`` on one port. Serves inside its ``with`` block.

    Parameters
    ----------
    venue : one with 100,000 dollars where it is left out.
    port : 0 takes a free one.
    key, secret : credentials that a client has to send.
    state_file : the venue's state is loaded from it at the start, and saved to it at the end and at `restart`.
    binary : whether the stream sends binary frames, as the paper endpoint does, or text.
    rate_limit : requests a minute that are answered before 429; None for no limit.

    Attributes
    ----------
    venue : the exchange behind it, for scripts.
    faults : of requests.
    stream : faults of the stream's updates and connections.
    requests : every request that came, except those of scripts, oldest first.
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
        self.faults: Faults[Fault] = Faults()
        self.stream = StreamFaults(self._send, self._cut, self._mute)
        self.requests: list[Request] = []
        self.is_binary = binary
        self.is_muted = False
        self._state_file = None if state_file is None else Path(state_file)
        self._rate_limit = rate_limit
        self._minute = self._in_minute = 0
        self._routes = Routes(self.venue)
        self._control = Control(self)

    # Life.

    @property
    def stream_url(self) -> str:
        """Where the stream is."""
        return f"ws://{HOST}:{self.port}/stream"

    def start(self) -> None:
        """Serve; `url` is known from here on.

        Raises
        ------
        OSError : the port is taken.
        ValueError : the state file does not hold a state.
        """
        if self._state_file is not None and self._state_file.exists():
            try:
                self.venue.load(self._state_file.read_bytes())
            except msgspec.DecodeError as error:
                raise ValueError(
                    f"{self._state_file} is not the state of a fake venue ({error}): remove it to start without"
                ) from None
        super().start()
        self.venue.listeners.append(self._on_event)

    def stop(self) -> None:
        """End all connections, save the state and free the port; stopping twice is harmless."""
        if self._loop is None:
            return
        super().stop()
        self.venue.listeners.remove(self._on_event)
        self._save()

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
        return len(self._listeners())

    # Called by connections, in the server's thread.

    def talk(self, head: bytes, transport: asyncio.Transport) -> asyncio.Protocol:
        """See `Loopback`."""
        return (Stream if head.startswith(b"GET /stream") else Http)(self, transport)

    def register(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Exchange:
        """Note a request and draw its fault; requests of scripts are neither noted nor faulty."""
        request = Request(method=method, path=target, body=body.decode(errors="replace"), at=time.time_ns())
        path = target.partition("?")[0]
        if path.startswith(CONTROL):
            return Exchange(request, None, lambda reply: reply(self._obey(request, body)))
        self.requests.append(request)
        fault = self.faults.draw(lambda fault: fault.matches(method, path, body))
        request.fault = None if fault is None else fault.kind
        self.notify()
        return Exchange(request, fault, lambda reply: reply(self._reply(request, headers, body)))

    def refuse(self, fault: faults.Fault) -> Reply:
        """The answer that a fault is."""
        assert isinstance(fault, Fault)
        return fault.reply(self.rate_limit())

    def _obey(self, request: Request, body: bytes) -> Reply:
        """Do what a script asks for."""
        name = request.path.partition("?")[0].removeprefix(CONTROL)
        status, value = self._control.answer(request.method, name, body)
        return Reply(status, [JSON], msgspec.json.encode(value))

    def _reply(self, request: Request, headers: dict[str, str], body: bytes) -> Reply:
        """Have the venue answer a request."""
        path, _, query = request.path.partition("?")
        if (headers.get("apca-api-key-id"), headers.get("apca-api-secret-key")) != (self.key, self.secret):
            return Reply(401, [JSON], b'{"message": "unauthorized"}')
        self._count()
        limit = self.rate_limit()
        if self._rate_limit is not None and self._in_minute > self._rate_limit:
            return Reply(429, [*limit, JSON], b'{"message":"too many requests."}')
        request.is_taken = True
        status, value = self._routes.answer(request.method, path, query, body)
        if value is None:
            return Reply(status, limit, b"")
        return Reply(status, [*limit, ("Content-Type", "application/json; charset=UTF-8")], msgspec.json.encode(value))

    def rate_limit(self) -> Headers:
        """The headers about the rate limit, which come with each answer."""
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

    def _save(self) -> None:
        if self._state_file is not None:
            written = self._state_file.with_name(f"{self._state_file.name}.new")
            written.write_bytes(self.venue.dump())
            written.replace(self._state_file)

    # The stream.

    def _listeners(self) -> list[Stream]:
        return [stream for stream in self.talks(Stream) if stream.is_listening]

    def _on_event(self, update: Event) -> None:
        loop = self._loop
        if loop is None or not self.connections:
            self.notify()
            return
        frame = msgspec.json.encode({"stream": "trade_updates", "data": update})
        with contextlib.suppress(RuntimeError):  # the server was stopped meanwhile
            loop.call_soon_threadsafe(self._publish, frame)

    def _publish(self, frame: bytes) -> None:
        if self._listeners():
            assert self._loop is not None
            for seconds, sent in self.stream.apply(frame):
                if seconds:
                    self._loop.call_later(seconds, self._broadcast, sent)
                else:
                    self._broadcast(sent)
        self.notify()

    def _broadcast(self, frame: bytes) -> None:
        if not self.is_muted:
            for stream in self._listeners():
                stream.send(frame)

    # What `StreamFaults` does with the connections.

    def _send(self, frame: bytes) -> None:
        self._do(lambda: self._broadcast(frame))

    def _cut(self) -> None:
        self._do(self._cut_streams)

    def _cut_streams(self) -> None:
        for stream in self.talks(Stream):
            stream.cut()

    def _mute(self, on: bool) -> None:
        self._do(lambda: self._mute_streams(on))

    def _mute_streams(self, on: bool) -> None:
        self.is_muted = on
        for stream in self.talks(Stream):
            stream.mute(on=on)
