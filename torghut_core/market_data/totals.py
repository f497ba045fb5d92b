"""What came in and what the stages made of it, counted."""

from __future__ import annotations

import msgspec

from torghut_core.model.market import Batch


class BatchTotals(msgspec.Struct):
    """Events and rows of all batches so far."""

    events: int = 0
    late: int = 0
    duplicates: int = 0
    excluded: int = 0
    microbars: int = 0
    signals: int = 0

    def add(self, batch: Batch) -> None:
        """Count a batch that has gone through the stages."""
        self.events += len(batch.trades) + len(batch.quotes) + len(batch.bars)
        self.late += batch.late
        self.duplicates += batch.duplicates
        self.excluded += batch.excluded
        self.microbars += len(batch.microbars)
        self.signals += len(batch.signals)
