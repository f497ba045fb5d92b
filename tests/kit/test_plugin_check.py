"""`torghut plugin check` names what is missing, rule by rule, and outlives the package's code."""

import json

import pytest
from torghut_testing.new_package import new_package
from torghut_testing.plugin_check import RULES, Done, Missing, Package, check_plugin
from torghut_testing.project import Project
from typer.testing import CliRunner

from torghut_core import InputError
from torghut_core.cli import app

LOOK = {name: look for _, name, look in RULES}


@pytest.fixture
def made(tmp_path):
    """A new package."""
    return new_package("strategy", "zebra-one", tmp_path)


class Answered(Package):
    """A package whose commands are answered here, and not run.

    `plugins` are those that it registers, `pytest_says` the output of a run of tests, `digests` those of replays by (batch size,
    seed).
    """

    def __init__(self, folder, *, plugins=(), pytest_says="", fails="", digests=None):
        super().__init__(Project.read(folder), 1)
        self._plugins = [{"kind": "strategy", "name": "zebra-one", "distribution": "", **plugin} for plugin in plugins]
        self._says = Done(pytest_says, fails)
        self._digests = digests or {}

    def _run(self, *words, seed=0):
        if "pytest" in words:
            return self._says
        if "list" in words:
            return Done(json.dumps({"plugins": self._plugins, "failures": []}, indent=2), "")
        digest = self._digests[int(words[-1]), seed]
        return Done(json.dumps({"events": 9, "decisions": 1, "digest": digest}), "")


def missing(rule, package):
    """What a rule misses in a package."""
    with pytest.raises(Missing) as caught:
        LOOK[rule](package)
    return str(caught.value)


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


# What does not load.


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("raise RuntimeError('no licence server')", "no licence server"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import time; time.sleep(1000)", "did not end within"),
    ],
    ids=["raises", "ends its process", "hangs"],
)
def test_code_that_does_not_load_is_named(made, line, reason):
    """A module that raises, ends its process or hangs fails the first rule, and no other is looked at."""
    code = made / "zebra_one" / "__init__.py"
    code.write_text(f"{code.read_text()}\n{line}\n")
    found = check_plugin(str(made), limit=4 if "sleep" in line else 100)
    first, *others = found["rules"]
    assert found["level"] == ""
    assert first["rule"] == "loads"
    assert reason in first["missing"]
    assert {rule["missing"] for rule in others} == {"not looked at, as it does not load"}


def test_command_fails_below_the_level_that_is_asked_for(made):
    """The exit code says whether the level is reached; the JSON has every rule, with what it found or misses."""
    replace(made / "pyproject.toml", 'zebra-one = "zebra_one"\n', "")
    done = CliRunner().invoke(app, ["plugin", "check", str(made), "--json"])
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert (found["name"], found["level"]) == ("zebra-one", "")
    assert [rule["rule"] for rule in found["rules"]] == list(LOOK)
    assert "add NAME" in found["rules"][0]["missing"]


def test_folder_without_a_project_is_an_error(tmp_path):
    """So is a name that is not installed, and one that is installed without its tests."""
    with pytest.raises(InputError, match="has no pyproject"):
        check_plugin(str(tmp_path))
    with pytest.raises(InputError, match="neither a folder nor an installed distribution"):
        check_plugin("no-such-distribution")
    with pytest.raises(InputError, match="give the folder of its project"):
        check_plugin("numpy")


def test_installed_project_is_found_by_its_name():
    """One that is installed in editable mode is checked in its folder."""
    assert Project.find("torghut-strategies").modules == ("torghut_strategies",)


# Each rule.


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ({"type": "integer", "minimum": 1}, "has no help"),
        ({"type": "integer", "description": "bars"}, "has no bounds"),
        ({"anyOf": [{"type": "number"}, {"type": "string"}], "description": "units"}, "has no bounds"),
    ],
)
def test_parameter_needs_help_and_bounds(made, field, wrong):
    """Each is named as plugin.parameter."""
    package = Answered(made, plugins=[{"parameters": {"properties": {"span": field}}}])
    assert f"zebra-one.span {wrong}" in missing("parameters", package)


def test_text_and_bounded_numbers_pass(made):
    """Text needs no bounds, and a decimal has them in one of its forms."""
    fields = {
        "symbol": {"type": "string", "description": "what is traded"},
        "cash": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}], "description": "USD"},
    }
    assert LOOK["parameters"](Answered(made, plugins=[{"parameters": {"properties": fields}}])) == "2 parameters"


def test_catalog_that_is_not_valid_is_named_with_its_line(made):
    """What is wrong is said as `torghut catalog validate` says it."""
    replace(made / "catalog.yaml", "use: zebra-one", "use: zebra-two")
    assert "no strategy is called 'zebra-two'" in missing("catalog", Package(Project.read(made), 100))
    (made / "catalog.yaml").unlink()
    assert "there is no catalog.yaml" in missing("catalog", Package(Project.read(made), 100))


@pytest.mark.parametrize("rule", ["conformance", "tests"])
def test_test_that_fails_is_named(made, rule):
    """As pytest names it."""
    says = "FAILED tests/test_zebra.py::test_it - assert 1 == 2\n1 failed in 0.10s"
    assert "test_it - assert 1 == 2" in missing(rule, Answered(made, pytest_says=says, fails="exit code 1"))


def test_no_tests_are_not_enough(made):
    """A package without tests is not silver."""
    package = Answered(made, pytest_says="no tests ran in 0.01s", fails="exit code 5")
    assert "add tests/test_*.py" in missing("tests", package)


def test_section_that_is_absent_from_the_readme_is_named(made):
    """Which sections there have to be depends on the kinds of its plugins."""
    replace(made / "README.md", "## Roll-back", "## Afterwards")
    assert missing("readme", Answered(made, plugins=[{}])) == "README.md has no section Roll-back"


def test_state_rule_goes_by_the_tests_of_state(made):
    """Where one of them fails the state is not kept; where there is none it is not known."""
    lines = ("PASSED pyproject.toml::TestZebraOne::test_new_state_is_plain", "PASSED p.toml::TestX::test_columns_exist")
    assert LOOK["state"](Answered(made, pytest_says="\n".join(lines))) == "1 tests of its suites"
    lines += ("FAILED pyproject.toml::TestZebraOne::test_saved_state_carries_on[0] - AssertionError",)
    assert missing("state", Answered(made, pytest_says="\n".join(lines))) == "test_saved_state_carries_on"
    assert "no test" in missing("state", Answered(made, pytest_says="1 passed"))


SAME = {(65_536, 0): "a", (97, 1): "a"}
BATCHES = {(65_536, 0): "a", (97, 1): "b", (65_536, 1): "a"}
CHANCE = {(65_536, 0): "a", (97, 1): "b", (65_536, 1): "c"}


def test_digests_of_replays_tell_batches_from_chance(made):
    """One replay in other batches and another order of sets is enough where it is the same; else a third says which it was."""
    assert LOOK["chunking"](Answered(made, digests=SAME)) == LOOK["stable"](Answered(made, digests=SAME)) == "digest a"
    assert "depends on the batch" in missing("chunking", Answered(made, digests=BATCHES))
    assert LOOK["stable"](Answered(made, digests=BATCHES)) == "digest a"
    assert "in batches of the same size already" in missing("chunking", Answered(made, digests=CHANCE))
    assert "chance" in missing("stable", Answered(made, digests=CHANCE))


def test_typed_version_and_license_are_read_from_the_project(made):
    """Each says what to write where it is absent."""
    package = Answered(made)
    assert (LOOK["typed"](package), LOOK["version"](package)) == ("py.typed", "0.1.0")
    (made / "zebra_one" / "py.typed").unlink()
    replace(made / "pyproject.toml", 'version = "0.1.0"', 'version = "one"')
    replace(made / "pyproject.toml", "license = ", "# license = ")
    package = Answered(made)
    assert "zebra_one/py.typed" in missing("typed", package)
    assert "version" in missing("version", package)
    assert "license" in missing("license", package)
