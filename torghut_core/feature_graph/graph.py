"""The graph at work: batch by batch, each node after its inputs.

The rows that strategies are shown come from here too, where they have features: of each frame the rows of the batch, and the
values of its nodes in them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from torghut_core.boundary import from_plugins
from torghut_core.feature_graph.nodes import AsOf, FrameRows
from torghut_core.feature_graph.plan import FeaturePlan, Frame, Planned, Wanted
from torghut_core.feature_graph.slices import Slices
from torghut_core.model.market import Batch, FloatArray, IntArray, SymbolTable
from torghut_core.plugin_host.running_plugin import LOOP, RECORD, label
from torghut_core.timestamps import EARLIEST


class FeatureGraph:
    """Runs the nodes of a plan.

    Parameters
    ----------
    plan : the nodes, and what each strategy wants of them.

    Attributes
    ----------
    rows : the rows of each frame in the batch of the last `update`.
    values : of each node, the values of the rows of its frame in that batch.
    failed : nodes whose indicator has raised, with what it was; they have no values any more.
    """

    def __init__(self, plan: FeaturePlan) -> None:
        self.plan = plan
        self.rows: dict[Frame, FrameRows] = {}
        self.values: dict[str, FloatArray] = {}
        self.failed: dict[str, BaseException] = {}
        self._nodes = list(plan.nodes.values())
        self._slices = {frame: Slices() for frame in plan.symbols if frame.is_sliced}
        self._wanted: dict[Frame, Any] = {}
        self._table = SymbolTable()
        self._shown: dict[tuple[int, str], int] = {}
        """By step and symbol, `event_ts` of the last row that was shown beforehand."""

    def skip_shown(self, batch: Batch) -> None:
        """Leave out of the batches to come, until `resume`, the rows that are in this one, or before them."""
        signals, names = batch.signals, batch.symbols.names
        for step, number, event_ts in zip(
            signals.step.tolist(), signals.symbol.tolist(), signals.event_ts.tolist(), strict=True
        ):
            place = step, names[number]
            self._shown[place] = max(self._shown.get(place, event_ts), event_ts)

    def resume(self, before: FeatureGraph) -> set[str]:
        """Resume with the nodes of another graph that compute the same; return the keys of those that are new."""
        nodes, known = self.plan.nodes, before.plan.nodes
        for key in nodes.keys() & known.keys():
            nodes[key] = known[key]
        self._nodes = list(nodes.values())
        self.failed = {key: error for key, error in before.failed.items() if key in nodes}
        self._slices |= {frame: slices for frame, slices in before._slices.items() if frame in self._slices}
        self._table = before._table
        self._shown.clear()
        return nodes.keys() - known.keys()

    def update(self, batch: Batch) -> None:
        """Compute the values of a batch whose signals are filled in."""
        if batch.symbols is not self._table:
            self._adopt(batch.symbols)
        self.rows = {frame: self._rows(batch, frame) for frame in self.plan.symbols}
        values: dict[str, FloatArray] = {}
        before = RECORD.memory[LOOP]
        for node in self._nodes:
            values[node.key] = self._compute(node, values)
        RECORD.memory[LOOP] = before
        self.values = values

    def _compute(self, planned: Planned, values: Mapping[str, FloatArray]) -> FloatArray:
        """The values of a node; the watchdog reads the local `name`."""
        rows, inputs = self.rows[planned.frame], [values[key] for key in planned.inputs]
        node, name = planned.node, planned.plugin
        if isinstance(node, AsOf):
            assert planned.source is not None
            return node.join(self.rows[planned.source], inputs[0], rows, self._table)
        if not name:
            return node.update(rows, *inputs)
        if planned.key not in self.failed:
            RECORD.memory[LOOP] = label("indicator", name)
            try:
                return node.update(rows, *inputs)
            except from_plugins() as error:  # an indicator may raise anything; those who do not use it trade on
                self.failed[planned.key] = error
        outputs = node.outputs  # type: ignore[attr-defined]  # an indicator's
        return np.full((outputs, len(rows.rows)), np.nan)

    def _rows(self, batch: Batch, frame: Frame) -> FrameRows:
        signals, names = batch.signals, batch.symbols.names
        wanted = self._wanted.get(frame)
        if wanted is None or len(wanted) != len(names):
            symbols = self.plan.symbols[frame]
            wanted = self._wanted[frame] = np.fromiter((name in symbols for name in names), bool, len(names))
        index = np.flatnonzero((signals.step == frame.step) & wanted[signals.symbol])
        if self._shown:
            last = np.array([self._shown.get((frame.step, name), EARLIEST) for name in names], np.int64)
            index = index[signals.event_ts[index] > last[signals.symbol[index]]]
        if frame.is_sliced:
            signals = self._slices[frame].update(batch, index)
            index, known = np.arange(len(signals)), signals.at - 1
        else:
            known = signals.at[index]
        return FrameRows(signals, index, signals.symbol[index], known, len(names))

    def _adopt(self, table: SymbolTable) -> None:
        """Continue with another table of symbols."""
        saved, names = self.save(), self._table.names
        for slices in self._slices.values():
            slices.adopt(names, table)
        self._table = table
        self._wanted.clear()
        self.load(saved)

    def order(self, frame: Frame, places: IntArray, has_slices: bool) -> tuple[IntArray, ...]:
        """What rows of a frame are ordered by among those of others, the last key first; see `interleave`."""
        rows = self.rows[frame]
        index = rows.rows[places]
        if not has_slices:
            return (index,)
        return index, np.full(len(index), int(frame.is_sliced)), rows.signals.at[index]

    def follow(self, frame: Frame, symbols: Collection[str]) -> None:
        """Select the rows of these symbols too."""
        followed = self.plan.symbols.setdefault(frame, set())
        if not followed.issuperset(symbols):
            followed.update(symbols)
            self._wanted.pop(frame, None)

    def needs(self, wanted: Wanted, key: str) -> bool:
        """Whether what a strategy wants is made of a node."""
        needed = {*wanted.nodes}
        for node in reversed(self._nodes):
            if node.key in needed:
                needed.update(node.inputs)
        return key in needed

    # State.

    def save(self) -> dict[str, Any]:
        """The state of each node that has one, by key; plain values and bytes."""
        names = list(self._table.names)
        saved = {node.key: node.node.save(names) for node in self._nodes if node.key not in self.failed}
        return {key: state for key, state in saved.items() if state}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Resume from what `save` gave; of nodes that are not in this graph nothing is kept."""
        for node in self._nodes:
            if node.key in saved:
                numbers = {name: self._table.number(name) for name in saved[node.key]}
                node.node.load(saved[node.key], numbers, len(self._table))
