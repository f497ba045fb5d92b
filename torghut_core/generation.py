"""One generation: everything that trades, made from a catalog and the plugins it names, as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import pydantic

from torghut_core.catalog import Catalog, OnRemove, Pipeline, StrategyEntry, Use, content_digest
from torghut_core.errors import CatalogError, PluginError, Problem
from torghut_core.model.market import TIMEFRAMES
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost, Registered
from torghut_core.ports import Advisor, Broker, Observer, RiskRule, Source, Strategy

if TYPE_CHECKING:  # who has no stages should not wait for their compiler
    from torghut_core.stages.base import Stage

LIMIT_RULES = {
    "max_notional_per_trade": "max-notional",
    "max_position_pct_equity": "max-position-pct-equity",
    "cooldown_seconds": "cooldown",
}
"""The risk rule that enforces each limit of a strategy, also where the catalog's `risk` does not list it."""


@dataclass(frozen=True, slots=True, eq=False)
class StrategyInstance:
    """One strategy of the catalog, ready to trade.

    Attributes
    ----------
    name : its own, in the catalog.
    use : name of its plugin.
    strategy : the instance.
    columns : of ``ta_signals``, that it reads.
    step_ns : length of the bars whose signals it sees, nanoseconds.
    symbols : what it trades.
    limits : its own limits.
    enabled : whether it makes decisions.
    on_remove : what becomes of its position when it is no longer listed.
    digest : sha256 over plugin, code and parameters: while it stays the same, instance and state may stay too.
    """

    name: str
    use: str
    strategy: Strategy
    columns: tuple[str, ...]
    step_ns: int
    symbols: tuple[str, ...]
    limits: Limits
    enabled: bool
    on_remove: OnRemove
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """What trades from one reload to the next. Each decision carries its `number`.

    Attributes
    ----------
    number : in the audit database; 0 until it is written down there.
    digest : sha256 over the catalog and the plugins in use with their code: equal digests trade alike.
    catalog : what it was made from.
    plugins : the plugins in use, by kind and name.
    source, stages, broker : the pipeline; without a broker nothing trades, and then what follows is empty.
    strategies : by name.
    rules, advisors, observers : (name of the plugin, instance), in catalog order.
    """

    number: int
    digest: str
    catalog: Catalog
    plugins: tuple[Registered, ...]
    source: Source | None
    stages: tuple[Stage, ...]
    broker: Broker | None
    strategies: tuple[StrategyInstance, ...]
    rules: tuple[tuple[str, RiskRule], ...]
    advisors: tuple[tuple[str, Advisor], ...]
    observers: tuple[tuple[str, Observer], ...]

    def numbered(self, number: int) -> Self:
        """The same instances under the number that the audit database gave."""
        return replace(self, number=number)

    def to_record(self) -> dict[str, Any]:
        """What the audit database keeps of it, as JSON values."""
        return {
            "digest": self.digest,
            "catalog_digest": self.catalog.digest,
            "catalog": self.catalog.model_dump(mode="json"),
            "plugins": [
                {
                    "kind": plugin.kind,
                    "name": plugin.name,
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                    "code_digest": plugin.code_digest,
                }
                for plugin in self.plugins
            ],
        }

    def strategy_rows(self) -> list[dict[str, Any]]:
        """A row of the ``strategies`` table for each strategy of the catalog, as JSON values."""
        return [strategy_row(entry) for entry in self.catalog.strategies]


def strategy_row(entry: StrategyEntry) -> dict[str, Any]:
    """A row of the ``strategies`` table: the entry with its defaults, as JSON values."""
    return entry.model_dump(mode="json")


def build(catalog: Catalog, host: PluginHost, *, pipeline: str = "trading", number: int = 0) -> Generation:
    """Make everything that one pipeline of the catalog needs.

    The rules that enforce limits of enabled strategies are added behind those that the catalog lists, where it does not
    list them.

    Raises
    ------
    CatalogError : every problem that was found, at its place; nothing was made then.
    """
    builder = _Builder(catalog, host)
    parts = builder.pipeline(pipeline)
    trades = pipeline == "trading" or (parts is not None and parts.broker is not None)
    key = f"pipelines.{pipeline}"
    source = builder.make("source", parts.source, f"{key}.source") if parts else None
    stages = builder.make_all("stage", parts.stages if parts else (), f"{key}.stages")
    broker = builder.make("broker", parts.broker, f"{key}.broker") if parts and parts.broker else None
    strategies = builder.strategies() if trades else ()
    rules = builder.rules() if trades else ()
    advisors = builder.make_all("advisor", catalog.advisors if trades else (), "advisors")
    observers = builder.make_all("observer", catalog.observers if trades else (), "observers")
    builder.raise_problems()
    plugins = builder.plugins()
    return Generation(
        number=number,
        digest=content_digest(
            [catalog.digest, pipeline, *((plugin.kind, plugin.name, plugin.version, plugin.code_digest) for plugin in plugins)]
        ),
        catalog=catalog,
        plugins=plugins,
        source=source,
        stages=tuple(stage for _, stage in stages),
        broker=broker,
        strategies=strategies,
        rules=rules,
        advisors=advisors,
        observers=observers,
    )


def validate(catalog: Catalog, host: PluginHost) -> list[Problem]:
    """What is wrong with a catalog and the plugins it names, in file order; empty when all pipelines could be built.

    Strategies, rules and stages are made; what may open files or connections (sources, brokers, advisors and observers)
    is not, and only its parameters are checked.
    """
    builder = _Builder(catalog, host)
    for name in catalog.pipelines:
        parts = builder.pipeline(name)
        ...
    return builder.problems
