"""What came in and what the stages made of it, counted."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from torghut_core.model.market import Batch
from torghut_core.telemetry.metrics import Metric, MetricSpec


class BatchTotals(msgspec.Struct):
    """Events and rows of all batches so far."""

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("events_total", "Events processed."),
        MetricSpec(
            "late_total",
            "Trades that came after their microbar was closed; also second copies of trades that are in it.",
        ),
        MetricSpec("duplicates_total", "Trades, and bars of tapes, that came twice."),
        MetricSpec("excluded_total", "Trades that no bar counts, by their sale conditions."),
        MetricSpec(
            "implausible_vwaps_total",
            "Bars whose vwap lies outside low to high: (high + low + close) / 3 counts in its place.",
        ),
        MetricSpec("microbars_total", "Bars derived."),
        MetricSpec("signals_total", "Signal rows derived."),
    )

    events: int = 0
    late: int = 0
    duplicates: int = 0
    excluded: int = 0
    implausible_vwaps: int = 0
    microbars: int = 0
    signals: int = 0

    def add(self, batch: Batch) -> None:
        """Count a batch that has gone through the stages."""
        self.events += len(batch.trades) + len(batch.quotes) + len(batch.bars)
        self.late += batch.late
        self.duplicates += batch.duplicates
        self.excluded += batch.excluded
        self.implausible_vwaps += batch.implausible_vwaps
        self.microbars += len(batch.microbars)
        self.signals += len(batch.signals)

    def metrics(self) -> dict[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        return {
            "events_total": self.events,
            "late_total": self.late,
            "duplicates_total": self.duplicates,
            "excluded_total": self.excluded,
            "implausible_vwaps_total": self.implausible_vwaps,
            "microbars_total": self.microbars,
            "signals_total": self.signals,
        }
