"""Conformance without a line of code: pytest checks the plugins of a project by the suites of their kinds.

In a project whose ``pyproject.toml`` has ``[tool.torghut]``, that file is collected like a file of tests: with a class of
tests for each plugin that the modules of its entry points register. What a suite cannot know by itself is stated there::

    [tool.torghut.conformance.acme-alpha]
    params = {threshold = 3}
    decides = false

Other projects are left alone. This module is imported by every pytest beside which the kit is installed, so it imports
little.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which `torghut plugin check` has its way."""
    parser.getgroup("torghut").addoption(
        "--torghut",
        action="store_true",
        help="check the plugins of a pyproject.toml also where it has no [tool.torghut]",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the ``pyproject.toml`` of a project that asks for it."""
    if file_path.name != "pyproject.toml":
        return None
    if not parent.config.getoption("torghut") and b"[tool.torghut" not in file_path.read_bytes():
        return None
    return ConformanceOfProject.from_parent(parent, path=file_path)


class ConformanceOfProject(pytest.Module):
    """The suites of a project's plugins, as a module of tests."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Import the project's modules, and collect a suite for each of their plugins."""
        from torghut_testing.project import Project
        from torghut_testing.suites import plugins_of, suite_of

        project = Project.read(self.path.parent)
        if str(project.root) not in sys.path:
            sys.path.insert(0, str(project.root))
        self.obj = made = ModuleType("conformance")
        for module in project.modules:
            for hook, name, cls in plugins_of(import_module(module)):
                facts = project.facts(name)
                if facts is None:
                    continue
                suite = suite_of(hook, name, cls, **facts)
                is_free = not hasattr(made, suite.__name__)
                setattr(
                    made, suite.__name__ if is_free else f"{suite.__name__}Of{hook.title().replace('_', '')}", suite
                )
        return super().collect()
