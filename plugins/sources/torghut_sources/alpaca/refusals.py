"""What an error of the market data stream means, and what to do about it: tables.

https://docs.alpaca.markets/docs/streaming-market-data (read 2026-11-21) and, for 408, 410 and 411, the tables of older
documentation and of Alpaca's own clients.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Policy(StrEnum):
    """What to do about an error.

    RETRY: connect again, with back-off. WAIT: the same, but only after a long while. DEGRADE: continue with what there is,
    and log it. IGNORE: nothing is wrong. STOP: it would be the same again.
    """

    RETRY = "retry"
    WAIT = "wait"
    DEGRADE = "degrade"
    IGNORE = "ignore"
    STOP = "stop"


class Refusal(NamedTuple):
    """Class of an error, what to do about it, and how a person fixes it."""

    error_class: str
    policy: Policy
    hint: str


KEYS = "check ALPACA_KEY_ID and ALPACA_SECRET_KEY"
PLAN = "check ALPACA_FEED and ALPACA_MARKET_TYPE against what the account has subscribed to"

REFUSALS: dict[int, Refusal] = {
    400: Refusal("syntax", Policy.STOP, "check the symbols: the venue cannot read a request"),
    401: Refusal("auth", Policy.RETRY, KEYS),
    402: Refusal("auth", Policy.STOP, KEYS),
    403: Refusal("auth", Policy.IGNORE, ""),
    404: Refusal("auth-timeout", Policy.RETRY, "find out what keeps this process from answering in time"),
    405: Refusal("symbol-limit", Policy.DEGRADE, "subscribe fewer symbols, or get a plan with more"),
    406: Refusal("connection-limit", Policy.WAIT, "end the other program that is connected with these keys"),
    407: Refusal("slow-client", Policy.RETRY, "give this process more CPU, or subscribe fewer symbols"),
    408: Refusal("subscription", Policy.STOP, PLAN),
    409: Refusal("subscription", Policy.STOP, PLAN),
    410: Refusal("subscription", Policy.STOP, PLAN),
    411: Refusal("subscription", Policy.STOP, KEYS),
    500: Refusal("venue", Policy.RETRY, ""),
}
"""By the code of an error message of the stream."""

HANDSHAKES: dict[int, Refusal] = {
    401: Refusal("auth", Policy.STOP, KEYS),
    403: Refusal("auth", Policy.STOP, KEYS),
    404: Refusal("address", Policy.STOP, "check ALPACA_STREAM_URL, ALPACA_FEED and ALPACA_CRYPTO_LOCATION"),
    406: REFUSALS[406],
    429: Refusal("too-many-requests", Policy.WAIT, "end the other programs that connect with these keys"),
}
"""By the HTTP status of the answer to the opening of the websocket, or to a request for history."""

UNKNOWN = Refusal("venue", Policy.RETRY, "")


def refusal_of(code: int) -> Refusal:
    """Return what an error code of the stream means; an unknown code is retried.

    Examples
    --------
    >>> [refusal_of(code).policy.value for code in (406, 402, 799)]
    ['wait', 'stop', 'retry']
    """
    return REFUSALS.get(code, UNKNOWN)


def handshake_refusal(status: int) -> Refusal:
    """Return what an HTTP status means with which the venue refuses to open the websocket.

    Examples
    --------
    >>> handshake_refusal(401).policy.value, handshake_refusal(503).policy.value
    ('stop', 'retry')
    """
    return HANDSHAKES.get(status, UNKNOWN)
