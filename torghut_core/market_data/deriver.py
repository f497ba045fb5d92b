"""What `torghut ta` does with each batch: stages, signal store, bus; and how far it is, so that a kill loses nothing.

A lane of the source (a partition) has stages of its own. A checkpoint makes durable, in this order: rows in the store,
messages on the bus, the states of the stages with the source's cursor, and last the source's own note of how far it was
read. A process that is killed in between resumes from the state before, derives the same rows again, and they replace
what is there.

While the store is away a lane may be lost to another process, at any await. So whatever is done for a lane is done for a
`Lane`, and only as long as `Deriver.lanes` has this very one.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar

from torghut_core.boundary import SourceIterator, await_sink
from torghut_core.bus.derived import derived_messages, status_message
from torghut_core.errors import StateError
from torghut_core.market_data.intake import Intake
from torghut_core.market_data.lane import Lane
from torghut_core.market_data.snapshots import SnapshotStore
from torghut_core.market_data.totals import BatchTotals
from torghut_core.model.market import Batch
from torghut_core.ports import Closed, LaneKeeper, SignalStore, Sink, Source
from torghut_core.signals import Remedy
from torghut_core.stages.base import Stage
from torghut_core.telemetry import logs
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import SYSTEM_CLOCK, Clock

BATCH_SIZE = 4096
"""Events per batch at most."""

RETRY_S = (0.25, 15.0)
"""First and longest pause before a write to the store is retried, seconds; the pause is drawn from half of it to all of it."""


class DeriverTotals(BatchTotals):
    """What happened so far, counted."""

    checkpoints: int = 0
    restored: int = 0
    """Lanes that resumed from a snapshot."""


class Deriver(LaneKeeper):
    """Derives microbars and signals from a source until it ends.

    Parameters
    ----------
    source, stages : of the pipeline; each lane gets stages of its own, made of the parameters of these.
    store : where rows go.
    sink : where they are sent besides; None for nowhere.
    snapshots : where states are kept; None for nowhere: then a restart starts anew.
    name : of the pipeline; snapshots are named by it.
    may_write : whether the store's guard lets rows be written now.
    checkpoint_s, status_s : seconds between two checkpoints, and two heartbeats.
    clock : the time of heartbeats and lags, and the waits between checkpoints.

    Attributes
    ----------
    totals : what happened so far, counted.
    lanes : by name.
    """

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        *DeriverTotals.metric_specs,
        MetricSpec("ta_checkpoints_total", "Times that rows, states and offsets were made durable."),
        MetricSpec("ta_watermark_lag_ms", "How far a lane's watermark is behind the clock, milliseconds.", "lane"),
    )

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
        clock: Clock = SYSTEM_CLOCK,
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
        self._clock = clock
        self._trouble: StateError | None = None
        self._is_ahead = self._is_paused = False
        self._stopped = asyncio.Event()
        self._checkpointing = asyncio.Lock()
        self.totals = DeriverTotals()
        self.lanes: dict[str, Lane] = {}

    async def run(
        self, batch_size: int = BATCH_SIZE, on_progress: Callable[[int], None] = lambda _events: None
    ) -> None:
        """Derive until the source ends; then close the windows that are complete, and make everything durable.

        Raises
        ------
        StateError : the bus, the states' folder or the store is broken for good. What was acknowledged is readable.
        """
        heartbeats = asyncio.create_task(self._send_heartbeats())
        heartbeats.add_done_callback(self._stop_without_heartbeats)
        try:
            await self._derive(batch_size, on_progress)
        finally:
            heartbeats.cancel()
            await asyncio.wait([heartbeats])
        if not heartbeats.cancelled():
            heartbeats.result()

    async def _derive(self, batch_size: int, on_progress: Callable[[int], None]) -> None:
        self._source.keeper = self
        if not self._source.has_lanes and (cursor := await self.take("")):
            self._source.seek(cursor)
        self._mark(self._source.cursor())
        intake, monotonic = Intake(self._batches(batch_size), self._stopped), self._clock.monotonic
        due = monotonic()
        try:
            while True:
                wait = due - monotonic() if self._is_ahead else self._checkpoint_s
                taken = await intake.take(wait)
                if taken is not None:
                    await self._step(*taken)
                    self._is_ahead = True
                    on_progress(self.totals.events)
                elif intake.is_over:
                    break
                now = monotonic()
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
        """Take no more batches, and end `run` with a checkpoint."""
        self._stopped.set()

    async def _batches(self, batch_size: int) -> AsyncIterator[tuple[Lane, Batch]]:
        """The source's batches, each with its lane as it is then: another process may have it before the batch is taken."""
        async for batch in SourceIterator(type(self._source).__name__, lambda: self._source.batches(batch_size)):
            yield self.lanes[batch.lane], batch

    def _has(self, lane: Lane) -> bool:
        return self.lanes.get(lane.name) is lane

    async def _step(self, lane: Lane, batch: Batch) -> None:
        """Take one batch through the stages, into the store and onto the bus; stop where its lane is lost meanwhile."""
        await self._wait_for_guard()
        if not self._has(lane):
            return
        batch = lane.update(batch)
        self.totals.add(batch)
        try:
            await asyncio.to_thread(self._store.write, batch)  # it may wait while the store is slow
        except StateError as error:  # the rows are kept, and written again
            self._trouble = error
            await self._flush_store()
        if self._sink is not None and self._has(lane) and (messages := derived_messages(batch)):
            await await_sink(self._sink, "send", messages)

    async def _wait_for_guard(self) -> None:
        """Wait while the store's guard is closed; meanwhile nothing is taken from the source."""
        while not self._may_write():
            self._is_paused = True
            await asyncio.sleep(RETRY_S[0])
        self._is_paused = False

    async def _flush_store(self) -> None:
        """Wait until everything written is stored, however long that takes; meanwhile nothing is taken from the source."""
        pause = RETRY_S[0]
        while True:
            try:
                await asyncio.to_thread(self._store.flush)
            except StateError as error:
                if getattr(error, "remedy", None) is Remedy.STOP:  # every retry would end the same way
                    raise
                if self._trouble is None or str(self._trouble) != str(error):
                    logs.error("the signal store does not take rows: reading pauses until it does", reason=str(error))
                self._trouble = error
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(2 * pause, RETRY_S[1])
                await self._wait_for_guard()
            else:
                if self._trouble is not None:
                    logs.warning("the signal store takes rows again")
                self._trouble = None
                return

    async def checkpoint(self) -> None:
        """Make durable what all lanes have derived so far."""
        cursor, lanes = self._source.cursor(), dict(self.lanes)  # before anything is awaited: the next batch may come
        # Leaving a lane is a checkpoint too, and may come while the next batch is awaited.
        async with self._checkpointing:
            await self._flush_store()
            if self._sink is not None:
                await await_sink(self._sink, "flush")
            for name, lane in lanes.items():
                if name and name not in cursor:  # just taken: the snapshot that it resumed from stands
                    continue
                is_kept = self._has(lane) and await self._keep(lane, cursor[name] if name else cursor)
                if not is_kept or not self._has(lane):  # who has it by now may have resumed from the state before
                    cursor.pop(name, None)
            self._source.commit(cursor)
            self._mark(cursor)
            self._is_ahead = False
            self.totals.checkpoints += 1

    async def _keep(self, lane: Lane, cursor: dict[str, Any]) -> bool:
        """Keep the state of a lane, unless another process has kept one that is further; return whether it was kept."""
        if self._snapshots is None:
            return True
        is_kept = await asyncio.to_thread(self._snapshots.save, f"{self._name}-{lane.name or 0}", lane.snapshot(cursor))
        if not is_kept and not lane.is_overtaken:
            logs.error(
                "another process has kept a state of this lane that is further: ours is not kept until it is (check whether "
                "another torghut ta has the lane, or two groups share a TA_STATE_URL)",
                lane=lane.name,
            )
        lane.is_overtaken = not is_kept
        return is_kept

    def _mark(self, cursor: dict[str, Any]) -> None:
        """Name the rows written from here on by the source's cursor, so that the store knows them when they come again."""
        place = json.dumps(cursor, sort_keys=True, default=str).encode()
        self._store.mark(f"{self._name}-{blake2b(place, digest_size=16).hexdigest()}")

    async def take(self, lane: str) -> dict[str, Any] | None:
        """See `LaneKeeper`: load the snapshot of the lane."""
        made, name = Lane(lane, self._stages), f"{self._name}-{lane or 0}"
        kept = None if self._snapshots is None else await asyncio.to_thread(self._snapshots.load, name)
        if kept is not None:
            made.restore(kept)
            self.totals.restored += 1
        elif self._snapshots is not None:
            logs.warning("there is no snapshot of this lane: its indicators warm up anew", lane=lane or "0")
        self.lanes[lane] = made
        return None if kept is None else kept.cursor

    async def leave(self, lane: str) -> None:
        """See `LaneKeeper`. Nothing is kept of a lane that is not in the source's cursor any more: it is lost."""
        if lane in self._source.cursor():
            await self.checkpoint()
        else:
            logs.warning("a lane is lost: the process that has it now resumes from its last checkpoint", lane=lane)
        self.lanes.pop(lane, None)

    def _stop_without_heartbeats(self, heartbeats: asyncio.Task[None]) -> None:
        """Stop where heartbeats have failed: the bus is broken for good."""
        if not heartbeats.cancelled() and heartbeats.exception() is not None:
            self.stop()

    async def _send_heartbeats(self) -> None:
        """Report for each lane how far it is, also while everything else waits."""
        while self._sink is not None:
            is_waiting = self._is_paused or self._trouble is not None
            now, messages = self._clock.wall(), []
            for lane in self.lanes.values():
                messages.append(
                    status_message(
                        lane.name,
                        now=now,
                        watermark=lane.watermark if lane.now else None,
                        last_event_ts=lane.last_event_ts,
                        status="paused" if is_waiting else "idle" if lane.is_idle else "running",
                        heartbeat=lane.heartbeats,
                    )
                )
                lane.heartbeats += 1
                lane.is_idle = True
            await await_sink(self._sink, "send", messages)
            await asyncio.sleep(self._status_s)

    def gates(self) -> Mapping[str, Closed | None]:
        """Whether the store takes rows."""
        trouble = self._trouble
        error_class = getattr(trouble, "error_class", "") or "store"
        return {"store": None if trouble is None else Closed(str(trouble), error_class)}

    def metrics(self) -> dict[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        totals, now = self.totals, self._clock.wall()
        lags = {name or "0": (now - lane.watermark) / 1e6 for name, lane in self.lanes.items() if lane.now}
        return {
            **totals.metrics(),
            "ta_checkpoints_total": totals.checkpoints,
            "ta_watermark_lag_ms": lags,
        }
