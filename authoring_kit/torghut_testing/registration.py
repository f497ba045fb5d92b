"""The plugins that a module registers, and the indicators beside a strategy."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def registered(module: ModuleType, hook: str) -> dict[str, type[Any]]:
    """The plugins that `module` registers through one hook, by name; none where it does not have the hook.

    Raises
    ------
    ValueError : the same name twice.
    """
    plugins: dict[str, type[Any]] = {}

    def register(name: str, cls: type[Any]) -> None:
        if name in plugins:
            raise ValueError(f"{module.__name__}.{hook} registers {name!r} twice")
        plugins[name] = cls

    implementation = getattr(module, hook, None)
    if implementation is not None:
        implementation(register)
    return plugins


def indicators_beside(strategy: type[Any]) -> dict[str, type[Any]]:
    """The indicators that a strategy's module registers, or the package that it is in, by name: no one has to install them."""
    name = strategy.__module__
    modules = [sys.modules.get(each) for each in dict.fromkeys((name.partition(".")[0], name))]
    found: dict[str, type[Any]] = {}
    for module in modules:
        if module is not None:
            found |= registered(module, "register_indicators")
    return found
