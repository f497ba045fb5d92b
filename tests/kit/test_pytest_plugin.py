"""The pytest plugin of the kit checks the projects that ask for it, and leaves all others alone."""

import pytest
import pytest.__main__
from torghut_testing.new_package import new_package

from support.processes import run

OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "torghut_testing.pytest_plugin")


@pytest.fixture
def made(tmp_path):
    """A new package."""
    return new_package("indicator", "zebra-one", tmp_path)


def collected(folder, *options):
    """The tests that pytest finds in a folder; what it printed."""
    done = run(*OPTIONS, "--collect-only", *options, script=pytest.__main__.__file__, cwd=folder)
    return [line for line in done.stdout.splitlines() if "::" in line], done.stdout


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_other_projects_are_left_alone(made):
    """Without `[tool.torghut]` only the files of tests are collected; the check of a plugin asks for the suites anyway."""
    assert any("pyproject.toml::TestZebraOne::" in test for test in collected(made)[0])
    edit(made / "pyproject.toml", "[tool.torghut]", "[tool.zebra]")
    tests, _ = collected(made)
    assert [test.partition("::")[0] for test in tests] == ["tests/test_zebra_one.py"]
    assert any("pyproject.toml::" in test for test in collected(made, "--torghut")[0])


def test_facts_of_a_suite_are_stated_in_the_project(made):
    """They become attributes of the suite; `false` leaves a plugin to a suite among the tests."""
    manifest = made / "pyproject.toml"
    edit(manifest, "[tool.torghut]", "[tool.torghut.conformance.zebra-one]\nparams = {span = 0}\n\n[tool.torghut]")
    done = run(*OPTIONS, script=pytest.__main__.__file__, cwd=made)
    assert "greater than or equal to 1" in done.stdout
    edit(manifest, "[tool.torghut.conformance.zebra-one]\nparams = {span = 0}", "")
    edit(manifest, "[tool.torghut]", "[tool.torghut]\nconformance = {zebra-one = false}\n")
    assert not any("pyproject.toml" in test for test in collected(made)[0])


def test_module_that_does_not_load_is_an_error(made):
    """It fails, and is not left out in silence."""
    (made / "zebra_one" / "__init__.py").write_text("raise RuntimeError('no data file')")
    _, printed = collected(made, "pyproject.toml")
    assert "RuntimeError: no data file" in printed
    assert "ERROR pyproject.toml" in printed
