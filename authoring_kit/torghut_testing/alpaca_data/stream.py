"""A client's connection of the market's stream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from torghut_testing.alpaca_data.attempt import Attempt
from torghut_testing.alpaca_data.events import CHANNELS, Event, frame
from torghut_testing.alpaca_data.faults import CLOSING, ERRORS, Fault

STOCKS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds", "corrections", "cancelErrors")
CRYPTO = ("trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars")
FOLLOWERS = ("corrections", "cancelErrors")
"""Channels of stocks that come with trades, and cannot be subscribed to."""

GRACE = 1.0
"""Seconds that a client has to read what is sent last, before its connection is aborted."""

_PATH = re.compile(r"/v2/(?P<feed>iex|sip|test)|/v1beta3/crypto/(?P<location>[a-z0-9-]+)")
_LETTERS = {channel: letter for letter, channel in CHANNELS.items()}


class StreamServer(Protocol):
    """What a connection of the stream needs of its server."""

    key: str
    secret: str
    per_frame: int
    symbol_limit: int | None
    buffer_limit: int
    auth_timeout: float

    def note(self, path: str, *, is_msgpack: bool) -> Attempt:
        """Note that a client asks for a stream."""

    def draw(self, name: str) -> Fault | None:
        """What goes wrong with this handshake, login or subscription, if anything does."""

    def is_entitled(self, path: str) -> bool:
        """Whether the account has the feed of a path."""

    def admit(self, stream: Stream) -> bool:
        """Whether one more connection of its path may log in."""

    def leave(self, stream: Stream) -> None:
        """A connection ended."""

    def notify(self) -> None:
        """Wake those who wait for a change."""


class Stream(asyncio.Protocol):
    """A connection of the stream."""

    def __init__(self, server: StreamServer, transport: asyncio.Transport) -> None:
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.attempt: Attempt | None = None
        self.is_authorized = False
        self._server = server
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._protocol = ServerProtocol()
        self._parts: list[bytes] = []
        self._is_binary = False
        self._is_crypto = False
        self._wanted: dict[str, set[str]] = {}
        self._silence: Fault | None = None
        self._unread: list[bytes] = []
        self._in_pieces = False
        self._timers: list[asyncio.TimerHandle] = []

    # From the client.

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._silence is not None and not self._silence.pings:
            self._unread.append(data)
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Handshake):
                self._open(event)
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._parts.append(bytes(event.data))
                if event.fin:
                    message, self._parts = b"".join(self._parts), []
                    if self._silence is None:
                        self._handle(message)
        self._flush()
        self._server.notify()

    def _open(self, handshake: Handshake) -> None:
        path = handshake.path.partition("?")[0]
        found = _PATH.fullmatch(path)
        self._is_binary = handshake.headers.get("Content-Type") == "application/msgpack"
        self.attempt = self._server.note(path, is_msgpack=self._is_binary)
        refusal = self._server.draw("handshake")
        if found is None or refusal is not None:
            self.attempt.status = 404 if refusal is None else refusal.code
            self._protocol.send_response(self._protocol.reject(HTTPStatus(self.attempt.status), "refused\n"))
            return
        self._is_crypto = found["feed"] is None
        self._wanted = {channel: set() for channel in (CRYPTO if self._is_crypto else STOCKS)}
        self._protocol.send_response(self._protocol.accept(handshake))
        self._send({"T": "success", "msg": "connected"})
        key, secret = handshake.headers.get("APCA-API-KEY-ID"), handshake.headers.get("APCA-API-SECRET-KEY")
        if key is not None or secret is not None:
            self._authorize(key, secret)
        else:
            self._timers.append(self._loop.call_later(self._server.auth_timeout, self._time_out))

    def _time_out(self) -> None:
        if not self.is_authorized:
            self.error(404)

    def _handle(self, message: bytes) -> None:
        try:
            request = (msgspec.msgpack if self._is_binary else msgspec.json).decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            request = None
        if not isinstance(request, dict):
            self.error(400)
            return
        assert self.attempt is not None
        self.attempt.said.append({name: value for name, value in request.items() if name != "secret"})
        action = request.pop("action", None)
        if action == "auth":
            self._authorize(request.get("key"), request.get("secret"))
        elif action not in ("subscribe", "unsubscribe"):
            self.error(400)
        elif not self.is_authorized:
            self.error(401)
        elif (fault := self._server.draw("subscribe")) is not None:
            self.error(fault.code)
        else:
            self._subscribe(request, removes=action == "unsubscribe")

    def _authorize(self, key: Any, secret: Any) -> None:
        assert self.attempt is not None
        if self.is_authorized:
            self.error(403)
        elif (fault := self._server.draw("auth")) is not None:
            self.error(fault.code)
        elif (key, secret) != (self._server.key, self._server.secret):
            self.error(402)
        elif not self._server.is_entitled(self.attempt.path):
            self.error(409)
        elif not self._server.admit(self):
            self.error(406)
        else:
            self.is_authorized = True
            self._send({"T": "success", "msg": "authenticated"})

    def _subscribe(self, request: dict[str, Any], *, removes: bool) -> None:
        """Change the subscriptions as asked, all or nothing, and answer with the whole list."""
        wanted = {channel: set(symbols) for channel, symbols in self._wanted.items()}
        for channel, symbols in request.items():
            is_list = isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols)
            if channel not in _LETTERS or not is_list:
                self.error(400)
                return
            if channel not in wanted or channel in FOLLOWERS:
                self.error(410)
                return
            (wanted[channel].difference_update if removes else wanted[channel].update)(symbols)
        for channel in FOLLOWERS:
            if channel in wanted:
                wanted[channel] = wanted["trades"]
        limit = self._server.symbol_limit
        if limit is not None and len(set[str]().union(*wanted.values())) > limit:
            self.error(405)
            return
        self._wanted = wanted
        self._send({"T": "subscription"} | {channel: sorted(symbols) for channel, symbols in wanted.items()})

    # To the client.

    @property
    def is_silent(self) -> bool:
        """Whether nothing that is sent now reaches the client."""
        return self._silence is not None or self._transport.is_closing() or self._protocol.state is not OPEN

    def receives(self, symbols: Collection[str]) -> bool:
        """Whether the client is subscribed to all of these symbols, each in some channel, and receives events."""
        subscribed = set[str]().union(*self._wanted.values())
        return not self.is_silent and self.is_authorized and ("*" in subscribed or subscribed.issuperset(symbols))

    def wants(self, event: Event) -> bool:
        """Whether the client is subscribed to an event's channel and symbol."""
        symbols = self._wanted.get(CHANNELS[event.kind], ())
        return ("/" in event.symbol) == self._is_crypto and (event.symbol in symbols or "*" in symbols)

    def deliver(self, events: Sequence[Event]) -> None:
        """Send the events that the client is subscribed to; end its connection (407) if it leaves too much unread."""
        if self.is_silent or not self.is_authorized:
            return
        wanted = [event for event in events if self.wants(event)]
        size = self._server.per_frame
        for first in range(0, len(wanted), size):
            self._put(frame(wanted[first : first + size], is_binary=self._is_binary))
        self._flush()
        if self._transport.get_write_buffer_size() > self._server.buffer_limit:
            self.error(407)

    @property
    def is_behind(self) -> bool:
        """Whether the client has not read everything that was sent to it."""
        return not self.is_silent and self._transport.get_write_buffer_size() > 0

    async def trickle(self, event: Event, seconds: float) -> None:
        """Send one event in two pieces, with a pause between them."""
        if self.is_silent or not self.is_authorized or not self.wants(event):
            return
        self._put(frame([event], is_binary=self._is_binary))
        whole = b"".join(self._protocol.data_to_send())
        self._in_pieces = True  # a pong in between would split the frame
        self._transport.write(whole[: len(whole) // 2])
        await asyncio.sleep(seconds)
        self._in_pieces = False
        if not self._transport.is_closing():
            self._transport.write(whole[len(whole) // 2 :])
            self._flush()

    def send(self, payload: bytes | None = None, message: Any = None) -> None:
        """Send a frame of any bytes, or an array of one message, to a client that has logged in."""
        if self.is_silent or not self.is_authorized:
            return
        if payload is None:
            self._send(message)
        else:
            self._put(payload)
        self._flush()

    def error(self, code: int, *, closes: bool | None = None) -> None:
        """Send an error, and close the connection where Alpaca does."""
        if self.is_silent:
            return
        assert self.attempt is not None
        self.attempt.errors.append(code)
        self._send({"T": "error", "code": code, "msg": ERRORS[code]})
        self._flush()
        if code in CLOSING if closes is None else closes:
            self.close(1000)
        self._server.notify()

    def close(self, code: int) -> None:
        """Close with a close frame; abort if the client does not read it in time."""
        if not self.is_silent:
            self._protocol.send_close(code)
            self._flush()
            self._timers.append(self._loop.call_later(GRACE, self._transport.abort))

    def silence(self, fault: Fault) -> None:
        """Send nothing and read nothing any more, as a ``mute`` or ``half_open`` connection."""
        if self.is_silent:
            return
        self._silence = fault
        if fault.kind == "half_open":
            self._transport.pause_reading()  # so that not even its end is noticed
        if fault.seconds is not None:
            self._timers.append(self._loop.call_later(fault.seconds, self._end_silence))

    def _end_silence(self) -> None:
        assert self._silence is not None
        if self._silence.kind == "half_open":
            self._transport.abort()
            return
        self._silence = None
        unread, self._unread = b"".join(self._unread), []
        if unread:
            self.data_received(unread)
        self._flush()
        self._server.notify()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.has_room.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.has_room.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's argument
        """See `asyncio.Protocol`."""
        self.has_room.set()
        for timer in self._timers:
            timer.cancel()
        self._server.leave(self)

    def _send(self, message: Any) -> None:
        self._put((msgspec.msgpack if self._is_binary else msgspec.json).encode([message]))

    def _put(self, payload: bytes) -> None:
        (self._protocol.send_binary if self._is_binary else self._protocol.send_text)(payload)

    def _flush(self) -> None:
        if self._in_pieces or self._transport.is_closing():
            return
        parts = self._protocol.data_to_send()
        self._transport.write(b"".join(parts))
        if b"" in parts:  # the protocol's sign that nothing more is sent
            self._transport.close()
