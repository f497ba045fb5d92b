"""Finds plugins, checks them, and keeps what may be used.

A plugin that is wrong in any way is left out with its reason, and the others load: what strangers' code raises becomes
a value here (`PluginHost.failures`) or a `PluginError`. Each entry point gets a plugin manager of its own, because one
manager stops at the first hook that raises and drops what the others brought.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Self

import pluggy
import pydantic
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from torghut_core import hookspecs
from torghut_core.catalog import DEFAULT_ALLOW, NAME_PATTERN, allow_rule, did_you_mean
from torghut_core.errors import PluginError, Problem
from torghut_core.model.market import SIGNAL_COLUMNS
from torghut_core.ports import (
    API_VERSION,
    Advisor,
    Broker,
    Capabilities,
    Observer,
    Plugin,
    RiskRule,
    Source,
    Strategy,
)

GROUP = "torghut"
"""Entry-point group in which packages name their plugin modules."""

KINDS = {
    "strategy": "register_strategies",
    "risk rule": "register_risk_rules",
    "broker": "register_brokers",
    "source": "register_sources",
    "stage": "register_stages",
    "advisor": "register_advisors",
    "observer": "register_observers",
}
"""Every kind of plugin, and the hook that brings it."""

_BASES: dict[str, type[Plugin]] = {
    "strategy": Strategy,
    "risk rule": RiskRule,
    "broker": Broker,
    "source": Source,
    "advisor": Advisor,
    "observer": Observer,
}


def _base(kind: str) -> type[Plugin]:
    if kind == "stage":
        from torghut_core.stages.base import Stage  # it brings the compiler, and only who has stages waits for that

        return Stage
    return _BASES[kind]


@dataclass(frozen=True, slots=True)
class Registered:
    """A plugin that may be used.

    `distribution` and `version` are of the package that it came from, "" for a module that was given directly;
    `code_digest` is the sha256 of that package's sources.
    """

    kind: str
    name: str
    cls: type[Plugin]
    distribution: str
    version: str
    code_digest: str

    def parameters(self, values: Mapping[str, Any]) -> pydantic.BaseModel:
        """The plugin's `Params` with these values.

        Raises
        ------
        pydantic.ValidationError : values that the plugin does not take.
        PluginError : the plugin's own checks broke.
        """
        try:
            return self.cls.Params.model_validate(values)
        except pydantic.ValidationError:
            raise
        except Exception as error:  # validators are the plugin's code and may raise anything
            raise PluginError(self.name, _reason(error), self.distribution) from error

    def plain(self, params: pydantic.BaseModel) -> Mapping[str, Any]:
        """These parameters, with their defaults, as JSON values.

        Raises
        ------
        PluginError : the plugin's own serializers broke.
        """
        try:
            return MappingProxyType(params.model_dump(mode="json"))
        except Exception as error:  # serializers are the plugin's code and may raise anything
            raise PluginError(self.name, _reason(error), self.distribution) from error

    def create(self, params: pydantic.BaseModel) -> Any:
        """An instance with these parameters.

        Raises
        ------
        PluginError : the constructor raised; a `ValueError` is its word on the parameters.
        """
        try:
            return self.cls(params)
        except ValueError as error:
            raise PluginError(self.name, str(error), self.distribution) from error
        except Exception as error:  # constructors are the plugin's code and may raise anything
            raise PluginError(self.name, _reason(error), self.distribution) from error


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
    """

    def __init__(self, modules: Iterable[tuple[str, Any]] = ()) -> None:
        self.registry: dict[str, dict[str, Registered]] = {kind: {} for kind in KINDS}
        self.failures: list[PluginError] = []
        self.refused: list[tuple[str, str]] = []
        self._left_out: dict[tuple[str, str], PluginError] = {}
        for name, module in modules:
            self._add(name, module)

    @classmethod
    def load(cls, allow: Iterable[str] = DEFAULT_ALLOW, extra: Iterable[tuple[str, Any]] = ()) -> Self:
        """The installed plugins whose distribution is allowed, and the modules in `extra`.

        No module of another distribution is imported. Where two bring the same plugin, the distribution that `allow`
        names first keeps it.

        Parameters
        ----------
        allow : rules as in the catalog's ``plugins.allow``: ``torghut-*``, ``acme-alpha>=1.2,<2``.
        """
        host = cls()
        rules = [allow_rule(rule) for rule in allow]
        found = []
        for entry_point in entry_points(group=GROUP):
            name, version = _origin(entry_point)
            rank = next((rank for rank, rule in enumerate(rules) if _allows(rule, name, version)), None)
            if rank is not None:
                found.append((rank, name, entry_point.name, version, entry_point))
            elif (name, version) not in host.refused:
                host.refused.append((name, version))
        for _, name, entry, version, entry_point in sorted(found, key=lambda row: row[:3]):
            host._add(entry, entry_point, name, version)
        for name, module in extra:
            host._add(name, module)
        return host

    def plugins(self) -> list[Registered]:
        """All that may be used, by kind and name."""
        return [named[name] for named in self.registry.values() for name in sorted(named)]

    def params(self) -> dict[str, dict[str, type[pydantic.BaseModel]]]:
        """Models of the parameters, by kind and name: what `catalog.json_schema` takes."""
        return {
            kind: {name: plugin.cls.Params for name, plugin in named.items()} for kind, named in self.registry.items()
        }

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

    def _add(self, entry: str, module: Any, distribution: str = "", version: str = "") -> None:
        """Take in what one entry point brings: all of it, or nothing and a failure."""
        brought: list[tuple[str, str, type[Plugin]]] = []
        try:
            if isinstance(module, EntryPoint):
                module = module.load()
            reasons = _check_module(module)
            if not reasons:
                reasons = self._call_hooks(entry, module, brought)
            digest = _code_digest(module)
        except (Exception, SystemExit) as error:  # a module may raise anything, or even exit, while it is imported
            reasons, digest = [_reason(error)], ""
        if reasons:
            failure = PluginError(entry, "; ".join(reasons), distribution)
            self.failures.append(failure)
            self._left_out.update({(kind, name): failure for kind, name, _ in brought})
            return
        for kind, name, cls in brought:
            self.registry[kind][name] = Registered(kind, name, cls, distribution, version, digest)

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
        return _check_class(kind, cls)


def _origin(entry_point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution, "" where its metadata does not say."""
    distribution = entry_point.dist
    return (distribution.name or "", distribution.version or "") if distribution else ("", "")


def _allows(rule: tuple[str, SpecifierSet], name: str, version: str) -> bool:
    pattern, versions = rule
    return fnmatchcase(canonicalize_name(name), pattern) and _is_in(versions, version)


def _is_in(versions: SpecifierSet, version: str) -> bool:
    try:
        return not len(versions) or versions.contains(version, prereleases=True)
    except InvalidVersion:  # of releases of packaging that do not answer False themselves
        return False


def _check_module(module: Any) -> list[str]:
    """What is wrong with a module before any of its hooks is called."""
    api = getattr(module, "torghut_api", API_VERSION)
    if not isinstance(api, int) or api > API_VERSION:
        return [
            f"it is written for version {api!r} of the plugin API, and this torghut has {API_VERSION}: upgrade torghut"
        ]
    reader = pluggy.PluginManager("torghut")
    hooks = set(KINDS.values())
    reasons = []
    marked = set()
    for name in dir(module):
        options = reader.parse_hookimpl_opts(module, name)
        if options is None:
            if name in hooks:
                reasons.append(f"{name} lacks its @hookimpl")
            continue
        marked.add(name)
        parameters = inspect.signature(getattr(module, name)).parameters.values()
        arguments = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
        if name not in hooks and not options["optionalhook"]:
            reasons.append(f"there is no hook {name} ({did_you_mean(name, sorted(hooks))})")
        elif name in hooks and arguments != ["register"]:
            reasons.append(f"{name} takes ({', '.join(arguments)}), and has to take (register)")
    if not marked and not reasons:
        reasons.append("it has no hook: mark a function such as register_strategies(register) with @hookimpl")
    return reasons


def _check_class(kind: str, cls: Any) -> list[str]:
    """What is wrong with a plugin class."""
    base = _base(kind)
    if not isinstance(cls, type) or not issubclass(cls, base):
        return [f"{getattr(cls, '__name__', cls)!s:.60} is not a subclass of {base.__name__}"]
    reasons = []
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        reasons.append(f"{cls.__name__} leaves out {', '.join(missing)}")
    if not _is_names(cls.state):
        reasons.append("`state` has to be a tuple of attribute names")
    if not _is_names(getattr(cls, "columns", ())):
        reasons.append("`columns` has to be a tuple of names")
    elif issubclass(cls, Strategy):
        unknown = [column for column in cls.columns if column not in SIGNAL_COLUMNS]
        reasons += [f"there is no column {column!r} ({did_you_mean(column, SIGNAL_COLUMNS)})" for column in unknown]
        if len(set(cls.columns)) < len(cls.columns):
            reasons.append("`columns` names one twice")
    if issubclass(cls, Broker) and not isinstance(getattr(cls, "capabilities", None), Capabilities):
        reasons.append("`capabilities` has to say what the broker can do")
    return reasons + _check_params(cls.Params)


def _is_names(names: Any) -> bool:
    return isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)


def _check_params(params: Any) -> list[str]:
    if not isinstance(params, type) or not issubclass(params, pydantic.BaseModel):
        return ["`Params` has to be a pydantic model"]
    if params.model_config.get("extra") != "forbid":
        return ["`Params` would take unknown keys in silence: derive it from the Params of its base class"]
    try:
        params.model_json_schema()
        params()
    except pydantic.ValidationError as error:
        # What has no default is for the catalog to give, and so is what only fits together with it.
        return [
            f"`Params`: the default of {details['loc'][0]} will not do: {details['msg']}"
            for details in error.errors(include_url=False)
            if details["loc"] and details["type"] != "missing"
        ]
    except Exception as error:  # a model may be half-defined, without a schema, or raise in its validators
        return [f"`Params`: {_reason(error)}"]
    return []


def _reason(error: BaseException) -> str:
    """What was raised, on one line, and where."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, SyntaxError) or frame.filename == __file__ or "importlib" in frame.filename:
        return text
    return f"{text} ({Path(frame.filename).name}:{frame.lineno})"


def _code_digest(module: ModuleType) -> str:
    """sha256 over names and bytes of the sources of the package that a module is in; "" where it has none."""
    root = sys.modules.get(module.__name__.partition(".")[0], module)
    folders = [Path(folder) for folder in getattr(root, "__path__", ())]
    files = {file.relative_to(folder).as_posix(): file for folder in folders for file in folder.rglob("*.py")}
    file = getattr(root, "__file__", None)
    if file and not folders:
        files = {Path(file).name: Path(file)}
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest() if files else ""
