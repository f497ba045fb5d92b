"""Building a generation: an instance of every plugin that a catalog uses, or every problem at its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pydantic

from torghut_core import catalog as catalogs
from torghut_core.boundary import context_of, from_plugins
from torghut_core.catalog import Catalog, StrategyEntry, Use, content_digest, did_you_mean, where
from torghut_core.errors import CatalogError, InputError, PluginError, Problem, reason_of
from torghut_core.generation.generation import Generation, Made, StrategyInstance, has_same_terms
from torghut_core.generation.instruments import (
    ALL_DAYS,
    Instruments,
    foreign_currencies,
    unknown_symbols,
    venue_calendars,
    with_calendars,
    with_terms,
)
from torghut_core.model.market import TIMEFRAME_NAMES, TIMEFRAMES
from torghut_core.model.timers import Every
from torghut_core.model.trading import LIMITS, Limits
from torghut_core.plugin_host import PluginHost, Registered
from torghut_core.plugin_host.process_state import restoring
from torghut_core.ports import Broker, Handler, RiskRule, Sink, Source

if TYPE_CHECKING:  # a process without stages should not wait for their compiler
    from torghut_core.feature_graph import FeaturePlan, Planner
    from torghut_core.stages.base import Stage

NO_LIMITS = Limits()
NOTHING: Mapping[Any, Any] = MappingProxyType({})

ADDED = ("stage", "timeframes of features", 0)
"""Place, among what is made, of the stage that makes bars of timeframes which no listed stage makes."""

MAY_OPEN = ("source", "sink", "broker", "advisor", "observer")
"""Kinds whose constructors may open files and connections."""


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
    """Make one pipeline of the catalog, and everything that trades on it when it has a broker.

    An instance of `previous` with the same plugin, code and parameters for the same entry is reused, with its state. An
    entry without a place in the files is one of `previous` that is kept, with its plugin and code. Where the catalog
    lists no rule for a limit of an enabled strategy, one that enforces it is added behind the listed rules; and where it lists
    no stage for a timeframe of a feature, one that makes its bars is added before the stages that derive signals.

    Parameters
    ----------
    defaults : limits of strategies that state none (``TRADING_MAX_NOTIONAL_PER_TRADE`` and so on).
    renewed : strategies that get a new instance in any case.
    rejected : by kind and name (a strategy's own), the digest of code that must not be used: that of `previous` is.

    Raises
    ------
    CatalogError : every problem, in file order.
    """
    builder = _Builder(catalog, host, defaults, previous, renewed, rejected)
    source, stages, broker, sink = builder.pipeline(pipeline)
    parts = catalog.pipelines.get(pipeline)
    trades = pipeline == "trading" or (parts is not None and parts.broker is not None)
    if trades:
        builder.check_instruments()
    strategies, features = builder.strategies() if trades else ((), None)
    stages = builder.with_timeframes(pipeline, stages)
    rules = builder.rules() if trades else ()
    advisors = builder.listed("advisor", catalog.advisors, "advisors") if trades else ()
    observers = builder.listed("observer", catalog.observers, "observers") if trades else ()
    if builder.problems:
        raise CatalogError(builder.problems_in_order())
    plugins = tuple(builder.used[key] for key in sorted(builder.used))
    code = [[plugin.kind, plugin.name, plugin.version, plugin.code_digest] for plugin in plugins]
    made = [[*place, each.digest] for place, each in sorted(builder.made.items())]
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
        features=features,
        made=builder.made,
        instruments=Instruments(catalog.instruments_in_order, venue_calendars(parts, host)),
    )


def validate(catalog: Catalog, host: PluginHost) -> list[Problem]:
    """Find what is wrong with a catalog and the plugins that it uses, in file order; nothing if it can be built.

    Of sources, brokers, advisors and observers, which may open files and connections, only the parameters are checked.
    """
    return _all_problems(_Builder(catalog, host, opens=False), catalog)


def _all_problems(builder: _Builder, catalog: Catalog) -> list[Problem]:
    builder.pipelines()
    builder.check_instruments()
    builder.strategies()
    builder.with_timeframes("trading", ())
    builder.rules()
    builder.listed("advisor", catalog.advisors, "advisors")
    builder.listed("observer", catalog.observers, "observers")
    return builder.problems_in_order()


def validate_files(
    files: Mapping[str, str], load: Callable[[Sequence[str]], PluginHost]
) -> tuple[Catalog, PluginHost, list[Problem]]:
    """Read a catalog, and find everything that is wrong with it: also the parameters of entries that are wrong otherwise.

    Parameters
    ----------
    files : as `catalog.load` takes them.
    load : gives the plugins that may be used, of the catalog's ``plugins.allow``.

    Returns
    -------
    What can be used of the catalog, the plugins, and every problem in file order.

    Raises
    ------
    CatalogError : nothing of it can be read, or not which plugins may be loaded.
    """
    examined = catalogs.examine(files)
    if any(re.match(r"plugins\b", problem.key) for problem in examined.problems):
        raise CatalogError(examined.problems)
    host = load(examined.catalog.plugins.allow)
    builder = _Builder(examined.catalog, host, opens=False)
    for use in examined.uses:
        builder.use(use)
    known = {where(problem) for problem in examined.problems}
    found = [problem for problem in _all_problems(builder, examined.catalog) if where(problem) not in known]
    return examined.catalog, host, sorted([*examined.problems, *found], key=where)


def resampled(stages: Sequence[Use], host: PluginHost) -> set[int]:
    """Steps of the bars that these stages make of smaller ones (see `Stage.resamples`), ns."""
    steps: set[int] = set()
    for use in stages:
        plugin = host.registry["stage"].get(use.use)
        if plugin is not None and plugin.cls.resamples:  # type: ignore[attr-defined]  # a stage's
            default = plugin.cls.Params.model_fields["timeframes"].get_default(call_default_factory=True)
            given = use.params.get("timeframes", default)
            steps.update(step for name, step in TIMEFRAMES.items() if isinstance(given, list | tuple) and name in given)
    return steps


def rules_for(limit: str, host: PluginHost) -> list[str]:
    """The risk rules that enforce a limit (see `RiskRule.limit`); the first is added where the catalog lists none."""
    return host.names_where("risk rule", lambda rule: rule.limit == limit)


def validate_pipelines(catalog: Catalog, host: PluginHost) -> list[Problem]:
    """Find what is wrong with the pipelines of a catalog; see `validate`."""
    builder = _Builder(catalog, host, opens=False)
    builder.pipelines()
    return builder.problems_in_order()


def risk_rules(catalog: Catalog, host: PluginHost) -> tuple[tuple[str, RiskRule], ...]:
    """Make the risk rules of a catalog alone, as `build` does.

    Raises
    ------
    CatalogError : one that cannot be made.
    """
    builder = _Builder(catalog, host, opens=False)
    rules = builder.rules()
    if builder.problems:
        raise CatalogError(builder.problems_in_order())
    return rules


KINDS = {
    "strategies": "strategy",
    "risk": "risk rule",
    "advisors": "advisor",
    "observers": "observer",
    "source": "source",
    "stages": "stage",
    "broker": "broker",
    "sink": "sink",
}
"""Kinds of plugins by the key of the catalog, or of a pipeline, under which they are used."""


class _Builder:
    """Makes the plugins that the catalog uses; collects the problems and continues."""

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
        self._before = previous
        self._renewed = renewed
        self._rejected = rejected
        self._calendars = catalog.calendars
        self._needed: list[tuple[int, str]] = []
        """Steps of bars that features need besides those of their strategy's timeframe, with the key of its entry."""

    def use(self, entry: Use) -> None:
        """Check the plugin and the parameters of an entry of which no more can be used."""
        key = re.split(r"\[\d+\]$", entry.place)[0]
        self._make(KINDS.get(key) or KINDS[key.rpartition(".")[2]], entry, entry.place)

    def pipelines(self) -> None:
        for name in self._catalog.pipelines:
            self.pipeline(name)

    def pipeline(self, name: str) -> tuple[Source | None, tuple[Stage, ...], Broker | None, Sink | None]:
        parts = self._catalog.pipelines.get(name)
        key = f"pipelines.{name}"
        if parts is None:
            self._problem(key, "is missing", did_you_mean(name, self._catalog.pipelines) or "add it, with a source")
            return None, (), None, None
        self._calendars = {**self._catalog.calendars, **venue_calendars(parts, self._host)}
        if name == "trading" and parts.broker is None:
            self._problem(f"{key}.broker", "is missing", "add one, such as `broker: {use: simulated}`")
        if parts.broker is not None and parts.sink is not None:
            hint = "remove it, and send derived rows with `torghut ta`"
            self._problem(f"{key}.sink", "gets no events: a pipeline with a broker sends only orders", hint)
        return (
            self._instance("source", parts.source, f"{key}.source"),
            tuple(stage for _, stage in self.listed("stage", parts.stages, f"{key}.stages")),
            self._instance("broker", parts.broker, f"{key}.broker") if parts.broker else None,
            self._instance("sink", parts.sink, f"{key}.sink") if parts.sink else None,
        )

    def strategies(self) -> tuple[tuple[StrategyInstance, ...], FeaturePlan]:
        from torghut_core.feature_graph import Planner  # its compiler is slow to import: not all processes need it

        planner = Planner(partial(self._host.resolve, "indicator"))
        instances = []
        for index, entry in enumerate(self._catalog.strategies):
            key = entry.place or f"strategies[{index}]"
            found = self._make("strategy", entry, key, entry.name)
            warmup = None if found is None else self._warmup(found, key)
            timers = None if found is None else self._timers(found, key)
            if found is None or warmup is None or timers is None or not self._plan(planner, entry, found, key):
                continue
            self._needed += ((step, f"{key}.use") for step in sorted(planner.plan.other_steps(entry.name)))
            instances.append(
                StrategyInstance(
                    name=entry.name,
                    use=entry.use,
                    strategy=found.instance,
                    plugin=found.plugin,
                    params=found.params,
                    wanted=planner.plan.wanted[entry.name],
                    warmup=warmup,
                    step_ns=TIMEFRAMES[entry.base_timeframe],
                    symbols=entry.symbols,
                    limits=self._limits(entry),
                    enabled=entry.enabled,
                    on_remove=entry.on_remove,
                    digest=found.digest,
                    timers=timers,
                )
            )
        if self._before is not None and self._before.features is not None:
            before = {each.name: each for each in self._before.strategies}
            for each in instances:
                old = before.get(each.name)
                if old is not None and old.strategy is not each.strategy and has_same_terms(old, each):
                    planner.plan.keep(self._before.features, old.wanted)  # the old code may have to go on
        for used in planner.used:
            self.used["indicator", used.name] = used
        return tuple(sorted(instances, key=lambda instance: instance.name)), planner.plan

    def _plan(self, planner: Planner, entry: StrategyEntry, made: Made, key: str) -> bool:
        """Plan what a strategy wants computed; False, and a problem, if that cannot be."""
        from torghut_core.feature_graph import with_columns

        name = made.plugin.name
        try:
            with restoring(name):
                context = context_of(made.instance).copy()  # it may be at work in the loop's thread
                features = context.run(type(made.instance).features, made.instance)
                history = context.run(getattr, made.instance, "history")
            planner.add(
                entry.name,
                with_columns(made.plugin.cls.columns, features),  # type: ignore[attr-defined]  # a strategy's
                TIMEFRAMES[entry.base_timeframe],
                entry.symbols,
                is_sliced=made.plugin.cls.handles(Handler.ON_SLICE),  # type: ignore[attr-defined]
                history=history,
            )
        except InputError as error:
            self._problem(f"{key}.use", f"`features` of strategy {name!r}: {error}", "fix the plugin")
        except from_plugins() as error:  # it is the plugin's code and may raise anything
            self._problem(f"{key}.use", f"`features` of strategy {name!r}: {reason_of(error)}", "fix the plugin")
        return entry.name in planner.plan.wanted

    def with_timeframes(self, pipeline: str, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """The stages of a pipeline, and one more that makes the bars which features need and none of them makes.

        From one generation to the next the stages of a pipeline stay, with the timeframes that they had at the start.
        """
        parts = self._catalog.pipelines.get(pipeline)
        names = self._host.names_where("stage", lambda stage: stage.resamples)
        source = self._host.registry["source"].get(parts.source.use) if parts else None
        if parts is None or source is None:
            return stages
        if source.cls.is_stored:  # type: ignore[attr-defined]  # a source's
            self._check_stored(names)
            return stages
        needed = {step for step, _ in self._needed} - resampled(parts.stages, self._host)
        if self._before is not None:
            added = self._previous.get(ADDED)
            made = {TIMEFRAMES[name] for name in added.params["timeframes"]} if added else set()
            self._lack(needed - made, "which this run does not make", "restart it: they are made from a start on")
        elif needed and names:
            added = self._make_timeframes(names[0], needed)
        else:
            self._lack(needed, "which no loaded stage makes", "install or allow a plugin that has such a stage")
            added = None
        if added is None:
            return stages
        self.made[ADDED], self.used["stage", added.plugin.name] = added, added.plugin
        place = next((place for place, stage in enumerate(stages) if stage.derives == "signals"), len(stages))
        return (*stages[:place], added.instance, *stages[place:])

    def _make_timeframes(self, use: str, steps: Collection[int]) -> Made | None:
        """A stage that makes bars of timeframes, with the parameters of the listed stages that it has too."""
        fields = self._host.registry["stage"][use].cls.Params.model_fields
        shared = {  # such as how late events may be
            name: value
            for (kind, *_), made in self.made.items()
            for name, value in made.params.items()
            if kind == "stage" and name in fields
        }
        timeframes = [name for name, step in TIMEFRAMES.items() if step in steps]
        key = self._needed[0][1]
        return self._make("stage", Use(use=use, params={**shared, "timeframes": timeframes}).moved(key), key, ADDED[1])

    def _check_stored(self, names: Sequence[str]) -> None:
        """What trades from the signal store has the bars that another pipeline makes; if the catalog has it, it has to."""
        registry = self._host.registry["stage"]
        for pipeline, parts in self._catalog.pipelines.items():
            plugins = [registry[use.use].cls for use in parts.stages if use.use in registry]
            if names and any(cls.derives == "signals" for cls in plugins):  # type: ignore[attr-defined]  # a stage's
                missing = {step for step, _ in self._needed} - resampled(parts.stages, self._host)
                hint = f"list it in a stage `{names[0]}` of pipelines.{pipeline}, before the one that derives signals"
                self._lack(missing, f"which pipelines.{pipeline} does not make", hint)

    def _lack(self, steps: Collection[int], what: str, hint: str) -> None:
        """A problem for each entry with a feature of such a timeframe."""
        for step, key in self._needed:
            if step in steps:
                self._problem(key, f"a feature needs bars of {TIMEFRAME_NAMES[step]}, {what}", hint)

    def check_instruments(self) -> None:
        """The account has one currency, and a symbol without a calendar cannot be traded at a real venue."""
        for name, currency, own in foreign_currencies(self._catalog, self._host):
            hint = f"an account trades what is priced in its own currency: leave {name} out, or trade it from an account in {currency}"
            self._problem(f"instruments.{name}.currency", f"is {currency}, and the account's is {own}", hint)
        parts = self._catalog.pipelines.get("trading")
        broker = self._host.registry["broker"].get(parts.broker.use) if parts and parts.broker else None
        if broker is None or broker.cls.capabilities.simulated:  # type: ignore[attr-defined]  # a broker's
            return
        for symbol, key in unknown_symbols(self._catalog, self._host):
            hint = f'write `instruments: {{"{symbol}": {{calendar: ...}}}}`, with a name of exchange_calendars or 24/7'
            self._problem(key, f"it is not known when {symbol} trades, and the broker is a real venue", hint)

    def _warmup(self, made: Made, key: str) -> int | None:
        """The rows that a strategy needs first; None, and a problem, if it gives no such number."""
        try:
            with restoring(made.plugin.name):
                context = context_of(made.instance).copy()  # it may be at work in the loop's thread
                warmup = context.run(getattr, made.instance, "warmup")
            if type(warmup) is int and warmup >= 0:
                return warmup
            reason = f"{warmup!r:.80} is not a number of rows"
        except from_plugins() as error:  # a property of the plugin's may raise anything
            reason = reason_of(error)
        self._problem(f"{key}.use", f"`warmup` of strategy {made.plugin.name!r}: {reason}", "fix the plugin")
        return None

    def _timers(self, made: Made, key: str) -> tuple[Every, ...] | None:
        """The timers of a strategy; None, and a problem, if it gives something else."""
        try:
            with restoring(made.plugin.name):
                context = context_of(made.instance).copy()  # it may be at work in the loop's thread
                timers = tuple(context.run(getattr, made.instance, "timers"))
            wrong = next((timer for timer in timers if type(timer) is not Every), None)
            has_handler = made.plugin.cls.handles(Handler.ON_TIMER)  # type: ignore[attr-defined]  # a strategy's
            if wrong is None and has_handler is bool(timers):
                return timers
            reason = "there is no `on_timer`" if timers else "it has `on_timer`, and there are none"
            reason = reason if wrong is None else f"{wrong!r:.80} was not made by `every`"
        except from_plugins() as error:  # a property of the plugin's may raise anything
            reason = reason_of(error)
        self._problem(f"{key}.use", f"`timers` of strategy {made.plugin.name!r}: {reason}", "fix the plugin")
        return None

    def rules(self) -> tuple[tuple[str, RiskRule], ...]:
        rules = self.listed("risk rule", self._catalog.risk, "risk")
        listed = {entry.use for entry in self._catalog.risk}
        for limit in LIMITS:
            names = rules_for(limit, self._host)
            stating = [
                f"{entry.place or f'strategies[{index}]'}.{limit}"
                for index, entry in enumerate(self._catalog.strategies)
                if entry.enabled and getattr(self._limits(entry), limit)
            ]
            if not stating or listed.intersection(names):
                continue
            if names:
                rules += ((names[0], self._instance("risk rule", Use(use=names[0]).moved(stating[0]), stating[0])),)
            else:
                hint = "install or allow a plugin that has such a rule, or leave the limit out"
                self._problem(stating[0], "no loaded risk rule enforces this limit", hint)
        return rules

    def _limits(self, entry: StrategyEntry) -> Limits:
        """The entry's limits, or the defaults where it states none."""
        defaults = self._defaults
        return Limits(
            entry.max_notional_per_trade or defaults.max_notional_per_trade,
            entry.max_position_pct_equity or defaults.max_position_pct_equity,
            entry.cooldown_seconds or defaults.cooldown_seconds,
        )

    def listed(self, kind: str, entries: Sequence[Use], key: str) -> tuple[tuple[str, Any], ...]:
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
        """Make the plugin that an entry uses, or reuse that of before; None if it cannot be made, or is only validated.

        `name` tells entries of one plugin apart; without it their order does.
        """
        place = (kind, name or entry.use, 0)
        while place in self.made:
            place = (*place[:2], place[2] + 1)
        before = self._previous.get(place)
        found = self._plugin(place, entry, before)
        if isinstance(found, Problem):
            is_known = entry.use in self._host.registry[kind]
            self._problem(f"{key}.version" if is_known else f"{key}.use", found.message, found.hint)
            return None
        self.used[kind, entry.use] = found
        try:
            calendars = {**ALL_DAYS, **self._calendars} if kind == "stage" else self._calendars
            given = with_calendars(entry.model_dump()["params"], found.cls, calendars)
            given = with_terms(given, found.cls, self._catalog.instruments_in_order)
            params = found.parameters(given)
            plain = found.plain(params)
            if kind in MAY_OPEN and not self._opens:
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
            self._problem(f"{key}.use", f"{kind} {entry.use!r} cannot be made: {error.reason}", "change its params")
        return None

    def _plugin(self, place: tuple[str, str, int], entry: Use, before: Made | None) -> Registered | Problem:
        """The plugin for an entry: the installed one, or that of before for a kept entry or instead of rejected code."""
        kind, name, _ = place
        is_same = before is not None and before.plugin.name == entry.use
        if before is not None and is_same and not entry.place:
            return before.plugin
        found = self._host.resolve(kind, entry.use, entry.version)
        if before is not None and is_same and isinstance(found, Registered):
            is_rejected = self._rejected.get((kind, name)) == found.code_digest
            return before.plugin if is_rejected else found
        return found

    def _problem(self, key: str, message: str, hint: str) -> None:
        self.problems.append(self._catalog.marks.problem(key, message, hint))
