"""Faults of requests: which request has one, how often, and what happens on its connection."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import msgspec


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong with requests that match; a server's own class says which do.

    Parameters
    ----------
    kind : ``timeout``, ``cut``, ``delay``, ``drip`` and ``truncate`` happen on the connection, to any server; every
        other kind is an answer that the server makes itself.
    nth : the first matching request that has the fault, counted from 1.
    times : for how many requests; None for all.
    after : the server carries the request out first.
    seconds : of a ``delay``, or between two bytes of a ``drip``.
    mid_body : a ``cut`` comes in the middle of the answer's body.
    """

    kind: str
    nth: int = 1
    times: int | None = 1
    after: bool = False
    seconds: float = 0.0
    mid_body: bool = False
    seen: int = 0
    """How many requests matched so far."""
    fired: int = 0
    """How many of them had the fault."""

    def __post_init__(self) -> None:
        self.after = self.after or self.mid_body or self.kind in ("drip", "truncate")  # these need an answer to spoil

    @classmethod
    def timeout(cls, *, after: bool = False, **match: Any) -> Self:
        """Never answer, before or after the request was carried out."""
        return cls(kind="timeout", after=after, **match)

    @classmethod
    def cut(cls, *, after: bool = False, mid_body: bool = False, **match: Any) -> Self:
        """Close the connection without an answer, or with `mid_body` (which implies `after`) in the middle of its body."""
        return cls(kind="cut", after=after, mid_body=mid_body, **match)

    def count(self) -> bool:
        """Count a matching request; say whether the fault is due for it."""
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.fired < self.times)


F = TypeVar("F", bound=Fault)


class Faults(Generic[F]):
    """The faults of a server's requests, in the order in which they were added; a request has one at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[F] = []

    def add(self, fault: F) -> F:
        """Add a fault and return it; its `fired` counts how often it happened."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def draw(self, matches: Callable[[F], bool]) -> F | None:
        """The fault of the request that `matches` knows, if one is due; every fault that matches counts the request."""
        if not self._faults:
            return None
        with self._lock:
            due = [fault for fault in self._faults if matches(fault) and fault.count()]
            if not due:
                return None
            due[0].fired += 1
            return due[0]


def require_pattern(text: str | None) -> None:
    """Check that a fault's pattern is a regular expression.

    Raises
    ------
    ValueError : it is not.
    """
    try:
        re.compile(text or "")
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
