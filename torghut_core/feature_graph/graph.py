"""The graph at work: batch by batch, each node after its inputs.

The rows that strategies are shown come from here too, where they have features: of each frame the rows of the batch, and the
values of its nodes in them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import attrgetter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from torghut_core.boundary import from_plugins
from torghut_core.feature_graph.history import Histories
from torghut_core.feature_graph.nodes import AsOf, Failure, FrameRows, IndicatorNode, Node
from torghut_core.feature_graph.past_rows import PastRows, read_elsewhere
from torghut_core.feature_graph.plan import FeaturePlan, Frame, Planned, Wanted
from torghut_core.feature_graph.slices import Slices
from torghut_core.market_data.snapshots import OnFailure, pack, reraise, unpack
from torghut_core.model.market import Batch, FloatArray, IntArray, Signals, SymbolTable
from torghut_core.plugin_host.running_plugin import LOOP, RECORD
from torghut_core.timestamps import EARLIEST

NO_VALUES = np.zeros(0)

BARS_OF_SLICE = 20
"""So many bits of `FrameRows.known` number the bars of a symbol that become known at one position."""


class FeatureGraph:
    """Runs the nodes of a plan, and has their state.

    Parameters
    ----------
    plan : the nodes, and what each strategy wants of them.

    Attributes
    ----------
    rows : the rows of each frame in the batch of the last `update`.
    values : of each node, the values of the rows of its frame in that batch.
    histories : the last bars, for strategies that look back.
    failed : nodes whose indicator has raised: from there on they have no values.
    """

    def __init__(self, plan: FeaturePlan) -> None:
        self.plan = plan
        self.rows: dict[Frame, FrameRows] = {}
        self.values: dict[str, FloatArray] = {}
        self.failed: dict[str, Failure] = {}
        self._nodes = {key: planned.make() for key, planned in plan.nodes.items()}
        self._slices = {frame: Slices() for frame in plan.symbols if frame.is_sliced}
        self._wanted: dict[Frame, NDArray[np.bool_]] = {}
        self.histories = Histories(plan.history)
        self._table = SymbolTable()
        self._now = self._now_before = EARLIEST
        """The loop's time at the end of the batch, and of the one before it, ns."""
        self._shown: dict[tuple[int, str], int] = {}
        """By step and symbol, `event_ts` of the last row that was shown beforehand."""

    def skip_shown(self, batch: Batch, but: Collection[tuple[int, str]] = ()) -> None:
        """Leave out of the batches to come the rows that are in this one, or before them; not of series in `but`."""
        signals, names = batch.signals, batch.symbols.names
        for step, number, event_ts in zip(
            signals.step.tolist(), signals.symbol.tolist(), signals.event_ts.tolist(), strict=True
        ):
            place = step, names[number]
            if place in but:
                continue
            self._shown[place] = max(self._shown.get(place, event_ts), event_ts)
        self.histories.settle()

    def resume(self, before: FeatureGraph) -> set[str]:
        """Resume with the nodes of another graph that compute the same; return the keys of those that are new.

        Of symbols whose rows that graph did not select, what this one knows of them remains.
        """
        self._adopt(before._table)
        self._now = before._now
        new = self._nodes.keys() - before._nodes.keys()
        added = {frame: names - before.plan.symbols.get(frame, set()) for frame, names in self.plan.symbols.items()}
        self.failed = {key: Failure(failure.error, EARLIEST) for key, failure in self.failed.items() if key in new}
        self.failed |= {key: failure for key, failure in before.failed.items() if key in self._nodes}
        for key in self._nodes.keys() - new:
            mine, self._nodes[key] = self._nodes[key], before._nodes[key]
            planned = self.plan.nodes[key]
            if names := added[planned.source or planned.frame]:
                self._nodes[key].load(*self._state_of(mine, names))
        for frame in self._slices.keys() & before._slices.keys():
            waiting, self._slices[frame] = self._slices[frame], before._slices[frame]
            self._slices[frame].add(waiting, self._is_one_of(added[frame]))
        self.histories.resume(before.histories)
        self._shown = dict(before._shown)
        return new

    def rescale(self, factors: Mapping[str, float], past: PastRows) -> None:
        """Compute features anew at a split, from the last rows: as if the prices of symbols had always been `factors` times what they were.

        Parameters
        ----------
        past : the rows, in the prices of after the split.
        """
        for symbol, factor in factors.items():
            self.histories.rescale(symbol, factor)
        batch = past.batch(self.plan, self._now)
        fresh = FeatureGraph(FeaturePlan(self.plan.nodes, self.plan.symbols))
        fresh.update(batch)
        elsewhere = read_elsewhere(self.plan, factors.keys())
        for key, node in self._nodes.items():
            if key in fresh.failed and key not in self.failed:
                self.failed[key] = Failure(fresh.failed[key].error, EARLIEST)
            if key not in self.failed:
                names = factors.keys() | elsewhere.get(key, frozenset())
                saved, _, _ = fresh._state_of(fresh._nodes[key], names)
                node.load(saved, {name: self._table.number(name) for name in saved}, len(self._table))

    def _state_of(self, node: Node, symbols: Collection[str]) -> tuple[dict[str, Any], dict[str, int], int]:
        """The state of a node in some symbols, as another one loads it; none where it cannot be saved."""
        try:
            saved = node.save(self._table.names) or {}
        except from_plugins():  # a plain indicator's own method may raise anything; it starts anew in these symbols
            saved = {}
        known = {name: saved[name] for name in symbols if name in saved}
        return known, {name: self._table.number(name) for name in known}, len(self._table)

    def _is_one_of(self, symbols: Collection[str]) -> NDArray[np.bool_]:
        """Whether each symbol of the table is one of these, shape (symbols,)."""
        names = self._table.names
        return np.fromiter((name in symbols for name in names), bool, len(names))

    def update(self, batch: Batch) -> None:
        """Compute the values of a batch whose signals are filled in."""
        if batch.symbols is not self._table:
            self._adopt(batch.symbols)
        if len(batch):
            self._now_before, self._now = self._now, int(batch.now[-1])
        self.rows = {frame: self._rows(batch, frame) for frame in self.plan.symbols}
        if self._shown:
            self._forget_shown()
        for step in self.histories.bars:
            self.histories.update(step, batch, self.rows[Frame(step, is_sliced=False)])
        values: dict[str, FloatArray] = {}
        self.values = values
        blocks: dict[tuple[str, ...], tuple[FloatArray, Any]] = {}
        before = RECORD.memory[LOOP]
        with np.errstate(all="ignore"):
            for key, planned in self.plan.nodes.items():
                values[key] = self._compute(planned, self._nodes[key], values, blocks)
        RECORD.memory[LOOP] = before

    def _compute(
        self,
        planned: Planned,
        node: Node,
        values: Mapping[str, FloatArray],
        blocks: dict[tuple[str, ...], tuple[FloatArray, Any]],
    ) -> FloatArray:
        """The values of a node; `blocks` has the inputs of indicators, and in which rows they are all known."""
        rows, inputs = self.rows[planned.frame], planned.inputs
        if planned.source is not None:
            source = self.rows[planned.source]
            if not len(source.rows) and not len(rows.rows):
                return NO_VALUES
            return cast("AsOf", node).join(source, values[inputs[0]], rows)
        if not len(rows.rows):
            return NO_VALUES
        if not isinstance(node, IndicatorNode):
            return node.update(rows, *[values[key] for key in inputs])
        if planned.key in self.failed:
            return node.unknown(len(rows.rows))
        block = blocks.get(inputs)
        if block is None:
            block = blocks[inputs] = _block([values[key] for key in inputs])
        RECORD.memory[LOOP] = node.label
        found = node.values(rows, *block)
        if node.failure is not None:  # those who do not use it trade on
            self.failed[planned.key] = node.failure
        return found

    def times(self, batch: Batch, at: IntArray) -> IntArray:
        """The loop's time at positions of the batch, or right before it, shape (n,), ns."""
        if len(at) and at[0] < batch.start:
            return np.append(batch.now, self._now_before)[at - batch.start]
        return batch.now[at - batch.start]

    def failure(self, wanted: Wanted) -> Failure | None:
        """The first failure of a node that a strategy needs; None where all of them work."""
        needed = {*wanted.nodes}
        for key, node in reversed(self.plan.nodes.items()):
            if key in needed:
                needed.update(node.inputs)
        return min((self.failed[key] for key in self.failed.keys() & needed), key=attrgetter("known"), default=None)

    def _rows(self, batch: Batch, frame: Frame) -> FrameRows:
        signals, names = batch.signals, batch.symbols.names
        wanted = self._wanted.get(frame)
        if wanted is None or len(wanted) != len(names):
            wanted = self._wanted[frame] = self._is_one_of(self.plan.symbols[frame])
        is_row = (signals.step == frame.step) & wanted[signals.symbol]
        if self._shown:
            last = np.array([self._shown.get((frame.step, name), EARLIEST) for name in names], np.int64)
            is_row &= signals.event_ts > last[signals.symbol]
        index = np.flatnonzero(is_row)
        if frame.is_sliced:
            signals = self._slices[frame].update(batch, index)
            return FrameRows(signals, np.arange(len(signals)), signals.symbol, _known(signals), batch.symbols, True)
        if len(index) == len(signals):
            return FrameRows(signals, index, signals.symbol, signals.at << BARS_OF_SLICE, batch.symbols, True)
        return FrameRows(
            signals, index, signals.symbol[index], signals.at[index] << BARS_OF_SLICE, batch.symbols, False
        )

    def _forget_shown(self) -> None:
        """Forget which rows of a symbol to leave out as soon as a later one has come."""
        for frame, rows in self.rows.items():
            for number in np.unique(rows.symbol).tolist():
                self._shown.pop((frame.step, rows.table.names[number]), None)

    def _adopt(self, table: SymbolTable) -> None:
        """Continue with another table of symbols."""
        if table is self._table:
            return
        numbers = table.numbers(self._table.names)
        for slices in self._slices.values():
            slices.move(numbers)
        for node in self._nodes.values():
            node.move(numbers, len(table))
        self._table = table
        self._wanted.clear()

    def follow(self, frame: Frame, symbols: Collection[str]) -> None:
        """Select the rows of these symbols too."""
        followed = self.plan.symbols.setdefault(frame, set())
        if not followed.issuperset(symbols):
            followed.update(symbols)
            self._wanted.pop(frame, None)

    # State.

    def save(self, on_failure: OnFailure = reraise) -> dict[str, Any]:
        """The state, as plain values: of each node that works, by key, and the rows that wait for their slice.

        Parameters
        ----------
        on_failure : called with the name of an indicator whose state cannot be saved, and why: its node is left out.
        """
        names, nodes = list(self._table.names), {}
        for key, node in self._nodes.items():
            if key in self.failed:
                continue
            try:
                nodes[key] = pack(node.save(names))
            except from_plugins() as error:  # an indicator may raise anything
                on_failure(self.plan.nodes[key].plugin, error)
        slices = {str(frame.step): slices.save(names) for frame, slices in self._slices.items()}
        return {
            "symbols": names,
            "now": self._now,
            "nodes": nodes,
            "slices": {step: rows for step, rows in slices.items() if rows},
            "history": self.histories.save(),
            "frames": [[*frame, sorted(symbols)] for frame, symbols in self.plan.symbols.items()],
            "bars": [[step, bars] for step, bars in self.plan.history.items()],
        }

    def load(self, saved: Mapping[str, Any], on_failure: OnFailure = reraise) -> set[str]:
        """Resume from what `save` gave; of nodes that are not in this graph nothing is kept.

        Parameters
        ----------
        on_failure : called with the name of an indicator that does not take its state, and why.

        Returns
        -------
        The keys of the nodes of such indicators: they begin anew.
        """
        numbers = {name: self._table.number(name) for name in saved["symbols"]}
        self._now = saved["now"]
        lost = set()
        for key in self._nodes.keys() & saved["nodes"].keys():
            try:
                if (state := unpack(saved["nodes"][key])) is not None:
                    self._nodes[key].load(state, numbers, len(self._table))
            except from_plugins() as error:  # an indicator may raise anything
                self._nodes[key] = self.plan.nodes[key].make()
                lost.add(key)
                on_failure(self.plan.nodes[key].plugin, error)
        self.histories.load(saved["history"])
        for frame, slices in self._slices.items():
            if str(frame.step) in saved["slices"]:
                slices.load(saved["slices"][str(frame.step)], numbers)
        return lost


def _block(values: list[FloatArray]) -> tuple[FloatArray, NDArray[np.bool_] | None]:
    """Inputs as one block, shape (inputs, rows), and in which rows all of them are known; None: in every row."""
    block = values[0].reshape(1, -1) if len(values) == 1 else np.array(values)
    known: Any = np.isfinite(block).all(axis=0)
    return np.ascontiguousarray(block), None if known.all() else known


def _known(signals: Signals) -> IntArray:
    """When rows of slices are known, as `FrameRows.known`: bars of one time together, and before later bars.

    After a quiet spell several bars of a symbol become known at one time.
    """
    is_new = np.diff(signals.at, prepend=-2) != 0  # a position may be -1, right before the first batch
    bars = np.cumsum(is_new | (np.diff(signals.event_ts, prepend=0) != 0))
    firsts = np.flatnonzero(is_new)
    before = np.repeat(bars[firsts], np.diff(firsts, append=len(bars)))
    known: IntArray = (signals.at << BARS_OF_SLICE) + bars - before
    return known
