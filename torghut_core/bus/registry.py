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
"""Bytes of an answer that are read at most; a longer one is not a schema."""

T = TypeVar("T")

_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class RegistrySettings(Environment):
    """Address and credentials of the schema registry."""

    schema_registry_url: str | None = Field(
        default=None, description="the schema registry, http:// or https://; none: messages are JSON"
    )
    schema_registry_user: str = Field(default="", description="user at SCHEMA_REGISTRY_URL")
    schema_registry_password: SecretStr | None = Field(default=None, description="password at SCHEMA_REGISTRY_URL")


class RegistryError(StateError):
    """A request to the registry failed; the message has the fix.

    `error_class` is one of ``unreachable``, ``timeout``, ``auth``, ``not-found``, ``incompatible``, ``invalid-schema``,
    ``server``, ``nonsense``. Retry if `is_passing`.
    """

    def __init__(self, error_class: str, message: str) -> None:
        self.error_class = error_class
        super().__init__(without_secrets(message))

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later by itself."""
        return self.error_class in ("unreachable", "timeout", "server")


class Registered(msgspec.Struct, frozen=True):
    """A version of a subject: the text of its `schema`, and the `id` of that schema in messages."""

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
    """A client of one registry; every method but `close` may wait for the network.

    Parameters
    ----------
    url : its address; a path in it is kept.
    user, password : for basic authentication, where `user` is not empty.
    timeout_seconds : how long one step of a request may take at most.

    Raises
    ------
    SettingsError : `url` is not an HTTP address.
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
            trust_env=False,  # no proxy and no netrc: the password goes to the registry only
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
        """The text of the schema that messages with this id are written in; cached.

        Raises
        ------
        RegistryError : there is no such schema, it is not Avro, or the registry does not answer.
        """
        text = self._texts.get(id)
        if text is None:
            try:
                answer = self._request("GET", f"/schemas/ids/{id}", _Schema)
            except RegistryError as error:
                if error.error_class != "not-found":
                    raise
                raise RegistryError(
                    "not-found", f"{self.url} knows no schema {id} (was the message written for another registry?)"
                ) from None
            if answer.kind != "AVRO":
                raise RegistryError(
                    "not-found", f"{self.url}: schema {id} is {answer.kind}, not Avro (find out who registered it)"
                )
            text = self._texts[id] = answer.schema
        return text

    def latest(self, subject: str) -> Registered | None:
        """The newest version of a subject, None where it has none; raises as `schema` does."""
        try:
            return self._request("GET", f"/subjects/{quote(subject, safe='')}/versions/latest", Registered)
        except RegistryError as error:
            if error.error_class == "not-found":
                return None
            raise

    def find(self, subject: str, schema: str) -> int | None:
        """The id of a schema under a subject, None where it is not registered there; raises as `schema` does."""
        try:
            return self._request("POST", f"/subjects/{quote(subject, safe='')}", _Id, schema).id
        except RegistryError as error:
            if error.error_class == "not-found":
                return None
            raise

    def register(self, subject: str, schema: str) -> int:
        """Make a schema the newest version of a subject; return its id, also if it was registered before.

        Raises
        ------
        RegistryError : as `schema`; also ``incompatible`` where the subject's rule forbids it.
        """
        return self._request("POST", f"/subjects/{quote(subject, safe='')}/versions", _Id, schema).id

    def _request(self, method: str, path: str, type_: type[T], schema: str | None = None) -> T:
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
            raise RegistryError("timeout", f"{self.url} does not answer in time (read its log, or try again)") from None
        except httpx.TransportError as error:
            raise RegistryError(
                "unreachable", f"{self.url} cannot be reached: {error} (check SCHEMA_REGISTRY_URL, and that it runs)"
            ) from None
        if response.status_code != 200:
            self._raise_refusal(response.status_code, path, body)
        try:
            return msgspec.json.decode(body, type=type_)
        except Exception as error:  # whatever the bytes are
            raise RegistryError(
                "nonsense",
                f"{self.url}{path}: the answer is not a schema registry's: {error} (check SCHEMA_REGISTRY_URL)",
            ) from None

    def _raise_refusal(self, status: int, path: str, body: bytes) -> NoReturn:
        try:
            problem = msgspec.json.decode(body, type=_Problem)
        except Exception:  # as above
            problem = _Problem()
        error_class, hint = "nonsense", "check SCHEMA_REGISTRY_URL"
        if status in (401, 403):
            error_class, hint = "auth", "check SCHEMA_REGISTRY_USER, SCHEMA_REGISTRY_PASSWORD and the user's rights"
        elif status == 404 and problem.error_code // 100 == 404:  # 40401 to 40403; a bare 404 is not a registry's
            error_class, hint = "not-found", "register it with `torghut schema register`"
        elif status == 409:
            error_class, hint = "incompatible", "run `torghut schema check`"
        elif status == 422:
            error_class, hint = "invalid-schema", "run `torghut schema check`"
        elif status >= 500 or status in (408, 429):
            error_class, hint = "server", "read its log, or try again"
        message = f": {problem.message}" if problem.message else ""
        raise RegistryError(error_class, f"{self.url}{path} answers {status}{message} ({hint})")
