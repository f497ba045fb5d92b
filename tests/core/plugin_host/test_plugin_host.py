"""Which plugins may be used, which are left out, and with what reason. Only the last test loads an installed plugin."""

import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal

import pydantic
import pytest

from torghut_core import API_VERSION, RiskRule, Strategy, hookimpl, param
from torghut_core.catalog import json_schema
from torghut_core.errors import PluginError, Problem
from torghut_core.hookspecs import KINDS
from torghut_core.plugin_host import PluginHost

GOOD = """
from torghut_core import Strategy, hookimpl

class Good(Strategy):
    def on_signal(self, signal, context):
        return None

@hookimpl
def register_strategies(register):
    register("{name}", Good)
"""


class Good(Strategy):
    columns = ("rsi14",)

    def on_signal(self, signal, context):
        return None


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution of one module, as `pip install` leaves it."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def installed(distribution, source, version="1.0"):
        module = re.sub("[-.]", "_", distribution.lower())
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[torghut]\n{distribution} = {module}\n")
        return module

    yield installed
    for name in set(sys.modules) - before:
        if name.startswith(("acme", "zeta")):
            del sys.modules[name]


def left_out(plugin_module, **hooks):
    """The reason why a module with these hooks, between two good ones, is left out; the others must load."""
    host = PluginHost(
        [
            ("first", plugin_module("first", {"register_strategies": {"first": Good}})),
            ("bad", plugin_module("bad", hooks)),
            ("last", plugin_module("last", {"register_strategies": {"last": Good}})),
        ]
    )
    assert sorted(host.registry["strategy"]) == ["first", "last"]
    assert not any(host.registry[kind] for kind in KINDS if kind != "strategy")
    [failure] = host.failures
    assert failure.plugin == "bad"
    return failure.reason


def strategy(**attributes):
    return {"register_strategies": {"wrong": type("Wrong", (Good,), attributes)}}


# ----------------------------------------------------------------------------------------------------- what is loaded


def test_every_kind_is_registered_under_its_name(fakes, fake_classes):
    """Each hook registers its kind, and the registry has the class."""
    assert fakes.failures == []
    for kind, hook in KINDS.items():
        brought = {name: plugin.cls for name, plugin in fakes.registry[kind].items()}
        assert brought == fake_classes[hook]


def test_plugins_are_listed_by_kind_and_name(fakes):
    """A listing is in the same order on every machine."""
    assert [(plugin.kind, plugin.name) for plugin in fakes.plugins()][:4] == [
        ("strategy", "macd-rsi"),
        ("strategy", "pair"),
        ("indicator", "last"),
        ("risk rule", "cooldown"),
    ]


def test_params_of_all_plugins_go_into_the_schema(fakes):
    """The catalog's JSON Schema can describe the parameters of each installed plugin."""
    schema = json_schema(fakes.params())
    choices = schema["properties"]["strategies"]["items"]["allOf"]
    assert [choice["if"]["properties"]["use"]["const"] for choice in choices] == ["macd-rsi", "pair"]
    assert "allOf" in schema["$defs"]["Pipeline"]["properties"]["broker"]


def test_installed_plugin_carries_distribution_and_version(install):
    """A plugin carries its distribution, version and code digest."""
    install("acme-alpha", GOOD.format(name="good"), "1.3")
    [plugin] = PluginHost.load(["acme-alpha"]).plugins()
    assert (plugin.kind, plugin.name, plugin.distribution, plugin.version) == ("strategy", "good", "acme-alpha", "1.3")
    assert len(plugin.code_digest) == 64


def test_distribution_that_is_not_allowed_is_not_imported(install):
    """Third-party code does not run until the catalog allows it."""
    module = install("acme-alpha", "raise SystemExit('imported')")
    host = PluginHost.load(["zeta-*"])
    assert module not in sys.modules
    assert ("acme-alpha", "1.0") in host.refused
    assert host.failures == []
    assert host.plugins() == []


@pytest.mark.parametrize(
    ("rule", "is_allowed"),
    [
        ("acme-alpha", True),
        ("ACME_Alpha", True),
        ("acme-*", True),
        ("*", True),
        ("acme", False),
        ("acme-alpha>=1.2,<2", True),
        ("acme-*==1.*", True),
        ("acme-alpha>=2", False),
        ("acme-alpha<1.3", False),
    ],
)
def test_allow_rule_matches_name_and_version(install, rule, is_allowed):
    """A rule is a pattern over normalized names, with versions where they matter."""
    install("acme-alpha", GOOD.format(name="good"), "1.3")
    host = PluginHost.load([rule])
    assert ("good" in host.registry["strategy"]) is is_allowed


def test_prerelease_counts_as_its_version(install):
    """An installed pre-release was installed on purpose."""
    install("acme-alpha", GOOD.format(name="good"), "1.3.dev4")
    assert PluginHost.load(["acme-alpha>=1.2"]).plugins()


def test_distribution_with_odd_version_is_refused_by_a_range_only(install):
    """A version that does not parse is in no range, and does not stop the others."""
    install("acme-alpha", GOOD.format(name="odd"), "banana")
    install("acme-beta", GOOD.format(name="fine"))
    assert [plugin.name for plugin in PluginHost.load(["acme-*>=0.1"]).plugins()] == ["fine"]
    assert PluginHost.load(["acme-alpha"]).plugins()


@pytest.mark.parametrize(("first", "second"), [("acme-alpha", "zeta"), ("zeta", "acme-alpha")])
def test_distribution_that_is_allowed_first_keeps_a_name(install, first, second):
    """A third party cannot take a name by sorting before its owner."""
    install("acme-alpha", GOOD.format(name="good"))
    install("zeta", GOOD.format(name="good"))
    host = PluginHost.load([first, second])
    assert host.registry["strategy"]["good"].distribution == first
    [failure] = host.failures
    assert str(failure) == (f"plugin {second!r} (of {second}): strategy 'good': {first} has a strategy of that name")


def test_name_of_distribution_is_normalized_too(install):
    """A package may write its own name as it likes."""
    install("Acme.Alpha_x", GOOD.format(name="good"))
    assert PluginHost.load(["acme-alpha-x"]).plugins()


def test_code_digest_changes_with_the_code_alone(install, tmp_path):
    """The digest depends on the package's sources, and not on where or when they were installed."""

    install("acme-delta", "")
    package = tmp_path / "acme_delta"
    package.mkdir()
    (package / "__init__.py").write_text(GOOD.format(name="delta"))

    def digest(helper):
        (package / "helper.py").write_text(helper)
        return PluginHost.load(["acme-delta"]).plugins()[0].code_digest

    first = digest("X = 1\n")
    assert digest("X = 2\n") != first
    (package / "notes.txt").write_text("not code")
    assert digest("X = 1\n") == first


# --------------------------------------------------------------------------------------------------- what is left out


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind' (acme_alpha.py:1)"),
        ("def broken(:", "SyntaxError: invalid syntax (acme_alpha.py, line 1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero (acme_alpha.py:2)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (acme_alpha.py:2)"),
        (
            "class Odd(BaseException): ...\nraise RecursionError('deep\\n and wide')",
            "RecursionError: deep and wide (acme_alpha.py:2)",
        ),
    ],
)
def test_module_that_cannot_be_imported_is_named_and_left_out(install, source, reason):
    """A broken third-party package is named with its reason and place, and the rest loads."""
    install("acme-alpha", source)
    install("acme-beta", GOOD.format(name="fine"))
    host = PluginHost.load(["acme-*"])
    assert [plugin.name for plugin in host.plugins()] == ["fine"]
    [failure] = host.failures
    assert isinstance(failure, PluginError)
    assert (failure.plugin, failure.distribution, failure.reason) == ("acme-alpha", "acme-alpha", reason)


def test_entry_point_without_its_module_is_left_out(install, tmp_path):
    """A package whose module is missing is reported like one that raises."""
    install("acme-alpha", "")
    (tmp_path / "acme_alpha.py").unlink()
    [failure] = PluginHost.load(["acme-alpha"]).failures
    assert failure.reason == "ModuleNotFoundError: No module named 'acme_alpha'"


def test_hook_that_raises_takes_none_of_the_others_with_it(plugin_module):
    """What a module registered before it raised is left out too; other modules keep theirs."""

    @hookimpl
    def half(register):
        register("half", Good)
        raise KeyError("rest")

    assert left_out(plugin_module, register_strategies=half).startswith("KeyError: 'rest' (test_plugin_host.py:")


def test_misspelt_hook_is_reported_with_the_right_name(plugin_module):
    """A hook that would never be called is an error."""
    reason = left_out(plugin_module, register_strategy={"good": Good})
    assert reason == "there is no hook register_strategy (did you mean 'register_strategies'?)"


def test_hook_with_other_arguments_is_reported(plugin_module):
    """A hook takes just `register`."""

    @hookimpl
    def hook(registry, extra):
        raise AssertionError

    reason = left_out(plugin_module, register_strategies=hook)
    assert reason == "register_strategies takes (registry, extra), and must take (register)"


def test_hook_without_its_mark_is_reported(plugin_module):
    """A function that is named like a hook and not marked would never be called."""
    reason = left_out(plugin_module, register_strategies=lambda register: None)
    assert reason == "register_strategies has no @hookimpl"


def test_module_without_hooks_is_reported(plugin_module):
    """An entry point without any hook is a mistake."""
    assert left_out(plugin_module).startswith("it has no hook: mark a function such as register_strategies(register)")


def test_hook_that_registers_nothing_yet_is_fine(plugin_module):
    """A package may keep its place for plugins to come."""
    host = PluginHost([("empty", plugin_module("empty", {"register_advisors": {}}))])
    assert host.failures == []


def test_optional_hook_of_a_later_version_is_fine(plugin_module):
    """A plugin may serve newer kernels too, by pluggy's own mark."""
    hook = hookimpl(optionalhook=True)(lambda register: None)
    module = plugin_module("both", {"register_charts": hook, "register_strategies": {"good": Good}})
    assert [plugin.name for plugin in PluginHost([("both", module)]).plugins()] == ["good"]


@pytest.mark.parametrize("version", [API_VERSION + 1, "1", None])
def test_newer_api_is_left_out(plugin_module, version):
    """A plugin for a newer kernel is not tried."""
    module = plugin_module("new", {"register_strategies": {"good": Good}})
    module.torghut_api = version
    [failure] = PluginHost([("new", module)]).failures
    assert failure.reason == (
        f"it is written for version {version!r} of the plugin API, and this torghut has {API_VERSION}: upgrade torghut"
    )


def test_stated_api_of_today_is_fine(plugin_module):
    """A module may state the version that it was written for."""
    module = plugin_module("new", {"register_strategies": {"good": Good}})
    module.torghut_api = API_VERSION
    assert PluginHost([("new", module)]).failures == []


@pytest.mark.parametrize("name", ["Macd RSI", "", "é", "-x", "x" * 64, None, 7])
def test_bad_name_is_left_out(plugin_module, name):
    """A name that no catalog could hold is refused at load."""
    reason = left_out(plugin_module, register_strategies={name: Good})
    assert reason == f"strategy {name!r}: the name must be of a-z, 0-9 and . _ -, at most 63 characters"


def test_name_of_another_plugin_is_left_out(plugin_module):
    """One name, one plugin; the first keeps it, and nothing of the second module is used."""
    reason = left_out(plugin_module, register_strategies={"more": Good, "first": Good})
    assert reason == "strategy 'first': another module has a strategy of that name"


def test_name_given_twice_by_one_module_is_left_out(plugin_module):
    """A module that registers one name twice does not know which it means."""

    @hookimpl
    def twice(register):
        register("same", Good)
        register("same", Good)

    assert left_out(plugin_module, register_strategies=twice) == "strategy 'same': it is registered twice"


def test_names_of_different_kinds_do_not_meet(plugin_module):
    """A strategy and a rule may share a name."""

    class Rule(RiskRule):
        def check(self, decision, context): ...

    module = plugin_module("both", {"register_strategies": {"same": Good}, "register_risk_rules": {"same": Rule}})
    assert len(PluginHost([("both", module)]).plugins()) == 2


@pytest.mark.parametrize(
    ("hooks", "reason"),
    [
        ({"register_strategies": {"wrong": 7}}, "7 is not a subclass of Strategy"),
        ({"register_strategies": {"wrong": object}}, "object is not a subclass of Strategy"),
        ({"register_risk_rules": {"wrong": Good}}, "Good is not a subclass of RiskRule"),
        ({"register_stages": {"wrong": Good}}, "Good is not a subclass of Stage"),
        (
            {"register_strategies": {"wrong": Strategy}},
            "Strategy does not implement on_signal or on_slice or on_timer or on_trade or on_quote",
        ),
        (strategy(state=("seen", 7)), "`state` must be a tuple of attribute names"),
        (strategy(state="seen"), "`state` must be a tuple of attribute names"),
        (strategy(columns="rsi14"), "`columns` must be a tuple of names"),
        (strategy(columns=("rsi41",)), "there is no column 'rsi41' (did you mean 'rsi14'?)"),
        (strategy(columns=("rsi14", "rsi14")), "`columns` has a name twice"),
        (strategy(Params=dict), "`Params` must be a pydantic model"),
        (
            strategy(Params=pydantic.BaseModel),
            "`Params` would silently accept unknown keys: derive it from the Params of its base class",
        ),
    ],
)
def test_class_that_cannot_work_is_left_out(plugin_module, hooks, reason):
    """What would break later is reported at load: wrong base, missing methods, columns, state and parameters."""
    kind = {hook: kind for kind, hook in KINDS.items()}[next(iter(hooks))]
    assert left_out(plugin_module, **hooks) == f"{kind} 'wrong': {reason}"


def test_rule_for_a_limit_that_does_not_exist_is_left_out(plugin_module, fake_classes):
    """A misspelt limit would silently never be enforced."""
    rule = fake_classes["register_risk_rules"]["cooldown"]
    reason = left_out(
        plugin_module, register_risk_rules={"pause": type("Pause", (rule,), {"limit": "cooldown_second"})}
    )
    assert reason == (
        "risk rule 'pause': `limit`: there is no limit 'cooldown_second' (did you mean 'cooldown_seconds'?)"
    )


def test_broker_without_capabilities_is_left_out(plugin_module, fake_classes):
    """The kernel asks what a broker can do before it sends."""
    venue = fake_classes["register_brokers"]["simulated"]
    reason = left_out(plugin_module, register_brokers={"mute": type("Mute", (venue,), {"capabilities": None})})
    assert reason == "broker 'mute': `capabilities` must be a `Capabilities`: what the broker can do"


def test_default_that_breaks_its_own_bounds_is_left_out(plugin_module):
    """A parameter whose default is not valid would fail in every catalog."""

    class Params(Strategy.Params):
        given: int = param(help="no default is fine")
        quantity: Decimal = param("-1", gt=0, help="units per entry")

    reason = left_out(plugin_module, **strategy(Params=Params))
    assert reason == "strategy 'wrong': `Params`: the default of quantity is not valid: Input should be greater than 0"


def test_params_that_cannot_be_described_are_left_out(plugin_module):
    """Parameters come from YAML and are published as JSON Schema, so each needs one."""

    class Params(Strategy.Params):
        decide: Callable[[], int] | None = param(None, help="a function")

    assert "`Params`: PydanticInvalidForJsonSchema" in left_out(plugin_module, **strategy(Params=Params))


def test_all_reasons_of_a_module_are_reported_at_once(plugin_module):
    """An author fixes everything in one go."""
    reason = left_out(plugin_module, **strategy(columns=("rsi41",), state=(1,)))
    assert reason.count("; ") == 1


def test_module_that_hides_the_refusal_is_left_out_all_the_same(plugin_module):
    """A plugin that catches everything around `register` does not get a wrong class in."""

    @hookimpl
    def quiet(register):
        try:
            register("wrong", object)
        except Exception:
            return

    assert "not a subclass" in left_out(plugin_module, register_strategies=quiet)


# ------------------------------------------------------------------------------------------------ what a catalog means


def message(found):
    assert isinstance(found, Problem)
    return str(found).removeprefix(": ")


def test_resolve_gives_the_plugin(fakes):
    """A registered name is found, in any version if none is asked for."""
    assert fakes.resolve("broker", "simulated") is fakes.registry["broker"]["simulated"]


def test_resolve_of_unknown_name_gives_the_nearest(fakes):
    """A typo is reported with the name that was meant."""
    assert message(fakes.resolve("strategy", "macd-rsy")) == (
        "no strategy is called 'macd-rsy' (did you mean 'macd-rsi'?)"
    )


def test_resolve_of_name_of_another_kind_says_so(fakes):
    """A rule among the strategies is reported as such."""
    assert message(fakes.resolve("strategy", "cooldown")) == "no strategy is called 'cooldown' (it is a risk rule)"


def test_resolve_names_distributions_that_are_not_allowed(install):
    """A plugin that is missing may be in a distribution that is installed and not allowed."""
    install("acme-alpha", GOOD.format(name="good"), "0.9")
    found = message(PluginHost.load(["acme-alpha>=1"]).resolve("strategy", "good"))
    assert "not in `plugins.allow`: acme-alpha 0.9" in found


def test_resolve_of_left_out_plugin_gives_its_reason(plugin_module):
    """A plugin that was left out is reported with the reason, not as unknown."""
    host = PluginHost([("bad", plugin_module("bad", strategy(columns=("rsi41",))))])
    assert message(host.resolve("strategy", "wrong")) == (
        "no strategy is called 'wrong' (it was left out: strategy 'wrong': there is no column 'rsi41' "
        "(did you mean 'rsi14'?))"
    )


def test_resolve_of_anything_after_a_broken_import_names_the_broken(install):
    """A broken module might have registered the missing plugin, so it is named."""
    install("acme-alpha", "1 / 0")
    found = message(PluginHost.load(["acme-alpha"]).resolve("strategy", "good"))
    assert "none is installed" in found
    assert "could not be loaded: acme-alpha" in found


@pytest.mark.parametrize(("asked", "is_met"), [(">=1", True), ("==1.3", True), (">=1.2,<1.3", False), (">=2", False)])
def test_resolve_checks_the_version(install, asked, is_met):
    """A range without the installed version is reported with that version."""
    install("acme-alpha", GOOD.format(name="good"), "1.3")
    found = PluginHost.load(["acme-alpha"]).resolve("strategy", "good", asked)
    if not is_met:
        assert message(found) == (f"strategy 'good' is of acme-alpha 1.3, and must be {asked} (install such a version)")
    else:
        assert found.version == "1.3"


def test_parameters_and_constructor_that_break_are_plugin_errors(plugin_module):
    """Whatever a plugin's own code raises becomes that plugin's error."""

    class Params(Strategy.Params):
        x: int = param(0, help="x")

        @pydantic.field_validator("x")
        @classmethod
        def no_seven(cls, x):
            return {7: None}.get(x, 1) / 1 and x

        @pydantic.field_serializer("x")
        def no_eight(self, x):
            return 1 / (x - 8)

    class Moody(Good):
        def __init__(self, params):
            raise KeyError("mood")

    Moody.Params = Params
    [plugin] = PluginHost([("m", plugin_module("m", {"register_strategies": {"moody": Moody}}))]).plugins()
    with pytest.raises(PluginError, match=r"plugin 'moody': TypeError: .* \(test_plugin_host.py:"):
        plugin.parameters({"x": 7})
    with pytest.raises(PluginError, match=r"plugin 'moody': .*ZeroDivisionError"):
        plugin.plain(plugin.parameters({"x": 8}))
    with pytest.raises(PluginError, match=r"plugin 'moody': KeyError: 'mood' \(test_plugin_host.py:"):
        plugin.create(plugin.parameters({}))


def test_host_loads_without_the_stage_compiler():
    """Finding plugins does not import numba if none of them is a stage."""
    code = "import sys, torghut_core.plugin_host as h; h.PluginHost.load(['torghut-risk']); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_our_own_distributions_load():
    """Everything that comes with torghut passes the host's checks."""
    host = PluginHost.load()
    assert [str(failure) for failure in host.failures] == []
    assert {plugin.distribution for plugin in host.plugins()} >= {"torghut-risk", "torghut-strategies"}
