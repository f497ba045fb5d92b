"""What every plugin has: parameters, and state that is saved and restored."""

from __future__ import annotations

from typing import Any, ClassVar

import pydantic

from torghut_core.environment import Environment

API_VERSION = 1
"""Version of everything in this package and in `hookspecs`; a plugin module may state the one that it was written for as
``torghut_api = 1``."""


class Params(pydantic.BaseModel):
    """Parameters of a plugin: the `params` of its catalog entry, validated. Unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def param(default: Any = ..., *, help: str, setting: tuple[type[Environment], str] | None = None, **bounds: Any) -> Any:
    """A parameter with its default, its unit and meaning in one line, and bounds (`ge`, `gt`, `le`, `lt`, ...).

    Without a default the catalog has to set it. The default is validated too, so a decimal may be written as text.
    `setting` names the setting that gives the default: a class of settings, and the field of it.

    Examples
    --------
    >>> class Wait(Params):
    ...     seconds: int = param(60, ge=0, help="pause after an entry, seconds")
    >>> Wait().seconds
    60
    """
    if setting is None:
        return pydantic.Field(default, description=help, validate_default=True, **bounds)
    of, name = setting
    return pydantic.Field(
        default_factory=lambda: getattr(of.read(), name),
        description=f"{help}; default: {name.upper()}",
        json_schema_extra={"default": of.model_fields[name].default},
        validate_default=True,
        **bounds,
    )


class Plugin:
    """The base of strategies, rules, brokers, sources, sinks, stages, advisors and observers.

    `Params` is the pydantic model of the plugin's parameters. `state` names the attributes that are saved and restored
    over reloads and restarts; they hold plain values (numbers, text, lists, dicts, arrays).
    """

    class Params(Params):
        """None, until a plugin defines its own: ``class Params(Strategy.Params)``."""

    settings: ClassVar[tuple[type[Environment], ...]] = ()
    """The settings that it reads from the environment; one that no plugin and no part of the kernel has is refused."""

    state: ClassVar[tuple[str, ...]] = ()
    state_version: ClassVar[int] = 1

    def __init__(self, params: Any) -> None:
        self.params = params

    def save_state(self) -> dict[str, Any]:
        """The state from which `load_state` lets a new instance resume."""
        return {name: getattr(self, name) for name in self.state}

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """Restore what `save_state` of an instance with `state_version` `version` returned.

        Raises
        ------
        ValueError : a version that this class cannot read.
        """
        if version != self.state_version:
            raise ValueError(f"{type(self).__name__} reads state version {self.state_version}, not {version}")
        for name in self.state:
            setattr(self, name, state[name])
