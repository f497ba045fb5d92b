"""What a run did, counted, and its result as the object that ``--json`` prints."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar, Self

import msgspec

from torghut_core.market_data.totals import BatchTotals
from torghut_core.model.corporate_actions import AppliedAction
from torghut_core.model.trading import ZERO
from torghut_core.telemetry.metrics import Metric, MetricSpec

MOST_JUMPS = 1_000
"""So many jumps of prices are kept; each is logged."""


class StrategyTotals(msgspec.Struct):
    """What one strategy did so far, counted."""

    rows: int = 0
    """Signal rows that it was shown."""
    decisions: int = 0
    denied: int = 0
    shrunk: int = 0
    fills: int = 0
    failure: str = ""
    """Why it is quarantined and gets no more rows; "" while it is not."""


class Totals(BatchTotals):
    """What the trading loop did so far, counted."""

    metric_specs: ClassVar[tuple[MetricSpec, ...]] = (
        *BatchTotals.metric_specs,
        MetricSpec("decisions_total", "Decisions that strategies made."),
        MetricSpec("denials_total", "Decisions denied, by the code of the verdict.", "name"),
        MetricSpec("orders_submitted_total", "Orders handed to the broker."),
        MetricSpec("orders_rejected_total", "Orders that the broker rejected."),
        MetricSpec("fills_total", "Fills, partial ones too."),
    )

    decisions: int = 0
    denied: int = 0
    repeated: int = 0
    orders: int = 0
    rejected: int = 0
    fills: int = 0
    illegal_reports: int = 0
    fees: Decimal = ZERO
    interest: Decimal = ZERO
    liquidations: int = 0
    """Orders by which a simulated venue has closed positions for want of margin."""
    denials: dict[str, int] = msgspec.field(default_factory=dict)
    """How often each verdict code denied."""
    strategies: dict[str, StrategyTotals] = msgspec.field(default_factory=dict)
    """Of every strategy that has traded in this run."""
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    """By name, what a plugin raised the first time."""
    jumps: list[str] = msgspec.field(default_factory=list)
    """Prices that changed as in a split, the first `MOST_JUMPS` of them."""

    actions: list[AppliedAction] = msgspec.field(default_factory=list)
    """Corporate actions in symbols that are traded, in order."""

    def add_jump(self, jump: str) -> None:
        """Keep a jump of a price, if there is room."""
        if len(self.jumps) < MOST_JUMPS:
            self.jumps.append(jump)

    def metrics(self) -> dict[str, Metric]:
        """The numbers of `metric_specs`, by name."""
        return {
            **super().metrics(),
            "decisions_total": self.decisions,
            "denials_total": dict(self.denials),
            "orders_submitted_total": self.orders,
            "orders_rejected_total": self.rejected,
            "fills_total": self.fills,
        }


class Result(msgspec.Struct, kw_only=True):
    """The result of a replay: the object that ``--json`` prints."""

    events: int
    late: int
    duplicates: int
    microbars: int
    signals: int
    decisions: int
    denied: int
    orders: int
    fills: int
    final_equity: Decimal
    digest: str
    seconds: float
    events_per_second: int
    generation: int

    @classmethod
    def of(cls, totals: Totals, *, final_equity: Decimal, digest: str, generation: int, seconds: float) -> Self:
        """The result of a run that took `seconds` and counted `totals`."""
        return cls(
            events=totals.events,
            late=totals.late,
            duplicates=totals.duplicates,
            microbars=totals.microbars,
            signals=totals.signals,
            decisions=totals.decisions,
            denied=totals.denied,
            orders=totals.orders,
            fills=totals.fills,
            final_equity=final_equity,
            digest=digest,
            seconds=round(seconds, 3),
            events_per_second=round(totals.events / seconds) if seconds else 0,
            generation=generation,
        )


def to_json(value: Any) -> str:
    """JSON of a result or a report, money as numbers with all their digits."""
    return msgspec.json.Encoder(decimal_format="number", order="deterministic").encode(value).decode()
