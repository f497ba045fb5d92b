"""The state of a connection to the stream: a table, the deadlines, and what to do next. No IO: the caller owns the socket.

The caller reports what happened (`opened`, `greeted`, ..., `lost`, and `check_clocks` at the `deadline`), each with the
monotonic time in seconds; it sends the requests that `requests` gives, and closes the socket where `has_socket` became
false. A message of the venue that the table does not have is ignored.

**Silence** has three meanings. No answer before the subscription is confirmed: the connection is given up after
`Clocks.answer_s`. Nothing at all is received, not even a pong: half-open, given up `ping_s` after the ping. Pongs come but
no data: mute, given up when data was due for `stale_s` (crypto: always, equities: in regular hours, so not at the opening
bell), else after `quiet_s`. A pause that the caller itself makes (`pause`) counts for none of them.

**Reconnecting** is one attempt at a time. After a failure the wait is drawn evenly from 0 to a ceiling that doubles
(`base_s` up to `max_s`), so that many clients never reconnect at the same moment. After a connection limit (406, also while
the socket that was just lost lingers at the venue) or too many requests (429) the wait is `crowded_s` at least, up to
`crowded_max_s`. Only a connection that gave data for `stable_s` makes the next wait short again.

**Subscriptions** are sent one request at a time, since an answer does not say to which it belongs: a request that exceeds
the limit of symbols (405) is halved until what fits is subscribed; the others are `refused`.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable

import msgspec

from torghut_core import Closed
from torghut_sources.alpaca.refusals import Policy

NEVER = float("inf")
ROUNDS = 3
"""How often symbols are requested that the venue's list of subscriptions leaves out."""


class State(enum.Enum):
    """State of the connection."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    AUTHENTICATING = "authenticating"
    SUBSCRIBING = "subscribing"
    FILLING = "back-filling"
    LIVE = "live"
    STOPPED = "stopped"


class Event(enum.Enum):
    """What may happen to the connection."""

    ATTEMPT = "an attempt begins"
    OPENED = "the socket is open"
    GREETED = "the venue says connected"
    AUTHENTICATED = "the venue accepts the keys"
    CONFIRMED = "every subscription is answered"
    GAP = "data is known to be missing"
    FILLED = "what was missed is given out"
    LOST = "the socket is gone or given up"
    STOPPED = "the venue has refused for good, or the caller is done"


TABLE: dict[State, dict[Event, State]] = {
    State.WAITING: {Event.ATTEMPT: State.CONNECTING},
    State.CONNECTING: {Event.OPENED: State.CONNECTED, Event.LOST: State.WAITING},
    State.CONNECTED: {Event.GREETED: State.AUTHENTICATING, Event.LOST: State.WAITING},
    State.AUTHENTICATING: {Event.AUTHENTICATED: State.SUBSCRIBING, Event.LOST: State.WAITING},
    State.SUBSCRIBING: {Event.CONFIRMED: State.LIVE, Event.GAP: State.FILLING, Event.LOST: State.WAITING},
    State.FILLING: {Event.FILLED: State.LIVE, Event.LOST: State.WAITING},
    State.LIVE: {Event.GAP: State.FILLING, Event.LOST: State.WAITING},
    State.STOPPED: {},
}
"""State x event -> state. `Event.STOPPED` leads from each to `State.STOPPED`."""

INTRODUCTION = {State.CONNECTING, State.CONNECTED, State.AUTHENTICATING, State.SUBSCRIBING}
SUBSCRIBED = (State.FILLING, State.LIVE)


class RequestKind(enum.StrEnum):
    """Kind of request to the venue."""

    AUTH = "auth"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    PING = "ping"


class Request(msgspec.Struct, frozen=True):
    """A request to the venue, with the symbols to subscribe or unsubscribe."""

    kind: RequestKind
    symbols: tuple[str, ...] = ()


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take, seconds; see the module."""

    answer_s: float = 10.0
    ping_s: float = 10.0
    stale_s: float = 30.0
    quiet_s: float = 900.0
    base_s: float = 0.5
    max_s: float = 30.0
    crowded_s: float = 5.0
    crowded_max_s: float = 60.0
    stable_s: float = 30.0


class Session:
    """The connections to the stream, one after the other, until it is stopped.

    Parameters
    ----------
    symbols : what to subscribe.
    batch : symbols per request at most.
    now : the monotonic time, seconds.
    expects_data : whether the market has to give data now; called at each `check_clocks`.
    chance : gives numbers from 0 to 1, for the waits.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        *,
        batch: int,
        now: float,
        clocks: Clocks | None = None,
        expects_data: Callable[[], bool] = lambda: True,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clocks = clocks or Clocks()
        self._batch = batch
        self._expects_data = expects_data
        self._chance = chance
        self._wanted = tuple(sorted(symbols))
        self._state = State.WAITING
        self._problem = Closed("not connected yet", "connecting")
        self._due = now
        self._failures = 0
        self._has_gap = False
        self._outbox: list[Request] = []
        self._queue: deque[Request] = deque()
        self._in_flight: Request | None = None
        self._confirmed: frozenset[str] = frozenset()
        self._refused: set[str] = set()
        self._rounds = 0
        self._is_paused = False
        self._subscribed_at = self._received_at = self._data_at = self._checked_at = now
        self._admitted_at: float | None = None
        self._unusable: str | None = None
        self._pinged_at: float | None = None
        self._expected_at = now if expects_data() else None

    @property
    def state(self) -> State:
        """State of the connection."""
        return self._state

    @property
    def problem(self) -> Closed:
        """Why the last connection ended."""
        return self._problem

    @property
    def has_socket(self) -> bool:
        """Whether the caller has to keep a socket open, or to continue opening it."""
        return self._state not in (State.WAITING, State.STOPPED)

    @property
    def is_subscribed(self) -> bool:
        """Whether everything that happens now comes by the stream: all subscriptions were answered."""
        return self._state in SUBSCRIBED

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that are wanted, in order."""
        return self._wanted

    @property
    def confirmed(self) -> frozenset[str]:
        """The symbols that the venue confirmed."""
        return self._confirmed

    @property
    def refused(self) -> frozenset[str]:
        """The symbols that are wanted and that the venue refused."""
        return frozenset(self._refused)

    @property
    def has_gap(self) -> bool:
        """Whether data is known to be missing."""
        return self._has_gap

    @property
    def subscribed_at(self) -> float:
        """Since when everything that happens comes by the stream, where `is_subscribed`."""
        return self._subscribed_at

    @property
    def deadline(self) -> float:
        """When to call `check_clocks` if nothing happens before."""
        if self._state is State.STOPPED:
            return NEVER
        if self._state not in SUBSCRIBED:
            return self._due
        if self._is_paused:
            return NEVER
        ping = (self._received_at if self._pinged_at is None else self._pinged_at) + self._clocks.ping_s
        if self._in_flight is not None:
            ping = min(ping, self._due)
        stale = max(self._data_at, self._expected_at or 0.0) + self._clocks.stale_s
        return min(ping, stale) if stale > self._checked_at else ping

    def requests(self) -> list[Request]:
        """Return the requests to send now, each once."""
        found = list(self._outbox)
        self._outbox.clear()
        return found

    def attempt(self, now: float) -> None:
        """The caller begins to open a socket; allowed while waiting, from `deadline` on."""
        self._move(Event.ATTEMPT)
        self._await_answer(now)

    def opened(self, now: float) -> None:
        """The socket is open."""
        self._move(Event.OPENED)
        self._await_answer(now)

    def greeted(self, now: float) -> None:
        """The venue said ``connected``."""
        if self._allows(Event.GREETED):
            self._move(Event.GREETED)
            self._outbox.append(Request(RequestKind.AUTH))
            self._await_answer(now)

    def authenticated(self, now: float) -> None:
        """The venue accepted the keys, now or (403) before."""
        if self._allows(Event.AUTHENTICATED):
            self._move(Event.AUTHENTICATED)
            self._confirmed = frozenset()
            self._refused.clear()
            self._rounds = 0
            self._queue.clear()
            self._in_flight = None
            self._send_next(now)

    def subscribed(self, symbols: Collection[str], now: float) -> None:
        """The venue listed the symbols that it sends on all requested channels."""
        if self._state is State.SUBSCRIBING or self.is_subscribed:
            self._confirmed = frozenset(symbols)
            self._refused -= self._confirmed
            self._in_flight = None
            self._send_next(now)

    def too_many_symbols(self, now: float) -> None:
        """The venue refused a request for its limit of symbols (405): what it sends stays as it was."""
        asked, self._in_flight = self._in_flight, None
        if asked is None or asked.kind is not RequestKind.SUBSCRIBE:
            return
        if len(asked.symbols) > 1:
            half = len(asked.symbols) // 2
            for part in (asked.symbols[half:], asked.symbols[:half]):
                self._queue.appendleft(Request(RequestKind.SUBSCRIBE, part))
        else:
            self._refused.update(asked.symbols)
            kept = [request for request in self._queue if request.kind is RequestKind.UNSUBSCRIBE]
            self._refused.update(*(request.symbols for request in self._queue if request.kind is RequestKind.SUBSCRIBE))
            self._queue = deque(kept)
        self._send_next(now)

    def want(self, symbols: Iterable[str], now: float) -> None:
        """Subscribe other symbols, on the connection that is there."""
        self._wanted = tuple(sorted(symbols))
        self._refused.clear()
        self._rounds = 0
        if self._state is State.SUBSCRIBING or self.is_subscribed:
            self._queue.clear()
            self._send_next(now)

    def gap(self) -> None:
        """Data is known to be missing, though the connection may be open."""
        self._has_gap = True
        if self._allows(Event.GAP):
            self._move(Event.GAP)

    def filled(self) -> None:
        """What was missed was given out, and taken."""
        self._has_gap = False
        if self._allows(Event.FILLED):
            self._move(Event.FILLED)

    def received(self, now: float, *, is_data: bool) -> None:
        """A frame arrived."""
        self._received_at = now
        self._pinged_at = None
        if is_data:
            self._data_at = now
            if self._failures and self.is_subscribed and now - self._subscribed_at > self._clocks.stable_s:
                self._failures = 0

    def admitted(self, now: float) -> None:
        """Some of the data that arrived is usable: new or not, of a possible time."""
        self._admitted_at, self._unusable = now, None

    def unusable(self, reason: str) -> None:
        """Data arrived, and none of it is usable."""
        self._unusable = reason

    def ponged(self, now: float) -> None:
        """A pong arrived."""
        self.received(now, is_data=False)

    def pause(self, is_paused: bool, now: float) -> None:
        """The caller stops reading, or reads again: silence means nothing meanwhile."""
        self._is_paused = is_paused
        self._pinged_at = None
        self._received_at = self._data_at = now
        if self._admitted_at is not None:
            self._admitted_at = now

    def check_clocks(self, now: float) -> None:
        """Give the connection up, or send a ping, where the time has come."""
        self._checked_at = now
        if not self._expects_data():
            self._expected_at = None
        elif self._expected_at is None:
            self._expected_at = now
        if self._state in INTRODUCTION:
            if now >= self._due:
                self.lost(
                    Closed(f"no answer within {self._clocks.answer_s:g} s while {self._state.value}", "timeout"), now
                )
            return
        if not self.is_subscribed or self._is_paused:
            return
        if self._in_flight is not None and now >= self._due:
            self.lost(Closed(f"no answer to a subscription within {self._clocks.answer_s:g} s", "timeout"), now)
        elif self._pinged_at is not None and now >= self._pinged_at + self._clocks.ping_s:
            self.lost(
                Closed(f"nothing received, not even a pong, for {now - self._received_at:.1f} s", "half-open"), now
            )
        elif self._confirmed and self._is_mute(now):
            self.lost(Closed(f"open, but no data for {now - self._data_at:.1f} s", "mute"), now)
        elif self._pinged_at is None and now >= self._received_at + self._clocks.ping_s:
            self._pinged_at = now
            self._outbox.append(Request(RequestKind.PING))

    def probe(self, now: float) -> None:
        """Send a ping now, unless a pong is awaited already."""
        if self.is_subscribed and self._pinged_at is None:
            self._pinged_at = now
            self._outbox.append(Request(RequestKind.PING))

    def lost(self, problem: Closed, now: float, policy: Policy = Policy.RETRY) -> None:
        """The socket is closed, or is to be, for a reason that has a policy."""
        if self._state is State.STOPPED:
            return
        if policy is Policy.STOP:
            self.stop(problem)
            return
        if self._confirmed:
            self._has_gap = True
        if self._state is not State.WAITING:
            self._move(Event.LOST)
        self._problem = problem
        self._confirmed = frozenset()
        self._in_flight = self._pinged_at = None
        self._is_paused = False
        self._outbox.clear()
        clocks = self._clocks
        if policy is Policy.WAIT:
            ceiling = min(clocks.crowded_max_s, clocks.crowded_s * 2.0 ** min(self._failures, 20))
            pause = max(clocks.crowded_s, ceiling / 2)
            pause += (max(ceiling, 1.5 * pause) - pause) * self._chance()
        else:
            pause = min(clocks.max_s, clocks.base_s * 2.0 ** min(self._failures, 20)) * self._chance()
        self._failures += 1
        self._due = now + pause

    def stop(self, problem: Closed) -> None:
        """No more attempts: the venue has refused for good, or the caller is done."""
        self._state = State.STOPPED
        self._problem = problem
        self._confirmed = frozenset()
        self._outbox.clear()

    def gates(self, now: float) -> dict[str, Closed | None]:
        """Return why data is not complete, by ``auth``, ``subscription``, ``backfill`` and ``freshness``; None where it is."""
        is_in = self._state is State.SUBSCRIBING or self.is_subscribed
        auth = None if is_in else self._problem
        backfill = None
        if self._has_gap:
            backfill = Closed(f"a gap is not filled yet ({self._problem.reason})", "backfill")
        return {
            "auth": auth,
            "subscription": self._subscription(),
            "backfill": backfill,
            "freshness": self._freshness(now),
        }

    def _subscription(self) -> Closed | None:
        if not self._wanted:
            return Closed("no symbol of this market is wanted (see the universe and ALPACA_MARKET_TYPE)", "universe")
        missing = len(set(self._wanted) - self._confirmed - self._refused)
        if missing or not self.is_subscribed:
            return Closed(f"{missing} of {len(self._wanted)} symbols are not confirmed", "subscription")
        if not self._confirmed:
            return Closed(f"the venue sends none of {len(self._wanted)} symbols (see its log)", "symbol-limit")
        return None

    def _freshness(self, now: float) -> Closed | None:
        if self._admitted_at is None:
            since = "yet"
        elif self._is_paused or now - self._admitted_at <= self._clocks.stale_s:
            return None
        else:
            since = f"for {now - self._admitted_at:.0f} s"
        if self._unusable is not None:
            return Closed(f"no data {since} that can be used: {self._unusable}", "unusable")
        return Closed(f"no data {since}", "stale") if self._expects_data() else None

    def _is_mute(self, now: float) -> bool:
        since = max(self._data_at, self._subscribed_at)
        if now - since >= self._clocks.quiet_s:
            return True
        return self._expected_at is not None and now - max(since, self._expected_at) >= self._clocks.stale_s

    def _allows(self, event: Event) -> bool:
        return event in TABLE[self._state]

    def _move(self, event: Event) -> None:
        """Move to the state that the table says.

        Raises
        ------
        RuntimeError : the caller reported an event that is not possible in this state.
        """
        if not self._allows(event):
            raise RuntimeError(f"{event.value!r} is not possible while {self._state.value}")
        self._state = TABLE[self._state][event]

    def _await_answer(self, now: float) -> None:
        self._due = now + self._clocks.answer_s

    def _send_next(self, now: float) -> None:
        """Send the next request; when none is left, the subscription is confirmed."""
        if self._in_flight is not None:
            return
        if not self._queue:
            self._plan_requests()
        if self._queue:
            self._in_flight = self._queue.popleft()
            self._outbox.append(self._in_flight)
            self._await_answer(now)
        elif self._state is State.SUBSCRIBING:
            self._subscribed_at = self._data_at = self._received_at = now
            self._checked_at = now
            self._move(Event.GAP if self._has_gap else Event.CONFIRMED)

    def _plan_requests(self) -> None:
        """Queue requests for the difference between wanted and confirmed; what is missing after `ROUNDS` is refused."""
        gone = sorted(self._confirmed.difference(self._wanted))
        new = [symbol for symbol in self._wanted if symbol not in self._confirmed and symbol not in self._refused]
        if not gone and not new:
            self._rounds = 0
            return
        if self._rounds == ROUNDS:
            self._refused.update(new)
            return
        self._rounds += 1
        self._queue.extend(Request(RequestKind.UNSUBSCRIBE, part) for part in self._parts(gone))
        self._queue.extend(Request(RequestKind.SUBSCRIBE, part) for part in self._parts(new))

    def _parts(self, symbols: list[str]) -> list[tuple[str, ...]]:
        return [tuple(symbols[start : start + self._batch]) for start in range(0, len(symbols), self._batch)]
