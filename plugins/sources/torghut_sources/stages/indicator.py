"""Base of the indicators when they are used alone: a row of state per symbol, and checked arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from torghut_core import FloatArray, IntArray, ShapeError


class Indicator:
    """A computation on one stream of values per symbol.

    `state` is an array with one row per symbol, and all that has to be saved and restored.

    Raises
    ------
    ShapeError : fewer than one symbol.
    """

    def __init__(self, dtype: np.dtype[Any], symbols: int) -> None:
        if symbols < 1:
            raise ShapeError(f"{type(self).__name__} needs at least 1 symbol, not {symbols}")
        self.state = np.zeros(symbols, dtype)

    def _times(self, symbol: IntArray, *columns: IntArray) -> list[IntArray]:
        """Check and return columns of integers, the first of them rows of the state."""
        numbers = [np.ascontiguousarray(column, np.int64) for column in (symbol, *columns)]
        low, high = (int(numbers[0].min()), int(numbers[0].max())) if len(numbers[0]) else (0, 0)
        if low < 0 or high >= len(self.state):
            raise ShapeError(
                f"{type(self).__name__}: symbols {low} to {high}, but the state has rows 0 to {len(self.state) - 1}"
            )
        self._same_length(numbers)
        return numbers

    def _values(self, symbol: IntArray, *columns: FloatArray) -> list[FloatArray]:
        """Check and return columns of floats, as long as `symbol`."""
        values = [np.ascontiguousarray(column, np.float64) for column in columns]
        self._same_length([symbol, *values])
        return values

    def _same_length(self, columns: list[Any]) -> None:
        shapes = [column.shape for column in columns]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1:
            raise ShapeError(f"{type(self).__name__}: columns of shapes {shapes} do not fit each other")
