"""A schema registry, by the REST interface that Confluent's, Karapace and Apicurio have in common."""

from __future__ import annotations

import ssl
from typing import NoReturn, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from pydantic import Field, SecretStr

from torghut_core.environment import Environment
from torghut_core.errors import SettingsError, StateError, without_secrets

LARGEST_ANSWER = 1 << 20
"""Bytes of an answer that are read; a longer one is no schema."""

T = TypeVar("T")

_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class RegistrySettings(Environment):
    """Where the schema registry is."""

    schema_registry_url: str | None = Field(
        default=None, description="the schema registry, http:// or https://; none: messages are JSON"
    )
    schema_registry_user: str = Field(default="", description="user at SCHEMA_REGISTRY_URL")
    schema_registry_password: SecretStr | None = Field(default=None, description="password at SCHEMA_REGISTRY_URL")


class RegistryError(StateError):
    """The registry did not do what it was asked; the message has the fix.

    `error_class` is one of ``unreachable``, ``timeout``, ``auth``, ``not-found``, ``incompatible``, ``invalid-schema``,
    ``server``, ``nonsense``. Worth another try are `is_passing` ones.
    """

    def __init__(self, error_class: str, message: str) -> None:
        self.error_class = error_class
        super().__init__(without_secrets(message))

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later, without anybody fixing something."""
        return self.error_class in ("unreachable", "timeout", "server")


class Registered(msgspec.Struct, frozen=True):
    """A version of a subject: its `schema` is text, `id` is the schema's in messages."""

    id: int
    version: int
    schema: str
    kind: str = msgspec.field(default="AVRO", name="schemaType")


class _Id(msgspec.Struct):
    id: int


class _Schema(msgspec.Struct):
    schema: str
    kind: str = msgspec.field(default="AVRO", name="schemaType")


class _Problem(msgspec.Struct):
    error_code: int = 0
    message: str = ""


class Registry:
    """Asks one registry; every method but `close` may wait for the network.

    Parameters
    ----------
    url : where it is; a path in it is kept.
    user, password : for basic authentication, where `user` is not empty.
    timeout_seconds : most that one step of a request may take.

    Raises
    ------
    SettingsError : `url` is none.
    """

    def __init__(
        self, url: str, user: str = "", password: SecretStr | None = None, *, timeout_seconds: float = 10.0
    ) -> None:
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            parts = httpx.URL("")
        if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo:
            raise SettingsError(
                "SCHEMA_REGISTRY_URL: write http://HOST:PORT or https://HOST:PORT, and user and password into "
                "SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD"
            )
        self.url = url.rstrip("/")
        self._texts: dict[int, str] = {}
        self._client = httpx.Client(
            auth=(user, password.get_secret_value() if password else "") if user else None,
            headers={"Accept": f"{_MEDIA_TYPE}, application/json", "Accept-Encoding": "identity"},
            timeout=timeout_seconds,
            trust_env=False,  # no proxy and no netrc: the password goes where it was meant to go
            verify=ssl.create_default_context() if parts.scheme == "https" else False,
        )

    @classmethod
    def from_environment(cls, url: str | None = None) -> Registry | None:
        """The registry at `url`, else at ``SCHEMA_REGISTRY_URL``; None where neither is given.

        Raises
        ------
        SettingsError : a setting is wrong.
        """
        settings = RegistrySettings.read()
        url = url or settings.schema_registry_url
        if url is None:
            return None
        return cls(url, settings.schema_registry_user, settings.schema_registry_password)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def schema(self, id: int) -> str:
        """The text of the schema that messages with this id are written in; asked for once.

        Raises
        ------
        RegistryError : there is none, it is no Avro, or the registry does not answer.
        """
        text = self._texts.get(id)
        if text is None:
            try:
                answer = self._ask("GET", f"/schemas/ids/{id}", _Schema)
            except RegistryError as error:
                if error.error_class != "not-found":
                    raise
                raise RegistryError(
                    "not-found", f"{self.url} knows no schema {id} (was the message written for another registry?)"
                ) from None
            if answer.kind != "AVRO":
                raise RegistryError("not-found", f"{self.url}: schema {id} is {answer.kind}, not Avro (see its writer)")
            text = self._texts[id] = answer.schema
        return text

    def latest(self, subject: str) -> Registered | None:
        """The newest version of a subject, None where it has none; raises as `schema` does."""
        try:
            return self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/latest", Registered)
        except RegistryError as error:
            if error.error_class == "not-found":
                return None
            raise

    def find(self, subject: str, schema: str) -> int | None:
        """The id of a schema under a subject, None where it is not registered there; raises as `schema` does."""
        try:
            return self._ask("POST", f"/subjects/{quote(subject, safe='')}", _Id, schema).id
        except RegistryError as error:
            if error.error_class == "not-found":
                return None
            raise

    def register(self, subject: str, schema: str) -> int:
        """Make a schema the newest version of a subject, or find it there; its id.

        Raises
        ------
        RegistryError : as `schema`; also ``incompatible`` where the subject's rule forbids it.
        """
        return self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", _Id, schema).id

    def _ask(self, method: str, path: str, type_: type[T], schema: str | None = None) -> T:
        content = None if schema is None else msgspec.json.encode({"schema": schema})
        headers = {} if content is None else {"Content-Type": _MEDIA_TYPE}
        try:
            with self._client.stream(method, self.url + path, content=content, headers=headers) as response:
                body = b""
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > LARGEST_ANSWER:
                        raise RegistryError(
                            "nonsense", f"{self.url} answers more than {LARGEST_ANSWER} bytes to {path}"
                        )
        except httpx.TimeoutException:
            raise RegistryError(
                "timeout", f"{self.url} does not answer in time (look at its log, or try again)"
            ) from None
        except httpx.TransportError as error:
            raise RegistryError(
                "unreachable", f"{self.url} cannot be reached: {error} (check SCHEMA_REGISTRY_URL, and that it runs)"
            ) from None
        if response.status_code != 200:
            self._refuse(response.status_code, path, body)
        try:
            return msgspec.json.decode(body, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(
                "nonsense",
                f"{self.url}{path} gives no answer of a schema registry: {error} (check SCHEMA_REGISTRY_URL)",
            ) from None

    def _refuse(self, status: int, path: str, body: bytes) -> NoReturn:
        try:
            problem = msgspec.json.decode(body, type=_Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = _Problem()
        error_class, hint = "nonsense", "check SCHEMA_REGISTRY_URL"
        if status in (401, 403):
            error_class, hint = "auth", "check SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD and what they may do"
        elif status == 404 and problem.error_code // 100 == 404:  # 40401 to 40403; a bare 404 is no registry's
            error_class, hint = "not-found", "register it by `torghut schema register`"
        elif status == 409:
            error_class, hint = "incompatible", "see `torghut schema check`"
        elif status == 422:
            error_class, hint = "invalid-schema", "see `torghut schema check`"
        elif status >= 500 or status in (408, 429):
            error_class, hint = "server", "look at its log, or try again"
        said = f": {problem.message}" if problem.message else ""
        raise RegistryError(error_class, f"{self.url}{path} answers {status}{said} ({hint})")
