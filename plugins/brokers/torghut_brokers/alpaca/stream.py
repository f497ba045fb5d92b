"""The stream ``trade_updates``: a thread that stays connected, and reports when it is not.

Protocol: content/api-references/trading-api/streaming.md of github.com/alpacahq/alpaca-docs, read 2026-11-21 (its form of
the log-in is deprecated by now, as the venue's answer says). Authenticate, ask for the stream, wait until that is confirmed;
then each message is one change of one order, in text frames on the live venue and in binary ones on the paper venue. What
is missed while the connection is down is not sent again: the kernel looks it up.

alpaca-py has a reader of this stream. It is not used, because it loses the message of an error and waits for ever on a
connection that is open and mute. Here, after half of `timeout` without a frame a ping is sent, and without a pong within
the other half the connection is given up.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, reconnect

from torghut_brokers.alpaca.wire import TradeUpdate, read_update

if TYPE_CHECKING:
    from pydantic import SecretStr

STREAM = "trade_updates"
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Pauses between attempts to connect, seconds: doubled from the first to the second, less a random share up to a half."""
_SILENT = logging.getLogger(f"{__name__}.frames")
_SILENT.setLevel(logging.CRITICAL)  # at DEBUG websockets logs each frame, the one with the keys too
_LISTEN = msgspec.json.encode({"action": "listen", "data": {"streams": [STREAM]}}).decode()


class Unauthorized(Exception):
    """The venue refused the keys, or this stream to them."""


class Mute(Exception):
    """The connection is open and nothing comes, not even an answer to a ping."""


class Connect(reconnect):
    """Opens a connection to the configured address, and to no other: the keys are sent to whoever answers."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Follow none."""
        return exc


class Stream:
    """Keeps a connection to the stream and passes its updates on.

    Parameters
    ----------
    url : ``wss://.../stream``.
    timeout_seconds : limit for connecting, and until a mute connection is noticed.
    on_update : called in the stream's thread with each update; an exception that it raises skips only that update.
    use_proxies : whether the proxies that the environment names are used.
    """

    def __init__(
        self,
        url: str,
        key_id: SecretStr,
        secret_key: SecretStr,
        timeout_seconds: float,
        on_update: Callable[[TradeUpdate], None],
        *,
        use_proxies: bool,
    ) -> None:
        self._url = url
        self._key_id, self._secret_key = key_id, secret_key
        self._timeout = timeout_seconds
        self._on_update = on_update
        self._use_proxies = use_proxies
        self._problem = "not connected yet"
        self._connection: ClientConnection | None = None
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alpaca-trade-updates", daemon=True)

    @property
    def problem(self) -> str:
        """Why no updates come now; "" while the venue has confirmed the stream."""
        return self._problem

    def start(self) -> None:
        """Start to connect, without waiting for it."""
        self._thread.start()

    def close(self) -> None:
        """End the connection and the thread; waits a second for it at most."""
        self._is_closing.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError, WebSocketException):
                connection.close()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        failures = 0
        while not self._is_closing.is_set():
            began = time.monotonic()
            try:
                self._read_stream()
            except Unauthorized as error:
                self._problem = str(error)
            except Exception as error:  # whatever it is, the thread has to retry: nothing else would
                self._problem = f"down ({type(error).__name__})"
            failures = 0 if time.monotonic() - began > LONGEST_PAUSE else failures + 1
            pause = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures - 1, 20))
            self._is_closing.wait(pause * random.uniform(0.5, 1.0))
        self._problem = "closed"

    def _read_stream(self) -> None:
        """Connect and read until the connection ends."""
        proxy: Any = True if self._use_proxies else None
        with Connect(
            self._url,
            open_timeout=self._timeout,
            close_timeout=0.5,
            logger=_SILENT,
            ping_interval=None,  # pinged by `_next`, in the one thread that reads
            proxy=proxy,
            max_size=2**20,
        ) as connection:
            self._connection = connection
            try:
                if self._is_closing.is_set():
                    return
                self._authenticate(connection)
                self._problem = ""
                while True:
                    self._handle(self._next(connection))
            finally:
                self._problem = self._problem or "down"
                self._connection = None

    def _authenticate(self, connection: ClientConnection) -> None:
        keys = {"key": self._key_id.get_secret_value(), "secret": self._secret_key.get_secret_value()}
        connection.send(msgspec.json.encode({"action": "auth", **keys}).decode())
        until = time.monotonic() + self._timeout
        asked = False
        while time.monotonic() < until:
            message = _decoded(connection.recv(max(0.0, until - time.monotonic())))
            stream, data = message.get("stream"), message.get("data") or {}
            if stream == "authorization":
                if data.get("status") != "authorized":
                    raise Unauthorized(f"unauthorized to {data.get('action') or 'authenticate'} (check the keys)")
                if not asked:
                    asked = True
                    connection.send(_LISTEN)
            elif stream == "listening" and STREAM in data.get("streams", ()):
                return
        raise TimeoutError

    def _next(self, connection: ClientConnection) -> str | bytes:
        pong: threading.Event | None = None
        while True:
            try:
                return connection.recv(self._timeout / 2)
            except TimeoutError:
                if pong is not None and not pong.is_set():
                    raise Mute from None
                pong = connection.ping()

    def _handle(self, frame: str | bytes) -> None:
        message = _decoded(frame)
        stream, data = message.get("stream"), message.get("data")
        if stream == STREAM:
            # What cannot be read is left to the kernel, which looks up each order that it waits for.
            with contextlib.suppress(ValueError, ArithmeticError):
                self._on_update(read_update(data))
        elif stream == "authorization" and isinstance(data, dict) and data.get("status") != "authorized":
            raise Unauthorized("no longer authorized (check the keys)")


def _decoded(frame: str | bytes) -> dict[str, Any]:
    """Return the message in a frame; empty for one that is none."""
    try:
        message = msgspec.json.decode(frame)
    except Exception:  # whatever the bytes are
        return {}
    return message if isinstance(message, dict) else {}
