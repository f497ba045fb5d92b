"""What `torghut forward` does: events as they come, from a source to a bus."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from torghut_core.bus.marks import time_message
from torghut_core.market_data.intake import Intake
from torghut_core.market_data.snapshots import Snapshot, SnapshotStore
from torghut_core.ports import Closed, Metric, Sink, Source

BATCH_SIZE = 4096
"""Events per hand-over at most."""

MARK_S = 0.25
"""Seconds between two time marks at least: they let windows close where nothing comes."""


class Forwarder:
    """Moves events until the source ends, and then waits until the bus has all of them.

    Nothing is kept in between but what is on its way: when the bus does not take more, nothing more is taken from the
    source. How far the bus has acknowledged is written down, so that a source with a past fills what a restart missed.

    Parameters
    ----------
    source, sink : of the pipeline.
    snapshots : where the source's cursor is kept; None for nowhere.
    name : of the pipeline; what the cursor is kept under.
    checkpoint_s : seconds between two looks at what is acknowledged.

    Attributes
    ----------
    forwarded : events taken from the source and given to the sink, by channel.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        snapshots: SnapshotStore | None = None,
        *,
        name: str = "forwarder",
        checkpoint_s: float = 1.0,
    ) -> None:
        self._source = source
        self._sink = sink
        self._snapshots = snapshots
        self._name = name
        self._checkpoint_s = checkpoint_s
        self._stopped = asyncio.Event()
        self._told, self._told_at = 0, 0.0
        self.forwarded: Counter[str] = Counter()

    async def run(
        self, batch_size: int = BATCH_SIZE, on_progress: Callable[[int], None] = lambda _events: None
    ) -> None:
        """Move events until the source ends.

        Raises
        ------
        StateError : the bus has refused an event for good; it is named.
        """
        source = self._source
        kept = self._snapshots.load(self._name) if self._snapshots is not None else None
        if kept is not None:
            source.seek(kept.cursor)
        intake = Intake(source.messages(batch_size), self._stopped)
        due = time.monotonic() + self._checkpoint_s
        try:
            while True:
                messages = await intake.take(MARK_S)
                if messages is not None:
                    await self._sink.send(messages)
                    for message in messages:
                        self.forwarded[message.channel] += 1
                    on_progress(self.forwarded.total())
                elif intake.is_over:
                    break
                if intake.is_waiting:
                    await self._tell_time()
                if intake.is_waiting and time.monotonic() >= due:  # a piece may have come meanwhile: it was not sent
                    await self.checkpoint()
                    due = time.monotonic() + self._checkpoint_s
        finally:
            await intake.close()
        await self.checkpoint()

    def stop(self) -> None:
        """Take no more, and end `run` when the bus has what was taken."""
        self._stopped.set()

    async def _tell_time(self) -> None:
        """Say up to when everything was sent, where that is known, and not too often."""
        known, now = self._source.known_until(), time.monotonic()
        if known is None or known <= self._told or now < self._told_at + MARK_S:
            return
        self._told, self._told_at = known, now
        await self._sink.send([time_message(known, time.time_ns())])

    async def checkpoint(self) -> None:
        """Wait until the bus has all that was moved, and write down how far that is."""
        cursor = self._source.cursor()
        await self._sink.flush()
        if self._snapshots is not None and cursor:
            await asyncio.to_thread(self._snapshots.save, self._name, Snapshot([], cursor, 0))
        self._source.commit(cursor)

    def gates(self) -> dict[str, Closed | None]:
        """None of its own: source and sink have them."""
        return {}

    def metrics(self) -> dict[str, Metric]:
        """Events by channel."""
        return {"forwarded_total": dict(self.forwarded)}
