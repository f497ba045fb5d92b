"""A client's connection of ``trade_updates``."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from torghut_testing.alpaca.faults import StreamFaults

DEPRECATED = (
    "this authentication format is being deprecated. Please use the format: "
    '{"action": "auth", "key": "x", "secret": "x"}'
)


class StreamServer(Protocol):
    """What a connection of the stream needs of its server."""

    key: str
    secret: str
    is_binary: bool
    is_muted: bool
    stream: StreamFaults

    def notify(self) -> None:
        """Wake those who wait for a change."""


class Stream(asyncio.Protocol):
    """A connection of ``trade_updates``.

    Attributes
    ----------
    is_listening : the client has logged in and asked for updates.
    """

    def __init__(self, server: StreamServer, transport: asyncio.Transport) -> None:
        self._server = server
        self._transport = transport
        self._protocol = ServerProtocol()
        self._parts: list[bytes] = []
        self._is_authorized = False
        self.is_listening = False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Handshake):
                self._protocol.send_response(self._protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._parts.append(bytes(event.data))
                if event.fin:
                    message, self._parts = b"".join(self._parts), []
                    self._handle(message)
        self._flush()
        if self._server.is_muted:
            self.mute(on=True)

    def mute(self, *, on: bool) -> None:
        """Stop reading, so that not even pings are answered, or read again."""
        if not self._transport.is_closing():
            (self._transport.pause_reading if on else self._transport.resume_reading)()

    def send(self, frame: bytes) -> None:
        """Send a message, if the handshake is done and the connection open."""
        if self._transport.is_closing() or self._protocol.state.name != "OPEN":
            return
        (self._protocol.send_binary if self._server.is_binary else self._protocol.send_text)(frame)
        self._flush()

    def cut(self) -> None:
        """End the connection without a close frame."""
        self._transport.abort()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:  # the protocol's sign that nothing more is sent
                self._transport.close()

    def _answer(self, stream: str, **data: Any) -> None:
        self.send(msgspec.json.encode({"stream": stream, "data": data}))

    def _handle(self, message: bytes) -> None:
        try:
            request = msgspec.json.decode(message)
        except msgspec.DecodeError:
            request = None
        if not isinstance(request, dict):
            self._answer("error", error="invalid message")
            return
        data = request.get("data")
        if not isinstance(data, dict):
            data = {}
        match request.get("action"):
            case "auth":
                self._authorize(request.get("key"), request.get("secret"))
            case "authenticate":
                self._authorize(data.get("key_id"), data.get("secret_key"), message=DEPRECATED)
            case "listen" if self._is_authorized:
                streams = [name for name in data.get("streams") or [] if name == "trade_updates"]
                self.is_listening = bool(streams)
                self._answer("listening", streams=streams)
            case "listen":
                self._answer("authorization", status="unauthorized", action="listen")
            case _:
                self._answer("error", error="invalid action")
        self._server.notify()

    def _authorize(self, key: Any, secret: Any, **more: str) -> None:
        self._is_authorized = (key, secret) == (self._server.key, self._server.secret)
        if self._server.stream.refuses():
            self._is_authorized = False
        status = "authorized" if self._is_authorized else "unauthorized"
        self._answer("authorization", status=status, action="authenticate", **(more if self._is_authorized else {}))
