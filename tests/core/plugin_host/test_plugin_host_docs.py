"""docs/plugins.md names every hook with its arguments, and what its example shows works."""

import inspect
import math
import re
from pathlib import Path
from types import ModuleType

import pytest

from torghut_core import hookspecs, ports
from torghut_core.hookspecs import KINDS
from torghut_core.plugin_host import PluginHost
from torghut_core.plugin_host.checks import check_class
from torghut_core.stages import Stage

PAGE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text(encoding="utf-8")
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "torghut_spec")}
BASES = [
    ports.Strategy,
    ports.Indicator,
    ports.RiskRule,
    ports.Broker,
    ports.Source,
    ports.Sink,
    Stage,
    ports.Advisor,
    ports.Observer,
]


def section(hook):
    heading = f"### `{hook}({', '.join(inspect.signature(HOOKS[hook]).parameters)})`\n"
    assert heading in PAGE
    return PAGE.partition(heading)[2].partition("\n### ")[0].partition("\n## ")[0]


def test_every_hook_is_of_a_kind():
    """No hook of the specification is forgotten by the host."""
    assert HOOKS
    assert set(KINDS.values()) == HOOKS.keys()


@pytest.mark.parametrize("hook", HOOKS)
def test_page_has_every_hook_with_its_arguments(hook):
    """Each hook has a heading that shows how it is called, and says something."""
    assert len(section(hook).split()) > 10


def test_page_has_no_hook_that_is_gone():
    """A heading of a hook that the kernel no longer calls is found."""
    assert set(re.findall(r"^### `(\w+)\(", PAGE, re.MULTILINE)) == HOOKS.keys()


@pytest.mark.parametrize(("hook", "base"), list(zip(HOOKS, BASES, strict=True)))
def test_page_names_what_each_kind_has_to_have(hook, base):
    """What an author has to write for a kind stands under its hook."""
    text = section(hook)
    assert f"`{base.__name__}`" in text
    for method in getattr(base, "__abstractmethods__", ()):
        assert f"`{method}" in text


def test_example_of_the_page_loads():
    """The page's plugin passes the host's checks as it stands."""
    example = re.search(r"```python\n(\"\"\"Buy whatever.*?)```", PAGE, re.DOTALL)[1]
    module = ModuleType("acme_alpha")
    exec(compile(example, "docs/plugins.md", "exec"), vars(module))
    host = PluginHost([("acme-alpha", module)])
    assert host.failures == []
    assert list(host.registry["strategy"]) == ["acme-cheap"]


def test_indicator_of_the_page_works():
    """The page's indicator is a value of each bar, and resumes from what it names in `state`."""
    example = re.search(r"```python\n(class Gap.*?)```", PAGE, re.DOTALL)[1]
    names = {"Indicator": ports.Indicator, "math": math}
    exec(compile(example, "docs/plugins.md", "exec"), names)
    gap = names["Gap"]
    assert check_class("indicator", gap) == []
    first, resumed = gap(gap.Params()), gap(gap.Params())
    assert math.isnan(first.update(1.0, 2.0))
    resumed.load_state(first.save_state(), gap.state_version)
    assert first.update(3.0, 4.0) == resumed.update(3.0, 4.0) == 0.5
