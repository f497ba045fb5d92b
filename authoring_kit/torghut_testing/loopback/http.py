"""HTTP on a connection: requests in, answers out, and the faults that happen in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

import h11

from torghut_testing.loopback.faults import Fault

Headers = list[tuple[str, str]]
JSON = ("Content-Type", "application/json")
LONGEST_HEAD = 1 << 17
"""Bytes of a request's line and headers: clients put statements and symbols into the query."""


class Reply(NamedTuple):
    """What is answered."""

    status: int
    headers: Headers
    body: bytes


class Noted(Protocol):
    """A request as the server notes it."""

    status: int | None


class Exchange(NamedTuple):
    """A request that came: as it is noted, its fault, and the function that carries it out.

    `carry_out` is called in the server's thread, once at most, with what to call there with the reply: at once or later.
    """

    request: Noted
    fault: Fault | None
    carry_out: Callable[[Callable[[Reply], None]], None]


class HttpServer(Protocol):
    """What HTTP needs of its server."""

    def register(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Exchange:
        """Note a request and draw its fault."""

    def refuse(self, fault: Fault) -> Reply:
        """The answer that a fault of the server's own kinds is."""

    def notify(self) -> None:
        """Wake those who wait for a change."""


class Http(asyncio.Protocol):
    """A connection with requests, one after the other.

    Attributes
    ----------
    is_stalled : a ``timeout`` happened: the connection is open and nothing is answered on it any more.
    """

    def __init__(self, server: HttpServer, transport: asyncio.Transport) -> None:
        self.is_stalled = False
        self._server = server
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._head: h11.Request | None = None
        self._body: list[bytes] = []
        self._is_reading = False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._protocol.receive_data(data)
        self._read()

    def _read(self) -> None:
        """Answer every request that is whole; does nothing where it is under way already."""
        if self._is_reading:
            return
        self._is_reading = True
        try:
            while True:
                event = self._protocol.next_event()
                if isinstance(event, h11.Request):
                    self._head, self._body = event, []
                    if self._protocol.they_are_waiting_for_100_continue:
                        proceed = h11.InformationalResponse(status_code=100, headers=[])
                        self._transport.write(self._protocol.send(proceed) or b"")
                elif isinstance(event, h11.Data):
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._answer()
                else:
                    break
        except h11.RemoteProtocolError:
            self._transport.close()
        finally:
            self._is_reading = False

    def _answer(self) -> None:
        assert self._head is not None
        method, target = self._head.method.decode(), self._head.target.decode()
        headers = {name.decode(): value.decode() for name, value in self._head.headers}
        request, fault, carry_out = self._server.register(method, target, headers, b"".join(self._body))
        if fault is None:
            carry_out(lambda reply: self._respond(request, reply))
        elif fault.kind == "delay" and not fault.after:
            self._loop.call_later(fault.seconds, carry_out, lambda reply: self._respond(request, reply))
        elif fault.after:
            carry_out(lambda reply: self._fail(request, fault, reply))
        else:
            self._fail(request, fault, Reply(0, [], b""))

    def _fail(self, request: Noted, fault: Fault, reply: Reply) -> None:
        """Have the fault happen to a request and its reply."""
        match fault.kind:
            case "timeout":
                self.is_stalled = True
                self._server.notify()
            case "cut":
                if fault.mid_body:
                    whole = self._bytes(reply)
                    self._transport.write(whole[: len(whole) - len(reply.body) // 2 - 1])
                self._transport.close()  # after what is written
            case "delay":
                self._loop.call_later(fault.seconds, self._respond, request, reply)
            case "drip":
                request.status = reply.status
                self._drip(self._bytes(reply), 0, fault.seconds)
            case "truncate":
                self._respond(request, reply._replace(body=reply.body[: len(reply.body) // 2]))
            case _:
                self._respond(request, self._server.refuse(fault))

    def _respond(self, request: Noted, reply: Reply) -> None:
        if self._transport.is_closing():
            return
        request.status = reply.status
        self._transport.write(self._bytes(reply))
        self._server.notify()
        self._next()

    def _next(self) -> None:
        """Go on to the next request."""
        if self._protocol.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._protocol.start_next_cycle()
            self._read()

    def _drip(self, whole: bytes, place: int, seconds: float) -> None:
        if self._transport.is_closing():
            return
        if place == len(whole):
            self._server.notify()
            self._next()
            return
        self._transport.write(whole[place : place + 1])
        self._loop.call_later(seconds, self._drip, whole, place + 1, seconds)

    def _bytes(self, reply: Reply) -> bytes:
        length = [] if reply.status == 204 else [("Content-Length", str(len(reply.body)))]
        parts = [self._protocol.send(h11.Response(status_code=reply.status, headers=[*reply.headers, *length]))]
        if reply.body:
            parts.append(self._protocol.send(h11.Data(data=reply.body)))
        parts.append(self._protocol.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)
