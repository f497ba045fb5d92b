"""A registered plugin: its class, where it came from, and its code contained where it may raise anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pydantic
from pydantic_core import InitErrorDetails, PydanticCustomError

from torghut_core.boundary import from_plugins, make_plugin, new_context, reason_and_place
from torghut_core.catalog.marked_yaml import TOO_LONG, is_bounded
from torghut_core.errors import PluginError, text_of
from torghut_core.plugin_host.process_state import restoring
from torghut_core.ports import Plugin


@dataclass(frozen=True, slots=True)
class Registered:
    """A plugin that may be used.

    `distribution` and `version` are of the package that it came from, "" for a module that was given directly or is in a
    plugin folder; `code_digest` is the sha256 of the sources of that package or folder and of those that it depends on.
    """

    kind: str
    name: str
    cls: type[Plugin]
    distribution: str
    version: str
    code_digest: str

    def to_record(self) -> dict[str, str]:
        """What tells it from another plugin, as JSON values."""
        names = ("kind", "name", "distribution", "version", "code_digest")
        return {name: getattr(self, name) for name in names}

    def parameters(self, values: Mapping[str, Any]) -> pydantic.BaseModel:
        """Validate values as the plugin's `Params`.

        Raises
        ------
        pydantic.ValidationError : the plugin does not accept the values.
        PluginError : the plugin's own validators raised something else.
        """
        try:
            params = new_context().run(self.cls.Params.model_validate, values)
            _check_bounded(params)
        except pydantic.ValidationError:
            raise
        except from_plugins() as error:  # validators are the plugin's code and may raise anything
            raise PluginError(self.name, reason_and_place(error), self.distribution) from error
        return params

    def plain(self, params: pydantic.BaseModel) -> Mapping[str, Any]:
        """Parameters with their defaults, as JSON values.

        Raises
        ------
        PluginError : the plugin's own serializers raised.
        """
        try:
            return MappingProxyType(new_context().run(params.model_dump, mode="json"))
        except from_plugins() as error:  # serializers are the plugin's code and may raise anything
            raise PluginError(self.name, reason_and_place(error), self.distribution) from error

    def create(self, params: pydantic.BaseModel) -> Any:
        """Make an instance with these parameters.

        Raises
        ------
        PluginError : the constructor raised; the text of a `ValueError` is shown as it is.
        """
        try:
            with restoring(self.name):
                made = make_plugin(self.cls, params)
        except ValueError as error:
            raise PluginError(self.name, text_of(error), self.distribution) from error
        except from_plugins() as error:  # constructors are the plugin's code and may raise anything
            raise PluginError(self.name, reason_and_place(error), self.distribution) from error
        if type(made) is not self.cls:
            reason = f"its `__new__` gave a {type(made).__name__}, not a {self.cls.__name__}"
            raise PluginError(self.name, reason, self.distribution)
        return made


def _check_bounded(params: pydantic.BaseModel) -> None:
    """Refuse decimals that are not `is_bounded`: as text in the catalog they came past its check of numbers."""
    message, hint = TOO_LONG
    wrong = PydanticCustomError("torghut", "{message} ({hint})", {"message": message, "hint": hint})
    found = [InitErrorDetails(type=wrong, loc=place, input=value) for place, value in _unbounded(params)]
    if found:
        raise pydantic.ValidationError.from_exception_data(type(params).__qualname__, found)


def _unbounded(value: Any, place: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Decimal]]:
    if isinstance(value, Decimal):
        if not is_bounded(value):
            yield place, value
    elif isinstance(value, pydantic.BaseModel | Mapping):
        for key, inner in dict(value).items():
            yield from _unbounded(inner, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _unbounded(inner, (*place, number))
