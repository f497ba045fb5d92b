"""Arrow arrays out of numpy arrays and texts.

They are made of buffers and not by `pa.array` or `pa.table`, which import pandas, 0.7 s of it, wherever that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BoolArray: TypeAlias = NDArray[np.bool_]


def mask(column: BoolArray) -> pa.BooleanArray:
    """An Arrow array of booleans."""
    return pa.BooleanArray.from_buffers(pa.bool_(), len(column), [None, _bits(column)])


def column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """An Arrow array of numbers or times, without a copy; NaN is null."""
    is_there = values == values
    valid = None if is_there.all() else _bits(is_there)
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(values)])


def texts(values: Sequence[str | None]) -> pa.StringArray:
    """An Arrow array of texts; None is null."""
    encoded = [b"" if value is None else value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    is_there = np.array([value is not None for value in values], np.bool_)
    valid = None if is_there.all() else _bits(is_there)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)), valid)


def dictionary(codes: NDArray[np.integer[Any]], values: Sequence[str]) -> pa.DictionaryArray:
    """An Arrow array of texts, each once, by their numbers."""
    return pa.DictionaryArray.from_arrays(column(codes.astype(np.int32), pa.int32()), texts(values))


def _bits(column: BoolArray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(column, bitorder="little"))
