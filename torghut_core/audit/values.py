"""The values that a column may hold, each with one text: times, decimals and JSON.

A value crosses into the database here and nowhere else, so the same value has the same text on every database, and a
`UUID` or a `Decimal` never reaches a JSON column as itself.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from math import isfinite
from typing import Any
from uuid import UUID

import msgspec
import numpy as np

from torghut_core.errors import LONGEST_TEXT, InputError
from torghut_core.model.trading import canonical_json
from torghut_core.timestamps import MINUTE, format_timestamp, from_datetime, parse_timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def _minute_text(minutes: int) -> str:
    return (_EPOCH + timedelta(minutes=minutes)).isoformat()[:17]


@lru_cache(maxsize=4096)
def _minute_ns(text: str) -> int:
    return parse_timestamp(f"{text}00Z")


@lru_cache(maxsize=4096)  # a time is written in several columns and rows
def time_text(ns: int | None) -> str | None:
    """RFC 3339 text of a time, always with nine fraction digits: 30 characters that sort as the times do.

    Examples
    --------
    >>> time_text(1767623400000000001)
    '2026-01-05T14:30:00.000000001Z'
    """
    if ns is None:
        return None
    rest = f"{ns % MINUTE:011d}"
    return f"{_minute_text(ns // MINUTE)}{rest[:2]}.{rest[2:]}Z"


def time_ns(text: str | None) -> int | None:
    """Nanoseconds since the epoch of what `time_text` wrote."""
    return None if text is None else _minute_ns(text[:17]) + int(text[17:19] + text[20:29])


def decimal_text(value: Decimal | None) -> str | None:
    """All digits of a decimal, without an exponent and without a minus before zero.

    Raises
    ------
    InputError : anything else; the digits of a float are not the intended ones.

    Examples
    --------
    >>> [decimal_text(Decimal(text)) for text in ("1.10", "1E+3", "-0")]
    ['1.10', '1000', '0']
    """
    if value is None:
        return None
    if type(value) is not Decimal:
        raise InputError(f"{value!r} is a {type(value).__name__} where money is written down (use Decimal)")
    text = str(value)
    if "E" in text or text[0] == "-":
        text = f"{value:f}" if value else f"{abs(value):f}"
    return text


def json_text(value: Any) -> str | None:
    """Canonical JSON of plain values (see `plain`); None stays None (SQL's null, not JSON's)."""
    if value is None:
        return None
    try:
        return canonical_json(value).decode()
    except UnicodeEncodeError:  # a lone surrogate in a plugin's text
        return canonical_json(plain(value)).decode()


def json_value(text: str | bytes | None) -> Any:
    """What `json_text` wrote."""
    return None if text is None else msgspec.json.decode(text)


def clean_text(text: object) -> str:
    r"""`text` without what a database cannot store: NUL and lone surrogates become a replacement character.

    Examples
    --------
    >>> clean_text("cross\x00ed"), clean_text("\ud800")
    ('cross�ed', '?')
    """
    clean = text if type(text) is str else str(text)
    if not clean.isascii():
        clean = clean.encode("utf-8", "replace").decode()
    return clean.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def short_text(text: str) -> str:
    """`clean_text` of a reason that a plugin or a venue gives, cut after `LONGEST_TEXT` characters."""
    return clean_text(text[:LONGEST_TEXT])


def plain(value: Any, name: str = "value") -> Any:
    """`value` as JSON has it: dicts with text keys, lists, text, numbers, booleans and None.

    UUID, Decimal, date and aware datetime become text, an enum its value, a numpy scalar its Python one, a tuple a
    list; NaN and infinity become None, since JSON has neither.

    Parameters
    ----------
    value : anything.
    name : its name in the error.

    Raises
    ------
    InputError : any other type; the message names its place in `value`.

    Examples
    --------
    >>> plain({"id": UUID(int=1), "price": Decimal("1.10"), "rsi14": float("nan")})
    {'id': '00000000-0000-0000-0000-000000000001', 'price': '1.10', 'rsi14': None}
    """
    return _plain(value, (None, name))


_Place = tuple[Any, Any]
_KINDS: tuple[tuple[type, Any], ...] = (
    (str, str),
    (bool, np.bool_),
    (int, int | np.integer),
    (float, float | np.floating),
)


def _plain(value: Any, place: _Place) -> Any:
    kind = type(value)
    if kind is str:
        return clean_text(value)
    if kind is float:
        return value if isfinite(value) else None
    if value is None or kind is bool or kind is int:
        return value
    if isinstance(value, dict):
        return {_key(key, place): _plain(item, (place, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [
            clean_text(item) if type(item) is str else _plain(item, (place, number))  # lists of symbols are long
            for number, item in enumerate(value)
        ]
    return _plain(_coerced(value, place), place)


def _key(key: Any, place: _Place) -> str:
    if not isinstance(key, str):
        raise InputError(f"{_where(place)}: key {key!r} is a {type(key).__name__}, and JSON has text keys only")
    return clean_text(str(key.value) if isinstance(key, Enum) else str(key))


def _coerced(value: Any, place: _Place) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return decimal_text(value) if value.is_finite() else None
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InputError(f"{_where(place)}: {value!r} has no zone (use an aware datetime)")
        return format_timestamp(from_datetime(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else format_timestamp(int(value.astype("datetime64[ns]").astype(np.int64)))
    for kind, kinds in _KINDS:
        if isinstance(value, kinds):
            return kind(value)
    raise InputError(
        f"{_where(place)}: a {type(value).__name__} cannot be written down as JSON"
        " (give text, numbers, booleans, None, lists and dicts)"
    )


def _where(place: _Place) -> str:
    parent, key = place
    if parent is None:
        return str(key)
    return f"{_where(parent)}[{key}]" if isinstance(key, int) else f"{_where(parent)}.{key}"
