"""The page of a live day beside its backtest: one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torghut_core.research.live_day.day import LiveDay
from torghut_core.research.pages.documents import write_document

MOST_ROWS = 500
"""Rows of a table at most; the JSON has all of them."""

ORDER_COLUMNS = {
    "decided_at": "decided",
    "strategy_id": "strategy",
    "symbol": "symbol",
    "state": "state",
    "signed_qty": "filled",
    "arrival_price": "arrival",
    "avg_fill_price": "average fill",
    "slippage_bps": "slippage bps",
    "shortfall_notional": "shortfall",
    "realized_shortfall_bps": "realized bps",
    "expected_shortfall_bps_p50": "expected p50",
    "expected_shortfall_bps_p95": "expected p95",
    "divergence_bps": "divergence",
    "churn_ratio": "churn",
}


def write_live_day(path: Path, day: LiveDay) -> Path:
    """Write the page and return its path.

    Raises
    ------
    StateError : the file cannot be written.
    """
    report = day.to_json()
    return write_document(
        path,
        "live_day.html",
        title=f"{report['day']}: live and backtest",
        subtitle=f"Account {report['account']}, the 24 hours of {report['day']} in UTC, catalog {report['catalog_digest'][:12]}",
        warnings=report["warnings"],
        counts=[[name, number, report["backtest"][name]] for name, number in report["live"].items()],
        decided=decided_text(report),
        differences=[
            [
                row["event_ts"],
                row["strategy_id"],
                row["symbol"],
                row["action"],
                row["kind"].replace("_", " "),
                *_terms(row),
            ]
            for row in report["decisions"]["differences"][:MOST_ROWS]
        ],
        symbols=[[_text(value) for value in row.values()] for row in report["symbols"]],
        order_columns=list(ORDER_COLUMNS.values()),
        orders=[[_text(row[name]) for name in ORDER_COLUMNS] for row in report["orders"][:MOST_ROWS]],
        latencies=[[name, *(_text(value) for value in row.values())] for name, row in report["latencies"].items()],
        simulator=next((cost.simulator_version for cost in day.costs if cost.simulator_version), ""),
    )


def decided_text(report: dict[str, Any]) -> str:
    """How the decisions compare, in a sentence."""
    found = report["decisions"]
    ratio = found["match_ratio"]
    share = "no decision on either side" if ratio is None else f"{ratio:.1%} of the decisions are in both"
    return (
        f"{share}: {found['same']:,} the same, {found['other_verdict']:,} with another verdict, {found['other_terms']:,} with "
        f"other terms; {found['live_only']:,} in live alone, {found['backtest_only']:,} in the backtest alone."
    )


def _terms(row: dict[str, Any]) -> list[str]:
    sides = (row["live"], row["backtest"])
    return ["-" if each is None else f"{each['status']}, {each['quantity']} {each['order_type']}" for each in sides]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
