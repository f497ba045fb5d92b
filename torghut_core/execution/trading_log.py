"""Logs what a run decides and does, in a bounded number of lines, and once a minute that it lives.

What is logged is durable: it is read from what a commit has written. Of each kind of line so many come in a minute; what is
more is counted, and the numbers are in the line of the minute. Denials are counted by their code, with one line for the
first of each strategy and code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torghut_core.audit.rows import Record
from torghut_core.model.trading import Decision, Intent, Order, OrderEvent, Outcome, Report, Verdict
from torghut_core.telemetry import logs
from torghut_core.timestamps import SYSTEM_CLOCK, Clock, format_timestamp

MINUTE_S = 60.0
"""Seconds between two lines that say that it lives."""

LINES = 20
"""Lines of one kind in a minute at most."""

MANY = 1000
"""Pairs of strategy and code whose first denial is logged, at most."""

KINDS = {
    "decision": "decisions",
    "denial": "new_denials",
    "order": "orders",
    "fill": "fills",
    "end": "orders_ended",
}
"""Kinds of lines, and what their number of a minute is called."""

ENDS = (OrderEvent.CANCELED, OrderEvent.REJECTED, OrderEvent.EXPIRED)


class TradingLog:
    """Logs the decisions, denials, orders and fills of a run.

    Parameters
    ----------
    pulse : gives what the line of the minute says beside the numbers of the minute.
    clock : where it asks for the time.
    """

    def __init__(self, pulse: Callable[[], dict[str, Any]] = dict, clock: Clock = SYSTEM_CLOCK) -> None:
        self._pulse = pulse
        self._clock = clock
        self._began = clock.monotonic()
        self._lines: Counter[str] = Counter()
        """How often each kind of line was due in this minute."""
        self._denied: Counter[str] = Counter()
        """Denials of this minute by code."""
        self._known_denials: set[tuple[str, str]] = set()

    def add(self, records: Sequence[Record]) -> None:
        """Log what a commit has written."""
        for kind, *values in records:
            if kind == "decision":
                self._add_decision(*values)
            elif kind == "report":
                self._add_report(*values)
            elif kind == "leg":
                self._add_order(*values)

    def beat(self) -> None:
        """Say that it lives, where a minute has passed; call it now and then."""
        now = self._clock.monotonic()
        if now - self._began < MINUTE_S:
            return
        self._began = now
        numbers: dict[str, Any] = {KINDS[kind]: count for kind, count in sorted(self._lines.items())}
        unlisted = sum(max(0, count - LINES) for count in self._lines.values())
        if unlisted:
            numbers["not_listed"] = unlisted
        if self._denied:
            numbers["denied"] = dict(self._denied)
        logs.info("alive", **self._pulse(), **numbers)
        self._lines.clear()
        self._denied.clear()

    def _say(self, kind: str, event: str, **fields: Any) -> None:
        self._lines[kind] += 1
        if self._lines[kind] <= LINES:
            logs.info(event, **fields)

    def _add_decision(
        self,
        _at: int,
        decision: Decision,
        _signal: dict[str, Any],
        verdicts: Sequence[Verdict],
        intent: Intent | None,
        _inputs: object,
    ) -> None:
        fields = {
            "strategy_id": decision.strategy_id,
            "symbol": decision.symbol,
            "action": str(decision.action),
            "quantity": str(decision.quantity),
            "decision_id": decision.decision_hash[:12],
        }
        if intent is None:
            codes = [verdict.code for verdict in verdicts if verdict.outcome is Outcome.DENY]
            self._denied.update(codes)
            fresh = {(decision.strategy_id, code) for code in codes} - self._known_denials
            if fresh and len(self._known_denials) < MANY:
                self._known_denials |= fresh
                reasons = [str(verdict.value) for verdict in verdicts if verdict.outcome is Outcome.DENY]
                self._say("denial", "denied", **fields, codes=codes, values=reasons)
            return
        at = format_timestamp(decision.event_ts)
        self._say("decision", "decision", **fields, event_ts=at, because=decision.because[:200])
        self._add_order(intent)

    def _add_order(self, intent: Intent) -> None:
        self._say(
            "order",
            "order",
            client_order_id=intent.client_order_id,
            strategy_id=intent.strategy_id,
            symbol=intent.symbol,
            side=str(intent.side),
            quantity=str(intent.quantity),
            order_type=str(intent.order_type),
            purpose=str(intent.purpose),
        )

    def _add_report(
        self, _account: str, order: Order, report: Report, _position: object, strategy_id: str | None
    ) -> None:
        fields = {"client_order_id": report.client_order_id, "strategy_id": strategy_id, "symbol": order.intent.symbol}
        fill = report.fill
        if fill is not None:
            amounts = {"side": str(fill.side), "quantity": str(fill.quantity), "price": str(fill.price)}
            self._say("fill", "fill", **fields, **amounts, venue_order_id=order.venue_order_id)
        elif report.event in ENDS:
            self._say("end", f"order {report.event}", **fields, reason=report.reason)
