"""What goes wrong on demand with statements."""

from __future__ import annotations

import re
import threading
from typing import Any, Literal

import msgspec

Kind = Literal["error", "timeout", "cut", "delay"]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong with statements that match; made by the class methods, or from JSON with these fields.

    Parameters
    ----------
    kind : what happens; see the class methods.
    statement : a regular expression that is found in the statement, such as ``INSERT INTO torghut.ta_signals``; None
        matches all.
    nth : from which matching statement on.
    times : for how many statements; None for all.
    after : the statement is done first, and only then goes wrong.
    code, message : ClickHouse's number of an error, and what it says.
    seconds : of a delay.
    """

    kind: Kind
    statement: str | None = None
    nth: int = 1
    times: int | None = 1
    after: bool = False
    code: int = 0
    message: str = ""
    seconds: float = 0.0
    seen: int = 0
    """How many statements matched so far."""
    fired: int = 0
    """How many it happened to."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.statement or "")
        except re.error as error:
            raise ValueError(f"{self.statement!r} is no regular expression: {error}") from None

    @classmethod
    def error(cls, code: int, message: str, **match: Any) -> Fault:
        """Answer with an error of ClickHouse: its number, and text that ends in its name, ``... (TIMEOUT_EXCEEDED)``."""
        return cls(kind="error", code=code, message=message, **match)

    @classmethod
    def too_many_parts(cls, **match: Any) -> Fault:
        """Inserts come faster than parts are merged."""
        said = "Too many parts (3000). Merges are processing significantly slower than inserts. (TOO_MANY_PARTS)"
        return cls.error(252, said, **match)

    @classmethod
    def disk_full(cls, **match: Any) -> Fault:
        """No disk has room for the block."""
        return cls.error(243, "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", **match)

    @classmethod
    def table_read_only(cls, **match: Any) -> Fault:
        """The replica cannot write, as when it has lost its keeper."""
        return cls.error(242, "Table is in readonly mode. (TABLE_IS_READ_ONLY)", **match)

    @classmethod
    def read_only(cls, **match: Any) -> Fault:
        """The user or the server may only read."""
        return cls.error(164, "Cannot execute query in readonly mode. (READONLY)", **match)

    @classmethod
    def memory_limit(cls, **match: Any) -> Fault:
        """The statement wants more memory than the server gives."""
        return cls.error(241, "Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)", **match)

    @classmethod
    def timed_out(cls, **match: Any) -> Fault:
        """The server gives up a statement that takes too long."""
        return cls.error(159, "Timeout exceeded: elapsed 30 seconds. (TIMEOUT_EXCEEDED)", **match)

    @classmethod
    def timeout(cls, **match: Any) -> Fault:
        """Never answer; the connection ends when faults are cleared."""
        return cls(kind="timeout", **match)

    @classmethod
    def cut(cls, **match: Any) -> Fault:
        """Close the connection without an answer."""
        return cls(kind="cut", **match)

    @classmethod
    def delay(cls, seconds: float, **match: Any) -> Fault:
        """Answer so many seconds late."""
        return cls(kind="delay", seconds=seconds, **match)

    def matches(self, statement: str) -> bool:
        """Whether it is about a statement."""
        return self.statement is None or re.search(self.statement, statement) is not None


class Faults:
    """The faults in the order in which they were added; one statement meets one at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Have `fault` happen."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._faults.clear()

    def draw(self, statement: str) -> Fault | None:
        """What happens to a statement; counts it."""
        drawn = None
        with self._lock:
            for fault in self._faults:
                if not fault.matches(statement):
                    continue
                fault.seen += 1
                is_due = fault.seen >= fault.nth and (fault.times is None or fault.fired < fault.times)
                if drawn is None and is_due:
                    fault.fired += 1
                    drawn = fault
        return drawn
