"""Plain values: what saved state may be made of."""

from __future__ import annotations

from typing import Any

import numpy as np


def plain_copy(value: Any, place: str = "state") -> Any:
    """A deep copy of plain values: None, bool, int, float, text, lists, dicts with text keys, numpy arrays.

    Raises
    ------
    TypeError : anything else, with its place: a file would not give it back as it was.

    Examples
    --------
    >>> plain_copy({"closes": [1.0, 2.0]})
    {'closes': [1.0, 2.0]}
    >>> plain_copy({"seen": {1, 2}})
    Traceback (most recent call last):
    TypeError: state['seen'] is a set: not a plain value (use numbers, text, lists, dicts with text keys, arrays)
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value.copy()
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: plain_copy(item, f"{place}[{key!r}]") for key, item in value.items()}
    if type(value) is list:
        return [plain_copy(item, f"{place}[{number}]") for number, item in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(
        f"{place} is a {type(value).__name__}: not a plain value (use numbers, text, lists, dicts with text keys, arrays)"
    )
