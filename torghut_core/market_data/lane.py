"""One lane of a source (a partition): its stages, and how far they have come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from torghut_core.boundary import bound_method, call_plugin
from torghut_core.errors import StateError
from torghut_core.market_data.snapshots import Snapshot
from torghut_core.model.market import Batch, SymbolTable
from torghut_core.stages.base import Stage


class Lane:
    """The stages of one lane, and how far they have come.

    Parameters
    ----------
    name : of the lane.
    stages : of the pipeline; the lane gets stages of its own, made of the parameters of these.

    Attributes
    ----------
    now : loop time of the last event or tick, ns; 0 before the first.
    last_event_ts : largest time of an event, ns; None before the first.
    heartbeats : how many were sent.
    is_idle : nothing came since the last heartbeat.
    is_overtaken : another process has kept a state of it that is further.
    """

    def __init__(self, name: str, stages: Sequence[Stage]) -> None:
        self.name = name
        self.stages = [type(stage)(stage.params) for stage in stages]
        self.now = 0
        self.last_event_ts: int | None = None
        self.heartbeats = 0
        self.is_idle = True
        self.is_overtaken = False
        self._symbols = SymbolTable()
        self._stop = 0

    def update(self, batch: Batch) -> Batch:
        """Take a batch through the stages."""
        for stage in self.stages:
            batch = call_plugin(type(stage).__name__, bound_method(stage, "update"), batch)
        self.now, self._symbols, self._stop = int(batch.now[-1]), batch.symbols, batch.stop
        for table in (batch.trades, batch.quotes, batch.bars):
            if len(table):
                self.last_event_ts = max(self.last_event_ts or 0, int(table.event_ts.max()))
                self.is_idle = False
        return batch

    def drain(self) -> Batch:
        """Make a clock tick after the last event, at which every window that is complete comes out."""
        tick = Batch.of(self._symbols, self._stop, np.array([self.now + self._lag], np.int64))
        tick.lane = self.name
        return tick

    @property
    def _lag(self) -> int:
        return max((stage.drain_ns() for stage in self.stages), default=0)

    @property
    def watermark(self) -> int:
        """Up to where windows are closed, ns."""
        return self.now - self._lag

    def snapshot(self, cursor: dict[str, Any]) -> Snapshot:
        """Its state, with the cursor of its source."""
        states = [(type(stage).__name__, stage.state_version, stage.save_state()) for stage in self.stages]
        return Snapshot(states, cursor, self.now)

    def restore(self, snapshot: Snapshot) -> None:
        """Resume from a snapshot.

        Raises
        ------
        StateError : it is of other stages.
        """
        names = [type(stage).__name__ for stage in self.stages]
        kept = [name for name, _, _ in snapshot.states]
        if kept != names:
            raise StateError(
                f"the snapshot is of the stages {', '.join(kept)}, and the catalog has {', '.join(names)} "
                "(list those stages again, or remove the snapshots to start anew)"
            )
        for stage, (name, version, state) in zip(self.stages, snapshot.states, strict=True):
            try:
                stage.load_state(state, version)
            except ValueError as error:
                raise StateError(f"{name}: {error} (remove the snapshots to start anew)") from error
        self.now = snapshot.at
