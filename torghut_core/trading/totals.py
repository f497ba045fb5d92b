"""What a run did, counted, and its result as the object that ``--json`` prints."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Self

import msgspec

from torghut_core.market_data.totals import BatchTotals
from torghut_core.model.trading import ZERO


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

    decisions: int = 0
    denied: int = 0
    repeated: int = 0
    orders: int = 0
    rejected: int = 0
    fills: int = 0
    illegal_reports: int = 0
    fees: Decimal = ZERO
    denials: dict[str, int] = msgspec.field(default_factory=dict)
    """How often each verdict code denied."""
    strategies: dict[str, StrategyTotals] = msgspec.field(default_factory=dict)
    """Of every strategy that has traded in this run."""
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    """By name, what a plugin raised the first time."""


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
