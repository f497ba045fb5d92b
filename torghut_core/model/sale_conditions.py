"""Which prints and quotes count for what: one definition, for bars, fills, triggers and marks.

A consolidated tape prints trades whose price is not the market's of that moment: averages, late reports out of sequence,
official prices told again, odd lots. Its sale conditions say so. Here each condition becomes one of three answers: the
print counts; only its volume does; nothing does. A print with several conditions counts for what all of them allow. The
table is that of the tapes (``docs/sale-conditions.md`` has it with its sources): a price counts where the tape lets it
update the last sale of a day that has one already.

Two vendors' forms are read: letters and digits as the tapes and Alpaca print them (``@``, ``T``, ``I``), between spaces
or commas or next to each other, and hexadecimal words of flags (``20000020``), beside others where they have five digits
or more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_PRICE = 1
"""The price does not count: no open, high, low or close, no fill, no trigger, no mark."""

NO_VOLUME = 2
"""The volume does not count."""

NOTHING_COUNTS = NO_PRICE | NO_VOLUME

CODES: dict[str, int] = {
    **dict.fromkeys("4CGHINPRTUVWZ37", NO_PRICE),
    **dict.fromkeys("MQ9", NOTHING_COUNTS),
}
"""What a code of tapes A, B and C leaves out; any other leaves out nothing. See also `AVERAGE_OF_TAPES_A_AND_B`."""

AVERAGE_OF_TAPES_A_AND_B = "B"
"""An average price on tapes A and B; on tape C, which alone prints ``@`` for a regular sale, a bunched trade that counts."""

REGULAR_OF_TAPE_C = "@"

_PRICE_FLAGS = sum(1 << bit for bit in (1, 2, 3, 9, 10, 13, 14, 18, 20, 22, 25, 31))
"""Cash, next day, seller, derivatively priced, form T, extended hours, out of sequence, contingent, average price, price
variation, prior reference price, odd lot."""

_NOTHING_FLAGS = 1 << 24 | 1 << 26
"""Official close and official open."""

_FLAG_WORD = re.compile(r"0x[0-9a-f]+|(?=.*[0-9])[0-9a-f]{2,}", re.ASCII | re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,]+")
_SLOTS = 4
"""So many codes of one character may stand next to each other: the tapes have one for each of four categories."""

WIDEST_SPREAD = 0.05
"""A quote whose spread is a larger share of its middle is a stub: it says nothing about the price."""


class SaleConditions:
    """What prints count for.

    Parameters
    ----------
    exclude : in place of the tapes' table: prints with any of these count for nothing, and all others count. Each is a
        hexadecimal flag word of two digits or more, which any of its bits fits, or a code.
    suspicious : whether prints that the tape marks as suspicious count for nothing.

    Examples
    --------
    >>> tapes = SaleConditions()
    >>> [tapes.left_out(text) for text in ("", "@,F", "@,T,I", "W", "100000", "M", " ,B", "@,B")]
    [0, 0, 1, 1, 1, 3, 1, 0]
    >>> tapes.left_out("@ 100000"), tapes.left_out("20,1000000")
    (1, 3)
    >>> tapes.left_out("", is_suspicious=True), tapes.left_out("W", is_pair=True)
    (3, 0)
    >>> [SaleConditions(["T"]).left_out(text) for text in ("@T", "W")]
    [3, 0]
    """

    def __init__(self, exclude: Sequence[str] | None = None, suspicious: bool = True) -> None:
        self._suspicious = suspicious
        self._is_standard = exclude is None
        listed = exclude or ()
        self._codes = frozenset(each for each in listed if not _FLAG_WORD.fullmatch(each))
        self._flags = 0
        for each in listed:
            if _FLAG_WORD.fullmatch(each):
                self._flags |= int(each, 16)

    def left_out(self, text: str, is_suspicious: bool = False, is_pair: bool = False) -> int:
        """What a print with these conditions does not count for, bits of `NO_PRICE` and `NO_VOLUME`; 0 where it counts.

        Parameters
        ----------
        text : as the tape prints them, "" without any.
        is_pair : whether its symbol is a pair, like BTC/USD. The tapes' table is of equities; other venues' words for a
            print, such as the side of who took it, leave out nothing.
        """
        if is_suspicious and self._suspicious:
            return NOTHING_COUNTS
        is_word = _FLAG_WORD.fullmatch(text) is not None
        codes, flags = {text} if is_word else _codes_in(text), 0
        for code in codes:
            if (is_word or len(code) > _SLOTS) and _FLAG_WORD.fullmatch(code):
                flags |= int(code, 16)
        if not self._is_standard:
            flags = int(text) if len(text) == 1 and text in "123456789" else flags
            return NOTHING_COUNTS if flags & self._flags or not codes.isdisjoint(self._codes) else 0
        if is_pair:
            return 0
        left_out = (NO_PRICE if flags & _PRICE_FLAGS else 0) | (NOTHING_COUNTS if flags & _NOTHING_FLAGS else 0)
        for code in codes:
            left_out |= CODES.get(code, 0)
        if AVERAGE_OF_TAPES_A_AND_B in codes and REGULAR_OF_TAPE_C not in codes:
            left_out |= NO_PRICE
        return left_out

    def table(self, conditions: Sequence[tuple[str, bool]]) -> NDArray[np.uint8]:
        """`left_out` of each of (text, whether suspicious): shape (2, n), row 1 for the prints of pairs."""
        return np.array(
            [[self.left_out(*each, is_pair=is_pair) for each in conditions] for is_pair in (False, True)], np.uint8
        )


def _codes_in(text: str) -> set[str]:
    parts = _SEPARATORS.split(text)
    return {*parts, *(code for part in parts if len(part) <= _SLOTS for code in part)}


def check_condition(condition: str) -> str:
    """A condition that `SaleConditions` can search for.

    Raises
    ------
    ValueError : it is empty, or has spaces or commas.
    """
    if not condition or _SEPARATORS.search(condition):
        raise ValueError(
            f"{condition!r} is no sale condition: give a hexadecimal flag word like 100000, or a code like W"
        )
    return condition


def is_sane(bid: Any, ask: Any) -> Any:
    """Whether a quote with both sides says something about the price: it is not crossed, and no stub (`WIDEST_SPREAD`).

    For numbers and for arrays; False where a side is missing (NaN).
    """
    return (bid > 0) & (bid <= ask) & (ask - bid <= WIDEST_SPREAD / 2 * (bid + ask))
