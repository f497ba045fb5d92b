"""Transaction cost analysis: what each order has cost against the price that it was decided at, and against what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
import numpy as np

from torghut_core.model.trading import ZERO, Side
from torghut_core.timestamps import DAY, MILLISECOND

Row: TypeAlias = dict[str, Any]

BPS = Decimal(10_000)
ONE = Decimal(1)
NO_ROWS: Mapping[str, Row] = MappingProxyType({})


class Expected(msgspec.Struct, frozen=True):
    """The shortfall, in basis points, that a simulator lets expect of an order: its median, and its 95th percentile."""

    p50: float
    p95: float


NO_EXPECTATIONS: Mapping[str, Expected] = MappingProxyType({})


class OrderCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of one order.

    A positive cost is to the account's disadvantage, for orders to buy and to sell alike. None: not known, as of an order
    without a fill.

    Attributes
    ----------
    arrival_price : the price that the decision was made at.
    signed_qty : `filled_qty`, below zero of a sale.
    slippage_bps : of the average fill price against the arrival price, without fees.
    shortfall_notional : the same in the currency of the account, over all that was filled, with fees.
    realized_shortfall_bps : the shortfall over what was filled at the arrival price, in basis points.
    expected_shortfall_bps_p50, expected_shortfall_bps_p95 : what the simulator lets expect in this symbol.
    divergence_bps : the realized shortfall less the expected median.
    simulator_version : the simulator that the expectation is from.
    churn_qty, churn_ratio : how much of what was filled takes back what the strategy had traded in the symbol before, on
        the day, and as a share of it.
    signal_to_decision_ms : from when the signal could be known to when the decision was written down.
    decision_to_submit_ms : from there to when the order was sent.
    submit_to_first_fill_ms : from there to the venue's time of the first fill. Each is None where clocks do not agree: one
        that is below zero, or longer than a day, compares the market's time of a replay with this machine's.
    """

    client_order_id: str
    decision_hash: str
    strategy_id: str
    symbol: str
    side: str
    state: str
    decided_at: int
    arrival_price: Decimal | None
    avg_fill_price: Decimal | None
    filled_qty: Decimal
    signed_qty: Decimal
    slippage_bps: float | None
    shortfall_notional: Decimal | None
    realized_shortfall_bps: float | None
    expected_shortfall_bps_p50: float | None
    expected_shortfall_bps_p95: float | None
    divergence_bps: float | None
    simulator_version: str
    churn_qty: Decimal
    churn_ratio: float | None
    signal_to_decision_ms: float | None
    decision_to_submit_ms: float | None
    submit_to_first_fill_ms: float | None


def order_costs(
    orders: Iterable[Row],
    decisions: Mapping[str, Row],
    first_fills: Mapping[str, int],
    *,
    multipliers: Mapping[str, Decimal],
    expected: Mapping[str, Expected] = NO_EXPECTATIONS,
    simulator_version: str = "",
) -> list[OrderCost]:
    """The cost of each order, in the order in which they were decided.

    Parameters
    ----------
    orders : rows of ``executions``, in order.
    decisions : rows of ``trade_decisions`` by their hash; an order without one, and a leg of a bracket, has no arrival price.
    first_fills : venue time of the first fill by ``client_order_id``, ns.
    multipliers : by symbol, where they are not 1.
    expected : by symbol.
    simulator_version : what these expectations are from.
    """
    held: dict[tuple[str, str], Decimal] = {}
    costs = []
    for row in orders:
        decision = (
            None if row["parent"] else decisions.get(row["decision_hash"])
        )  # a leg of a bracket waits for its price
        filled = row["filled_quantity"]
        signed = filled if row["side"] == Side.BUY else -filled
        place = row["strategy_id"], row["symbol"]
        before = held.get(place, ZERO)
        held[place] = before + signed
        churn = min(filled, abs(before)) if before * signed < 0 else ZERO
        arrival = decision["price"] if decision is not None else None
        costs.append(
            _cost(
                row,
                decision,
                arrival or None,
                signed,
                churn,
                first_fills.get(row["client_order_id"]),
                multipliers.get(row["symbol"], ONE),
                expected.get(row["symbol"]),
                simulator_version,
            )
        )
    return costs


def _cost(
    row: Row,
    decision: Row | None,
    arrival: Decimal | None,
    signed: Decimal,
    churn: Decimal,
    first_fill: int | None,
    multiplier: Decimal,
    expected: Expected | None,
    simulator_version: str,
) -> OrderCost:
    filled = abs(signed)
    slippage = shortfall = None
    realized = None
    if arrival is not None and filled:
        worse = (row["average_price"] - arrival) * (1 if signed > 0 else -1)
        slippage = float(worse / arrival * BPS)
        shortfall = worse * filled * multiplier + row["fees"]
        realized = float(shortfall / (arrival * filled * multiplier) * BPS)
    written = None if decision is None else decision["created_at"]
    submitted = row["submitted_at"]
    return OrderCost(
        client_order_id=row["client_order_id"],
        decision_hash=row["decision_hash"],
        strategy_id=row["strategy_id"],
        symbol=row["symbol"],
        side=row["side"],
        state=row["state"],
        decided_at=row["decided_at"],
        arrival_price=arrival,
        avg_fill_price=row["average_price"] if filled else None,
        filled_qty=filled,
        signed_qty=signed,
        slippage_bps=slippage,
        shortfall_notional=shortfall,
        realized_shortfall_bps=realized,
        expected_shortfall_bps_p50=None if expected is None else expected.p50,
        expected_shortfall_bps_p95=None if expected is None else expected.p95,
        divergence_bps=None if expected is None or realized is None else realized - expected.p50,
        simulator_version=simulator_version if expected is not None else "",
        churn_qty=churn,
        churn_ratio=float(churn / filled) if filled else None,
        signal_to_decision_ms=_ms(None if decision is None else decision["decided_at"], written),
        decision_to_submit_ms=_ms(written, submitted),
        submit_to_first_fill_ms=_ms(submitted, first_fill),
    )


def _ms(start: int | None, end: int | None) -> float | None:
    if start is None or end is None or not 0 <= end - start <= DAY:
        return None
    return (end - start) / MILLISECOND


def expectations(costs: Iterable[OrderCost]) -> dict[str, Expected]:
    """What the orders of a simulation let expect, by symbol."""
    realized: dict[str, list[float]] = {}
    for cost in costs:
        if cost.realized_shortfall_bps is not None:
            realized.setdefault(cost.symbol, []).append(cost.realized_shortfall_bps)
    return {symbol: Expected(*np.percentile(found, (50, 95)).tolist()) for symbol, found in realized.items()}


def percentiles(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """Count, median, 95th and 99th percentile and largest of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    if not known:
        return {"count": 0, "p50": None, "p95": None, "p99": None, "max": None}
    p50, p95, p99 = np.percentile(known, (50, 95, 99)).tolist()
    return {"count": len(known), "p50": p50, "p95": p95, "p99": p99, "max": max(known)}


LATENCIES = ("signal_to_decision_ms", "decision_to_submit_ms", "submit_to_first_fill_ms")


def latencies(costs: Sequence[OrderCost]) -> dict[str, dict[str, float | int | None]]:
    """`percentiles` of each latency of some orders."""
    return {name: percentiles(getattr(cost, name) for cost in costs) for name in LATENCIES}


def ratios(costs: Sequence[OrderCost]) -> dict[str, float | None]:
    """Shares of some orders: filled at least partly, canceled, rejected, sent otherwise than to the broker (none ever is)."""
    count = len(costs)

    def share(found: int) -> float | None:
        return found / count if count else None

    states = [cost.state for cost in costs]
    return {
        "fill_ratio": share(sum(cost.filled_qty > 0 for cost in costs)),
        "cancel_ratio": share(states.count("canceled")),
        "reject_ratio": share(states.count("rejected")),
        "fallback_ratio": share(0),
    }


def by_symbol(costs: Sequence[OrderCost]) -> list[Row]:
    """The costs of each symbol: orders, filled quantity, mean shortfall and divergence in basis points, shortfall in money."""
    rows = []
    for symbol in sorted({cost.symbol for cost in costs}):
        found = [cost for cost in costs if cost.symbol == symbol]
        known = [cost for cost in found if cost.realized_shortfall_bps is not None]
        diverged = [cost.divergence_bps for cost in known if cost.divergence_bps is not None]
        rows.append(
            {
                "symbol": symbol,
                "orders": len(found),
                "filled_qty": sum((cost.filled_qty for cost in found), ZERO),
                "shortfall_notional": sum((cost.shortfall_notional or ZERO for cost in found), ZERO),
                "realized_shortfall_bps": float(np.mean([cost.realized_shortfall_bps for cost in known]))
                if known
                else None,
                "divergence_bps": float(np.mean(diverged)) if diverged else None,
                "churn_qty": sum((cost.churn_qty for cost in found), ZERO),
            }
        )
    return rows
