"""What a reload works with: the loop at one moment, the plan for the next generation, the result, the status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from torghut_core.catalog import Draft
from torghut_core.feature_graph import FeatureGraph
from torghut_core.generation import Generation
from torghut_core.model.trading import Account, Position
from torghut_core.ports import AccountView

ShownRows: TypeAlias = Mapping[str, Mapping[str, tuple[int, int]]]
"""By strategy and symbol: how many rows it was shown, and the `event_ts` of the last."""


class ReloadOutcome(StrEnum):
    """What a start or a reload came to; written to ``catalog_generations.outcome`` and shown by the admin API."""

    STARTED = "started"
    APPLIED = "applied"
    UNCHANGED = "unchanged"
    DEGRADED = "degraded"
    """Applied, but for entries that are wrong: those stay as they were, or out."""
    REFUSED = "refused"
    REPLAYED = "replayed"
    """A replay's generation, which no run goes back to."""


@dataclass(frozen=True)
class Moment(AccountView):
    """What a plan has to know of the loop, as it was between two batches."""

    running: Generation
    holding: frozenset[str]
    quarantined: frozenset[str]
    now: int
    positions: Mapping[tuple[str, str], Position]
    last_account: Account

    def account(self) -> Account:
        """The account when it was last read: what a strategy that only warms up has to do with it."""
        return self.last_account


@dataclass(frozen=True)
class Plan:
    """The next generation, ready to trade.

    Attributes
    ----------
    generation : what is to trade; the running one where nothing that trades is different.
    draft : the entries of the catalog that are valid.
    problems : why not all of it is applied, a line each.
    pending : differences that wait for a flat position or a restart, as `CatalogDiff.to_json` has them.
    warmed : what new instances were shown.
    graph : the generation's features after that; None where nothing is new.
    record, rows : what the audit database gets: the generation, and the rows of ``strategies`` that differ.
    moment : the loop when the plan was begun.
    renewed : strategies that get a new instance though nothing of them has changed.
    fresh : strategies whose new instance does not take over the state of the old one.
    """

    generation: Generation
    draft: Draft
    problems: list[str]
    pending: list[dict[str, Any]]
    warmed: ShownRows
    graph: FeatureGraph | None
    record: dict[str, Any]
    rows: list[dict[str, Any]]
    moment: Moment
    renewed: frozenset[str]
    fresh: frozenset[str]

    @property
    def waiting(self) -> set[str]:
        """Strategies with a change that waits until they are flat."""
        return waiting(self.pending)


@dataclass(frozen=True)
class Status:
    """How what trades compares with the catalog: a value, so that a reader sees one moment.

    Attributes
    ----------
    generation : what trades.
    problems : why the catalog is not applied as it stands, or not all of it; empty when it is.
    pending : what waits for a flat position or a restart.
    actor : who changed to the generation that trades.
    since : wall clock at which it began, ns.
    outcome, is_good, at, pause_s : of the last reload; `pause_s` is how long the trading loop paused for it.
    succeeded_at : wall clock of the last reload that applied everything, ns.
    """

    generation: Generation
    outcome: ReloadOutcome
    problems: list[str] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)
    actor: str = ""
    since: int = 0
    is_good: bool = True
    at: int = 0
    pause_s: float = 0.0
    succeeded_at: int = 0


def waiting(pending: list[dict[str, Any]]) -> set[str]:
    """Strategies with a change that waits until they are flat."""
    return {change["name"] for change in pending if change["kind"] == "strategy"}
