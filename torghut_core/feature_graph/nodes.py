"""The nodes of a graph: each computes one value of each row of its frame, in order, with a state per symbol.

`update` gets the frame's rows in this batch and the values of its inputs there, of shape (rows,) or, of an indicator's
outputs, (outputs, rows). What is not known is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from torghut_core.boundary import bound_method, make_plugin
from torghut_core.errors import PluginError
from torghut_core.model.market import FloatArray, IntArray, Signals, SymbolTable
from torghut_core.plugin_host import Registered
from torghut_core.ports import Indicator, Params
from torghut_core.stages.base import kernel
from torghut_core.stages.machine_code import NUMBER, NUMBERS, OUTPUT, VALUES, native, records

CONDITIONS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
FUNCTIONS: Mapping[str, Any] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "abs": np.abs,
    "smaller": np.minimum,
    "larger": np.maximum,
    "log": np.log,
    "sqrt": np.sqrt,
}
QUOTES = {
    "bid": "imbalance_bid_px",
    "ask": "imbalance_ask_px",
    "bid_size": "imbalance_bid_sz",
    "ask_size": "imbalance_ask_sz",
}
"""Columns of ``ta_signals`` by the leaf that reads them."""


class FrameRows(NamedTuple):
    """The rows of a frame in a batch: the bars of one timeframe, of the symbols of the strategies.

    Attributes
    ----------
    signals : the table that they are in.
    rows : shape (n,), their indices in it, rising.
    symbol : shape (rows,), symbol numbers.
    known : shape (rows,), the position in the stream at which each row is known, never falling.
    symbols : symbols in the table of symbols.
    """

    signals: Signals
    rows: IntArray
    symbol: IntArray
    known: IntArray
    symbols: int


class Node:
    """One value of each row."""

    def update(self, rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """The values of the rows of a batch."""
        raise NotImplementedError

    def save(self, names: Sequence[str]) -> Any:
        """The state, as plain values and arrays, by symbol name; None of a node without one."""

    def load(self, saved: Any, numbers: Mapping[str, int], symbols: int) -> None:
        """Resume from a saved state; `numbers` has the number of each symbol in it, of `symbols` in the table."""


class Column(Node):
    """A column of the signals."""

    def __init__(self, name: str) -> None:
        self._name = {"trade_count": "count"}.get(name) or QUOTES.get(name, name)

    def update(self, rows: FrameRows, *_inputs: FloatArray) -> FloatArray:
        """See `Node.update`."""
        column: FloatArray = getattr(rows.signals, self._name)[rows.rows]
        return column.astype(np.float64, copy=False)


class Constant(Node):
    """A number."""

    def __init__(self, number: float) -> None:
        self._number = number

    def update(self, rows: FrameRows, *_inputs: FloatArray) -> FloatArray:
        """See `Node.update`."""
        return np.full(len(rows.rows), self._number)


class Elementwise(Node):
    """An operation on values of the same row."""

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def update(self, _rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """See `Node.update`."""
        operation = self._operation
        with np.errstate(all="ignore"):
            if function := FUNCTIONS.get(operation):
                values: FloatArray = function(*inputs)
                values[~np.isfinite(values)] = np.nan
                return values
            known = ~np.isnan(inputs).any(axis=0)
            if condition := CONDITIONS.get(operation):
                found = condition(*inputs).astype(np.float64)
            elif operation == "&":
                found = np.logical_and(inputs[0], inputs[1]).astype(np.float64)
            elif operation == "|":
                found = np.logical_or(inputs[0], inputs[1]).astype(np.float64)
            elif operation == "~":
                found = np.logical_not(inputs[0]).astype(np.float64)
            else:  # where: the branch that is not taken may be unknown
                found, known = np.where(inputs[0], inputs[1], inputs[2]), ~np.isnan(inputs[0])
        found[~known] = np.nan
        return found


@kernel
def _shift(slots: FloatArray, seen: IntArray, symbol: IntArray, values: FloatArray, out: FloatArray) -> None:
    bars = slots.shape[1]
    for i in range(len(symbol)):
        row = symbol[i]
        slot = seen[row] % bars
        out[i] = slots[row, slot] if seen[row] >= bars else np.nan
        slots[row, slot] = values[i]
        seen[row] += 1


class Shift(Node):
    """The value of some rows of the symbol before."""

    def __init__(self, bars: int) -> None:
        self._bars = bars
        self._slots, self._seen = np.zeros((0, bars)), np.zeros(0, np.int64)
        self._run = native(_shift, OUTPUT, NUMBERS, NUMBERS, VALUES, VALUES)

    def update(self, rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """See `Node.update`."""
        self._slots, self._seen = grown(self._slots, rows.symbols), grown(self._seen, rows.symbols)
        out = np.empty(len(rows.rows))
        self._run(self._slots, self._seen, rows.symbol, np.ascontiguousarray(inputs[0]), out)
        return out

    def save(self, names: Sequence[str]) -> Any:
        """See `Node.save`."""
        return {
            name: [seen, slots.tolist()]
            for name, seen, slots in zip(names, self._seen.tolist(), self._slots, strict=False)
            if seen
        }

    def load(self, saved: Any, numbers: Mapping[str, int], symbols: int) -> None:
        """See `Node.load`."""
        self._slots, self._seen = grown(self._slots, symbols), grown(self._seen, symbols)
        for name, (seen, slots) in saved.items():
            self._seen[numbers[name]], self._slots[numbers[name]] = seen, slots


@kernel
def _as_of(
    last: FloatArray,
    from_symbol: IntArray,
    from_known: IntArray,
    values: FloatArray,
    symbol: IntArray,
    known: IntArray,
    only: int,
    out: FloatArray,
) -> None:
    j = 0
    for i in range(len(symbol)):
        while j < len(from_symbol) and from_known[j] <= known[i]:
            last[from_symbol[j]] = values[j]
            j += 1
        out[i] = last[symbol[i] if only < 0 else only]
    while j < len(from_symbol):
        last[from_symbol[j]] = values[j]
        j += 1


class AsOf(Node):
    """The last value of another frame that is known at a row: of the row's symbol, or of one that is named."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._last = np.zeros(0)
        rows = NUMBERS, NUMBERS, VALUES, NUMBERS, NUMBERS
        self._run = native(_as_of, VALUES, *rows, NUMBER, VALUES)

    def join(self, source: FrameRows, values: FloatArray, rows: FrameRows, table: SymbolTable) -> FloatArray:
        """The values of a frame's rows, of `values` of the rows of another one."""
        self._last = grown(self._last, rows.symbols, np.nan)
        only = table.find(self._symbol) if self._symbol else -1
        out = np.full(len(rows.rows), np.nan)
        if only is not None:
            values = np.ascontiguousarray(values)
            self._run(self._last, source.symbol, source.known, values, rows.symbol, rows.known, only, out)
        return out

    def save(self, names: Sequence[str]) -> Any:
        """See `Node.save`."""
        return {name: last for name, last in zip(names, self._last.tolist(), strict=False) if last == last}

    def load(self, saved: Any, numbers: Mapping[str, int], symbols: int) -> None:
        """See `Node.load`."""
        self._last = grown(self._last, symbols, np.nan)
        for name, last in saved.items():
            self._last[numbers[name]] = last


class Rank(Node):
    """The place of a value among those of the slice: 0 for the lowest, 1 for the highest, the mean place of equal ones."""

    def __init__(self, symbols: frozenset[str]) -> None:
        self.symbols = symbols

    def update(self, rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """See `Node.update`; the value of a row alone in its slice is 0.5."""
        (values,) = inputs
        out = np.full(len(values), np.nan)
        bounds = np.flatnonzero(np.diff(rows.known, prepend=-1, append=-1))
        for first, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            known = first + np.flatnonzero(~np.isnan(values[first:stop]))
            slice_ = values[known]
            ordered = np.sort(slice_)
            low, high = ordered.searchsorted(slice_, "left"), ordered.searchsorted(slice_, "right") - 1
            out[known] = (low + high) / 2 / (len(slice_) - 1) if len(slice_) > 1 else 0.5
        return out


class Output(Node):
    """One of the outputs of an indicator."""

    def __init__(self, number: int) -> None:
        self._number = number

    def update(self, _rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """See `Node.update`."""
        output: FloatArray = inputs[0][self._number]
        return output


class CompiledIndicator(Node):
    """An indicator with a compiled loop: one instance, a row of state for each symbol."""

    def __init__(self, plugin: Registered, params: Params) -> None:
        self._indicator: Indicator = plugin.create(params)
        self._numbers = np.array(self._indicator.numbers(), np.float64)
        self._state = np.zeros(0, self._indicator.row())
        state = records(self._state.dtype)
        self.outputs = len(self._indicator.outputs)
        loop = type(self._indicator).kernel
        self._run = native(loop, state, NUMBERS, OUTPUT, VALUES, OUTPUT)

    def update(self, rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """See `Node.update`; rows without one of the inputs are left out."""
        self._state = grown(self._state, rows.symbols)
        block = np.array(inputs)
        known = np.logical_and.reduce(np.isfinite(block))
        if known.all():
            out = np.empty((self.outputs, len(known)))
            self._run(self._state, rows.symbol, block, self._numbers, out)
            return out
        out = np.full((self.outputs, len(known)), np.nan)
        found = np.empty((self.outputs, int(known.sum())))
        self._run(self._state, rows.symbol[known], np.ascontiguousarray(block[:, known]), self._numbers, found)
        out[:, known] = found
        return out

    def save(self, names: Sequence[str]) -> Any:
        """See `Node.save`."""
        used = {name: row.tobytes() for name, row in zip(names, self._state, strict=False)}
        empty = bytes(self._state.dtype.itemsize)
        return {name: row for name, row in used.items() if row != empty}

    def load(self, saved: Any, numbers: Mapping[str, int], symbols: int) -> None:
        """See `Node.load`."""
        self._state = grown(self._state, symbols)
        for name, row in saved.items():
            self._state[numbers[name]] = np.frombuffer(row, self._state.dtype)[0]


class PlainIndicator(Node):
    """An indicator in plain Python: an instance for each symbol."""

    def __init__(self, plugin: Registered, params: Params) -> None:
        self._plugin, self._params = plugin, params
        self.outputs = len(plugin.cls.outputs)  # type: ignore[attr-defined]  # an indicator's
        self._indicators: dict[int, Any] = {}
        self._updates: dict[int, Any] = {}

    def update(self, rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """See `Node.update`.

        Raises
        ------
        PluginError : it gave something else than its outputs. What it raises itself goes through.
        """
        out = np.full((self.outputs, len(rows.rows)), np.nan)
        known = np.isfinite(np.array(inputs)).all(axis=0)
        symbols = rows.symbol[known].tolist()
        values = zip(*(column[known].tolist() for column in inputs), strict=True)
        for i, symbol, value in zip(np.flatnonzero(known).tolist(), symbols, values, strict=True):
            update = self._updates.get(symbol)
            if update is None:
                update = self._add(symbol)
            found = update(*value)
            try:
                out[:, i] = found
            except (TypeError, ValueError):
                reason = f"update gave {found!r:.80}, and not {self.outputs} numbers"
                raise PluginError(self._plugin.name, reason, self._plugin.distribution) from None
        return out

    def _add(self, symbol: int) -> Any:
        made = self._indicators[symbol] = make_plugin(self._plugin.cls, self._params)
        update = self._updates[symbol] = bound_method(made, "update")
        return update

    def save(self, names: Sequence[str]) -> Any:
        """See `Node.save`."""
        return {names[symbol]: bound_method(made, "save_state")() for symbol, made in self._indicators.items()}

    def load(self, saved: Any, numbers: Mapping[str, int], symbols: int) -> None:  # noqa: ARG002 - it has no array
        """See `Node.load`."""
        for name, state in saved.items():
            self._add(numbers[name])
            bound_method(self._indicators[numbers[name]], "load_state")(state, self._plugin.cls.state_version)


def grown(state: Any, rows: int, fill: float = 0) -> Any:
    """A state array with at least so many rows; new ones are filled."""
    if rows <= len(state):
        return state
    new = np.zeros((rows, *state.shape[1:]), state.dtype)
    if fill:
        new[len(state) :] = fill
    new[: len(state)] = state
    return new
