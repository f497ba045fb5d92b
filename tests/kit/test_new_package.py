"""`torghut new` makes packages that work, of every kind, and refuses what would not."""

import re
import tomllib

import pytest
from torghut_testing.new_package import KINDS, new_package
from torghut_testing.plugin_check import check_plugin
from typer.testing import CliRunner

from support.docs import passes
from support.processes import run
from torghut_core import InputError
from torghut_core.cli import app, authoring


@pytest.mark.parametrize("kind", KINDS)
def test_new_package_passes_its_suites_and_its_tests(tmp_path, kind):
    """Of every kind: pytest checks the plugin by the suite of its kind, though no file of tests says so."""
    made = new_package(kind, "zebra-one", tmp_path)
    passed = int(re.search(r"(\d+) passed", passes(made))[1])
    assert passed > 10
    assert "acme" not in "".join(file.read_text() for file in made.rglob("*.*") if file.suffix != ".pyc").lower()


@pytest.mark.parametrize("kind", KINDS)
def test_catalog_of_a_new_package_is_valid(tmp_path, kind):
    """Of every kind: the catalog takes the plugin, and nothing in it trades yet."""
    made = new_package(kind, "zebra-one", tmp_path)
    done = run("catalog", "validate", "catalog.yaml", cwd=made, env={"TORGHUT_PLUGIN_PATH": str(made)})
    assert done.returncode == 0, done.stderr
    assert "enabled: true" not in (made / "catalog.yaml").read_text()


@pytest.mark.proof
@pytest.mark.parametrize("kind", KINDS)
def test_new_package_is_gold(tmp_path, kind):
    """Of every kind: what is made keeps every rule, so a rule that fails later is of what was edited."""
    found = check_plugin(str(new_package(kind, "zebra-one", tmp_path)), limit=600)
    assert [rule for rule in found["rules"] if rule["missing"]] == []
    assert found["level"] == "gold"


def test_files_bear_the_name_of_the_package(tmp_path):
    """Distribution, module and class have the name that was given, each in its form."""
    made = new_package("strategy", "zebra-7-up", tmp_path)
    assert made == tmp_path / "zebra-7-up"
    assert "class Zebra7Up(Strategy)" in (made / "zebra_7_up" / "__init__.py").read_text()
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["torghut"] == {"zebra-7-up": "zebra_7_up"}
    assert (made / "zebra_7_up" / "py.typed").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Zebra", "is not a name"),
        ("zebra_one", "is not a name"),
        ("-zebra", "is not a name"),
        ("7zebra", "is not a name"),
        ("zebra/../one", "is not a name"),
        ("z" * 64, "is not a name"),
        ("class", "is a word of Python"),
        ("ema-cross", "is a plugin that is installed already"),
        ("torghut-zebra", "looks like one of Torghut's own"),
        ("statistics", "would hide the module statistics"),
        ("numpy", "would hide the module numpy"),
    ],
)
def test_name_that_would_not_work_is_refused(tmp_path, name, reason):
    """A name has to be one of a distribution, a module and a plugin that is not there yet."""
    with pytest.raises(InputError, match=reason):
        new_package("strategy", name, tmp_path, taken={"ema-cross"})
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    """A folder that is there stays as it is."""
    (tmp_path / "zebra-one").mkdir()
    with pytest.raises(InputError, match="is there already"):
        new_package("risk", "zebra-one", tmp_path)
    assert list((tmp_path / "zebra-one").iterdir()) == []


def test_unknown_kind_is_refused(tmp_path):
    """The error names the kinds that there are."""
    with pytest.raises(InputError, match="strategy, indicator, risk"):
        new_package("stage", "zebra-one", tmp_path)


def test_command_says_what_to_do_next(tmp_path):
    """`torghut new` prints commands to paste; a name of a built-in plugin is refused."""
    done = CliRunner().invoke(app, ["new", "strategy", "zebra-one", "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"cd {tmp_path / 'zebra-one'}" in done.output
    assert "torghut plugin check ." in done.output
    refused = CliRunner().invoke(app, ["new", "strategy", "ema-cross", "--folder", str(tmp_path)])
    assert isinstance(refused.exception, InputError)


def test_without_the_kit_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    """The core does not depend on the kit: its commands name what to install."""

    def import_module(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(authoring, "import_module", import_module)
    for arguments in (["new", "strategy", "zebra-one"], ["plugin", "check", "."]):
        done = CliRunner().invoke(app, arguments)
        assert isinstance(done.exception, InputError)
        assert "pip install torghut-testing" in str(done.exception)
