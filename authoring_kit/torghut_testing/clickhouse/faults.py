"""What goes wrong on demand with statements."""

from __future__ import annotations

import re
from typing import Any, Literal

from torghut_testing.loopback import faults

Kind = Literal["error", "timeout", "cut", "delay"]


class Fault(faults.Fault, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong with statements that match; made by the class methods, or from JSON with these fields.

    Parameters
    ----------
    kind : what happens; see the class methods.
    statement : a regular expression that is found in the statement, such as ``INSERT INTO torghut.ta_signals``; None
        matches all.
    nth : the first matching statement that has the fault, counted from 1.
    times : for how many statements; None for all.
    after : the statement is executed first, and only then goes wrong.
    code, message : ClickHouse's number of an error, and its text.
    seconds : of a delay.
    """

    kind: Kind
    statement: str | None = None
    code: int = 0
    message: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        faults.require_pattern(self.statement)

    @classmethod
    def error(cls, code: int, message: str, **match: Any) -> Fault:
        """Answer with a ClickHouse error: its number, and a text that ends in its name, ``... (TIMEOUT_EXCEEDED)``."""
        return cls(kind="error", code=code, message=message, **match)

    @classmethod
    def too_many_parts(cls, **match: Any) -> Fault:
        """Refuse because inserts come faster than parts are merged."""
        message = "Too many parts (3000). Merges are processing significantly slower than inserts. (TOO_MANY_PARTS)"
        return cls.error(252, message, **match)

    @classmethod
    def disk_full(cls, **match: Any) -> Fault:
        """Refuse because no disk has room for the block."""
        return cls.error(243, "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", **match)

    @classmethod
    def table_read_only(cls, **match: Any) -> Fault:
        """Refuse because the replica cannot write, as when it has lost its keeper."""
        return cls.error(242, "Table is in readonly mode. (TABLE_IS_READ_ONLY)", **match)

    @classmethod
    def read_only(cls, **match: Any) -> Fault:
        """Refuse because the user or the server may only read."""
        return cls.error(164, "Cannot execute query in readonly mode. (READONLY)", **match)

    @classmethod
    def memory_limit(cls, **match: Any) -> Fault:
        """Refuse because the statement needs more memory than the server allows."""
        return cls.error(241, "Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)", **match)

    @classmethod
    def timed_out(cls, **match: Any) -> Fault:
        """Give up because the statement takes too long."""
        return cls.error(159, "Timeout exceeded: elapsed 30 seconds. (TIMEOUT_EXCEEDED)", **match)

    @classmethod
    def delay(cls, seconds: float, **match: Any) -> Fault:
        """Answer `seconds` late."""
        return cls(kind="delay", seconds=seconds, **match)

    def matches(self, statement: str) -> bool:
        """Whether a statement can have this fault."""
        return self.statement is None or re.search(self.statement, statement) is not None
