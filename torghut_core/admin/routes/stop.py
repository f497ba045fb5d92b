"""Reading a request to stop: whatever its body is, it stops trading."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from litestar import Request

LARGEST = 1 << 20
"""Bytes of a body that are read; the rest is left out."""

BODY_SECONDS = 1.0
"""How long a stop waits for the rest of its body."""

_FORM = 'send {"reason": "why", "flatten": true}'


class Stop(NamedTuple):
    """The reason of a stop, "" where it has none; whether to close positions; and what of its body was not understood."""

    reason: str
    flatten: bool
    problems: list[str]


async def read_stop(request: Request[Any, Any, Any]) -> Stop:
    """Read the body of a stop, as far as it comes within `BODY_SECONDS`."""
    body, more = bytearray(), True
    with suppress(TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            while more and len(body) <= LARGEST:
                message: Any = await request.receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
    return parse_stop(bytes(body[:LARGEST]))


def parse_stop(body: bytes) -> Stop:
    """Understand the body of a stop as far as possible: what is no JSON object is the reason. Never raises.

    Positions are closed only where `flatten` is true in a JSON object, for that cannot be taken back.

    Examples
    --------
    >>> parse_stop(b'{"reason": "fat finger", "flatten": true}')
    Stop(reason='fat finger', flatten=True, problems=[])
    >>> parse_stop(b"get out")
    Stop(reason='get out', flatten=False, problems=['the body is no JSON object, positions stay as they are (send {"reason": "why", "flatten": true})'])
    """
    text = body.decode("utf-8-sig", "replace").strip()
    try:
        value = msgspec.json.decode(text) if text else {}
    except (msgspec.DecodeError, RecursionError):
        value = text
    if not isinstance(value, dict):
        reason = value if isinstance(value, str) else "" if value is None else text
        return Stop(reason, False, [f"the body is no JSON object, positions stay as they are ({_FORM})"])
    reason, flatten = value.pop("reason", None), value.pop("flatten", None)
    problems = []
    if flatten is not None and not isinstance(flatten, bool):
        problems.append(f"flatten is not true or false, positions stay as they are ({_FORM})")
    if value:
        problems.append(f"what else is in the body has no effect: {', '.join(map(repr, value))} ({_FORM})"[:500])
    if not isinstance(reason, str):
        reason = "" if reason is None else msgspec.json.encode(reason).decode()
    return Stop(reason, flatten is True, problems)
