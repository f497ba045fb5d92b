"""The market on loopback: stream and REST history on one port."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import pyarrow as pa

from torghut_testing.alpaca.faults import Fault as RestFault
from torghut_testing.alpaca_data.attempt import Attempt
from torghut_testing.alpaca_data.corporate_actions import CorporateActions
from torghut_testing.alpaca_data.events import Event, event_of
from torghut_testing.alpaca_data.faults import RESHAPING, Fault
from torghut_testing.alpaca_data.history import BadRequest, History
from torghut_testing.alpaca_data.playback import Playback
from torghut_testing.alpaca_data.stream import GRACE, Stream
from torghut_testing.alpaca_data.tapes import messages_of
from torghut_testing.loopback import faults
from torghut_testing.loopback.faults import Faults
from torghut_testing.loopback.http import Exchange, Headers, Http, Reply
from torghut_testing.loopback.request import Request
from torghut_testing.loopback.server import HOST, Loopback

SHOWN_RATE_LIMIT = 200
GARBAGE = b'[{"T":"t",'
"""Not JSON, and not MessagePack either: bytes are left over."""

_REST = re.compile(r"/v2/(?P<stocks>stocks)/(trades|quotes|bars)|/v1beta3/crypto/[a-z0-9-]+/(trades|quotes|bars)")


class FakeMarketData(Loopback):
    """Alpaca's market data on loopback. Serves inside its ``with`` block.

    Parameters
    ----------
    port : 0 takes a free one.
    key, secret : credentials that a client has to send.
    per_frame : messages in a frame at most.
    connection_limit : connections of one path that may be logged in at a time (else 406); None for no limit.
    linger : seconds for which a connection that ended still counts for that limit.
    symbol_limit : symbols that one connection may be subscribed to (else 405); None for no limit.
    buffer_limit : bytes that a client may leave unread (else 407).
    auth_timeout : seconds that a client has to log in (else 404).
    entitled : feeds (``iex``, ``sip``, ``test``; for crypto locations such as ``us``) that the account may use (else 409,
        and 403 by REST); None for all.
    history_limit : trades, quotes and bars that REST keeps; the oldest are dropped first.

    Attributes
    ----------
    attempts : every connection of the stream that a client asked for, oldest first.
    requests : every REST request that came, oldest first.
    rest_faults : faults of REST requests; a `RestFault` each.
    history : the events so far; its `empty_pages` is a fault of REST.
    actions : the corporate actions that REST returns.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        key: str = "fake-key",
        secret: str = "fake-secret",  # noqa: S107 - opens nothing but this fake
        per_frame: int = 20,
        connection_limit: int | None = 1,
        linger: float = 0.0,
        symbol_limit: int | None = None,
        buffer_limit: int = 4 << 20,
        auth_timeout: float = 10.0,
        entitled: Collection[str] | None = None,
        history_limit: int = 1_000_000,
    ) -> None:
        super().__init__(port, "fake-market-data")
        self.key = key
        self.secret = secret
        self.per_frame = per_frame
        self.connection_limit = connection_limit
        self.linger = linger
        self.symbol_limit = symbol_limit
        self.buffer_limit = buffer_limit
        self.auth_timeout = auth_timeout
        self.entitled = entitled
        self.attempts: list[Attempt] = []
        self.requests: list[Request] = []
        self.rest_faults: Faults[RestFault] = Faults()
        self.history = History(history_limit)
        self.actions = CorporateActions()
        self._armed: list[tuple[str, Fault]] = []
        self._admitted: list[Stream] = []
        self._playback: Playback | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def url(self) -> str:
        """Where the stream is: a source adds the feed's path."""
        return f"ws://{HOST}:{self.port}"

    @property
    def rest_url(self) -> str:
        """Where the REST history is."""
        return f"http://{HOST}:{self.port}"

    # For tests.

    def play(
        self,
        events: pa.Table | Iterable[Mapping[str, Any] | Event],
        *,
        speed: float | None = None,
        retime: bool = False,
        faults: Iterable[Fault] = (),
        wait_for: Collection[str] = (),
    ) -> Playback:
        """Play events in this order; returns at once.

        Parameters
        ----------
        events : messages as Alpaca prints them, or a table with the columns of a tape. A list or table is encoded at once;
            an iterator, or a tape that is shifted, while it is played: then its errors are the playback's.
        speed : seconds of the tape per second; None for as fast as every client reads. At a speed the market waits for no
            client: one that is too slow gets error 407.
        retime : shift the tape so that its first event is now.
        faults : what goes wrong, each before the event of its index.
        wait_for : play only while a client is subscribed to all of these symbols, at the start and after each fault.

        Raises
        ------
        ValueError : something that is not an event.
        RuntimeError : another playback is running.
        """
        if self._playback is not None and not self._playback.is_done:
            raise RuntimeError("another playback is running (wait for it, or stop it)")
        if speed is not None and not speed > 0:
            raise ValueError(f"speed {speed!r} must be above 0 (or None for as fast as clients read)")
        encoded = _encoded(events, retime=retime)
        if isinstance(events, Sequence | pa.Table) and not retime:
            encoded = iter(list(encoded))
        playback = Playback(self, encoded, speed=speed, faults=faults, wait_for=wait_for)

        async def start() -> None:
            self._playback = playback
            self._task = asyncio.create_task(playback.run())

        self._run(start)
        return playback

    def stop_playing(self) -> None:
        """End the playback; the rest of its events never happen."""
        self._run(self._stop_playing)

    def record(self, events: pa.Table | Iterable[Mapping[str, Any] | Event]) -> None:
        """Add events to the REST history that no stream sends, such as those of an earlier time."""
        encoded = list(_encoded(events, retime=False))

        async def work() -> None:
            self.happen(encoded)

        self._run(work)

    def strike(self, fault: Fault) -> None:
        """Let a fault happen now.

        Raises
        ------
        ValueError : it affects the next events of a playback.
        """
        if fault.kind in RESHAPING or fault.lost:
            raise ValueError(f"{fault!r} affects events: give it to play(faults=...)")
        self._run(lambda: self.suffer(fault, lambda: None))

    def send(self, message: Any) -> None:
        """Send any message to all clients that are logged in."""

        async def work() -> None:
            for stream in self.talks(Stream):
                stream.send(message=message)

        self._run(work)

    @property
    def listeners(self) -> int:
        """How many clients are logged in and receive events."""
        return sum(stream.is_authorized and not stream.is_silent for stream in self.talks(Stream))

    def is_heard(self, symbols: Collection[str]) -> bool:
        """Whether a client is subscribed to all of these symbols, each in some channel, and receives events."""
        return any(stream.receives(symbols) for stream in self.talks(Stream))

    # Called by a playback, in the server's thread.

    def happen(self, events: Iterable[Event]) -> None:
        """Add events to the history."""
        self.history.add(events)

    def deliver(self, events: Sequence[Event]) -> None:
        """Send events to the clients that are subscribed to them."""
        for stream in self.talks(Stream):
            stream.deliver(events)

    async def trickle(self, event: Event, seconds: float) -> None:
        """Send one event in two pieces, with a pause between them."""
        await asyncio.gather(*(stream.trickle(event, seconds) for stream in self.talks(Stream)))

    async def drained(self) -> None:
        """Wait until every client has taken most of what it was sent."""
        for stream in self.talks(Stream):
            await stream.has_room.wait()

    async def change(self) -> None:
        """Wait for a change."""
        self._waiting.append(waiting := asyncio.get_running_loop().create_future())
        await waiting

    async def suffer(self, fault: Fault, meanwhile: Callable[[], None]) -> None:
        """Let a fault happen; `meanwhile` is called while no client receives events."""
        if fault.is_armed:
            name = "handshake" if fault.kind == "handshake" else fault.when
            self._armed += [(name, fault)] * fault.count
            return
        if fault.deafens:
            await self._emptied()
        if fault.kind == "restart":
            self._close_listener()
            ended = self._abort_connections()
        elif fault.kind == "cut":
            ended = self._abort_streams()
        else:
            for stream in self.talks(Stream):
                _strike(stream, fault)
            ended = None
        task = None if ended is None else asyncio.ensure_future(ended)
        if task is not None:
            await asyncio.sleep(0)  # lets it abort; no client connects before the lost events have happened
        meanwhile()
        if task is not None:
            await task
        if fault.kind == "restart":
            await asyncio.sleep(0.1 if fault.seconds is None else fault.seconds)
            self._open_listener()
        self.notify()

    # Called by connections, in the server's thread.

    def notify(self) -> None:
        """Wake those who wait for a change."""
        super().notify()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def note(self, path: str, *, is_msgpack: bool) -> Attempt:
        """Note that a client asks for a stream."""
        self.attempts.append(Attempt(path=path, at=time.monotonic(), is_msgpack=is_msgpack, errors=[], said=[]))
        return self.attempts[-1]

    def draw(self, name: str) -> Fault | None:
        """What goes wrong with this handshake, login or subscription, if anything does."""
        for place, (armed, fault) in enumerate(self._armed):
            if armed == name:
                del self._armed[place]
                return fault
        return None

    def is_entitled(self, path: str) -> bool:
        """Whether the account has the feed of a path."""
        return self.entitled is None or path.rpartition("/")[2] in self.entitled

    def admit(self, stream: Stream) -> bool:
        """Whether one more connection of its path may log in."""
        assert stream.attempt is not None
        others = [other for other in self._admitted if cast("Attempt", other.attempt).path == stream.attempt.path]
        if self.connection_limit is not None and len(others) >= self.connection_limit:
            return False
        self._admitted.append(stream)
        return True

    def leave(self, stream: Stream) -> None:
        """A connection ended; it counts for the limit until its `linger` is over."""
        if stream not in self._admitted:
            return
        if self.linger:
            asyncio.get_running_loop().call_later(self.linger, self._forget, stream)
        else:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self._admitted.remove(stream)
        self.notify()

    def talk(self, head: bytes, transport: asyncio.Transport) -> asyncio.Protocol:
        """See `Loopback`."""
        return (Stream if b"\r\nupgrade: websocket" in head.lower() else Http)(self, transport)

    def register(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Exchange:
        """Note a REST request and draw its fault."""
        request = Request(method=method, path=target, body=body.decode(errors="replace"), at=time.time_ns())
        self.requests.append(request)
        path = target.partition("?")[0]
        fault = self.rest_faults.draw(lambda fault: fault.matches(method, path, body))
        request.fault = None if fault is None else fault.kind
        self.notify()
        return Exchange(request, fault, lambda reply: reply(self._reply(request, headers)))

    def refuse(self, fault: faults.Fault) -> Reply:
        """The answer that a fault is."""
        assert isinstance(fault, RestFault)
        return fault.reply(self.rate_limit())

    def _reply(self, request: Request, headers: dict[str, str]) -> Reply:
        path, _, query = request.path.partition("?")
        status: int
        answer: dict[str, Any]
        try:
            status, answer = 200, self._answer(request.method, path, query, headers)
            request.is_taken = True
        except BadRequest as refused:
            status, answer = refused.status, {"message": str(refused)}
        content = ("Content-Type", "application/json; charset=UTF-8")
        return Reply(status, [*self.rate_limit(), content], msgspec.json.encode(answer))

    def _answer(self, method: str, path: str, query: str, headers: dict[str, str]) -> dict[str, Any]:
        shown = headers.get("apca-api-key-id"), headers.get("apca-api-secret-key")
        if shown != (self.key, self.secret):
            raise BadRequest(403, "forbidden.") if any(shown) else BadRequest(401, "authorization required")
        if method == "GET" and path == "/v1/corporate-actions":
            return self.actions.page(query)
        found = _REST.fullmatch(path)
        if method != "GET" or found is None:
            raise BadRequest(404, "endpoint not found.")
        feed = re.search(r"(?:^|&)feed=(\w+)", query)
        if found["stocks"] and feed and not self.is_entitled(feed[1]):
            raise BadRequest(403, f"subscription does not permit querying {feed[1]} data")
        return self.history.page(path.rpartition("/")[2], query, is_crypto=not found["stocks"])

    def rate_limit(self) -> Headers:
        """The headers about the rate limit, which is never reached."""
        minute = str((int(time.time()) // 60 + 1) * 60)
        limit = str(SHOWN_RATE_LIMIT)
        return [("X-Ratelimit-Limit", limit), ("X-Ratelimit-Remaining", limit), ("X-Ratelimit-Reset", minute)]

    # Connections.

    async def _emptied(self) -> None:
        """Wait until clients have read what was sent, for `GRACE` at most, so that a fault comes exactly at its event."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                while any(stream.is_behind for stream in self.talks(Stream)):  # noqa: ASYNC110 - a transport reports a shorter queue, not an empty one
                    await asyncio.sleep(0.001)

    async def _abort_streams(self) -> None:
        ended = [connection for connection in self.connections if isinstance(connection.talk, Stream)]
        for connection in ended:
            connection.transport.abort()
        await asyncio.gather(*(connection.lost for connection in ended))

    async def _stop_playing(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _shut(self) -> None:
        await self._stop_playing()
        await super()._shut()


def _strike(stream: Stream, fault: Fault) -> None:
    match fault.kind:
        case "mute" | "half_open":
            stream.silence(fault)
        case "close":
            stream.close(fault.code or 1001)
        case "garbage":
            stream.send(payload=GARBAGE)
        case "unknown":
            stream.send(message={"T": "zz", "S": "AAPL", "beyond": [1]})
        case _:
            stream.error(fault.code)


def _encoded(events: pa.Table | Iterable[Mapping[str, Any] | Event], *, retime: bool) -> Iterator[Event]:
    given: Iterable[Mapping[str, Any] | Event] = messages_of(events) if isinstance(events, pa.Table) else events
    shift: int | None = None if retime else 0
    for message in given:
        event = message if isinstance(message, Event) else event_of(message)
        if shift is None:
            shift = time.time_ns() - event.at
        yield event_of(msgspec.json.decode(event.wire), shift) if shift else event
