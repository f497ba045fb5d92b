"""The digest of plain values, by which catalogs, instances and generations are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Any

from torghut_core.catalog.marked_yaml import MAX_DIGITS
from torghut_core.model.trading import canonical_json

_EXACT = Context(prec=2 * MAX_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN)


def content_digest(content: Any) -> str:
    """sha256 over canonical JSON of plain values, hexadecimal; a number counts as its shortest text.

    Examples
    --------
    >>> content_digest({"cash": Decimal("1000.00")}) == content_digest({"cash": "1000"})
    True
    """
    return hashlib.sha256(canonical_json(_canonical(content))).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        shortest = _EXACT.normalize(Decimal(str(value)))
        return format(shortest, "f" if abs(shortest.adjusted()) < MAX_DIGITS else "e")
    return value
