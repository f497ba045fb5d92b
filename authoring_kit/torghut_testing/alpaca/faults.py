"""What goes wrong on demand: with an answer to a request, and with the frames of the stream."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Literal

import msgspec

Kind = Literal["reject", "throttle", "status", "html", "timeout", "cut", "drip", "delay", "truncate"]
HTML = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr>fake-alpaca</body></html>"


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong with requests that match; made by the class methods, or from JSON with these fields.

    Parameters
    ----------
    kind : what happens; see the class methods.
    method, path, body : which requests: the method, a regular expression for the whole path (without the query), one
        that is found in the body. None matches all; routes of the script (``/_fake/``) never match.
    nth : from which matching request on.
    times : for how many requests; None for all.
    after : the venue takes the request first.
    """

    kind: Kind
    method: str | None = None
    path: str | None = None
    body: str | None = None
    nth: int = 1
    times: int | None = 1
    after: bool = False
    status: int = 500
    answer: Any = None
    retry_after: float | None = None
    seconds: float = 0.0
    mid_body: bool = False
    seen: int = 0
    """How many requests matched so far."""
    fired: int = 0
    """How many it happened to."""

    def __post_init__(self) -> None:
        self.after = self.after or self.mid_body or self.kind in ("drip", "truncate")  # what they spoil is an answer
        for pattern in (self.path, self.body):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None

    @classmethod
    def reject(cls, status: int, answer: Any, **match: Any) -> Fault:
        """Answer with a status and a JSON value; the venue does not take the request."""
        return cls(kind="reject", status=status, answer=answer, **match)

    @classmethod
    def throttle(cls, retry_after: float | None = None, **match: Any) -> Fault:
        """Answer 429, with ``Retry-After`` in seconds where it is given; not taken."""
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
    def timeout(cls, *, after: bool = False, **match: Any) -> Fault:
        """Never answer, before or after the venue took the request."""
        return cls(kind="timeout", after=after, **match)

    @classmethod
    def cut(cls, *, after: bool = False, mid_body: bool = False, **match: Any) -> Fault:
        """Close the connection without an answer; with `mid_body` (then it is taken) in the middle of the body."""
        return cls(kind="cut", after=after, mid_body=mid_body, **match)

    @classmethod
    def drip(cls, seconds: float = 0.05, **match: Any) -> Fault:
        """Take the request, and answer one byte every so many seconds."""
        return cls(kind="drip", seconds=seconds, **match)

    @classmethod
    def delay(cls, seconds: float, *, after: bool = True, **match: Any) -> Fault:
        """Answer late: taken at once and told late, or with ``after=False`` taken late."""
        return cls(kind="delay", after=after, seconds=seconds, **match)

    @classmethod
    def truncate(cls, **match: Any) -> Fault:
        """Take the request, and answer with the first half of the JSON, as if that were all."""
        return cls(kind="truncate", **match)

    def matches(self, method: str, path: str, body: bytes) -> bool:
        """Whether it is about a request."""
        return (
            (self.method is None or self.method == method)
            and (self.path is None or re.fullmatch(self.path, path) is not None)
            and (self.body is None or re.search(self.body, body.decode(errors="replace")) is not None)
        )


class Faults:
    """The faults of the REST routes, in the order in which they were added; one request meets one at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Have `fault` happen; its `fired` tells how often it did."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._faults.clear()

    def draw(self, method: str, path: str, body: bytes) -> Fault | None:
        """What happens to a request; counts it."""
        if not self._faults:
            return None
        drawn = None
        with self._lock:
            for fault in self._faults:
                if not fault.matches(method, path, body):
                    continue
                fault.seen += 1
                is_due = fault.seen >= fault.nth and (fault.times is None or fault.fired < fault.times)
                if drawn is None and is_due:
                    fault.fired += 1
                    drawn = fault
        return drawn


class StreamFaults:
    """What happens to the updates of the stream, and to its connections.

    Updates are counted as they leave the venue, once for all who listen; while nobody does, nothing is counted.
    """

    def __init__(self, command: Callable[[str, Any], None]) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._dropped = 0
        self._doubled = 0
        self._delayed = 0
        self._seconds = 0.0
        self._reorder: int | None = None
        self._held: bytes | None = None
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
        """Send the next `count` updates so many seconds late; what comes after them may overtake them."""
        with self._lock:
            self._seconds, self._delayed = seconds, count

    def refuse_auth(self, count: int = 1) -> None:
        """Refuse the next `count` logins, right keys or not."""
        with self._lock:
            self._refused += count

    def cut(self) -> None:
        """Close all connections of the stream, without a word."""
        self._command("cut", None)

    def mute(self) -> None:
        """Leave the connections open and say nothing on them, not even to a ping; updates are lost."""
        self._command("mute", True)

    def unmute(self) -> None:
        """Speak again."""
        self._command("mute", False)

    def send(self, message: Any) -> None:
        """Send a JSON value of one's own to all who listen, such as an event that nobody knows."""
        self._command("send", msgspec.json.encode(message))

    def garbage(self, frame: bytes = b"\x00\xff{not json") -> None:
        """Send a frame that is no JSON to all who listen."""
        self._command("send", frame)

    def clear(self) -> None:
        """Nothing goes wrong any more; an update that was kept back is lost."""
        with self._lock:
            self._dropped = self._doubled = self._delayed = self._refused = 0
            self._reorder = self._held = None
        self.unmute()

    def refuses(self) -> bool:
        """Whether the login that comes now is refused; counts it."""
        with self._lock:
            is_refused = self._refused > 0
            self._refused -= is_refused
        return is_refused

    def apply(self, frame: bytes) -> list[tuple[float, bytes]]:
        """What is sent for an update, each with the seconds to wait before."""
        with self._lock:
            if self._dropped:
                self._dropped -= 1
                return []
            if self._reorder is not None and self._held is None:
                self._held = frame
                return []
            seconds = 0.0
            if self._delayed:
                self._delayed -= 1
                seconds = self._seconds
            frames = [(seconds, frame)]
            if self._doubled:
                self._doubled -= 1
                frames *= 2
            if self._reorder is not None and self._held is not None:
                self._reorder -= 1
                if self._reorder <= 0:
                    frames.append((0.0, self._held))
                    self._reorder = self._held = None
            return frames
