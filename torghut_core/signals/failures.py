"""Why the signal store failed, in one of few classes, and what to do about it."""

from __future__ import annotations

import errno
import random
from enum import Enum

from torghut_core.errors import StateError


class Remedy(Enum):
    """What to do about a failure."""

    RETRY = "retry soon"
    """It passes by itself, and soon: a connection that broke, a time-out."""

    WAIT = "retry later"
    """The store is overloaded: every further attempt makes it worse."""

    PAUSE = "wait for room"
    """It cannot write until there is free space or a lock is lifted; see `Guardrails`."""

    STOP = "fix it"
    """It fails the same way every time: a wrong password, a missing table."""


class StoreError(StateError):
    """The signal store failed.

    `error_class` is stable and one of few, for metrics and checks; `remedy` says what to do.
    """

    def __init__(self, message: str, error_class: str, remedy: Remedy) -> None:
        self.error_class = error_class
        self.remedy = remedy
        super().__init__(message)


_USER = "set TA_CLICKHOUSE_USERNAME and TA_CLICKHOUSE_PASSWORD"
_ROOM = "free disk space"
_UNLOCK = "find out why the server or the table is read-only"
_MERGES = "send larger blocks, or find out why merges are slow"
_LOAD = "the server is overloaded"
_SERVER = "check that the server is up and TA_CLICKHOUSE_URL is right"
_KEEPER = "check the server's Keeper, and its other replicas"

_CODES: dict[int, tuple[str, Remedy, str]] = {
    60: ("unknown-table", Remedy.STOP, "set TRADING_SIGNAL_TABLE and TRADING_PRICE_TABLE to tables that exist"),
    81: ("unknown-table", Remedy.STOP, "create the database, or remove it from TA_CLICKHOUSE_URL"),
    159: ("timeout", Remedy.RETRY, _LOAD),
    160: ("timeout", Remedy.RETRY, _LOAD),
    164: ("read-only", Remedy.PAUSE, _UNLOCK),
    192: ("auth", Remedy.STOP, _USER),
    193: ("auth", Remedy.STOP, _USER),
    194: ("auth", Remedy.STOP, _USER),
    202: ("overload", Remedy.WAIT, _LOAD),
    203: ("overload", Remedy.WAIT, _LOAD),
    209: ("timeout", Remedy.RETRY, _LOAD),
    210: ("connection", Remedy.RETRY, _SERVER),
    225: ("connection", Remedy.RETRY, _KEEPER),
    236: ("connection", Remedy.RETRY, _SERVER),
    241: ("memory-limit", Remedy.WAIT, _LOAD),
    242: ("read-only", Remedy.PAUSE, _UNLOCK),
    243: ("disk-full", Remedy.PAUSE, _ROOM),
    252: ("too-many-parts", Remedy.WAIT, _MERGES),
    285: ("connection", Remedy.RETRY, _KEEPER),
    319: ("timeout", Remedy.RETRY, _LOAD),
    439: ("overload", Remedy.WAIT, _LOAD),
    497: ("auth", Remedy.STOP, "grant it to the user"),
    516: ("auth", Remedy.STOP, _USER),
    999: ("connection", Remedy.RETRY, _KEEPER),
}
"""Class, remedy and fix by ClickHouse's error code; for others see `classify`."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


def classify(error: Exception) -> tuple[str, Remedy, str]:
    """Class, remedy and fix of an error that a ClickHouse client raised.

    Examples
    --------
    >>> classify(OSError(28, "No space left on device"))[:2]
    ('disk-full', <Remedy.PAUSE: 'wait for room'>)
    """
    if isinstance(error, TimeoutError | ConnectionError):
        return "timeout" if isinstance(error, TimeoutError) else "connection", Remedy.RETRY, _SERVER
    if isinstance(error, OSError):
        return ("disk-full", Remedy.PAUSE, _ROOM) if error.errno in _FULL else ("disk", Remedy.PAUSE, _ROOM)
    from clickhouse_connect.driver.exceptions import (
        DatabaseError,
        Error,
        OperationalError,
    )  # takes 0.2 s to import, which opening the store has done already

    code = error.code if isinstance(error, Error) else None
    if code in _CODES:
        return _CODES[code]
    if code is None and isinstance(error, OperationalError):
        is_late = "timed out" in str(error).lower()
        return ("timeout" if is_late else "connection"), Remedy.RETRY, _SERVER
    if code is None and type(error) is DatabaseError:  # an answer without a code is a proxy's, such as a 502
        return "connection", Remedy.RETRY, _SERVER
    return "other", Remedy.STOP, _SERVER if code is None else "ClickHouse's log says more"


LONGEST_WAIT_S = 30.0
"""Longest pause before an attempt, seconds, before half of it is added at random."""

_FIRST_WAIT_S = {Remedy.RETRY: 0.2, Remedy.WAIT: 2.0, Remedy.PAUSE: 1.0, Remedy.STOP: 1.0}


def back_off(error: Exception, failures: int) -> float:
    """Seconds to wait after so many failures in a row, before the next attempt; random, so that many do not come at once.

    Doubled from failure to failure, up to `LONGEST_WAIT_S`, times 0.5 to 1.5. Any other error than a `StoreError` is
    retried at once.
    """
    if not isinstance(error, StoreError):
        return 0.0
    wait = min(LONGEST_WAIT_S, _FIRST_WAIT_S[error.remedy] * 2.0 ** min(failures - 1, 10))
    return wait * random.uniform(0.5, 1.5)
