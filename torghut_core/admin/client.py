"""A client of a kernel's admin API, as the command line uses it.

`http.client` and nothing above it: it follows no redirect and uses no proxy, so a token goes where it was meant to go,
and it costs the command line no time.
"""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from torghut_core.errors import InputError, NotFoundError, StateError, TorghutError
from torghut_core.files import read_file

ADMIN_FILE = "admin.json"
"""In the state directory while a server listens: its `url` and `pid`, and a `token` where none is configured."""

_LARGEST_FILE = 65536
READ_SECONDS = 10.0
CHANGE_SECONDS = 600.0
"""A change is answered when it is finished, warm-up included."""

PAGE = 200
"""Most rows that one answer has."""

_PRINTABLE = re.compile(r"[\x21-\x7e]+")


class KernelNotRunning(StateError):
    """No kernel is running there."""


class AdminClient:
    """The client of one admin API.

    Parameters
    ----------
    url : where it listens, ``http://`` or ``https://``.
    token : sent as bearer token where there is one.

    Raises
    ------
    InputError : it is not a URL, or not a token.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https") or not _PRINTABLE.fullmatch(url):
            raise InputError(f"{url!r} is not the URL of an admin API (write http://127.0.0.1:8181)")
        if token is not None and not _PRINTABLE.fullmatch(token):
            raise InputError("TORGHUT_TOKEN: a token is of ASCII letters, digits and signs, without spaces")
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port, self._base = host, port, parts.path.rstrip("/")
        self._token = token

    def get(self, path: str) -> dict[str, Any]:
        """Send a ``GET``, and give the answer.

        Raises
        ------
        KernelNotRunning : nothing listens there.
        InputError : the request is refused; `NotFoundError` if it is about something that does not exist.
        StateError : the kernel cannot do that now, or what answers is not an admin API.
        """
        return self._request("GET", path, None, READ_SECONDS)

    def rows(self, path: str, limit: int, **query: str) -> list[dict[str, Any]]:
        """Give at most `limit` rows of a list such as ``/trading/fills``, page after page; raises as `get` does.

        `query` are the route's parameters, without those of the page.
        """
        name = path.rpartition("/")[2]
        rows: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while len(rows) < limit:
            answer = self.get(f"{path}?{urlencode(query | page | {'limit': min(PAGE, limit - len(rows))})}")
            rows += answer[name]
            if answer["next"] is None:
                break
            page = {"before": answer["next"]}
        return rows

    def post(self, path: str, value: Any) -> dict[str, Any]:
        """Send a ``POST`` of a JSON value, and give the answer; raises as `get` does."""
        return self._request("POST", path, json.dumps(value).encode(), CHANGE_SECONDS)

    def readiness_checks(self) -> dict[str, str]:
        """Give the readiness checks by name, with the reason why one fails, "" if it is ok; also of `forward` and `ta`."""
        gates = self._request("GET", "/readyz", None, READ_SECONDS, (200, 503))["gates"]
        return {name: reason for name, reason in gates.items() if isinstance(reason, str)}

    def health_checks(self) -> dict[str, list[str]]:
        """Give the checks of ``/trading/health`` by name, with the reasons why one fails; raises as `get` does."""
        checks: dict[str, list[str]] = self._request("GET", "/trading/health", None, READ_SECONDS, (200, 503))["checks"]
        return checks

    def _request(
        self, method: str, path: str, body: bytes | None, seconds: float, answers: tuple[int, ...] = (200,)
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=seconds)
        try:
            connection.request(method, f"{self._base}{path}", body, headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        except TimeoutError:
            raise StateError(f"{self.url} did not answer within {seconds:.0f} s (read its log)") from None
        except ConnectionRefusedError:
            raise KernelNotRunning(
                f"nothing listens at {self.url} (start `torghut run`, or give the --url of a running kernel)"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise StateError(
                f"{self.url} does not answer as an admin API: {error} (give the --url of a running kernel)"
            ) from None
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "error" in answer and status != 200:
            raise self._error(status, str(answer["error"]))
        if isinstance(answer, dict) and status in answers:
            return answer
        if status == 404:
            raise NotFoundError(f"{self.url} has no {path}: nothing trades there (give the --url of a `torghut run`)")
        raise StateError(f"{self.url} answered {status} without JSON (give the --url of a running kernel)")

    def _error(self, status: int, message: str) -> TorghutError:
        if status == 404:
            return NotFoundError(message)
        if status in (401, 403):
            return InputError(f"{self.url}: {message} (the token sent is that of TORGHUT_TOKEN or TORGHUT_TOKEN_FILE)")
        return (
            InputError(message)
            if 400 <= status < 500 and status not in (409, 429)
            else StateError(f"{self.url}: {message}")
        )


def connect(url: str | None, state: Path, token: str | None) -> AdminClient:
    """Give a client of the kernel at a URL, or of the one that runs on a state directory.

    Parameters
    ----------
    token : the configured one. The state directory's own is preferred, and is never sent to a `url` that was given.

    Raises
    ------
    KernelNotRunning : no process with an admin API runs on that state directory.
    """
    if url is not None:
        return AdminClient(url, token)
    file = state / ADMIN_FILE
    try:
        found = json.loads(read_file(file, _LARGEST_FILE))
        return AdminClient(found["url"], found.get("token", token))
    except FileNotFoundError:
        raise KernelNotRunning(
            f"no kernel is running on {state} (start `torghut run`, or give its --url or --state)"
        ) from None
    except OSError as error:
        raise StateError(f"{file}: {error.strerror} (it belongs to the user who runs torghut; give --url)") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateError(f"{file} cannot be read: it is not as torghut wrote it (delete it, or give --url)") from error
