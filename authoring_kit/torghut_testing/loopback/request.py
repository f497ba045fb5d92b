"""A request as a stand-in notes it."""

from __future__ import annotations

import msgspec


class Request(msgspec.Struct, kw_only=True):
    """A request that came: its path with the query, its body, when (nanoseconds since the epoch), what it met.

    `status` is what was answered, None while there is no answer; `fault` the kind of the fault that it met.
    `is_taken` says whether what is behind the server got to see it.
    """

    method: str
    path: str
    body: str
    at: int
    status: int | None = None
    fault: str | None = None
    is_taken: bool = False
