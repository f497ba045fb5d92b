"""Every error that Torghut raises on purpose.

TorghutError                    the root; carries its ids as attributes and builds its own message
├── InputError                  the user's input is wrong: the command line exits with 2
│   ├── CatalogError            one or more problems, each with file, line, column and hint
│   ├── TapeError               a bad file or row of market data
│   ├── SettingsError           an environment variable that does not parse
│   └── NotFoundError           a decision, table or file that does not exist
├── PluginError                 a plugin that cannot be loaded or that raised
│   └── HandOverError           new code that does not accept the state of the old
├── StateError                  the state directory: locked, full, of a newer version
│   └── Superseded              another process has traded the account in the meantime
├── VenueError                  a venue did not do what was requested
│   ├── OrderRefused            it refused, and would again
│   ├── DuplicateOrder          it already has an order with this client_order_id
│   ├── Throttled               too many requests: nothing was done
│   ├── NotSent                 the request never reached it
│   └── Unanswered              it is unknown whether it was done
├── IllegalTransition           a report that the order's state does not allow
└── ShapeError                  arrays of different lengths or columns
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

LONGEST_TEXT = 10_000
"""Longer texts of errors are cut."""

SHORTEST_SECRET = 6
"""Shorter texts are not hidden: they occur in ordinary words."""

_GAP = r"[\s\\]*"
_GAPS = str.maketrans("", "", " \t\r\n\\")
_secrets: dict[str, re.Pattern[str]] = {}
"""What finds a secret, by each form in which it may be written."""


def hide(secret: str) -> None:
    """Never show this text again: `without_secrets` removes it from logs, answers and records."""
    if len(secret) >= SHORTEST_SECRET:
        for form in _forms(secret):
            _secrets[form] = re.compile(_GAP.join(map(re.escape, form)))


def without_secrets(text: str) -> str:
    """`text` without any known secret, which a plugin, a venue or a server may have put into it.

    A secret is found as it is, in the forms of addresses and of Base64, broken by spaces, lines or backslashes, and where the
    text ends within it.
    """
    squeezed = text.translate(_GAPS) if _secrets else ""
    for form, pattern in list(_secrets.items()):
        head = form[:SHORTEST_SECRET]
        if head in squeezed:
            text = pattern.sub("***", text)
            start = text.rfind(head)
            if start >= 0 and form.startswith(text[start:]):
                text = f"{text[:start]}***"
    return text


def _forms(secret: str) -> set[str]:
    """Return the ways to write a secret: as it is, in an address, and as a part of something in Base64."""
    quoted, data = quote(secret, safe=""), secret.encode()
    forms = {secret, quoted, re.sub("%..", lambda code: code[0].lower(), quoted)}
    for before, first in ((0, 0), (1, 2), (2, 3)):
        whole = (before + len(data)) * 8 // 6  # characters that nothing after the secret changes
        for encode in (b64encode, urlsafe_b64encode):
            forms.add(encode(bytes(before) + data).decode()[first:whole])
    return {form for form in forms if len(form) >= SHORTEST_SECRET}


def reason_of(error: BaseException) -> str:
    """Describe an error on one line, without secrets.

    Examples
    --------
    >>> reason_of(ValueError("no such symbol"))
    'ValueError: no such symbol'
    """
    return without_secrets(" ".join(f"{type(error).__name__}: {text_of(error)}".split()))


def text_of(value: object, text: Callable[[Any], str] = str) -> str:
    """`str`, or `repr`, of what may be a plugin's, which may raise anything.

    Examples
    --------
    >>> text_of(1), text_of(ValueError())
    ('1', '')
    """
    try:
        return text(value)[:LONGEST_TEXT].encode("utf-8", "replace").decode()  # no answer could hold a lone surrogate
    except BaseException as error:
        return f"a {type(value).__name__} that cannot be shown: its text raises {type(error).__name__}"


class TorghutError(Exception):
    """Root of all errors that Torghut raises on purpose; none shows a secret, whoever wrote its message."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_secrets(each) if isinstance(each, str) else each for each in args))


class InputError(TorghutError):
    """The user's input is wrong; the message says where and how to fix it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a catalog, at its place.

    `line` and `column` are 1-based; 0 where the problem has no place in the file (a missing file).
    `key` is the dotted path of the value (``strategies[0].params.rsi_buy``); `hint` says what to write instead.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {key}{self.message}{hint}"


class CatalogError(InputError):
    """A catalog that cannot be used; `problems` lists every reason, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class TapeError(InputError):
    """A tape that cannot be read, or a bad row of it.

    `row` is the 0-based row of a Parquet file, or the 1-based line of a CSV or JSONL file; None for the whole file.
    """

    def __init__(self, path: str | Path, message: str, hint: str, row: int | None = None, unit: str = "row") -> None:
        self.path = str(path)
        self.message = message
        self.hint = hint
        self.row = row
        place = self.path if row is None else f"{self.path}: {unit} {row}"
        super().__init__(f"{place}: {message} ({hint})")


class SettingsError(InputError):
    """An environment variable that does not parse; never shows the value of a secret."""


class NotFoundError(InputError):
    """Something that was asked for by name or id and does not exist."""


class PluginError(TorghutError):
    """A plugin that cannot be loaded, or that raised an error.

    `plugin` is its entry-point or catalog name, `distribution` the package it came from ("" where unknown).
    """

    def __init__(self, plugin: str, reason: str, distribution: str = "") -> None:
        self.plugin = plugin
        self.reason = reason
        self.distribution = distribution
        origin = f" (of {distribution})" if distribution else ""
        super().__init__(f"plugin {plugin!r}{origin}: {reason}")


class HandOverError(PluginError):
    """New code of a plugin that cannot continue from the state of the old; `code_digest` is the new code's."""

    def __init__(self, plugin: str, reason: str, distribution: str, code_digest: str) -> None:
        self.code_digest = code_digest
        super().__init__(plugin, reason, distribution)


class StateError(TorghutError):
    """The state directory cannot be used: locked by another process, full, or written by a newer version."""


class Superseded(StateError):
    """Another process has traded the account in the meantime: this one's state is old, and it must write nothing more."""


class VenueError(TorghutError):
    """A venue did not do what was requested; `code` is stable, the message is the venue's. Never shows a key."""

    code = "venue-error"


class OrderRefused(VenueError):
    """The venue refused, and would refuse again: bad terms, no buying power, no permission.

    `code` is the reason in the words of `docs/brokers.md` (``buying-power``, ``wash-trade``, ``forbidden``, ...).
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = without_secrets(code)
        super().__init__(message)


class DuplicateOrder(VenueError):
    """The venue already has an order with this client_order_id: look it up."""

    code = "duplicate"


class Throttled(VenueError):
    """Too many requests; nothing was done. `retry_after` is how long to wait, seconds; None if the venue did not say."""

    code = "throttled"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return how many seconds the headers of a 429 ask to wait, at least 0; None where they do not say.

    ``Retry-After`` in seconds counts first, then ``X-Ratelimit-Reset``, the epoch second at which the venue counts anew
    (https://forum.alpaca.markets/t/12029, read 2026-11-21). `now` is the time of day, seconds since the epoch.

    Examples
    --------
    >>> retry_after({"Retry-After": "3"}, now=100.0), retry_after({"X-Ratelimit-Reset": "160"}, now=100.0)
    (3.0, 60.0)
    """
    for name, start in (("Retry-After", 0.0), ("X-Ratelimit-Reset", now)):
        try:
            wait = float(headers.get(name, "")) - start
        except ValueError:
            continue
        if wait == wait and wait < float("inf"):
            return max(0.0, wait)
    return None


class NotSent(VenueError):
    """The request never reached the venue, so nothing was done: no connection, no such host."""

    code = "not-sent"


class Unanswered(VenueError):
    """It is unknown whether it was done: a time-out, a lost connection, a server error or an invalid answer."""

    code = "unanswered"


class IllegalTransition(TorghutError):
    """A report that the order lifecycle does not allow in the order's state; nothing was changed."""

    def __init__(self, client_order_id: str, state: str, event: str) -> None:
        self.client_order_id = client_order_id
        self.state = state
        self.event = event
        super().__init__(f"order {client_order_id}: {event!r} is not possible in state {state!r}")


class ShapeError(TorghutError):
    """Arrays whose lengths or columns do not fit each other."""
