"""A generation is built from a catalog and plugins, or every problem is reported at its place."""

import dataclasses
import json
from decimal import Decimal

import pytest

from torghut_core.boundary import context_of
from torghut_core.catalog import Catalog, load
from torghut_core.errors import CatalogError
from torghut_core.generation import build, strategy_row, use_tapes, validate
from torghut_core.model.trading import Limits
from torghut_core.plugin_host import PluginHost

HEAD = """\
version: 1
pipelines:
  trading:
    source: {use: replay, params: {paths: [tape.parquet]}}
    stages: [{use: microbars}]
    broker: {use: simulated, params: {cash: 2500.50}}
  watching:
    source: {use: replay}
    stages: [{use: microbars}, {use: microbars}]
"""
STRATEGIES = """\
strategies:
  - {name: b, use: macd-rsi, base_timeframe: 1Min, symbols: [ES, "BTC/USD"], params: {rsi_buy: 30}}
  - {name: a, use: macd-rsi, base_timeframe: 1Sec, symbols: [ES], enabled: false, on_remove: flatten}
"""


def catalog(text):
    return load({"c.yaml": text})


def problems_of(text, host):
    """The problems of building a catalog, as text."""
    with pytest.raises(CatalogError) as caught:
        build(catalog(text), host)
    return [str(problem) for problem in caught.value.problems]


def limited(limit, rest=""):
    return f"{HEAD}strategies:\n  - {{name: a, use: macd-rsi, base_timeframe: 1Min, symbols: [ES], {limit}}}\n{rest}"


# ------------------------------------------------------------------------------------------------------- what is built


def test_generation_holds_instances_of_what_the_catalog_names(fakes, fake_classes):
    """Source, stages, broker, rules, advisors and observers are there, with their parameters."""
    text = (
        f"{HEAD}{STRATEGIES}risk: [{{use: cooldown}}]\nadvisors: [{{use: opinion}}]\nobservers: [{{use: listener}}]\n"
    )
    generation = build(catalog(text), fakes, number=7)
    assert generation.number == 7
    assert generation.source.params.paths == ("tape.parquet",)
    assert generation.broker.account().cash == Decimal("2500.50")
    assert [type(stage) for stage in generation.stages] == [fake_classes["register_stages"]["microbars"]]
    assert [name for name, _ in generation.rules] == ["cooldown"]
    assert [name for name, _ in generation.advisors] == ["opinion"]
    assert [name for name, _ in generation.observers] == ["listener"]


def test_strategies_come_by_name_with_all_that_routes_them(fakes):
    """A strategy knows its columns, step, symbols, limits and parameters, and strategies are in order of their names."""
    text = f"{HEAD}{STRATEGIES}".replace("on_remove: flatten", "on_remove: flatten, cooldown_seconds: 5")
    first, second = build(catalog(text), fakes).strategies
    assert (first.name, second.name) == ("a", "b")
    assert (first.use, first.wanted.names, first.step_ns) == ("macd-rsi", ("macd_hist", "rsi14"), 10**9)
    assert (second.step_ns, second.symbols) == (60 * 10**9, ("ES", "BTC/USD"))
    assert (first.enabled, first.on_remove, first.limits) == (False, "flatten", Limits(cooldown_seconds=5))
    assert (second.enabled, second.on_remove, second.limits) == (True, "freeze", Limits())
    assert second.params == {"rsi_buy": 30.0, "rsi_sell": 65.0, "quantity": "1"}
    assert second.strategy.params.quantity == 1


def test_generation_is_immutable_and_numbered_by_copy(fakes):
    """A generation does not change; with its number it is a new value over the same instances."""
    generation = build(catalog(HEAD + STRATEGIES), fakes)
    with pytest.raises(dataclasses.FrozenInstanceError):
        generation.number = 1
    numbered = generation.numbered(3)
    assert (generation.number, numbered.number) == (0, 3)
    assert numbered.strategies[0].strategy is generation.strategies[0].strategy


def test_pipeline_without_broker_trades_nothing(fakes):
    """A pipeline that only watches needs neither strategies nor rules."""
    generation = build(catalog(HEAD + STRATEGIES + "risk: [{use: nowhere}]\n"), fakes, pipeline="watching")
    assert (generation.broker, generation.strategies, generation.rules) == (None, (), ())
    assert len(generation.stages) == 2


def test_plugins_in_use_are_listed_once(fakes):
    """The plugins in use are listed by kind and name, and those that are only installed are not."""
    generation = build(catalog(HEAD + STRATEGIES), fakes)
    assert [(plugin.kind, plugin.name) for plugin in generation.plugins] == [
        ("broker", "simulated"),
        ("source", "replay"),
        ("stage", "microbars"),
        ("strategy", "macd-rsi"),
    ]


def test_digest_is_of_content_and_code(fakes):
    """The digest is the same for the same catalog and code, and another where either differs."""
    digest = build(catalog(HEAD + STRATEGIES), fakes).digest
    assert build(catalog(f"# comment\n{HEAD}{STRATEGIES}"), fakes, number=4).digest == digest
    assert build(catalog(HEAD + STRATEGIES.replace("30", "31")), fakes).digest != digest
    assert build(catalog(HEAD + STRATEGIES), fakes, pipeline="watching").digest != digest
    used = fakes.registry["strategy"]["macd-rsi"]
    fakes.registry["strategy"]["macd-rsi"] = dataclasses.replace(used, code_digest="new")
    assert build(catalog(HEAD + STRATEGIES), fakes).digest != digest


def test_strategy_digest_says_whether_its_instance_may_stay(fakes):
    """Limits, symbols and written-out defaults do not change an instance's digest; parameters, bars and code do."""

    def digest(old="", new=""):
        return build(catalog(HEAD + STRATEGIES.replace(old, new)), fakes).strategies[1].digest

    before = digest()
    assert digest("rsi_buy: 30", "rsi_buy: 30.0, rsi_sell: 65") == before
    assert digest("1Min, symbols: [ES,", "1Min, cooldown_seconds: 1, symbols: [") == before
    assert digest("1Min, symbols: [ES,", "5Min, symbols: [ES,") != before
    assert digest("rsi_buy: 30", "rsi_buy: 31") != before
    used = fakes.registry["strategy"]["macd-rsi"]
    fakes.registry["strategy"]["macd-rsi"] = dataclasses.replace(used, code_digest="new")
    assert digest() != before


def test_record_is_json_and_has_what_explains_a_decision(fakes):
    """The record has digests, plugins with versions and code, and strategies with all parameters."""
    generation = build(catalog(HEAD + STRATEGIES), fakes)
    record = json.loads(json.dumps(generation.to_record()))
    assert (record["digest"], record["catalog_digest"]) == (generation.digest, generation.catalog.digest)
    assert record["plugins"][0] == {
        "kind": "broker",
        "name": "simulated",
        "distribution": "",
        "version": "",
        "code_digest": generation.plugins[0].code_digest,
    }
    assert record["allow"] == ["torghut-*"]
    assert record["pipelines"]["trading"]["broker"]["params"] == {"cash": "2500.50"}
    assert [row["name"] for row in record["strategies"]] == ["b", "a"]
    assert record["strategies"][0]["params"] == {"rsi_buy": 30.0, "rsi_sell": 65.0, "quantity": "1"}


def test_strategy_row_is_the_entry_with_its_defaults():
    """A row of the strategies table says what the catalog says, in JSON types."""
    [entry] = catalog(limited("max_notional_per_trade: 1000.10, params: {x: 0.5}")).strategies
    assert json.loads(json.dumps(strategy_row(entry))) == {
        "name": "a",
        "use": "macd-rsi",
        "version": None,
        "enabled": True,
        "base_timeframe": "1Min",
        "symbols": ["ES"],
        "params": {"x": "0.5"},
        "max_notional_per_trade": "1000.10",
        "max_position_pct_equity": None,
        "cooldown_seconds": 0,
        "on_remove": "freeze",
    }


# --------------------------------------------------------------------------------------- limits hold whatever is listed


@pytest.mark.parametrize(
    ("limit", "rule"),
    [
        ("max_notional_per_trade: 100", "max-notional"),
        ("max_position_pct_equity: 0.1", "max-position-pct-equity"),
        ("cooldown_seconds: 60", "cooldown"),
    ],
)
def test_rule_of_a_stated_limit_is_added_where_it_is_not_listed(fakes, limit, rule):
    """A limit in a strategy's entry is enforced, also when the operator forgot its rule."""
    assert [name for name, _ in build(catalog(limited(limit)), fakes).rules] == [rule]


def test_added_rules_come_behind_the_listed_ones_and_listed_ones_stay(fakes):
    """A rule that is listed keeps its place and parameters and is not added again."""
    text = limited(
        "max_notional_per_trade: 100, cooldown_seconds: 60", "risk: [{use: max-notional, params: {quantity_step: 5}}]\n"
    )
    rules = build(catalog(text), fakes).rules
    assert [name for name, _ in rules] == ["max-notional", "cooldown"]
    assert [rule.params.quantity_step for _, rule in rules] == [5, 1]


@pytest.mark.parametrize("limit", ["cooldown_seconds: 0", "cooldown_seconds: 60, enabled: false"])
def test_no_rule_is_added_where_no_enabled_strategy_states_a_limit(fakes, limit):
    """Rules run for every decision, so one without a limit to enforce is not added."""
    assert build(catalog(limited(limit)), fakes).rules == ()


def test_listed_rule_of_a_third_party_enforces_the_limit(plugin_module, fake_classes):
    """A rule says which limit it enforces, whatever its name: with a third party's listed, nothing is added."""
    rules = fake_classes["register_risk_rules"]
    hooks = fake_classes | {"register_risk_rules": {**rules, "a-cap": rules["max-notional"]}}
    host = PluginHost([("fakes", plugin_module("fakes", hooks))])
    text = limited("max_notional_per_trade: 100")
    assert [name for name, _ in build(catalog(text), host).rules] == ["max-notional"]
    assert [name for name, _ in build(catalog(f"{text}risk: [{{use: a-cap}}]\n"), host).rules] == ["a-cap"]


@pytest.mark.parametrize("rule", ["max-notional", "max-position-pct-equity", "cooldown"])
def test_limit_without_a_rule_that_enforces_it_is_a_problem(plugin_module, fake_classes, rule):
    """A limit that no rule would enforce stops the generation instead of being forgotten."""
    hooks = fake_classes | {
        "register_risk_rules": {name: cls for name, cls in fake_classes["register_risk_rules"].items() if name != rule}
    }
    host = PluginHost([("fakes", plugin_module("fakes", hooks))])
    text = limited("max_notional_per_trade: 100, max_position_pct_equity: 0.1, cooldown_seconds: 60")
    limit = fake_classes["register_risk_rules"][rule].limit
    [problem] = problems_of(text, host)
    assert problem.startswith("c.yaml:11:")
    assert problem.endswith(
        f"strategies[0].{limit}: no loaded risk rule enforces this limit"
        " (install or allow a plugin that has such a rule, or leave the limit out)"
    )
    assert [str(problem) for problem in validate(catalog(text), host)] == [problem]


# ----------------------------------------------------------------------------------------------------- what goes wrong


def test_all_problems_are_reported_in_file_order(fakes):
    """One reading finds what is wrong everywhere: source, stage, broker, strategy, rule, advisor and observer."""
    text = """\
version: 1
observers: [{use: listner}]
risk: [{use: cooldwn}]
advisors: [{use: opinion, params: {x: 1}}]
strategies: [{name: a, use: macd-rsi, base_timeframe: 1Min, symbols: [ES], params: {rsi_buy: 200}}]
pipelines:
  trading: {source: {use: replay, params: {paths: 7}}, stages: [{use: microbar}], broker: {use: simulated, version: ">2"}}
"""
    assert problems_of(text, fakes) == [
        "c.yaml:2:19: observers[0].use: no observer is called 'listner' (did you mean 'listener'?)",
        "c.yaml:3:14: risk[0].use: no risk rule is called 'cooldwn' (did you mean 'cooldown'?)",
        "c.yaml:4:36: advisors[0].params.x: unknown parameter of advisor 'opinion' (it takes none)",
        "c.yaml:5:94: strategies[0].params.rsi_buy: must be at most 100, not 200 (enter below, RSI points)",
        "c.yaml:7:51: pipelines.trading.source.params.paths: must be a list, not 7 (tapes to replay)",
        "c.yaml:7:71: pipelines.trading.stages[0].use: no stage is called 'microbar' (did you mean 'microbars'?)",
        "c.yaml:7:117: pipelines.trading.broker.version: "  # noqa: ISC004 (one message)
        "broker 'simulated' is of a module without a version, and must be >2 (install such a version)",
    ]
    assert [str(problem) for problem in validate(catalog(text), fakes)] == problems_of(text, fakes)


def test_constructor_that_refuses_is_reported_at_its_use(fakes):
    """The text of a plugin that refuses its parameters is shown, with the place of the entry."""
    text = HEAD + (
        "strategies: [{name: a, use: pair, base_timeframe: 1Min, symbols: [ES], "
        "params: {mood: bad, legs: [{symbol: ES}]}}]\n"
    )
    assert problems_of(text, fakes) == [
        "c.yaml:10:29: strategies[0].use: strategy 'pair' cannot be made: not today (change its params)"
    ]


@pytest.mark.parametrize(
    ("text", "pipeline", "problem"),
    [
        ("version: 1\n", "trading", "c.yaml:1:1: pipelines.trading: is missing (add it, with a source)"),
        (HEAD, "tradin", "c.yaml:3:3: pipelines.tradin: is missing (did you mean 'trading'?)"),
        (
            HEAD.replace("    broker", "    # broker"),
            "trading",
            "c.yaml:4:5: pipelines.trading.broker: is missing (add one, such as `broker: {use: simulated}`)",
        ),
    ],
)
def test_pipeline_that_cannot_trade_is_reported(fakes, text, pipeline, problem):
    """A missing pipeline, and a trading pipeline without a broker, are problems."""
    with pytest.raises(CatalogError) as caught:
        build(catalog(text), fakes, pipeline=pipeline)
    assert [str(found) for found in caught.value.problems] == [problem]


def test_parameter_of_the_command_line_is_reported_at_the_part_it_is_for(fakes):
    """A parameter that a command adds is in no file, so its problem has the place of the nearest key that is."""
    replayed = use_tapes(catalog(HEAD), fakes, {"spede": "max"})
    with pytest.raises(CatalogError) as caught:
        build(replayed, fakes)
    assert str(caught.value) == (
        "c.yaml:4:35: pipelines.trading.source.params.spede: unknown parameter of source 'replay' (did you mean 'speed'?)"
    )


# ---------------------------------------------------------------------------------------------------------- validation


def test_validate_of_a_good_catalog_finds_nothing_and_opens_nothing(fakes, fake_classes):
    """Checking a catalog makes no source, broker, advisor or observer: those may open files and connections."""
    tape = fake_classes["register_sources"]["replay"]
    before = tape.opened
    assert validate(catalog(HEAD + STRATEGIES), fakes) == []
    assert tape.opened == before
    build(catalog(HEAD + STRATEGIES), fakes)
    assert tape.opened == before + 1


def test_validate_checks_every_pipeline(fakes):
    """A mistake in a pipeline that does not run now is found too."""
    text = HEAD.replace("{use: microbars}, {use: microbars}", "{use: microbras}")
    [problem] = validate(catalog(text), fakes)
    assert str(problem).startswith("c.yaml:9:20: pipelines.watching.stages[0].use: no stage is called 'microbras'")


def test_validate_of_a_catalog_without_files_has_no_places(fakes):
    """A catalog made in code can be checked."""
    [problem] = validate(Catalog(version=1, risk=({"use": "cooldwn"},)), fakes)
    assert str(problem) == "catalog: risk[0].use: no risk rule is called 'cooldwn' (did you mean 'cooldown'?)"


# ------------------------------------------------------------------------------------- what a later generation keeps


def test_unchanged_entries_keep_their_instances(fakes):
    """With the same plugin, code and parameters an instance stays, with its state; a changed one is new."""
    before = build(catalog(HEAD + STRATEGIES), fakes)
    changed = STRATEGIES.replace("rsi_buy: 30", "rsi_buy: 31").replace("enabled: false", "enabled: true")
    after = build(catalog(f"# comment\n{HEAD}{changed}"), fakes, previous=before)
    old, new = ({instance.name: instance for instance in each.strategies} for each in (before, after))
    assert after.broker is before.broker
    assert after.stages == before.stages
    assert new["a"].strategy is old["a"].strategy
    assert new["a"].enabled
    assert new["b"].strategy is not old["b"].strategy


def test_two_of_the_same_stage_keep_their_places(fakes):
    """Two entries of one plugin keep their instances by their order in the list."""
    before = build(catalog(HEAD + STRATEGIES), fakes, pipeline="watching")
    after = build(catalog(HEAD + STRATEGIES), fakes, pipeline="watching", previous=before)
    assert before.stages[0] is not before.stages[1]
    assert after.stages == before.stages


def test_default_limits_hold_for_strategies_that_state_none(fakes):
    """Limits of the environment hold for every strategy without its own, and the rules that enforce them are added."""
    defaults = Limits(max_notional_per_trade=Decimal(500), cooldown_seconds=9)
    generation = build(catalog(limited("cooldown_seconds: 60")), fakes, defaults=defaults)
    (instance,) = generation.strategies
    assert instance.limits == Limits(max_notional_per_trade=Decimal(500), cooldown_seconds=60)
    assert {"max-notional", "cooldown"} <= {name for name, _ in generation.rules}


@pytest.mark.parametrize(
    ("warmup", "reason"), [("x", "'x' is not a number of rows"), (-1, "-1 is not a number of rows")]
)
def test_warmup_that_is_no_number_of_rows_is_reported(fakes, monkeypatch, fake_classes, warmup, reason):
    """A strategy that cannot say how many rows it needs does not trade."""
    momentum = fake_classes["register_strategies"]["macd-rsi"]
    monkeypatch.setattr(momentum, "warmup", warmup, raising=False)
    with pytest.raises(CatalogError, match=f"`warmup` of strategy 'macd-rsi': {reason}"):
        build(catalog(HEAD + STRATEGIES), fakes)


def test_warmup_is_asked_for_while_the_strategy_is_at_work(fakes):
    """A reload that builds while the loop is in a strategy's code keeps that strategy, and finds nothing wrong with it."""
    before = build(catalog(HEAD + STRATEGIES), fakes)
    (strategy, *_) = before.strategies
    after = context_of(strategy.strategy).run(build, catalog(HEAD + STRATEGIES), fakes, previous=before)
    assert after.strategies[0].strategy is strategy.strategy


def test_sink_beside_a_broker_is_refused(fakes):
    """A pipeline that trades sends nothing to a bus: a sink there is a problem, with its place."""
    text = HEAD.replace("cash: 2500.50}}", "cash: 2500.50}}\n    sink: {use: outlet}", 1)
    [problem] = problems_of(text, fakes)
    assert problem.startswith("c.yaml:7:11: pipelines.trading.sink: gets no events")
    assert "torghut ta" in problem
