"""Faults of the stream on demand, as plain values."""

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
"""Texts of the stream's errors, by code."""

CLOSING = frozenset({402, 404, 406, 407, 408, 409, 411, 500})
"""Codes after which the connection is closed."""

RESHAPING = frozenset({"slow", "duplicate", "reorder"})
"""Kinds that change how the next events are sent; only a playback can have them."""

ON_REQUEST = frozenset({"auth", "subscribe"})


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong, before an event of a playback (`at`) or at once (`FakeMarketData.strike`).

    Parameters
    ----------
    kind : what happens to every open connection of the stream.

        ``mute`` : it stays open, and nothing is sent, for `seconds`; pings are answered with `pings`.
        ``cut`` : it is aborted.
        ``half_open`` : nothing is sent, nothing is read and its end goes unnoticed, for `seconds`; then it is aborted.
            Until then it counts for the connection limit (406).
        ``close`` : it is closed with a close frame of `code` (1001 where 0).
        ``restart`` : it is aborted, and the port does not listen for `seconds`; REST neither.
        ``slow`` : the next `count` events are sent one by one, each in two pieces `seconds` apart.
        ``duplicate`` : the next `count` events are sent twice each.
        ``reorder`` : the next `count` events are sent in reverse order.
        ``garbage`` : a frame is sent that cannot be decoded.
        ``unknown`` : a message of an unknown type is sent.
        ``error`` : the error `code` is sent, at once, or in answer to the next `count` requests that `when` names.
        ``handshake`` : the next `count` handshakes are answered with HTTP status `code`.
    at : index of the event before which it happens, counted from 0 in its playback.
    count : number of events or requests that it affects.
    lost : number of events that happen next and reach no client: for kinds that end or silence connections.
    seconds : its duration; None is without end where it has a duration, and 0.01 for ``slow``, 0.1 for ``restart``.
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
            raise ValueError(f"{self!r}: not an error of the stream (use {', '.join(map(str, ERRORS))})")
        if self.kind == "handshake" and not 400 <= self.code < 600:
            raise ValueError(f"{self!r}: the code of a refused handshake is an HTTP status from 400 to 599")
        if self.lost and not self.deafens:
            raise ValueError(f"{self!r}: this fault neither ends nor silences connections, so lost must be 0")

    @property
    def deafens(self) -> bool:
        """Whether no client receives events right after it."""
        if self.kind == "error":
            return self.when == "stream" and self.code in CLOSING
        return self.kind in ("mute", "cut", "half_open", "close", "restart")

    @property
    def is_armed(self) -> bool:
        """Whether it waits for a client's next request, and so needs no open connection."""
        return self.kind == "handshake" or self.when in ON_REQUEST
