"""What an error answer means: one table from HTTP status, code and message to the errors of torghut.

The venue uses one code for several refusals (40310000 for want of money, wash trades, blocked accounts), so the message
decides where the code cannot. Recorded answers: https://github.com/alpacahq/alpaca-py/issues/225 and 260,
https://forum.alpaca.markets/t/13817, https://github.com/Lumiwealth/lumibot/issues/373 (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from torghut_core import DuplicateOrder, OrderRefused, Throttled, Unanswered, VenueError, retry_after

NOT_FOUND = "not-found"
NOT_WORKING = "not-working"

FORBIDDEN: tuple[tuple[str, str], ...] = (
    ("buying power", "buying-power"),
    ("insufficient balance", "buying-power"),
    ("wash trade", "wash-trade"),
    ("insufficient qty", "insufficient-quantity"),
    ("insufficient quantity", "insufficient-quantity"),
    ("not allowed to short", "shorts-forbidden"),
    ("cannot be sold short", "shorts-forbidden"),
    ("rejected by user request", "trading-blocked"),
    ("trading is blocked", "trading-blocked"),
    ("account is restricted", "trading-blocked"),
    ("not authorized to trade", "trading-blocked"),
    ("pattern day trad", "day-trades"),
)
"""Code of a 403 by what its message holds (lower case); the first that fits. All others are ``refused``."""

CODES: tuple[str, ...] = (
    *dict.fromkeys(code for _, code in FORBIDDEN),
    "refused",
    "unauthorized",
    "forbidden",
    "bad-request",
    NOT_FOUND,
    NOT_WORKING,
    "invalid-order",
    "too-many-changes",
)
"""Every code that an `OrderRefused` of this broker carries."""

_NOT_WORKING = ("is not open", "not cancelable", "already in", "is not replaceable", "cannot replace", "order is done")
LONGEST = 300
"""Characters of a venue's message that are passed on."""


def error_of(status: int, headers: Mapping[str, str], body: bytes, now: float) -> VenueError:
    """The error that an answer other than 2xx stands for.

    Parameters
    ----------
    status, headers, body : of the answer; `headers` is case-insensitive.
    now : seconds since the epoch, to tell how long a limit still holds.
    """
    fields = _fields(body)
    message = _message(status, fields)
    if status == 429:
        return Throttled(message, retry_after(headers, now))
    if status >= 500 or status < 400 or fields is None:
        return Unanswered(message)
    code, said = fields.get("code"), message.lower()
    if status == 401:
        return OrderRefused("unauthorized", message)
    if status == 403:
        if code is None:
            return OrderRefused("forbidden", message)
        return OrderRefused(next((name for words, name in FORBIDDEN if words in said), "refused"), message)
    if status == 404:
        # Without a code it comes from a proxy or a wrong path: taken for "no such order", the order would be sent twice.
        return Unanswered(message) if code is None else OrderRefused(NOT_FOUND, message)
    if status == 422:
        if "client_order_id" in said and ("unique" in said or "duplicate" in said):
            return DuplicateOrder(message)
        return OrderRefused(NOT_WORKING if any(words in said for words in _NOT_WORKING) else "invalid-order", message)
    return OrderRefused("bad-request", message)


def _fields(body: bytes) -> dict[str, Any] | None:
    """Return the answer's JSON object, empty for an empty body; None for anything else, which comes from a proxy."""
    if not body.strip():
        return {}
    try:
        fields = msgspec.json.decode(body)
    except Exception:  # whatever the bytes are
        return None
    return fields if isinstance(fields, dict) else None


def _message(status: int, fields: dict[str, Any] | None) -> str:
    if fields is None:
        return f"HTTP {status} without a JSON answer"
    said = " ".join(str(fields.get("message", "")).split())[:LONGEST]
    code = fields.get("code")
    return f"{said or 'no message'} (HTTP {status}{f', code {code}' if isinstance(code, int) else ''})"
