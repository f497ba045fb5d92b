"""Kernels without the dispatcher: machine code for one list of argument types.

A stage always calls a kernel with the same types, and a live batch is often one row. Then numba's look-up of argument types
costs more than the work (about 350 ns of 500 for four arrays), and the compiler would run a second time, in the middle of
trading, for the first batch that is a slice of a larger table. So the types are stated once, and the code is compiled (or read
from the file cache) when the stage is built.

Tables are stated as arrays of any layout. Loops over contiguous ones are faster, but each slice would have to be copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import from_dtype, types

INTS = types.Array(types.int64, 2, "A")
"""The integer block of a table."""

FLOATS = types.Array(types.float64, 2, "A")
"""The float block of a table."""

COLUMN = types.Array(types.int64, 1, "A")
"""One integer per event, as `Batch.now`."""

OUTPUT = types.Array(types.float64, 2, "C")
"""A float block that a kernel fills."""

TABLE = types.Array(types.int64, 2, "C")
"""A stage's own integers, in two dimensions."""

NUMBERS = types.Array(types.int64, 1, "C")
"""A stage's own integers."""

VALUES = types.Array(types.float64, 1, "C")
"""A stage's own floats."""

BITS = types.Array(types.uint8, 2, "C")
"""A stage's own bits, in two dimensions."""

NUMBER = types.int64

FLAG = types.boolean


def records(dtype: np.dtype[Any], dimensions: int = 1) -> Any:
    """Return the type of a state array: rows of `dtype`."""
    return types.Array(from_dtype(dtype), dimensions, "C", aligned=dtype.isalignedstruct)


def native(kernel: Any, *arguments: Any) -> Callable[..., Any]:
    """Return the machine code of `kernel` for positional `arguments` of exactly these types.

    The types of a call are not checked: the caller has to pass exactly these.
    """
    compiled: Callable[..., Any] = kernel.compile(tuple(arguments))
    return compiled
