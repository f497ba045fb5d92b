"""A connection of the stream as the market notes it."""

from __future__ import annotations

from typing import Any

import msgspec


class Attempt(msgspec.Struct, kw_only=True):
    """A connection of the stream that a client asked for.

    Attributes
    ----------
    path : which feed.
    at : when, seconds of the monotonic clock.
    status : what the handshake was answered.
    errors : codes that were sent to it, in order.
    said : what the client said, without secrets.
    """

    path: str
    at: float
    is_msgpack: bool
    status: int = 101
    errors: list[int]
    said: list[dict[str, Any]]
