"""One generation: everything that trades, made from a catalog and the plugins that it uses, as one immutable value."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from torghut_core.boundary import call_method, from_plugins
from torghut_core.catalog import Catalog, OnRemove, StrategyEntry
from torghut_core.errors import HandOverError, reason_of
from torghut_core.generation.instruments import Instruments
from torghut_core.model.timers import Every
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import Registered
from torghut_core.ports import Advisor, Broker, Observer, RiskRule, Sink, Source, Strategy

if TYPE_CHECKING:  # a process without stages should not wait for their compiler
    from torghut_core.feature_graph import FeaturePlan, Wanted
    from torghut_core.stages.base import Stage

InstanceKey: TypeAlias = "tuple[str, str, int]"
"""What an instance is found by in its generation: its kind, its name, and which of that name, counted from 0."""


class Made(NamedTuple):
    """An instance of a plugin, and what it was made from.

    `digest` is sha256 over plugin, code and parameters (of a strategy its timeframe too), `terms` over the same without
    the code: where only the first differs, the state is handed over.
    """

    instance: Any
    plugin: Registered
    params: Mapping[str, Any]
    digest: str
    terms: str


@dataclass(frozen=True, slots=True, eq=False)
class StrategyInstance:
    """One strategy of the catalog, ready to trade.

    Attributes
    ----------
    name : its own, in the catalog.
    use : name of its plugin.
    strategy : the instance.
    plugin : what it was made from.
    params : its parameters with their defaults, as JSON values.
    wanted : the features that it reads, and the rows that it is shown.
    warmup : rows of a symbol that it has to have seen before its decisions count.
    step_ns : length of the bars whose signals it sees, nanoseconds.
    symbols : what it trades.
    limits : its own limits.
    enabled : whether it makes decisions.
    on_remove : what happens to its position when it is no longer listed.
    digest : sha256 over plugin, code, parameters and timeframe: while it stays the same, instance and state stay too.
    timers : what it is called for at given moments.
    """

    name: str
    use: str
    strategy: Strategy
    plugin: Registered
    params: Mapping[str, Any]
    wanted: Wanted
    warmup: int
    step_ns: int
    symbols: tuple[str, ...]
    limits: Limits
    enabled: bool
    on_remove: OnRemove
    digest: str
    timers: tuple[Every, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """What trades from one reload to the next. Each decision carries its `number`.

    Attributes
    ----------
    number : its number in the audit database; 0 until it is recorded there.
    digest : sha256 over the catalog and the plugins in use with their code: equal digests trade alike.
    catalog : what it was made from.
    plugins : the plugins in use, by kind and name.
    source, stages, broker, sink : the pipeline; without a broker nothing trades, and then what follows is empty.
    strategies : by name.
    features : what is computed of the bars for the strategies; None where nothing trades.
    rules, advisors, observers : (name of the plugin, instance), in catalog order.
    made : every instance, by its key.
    instruments : the terms of every symbol, as far as the catalog and the broker's calendars say them.
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
    sink: Sink | None = None
    features: FeaturePlan | None = None
    made: Mapping[InstanceKey, Made] = field(default_factory=dict)
    instruments: Instruments = field(default_factory=Instruments)

    def numbered(self, number: int) -> Self:
        """The same instances under the number that the audit database assigned."""
        return replace(self, number=number)

    def with_instance(self, instance: StrategyInstance) -> Self:
        """The same with another instance of one strategy, which has the same parameters."""
        place = ("strategy", instance.name, 0)
        made = self.made[place]._replace(instance=instance.strategy, plugin=instance.plugin, digest=instance.digest)
        strategies = tuple(instance if each.name == instance.name else each for each in self.strategies)
        return replace(self, strategies=strategies, made={**self.made, place: made})

    def name_of(self, instance: object) -> str:
        """The name of an instance in the catalog, for errors."""
        names = (name for (_, name, _), made in self.made.items() if made.instance is instance)
        return next(names, type(instance).__name__)

    def to_record(self) -> dict[str, Any]:
        """Its record for the audit database, as JSON values."""
        content = self.catalog.model_dump(mode="json")
        given = {entry["name"]: {"given": entry["params"]} for entry in content["strategies"]}
        code = {
            each.name: {
                "code": {name: getattr(each.plugin, name, "") for name in ("distribution", "version", "code_digest")}
            }
            for each in self.strategies
        }
        return content | {
            "digest": self.digest,
            "catalog_digest": self.catalog.digest,
            "allow": content["plugins"]["allow"],
            "strategies": [row | given[row["name"]] | code.get(row["name"], {}) for row in self.strategy_rows()],
            "plugins": [plugin.to_record() for plugin in self.plugins],
        }

    def strategy_rows(self) -> list[dict[str, Any]]:
        """A row of the ``strategies`` table for each strategy of the catalog; with default parameters if it was made."""
        params = {instance.name: {"params": dict(instance.params)} for instance in self.strategies}
        return [strategy_row(entry) | params.get(entry.name, {}) for entry in self.catalog.strategies]


def strategy_row(entry: StrategyEntry) -> dict[str, Any]:
    """A row of the ``strategies`` table: the entry with its defaults, as JSON values."""
    return entry.model_dump(mode="json")


def has_same_terms(old: StrategyInstance, new: StrategyInstance) -> bool:
    """Whether two instances differ by their code alone."""
    return (old.use, old.params, old.step_ns) == (new.use, new.params, new.step_ns)


def hand_over(old: Generation, new: Generation, but: Collection[str] = ()) -> None:
    """Give the state of old code to new code where only the code has changed; not to the strategies in `but`.

    Raises
    ------
    HandOverError : `save_state` or `load_state` raised, or was interrupted. The old instances are as they were.
    """
    for place, made in new.made.items():
        before = old.made.get(place)
        if before is None or before.instance is made.instance or before.terms != made.terms:
            continue
        name = place[1]  # the watchdog reads this local, see `Engine.CALLERS`
        if place[0] == "strategy" and name in but:
            continue
        try:
            state = call_method(before.instance, "save_state")
            call_method(made.instance, "load_state", copy.deepcopy(state), before.instance.state_version)
        except from_plugins() as error:  # both are the plugin's code and may raise anything
            reason = f"the new code did not accept the state of the old: {reason_of(error)}"
            raise HandOverError(name, reason, made.plugin.distribution, made.plugin.code_digest) from error
