"""Finds plugins, checks them, and keeps what may be used.

A plugin that is wrong in any way is left out with its reason, and the others load: what strangers' code raises becomes
a value here (`PluginHost.failures`) or a `PluginError`. Each entry point gets a plugin manager of its own, because one
manager stops at the first hook that raises and drops what the others brought.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Self

import pluggy
import pydantic
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from torghut_core import hookspecs
from torghut_core.catalog import DEFAULT_ALLOW, NAME_PATTERN, allow_rule, did_you_mean
from torghut_core.errors import PluginError, Problem
from torghut_core.hookspecs import KINDS
from torghut_core.plugin_host.checks import check_class, check_module, has_hooks
from torghut_core.plugin_host.code import (
    GROUP,
    Code,
    Disk,
    Sources,
    lies_in,
    module_digest,
    path_stamp,
    read_head,
)
from torghut_core.plugin_host.fresh_import import Swap
from torghut_core.plugin_host.registered import Registered, reason_and_place
from torghut_core.ports import Plugin
from torghut_core.telemetry import logs

_NEEDS_RESTART = ("source", "sink", "stage", "broker")


@dataclass(frozen=True, slots=True)
class _LeftOut:
    error: PluginError
    names: tuple[tuple[str, str], ...]  # kind and name of what it would have brought


@dataclass(frozen=True, slots=True)
class _Unit:
    """A distribution or a plugin folder: what is imported together, and what came of it."""

    name: str
    distribution: str
    version: str
    entries: tuple[EntryPoint, ...]
    code: Code
    plugins: tuple[Registered, ...] = ()
    left_out: tuple[_LeftOut, ...] = ()

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Equal for units that need not be imported again."""
        return self.version, [(entry.name, entry.value) for entry in self.entries], self.code.digest, self.code.trouble


@dataclass(slots=True)
class _Loaded:
    """What a host leaves to the one that is loaded upon it."""

    sources: Mapping[str, Sources] = field(default_factory=dict)
    units: dict[str, _Unit] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)  # distribution or folder -> digest of its modules
    seen: Any = None  # all that the outcome depends on
    is_settled: bool = True  # whether another look at the same would find the same


class PluginHost:
    """The plugins that may be used, by kind and name.

    Parameters
    ----------
    modules : plugin modules by name, given directly. `load` finds the installed ones.

    Attributes
    ----------
    registry : kind (see `KINDS`) -> name -> plugin.
    failures : one error for each entry point that was left out, with its reason.
    refused : distributions (name, version) that bring plugins and were not allowed to.
    changed : distributions and plugin folders that were imported afresh, because they are not what they were.
    kept : one error for each of those whose old code goes on, with the reason.
    """

    def __init__(self, modules: Iterable[tuple[str, Any]] = ()) -> None:
        self.registry: dict[str, dict[str, Registered]] = {kind: {} for kind in KINDS}
        self.failures: list[PluginError] = []
        self.refused: list[tuple[str, str]] = []
        self.changed: tuple[str, ...] = ()
        self.kept: list[PluginError] = []
        self._left_out: dict[tuple[str, str], PluginError] = {}
        self._loaded = _Loaded()
        self._swaps: list[Swap] = []
        for name, module in modules:
            brought, left_out = self._add(name, module)
            self._note(brought, left_out)

    @classmethod
    def load(
        cls,
        allow: Iterable[str] = DEFAULT_ALLOW,
        extra: Iterable[tuple[str, Any]] = (),
        *,
        folders: Sequence[Path] = (),
        previous: PluginHost | None = None,
    ) -> Self:
        """The installed plugins whose distribution is allowed, those in the plugin folders, and the modules in `extra`.

        No module of another distribution is imported. Where two bring the same plugin, the distribution that `allow`
        names first keeps it.

        With `previous`, what is still the same on disk is taken over, and what is not is imported afresh: all modules
        of a distribution or folder, of the changed distributions that it depends on, and of those that depend on it.
        One that fails in any way keeps its old plugins and is told in `kept`. So is one that would need a restart: with
        compiled extensions, or with sources, stages or brokers, which stay open from one generation to the next. What
        failed is tried again when anything has changed.

        Parameters
        ----------
        allow : rules as in the catalog's ``plugins.allow``: ``torghut-*``, ``acme-alpha>=1.2,<2``.
        folders : plugin folders; each of their modules that has a hook is a plugin module, whatever `allow` says.
        previous : the newest host of this process.

        Notes
        -----
        This may run in a thread beside the loop. While a changed unit is being imported ``sys.modules`` lacks its names
        or holds them half made, and afterwards it holds the new modules: an import inside a function of the old code,
        run then, meets those. Plugins import at the top of their modules.
        """
        host = cls()
        before = previous._loaded if previous else None  # noqa: SLF001  hosts are of one class
        folders = [Path(folder).absolute() for folder in folders]
        if before or folders:
            importlib.invalidate_caches()
        disk = Disk(before.sources if before else {})
        units = host._find(disk, allow, folders)
        logs.add_plugin_packages(root for unit in units.values() for root in unit.code.roots)
        host._loaded.sources = disk.sources
        host._loaded.seen = {key: unit.stamp for key, unit in units.items()}, path_stamp()
        if previous is None or before is None:
            for key, unit in units.items():
                host._hold(key, host._taken(unit))
                host._note_import(key, unit)
        elif before.seen == host._loaded.seen and before.is_settled:
            for key in units:
                host._hold(key, before.units[key])
            host._loaded.imported, host.kept = before.imported, list(previous.kept)
        else:
            try:
                host._follow(units, before)
            except BaseException:
                while host._swaps:
                    host._swaps.pop().undo()
                raise
        host._loaded.is_settled = not host._swaps
        host._swaps.clear()
        known = {plugin: plugin for plugin in previous.plugins()} if previous else {}
        for name, module in extra:
            brought, left_out = host._add(name, module)
            host._note([known.get(plugin, plugin) for plugin in brought], left_out)
        return host

    def plugins(self) -> list[Registered]:
        """All that may be used, by kind and name."""
        return [named[name] for named in self.registry.values() for name in sorted(named)]

    def params(self) -> dict[str, dict[str, type[pydantic.BaseModel]]]:
        """Models of the parameters, by kind and name: what `catalog.json_schema` takes."""
        return {
            kind: {name: plugin.cls.Params for name, plugin in named.items()} for kind, named in self.registry.items()
        }

    def names_where(self, kind: str, is_wanted: Callable[[Any], bool]) -> list[str]:
        """Names of the plugins of a kind whose class is wanted, those of the distribution that is allowed first in front."""
        return [name for name, plugin in self.registry[kind].items() if is_wanted(plugin.cls)]

    def resolve(self, kind: str, use: str, version: str | None = None) -> Registered | Problem:
        """The plugin that a catalog entry means, or what is wrong with it (without a place: the caller knows that)."""
        found = self.registry[kind].get(use)
        if found is None:
            return Problem("", 0, 0, "", f"no {kind} is called {use!r}", self._hint(kind, use))
        if version is not None and not _is_in(SpecifierSet(version), found.version):
            origin = f"{found.distribution} {found.version}" if found.distribution else "a module without a version"
            return Problem(
                "", 0, 0, "", f"{kind} {use!r} is of {origin}, and must be {version}", "install such a version"
            )
        return found

    def _hint(self, kind: str, use: str) -> str:
        if failure := self._left_out.get((kind, use)):
            return f"it was left out: {failure.reason}"
        others = [other for other, named in self.registry.items() if use in named]
        if others:
            return f"it is a {others[0]}"
        hint = did_you_mean(use, sorted(self.registry[kind])) or "none is installed"
        if hint.startswith("did you mean"):
            return hint
        refused = [f"{name} {version}".rstrip() for name, version in self.refused]
        failed = [failure.plugin for failure in self.failures]
        for what, names in (("not in `plugins.allow`", refused), ("could not be loaded", failed)):
            hint += f"; {what}: {', '.join(sorted(names))}" if names else ""
        return hint

    def _find(self, disk: Disk, allow: Iterable[str], folders: Sequence[Path]) -> dict[str, _Unit]:
        """Distributions in the order of the rules that allow them, then folders; nothing is imported yet."""
        for folder in folders:
            if str(folder) not in sys.path:
                sys.path.append(str(folder))
        rules = [allow_rule(rule) for rule in allow]
        found: dict[tuple[str, str], list[EntryPoint]] = {}
        for entry_point in entry_points(group=GROUP):
            found.setdefault(_origin(entry_point), []).append(entry_point)
        ranked = []
        for name, version in found:
            rank = next((rank for rank, rule in enumerate(rules) if _allows(rule, name, version)), None)
            if rank is not None:
                ranked.append((rank, name, version))
            else:
                self.refused.append((name, version))
        units: dict[str, _Unit] = {}
        for _, name, version in sorted(ranked):
            entries = sorted(found[name, version], key=lambda entry_point: entry_point.name)
            code = disk.distribution(entries[0].dist) if entries[0].dist else Code()
            units[canonicalize_name(name)] = _Unit(name, name, version, tuple(entries), code)
        installed = {key: unit.code for key, unit in units.items()}
        for folder in folders:
            code, modules = disk.folder(folder, installed)
            in_folder = tuple(EntryPoint(module, module, str(folder)) for module in modules)
            units[str(folder)] = _Unit(str(folder), "", "", in_folder, code)
        return units

    def _follow(self, units: Mapping[str, _Unit], before: _Loaded) -> None:
        """Take over what is the same as before, and import what is not."""
        self._loaded.imported = dict(before.imported)
        in_use = frozenset(root for unit in units.values() for root in unit.code.every_root)
        for key, loaded in before.units.items():
            if key in units:
                self._register(loaded.plugins)  # all keep their names until they are replaced
            elif not loaded.code.compiled:
                self._swaps.append(Swap(loaded.code.roots - in_use))
        held: dict[str, _Unit] = {}
        stale: set[str] = set()
        # What others depend on goes first: it depends on less itself.
        for key, unit in sorted(units.items(), key=lambda item: len(item[1].code.dependencies)):
            old = before.units.get(key)
            if old and old.stamp == unit.stamp and (old.plugins or not old.left_out):
                held[key] = old
                continue
            old = old or replace(unit, code=Code())
            reason = _obstacle(unit, old, stale)
            new = _failed(unit, reason) if reason else self._replaced(key, unit, old, in_use)
            held[key] = new
            if self._loaded.imported.get(key) != unit.code.digest:
                stale.add(key)
            if new.left_out and old.plugins:
                held[key] = old
                self.kept.append(_kept(new))
        for named in self.registry.values():
            named.clear()  # and filled again in the order of `allow`, whichever was imported last
        for key in units:
            self._hold(key, held[key])

    def _replaced(self, key: str, unit: _Unit, old: _Unit, in_use: frozenset[str]) -> _Unit:
        """A unit imported afresh; when it fails, all is as it was before."""
        changed = (
            roots
            for name, (digest, roots) in unit.code.dependencies.items()
            if self._loaded.imported.get(name, digest) != digest
        )
        self._swaps.append(Swap((old.code.roots - in_use).union(unit.code.roots, *changed)))
        self._unregister(old.plugins)
        new = self._taken(unit)
        if old.plugins and (fixed := _needs_restart(new)) and not new.left_out:
            self._unregister(new.plugins)
            new = _failed(unit, fixed)
        if new.left_out and (old.plugins or not new.plugins):
            self._unregister(new.plugins)
            self._swaps.pop().undo()
            self._register(old.plugins)
        else:
            self.changed += (unit.name,)
            self._note_import(key, unit)
        return new

    def _note_import(self, key: str, unit: _Unit) -> None:
        self._loaded.imported |= {name: digest for name, (digest, _) in unit.code.dependencies.items()}
        self._loaded.imported[key] = unit.code.digest

    def _taken(self, unit: _Unit) -> _Unit:
        """A unit with what its entry points bring; each of them is registered as a whole, or left out."""
        if unit.code.trouble:
            return _failed(unit, unit.code.trouble)
        plugins: list[Registered] = []
        all_left_out = []
        for entry_point in unit.entries:
            brought, left_out = self._add(entry_point.name, entry_point, unit)
            self._register(brought)
            plugins += brought
            all_left_out += [left_out] if left_out else []
        return replace(unit, plugins=tuple(plugins), left_out=tuple(all_left_out))

    def _hold(self, key: str, unit: _Unit) -> None:
        self._loaded.units[key] = unit
        self._note(unit.plugins, *unit.left_out)

    def _note(self, plugins: Iterable[Registered], *all_left_out: _LeftOut | None) -> None:
        self._register(plugins)
        for left_out in all_left_out:
            if left_out:
                self.failures.append(left_out.error)
                self._left_out.update(dict.fromkeys(left_out.names, left_out.error))

    def _register(self, plugins: Iterable[Registered]) -> None:
        for plugin in plugins:
            self.registry[plugin.kind][plugin.name] = plugin

    def _unregister(self, plugins: Iterable[Registered]) -> None:
        for plugin in plugins:
            self.registry[plugin.kind].pop(plugin.name, None)

    def _add(self, entry: str, module: Any, unit: _Unit | None = None) -> tuple[list[Registered], _LeftOut | None]:
        """What one module or entry point brings: all of it, or nothing and the reason."""
        brought: list[tuple[str, str, type[Plugin]]] = []
        distribution, version = (unit.distribution, unit.version) if unit else ("", "")
        try:
            if unit is None:
                logs.add_plugin_packages([module.__name__.partition(".")[0]])
            folder = ""
            if isinstance(module, EntryPoint):
                folder = module.group if module.group != GROUP else ""
                module = module.load()
            if folder and not lies_in(folder, module.__spec__):
                reasons = [f"{module.__spec__.origin} is of that name too: rename one"]
            elif folder and not has_hooks(module):
                return [], None
            else:
                reasons = check_module(module) or self._call_hooks(entry, module, brought)
            digest = unit.code.digest if unit else module_digest(module)
        except (Exception, SystemExit) as error:  # a module may raise anything, or even exit, while it is imported
            reasons, digest = [reason_and_place(error)], ""
        if reasons:
            failure = PluginError(entry, "; ".join(reasons), distribution)
            return [], _LeftOut(failure, tuple((kind, name) for kind, name, _ in brought))
        return [Registered(kind, name, cls, distribution, version, digest) for kind, name, cls in brought], None

    def _call_hooks(self, entry: str, module: Any, brought: list[tuple[str, str, type[Plugin]]]) -> list[str]:
        """Let a module register what it has; return what is wrong with it."""
        manager = pluggy.PluginManager("torghut")
        manager.add_hookspecs(hookspecs)
        manager.register(module, entry)
        manager.check_pending()
        reasons: list[str] = []

        def register(kind: str, name: str, cls: type[Plugin]) -> None:
            # What is wrong is noted and not raised: the module's own `except` would hide it.
            reasons.extend(f"{kind} {name!r}: {reason}" for reason in self._check(kind, name, cls, brought))
            brought.append((kind, name, cls))

        for kind, hook in KINDS.items():
            getattr(manager.hook, hook)(register=partial(register, kind))
        return reasons

    def _check(self, kind: str, name: Any, cls: Any, brought: list[tuple[str, str, type[Plugin]]]) -> list[str]:
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            return ["the name has to be of a-z, 0-9 and . _ -, at most 63"]
        if (taken := self.registry[kind].get(name)) is not None:
            return [f"{taken.distribution or 'another module'} has a {kind} of that name"]
        if any((kind, name) == (other_kind, other) for other_kind, other, _ in brought):
            return ["it is registered twice"]
        return check_class(kind, cls)


def _obstacle(unit: _Unit, old: _Unit, stale: set[str]) -> str:
    """Why a changed unit is not even imported, "" when it may be."""
    code = unit.code
    if code.trouble:
        return code.trouble
    if fixed := _needs_restart(old):
        return fixed
    compiled = code.compiled or old.code.compiled
    if compiled and (old.plugins or any(root in sys.modules for root in code.roots)):
        return f"restart required: it has the compiled extension {compiled}"
    if missing := sorted(stale & code.dependencies.keys()):
        return f"{missing[0]}, which it depends on, could not be taken"
    return ""


def _needs_restart(unit: _Unit) -> str:
    fixed = next((plugin for plugin in unit.plugins if plugin.kind in _NEEDS_RESTART), None)
    return f"restart required: it has the {fixed.kind} {fixed.name!r}" if fixed else ""


def _failed(unit: _Unit, reason: str) -> _Unit:
    return replace(unit, left_out=(_LeftOut(PluginError(unit.name, reason, unit.distribution), ()),))


def _kept(new: _Unit) -> PluginError:
    errors = [left_out.error for left_out in new.left_out]
    is_plain = len(new.entries) == 1 and new.distribution
    reasons = (
        error.reason if is_plain or error.plugin == new.name else f"{error.plugin}: {error.reason}" for error in errors
    )
    return PluginError(new.name, f"{'; '.join(reasons)}; the old code goes on", new.distribution)


def _origin(entry_point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution, "" where its metadata does not say."""
    if entry_point.dist is None:
        return "", ""
    head = read_head(entry_point.dist)
    return head["Name"] or "", head["Version"] or ""


def _allows(rule: tuple[str, SpecifierSet], name: str, version: str) -> bool:
    pattern, versions = rule
    return fnmatchcase(canonicalize_name(name), pattern) and _is_in(versions, version)


def _is_in(versions: SpecifierSet, version: str) -> bool:
    try:
        return not len(versions) or versions.contains(version, prereleases=True)
    except InvalidVersion:  # of releases of packaging that do not answer False themselves
        return False
