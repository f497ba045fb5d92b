"""One generation: everything that trades, made from a catalog and the plugins it names, as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import pydantic

from torghut_core.catalog import Catalog, OnRemove, StrategyEntry, Use, content_digest, did_you_mean
from torghut_core.errors import CatalogError, PluginError, Problem
from torghut_core.model.market import TIMEFRAMES
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost, Registered
from torghut_core.ports import Advisor, Broker, Observer, RiskRule, Source, Strategy

if TYPE_CHECKING:  # who has no stages should not wait for their compiler
    from torghut_core.stages.base import Stage

NO_LIMITS = Limits()

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
    params : its parameters with their defaults, as JSON values.
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
    params: Mapping[str, Any]
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
    made : every instance with the digest of its plugin, code and parameters, by (kind, name, which of that name).
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
    made: Mapping[tuple[str, str, int], tuple[str, Any]] = field(default_factory=dict)

    def numbered(self, number: int) -> Self:
        """The same instances under the number that the audit database gave."""
        return replace(self, number=number)

    def to_record(self) -> dict[str, Any]:
        """What the audit database keeps of it, as JSON values."""
        content = self.catalog.model_dump(mode="json")
        return content | {
            "digest": self.digest,
            "catalog_digest": self.catalog.digest,
            "allow": content["plugins"]["allow"],
            "strategies": self.strategy_rows(),
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
        """A row of the ``strategies`` table for each strategy of the catalog; of those made, with all parameters."""
        params = {instance.name: {"params": dict(instance.params)} for instance in self.strategies}
        return [strategy_row(entry) | params.get(entry.name, {}) for entry in self.catalog.strategies]


def strategy_row(entry: StrategyEntry) -> dict[str, Any]:
    """A row of the ``strategies`` table: the entry with its defaults, as JSON values."""
    return entry.model_dump(mode="json")


def build(
    catalog: Catalog,
    host: PluginHost,
    *,
    pipeline: str = "trading",
    number: int = 0,
    defaults: Limits = NO_LIMITS,
    previous: Generation | None = None,
) -> Generation:
    """Make one pipeline of the catalog, and all that trades on it when it has a broker.

    What `previous` made of the same plugin, code and parameters for the same entry is taken over, with its state. Rules
    that enforce the limits of enabled strategies are added behind those that the catalog lists, where it does not list
    them.

    Parameters
    ----------
    defaults : limits of strategies that state none (``TRADING_MAX_NOTIONAL_PER_TRADE`` and the like).

    Raises
    ------
    CatalogError : every problem that was found, in file order.
    """
    maker = _Maker(catalog, host, defaults, previous)
    source, stages, broker = maker.pipeline(pipeline)
    parts = catalog.pipelines.get(pipeline)
    trades = pipeline == "trading" or (parts is not None and parts.broker is not None)
    strategies = maker.strategies() if trades else ()
    rules = maker.rules() if trades else ()
    advisors = maker.named("advisor", catalog.advisors, "advisors") if trades else ()
    observers = maker.named("observer", catalog.observers, "observers") if trades else ()
    if maker.problems:
        raise CatalogError(maker.problems_in_order())
    plugins = tuple(maker.used[key] for key in sorted(maker.used))
    code = [[plugin.kind, plugin.name, plugin.version, plugin.code_digest] for plugin in plugins]
    return Generation(
        number=number,
        digest=content_digest([catalog.digest, pipeline, code]),
        catalog=catalog,
        plugins=plugins,
        source=source,
        stages=stages,
        broker=broker,
        strategies=strategies,
        rules=rules,
        advisors=advisors,
        observers=observers,
        made=maker.made,
    )


def validate(catalog: Catalog, host: PluginHost) -> list[Problem]:
    """What is wrong with a catalog and the plugins that it names, in file order; nothing when all of it can be built.

    Of sources, brokers, advisors and observers, which may open files and connections, only the parameters are checked.
    """
    maker = _Maker(catalog, host, opens=False)
    for name in catalog.pipelines:
        maker.pipeline(name)
    maker.strategies()
    maker.rules()
    maker.named("advisor", catalog.advisors, "advisors")
    maker.named("observer", catalog.observers, "observers")
    return maker.problems_in_order()


class _Maker:
    """Makes plugins where the catalog uses them; notes what is wrong and goes on."""

    def __init__(
        self,
        catalog: Catalog,
        host: PluginHost,
        defaults: Limits = NO_LIMITS,
        previous: Generation | None = None,
        *,
        opens: bool = True,
    ) -> None:
        self.made: dict[tuple[str, str, int], tuple[str, Any]] = {}
        self.problems: list[Problem] = []
        self.used: dict[tuple[str, str], Registered] = {}
        self._catalog = catalog
        self._host = host
        self._opens = opens
        self._defaults = defaults
        self._previous = previous.made if previous else {}
        self._params: dict[str, Mapping[str, Any]] = {}

    def pipeline(self, name: str) -> tuple[Source | None, tuple[Stage, ...], Broker | None]:
        parts = self._catalog.pipelines.get(name)
        key = f"pipelines.{name}"
        if parts is None:
            self._note(key, "is missing", did_you_mean(name, self._catalog.pipelines) or "add it, with a source")
            return None, (), None
        if name == "trading" and parts.broker is None:
            self._note(f"{key}.broker", "is missing", "add one, such as `broker: {use: simulated}`")
        return (
            self._make("source", parts.source, f"{key}.source"),
            tuple(stage for _, stage in self.named("stage", parts.stages, f"{key}.stages")),
            self._make("broker", parts.broker, f"{key}.broker") if parts.broker else None,
        )

    def strategies(self) -> tuple[StrategyInstance, ...]:
        made = []
        for index, entry in enumerate(self._catalog.strategies):
            strategy = self._make("strategy", entry, f"strategies[{index}]", entry.name)
            if strategy is None:
                continue
            made.append(
                StrategyInstance(
                    name=entry.name,
                    use=entry.use,
                    strategy=strategy,
                    params=self._params[f"strategies[{index}]"],
                    columns=tuple(strategy.columns),
                    step_ns=TIMEFRAMES[entry.base_timeframe],
                    symbols=entry.symbols,
                    limits=self._limits(entry),
                    enabled=entry.enabled,
                    on_remove=entry.on_remove,
                    digest=self.made["strategy", entry.name, 0][0],
                )
            )
        return tuple(sorted(made, key=lambda instance: instance.name))

    def rules(self) -> tuple[tuple[str, RiskRule], ...]:
        rules = self.named("risk rule", self._catalog.risk, "risk")
        listed = {entry.use for entry in self._catalog.risk}
        for limit, rule in LIMIT_RULES.items():
            stating = [
                f"strategies[{index}].{limit}"
                for index, entry in enumerate(self._catalog.strategies)
                if entry.enabled and getattr(self._limits(entry), limit)
            ]
            if not stating or rule in listed:
                continue
            if rule in self._host.registry["risk rule"]:
                rules += ((rule, self._make("risk rule", Use(use=rule), stating[0])),)
            else:
                self._note(stating[0], f"needs the risk rule {rule!r}, and none is loaded", "install torghut-risk")
        return rules

    def _limits(self, entry: StrategyEntry) -> Limits:
        """The entry's limits, and the defaults where it states none."""
        defaults = self._defaults
        return Limits(
            entry.max_notional_per_trade or defaults.max_notional_per_trade,
            entry.max_position_pct_equity or defaults.max_position_pct_equity,
            entry.cooldown_seconds or defaults.cooldown_seconds,
        )

    def named(self, kind: str, entries: Sequence[Use], key: str) -> tuple[tuple[str, Any], ...]:
        made = [(entry.use, self._make(kind, entry, f"{key}[{index}]")) for index, entry in enumerate(entries)]
        return tuple((use, plugin) for use, plugin in made if plugin is not None)

    def problems_in_order(self) -> list[Problem]:
        return sorted(self.problems, key=lambda problem: (problem.file, problem.line, problem.column))

    def _make(self, kind: str, entry: Use, key: str, name: str = "") -> Any:
        """The plugin that an entry uses; None where it cannot be made, or need not.

        `name` tells entries of one plugin apart; without it their order does.
        """
        found = self._host.resolve(kind, entry.use, entry.version)
        if isinstance(found, Problem):
            is_known = entry.use in self._host.registry[kind]
            self._note(f"{key}.version" if is_known else f"{key}.use", found.message, found.mend)
            return None
        self.used[kind, entry.use] = found
        try:
            params = found.parameters(entry.model_dump()["params"])
            self._params[key] = found.plain(params)
            may_open = kind in ("source", "broker", "advisor", "observer")
            if may_open and not self._opens:
                return None
            digest = content_digest([kind, entry.use, found.code_digest, self._params[key]])
            place = (kind, name or entry.use, 0)
            while place in self.made:
                place = (*place[:2], place[2] + 1)
            before, instance = self._previous.get(place, ("", None))
            self.made[place] = digest, instance if before == digest else found.create(params)
            return self.made[place][1]
        except pydantic.ValidationError as error:
            noun = f"parameter of {kind} {entry.use!r}"
            self.problems += self._catalog.marks.problems(error, found.cls.Params, f"{key}.params", noun)
        except PluginError as error:
            self._note(f"{key}.use", f"{kind} {entry.use!r} cannot be made: {error.reason}", "change its params")
        return None

    def _note(self, key: str, message: str, mend: str) -> None:
        self.problems.append(self._catalog.marks.problem(key, message, mend))
