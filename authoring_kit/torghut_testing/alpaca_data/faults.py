"""What goes wrong with the stream on demand, as plain values."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal[
    "mute",
    "cut",
    "half_open",
    "close",
    "restart",
    "slow",
    "duplicate",
    "reorder",
    "garbage",
    "unknown",
    "error",
    "handshake",
]

ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    408: "v2 not enabled",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
    411: "insufficient scope",
    500: "internal error",
}
"""Text by code of the stream's errors."""

CLOSING = frozenset({402, 404, 406, 407, 408, 409, 411, 500})
"""Codes after which the connection is closed."""

GOES_ON = frozenset({"slow", "duplicate", "reorder"})
"""Kinds that change how the next events are sent; they are of a playback only."""

BEFOREHAND = frozenset({"auth", "subscribe"})


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong, before an event of a playback (`at`) or at once (`FakeMarketData.strike`).

    Parameters
    ----------
    kind : what happens to every connection of the stream that is open then.

        ``mute`` : it stays, and nothing comes any more, for `seconds`; pings are answered with `pings`.
        ``cut`` : it is aborted.
        ``half_open`` : nothing comes, nothing is read and its end is not noticed, for `seconds`; then it is aborted.
            Until then it counts for the connection limit (406).
        ``close`` : it is closed with a close frame of `code` (1001 where 0).
        ``restart`` : it is aborted, and the port does not listen for `seconds`; REST neither.
        ``slow`` : the next `count` events come alone, each in two pieces `seconds` apart.
        ``duplicate`` : the next `count` events come twice each.
        ``reorder`` : the next `count` events come in reverse order.
        ``garbage`` : a frame comes that cannot be decoded.
        ``unknown`` : a message of an unknown type comes.
        ``error`` : the error `code` comes, in the stream, or in answer to the next `count` requests that `when` names.
        ``handshake`` : the next `count` handshakes are answered by HTTP status `code`.
    at : index of the event before which it happens, counted from 0 in its playback.
    count : how many events or requests it is about.
    lost : so many of the next events happen while nobody hears: for kinds that end or silence connections.
    seconds : how long; None is for good where something has a length, and 0.01 for ``slow``, 0.1 for ``restart``.
    """

    kind: Kind
    at: int = 0
    count: int = 1
    lost: int = 0
    seconds: float | None = None
    code: int = 0
    when: Literal["stream", "auth", "subscribe"] = "stream"
    pings: bool = False

    def __post_init__(self) -> None:
        if min(self.at, self.lost, self.count - 1) < 0 or (self.seconds or 0) < 0:
            raise ValueError(f"{self!r}: at, lost and seconds must not be negative, count at least 1")
        if self.kind == "error" and self.code not in ERRORS:
            raise ValueError(f"{self!r}: no error of the stream (use {', '.join(map(str, ERRORS))})")
        if self.kind == "handshake" and not 400 <= self.code < 600:
            raise ValueError(f"{self!r}: the code of a refused handshake is an HTTP status from 400 to 599")
        if self.lost and not self.deafens:
            raise ValueError(f"{self!r}: after this connections hear all the same; lost must be 0")

    @property
    def deafens(self) -> bool:
        """Whether nobody hears right after it."""
        if self.kind == "error":
            return self.when == "stream" and self.code in CLOSING
        return self.kind in ("mute", "cut", "half_open", "close", "restart")

    @property
    def is_armed(self) -> bool:
        """Whether it waits for what clients do, and needs none to be there."""
        return self.kind == "handshake" or self.when in BEFOREHAND
