"""Loads plugins, checks them, and keeps those that may be used.

A plugin that is wrong in any way is left out with its reason, and the others load: what third-party code raises becomes
a value here (`PluginHost.failures`) or a `PluginError`. Each entry point gets a plugin manager of its own, because one
manager stops at the first hook that raises and drops what the other hooks registered.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Self

import pluggy
import pydantic
from packaging.specifiers import SpecifierSet

from torghut_core import hookspecs
from torghut_core.boundary import from_plugins, new_context, reason_and_place
from torghut_core.catalog import DEFAULT_ALLOW, NAME_PATTERN, did_you_mean
from torghut_core.errors import PluginError, Problem
from torghut_core.hookspecs import KINDS
from torghut_core.plugin_host.checks import check_class, check_module, has_hooks
from torghut_core.plugin_host.code import GROUP, Code, Disk, Sources, lies_in, module_digest, path_stamp
from torghut_core.plugin_host.fresh_import import Swap
from torghut_core.plugin_host.process_state import restoring
from torghut_core.plugin_host.registered import Registered
from torghut_core.plugin_host.units import LeftOut, Unit, find_units, is_version_in
from torghut_core.ports import Plugin
from torghut_core.telemetry import logs


@dataclass(slots=True)
class _Loaded:
    """What a host hands over to the one that is loaded after it.

    Attributes
    ----------
    sources : the files on disk, as `Disk.sources`.
    seen : everything that the result of loading depends on.
    units : by key, in the order in which they may take a name.
    imported : digest of the imported modules by distribution or folder.
    is_settled : whether loading the same again would change nothing.
    """

    sources: Mapping[str, Sources] = field(default_factory=dict)
    seen: Any = None
    units: dict[str, Unit] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    is_settled: bool = True


class PluginHost:
    """The plugins that may be used, by kind and name.

    Parameters
    ----------
    modules : plugin modules by name, given directly. `load` finds the installed ones.

    Attributes
    ----------
    registry : kind (see `KINDS`) -> name -> plugin; first those of the distribution that is allowed first.
    failures : one error for each entry point that was left out, with its reason.
    refused : distributions (name, version) that have plugins and are not allowed.
    changed : distributions and plugin folders that were imported afresh, because their code has changed.
    kept : one error for each distribution or folder whose old code stays in use, with the reason.
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
        self._add_modules(modules)

    @classmethod
    def load(
        cls,
        allow: Iterable[str] = DEFAULT_ALLOW,
        extra: Iterable[tuple[str, Any]] = (),
        *,
        folders: Sequence[Path] = (),
        previous: PluginHost | None = None,
    ) -> Self:
        """Load the plugins of allowed distributions, those in the plugin folders, and the modules in `extra`.

        No module of another distribution is imported. Where two register the same plugin, the distribution that `allow`
        names first keeps the name.

        With `previous`, what has not changed on disk is reused, and what has is imported afresh: all modules of a
        distribution or folder, of the changed distributions that it depends on, and of those that depend on it. One that
        fails in any way keeps its old plugins and is in `kept`. So does one that would need a restart: with compiled
        extensions, or with sources, sinks, stages or brokers, which stay open from one generation to the next. What
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
        run then, gets those. Plugins import at the top of their modules.
        """
        host = cls()
        earlier = previous._loaded if previous else _Loaded()  # noqa: SLF001  hosts are of one class
        folders = [Path(folder).absolute() for folder in folders]
        if previous or folders:
            importlib.invalidate_caches()
        disk = Disk(earlier.sources)
        units, host.refused = find_units(disk, allow, folders)
        logs.add_plugin_packages(root for unit in units.values() for root in unit.code.roots)
        host._loaded = _Loaded(disk.sources, ({key: unit.stamp for key, unit in units.items()}, path_stamp()))
        if previous is None:
            host._import_all(units)
        elif earlier.seen == host._loaded.seen and earlier.is_settled:
            host._reuse_all(units, previous)
        else:
            host._import_changed(units, earlier)
        host._add_modules(extra, previous)
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
        """Names of the plugins of a kind whose class is wanted, first those of the distribution that is allowed first."""
        return [name for name, plugin in self.registry[kind].items() if is_wanted(plugin.cls)]

    def resolve(self, kind: str, use: str, version: str | None = None) -> Registered | Problem:
        """The plugin that a catalog entry names, or what is wrong with the entry (the caller adds the place)."""
        found = self.registry[kind].get(use)
        if found is None:
            return Problem("", 0, 0, "", f"no {kind} is called {use!r}", self._hint(kind, use))
        if version is not None and not is_version_in(SpecifierSet(version), found.version):
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

    # Loading.

    def _import_all(self, units: Mapping[str, Unit]) -> None:
        for key, unit in units.items():
            self._keep(key, self._import(unit))
            self._record_import(key, unit)

    def _reuse_all(self, units: Iterable[str], previous: PluginHost) -> None:
        earlier = previous._loaded
        for key in units:
            self._keep(key, earlier.units[key])
        self._loaded.imported, self.kept = earlier.imported, list(previous.kept)

    def _import_changed(self, units: Mapping[str, Unit], earlier: _Loaded) -> None:
        """Reuse what is the same as before and import what is not; all or nothing where something unexpected is raised."""
        try:
            current = self._changed_and_unchanged(units, earlier)
        except BaseException:
            while self._swaps:
                self._swaps.pop().undo()
            raise
        for named in self.registry.values():
            named.clear()  # and filled again in the order of `allow`, whichever was imported last
        for key in units:
            self._keep(key, current[key])
        self._loaded.is_settled = not self._swaps
        self._swaps.clear()

    def _changed_and_unchanged(self, units: Mapping[str, Unit], earlier: _Loaded) -> dict[str, Unit]:
        """The units to keep: reused, imported afresh, or the old one where the new one fails."""
        self._loaded.imported = dict(earlier.imported)
        in_use = frozenset(root for unit in units.values() for root in unit.code.every_root)
        for key, loaded in earlier.units.items():
            if key in units:
                self._register(loaded.plugins)  # all keep their names until they are replaced
            elif not loaded.code.compiled:
                self._swaps.append(Swap(loaded.code.roots - in_use))
        current: dict[str, Unit] = {}
        stale: set[str] = set()
        # What others depend on goes first: it depends on less itself.
        for key, unit in sorted(units.items(), key=lambda item: len(item[1].code.dependencies)):
            old = earlier.units.get(key)
            if old and old.stamp == unit.stamp and (old.plugins or not old.left_out):
                current[key] = old
                continue
            old = old or replace(unit, code=Code())
            reason = unit.obstacle(old, stale)
            new = unit.failed(reason) if reason else self._import_afresh(key, unit, old, in_use)
            current[key] = new
            if self._loaded.imported.get(key) != unit.code.digest:
                stale.add(key)
            if new.left_out and old.plugins:
                current[key] = old
                self.kept.append(new.kept_error())
        return current

    def _import_afresh(self, key: str, unit: Unit, old: Unit, in_use: frozenset[str]) -> Unit:
        """Import a changed unit in place of the old one; if that fails, everything is as it was before."""
        changed = (
            roots
            for name, (digest, roots) in unit.code.dependencies.items()
            if self._loaded.imported.get(name, digest) != digest
        )
        self._swaps.append(Swap((old.code.roots - in_use).union(unit.code.roots, *changed)))
        self._unregister(old.plugins)
        new = self._import(unit)
        if old.plugins and new.restart_reason and not new.left_out:
            self._unregister(new.plugins)
            new = unit.failed(new.restart_reason)
        if new.left_out and (old.plugins or not new.plugins):
            self._unregister(new.plugins)
            self._swaps.pop().undo()
            self._register(old.plugins)
        else:
            self.changed += (unit.name,)
            self._record_import(key, unit)
        return new

    def _record_import(self, key: str, unit: Unit) -> None:
        self._loaded.imported |= {name: digest for name, (digest, _) in unit.code.dependencies.items()}
        self._loaded.imported[key] = unit.code.digest

    def _import(self, unit: Unit) -> Unit:
        """The unit with the plugins of its entry points; each entry point is registered as a whole, or left out."""
        if unit.code.trouble:
            return unit.failed(unit.code.trouble)
        all_plugins: list[Registered] = []
        all_left_out = []
        for entry_point in unit.entries:
            with restoring(entry_point.name):
                plugins, left_out = new_context().run(self._plugins_of, entry_point.name, entry_point, unit)
            self._register(plugins)
            all_plugins += plugins
            all_left_out += [left_out] if left_out else []
        return replace(unit, plugins=tuple(all_plugins), left_out=tuple(all_left_out))

    def _keep(self, key: str, unit: Unit) -> None:
        self._loaded.units[key] = unit
        self._register(unit.plugins)
        self._record_left_out(unit.left_out)

    def _add_modules(self, modules: Iterable[tuple[str, Any]], previous: PluginHost | None = None) -> None:
        """Register modules that are given directly; a plugin that `previous` has too stays the same object."""
        known = {plugin: plugin for plugin in previous.plugins()} if previous else {}
        for name, module in modules:
            with restoring(name):
                plugins, left_out = new_context().run(self._plugins_of, name, module)
            self._register(known.get(plugin, plugin) for plugin in plugins)
            self._record_left_out([left_out] if left_out else [])

    def _record_left_out(self, all_left_out: Iterable[LeftOut]) -> None:
        for left_out in all_left_out:
            self.failures.append(left_out.error)
            self._left_out.update(dict.fromkeys(left_out.plugins, left_out.error))

    def _register(self, plugins: Iterable[Registered]) -> None:
        for plugin in plugins:
            self.registry[plugin.kind][plugin.name] = plugin

    def _unregister(self, plugins: Iterable[Registered]) -> None:
        for plugin in plugins:
            self.registry[plugin.kind].pop(plugin.name, None)

    def _plugins_of(self, entry: str, module: Any, unit: Unit | None = None) -> tuple[list[Registered], LeftOut | None]:
        """The plugins of one module or entry point: all of them, or none and the reason."""
        found: list[tuple[str, str, type[Plugin]]] = []
        distribution, version = (unit.distribution, unit.version) if unit else ("", "")
        try:
            if unit is None:
                logs.add_plugin_packages([module.__name__.partition(".")[0]])
            folder = ""
            if isinstance(module, EntryPoint):
                folder = module.group if module.group != GROUP else ""
                module = module.load()
            if folder and not lies_in(folder, module.__spec__):
                reasons = [f"{module.__spec__.origin} has the same name: rename one"]
            elif folder and not has_hooks(module):
                return [], None
            else:
                reasons = check_module(module) or self._call_hooks(entry, module, found)
            digest = unit.code.digest if unit else module_digest(module)
        except from_plugins() as error:  # a module may raise anything, or even exit, while it is imported
            reasons, digest = [reason_and_place(error)], ""
        if reasons:
            failure = PluginError(entry, "; ".join(reasons), distribution)
            return [], LeftOut(failure, tuple((kind, name) for kind, name, _ in found))
        return [Registered(kind, name, cls, distribution, version, digest) for kind, name, cls in found], None

    def _call_hooks(self, entry: str, module: Any, found: list[tuple[str, str, type[Plugin]]]) -> list[str]:
        """Let a module register its plugins, into `found`; return what is wrong with them."""
        manager = pluggy.PluginManager("torghut")
        manager.add_hookspecs(hookspecs)
        manager.register(module, entry)
        manager.check_pending()
        reasons: list[str] = []

        def register(kind: str, name: str, cls: type[Plugin]) -> None:
            # What is wrong is collected and not raised: the module's own `except` would hide it.
            reasons.extend(f"{kind} {name!r}: {reason}" for reason in self._check(kind, name, cls, found))
            found.append((kind, name, cls))

        for kind, hook in KINDS.items():
            getattr(manager.hook, hook)(register=partial(register, kind))
        return reasons

    def _check(self, kind: str, name: Any, cls: Any, found: list[tuple[str, str, type[Plugin]]]) -> list[str]:
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            return ["the name must be of a-z, 0-9 and . _ -, at most 63 characters"]
        if (taken := self.registry[kind].get(name)) is not None:
            return [f"{taken.distribution or 'another module'} has a {kind} of that name"]
        if any((kind, name) == (other_kind, other) for other_kind, other, _ in found):
            return ["it is registered twice"]
        return check_class(kind, cls)
