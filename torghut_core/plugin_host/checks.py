"""What is wrong with a plugin module or class, found before any of it is used."""

from __future__ import annotations

import inspect
from typing import Any

import pluggy
import pydantic

from torghut_core.boundary import from_plugins, reason_and_place
from torghut_core.catalog import did_you_mean
from torghut_core.hookspecs import KINDS
from torghut_core.model.market import SIGNAL_COLUMNS
from torghut_core.model.trading import LIMITS
from torghut_core.ports import (
    API_VERSION,
    STARTERS,
    Advisor,
    Broker,
    Capabilities,
    Indicator,
    Observer,
    Plugin,
    RiskRule,
    Sink,
    Source,
    Strategy,
)

_BASES: dict[str, type[Plugin]] = {
    "strategy": Strategy,
    "indicator": Indicator,
    "risk rule": RiskRule,
    "broker": Broker,
    "source": Source,
    "sink": Sink,
    "advisor": Advisor,
    "observer": Observer,
}


def _base(kind: str) -> type[Plugin]:
    if kind == "stage":
        from torghut_core.stages.base import Stage  # its compiler is slow to import: not all processes need it

        return Stage
    return _BASES[kind]


def check_module(module: Any) -> list[str]:
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
                reasons.append(f"{name} has no @hookimpl")
            continue
        marked.add(name)
        parameters = inspect.signature(getattr(module, name)).parameters.values()
        arguments = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
        if name not in hooks and not options["optionalhook"]:
            reasons.append(f"there is no hook {name} ({did_you_mean(name, sorted(hooks))})")
        elif name in hooks and arguments != ["register"]:
            reasons.append(f"{name} takes ({', '.join(arguments)}), and must take (register)")
    if not marked and not reasons:
        reasons.append("it has no hook: mark a function such as register_strategies(register) with @hookimpl")
    return reasons


def has_hooks(module: Any) -> bool:
    """Whether a module of a plugin folder is meant as a plugin module, even a wrong one."""
    reader = pluggy.PluginManager("torghut")
    return any(name in KINDS.values() or reader.parse_hookimpl_opts(module, name) is not None for name in dir(module))


def check_class(kind: str, cls: Any) -> list[str]:
    """What is wrong with a plugin class."""
    base = _base(kind)
    if not isinstance(cls, type) or not issubclass(cls, base):
        return [f"{getattr(cls, '__name__', cls)!s:.60} is not a subclass of {base.__name__}"]
    reasons = []
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        reasons.append(f"{cls.__name__} does not implement {', '.join(missing)}")
    if not _is_names(cls.state):
        reasons.append("`state` must be a tuple of attribute names")
    if not _is_names(getattr(cls, "columns", ())):
        reasons.append("`columns` must be a tuple of names")
    elif issubclass(cls, Strategy):
        if not any(map(cls.handles, STARTERS)):
            reasons.append(f"{cls.__name__} does not implement {' or '.join(STARTERS)}")
        unknown = [column for column in cls.columns if column not in SIGNAL_COLUMNS]
        reasons += [f"there is no column {column!r} ({did_you_mean(column, SIGNAL_COLUMNS)})" for column in unknown]
        if len(set(cls.columns)) < len(cls.columns):
            reasons.append("`columns` has a name twice")
    if issubclass(cls, Broker) and not isinstance(getattr(cls, "capabilities", None), Capabilities):
        reasons.append("`capabilities` must be a `Capabilities`: what the broker can do")
    if issubclass(cls, Indicator):
        reasons += [
            f"`{name}` must be a tuple of names"
            for name in ("inputs", "outputs")
            if not _is_names(getattr(cls, name)) or not getattr(cls, name)
        ]
        if cls.kernel is None and cls.update is Indicator.update:
            reasons.append(f"{cls.__name__} has neither `update` nor `kernel`")
        if cls.kernel is not None and cls.row is Indicator.row:
            reasons.append(f"{cls.__name__} has a `kernel` and no `row`")
    limit = getattr(cls, "limit", "")
    if issubclass(cls, RiskRule) and limit and limit not in LIMITS:
        reasons.append(f"`limit`: there is no limit {limit!r} ({did_you_mean(str(limit), LIMITS)})")
    return reasons + _check_params(cls.Params)


def _is_names(names: Any) -> bool:
    return isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)


def _check_params(params: Any) -> list[str]:
    if not isinstance(params, type) or not issubclass(params, pydantic.BaseModel):
        return ["`Params` must be a pydantic model"]
    if params.model_config.get("extra") != "forbid":
        return ["`Params` would silently accept unknown keys: derive it from the Params of its base class"]
    try:
        params.model_json_schema()
        params()
    except pydantic.ValidationError as error:
        # A parameter without a default comes from the catalog, and a check of several may need it.
        return [
            f"`Params`: the default of {details['loc'][0]} is not valid: {details['msg']}"
            for details in error.errors(include_url=False)
            if details["loc"] and details["type"] != "missing"
        ]
    except from_plugins() as error:  # a model may be half-defined, without a schema, or raise in its validators
        return [f"`Params`: {reason_and_place(error)}"]
    return []
