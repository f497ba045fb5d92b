"""What `torghut ta` does with each batch: stages, signal store, bus; and how far it got, so that a kill costs nothing.

A lane of the source (a partition) has stages of its own. A checkpoint makes durable, in this order: rows in the store,
messages on the bus, the states of the stages with the source's cursor, and last the source's own note of how far it was
read. A process that is killed in between goes on from the state before, derives the same rows again, and they replace
what is there.

While the store is away a lane may be lost to another process, at any await. So whatever is done for a lane is done for a
`Lane`, and only as long as `Deriver.lanes` has this very one.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from torghut_core.bus.derived import derived_messages, status_message
from torghut_core.errors import StateError
from torghut_core.market_data.intake import Intake
from torghut_core.market_data.snapshots import Snapshot, SnapshotStore
from torghut_core.model.market import Batch, SymbolTable
from torghut_core.ports import Closed, LaneKeeper, Metric, SignalStore, Sink, Source
from torghut_core.signals.failures import Remedy
from torghut_core.stages.base import Stage
from torghut_core.telemetry import logs

BATCH_SIZE = 4096
"""Events per batch at most."""

RETRY_S = (0.25, 15.0)
"""First and longest pause before the store is tried again, seconds; drawn from below it."""


class Totals(msgspec.Struct):
    """What happened so far, counted."""

    events: int = 0
    late: int = 0
    duplicates: int = 0
    excluded: int = 0
    microbars: int = 0
    signals: int = 0
    checkpoints: int = 0
    restored: int = 0


class Lane:
    """One lane: its stages, and how far it is.

    Attributes
    ----------
    now : loop time of the last event or tick, ns; 0 before the first.
    is_idle : nothing came since the last heartbeat.
    is_overtaken : somebody else has kept a state of it that is further.
    last_event_ts : largest time of an event, ns; None before the first.
    """

    def __init__(self, name: str, stages: Sequence[Stage]) -> None:
        self.name = name
        self.stages = [type(stage)(stage.params) for stage in stages]
        self.now = 0
        self.last_event_ts: int | None = None
        self.beats = 0
        self.is_idle = True
        self.is_overtaken = False
        self._symbols = SymbolTable()
        self._stop = 0

    def update(self, batch: Batch) -> Batch:
        """Take a batch through the stages."""
        for stage in self.stages:
            batch = stage.update(batch)
        self.now, self._symbols, self._stop = int(batch.now[-1]), batch.symbols, batch.stop
        for table in (batch.trades, batch.quotes, batch.bars):
            if len(table):
                self.last_event_ts = max(self.last_event_ts or 0, int(table.event_ts.max()))
                self.is_idle = False
        return batch

    def drain(self) -> Batch:
        """A clock tick after the last event, at which every window that is complete comes out."""
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
        """Go on from a snapshot.

        Raises
        ------
        StateError : it is of other stages.
        """
        names = [type(stage).__name__ for stage in self.stages]
        kept = [name for name, _, _ in snapshot.states]
        if kept != names:
            raise StateError(
                f"the state that was kept is of the stages {', '.join(kept)}, and the catalog has {', '.join(names)} "
                "(give back those stages, or remove the snapshots to begin anew)"
            )
        for stage, (name, version, state) in zip(self.stages, snapshot.states, strict=True):
            try:
                stage.load_state(state, version)
            except ValueError as error:
                raise StateError(f"{name}: {error} (remove the snapshots to begin anew)") from error
        self.now = snapshot.at


class Deriver(LaneKeeper):
    """Derives microbars and signals from a source until it ends.

    Parameters
    ----------
    source, stages : of the pipeline; each lane gets stages of its own, made of the parameters of these.
    store : where rows go.
    sink : where they go besides; None for nowhere.
    snapshots : where states are kept; None for nowhere: then a restart begins anew.
    name : of the pipeline; what snapshots are called by.
    may_write : whether the store's guard lets rows be written now.
    checkpoint_s, status_s : seconds between two checkpoints, and two heartbeats.

    Attributes
    ----------
    totals : what happened so far, counted.
    lanes : by name.
    """

    def __init__(
        self,
        source: Source,
        stages: Sequence[Stage],
        store: SignalStore,
        sink: Sink | None = None,
        snapshots: SnapshotStore | None = None,
        *,
        name: str = "ta",
        may_write: Callable[[], bool] = lambda: True,
        checkpoint_s: float = 1.0,
        status_s: float = 1.0,
    ) -> None:
        self._source = source
        self._stages = stages
        self._store = store
        self._sink = sink
        self._snapshots = snapshots
        self._name = name
        self._may_write = may_write
        self._checkpoint_s = checkpoint_s
        self._status_s = status_s
        self._trouble: StateError | None = None
        self._is_ahead = self._is_paused = False
        self._stopped = asyncio.Event()
        self._checkpointing = asyncio.Lock()
        self.totals = Totals()
        self.lanes: dict[str, Lane] = {}

    async def run(
        self, batch_size: int = BATCH_SIZE, on_progress: Callable[[int], None] = lambda _events: None
    ) -> None:
        """Derive until the source ends; then give out what is complete, and make all of it durable.

        Raises
        ------
        StateError : the bus, the states' folder or the store is broken for good. What was acknowledged is readable.
        """
        beats = asyncio.create_task(self._beats())
        beats.add_done_callback(self._no_beats)
        try:
            await self._derive(batch_size, on_progress)
        finally:
            beats.cancel()
            await asyncio.wait([beats])
        if not beats.cancelled():
            beats.result()

    async def _derive(self, batch_size: int, on_progress: Callable[[int], None]) -> None:
        self._source.keeper = self
        if not self._source.has_lanes and (cursor := await self.take("")):
            self._source.seek(cursor)
        self._mark(self._source.cursor())
        intake = Intake(self._given(batch_size), self._stopped)
        due = time.monotonic()
        try:
            while True:
                wait = due - time.monotonic() if self._is_ahead else self._checkpoint_s
                given = await intake.take(wait)
                if given is not None:
                    await self._step(*given)
                    self._is_ahead = True
                    on_progress(self.totals.events)
                elif intake.is_over:
                    break
                now = time.monotonic()
                if now >= due and self._is_ahead and intake.is_waiting:
                    await self.checkpoint()
                    due = now + self._checkpoint_s
        finally:
            await intake.close()
        if not self._stopped.is_set():  # a source that ends gives no ticks: close what is complete
            for lane in list(self.lanes.values()):
                if lane.now:
                    await self._step(lane, lane.drain())
        await self.checkpoint()

    def stop(self) -> None:
        """Take no more, and end `run` with a checkpoint."""
        self._stopped.set()

    async def _given(self, batch_size: int) -> AsyncIterator[tuple[Lane, Batch]]:
        """What the source gives, each batch with its lane as it is then: it may be another's before the batch is taken."""
        async for batch in self._source.batches(batch_size):
            yield self.lanes[batch.lane], batch

    def _has(self, lane: Lane) -> bool:
        return self.lanes.get(lane.name) is lane

    async def _step(self, lane: Lane, batch: Batch) -> None:
        """Take one batch all the way, as far as its lane is not lost on it."""
        await self._writable()
        if not self._has(lane):
            return
        batch = lane.update(batch)
        totals = self.totals
        totals.events += len(batch.trades) + len(batch.quotes) + len(batch.bars)
        totals.late += batch.late
        totals.duplicates += batch.duplicates
        totals.excluded += batch.excluded
        totals.microbars += len(batch.microbars)
        totals.signals += len(batch.signals)
        try:
            await asyncio.to_thread(self._store.write, batch)  # it may wait while the store is slow
        except StateError as error:  # the rows are kept, and tried again
            self._trouble = error
            await self._stored()
        if self._sink is not None and self._has(lane) and (messages := derived_messages(batch)):
            await self._sink.send(messages)

    async def _writable(self) -> None:
        """Wait while the store's guard is closed; meanwhile nothing is taken from the source."""
        while not self._may_write():
            self._is_paused = True
            await asyncio.sleep(RETRY_S[0])
        self._is_paused = False

    async def _stored(self) -> None:
        """Wait until everything written is stored, however long that takes; meanwhile nothing is taken from the source."""
        pause = RETRY_S[0]
        while True:
            try:
                await asyncio.to_thread(self._store.flush)
            except StateError as error:
                if getattr(error, "remedy", None) is Remedy.STOP:  # it will say the same every time
                    raise
                if self._trouble is None or str(self._trouble) != str(error):
                    logs.error("the signal store does not take rows: nothing is read meanwhile", reason=str(error))
                self._trouble = error
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(2 * pause, RETRY_S[1])
                await self._writable()
            else:
                if self._trouble is not None:
                    logs.warning("the signal store takes rows again")
                self._trouble = None
                return

    async def checkpoint(self) -> None:
        """Make durable what came of all lanes so far."""
        cursor, lanes = self._source.cursor(), dict(self.lanes)  # before anything is awaited: the next batch may come
        async with self._checkpointing:  # a lane may be given up while the next batch is awaited, and that is one too
            await self._stored()
            if self._sink is not None:
                await self._sink.flush()
            for name, lane in lanes.items():
                if name and name not in cursor:  # just taken: what is kept of it stands
                    continue
                if not self._has(lane) or not await self._keep(lane, cursor[name] if name else cursor):
                    cursor.pop(name, None)
            self._source.commit(cursor)
            self._mark(cursor)
            self._is_ahead = False
            self.totals.checkpoints += 1

    async def _keep(self, lane: Lane, cursor: dict[str, Any]) -> bool:
        """Keep the state of a lane, unless somebody else has kept one that is further: then it is theirs, or was."""
        if self._snapshots is None:
            return True
        is_kept = await asyncio.to_thread(self._snapshots.save, f"{self._name}-{lane.name or 0}", lane.snapshot(cursor))
        if not is_kept and not lane.is_overtaken:
            logs.error(
                "somebody else has kept a state of this lane that is further: ours is not kept until it is (another "
                "torghut ta may have the lane; do two groups share a TA_STATE_URL?)",
                lane=lane.name,
            )
        lane.is_overtaken = not is_kept
        return is_kept

    def _mark(self, cursor: dict[str, Any]) -> None:
        """Name what is written from here on by where the source is: sent again after a crash it is known."""
        place = json.dumps(cursor, sort_keys=True, default=str).encode()
        self._store.mark(f"{self._name}-{blake2b(place, digest_size=16).hexdigest()}")

    async def take(self, lane: str) -> dict[str, Any] | None:
        """See `LaneKeeper`: load what is kept of the lane."""
        made, name = Lane(lane, self._stages), f"{self._name}-{lane or 0}"
        kept = None if self._snapshots is None else await asyncio.to_thread(self._snapshots.load, name)
        if kept is not None:
            made.restore(kept)
            self.totals.restored += 1
        elif self._snapshots is not None:
            logs.warning("no state is kept of this lane: its indicators begin anew", lane=lane or "0")
        self.lanes[lane] = made
        return None if kept is None else kept.cursor

    async def leave(self, lane: str) -> None:
        """See `LaneKeeper`. Of a lane that is not in the source's cursor any more nothing is kept: it is lost."""
        if lane in self._source.cursor():
            await self.checkpoint()
        else:
            logs.warning("a lane is lost: whoever has it goes on from its last checkpoint", lane=lane)
        self.lanes.pop(lane, None)

    def _no_beats(self, beats: asyncio.Task[None]) -> None:
        """Heartbeats have ended: where the bus is broken for good, all has."""
        if not beats.cancelled() and beats.exception() is not None:
            self.stop()

    async def _beats(self) -> None:
        """Say of each lane how far it is, whatever else is waited for."""
        while self._sink is not None:
            is_waiting = self._is_paused or self._trouble is not None
            now, messages = time.time_ns(), []
            for lane in self.lanes.values():
                messages.append(
                    status_message(
                        lane.name,
                        now=now,
                        watermark=lane.watermark if lane.now else None,
                        last_event_ts=lane.last_event_ts,
                        status="paused" if is_waiting else "idle" if lane.is_idle else "running",
                        beat=lane.beats,
                    )
                )
                lane.beats += 1
                lane.is_idle = True
            await self._sink.send(messages)
            await asyncio.sleep(self._status_s)

    def gates(self) -> Mapping[str, Closed | None]:
        """Whether the store takes rows."""
        trouble = self._trouble
        error_class = getattr(trouble, "error_class", "") or "store"
        return {"store": None if trouble is None else Closed(str(trouble), error_class)}

    def metrics(self) -> dict[str, Metric]:
        """What was counted, and how far each lane's watermark is behind the clock."""
        totals, now = self.totals, time.time_ns()
        lags = {name or "0": (now - lane.watermark) / 1e6 for name, lane in self.lanes.items() if lane.now}
        return {
            "events_total": totals.events,
            "late_total": totals.late,
            "duplicates_total": totals.duplicates,
            "excluded_total": totals.excluded,
            "microbars_total": totals.microbars,
            "signals_total": totals.signals,
            "ta_checkpoints_total": totals.checkpoints,
            "ta_watermark_lag_ms": lags,
        }
