"""What goes wrong on demand: with an answer to a request, and with the frames of the stream."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from torghut_testing.loopback import faults
from torghut_testing.loopback.http import JSON, Headers, Reply

Kind = Literal["reject", "throttle", "status", "html", "timeout", "cut", "drip", "delay", "truncate"]
HTML = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr>fake-alpaca</body></html>"


class Fault(faults.Fault, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong with requests that match; made by the class methods, or from JSON with these fields.

    Parameters
    ----------
    kind : what happens; see the class methods.
    method, path, body : which requests: the method, a regular expression for the whole path (without the query), one
        that is found in the body. None matches all; routes of the script (``/_fake/``) never match.
    nth : the first matching request that has the fault, counted from 1.
    times : for how many requests; None for all.
    after : the venue takes the request first.
    """

    kind: Kind
    method: str | None = None
    path: str | None = None
    body: str | None = None
    status: int = 500
    answer: Any = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for pattern in (self.path, self.body):
            faults.require_pattern(pattern)

    @classmethod
    def reject(cls, status: int, answer: Any, **match: Any) -> Fault:
        """Answer with a status and a JSON value; the venue does not take the request."""
        return cls(kind="reject", status=status, answer=answer, **match)

    @classmethod
    def throttle(cls, retry_after: float | None = None, **match: Any) -> Fault:
        """Answer 429, with ``Retry-After`` in seconds where it is given; the venue does not take the request."""
        return cls(kind="throttle", status=429, retry_after=retry_after, **match)

    @classmethod
    def server_error(cls, status: int = 503, *, after: bool = False, **match: Any) -> Fault:
        """Answer with a server's error, before or after the venue took the request."""
        return cls(kind="status", status=status, after=after, **match)

    @classmethod
    def html(cls, status: int = 502, *, after: bool = False, **match: Any) -> Fault:
        """Answer with a page of HTML, as a proxy in between does."""
        return cls(kind="html", status=status, after=after, **match)

    @classmethod
    def drip(cls, seconds: float = 0.05, **match: Any) -> Fault:
        """Take the request, and answer one byte every `seconds`."""
        return cls(kind="drip", seconds=seconds, **match)

    @classmethod
    def delay(cls, seconds: float, *, after: bool = True, **match: Any) -> Fault:
        """Answer `seconds` late: taken at once and answered late, or with ``after=False`` taken late too."""
        return cls(kind="delay", after=after, seconds=seconds, **match)

    @classmethod
    def truncate(cls, **match: Any) -> Fault:
        """Take the request, and answer with the first half of the JSON, as if that were all."""
        return cls(kind="truncate", **match)

    def matches(self, method: str, path: str, body: bytes) -> bool:
        """Whether a request can have this fault."""
        return (
            (self.method is None or self.method == method)
            and (self.path is None or re.fullmatch(self.path, path) is not None)
            and (self.body is None or re.search(self.body, body.decode(errors="replace")) is not None)
        )

    def reply(self, rate_limit: Headers) -> Reply:
        """The answer that a fault of the kinds ``reject``, ``throttle``, ``status`` and ``html`` is."""
        match self.kind:
            case "reject":
                return Reply(self.status, [JSON], msgspec.json.encode(self.answer))
            case "throttle":
                waits = [] if self.retry_after is None else [("Retry-After", f"{self.retry_after:g}")]
                return Reply(429, [*rate_limit, *waits, JSON], b'{"message":"too many requests."}')
            case "html":
                return Reply(self.status, [("Content-Type", "text/html")], HTML % (self.status, self.status))
            case _:
                return Reply(self.status, [JSON], b'{"message":"internal server error occurred"}')


class StreamFaults:
    """What happens to the updates of the stream, and to its connections.

    Updates are counted as they leave the venue, once for all listeners; without a listener, nothing is counted.

    Parameters
    ----------
    send : sends a frame to all listeners.
    cut : ends all connections of the stream.
    mute : mutes them, or speaks again.
    """

    def __init__(self, send: Callable[[bytes], None], cut: Callable[[], None], mute: Callable[[bool], None]) -> None:
        self._send = send
        self._cut = cut
        self._mute = mute
        self._lock = threading.Lock()
        self._dropped = 0
        self._doubled = 0
        self._delayed = 0
        self._seconds = 0.0
        self._reorder: int | None = None
        self._kept_back: bytes | None = None
        self._refused = 0

    def drop(self, count: int = 1) -> None:
        """Lose the next `count` updates."""
        with self._lock:
            self._dropped += count

    def duplicate(self, count: int = 1) -> None:
        """Send each of the next `count` updates twice."""
        with self._lock:
            self._doubled += count

    def reorder(self, behind: int = 1) -> None:
        """Keep the next update back until `behind` later ones are sent."""
        with self._lock:
            self._reorder = behind

    def delay(self, seconds: float, count: int = 1) -> None:
        """Send the next `count` updates `seconds` late; later ones may overtake them."""
        with self._lock:
            self._seconds, self._delayed = seconds, count

    def refuse_auth(self, count: int = 1) -> None:
        """Refuse the next `count` logins, even with the right keys."""
        with self._lock:
            self._refused += count

    def cut(self) -> None:
        """End all connections of the stream, without a close frame."""
        self._cut()

    def mute(self) -> None:
        """Keep the connections open and silent, not even answering pings; updates are lost."""
        self._mute(True)

    def unmute(self) -> None:
        """Send updates and answer pings again."""
        self._mute(False)

    def send(self, message: Any) -> None:
        """Send any JSON value to all listeners, such as an event of an unknown kind."""
        self._send(msgspec.json.encode(message))

    def garbage(self, frame: bytes = b"\x00\xff{not json") -> None:
        """Send a frame that is not JSON to all listeners."""
        self._send(frame)

    def clear(self) -> None:
        """Remove all faults of the stream; an update that was kept back is lost."""
        with self._lock:
            self._dropped = self._doubled = self._delayed = self._refused = 0
            self._reorder = self._kept_back = None
        self.unmute()

    def refuses(self) -> bool:
        """Whether this login is refused; counts it."""
        with self._lock:
            is_refused = self._refused > 0
            self._refused -= is_refused
        return is_refused

    def apply(self, frame: bytes) -> list[tuple[float, bytes]]:
        """The frames to send for an update, each with the seconds to wait before it."""
        with self._lock:
            if self._dropped:
                self._dropped -= 1
                return []
            if self._reorder is not None and self._kept_back is None:
                self._kept_back = frame
                return []
            seconds = 0.0
            if self._delayed:
                self._delayed -= 1
                seconds = self._seconds
            frames = [(seconds, frame)]
            if self._doubled:
                self._doubled -= 1
                frames *= 2
            if self._reorder is not None and self._kept_back is not None:
                self._reorder -= 1
                if self._reorder <= 0:
                    frames.append((0.0, self._kept_back))
                    self._reorder = self._kept_back = None
            return frames
