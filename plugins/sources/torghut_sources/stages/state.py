"""State arrays, a row per symbol or series: how they grow, and how they are saved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from torghut_core import IntArray


def grown(state: NDArray[Any], rows: int) -> NDArray[Any]:
    """Return the state with room for `rows` rows and as many again; new rows are zeros."""
    if rows <= len(state):
        return state
    larger = np.zeros((2 * rows, *state.shape[1:]), state.dtype)
    larger[: len(state)] = state
    return larger


def to_words(state: NDArray[Any]) -> IntArray:
    """Copy rows of state to plain 64-bit words, shape (rows, words per row)."""
    words: IntArray = np.ascontiguousarray(state).view(np.int64).reshape(len(state), state.dtype.itemsize // 8)
    return words.copy()


def from_words(words: IntArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the rows of state that `to_words` saved.

    Raises
    ------
    ValueError : the words are not rows of `dtype`.
    """
    words = np.ascontiguousarray(words, np.int64)
    if words.ndim != 2 or words.shape[1] * 8 != dtype.itemsize:
        raise ValueError(f"saved state of shape {words.shape}, and a row takes {dtype.itemsize // 8} words")
    return words.view(dtype).reshape(len(words))
