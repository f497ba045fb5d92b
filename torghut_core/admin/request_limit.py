"""The limit of requests in progress, so that neither one caller nor all together take the API away from the others."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from torghut_core.admin.auth import Guard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MAX_REQUESTS = 64
"""Requests at a time, of operators, and as many of all others."""

MAX_REQUESTS_EACH = 32
"""Requests of one caller at a time: of a token's actor, or of an address without a token."""

UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics", "/trading/kill"})
"""Paths whose requests are never refused here."""


class RequestLimit:
    """An ASGI application that hands requests to another one, and refuses those beyond `MAX_REQUESTS` or `MAX_REQUESTS_EACH` with 429.

    It costs a small part of what the application behind it does.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], guard: Guard) -> None:
        self._app = app
        self._guard = guard
        self._of_callers: Counter[tuple[bool, str]] = Counter()
        self._of_all: Counter[bool] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["path"].rstrip("/") in UNLIMITED:
            await self._app(scope, receive, send)
            return
        caller = self._guard.caller(scope)
        is_operator = caller[0]
        if self._of_all[is_operator] >= MAX_REQUESTS or self._of_callers[caller] >= MAX_REQUESTS_EACH:
            await _refuse(send)
            return
        self._of_all[is_operator] += 1
        self._of_callers[caller] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._of_all[is_operator] -= 1
            self._of_callers[caller] -= 1
            if not self._of_callers[caller]:
                del self._of_callers[caller]


async def _refuse(send: Any) -> None:
    body = json.dumps({"error": "too many requests at a time (try again in a second)"}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "retry-after": "1"}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 429, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
