"""What an error of the market data stream means, and what is to be done about it: tables.

https://docs.alpaca.markets/docs/streaming-market-data (read 2026-11-21) and, for 408, 410 and 411, the tables of older
documentation and of Alpaca's own clients.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Policy: TypeAlias = Literal["retry", "wait", "degrade", "ignore", "stop"]
"""``retry``: connect again, with back-off. ``wait``: the same, but only after a long while. ``degrade``: go on with what
there is, and say so. ``ignore``: nothing is wrong. ``stop``: it would be the same again."""


class Refusal(NamedTuple):
    """What an error is, in one of few words, what to do, and how a person fixes it."""

    error_class: str
    policy: Policy
    hint: str


KEYS = "check ALPACA_KEY_ID and ALPACA_SECRET_KEY"
PLAN = "check ALPACA_FEED and ALPACA_MARKET_TYPE against what the account has subscribed to"

REFUSALS: dict[int, Refusal] = {
    400: Refusal("syntax", "stop", "check the symbols: the venue does not understand a request"),
    401: Refusal("auth", "retry", KEYS),
    402: Refusal("auth", "stop", KEYS),
    403: Refusal("auth", "ignore", ""),
    404: Refusal("auth-timeout", "retry", "see whether this process has the time to answer"),
    405: Refusal("symbol-limit", "degrade", "ask for fewer symbols, or get a plan with more"),
    406: Refusal("connection-limit", "wait", "end the other program that is connected with these keys"),
    407: Refusal("slow-client", "retry", "give this process more time, or ask for fewer symbols"),
    408: Refusal("subscription", "stop", PLAN),
    409: Refusal("subscription", "stop", PLAN),
    410: Refusal("subscription", "stop", PLAN),
    411: Refusal("subscription", "stop", KEYS),
    500: Refusal("venue", "retry", ""),
}
"""By the code of an error message of the stream."""

HANDSHAKES: dict[int, Refusal] = {
    401: Refusal("auth", "stop", KEYS),
    403: Refusal("auth", "stop", KEYS),
    404: Refusal("address", "stop", "check ALPACA_STREAM_URL, ALPACA_FEED and ALPACA_CRYPTO_LOCATION"),
    406: REFUSALS[406],
    429: Refusal("too-many-requests", "wait", "end the other programs that connect with these keys"),
}
"""By the HTTP status that answers the opening of the websocket, and by that of a request for history."""

UNKNOWN = Refusal("venue", "retry", "")


def refusal_of(code: int) -> Refusal:
    """What an error message of the stream means; one with a code that is not known is worth another try.

    Examples
    --------
    >>> refusal_of(406).policy, refusal_of(402).policy, refusal_of(799).policy
    ('wait', 'stop', 'retry')
    """
    return REFUSALS.get(code, UNKNOWN)


def handshake_refusal(status: int) -> Refusal:
    """What an HTTP status means that the venue opens no websocket with.

    Examples
    --------
    >>> handshake_refusal(401).policy, handshake_refusal(503).policy
    ('stop', 'retry')
    """
    return HANDSHAKES.get(status, UNKNOWN)
