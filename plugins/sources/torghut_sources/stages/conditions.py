"""Sale conditions that exclude a trade from the bars."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEXADECIMAL = re.compile(r"(0x)?[0-9a-f]+", re.ASCII | re.IGNORECASE)
_FLAG_WORD = re.compile(r"0x[0-9a-f]+|(?=.*[0-9])[0-9a-f]{2,}", re.ASCII | re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,]+")


class Exclusion:
    """Which sale conditions exclude a trade.

    Parameters
    ----------
    conditions : flag words and codes. A *flag word* is hexadecimal, of two digits or more (or with ``0x`` before it), like
        ``100000``: it matches a condition word that has any of its bits. Anything else, like ``W``, is a *code*: it matches
        a text that has it between spaces or commas, or among adjacent letters.
    suspicious : whether trades that the tape marks as suspicious are excluded too.

    Examples
    --------
    >>> average_price = Exclusion(["100000", "W"], suspicious=True)
    >>> [average_price.excludes(text, False) for text in ("20100020", "20000020", "@ W", "@TW", "@ T", "")]
    [True, False, True, True, False, False]
    >>> average_price.excludes("", True)
    True
    """

    def __init__(self, conditions: Sequence[str], suspicious: bool) -> None:
        self._flags = 0
        self._codes = set()
        for condition in conditions:
            if _FLAG_WORD.fullmatch(condition):
                self._flags |= int(condition, 16)
            else:
                self._codes.add(condition)
        self._suspicious = suspicious

    def excludes(self, text: str, suspicious: bool) -> bool:
        """Return whether a trade with these conditions is excluded."""
        flags = int(text, 16) if _HEXADECIMAL.fullmatch(text) else 0
        parts = [] if _FLAG_WORD.fullmatch(text) else _SEPARATORS.split(text)
        codes = {*parts, *(letter for part in parts for letter in part)}
        return (suspicious and self._suspicious) or flags & self._flags != 0 or not codes.isdisjoint(self._codes)


def check_condition(condition: str) -> str:
    """Return a condition that `Exclusion` can search for.

    Raises
    ------
    ValueError : it is empty, or has spaces or commas.
    """
    if not condition or _SEPARATORS.search(condition):
        raise ValueError(
            f"{condition!r} is no sale condition: give a hexadecimal flag word like 100000, or a code like W"
        )
    return condition
