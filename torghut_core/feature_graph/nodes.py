"""The nodes of a graph: each computes one value of each row of its frame, in order, with a state per symbol.

`update` gets the frame's rows in this batch and the values of its inputs there, of shape (rows,) or, of an indicator with several
outputs, (outputs, rows). What is not known is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from torghut_core.boundary import bound_method, from_plugins, make_plugin
from torghut_core.errors import PluginError, text_of
from torghut_core.model.market import FloatArray, IntArray, Signals, SymbolTable
from torghut_core.plugin_host import Registered
from torghut_core.plugin_host.running_plugin import label
from torghut_core.ports import Indicator, Params
from torghut_core.stages.base import kernel
from torghut_core.stages.machine_code import NUMBER, NUMBERS, OUTPUT, VALUES, native, records

CONDITIONS: Mapping[str, Any] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "&": np.logical_and,
    "|": np.logical_or,
    "~": np.logical_not,
}
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
    known : shape (rows,), when each row is known, never falling: the position in the stream, and in the lowest bits, of
        slices, which of the bars that became known there.
    table : the symbols.
    is_whole : whether they are all the rows of the table.
    """

    signals: Signals
    rows: IntArray
    symbol: IntArray
    known: IntArray
    table: SymbolTable
    is_whole: bool


class Failure(NamedTuple):
    """What an indicator raised, and from which position in the stream on it has no values."""

    error: BaseException
    known: int


class Node:
    """One value of each row."""

    def update(self, rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """The values of the rows of a batch; called with numpy's warnings off."""
        raise NotImplementedError

    def move(self, numbers: IntArray, symbols: int) -> None:
        """Continue with another table of so many symbols; `numbers` has the new number of each symbol, shape (symbols before,)."""

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
        column: FloatArray = getattr(rows.signals, self._name)
        return (column if rows.is_whole else column[rows.rows]).astype(np.float64, copy=False)


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
        if function := FUNCTIONS.get(operation):
            values: FloatArray = function(*inputs)
            values[~np.isfinite(values)] = np.nan
            return values
        unknown = np.isnan(inputs[0])
        if operation == "where":  # the branch that is not taken may be unknown
            found = np.where(inputs[0], inputs[1], inputs[2])
        else:
            for more in inputs[1:]:
                unknown |= np.isnan(more)
            found = CONDITIONS[operation](*inputs).astype(np.float64)
        found[unknown] = np.nan
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
        self._slots, self._seen = grown(self._slots, len(rows.table)), grown(self._seen, len(rows.table))
        out = np.empty(len(rows.rows))
        self._run(self._slots, self._seen, rows.symbol, np.ascontiguousarray(inputs[0]), out)
        return out

    def move(self, numbers: IntArray, symbols: int) -> None:
        """See `Node.move`."""
        self._slots, self._seen = moved(self._slots, numbers, symbols), moved(self._seen, numbers, symbols)

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

    def join(self, source: FrameRows, values: FloatArray, rows: FrameRows) -> FloatArray:
        """The values of a frame's rows, of `values` of the rows of another one."""
        self._last = grown(self._last, len(rows.table), np.nan)
        only = rows.table.find(self._symbol) if self._symbol else -1
        out = np.full(len(rows.rows), np.nan)
        if only is not None:
            values = np.ascontiguousarray(values)
            self._run(self._last, source.symbol, source.known, values, rows.symbol, rows.known, only, out)
        return out

    def move(self, numbers: IntArray, symbols: int) -> None:
        """See `Node.move`."""
        self._last = moved(self._last, numbers, symbols, np.nan)

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
        self._symbols = symbols
        self._is_listed = np.zeros(0, bool)

    def update(self, rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """See `Node.update`; the value of a row alone in its slice is 0.5."""
        (values,) = inputs
        names = rows.table.names
        if len(self._is_listed) != len(names):
            self._is_listed = np.fromiter((name in self._symbols for name in names), bool, len(names))
        counts = self._is_listed[rows.symbol] & ~np.isnan(values)
        out = np.full(len(values), np.nan)
        bounds = np.append(np.flatnonzero(np.diff(rows.known, prepend=rows.known[0] - 1)), len(values))
        for first, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            known = first + np.flatnonzero(counts[first:stop])
            slice_ = values[known]
            ordered = np.sort(slice_)
            low, high = ordered.searchsorted(slice_, "left"), ordered.searchsorted(slice_, "right") - 1
            out[known] = (low + high) / 2 / (len(slice_) - 1) if len(slice_) > 1 else 0.5
        return out

    def move(self, numbers: IntArray, symbols: int) -> None:  # noqa: ARG002 - it keeps nothing else
        """See `Node.move`."""
        self._is_listed = np.zeros(0, bool)


class Output(Node):
    """One of the outputs of an indicator that has several."""

    def __init__(self, number: int) -> None:
        self._number = number

    def update(self, _rows: FrameRows, *inputs: FloatArray) -> FloatArray:
        """See `Node.update`."""
        output: FloatArray = inputs[0][self._number]
        return output


class IndicatorNode(Node):
    """An indicator, which may raise anything.

    Attributes
    ----------
    outputs : how many it has.
    label : what is noted while it is at work.
    failure : what it raised; None before.
    """

    outputs: int
    label: bytes
    failure: Failure | None = None

    def values(self, rows: FrameRows, inputs: FloatArray, known: NDArray[np.bool_] | None) -> FloatArray:
        """The outputs of inputs of shape (inputs, rows); `known` where all of them are, None: everywhere.

        Their shape is (outputs, rows), and (rows,) where there is one.
        """
        raise NotImplementedError

    def unknown(self, rows: int) -> FloatArray:
        """The outputs of so many rows that have none, in their shape."""
        return np.full(rows if self.outputs == 1 else (self.outputs, rows), np.nan)


class CompiledIndicator(IndicatorNode):
    """An indicator with a compiled loop: one instance, a row of state for each symbol."""

    def __init__(self, plugin: Registered, row: np.dtype[Any], numbers: tuple[float, ...]) -> None:
        cls: type[Indicator] = plugin.cls  # type: ignore[assignment]  # an indicator's
        self.label = label("indicator", plugin.name)
        self.outputs = len(cls.outputs)
        self._numbers = np.array(numbers, np.float64)
        self._state = np.zeros(0, row)
        self._run = native(cls.kernel, records(self._state.dtype), NUMBERS, OUTPUT, VALUES, OUTPUT)

    def values(self, rows: FrameRows, inputs: FloatArray, known: NDArray[np.bool_] | None) -> FloatArray:
        """See `IndicatorNode.values`; rows without one of the inputs are left out."""
        if len(self._state) < len(rows.table):
            self._state = grown(self._state, len(rows.table))
        symbol, found = rows.symbol, np.empty((self.outputs, inputs.shape[1]))
        out = found[0] if self.outputs == 1 else found
        if known is not None:
            symbol, inputs = symbol[known], np.ascontiguousarray(inputs[:, known])
            found = np.empty((self.outputs, len(symbol)))
            out.fill(np.nan)
        try:
            self._run(self._state, symbol, inputs, self._numbers, found)
        except from_plugins() as error:
            self.failure = Failure(error, int(rows.known[0]))
            found.fill(np.nan)
        if known is not None:
            out[..., known] = found
        return out

    def move(self, numbers: IntArray, symbols: int) -> None:
        """See `Node.move`."""
        self._state = moved(self._state, numbers, symbols)

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


class PlainIndicator(IndicatorNode):
    """An indicator in plain Python: an instance for each symbol."""

    def __init__(self, plugin: Registered, params: Params) -> None:
        self.label = label("indicator", plugin.name)
        self.outputs = len(plugin.cls.outputs)  # type: ignore[attr-defined]  # an indicator's
        self._plugin, self._params = plugin, params
        self._indicators: dict[int, Any] = {}
        self._updates: dict[int, Any] = {}

    def values(self, rows: FrameRows, inputs: FloatArray, known: NDArray[np.bool_] | None) -> FloatArray:
        """See `IndicatorNode.values`; what is not finite is not known. The values of the rows before one that fails remain."""
        name = self._plugin.name  # the watchdog reads this local, see `CALLERS`
        out = np.full((self.outputs, inputs.shape[1]), np.nan)
        places = range(inputs.shape[1]) if known is None else np.flatnonzero(known).tolist()
        symbols = rows.symbol.tolist()
        columns = [column.tolist() for column in inputs]
        i = 0
        try:
            for i in places:
                update = self._updates.get(symbols[i])
                if update is None:
                    update = self._add(symbols[i])
                found = update(*[column[i] for column in columns])
                try:
                    out[:, i] = found if self.outputs == 1 else _tuple(found, self.outputs)
                except (TypeError, ValueError):
                    reason = f"update gave {text_of(found, repr):.80}, and not {self.outputs} numbers"
                    raise PluginError(name, reason, self._plugin.distribution) from None
        except from_plugins() as error:
            self.failure = Failure(error, int(rows.known[i]))
        out[~np.isfinite(out)] = np.nan
        return out[0] if self.outputs == 1 else out

    def _add(self, symbol: int) -> Any:
        name = self._plugin.name  # noqa: F841 - the watchdog reads it
        made = self._indicators[symbol] = make_plugin(self._plugin.cls, self._params)
        update = self._updates[symbol] = bound_method(made, "update")
        return update

    def move(self, numbers: IntArray, symbols: int) -> None:  # noqa: ARG002 - it has no array
        """See `Node.move`."""
        self._indicators = {int(numbers[symbol]): made for symbol, made in self._indicators.items()}
        self._updates = {int(numbers[symbol]): update for symbol, update in self._updates.items()}

    def save(self, names: Sequence[str]) -> Any:
        """See `Node.save`."""
        name = self._plugin.name  # noqa: F841 - the watchdog reads it
        states = {}
        for symbol, made in self._indicators.items():
            states[names[symbol]] = bound_method(made, "save_state")()
        return states

    def load(self, saved: Any, numbers: Mapping[str, int], symbols: int) -> None:  # noqa: ARG002 - it has no array
        """See `Node.load`."""
        name = self._plugin.name  # noqa: F841 - the watchdog reads it
        for symbol, state in saved.items():
            self._add(numbers[symbol])
            bound_method(self._indicators[numbers[symbol]], "load_state")(state, self._plugin.cls.state_version)

    CALLERS: ClassVar[dict[CodeType, str]] = {each.__code__: "name" for each in (values, _add, save, load)}
    """The functions here that call an indicator, each with the local variable that names it; see `Watchdog`."""


def _tuple(found: Any, outputs: int) -> Any:
    """Several outputs, and so many; one number would be taken for all of them."""
    if len(found) != outputs:
        raise ValueError(found)
    return found


def grown(state: Any, rows: int, fill: float = 0) -> Any:
    """A state array with at least so many rows; new ones are filled."""
    return state if rows <= len(state) else moved(state, np.arange(len(state)), rows, fill)


def moved(state: Any, numbers: IntArray, rows: int, fill: float = 0) -> Any:
    """A state array of so many rows with those of another one at these numbers; the others are filled."""
    new = np.zeros((rows, *state.shape[1:]), state.dtype)
    if fill:
        new.fill(fill)
    new[numbers[: len(state)]] = state[: len(numbers)]
    return new
