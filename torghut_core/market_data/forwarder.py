"""What `torghut forward` does: moves events as they come from a source to a bus."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from torghut_core.boundary import SourceIterator, await_sink
from torghut_core.bus.marks import time_message
from torghut_core.market_data.intake import Intake
from torghut_core.market_data.snapshots import Snapshot, SnapshotStore
from torghut_core.ports import Closed, Sink, Source
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import SYSTEM_CLOCK, Clock

BATCH_SIZE = 4096
"""Events per message batch at most."""

MARK_S = 0.25
"""Seconds between two time marks at least: they let windows close where nothing comes."""


class Forwarder:
    """Moves events until the source ends, and then waits until the bus has acknowledged all of them.

    Nothing is buffered but what is being sent: when the bus does not take more, nothing more is taken from the source. How
    far the bus has acknowledged is recorded, so that a source with a history fills what a restart missed.

    Parameters
    ----------
    source, sink : of the pipeline.
    snapshots : where the source's cursor is kept; None for nowhere.
    name : of the pipeline; the cursor is kept under it.
    checkpoint_s : seconds between two checkpoints.
    clock : the time of time marks, and the waits between them and checkpoints.

    Attributes
    ----------
    forwarded : events taken from the source and given to the sink, by channel.
    """

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("forwarded_total", "Events forwarded, by channel.", "channel"),
    )

    def __init__(
        self,
        source: Source,
        sink: Sink,
        snapshots: SnapshotStore | None = None,
        *,
        name: str = "forwarder",
        checkpoint_s: float = 1.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._source = source
        self._sink = sink
        self._snapshots = snapshots
        self._name = name
        self._checkpoint_s = checkpoint_s
        self._clock = clock
        self._stopped = asyncio.Event()
        self._marked_until, self._marked_at = 0, 0.0
        self.forwarded: Counter[str] = Counter()

    async def run(self, batch_size: int = BATCH_SIZE) -> None:
        """Move events until the source ends.

        Raises
        ------
        StateError : the bus has refused an event for good; it is named.
        """
        source = self._source
        kept = self._snapshots.load(self._name) if self._snapshots is not None else None
        if kept is not None:
            source.seek(kept.cursor)
        intake = Intake(SourceIterator(type(source).__name__, lambda: source.messages(batch_size)), self._stopped)
        monotonic = self._clock.monotonic
        due = monotonic() + self._checkpoint_s
        try:
            while True:
                messages = await intake.take(MARK_S)
                if messages is not None:
                    await await_sink(self._sink, "send", messages)
                    for message in messages:
                        self.forwarded[message.channel] += 1
                elif intake.is_over:
                    break
                if intake.is_waiting:
                    await self._send_time_mark()
                if intake.is_waiting and monotonic() >= due:  # messages may have come meanwhile: they were not sent
                    await self.checkpoint()
                    due = monotonic() + self._checkpoint_s
        finally:
            await intake.close()
        await self.checkpoint()

    def stop(self) -> None:
        """Take no more messages, and end `run` when the bus has those that were taken."""
        self._stopped.set()

    async def _send_time_mark(self) -> None:
        """Send the time up to which every event was sent, where that is known, at most every `MARK_S`."""
        known, now = self._source.known_until(), self._clock.monotonic()
        if known is None or known <= self._marked_until or now < self._marked_at + MARK_S:
            return
        self._marked_until, self._marked_at = known, now
        await await_sink(self._sink, "send", [time_message(known, self._clock.wall())])

    async def checkpoint(self) -> None:
        """Wait until the bus has acknowledged everything that was sent, and record how far that is."""
        cursor = self._source.cursor()
        await await_sink(self._sink, "flush")
        if self._snapshots is not None and cursor:
            await asyncio.to_thread(self._snapshots.save, self._name, Snapshot([], cursor, 0))
        self._source.commit(cursor)

    def gates(self) -> dict[str, Closed | None]:
        """None of its own: source and sink have them."""
        return {}

    def metrics(self) -> dict[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        return {"forwarded_total": dict(self.forwarded)}
