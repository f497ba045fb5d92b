"""Observers: they are called with decisions, fills and generations after these are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from torghut_core.model.trading import Decision, Fill, Intent, Position, Verdict
from torghut_core.ports.plugin import Plugin


class Observer(Plugin):
    """Called with what happened, after it is recorded: for alerts and metrics. Its errors are logged and ignored."""

    def on_decision(self, decision: Decision, verdicts: Sequence[Verdict], intent: Intent | None) -> None:
        """A decision was made; `intent` is None when it was denied."""

    def on_fill(self, fill: Fill, position: Position) -> None:
        """An order was filled, perhaps partly; `position` is the strategy's after it."""

    def on_generation(self, number: int, digest: str) -> None:
        """A generation started to trade."""
