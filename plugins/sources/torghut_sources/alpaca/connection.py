"""The connection to the stream: does what `session` decides with a socket of picows, and puts frames into the inbox.

All of it runs in one event loop. The callbacks of the socket handle what arrives, at once; a task watches the deadlines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import picows

from torghut_core import Closed, InputError, Universe
from torghut_sources.alpaca.messages import StreamError, Subscription, Success
from torghut_sources.alpaca.refusals import Policy, Refusal, handshake_refusal, refusal_of
from torghut_sources.alpaca.session import NEVER, RequestKind, Session, State
from torghut_sources.alpaca.wire import Wire

if TYPE_CHECKING:
    from pydantic import SecretStr

    from torghut_sources.alpaca.inbox import Inbox
    from torghut_sources.alpaca.settings import AlpacaSettings

CONTROL = (b"error", b"subscription")
"""One of these is in every control message that may come after the subscription was confirmed."""
CONTROL_LETTER = b"r"
"""It is in each of them and in no trade, quote or bar of JSON; to search for one byte is some twenty times as fast."""
LARGEST_FRAME = 16 * 2**20
"""Bytes of one frame."""

log = logging.getLogger(__name__)
_SILENT = logging.getLogger(f"{__name__}.frames")
_SILENT.setLevel(logging.CRITICAL)  # at DEBUG picows logs what is sent, the keys too


class StreamConnection:
    """Keeps a connection to the stream.

    Parameters
    ----------
    wanted : gives the symbols to subscribe, called whenever `universe` has changed.
    channels : what is subscribed of each.
    answer_s : how long the opening of a socket may take, seconds.
    clock : monotonic time, seconds; wall : the time of day, ns.

    Attributes
    ----------
    connects, losses : connections that were subscribed, and that ended.
    errors : connections that failed or ended, by error class.
    listening_since : time of day at which the first subscription was confirmed, ns.
    """

    def __init__(
        self,
        session: Session,
        inbox: Inbox,
        *,
        settings: AlpacaSettings,
        keys: tuple[SecretStr, SecretStr],
        channels: Sequence[str],
        wire: Wire,
        universe: Universe,
        wanted: Callable[[], list[str]],
        answer_s: float,
        clock: Callable[[], float],
        wall: Callable[[], int],
    ) -> None:
        self.session, self.inbox = session, inbox
        self._settings, self._keys, self._channels, self._wire = settings, keys, channels, wire
        self._universe, self._wanted = universe, wanted
        self._answer_s = answer_s
        self._clock, self._wall = clock, wall
        self.connects = self.losses = 0
        self.errors: Counter[str] = Counter()
        self.listening_since: int | None = None
        self._transport: picows.WSTransport | None = None
        self._hung_up: picows.WSTransport | None = None
        self._is_paused = self._is_closed = False
        self._refused: frozenset[str] = frozenset()
        self._nudge, self._pong = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: self.inbox.wake())

    def close(self) -> None:
        """End the connection for good; `is_over` from now on."""
        self._is_closed = True
        self.session.stop(Closed("closed", "closed"))
        self._hang_up()

    async def end(self) -> None:
        """Close, and wait until its tasks and its socket have ended."""
        transport = self._transport or self._hung_up
        self.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if transport is not None:
            with contextlib.suppress(Exception):  # how it ended does not matter any more
                await transport.wait_disconnected()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, because it was closed.

        Raises
        ------
        InputError : the venue has refused for good.
        """
        if self._is_closed:
            return True
        if self._task is not None and self._task.done():
            self._task.result()
        if self.session.state is State.STOPPED:
            raise InputError(f"alpaca: {self.session.problem.reason}")
        return False

    def resume_reading(self) -> None:
        """Frames were taken from the inbox: read the socket again where there is room."""
        if not self.inbox.has_room:
            return
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self.session.pause(False, self._clock())
            self._transport.underlying_transport.resume_reading()
            self._nudge.set()
        elif not self.session.has_socket:
            self._nudge.set()

    def miss(self, problem: Closed) -> None:
        """Data was missed while the connection is open: fill the gap from the history."""
        self.errors[problem.error_class] += 1
        log.error("alpaca: %s; the history is asked for what was missed", problem.reason)
        self.session.gap()
        self.inbox.miss()
        self.resume_reading()

    def lose(self, problem: Closed, policy: Policy = Policy.RETRY) -> None:
        """Give the connection up, and connect again as the policy says."""
        if self.session.has_socket:
            self.session.lost(problem, self._clock(), policy)
            self._drop()

    async def pong(self) -> None:
        """Ask for a pong and wait for it: it proves that nothing was lost before. Waits for ever where none comes."""
        self._pong.clear()
        self.session.probe(self._clock())
        self._send()
        await self._pong.wait()

    # What the socket reports.

    def opened(self, transport: picows.WSTransport) -> None:
        """The socket is open."""
        if self._is_closed or self.session.state is not State.CONNECTING:
            transport.disconnect(graceful=False)
            return
        self._transport, self._is_paused = transport, False
        self.session.opened(self._clock())
        self._nudge.set()

    def frame(self, transport: picows.WSTransport, payload: bytes) -> None:
        """A whole message arrived."""
        session = self.session
        if transport is not self._transport:
            return
        is_data = True
        if not session.is_subscribed or (CONTROL_LETTER in payload and any(word in payload for word in CONTROL)):
            received = self._wire.read([payload])
            is_data = bool(len(received.events) or received.complaints)
            for message in received.control:
                self._apply_control(message)
            if not session.has_socket:
                return
        now = self._clock()
        session.received(now, is_data=is_data)
        if is_data:
            self.inbox.put(payload, now)
            if not self._is_paused and self.inbox.is_full and session.is_subscribed:
                self._is_paused = True
                session.pause(True, now)
                transport.underlying_transport.pause_reading()
        else:
            self._nudge.set()

    def ponged(self, transport: picows.WSTransport) -> None:
        """A pong arrived."""
        if transport is self._transport:
            self.session.ponged(self._clock())
            self._pong.set()

    def ended(self, transport: picows.WSTransport, reason: str) -> None:
        """The socket is closed, or the venue asks to close it."""
        if transport is self._transport:
            self.lose(Closed(f"the connection ended ({reason})", "disconnected"))

    def _apply_control(self, message: Success | StreamError | Subscription) -> None:
        """Apply a control message: success, error or subscription."""
        session, now = self.session, self._clock()
        was_subscribed = session.is_subscribed
        if isinstance(message, Success):
            if message.text == "connected":
                session.greeted(now)
            elif message.text == "authenticated":
                session.authenticated(now)
        elif isinstance(message, Subscription):
            listed = [set(message.of(channel)) for channel in self._channels]
            session.subscribed(set.intersection(*listed), now)
        else:
            refusal = refusal_of(message.code)
            if refusal.policy is Policy.IGNORE:
                session.authenticated(now)
            elif refusal.policy is Policy.DEGRADE:
                session.too_many_symbols(now)
            else:
                self.lose(_closed(refusal, f"the venue says {message.code} {message.text}"), refusal.policy)
        self._log_refused()
        if session.is_subscribed and not was_subscribed:
            self.connects += 1
            if self.listening_since is None:
                self.listening_since = self._wall()
            log.info("alpaca: %d symbols are subscribed", len(session.confirmed))
            if session.has_gap:
                self.inbox.lose()  # frames of before all symbols were subscribed do not end the gap
            self.inbox.wake()
        self._send()

    def _log_refused(self) -> None:
        refused = self.session.refused
        if refused - self._refused:
            some = ", ".join(sorted(refused)[:10])
            log.error("alpaca: the venue does NOT send %d symbols: %s (%s)", len(refused), some, refusal_of(405).hint)
        self._refused = refused

    # The tasks.

    async def _run(self) -> None:
        universe = asyncio.create_task(self._follow_universe())
        keep = asyncio.create_task(self._keep_connected())
        try:
            await asyncio.wait([universe, keep], return_when=asyncio.FIRST_COMPLETED)
            for task in (universe, keep):
                if task.done():
                    task.result()
        finally:
            universe.cancel()
            keep.cancel()
            await asyncio.wait([universe, keep])

    async def _follow_universe(self) -> None:
        """Subscribe the symbols of the universe, whenever they change."""
        while True:
            wanted = self._wanted()
            if tuple(sorted(wanted)) != self.session.symbols:
                self.session.want(wanted, self._clock())
                self._send()
                self._nudge.set()
            await self._universe.changed()

    async def _keep_connected(self) -> None:
        """Open a socket whenever the session allows it, and watch its deadlines."""
        session = self.session
        while session.state is not State.STOPPED:
            wait = session.deadline - self._clock()
            if wait > 0 or not self.inbox.has_room:
                await self._nudged(wait if wait > 0 else NEVER)
                continue
            session.attempt(self._clock())
            await self._open()
            while session.has_socket:
                self._send()
                await self._nudged(session.deadline - self._clock())
                if session.has_socket and self._clock() >= session.deadline:
                    session.check_clocks(self._clock())
                    if not session.has_socket:
                        self._drop()

    async def _nudged(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(None if seconds == NEVER else max(0.0, seconds)):
                await self._nudge.wait()
        except TimeoutError:
            return
        self._nudge.clear()

    async def _open(self) -> None:
        headers = {"Content-Type": "application/msgpack"} if self._wire.encoding == "msgpack" else {}
        url = self._settings.stream_url
        try:
            async with asyncio.timeout(self._answer_s):
                await picows.ws_connect(
                    lambda: _Listener(self),
                    url,
                    websocket_handshake_timeout=self._answer_s,
                    max_frame_size=LARGEST_FRAME,
                    extra_headers=headers,
                    max_redirects=0,  # the keys are sent to whoever answers
                    logger_name=_SILENT,
                    use_aiofastnet=False,
                )
        except picows.WSHandshakeError as error:
            status = 0 if error.response is None else int(error.response.status)
            refusal = handshake_refusal(status)
            self.lose(_closed(refusal, f"{url} answers the handshake with HTTP {status}"), refusal.policy)
        except TimeoutError:
            self.lose(Closed(f"{url} does not answer within {self._answer_s:g} s", "timeout"))
        except (OSError, picows.WSError) as error:
            self.lose(Closed(f"no connection to {url}: {type(error).__name__}: {error}", "connect"))

    def _send(self) -> None:
        """Send the requests of the session."""
        requests = self.session.requests()
        transport = self._transport
        if transport is None:
            return
        kind = picows.WSMsgType.BINARY if self._wire.encoding == "msgpack" else picows.WSMsgType.TEXT
        for request in requests:
            size = max(1, len(request.symbols))
            if request.kind is RequestKind.PING:
                transport.send_ping()
            elif request.kind is RequestKind.AUTH:
                transport.send(kind, self._wire.auth(*(key.get_secret_value() for key in self._keys)))
            else:
                encode = self._wire.subscribe if request.kind is RequestKind.SUBSCRIBE else self._wire.unsubscribe
                for encoded in encode(request.symbols, self._channels, size):
                    transport.send(kind, encoded)

    def _drop(self) -> None:
        """Log why the session gave the connection up, and close the socket."""
        problem = self.session.problem
        self.losses += 1
        self.errors[problem.error_class] += 1
        log.warning("alpaca: %s: %s", problem.error_class, problem.reason)
        if self.session.has_gap:
            self.inbox.lose()
        self._hang_up()

    def _hang_up(self) -> None:
        transport, self._transport = self._transport, None
        self._is_paused = False
        if transport is not None:
            self._hung_up = transport
            transport.disconnect(graceful=False)
        self._nudge.set()
        self.inbox.wake()


_DATA = frozenset({picows.WSMsgType.TEXT, picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION})


class _Listener(picows.WSListener):
    """Joins the parts of messages and hands them to the connection."""

    def __init__(self, connection: StreamConnection) -> None:
        self._connection = connection
        self._parts: list[bytes] = []

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._connection.opened(transport)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if kind in _DATA:
            payload = frame.get_payload_as_bytes()
            if not frame.fin:
                self._parts.append(payload)
                if sum(map(len, self._parts)) > LARGEST_FRAME:
                    self._connection.ended(transport, f"a message of more than {LARGEST_FRAME} bytes")
                return
            if self._parts:
                payload = b"".join([*self._parts, payload])
                self._parts.clear()
            self._connection.frame(transport, payload)
        elif kind == picows.WSMsgType.PONG:
            self._connection.ponged(transport)
        elif kind == picows.WSMsgType.CLOSE:
            self._connection.ended(transport, f"close frame {frame.get_close_code()}")

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self._connection.ended(transport, "the socket is closed")


def _closed(refusal: Refusal, reason: str) -> Closed:
    return Closed(f"{reason} ({refusal.hint})" if refusal.hint else reason, refusal.error_class)
