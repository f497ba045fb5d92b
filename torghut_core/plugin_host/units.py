"""Units: the distributions and plugin folders that have plugins, each imported and replaced as a whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Self

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from torghut_core.catalog import allow_rule
from torghut_core.errors import PluginError
from torghut_core.plugin_host.code import GROUP, Code, Disk, read_head
from torghut_core.plugin_host.registered import Registered

_NEEDS_RESTART = ("source", "sink", "stage", "broker")
"""Kinds whose instances stay open from one generation to the next."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry point that was left out, and the plugins (kind, name) that it would have registered."""

    error: PluginError
    plugins: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """A distribution or a plugin folder, and once it is imported its plugins and what was left out.

    `distribution` and `version` are "" for a folder.
    """

    name: str
    distribution: str
    version: str
    entries: tuple[EntryPoint, ...]
    code: Code
    plugins: tuple[Registered, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Equal for units that need not be imported again."""
        return self.version, [(entry.name, entry.value) for entry in self.entries], self.code.digest, self.code.trouble

    @property
    def restart_reason(self) -> str:
        """Why its plugins cannot be replaced while the process runs, "" where they can."""
        fixed = next((plugin for plugin in self.plugins if plugin.kind in _NEEDS_RESTART), None)
        return f"restart required: it has the {fixed.kind} {fixed.name!r}" if fixed else ""

    def failed(self, reason: str) -> Self:
        """The unit with this reason why none of it can be used."""
        return replace(self, left_out=(LeftOut(PluginError(self.name, reason, self.distribution), ()),))

    def obstacle(self, old: Unit, stale: set[str]) -> str:
        """Why it must not be imported in place of `old`, "" where it may; `stale` are units whose old code is in use."""
        if self.code.trouble:
            return self.code.trouble
        if old.restart_reason:
            return old.restart_reason
        compiled = self.code.compiled or old.code.compiled
        if compiled and (old.plugins or any(root in sys.modules for root in self.code.roots)):
            return f"restart required: it has the compiled extension {compiled}"
        if missing := sorted(stale & self.code.dependencies.keys()):
            return f"{missing[0]}, which it depends on, could not be loaded"
        return ""

    def kept_error(self) -> PluginError:
        """Why the old code of this unit stays in use: what was left out of the new."""
        is_plain = len(self.entries) == 1 and self.distribution
        reasons = (
            error.reason if is_plain or error.plugin == self.name else f"{error.plugin}: {error.reason}"
            for error in (each.error for each in self.left_out)
        )
        return PluginError(self.name, f"{'; '.join(reasons)}; the old code stays in use", self.distribution)


def find_units(
    disk: Disk, allow: Iterable[str], folders: Sequence[Path]
) -> tuple[dict[str, Unit], list[tuple[str, str]]]:
    """Find allowed distributions, in the order of the rules that allow them, then folders; imports nothing.

    Returns
    -------
    The units by name, and the distributions (name, version) that have plugins and are not allowed.
    """
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    rules = [allow_rule(rule) for rule in allow]
    found: dict[tuple[str, str], list[EntryPoint]] = {}
    for entry_point in entry_points(group=GROUP):
        found.setdefault(_origin(entry_point), []).append(entry_point)
    ranked, refused = [], []
    for name, version in found:
        rank = next((rank for rank, rule in enumerate(rules) if _allows(rule, name, version)), None)
        if rank is not None:
            ranked.append((rank, name, version))
        else:
            refused.append((name, version))
    units: dict[str, Unit] = {}
    for _, name, version in sorted(ranked):
        entries = sorted(found[name, version], key=lambda entry_point: entry_point.name)
        code = disk.distribution(entries[0].dist) if entries[0].dist else Code()
        units[canonicalize_name(name)] = Unit(name, name, version, tuple(entries), code)
    installed = {key: unit.code for key, unit in units.items()}
    for folder in folders:
        code, modules = disk.folder(folder, installed)
        in_folder = tuple(EntryPoint(module, module, str(folder)) for module in modules)
        units[str(folder)] = Unit(str(folder), "", "", in_folder, code)
    return units, refused


def is_version_in(versions: SpecifierSet, version: str) -> bool:
    """Whether a version is in a range; the empty range has every version, also one that is no version at all."""
    try:
        return not len(versions) or versions.contains(version, prereleases=True)
    except InvalidVersion:  # of releases of packaging that do not answer False themselves
        return False


def _origin(entry_point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution, "" where its metadata does not say."""
    if entry_point.dist is None:
        return "", ""
    head = read_head(entry_point.dist)
    return head["Name"] or "", head["Version"] or ""


def _allows(rule: tuple[str, SpecifierSet], name: str, version: str) -> bool:
    pattern, versions = rule
    return fnmatchcase(canonicalize_name(name), pattern) and is_version_in(versions, version)
