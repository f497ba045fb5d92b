"""One generation: everything that trades, made from a catalog and the plugins it names, as one immutable value."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pydantic

from torghut_core.catalog import Catalog, OnRemove, StrategyEntry, Use, content_digest, did_you_mean
from torghut_core.errors import CatalogError, HandOverError, PluginError, Problem, reason_of
from torghut_core.model.market import TIMEFRAMES
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost, Registered
from torghut_core.plugin_host.watchdog import FROM_PLUGINS
from torghut_core.ports import Advisor, Broker, Observer, RiskRule, Sink, Source, Strategy

if TYPE_CHECKING:  # who has no stages should not wait for their compiler
    from torghut_core.stages.base import Stage

NO_LIMITS = Limits()
NOTHING: Mapping[Any, Any] = MappingProxyType({})

LIMIT_RULES = {
    "max_notional_per_trade": "max-notional",
    "max_position_pct_equity": "max-position-pct-equity",
    "cooldown_seconds": "cooldown",
}
"""The risk rule that enforces each limit of a strategy, also where the catalog's `risk` does not list it."""


class Made(NamedTuple):
    """An instance of a plugin, and what it was made of.

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
    plugin : what it was made of.
    params : its parameters with their defaults, as JSON values.
    columns : of ``ta_signals``, that it reads.
    warmup : rows of a symbol that it has to have seen before its decisions count.
    step_ns : length of the bars whose signals it sees, nanoseconds.
    symbols : what it trades.
    limits : its own limits.
    enabled : whether it makes decisions.
    on_remove : what becomes of its position when it is no longer listed.
    digest : sha256 over plugin, code, parameters and timeframe: while it stays the same, instance and state stay too.
    """

    name: str
    use: str
    strategy: Strategy
    plugin: Registered
    params: Mapping[str, Any]
    columns: tuple[str, ...]
    warmup: int
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
    source, stages, broker, sink : the pipeline; without a broker nothing trades, and then what follows is empty.
    strategies : by name.
    rules, advisors, observers : (name of the plugin, instance), in catalog order.
    made : every instance, by (kind, name, which of that name).
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
    made: Mapping[tuple[str, str, int], Made] = field(default_factory=dict)

    def numbered(self, number: int) -> Self:
        """The same instances under the number that the audit database gave."""
        return replace(self, number=number)

    def with_instance(self, instance: StrategyInstance) -> Self:
        """The same with another instance of one strategy, that has the same parameters."""
        place = ("strategy", instance.name, 0)
        made = self.made[place]._replace(instance=instance.strategy, plugin=instance.plugin, digest=instance.digest)
        strategies = tuple(instance if each.name == instance.name else each for each in self.strategies)
        return replace(self, strategies=strategies, made={**self.made, place: made})

    def to_record(self) -> dict[str, Any]:
        """What the audit database keeps of it, as JSON values."""
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
    renewed: Collection[str] = (),
    rejected: Mapping[tuple[str, str], str] = NOTHING,
) -> Generation:
    """Make one pipeline of the catalog, and all that trades on it when it has a broker.

    What `previous` made of the same plugin, code and parameters for the same entry is taken over, with its state. An
    entry that stands in no file is one of `previous` that is kept, with its plugin and code. Rules that enforce the
    limits of enabled strategies are added behind those that the catalog lists, where it does not list them.

    Parameters
    ----------
    defaults : limits of strategies that state none (``TRADING_MAX_NOTIONAL_PER_TRADE`` and the like).
    renewed : strategies that get a new instance in any case.
    rejected : by kind and name (a strategy's own), the digest of code that must not be used: `previous`'s is.

    Raises
    ------
    CatalogError : every problem that was found, in file order.
    """
    maker = _Maker(catalog, host, defaults, previous, renewed, rejected)
    source, stages, broker, sink = maker.pipeline(pipeline)
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
    made = [[*place, each.digest] for place, each in sorted(maker.made.items())]
    return Generation(
        number=number,
        digest=content_digest([catalog.digest, pipeline, code, made]),
        catalog=catalog,
        plugins=plugins,
        source=source,
        stages=stages,
        broker=broker,
        sink=sink,
        strategies=strategies,
        rules=rules,
        advisors=advisors,
        observers=observers,
        made=maker.made,
    )


def has_same_terms(old: StrategyInstance, new: StrategyInstance) -> bool:
    """Whether two instances differ by their code alone."""
    return (old.use, old.params, old.step_ns) == (new.use, new.params, new.step_ns)


def hand_over(old: Generation, new: Generation, but: Collection[str] = ()) -> None:
    """Give the state of old code to new code, where nothing but the code has changed; not to the strategies in `but`.

    Raises
    ------
    HandOverError : `save_state` or `load_state` raised. The old instances are as they were.
    """
    for place, made in new.made.items():
        before = old.made.get(place)
        if before is None or before.instance is made.instance or before.terms != made.terms:
            continue
        if place[0] == "strategy" and place[1] in but:
            continue
        try:
            state = copy.deepcopy(before.instance.save_state())
            made.instance.load_state(state, before.instance.state_version)
        except FROM_PLUGINS as error:  # both are the plugin's code and may raise anything
            reason = f"the state of the old code was not taken over: {reason_of(error)}"
            raise HandOverError(place[1], reason, made.plugin.distribution, made.plugin.code_digest) from error


def validate(catalog: Catalog, host: PluginHost) -> list[Problem]:
    """What is wrong with a catalog and the plugins that it names, in file order; nothing when all of it can be built.

    Of sources, brokers, advisors and observers, which may open files and connections, only the parameters are checked.
    """
    maker = _Maker(catalog, host, opens=False)
    maker.pipelines()
    maker.strategies()
    maker.rules()
    maker.named("advisor", catalog.advisors, "advisors")
    maker.named("observer", catalog.observers, "observers")
    return maker.problems_in_order()


def risk_rules(catalog: Catalog, host: PluginHost, defaults: Limits = NO_LIMITS) -> tuple[tuple[str, RiskRule], ...]:
    """The risk rules of a catalog alone, as `build` makes them.

    Raises
    ------
    CatalogError : one that cannot be made.
    """
    maker = _Maker(catalog, host, defaults, opens=False)
    rules = maker.rules()
    if maker.problems:
        raise CatalogError(maker.problems_in_order())
    return rules


def validate_pipelines(catalog: Catalog, host: PluginHost) -> list[Problem]:
    """What is wrong with the pipelines of a catalog; see `validate`."""
    maker = _Maker(catalog, host, opens=False)
    maker.pipelines()
    return maker.problems_in_order()


class _Maker:
    """Makes plugins where the catalog uses them; notes what is wrong and goes on."""

    def __init__(
        self,
        catalog: Catalog,
        host: PluginHost,
        defaults: Limits = NO_LIMITS,
        previous: Generation | None = None,
        renewed: Collection[str] = (),
        rejected: Mapping[tuple[str, str], str] = NOTHING,
        *,
        opens: bool = True,
    ) -> None:
        self.made: dict[tuple[str, str, int], Made] = {}
        self.problems: list[Problem] = []
        self.used: dict[tuple[str, str], Registered] = {}
        self._catalog = catalog
        self._host = host
        self._opens = opens
        self._defaults = defaults
        self._previous = previous.made if previous else {}
        self._renewed = renewed
        self._rejected = rejected

    def pipelines(self) -> None:
        for name in self._catalog.pipelines:
            self.pipeline(name)

    def pipeline(self, name: str) -> tuple[Source | None, tuple[Stage, ...], Broker | None, Sink | None]:
        parts = self._catalog.pipelines.get(name)
        key = f"pipelines.{name}"
        if parts is None:
            self._note(key, "is missing", did_you_mean(name, self._catalog.pipelines) or "add it, with a source")
            return None, (), None, None
        if name == "trading" and parts.broker is None:
            self._note(f"{key}.broker", "is missing", "add one, such as `broker: {use: simulated}`")
        if parts.broker is not None and parts.sink is not None:
            hint = "take it out, and send what is derived with `torghut ta`"
            self._note(f"{key}.sink", "gets nothing: what goes out of a pipeline with a broker are orders", hint)
        return (
            self._instance("source", parts.source, f"{key}.source"),
            tuple(stage for _, stage in self.named("stage", parts.stages, f"{key}.stages")),
            self._instance("broker", parts.broker, f"{key}.broker") if parts.broker else None,
            self._instance("sink", parts.sink, f"{key}.sink") if parts.sink else None,
        )

    def strategies(self) -> tuple[StrategyInstance, ...]:
        made = []
        for index, entry in enumerate(self._catalog.strategies):
            key = entry.place or f"strategies[{index}]"
            found = self._make("strategy", entry, key, entry.name)
            warmup = None if found is None else self._warmup(found, key)
            if found is None or warmup is None:
                continue
            made.append(
                StrategyInstance(
                    name=entry.name,
                    use=entry.use,
                    strategy=found.instance,
                    plugin=found.plugin,
                    params=found.params,
                    columns=tuple(found.instance.columns),
                    warmup=warmup,
                    step_ns=TIMEFRAMES[entry.base_timeframe],
                    symbols=entry.symbols,
                    limits=self._limits(entry),
                    enabled=entry.enabled,
                    on_remove=entry.on_remove,
                    digest=found.digest,
                )
            )
        return tuple(sorted(made, key=lambda instance: instance.name))

    def _warmup(self, made: Made, key: str) -> int | None:
        """The rows that a strategy says it needs; None, and a note, where it does not."""
        try:
            warmup = made.instance.warmup
            if isinstance(warmup, int) and warmup >= 0:
                return warmup
            reason = f"{warmup!r} is no number of rows"
        except Exception as error:  # a property of the plugin's may raise anything
            reason = reason_of(error)
        self._note(f"{key}.use", f"`warmup` of strategy {made.plugin.name!r}: {reason}", "fix the plugin")
        return None

    def rules(self) -> tuple[tuple[str, RiskRule], ...]:
        rules = self.named("risk rule", self._catalog.risk, "risk")
        listed = {entry.use for entry in self._catalog.risk}
        for limit, rule in LIMIT_RULES.items():
            stating = [
                f"{entry.place or f'strategies[{index}]'}.{limit}"
                for index, entry in enumerate(self._catalog.strategies)
                if entry.enabled and getattr(self._limits(entry), limit)
            ]
            if not stating or rule in listed:
                continue
            if rule in self._host.registry["risk rule"]:
                rules += ((rule, self._instance("risk rule", Use(use=rule).moved(stating[0]), stating[0])),)
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
        made = [
            (entry.use, self._instance(kind, entry, entry.place or f"{key}[{index}]"))
            for index, entry in enumerate(entries)
        ]
        return tuple((use, plugin) for use, plugin in made if plugin is not None)

    def problems_in_order(self) -> list[Problem]:
        return sorted(self.problems, key=lambda problem: (problem.file, problem.line, problem.column))

    def _instance(self, kind: str, entry: Use, key: str) -> Any:
        made = self._make(kind, entry, key)
        return None if made is None else made.instance

    def _make(self, kind: str, entry: Use, key: str, name: str = "") -> Made | None:
        """The plugin that an entry uses; None where it cannot be made, or need not.

        `name` tells entries of one plugin apart; without it their order does.
        """
        place = (kind, name or entry.use, 0)
        while place in self.made:
            place = (*place[:2], place[2] + 1)
        before = self._previous.get(place)
        if before is not None and not entry.place and before.plugin.name == entry.use:
            found: Registered | Problem = before.plugin
        else:
            found = self._host.resolve(kind, entry.use, entry.version)
            if before is not None and isinstance(found, Registered) and before.plugin.name == entry.use:
                is_rejected = self._rejected.get((kind, name or entry.use)) == found.code_digest
                found = before.plugin if is_rejected else found
        if isinstance(found, Problem):
            is_known = entry.use in self._host.registry[kind]
            self._note(f"{key}.version" if is_known else f"{key}.use", found.message, found.hint)
            return None
        self.used[kind, entry.use] = found
        try:
            params = found.parameters(entry.model_dump()["params"])
            plain = found.plain(params)
            may_open = kind in ("source", "sink", "broker", "advisor", "observer")
            if may_open and not self._opens:
                return None
            terms = content_digest([kind, entry.use, plain, getattr(entry, "base_timeframe", "")])
            digest = content_digest([terms, found.code_digest])
            is_same = before is not None and before.digest == digest and not (name and name in self._renewed)
            self.made[place] = Made(
                before.instance if before and is_same else found.create(params), found, plain, digest, terms
            )
            return self.made[place]
        except pydantic.ValidationError as error:
            noun = f"parameter of {kind} {entry.use!r}"
            self.problems += self._catalog.marks.problems(error, found.cls.Params, f"{key}.params", noun)
        except PluginError as error:
            self._note(f"{key}.use", f"{kind} {entry.use!r} cannot be made: {error.reason}", "change its params")
        return None

    def _note(self, key: str, message: str, hint: str) -> None:
        self.problems.append(self._catalog.marks.problem(key, message, hint))
