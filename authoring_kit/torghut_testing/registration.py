"""The plugins that a module registers."""

from __future__ import annotations

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
