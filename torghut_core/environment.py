"""Settings of the kernel and of plugins, from environment variables, and the secrets among them.

Every setting is one environment variable of the same name. A secret may also come from a file that ``NAME_FILE``
names; secrets are never shown, logged or stored.
"""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Any, Self

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from torghut_core.errors import SettingsError, hide
from torghut_core.files import read_file

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


_LARGEST_SECRET = 1 << 20


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads ``NAME_FILE`` for every secret."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE")
        if path is None or not is_secret(field.annotation):
            return None, field_name, False
        return _secret_in(path, field_name.upper()), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


class Environment(BaseSettings):
    """Settings from environment variables of the same names; a plugin states its own in a subclass.

    A field that is a `SecretStr` may also come from a file that ``NAME_FILE`` names.

    Examples
    --------
    >>> class Sea(Environment):
    ...     sea_depth_m: int = 11000
    >>> Sea.read().sea_depth_m
    11000
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True, env_ignore_empty=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:  # it would show what was given, secrets too
            problems = error.errors(include_input=False, include_url=False)
            raise SettingsError("\n".join(self._explain(problem) for problem in problems)) from None

    @classmethod
    def read(cls) -> Self:
        """Read the settings from this process's environment.

        Raises
        ------
        SettingsError : a variable does not parse; the message names it, says what is allowed, and never shows a secret.
        """
        settings = cls()
        for name in cls.model_fields:
            value = getattr(settings, name)
            if isinstance(value, SecretStr):
                for part in _parts(value.get_secret_value()):
                    hide(part)
        return settings

    def asks_for(self, secret: str) -> bool:
        """Whether a plugin with these settings needs this one of its `secrets`; yes, unless a subclass says otherwise."""
        del secret
        return True

    @classmethod
    def _explain(cls, problem: ErrorDetails) -> str:
        """What is wrong, with the setting's name and meaning; a validator of several settings gives the whole text."""
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            return message
        name = str(problem["loc"][0])
        meaning = cls.model_fields[name].description
        return f"{name.upper()}: {message}{f' ({meaning})' if meaning else ''}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes all five
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - see above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then secret files."""
        return init_settings, env_settings, _SecretFiles(settings_cls)


def is_secret(annotation: object) -> bool:
    """Whether a field of this type is a secret, which may come from a file."""
    return annotation in (SecretStr, SecretStr | None)


def secret(name: str) -> SecretStr:
    """Read a secret that is not a setting of the kernel, such as a broker's key, by the name of its variable.

    Raises
    ------
    SettingsError : neither the variable nor ``NAME_FILE`` is set, or the file cannot be read.
    """
    path = os.environ.get(f"{name}_FILE")
    value = os.environ.get(name) or (_secret_in(path, name) if path else "")
    if not value:
        raise SettingsError(f"{name} is not set (set it, or {name}_FILE to a file that holds it)")
    hide(value)
    return SecretStr(value)


def login() -> str:
    """Name the user whom this process belongs to; a container's user often has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def _secret_in(path: str, name: str) -> str:
    """The content of the file that ``NAME_FILE`` names, without the line's end."""
    try:
        return read_file(path, _LARGEST_SECRET).decode().rstrip("\r\n")
    except OSError as error:
        what = error.strerror
    except UnicodeDecodeError:
        what = "it is not UTF-8"
    raise SettingsError(f"{name}_FILE: {what} ({path}): mount the secret there or unset {name}_FILE")


def _parts(secret: str) -> list[str]:
    """The secret parts of a secret setting: the tokens of ``ADMIN_TOKENS``, the password of a DSN, or all of it."""
    if "://" in secret:
        user = secret.partition("://")[2].rpartition("@")[0]
        return [user.partition(":")[2]]
    return [part.rpartition(":")[2] for part in secret.replace(",", " ").split()]
