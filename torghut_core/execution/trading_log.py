"""Logs what a run decides and does, in a bounded number of lines, and once a minute that it lives.

What is logged is durable: it is read from what a commit has written. Of each kind of line so many come in a minute; what is
more is counted, and the numbers are in the line of the minute. Denials are counted by their code, with one line for the
first of each strategy and code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torghut_core.audit.rows import Record, is_denied
from torghut_core.boundary import from_plugins
from torghut_core.errors import reason_of
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
        """Log what a commit has written. Never raises: a value of a plugin that has no text costs its line."""
        for kind, *values in records:
            try:
                if kind == "decision":
                    self._add_decision(*values)
                elif kind == "report":
                    self._add_report(*values)
                elif kind == "leg":
                    self._add_order(*values)
            except from_plugins() as error:
                logs.error("a record could not be logged", kind=kind, error=reason_of(error))

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

    def _is_due(self, kind: str) -> bool:
        """Count a line of a kind; whether it may still be logged in this minute."""
        self._lines[kind] = count = self._lines.get(kind, 0) + 1
        return count <= LINES

    def _add_decision(
        self,
        _at: int,
        decision: Decision,
        _signal: dict[str, Any],
        verdicts: Sequence[Verdict],
        intent: Intent | None,
        _inputs: object,
    ) -> None:
        if not is_denied(decision, verdicts, intent):
            if self._is_due("decision"):
                at = format_timestamp(decision.event_ts)
                logs.info("decision", **_fields(decision), event_ts=at, because=decision.because[:200])
            if intent is not None:
                self._add_order(intent)
            return
        denials = [verdict for verdict in verdicts if verdict.outcome is Outcome.DENY]
        codes = [verdict.code for verdict in denials]
        self._denied.update(codes)
        fresh = {(decision.strategy_id, code) for code in codes} - self._known_denials
        if fresh and len(self._known_denials) < MANY:
            self._known_denials |= fresh
            if self._is_due("denial"):
                logs.info("denied", **_fields(decision), codes=codes, values=[verdict.value for verdict in denials])

    def _add_order(self, intent: Intent) -> None:
        if self._is_due("order"):
            logs.info(
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
        fill = report.fill
        if fill is None and report.event not in ENDS:
            return
        if not self._is_due("end" if fill is None else "fill"):
            return
        fields = {"client_order_id": report.client_order_id, "strategy_id": strategy_id, "symbol": order.intent.symbol}
        if fill is None:
            logs.info(f"order {report.event}", **fields, reason=report.reason)
            return
        amounts = {"side": str(fill.side), "quantity": str(fill.quantity), "price": str(fill.price)}
        logs.info("fill", **fields, **amounts, venue_order_id=order.venue_order_id)


def _fields(decision: Decision) -> dict[str, Any]:
    return {
        "strategy_id": decision.strategy_id,
        "symbol": decision.symbol,
        "action": str(decision.action),
        "quantity": str(decision.quantity),
        "decision_id": decision.decision_hash[:12],
    }
