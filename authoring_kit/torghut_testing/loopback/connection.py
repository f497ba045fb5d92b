"""A client's connection: bytes in, bytes out. Its first request shows what is spoken on it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Server(Protocol):
    """What a connection needs of its server."""

    connections: set[Connection]

    def talk(self, head: bytes, transport: asyncio.Transport) -> asyncio.Protocol:
        """What takes the bytes of a connection whose first request has this head: HTTP, or a stream."""

    def notify(self) -> None:
        """Wake those who wait for a change."""


class Connection(asyncio.Protocol):
    """A TCP connection; once the head of its first request is there, everything goes to its `talk`."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.talk: asyncio.Protocol | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server = server
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.talk is None:
            self._head += data
            if b"\r\n\r\n" not in self._head:
                return
            data = self._head
            self.talk = self._server.talk(data.partition(b"\r\n\r\n")[0], self.transport)
        self.talk.data_received(data)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self.talk is not None:
            self.talk.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self.talk is not None:
            self.talk.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._server.connections.discard(self)
        if self.talk is not None:
            self.talk.connection_lost(exc)
        self.lost.set_result(None)
        self._server.notify()
