"""One connection of a client: bytes in, bytes out. The first bytes tell whether it is HTTP or the stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import h11
import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from torghut_testing.alpaca.faults import HTML, Fault

if TYPE_CHECKING:
    from torghut_testing.alpaca.server import FakeAlpaca, Request

STREAM = b"GET /stream"
DEPRECATED = (
    "this authentication format is being deprecated. Please use the format: "
    '{"action": "auth", "key": "x", "secret": "x"}'
)
Headers = list[tuple[str, str]]


class Answers(Protocol):
    """What is behind an `Http` connection."""

    def register(self, method: str, target: str, body: bytes) -> tuple[Request, Fault | None]:
        """Write down a request, and draw its fault."""

    def take(self, request: Request, headers: dict[str, str], body: bytes) -> tuple[int, Headers, bytes]:
        """Status, headers and body of the answer."""

    def rate_headers(self) -> Headers:
        """What is said of the rate limit."""

    def notify(self) -> None:
        """Something happened."""


class Connection(asyncio.Protocol):
    """A TCP connection, until it is known to be HTTP or the stream; then that one's bytes go through here."""

    transport: asyncio.Transport

    def __init__(self, server: FakeAlpaca) -> None:
        self.server = server
        self.talk: Http | Stream | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.talk is None:
            self._first += data
            if len(self._first) < len(STREAM) and STREAM.startswith(self._first):
                return
            self.talk = (Stream if self._first.startswith(STREAM) else Http)(self.server, self.transport)
            data = self._first
        self.talk.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's argument
        """See `asyncio.Protocol`."""
        self.server.connections.discard(self)
        self.lost.set_result(None)
        self.server.notify()


class Http:
    """A connection that asks and is answered, one request after the other."""

    def __init__(self, server: Answers, transport: asyncio.Transport) -> None:
        self._server = server
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._protocol = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = b""

    def receive(self, data: bytes) -> None:
        """Take bytes from the client, and answer what is whole."""
        self._protocol.receive_data(data)
        self._read()

    def _read(self) -> None:
        try:
            while True:
                event = self._protocol.next_event()
                if isinstance(event, h11.Request):
                    self._request, self._body = event, b""
                    if self._protocol.they_are_waiting_for_100_continue:
                        self._write(h11.InformationalResponse(status_code=100, headers=[]))
                elif isinstance(event, h11.Data):
                    self._body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self._answer()
                else:
                    break
        except h11.RemoteProtocolError:
            self._transport.close()

    def _answer(self) -> None:
        assert self._request is not None
        method, target = self._request.method.decode(), self._request.target.decode()
        headers = {name.decode(): value.decode() for name, value in self._request.headers}
        request, fault = self._server.register(method, target, self._body)

        def take() -> tuple[int, Headers, bytes]:
            return self._server.take(request, headers, self._body)

        if fault is None:
            self._respond(request, *take())
        elif fault.kind == "delay" and not fault.after:
            self._later(fault.seconds, lambda: self._respond(request, *take()))
        else:
            self._misbehave(request, fault, *(take() if fault.after else (0, [], b"")))

    def _misbehave(self, request: Request, fault: Fault, status: int, headers: Headers, body: bytes) -> None:
        match fault.kind:
            case "reject":
                self._respond(request, fault.status, _typed("application/json"), msgspec.json.encode(fault.answer))
            case "throttle":
                waits = [] if fault.retry_after is None else [("Retry-After", f"{fault.retry_after:g}")]
                answer = b'{"message":"too many requests."}'
                self._respond(request, 429, [*self._server.rate_headers(), *waits, *_typed("application/json")], answer)
            case "status":
                answer = b'{"message":"internal server error occurred"}'
                self._respond(request, fault.status, _typed("application/json"), answer)
            case "html":
                self._respond(request, fault.status, _typed("text/html"), HTML % (fault.status, fault.status))
            case "delay":
                self._later(fault.seconds, lambda: self._respond(request, status, headers, body))
            case "truncate":
                self._respond(request, status, headers, body[: len(body) // 2])
            case "drip":
                request.status = status
                self._drip(self._bytes(status, headers, body), 0, fault.seconds)
            case "cut":
                if fault.mid_body:
                    whole = self._bytes(status, headers, body)
                    self._transport.write(whole[: len(whole) - len(body) // 2 - 1])
                self._end()
            case "timeout":
                self._server.notify()  # and that is all that comes

    def _respond(self, request: Request, status: int, headers: Headers, body: bytes) -> None:
        if self._transport.is_closing():
            return
        request.status = status
        self._transport.write(self._bytes(status, headers, body))
        self._server.notify()
        self._next()

    def _next(self) -> None:
        if self._protocol.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._protocol.start_next_cycle()

    def _later(self, seconds: float, call: Any) -> None:
        def go_on() -> None:
            call()
            self._read()

        self._loop.call_later(seconds, go_on)

    def _drip(self, whole: bytes, at: int, seconds: float) -> None:
        if self._transport.is_closing():
            return
        if at == len(whole):
            self._server.notify()
            self._next()
            self._read()
            return
        self._transport.write(whole[at : at + 1])
        self._loop.call_later(seconds, self._drip, whole, at + 1, seconds)

    def _end(self) -> None:
        self._transport.close()  # after what is written; without an answer the client sees the end of the connection

    def _bytes(self, status: int, headers: Headers, body: bytes) -> bytes:
        length = [] if status == 204 else [("Content-Length", str(len(body)))]
        parts = [self._protocol.send(h11.Response(status_code=status, headers=[*headers, *length]))]
        if body:
            parts.append(self._protocol.send(h11.Data(data=body)))
        parts.append(self._protocol.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)

    def _write(self, event: h11.InformationalResponse) -> None:
        self._transport.write(self._protocol.send(event) or b"")


class Stream:
    """A connection of ``trade_updates``."""

    def __init__(self, server: FakeAlpaca, transport: asyncio.Transport) -> None:
        self._server = server
        self._transport = transport
        self._protocol = ServerProtocol()
        self._parts: list[bytes] = []
        self._is_authorized = False
        self.is_listening = False

    def receive(self, data: bytes) -> None:
        """Take bytes from the client, and answer."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Handshake):
                self._protocol.send_response(self._protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._parts.append(bytes(event.data))
                if event.fin:
                    message, self._parts = b"".join(self._parts), []
                    self._hear(message)
        self._flush()
        if self._server.is_muted:
            self.mute(on=True)

    def mute(self, *, on: bool) -> None:
        """Stop reading, so that pings stay without an answer, or go on."""
        if not self._transport.is_closing():
            (self._transport.pause_reading if on else self._transport.resume_reading)()

    def send(self, frame: bytes) -> None:
        """Send a message, if the handshake is done and the connection open."""
        if self._transport.is_closing() or self._protocol.state.name != "OPEN":
            return
        (self._protocol.send_binary if self._server.is_binary else self._protocol.send_text)(frame)
        self._flush()

    def cut(self) -> None:
        """End the connection without a word."""
        self._transport.abort()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:  # the protocol's sign for the end of what we say
                self._transport.close()

    def _say(self, stream: str, **data: Any) -> None:
        self.send(msgspec.json.encode({"stream": stream, "data": data}))

    def _hear(self, message: bytes) -> None:
        try:
            said = msgspec.json.decode(message)
        except msgspec.DecodeError:
            said = None
        if not isinstance(said, dict):
            self._say("error", error="invalid message")
            return
        data = said.get("data")
        if not isinstance(data, dict):
            data = {}
        match said.get("action"):
            case "auth":
                self._authorize(said.get("key"), said.get("secret"))
            case "authenticate":
                self._authorize(data.get("key_id"), data.get("secret_key"), message=DEPRECATED)
            case "listen" if self._is_authorized:
                streams = [name for name in data.get("streams") or [] if name == "trade_updates"]
                self.is_listening = bool(streams)
                self._say("listening", streams=streams)
            case "listen":
                self._say("authorization", status="unauthorized", action="listen")
            case _:
                self._say("error", error="invalid action")
        self._server.notify()

    def _authorize(self, key: Any, secret: Any, **more: str) -> None:
        self._is_authorized = (key, secret) == (self._server.key, self._server.secret)
        if self._server.stream.refuses():
            self._is_authorized = False
        status = "authorized" if self._is_authorized else "unauthorized"
        self._say("authorization", status=status, action="authenticate", **(more if self._is_authorized else {}))


def _typed(content_type: str) -> Headers:
    return [("Content-Type", content_type)]
