"""Who may do what: bearer tokens, their roles, and the hosts that requests may name.

The digest of a token is kept, not the token, so nothing here can show one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from torghut_core.errors import SettingsError

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection
    from litestar.handlers import BaseRouteHandler
    from pydantic import SecretStr

MIN_TOKEN_LENGTH = 16

_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_FORM = "write actor:role:token"


class Role(IntEnum):
    """What an actor may do; each role may do what those before it may.

    No route needs `ADMIN` yet: tokens may have it already, so that they keep it when the routes that edit the catalog come.
    """

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


OPEN: dict[str, Any] = {"role": None}
"""Options of a route that needs no token."""

OPERATOR: dict[str, Any] = {"role": Role.OPERATOR}
"""Options of a route that changes how the kernel trades."""


class Refused(Exception):
    """A request that is refused: 401 without a known token, 403 if its role or host does not allow it."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Token:
    """An actor, its role, and the sha256 of its token."""

    actor: str
    role: Role
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, actor: str, role: Role, text: str) -> Token:
        """The token with this text."""
        return cls(actor, role, _digest(text))


def parse_tokens(setting: SecretStr | None) -> tuple[Token, ...]:
    """The tokens of ``ADMIN_TOKENS``: entries ``actor:role:token``, between commas or newlines; none where it is None.

    Raises
    ------
    SettingsError : a malformed entry, named by its number from 1 on, or no entry; never shows its content.

    Examples
    --------
    >>> from pydantic import SecretStr
    >>> parse_tokens(SecretStr("ann:operator:correct-horse-battery, grafana:viewer:staple-staple-staple"))
    (Token(actor='ann', role=<Role.OPERATOR: 2>), Token(actor='grafana', role=<Role.VIEWER: 1>))
    """
    if setting is None:
        return ()
    entries = [entry for part in re.split(r"[,\r\n]", setting.get_secret_value()) if (entry := part.strip())]
    if not entries:  # an empty file is a secret that was not mounted, not a decision to have no tokens
        raise SettingsError(f"ADMIN_TOKENS: it has no entry ({_FORM}, or unset it)")
    tokens: list[Token] = []
    for number, entry in enumerate(entries, 1):
        actor, _, rest = entry.partition(":")
        role, _, text = rest.partition(":")
        if complaint := _complaint(actor.strip(), role.strip(), text.strip()):
            raise SettingsError(f"ADMIN_TOKENS: entry {number}: {complaint}")
        token = Token.of(actor.strip(), Role[role.strip().upper()], text.strip())
        if any(token.digest == other.digest for other in tokens):
            raise SettingsError(
                f"ADMIN_TOKENS: entry {number}: the token is the same as that of another entry (make a new one)"
            )
        tokens.append(token)
    return tuple(tokens)


def _complaint(actor: str, role: str, text: str) -> str:
    if not text:
        return f"it does not have three parts ({_FORM})"
    if not _ACTOR.fullmatch(actor):
        return f"the actor has to be of letters, digits and . _ @ -, at most 63 ({_FORM})"
    if role.upper() not in Role.__members__:
        return f"the role has to be viewer, operator or admin ({_FORM})"
    if len(text) < MIN_TOKEN_LENGTH:
        return f"the token is shorter than {MIN_TOKEN_LENGTH} characters (`openssl rand -hex 24` makes one)"
    if not _TOKEN.fullmatch(text):
        return "the token has to be of ASCII letters, digits and signs (`openssl rand -hex 24` makes one)"
    return ""


class Guard:
    """Admits or refuses requests by their ``Host`` and ``Authorization``.

    Parameters
    ----------
    tokens : the known ones.
    hosts : names that a request may have in ``Host``, lower case; None for any. A page of a foreign site whose name was
        made to point here (DNS rebinding) sends its own.
    is_open : whether anyone may read. A change always needs a token: a browser sends none by itself.
    """

    def __init__(self, tokens: Sequence[Token], *, hosts: Collection[str] | None, is_open: bool) -> None:
        self._tokens = tuple(tokens)
        self._hosts = hosts
        self._is_open = is_open

    def admit(self, role: Role | None, method: str, host: str, authorization: str) -> str:
        """Admit a request, and give its actor, "" if it needs none.

        Parameters
        ----------
        role : the lowest that may do this; None if anyone may.

        Raises
        ------
        Refused : it may not do this.
        """
        if self._hosts is not None and _name(host) not in self._hosts:
            raise Refused(403, "the Host is not known here (use 127.0.0.1, or list the name in ADMIN_HOSTS)")
        if role is None:
            return ""
        if not authorization:
            if self._is_open and role is Role.VIEWER and method in ("GET", "HEAD"):
                return ""
            raise Refused(401, "a token is needed (send `Authorization: Bearer TOKEN`)")
        token = self._known(authorization)
        if token is None:
            raise Refused(401, "the token is not known here (send `Authorization: Bearer TOKEN` with a known one)")
        if token.role < role:
            has, needs = token.role.name.lower(), role.name.lower()
            raise Refused(403, f"{token.actor} has the role {has}; this needs {needs}")
        return token.actor

    def admit_to_route(self, connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
        """Admit a request to a route as its `opt["role"]` says (viewer where it says nothing), and note the actor.

        Raises
        ------
        Refused : it may not do this.
        """
        scope: Any = connection.scope
        headers = connection.headers
        role = route.opt.get("role", Role.VIEWER)
        scope["user"] = self.admit(role, scope["method"], headers.get("host", ""), headers.get("authorization", ""))

    def is_operator(self, authorization: str) -> bool:
        """Whether a value of ``Authorization`` is an operator's."""
        token = self._known(authorization)
        return token is not None and token.role >= Role.OPERATOR

    def caller(self, scope: Any) -> tuple[bool, str]:
        """Say who sends a request, by its ASGI scope: whether an operator, and the actor or, without a token, the address."""
        for name, value in scope["headers"]:
            if name == b"authorization" and (token := self._known(value.decode("latin-1"))):
                return token.role >= Role.OPERATOR, token.actor
        return False, scope["client"][0] if scope["client"] else ""

    def _known(self, authorization: str) -> Token | None:
        scheme, _, text = authorization.partition(" ")
        digest = _digest(text.strip()) if scheme.lower() == "bearer" else b""
        # All are compared, each in constant time: the time it takes reveals nothing.
        found = [token for token in self._tokens if compare_digest(token.digest, digest)]
        return found[0] if found else None


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _name(host: str) -> str:
    """The name in a ``Host`` header, without its port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".")
