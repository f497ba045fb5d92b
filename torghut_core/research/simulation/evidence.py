"""What a simulation left in its stores: signals, decisions, executions, each with the event that it goes back to."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from typing import Any

import msgspec

from torghut_core.audit import SqlAuditStore
from torghut_core.audit.rows import as_json
from torghut_core.bus.envelope import Envelope
from torghut_core.bus.topics import Topics
from torghut_core.generation import Generation
from torghut_core.model.trading import ZERO, Side
from torghut_core.research.live_day.tca import OrderCost, Row, expectations, order_costs
from torghut_core.research.simulation.manifest import Reporting
from torghut_core.research.simulation.plan import Plan
from torghut_core.signals import SignalDatabase, open_signal_store
from torghut_core.timestamps import format_timestamp

BPS = Decimal(10_000)


class Evidence(msgspec.Struct, frozen=True):
    """What is in the stores of a simulation.

    Attributes
    ----------
    rows : of ``microbars`` and ``signals``.
    decisions, orders, events, reviews : rows of the audit database.
    costs : of the orders.
    is_audit_whole : whether the audit's hash chain holds.
    """

    rows: Mapping[str, int]
    decisions: Sequence[Row]
    orders: Sequence[Row]
    events: Sequence[Row]
    reviews: Sequence[Row]
    costs: Sequence[OrderCost]
    is_audit_whole: bool

    @property
    def fills(self) -> list[Row]:
        """The fills among the order events."""
        return [row for row in self.events if row["event"] == "fill"]


def gather(plan: Plan, generation: Generation) -> Evidence:
    """Read the stores of a simulation whose processes have ended.

    Raises
    ------
    StateError : one cannot be read.
    """
    with closing(open_sim_signals(plan)) as signals:
        rows = signals.counts()
    with closing(SqlAuditStore(plan.audit_url)) as audit:
        decisions, orders = audit.rows("trade_decisions"), audit.rows("executions")
        events, reviews = audit.rows("execution_events"), audit.rows("llm_decision_reviews")
        is_whole = not audit.verify()
    first: dict[str, int] = {}
    for row in events:
        if row["event"] == "fill":
            first.setdefault(row["client_order_id"], row["event_ts"])
    by_hash = {row["decision_hash"]: row for row in decisions}
    multipliers = {
        symbol: generation.instruments[symbol].multiplier for each in generation.strategies for symbol in each.symbols
    }
    costs = order_costs(orders, by_hash, first, multipliers=multipliers)
    plugin = next(made.plugin for place, made in generation.made.items() if place[0] == "broker")
    costs = order_costs(
        orders,
        by_hash,
        first,
        multipliers=multipliers,
        expected=expectations(costs),
        simulator_version=f"{plugin.name} {plugin.version} {plugin.code_digest[:12]}",
    )
    return Evidence(rows, decisions, orders, events, reviews, costs, is_whole)


def open_sim_signals(plan: Plan) -> SignalDatabase:
    """The signal store of a simulation."""
    clickhouse, settings = plan.manifest.clickhouse, plan.settings()
    environment = plan.environment()
    return open_signal_store(
        None if clickhouse else plan.state("run") / "signals",
        url=clickhouse.http_url if clickhouse else None,
        username=clickhouse.username if clickhouse else "",
        password=environment.get("TA_CLICKHOUSE_PASSWORD", ""),
        price_table=settings["TRADING_PRICE_TABLE"],
        signal_table=settings["TRADING_SIGNAL_TABLE"],
        microbars_ttl_days=None,
        signals_ttl_days=None,
        apply_ttl=False,
    )


class Lineage:
    """Says which event of the dump was the last of its symbol when something was decided.

    Parameters
    ----------
    plan : its dump is read once; three numbers are kept for each event.
    generation : its strategies say how long the bars of their signals are.
    """

    def __init__(self, plan: Plan, generation: Generation) -> None:
        self._plan = plan
        self._steps = {each.name: each.step_ns for each in generation.strategies}
        self._known: dict[str, array[int]] = {}
        self._offsets: dict[str, array[int]] = {}
        self._channels: dict[str, list[str]] = {}
        if not plan.dump.exists():
            return
        with plan.dump.open("rb") as file:
            for offset, line in enumerate(file):
                envelope = Envelope.decode(line)
                self._known.setdefault(envelope.symbol, array("q")).append(envelope.ingest_ts)
                self._offsets.setdefault(envelope.symbol, array("q")).append(offset)
                self._channels.setdefault(envelope.symbol, []).append(envelope.channel)

    def context(self, decision: Row) -> Row:
        """The `simulation_context` of a decision, and of all that follows from it."""
        symbol, event_ts = decision["symbol"], decision["event_ts"]
        place = bisect_right(self._known.get(symbol, ()), decision["decided_at"]) - 1
        step = self._steps.get(decision["strategy_id"], 0)
        found = place >= 0
        channel = self._channels[symbol][place] if found else None
        offset = self._offsets[symbol][place] if found else None
        return {
            "simulation_run_id": self._plan.run_id,
            "dataset_id": self._plan.manifest.dataset_id,
            "dataset_event_id": f"{self._plan.manifest.dataset_id}:{offset}" if found else None,
            "source_topic": Topics.model_construct().of(channel) if channel else None,
            "source_partition": 0 if found else None,
            "source_offset": offset,
            "replay_topic": self._plan.topics[channel] if channel else None,
            "signal_event_ts": format_timestamp(event_ts),
            "signal_seq": event_ts // step if step else None,
        }


def activities(evidence: Evidence, lineage: Lineage) -> dict[str, Any]:
    """The contents of ``signal-``, ``decision-`` and ``execution-activity.json``, by that first word."""
    contexts = {row["decision_hash"]: lineage.context(row) for row in evidence.decisions}
    statuses = Counter(row["status"] for row in evidence.decisions)
    denials = Counter(
        verdict["code"] for row in evidence.decisions for verdict in row["verdicts"] if verdict["outcome"] == "deny"
    )
    names = ("decision_hash", "strategy_id", "symbol", "event_ts", "decided_at", "action", "status", "price", "params")
    orders = (
        "client_order_id",
        "decision_hash",
        "strategy_id",
        "symbol",
        "side",
        "state",
        "quantity",
        "filled_quantity",
    )
    events = ("client_order_id", "event", "event_ts", "state", "quantity", "price", "fee")
    of_order = {row["client_order_id"]: row["decision_hash"] for row in evidence.orders}
    return {
        "signal": {"ta_microbars": evidence.rows["microbars"], "ta_signals": evidence.rows["signals"]},
        "decision": {
            "trade_decisions": len(evidence.decisions),
            "by_status": dict(statuses),
            "denials": dict(denials),
            "rows": [
                _of(row, names) | {"simulation_context": contexts[row["decision_hash"]]} for row in evidence.decisions
            ],
        },
        "execution": {
            "executions": len(evidence.orders),
            "execution_order_events": len(evidence.events),
            "execution_tca_metrics": sum(cost.realized_shortfall_bps is not None for cost in evidence.costs),
            "rows": [
                _of(row, orders) | {"simulation_context": contexts.get(row["decision_hash"])} for row in evidence.orders
            ],
            "order_events": [
                _of(row, events) | {"simulation_context": contexts.get(of_order.get(row["client_order_id"], ""))}
                for row in evidence.events
            ],
            "tca": [msgspec.structs.asdict(cost) for cost in evidence.costs],
        },
    }


def _of(row: Row, names: Sequence[str]) -> Row:
    return as_json({name: row[name] for name in names})


LOT_COLUMNS = (
    "strategy_id", "symbol", "side", "quantity", "opened_at", "closed_at", "open_price", "close_price", "gross", "costs", "net",
)  # fmt: skip


def closed_lots(
    evidence: Evidence, multipliers: Mapping[str, Decimal], reporting: Reporting
) -> Iterator[tuple[Any, ...]]:
    """What was opened and closed again, first in first out, a row of `LOT_COLUMNS` each; `costs` are the venue's and the report's."""
    of_order = {row["client_order_id"]: row for row in evidence.orders}
    open_lots: dict[tuple[str, str], deque[list[Any]]] = {}
    for fill in evidence.fills:
        order = of_order[fill["client_order_id"]]
        holder = order["strategy_id"] if fill["strategy_id"] is None else fill["strategy_id"]
        lots = open_lots.setdefault((holder, order["symbol"]), deque())
        multiplier = multipliers.get(order["symbol"], Decimal(1))
        left, price = fill["quantity"], fill["price"]
        notional = left * price * multiplier
        cost = (fill["fee"] + notional * reporting.commission_bps / BPS + reporting.per_trade_fee) / left
        sign = 1 if order["side"] == Side.BUY else -1
        while left and lots and lots[0][0] != sign:
            lot = lots[0]
            closed = min(left, lot[1])
            gross = (price - lot[3]) * closed * multiplier * lot[0]
            costs = closed * (cost + lot[4])
            side = "long" if lot[0] > 0 else "short"
            times = (format_timestamp(lot[2]), format_timestamp(fill["event_ts"]))
            yield (holder, order["symbol"], side, closed, *times, lot[3], price, gross, costs, gross - costs)
            left -= closed
            lot[1] -= closed
            if not lot[1]:
                lots.popleft()
        if left > ZERO:
            lots.append([sign, left, fill["event_ts"], price, cost])
