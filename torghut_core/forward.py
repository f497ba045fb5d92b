"""What `torghut forward` does: events as they come, from a source to a bus."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from torghut_core.ports import Metric, Sink, Source
from torghut_core.snapshots import Snapshot, SnapshotStore

BATCH_SIZE = 4096
"""Events per hand-over at most."""


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
        self._is_between = True
        self.forwarded: Counter[str] = Counter()

    async def run(
        self, batch_size: int = BATCH_SIZE, on_progress: Callable[[int], None] = lambda _events: None
    ) -> None:
        """Move events until the source ends.

        Raises
        ------
        StateError : the bus has refused an event for good; it is named.
        """
        source, sink = self._source, self._sink
        kept = self._snapshots.load(self._name) if self._snapshots is not None else None
        if kept is not None:
            source.seek(kept.cursor)
        due = time.monotonic() + self._checkpoint_s
        async for messages in source.messages(batch_size):
            self._is_between = False
            await sink.send(messages)
            self._is_between = True
            for message in messages:
                self.forwarded[message.channel] += 1
            on_progress(self.forwarded.total())
            if time.monotonic() >= due:
                await self.finish()
                due = time.monotonic() + self._checkpoint_s
        await self.finish()

    async def finish(self) -> None:
        """Wait until the bus has all that was moved, and write down how far that is; nothing amid a hand-over."""
        if not self._is_between:
            return
        cursor = self._source.cursor()
        await self._sink.flush()
        if self._snapshots is not None and cursor:
            await asyncio.to_thread(self._snapshots.save, self._name, Snapshot([], cursor, 0))
        self._source.commit(cursor)

    def metrics(self) -> dict[str, Metric]:
        """Events by channel."""
        return {"forwarded_total": dict(self.forwarded)}
