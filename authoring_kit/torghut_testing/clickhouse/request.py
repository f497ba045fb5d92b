"""A statement as the server notes it."""

from __future__ import annotations

import msgspec


class Request(msgspec.Struct, kw_only=True):
    """A statement that came: its first line or so, the options of its URL, when (ns since the epoch), what it met.

    `done` says whether the engine has executed it, `fault` the kind of the fault that it met, `status` what was
    answered; None while there is no answer.
    """

    statement: str
    options: dict[str, str]
    at: int
    done: bool = False
    fault: str | None = None
    status: int | None = None
