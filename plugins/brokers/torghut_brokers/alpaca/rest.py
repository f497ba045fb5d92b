"""Requests to the venue through alpaca-py, with a deadline, and with an error that says whether the request was sent.

alpaca-py makes the requests and the addresses; what makes it unfit for orders is fixed below it, in the transport: it has
no time limit, and repeats a POST by itself after a 429 or 504. `Transport` ends every request by a deadline, and raises the
error of an answer other than 2xx, so that alpaca-py sees nothing that it would repeat.

What the errors promise: `NotSent` only where no connection was made, so that nothing can have been sent. A connection that
broke at any later moment, also a kept one that the venue had closed meanwhile, is `Unanswered`: the outcome is unknown.

The keys are in the headers of each request and in the clients. So the errors raised here carry neither a cause nor the
frames that hold them.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Mapping
from decimal import Decimal
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError

from torghut_brokers.alpaca.refusals import error_of
from torghut_core import NotSent, Unanswered, VenueError

with warnings.catch_warnings():
    # Its own reader of the stream, which is not used here, imports what websockets has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from alpaca.trading.client import TradingClient

if TYPE_CHECKING:
    import socket

    from pydantic import SecretStr

LARGEST = 16 * 1024 * 1024
"""Bytes of an answer that are read at most."""
_DECODER = msgspec.json.Decoder(float_hook=Decimal)


T = TypeVar("T")


class Rest:
    """The venue's REST interface: one session, from whatever thread, whose connections are used again.

    The keys go to `url` alone: a redirect is an error, and the environment's ``.netrc`` is not read.

    Parameters
    ----------
    url : where the venue is, without a path.
    timeout_seconds : limit of a request, from the connection to the last byte of the answer.
    use_proxies : whether the proxies that the environment names are used.
    """

    def __init__(
        self, url: str, key_id: SecretStr, secret_key: SecretStr, timeout_seconds: float, *, use_proxies: bool
    ) -> None:
        client = TradingClient(
            key_id.get_secret_value(), secret_key.get_secret_value(), raw_data=True, url_override=url
        )
        session = client._session  # noqa: SLF001 - alpaca-py gives no other access to its transport
        session.trust_env = use_proxies
        session.auth = _unchanged
        for scheme in ("http://", "https://"):
            session.mount(scheme, Transport(timeout_seconds))
        self._client, self._session = client, session
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        self._address = f"{parts.scheme}://{parts.hostname}{port}"

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return the venue's answer to a GET of a path below ``/v2``; raises as `post` does."""
        return self._call("get", path, query)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Return the venue's answer to a POST.

        Raises
        ------
        VenueError : `OrderRefused`, `DuplicateOrder`, `Throttled`, `NotSent` or `Unanswered`.
        """
        return self._call("post", path, body)

    def patch(self, path: str, body: Mapping[str, str]) -> Any:
        """Return the venue's answer to a PATCH; raises as `post` does."""
        return self._call("patch", path, body)

    def delete(self, path: str) -> None:
        """Send a DELETE; raises as `post` does."""
        self._call("delete", path, None)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _call(self, verb: str, path: str, data: Mapping[str, object] | None) -> Any:
        failure: VenueError
        try:
            return getattr(self._client, verb)(path, dict(data) if data else None)
        except VenueError as error:
            failure = error
        except requests.RequestException as error:
            failure = self._failure(error)
        except (HTTPError, OSError, ValueError) as error:
            failure = Unanswered(f"no whole answer from the venue at {self._address} ({type(error).__name__})")
        raise failure.with_traceback(None)  # outside of `except`: without the context, whose frames hold headers

    def _failure(self, error: requests.RequestException) -> VenueError:
        """Return an error that says whether a request without an answer can have been sent, without its headers."""
        cause: object = error.args[0] if error.args else None
        reason = getattr(cause, "reason", cause)
        kind = type(reason if isinstance(reason, Exception) else error).__name__
        if isinstance(reason, NewConnectionError | ConnectTimeoutError | ProxyError):
            hint = "check the network and the venue's status page; broker params.url names a stand-in"
            return NotSent(f"no connection to the venue at {self._address}: {kind} ({hint})")
        return Unanswered(f"no answer from the venue at {self._address} ({kind})")


def _unchanged(request: T) -> T:
    """Authenticate nothing: the keys are headers already. Without this requests would look for a user in ``.netrc``."""
    return request


class Transport(HTTPAdapter):
    """Sends a request within `timeout` seconds and returns its answer, read to the end, if it is 2xx."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> urllib3.HTTPConnectionPool:
        """The pool for a request; its connections keep the deadline."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _TimedTls if pool.scheme == "https" else _Timed
        return pool

    def send(self, request: Any, *_: Any, **options: Any) -> requests.Response:
        """Send; see `HTTPAdapter.send`.

        Raises
        ------
        VenueError : an error answer, or none.
        """
        options |= {"stream": True, "timeout": urllib3.Timeout(total=self._timeout)}
        response = super().send(request, **options)
        body = response.raw.read(LARGEST, decode_content=True)
        if len(body) == LARGEST:
            response.raw.close()  # the rest would be taken for the next answer
        if not 200 <= response.status_code < 300:
            raise error_of(response.status_code, response.headers, body, time.time())
        return _Answer(response, body)


class _Answer(requests.Response):
    """An answer that was read to its end; its numbers are exact."""

    def __init__(self, response: requests.Response, body: bytes) -> None:
        super().__init__()
        self.__dict__.update(response.__dict__)
        self._content, self._content_consumed = body, True
        self.encoding = "utf-8"

    def json(self, **_: Any) -> Any:
        try:
            return _DECODER.decode(self._content or b"")
        except Exception:  # whatever the bytes are
            raise Unanswered(f"HTTP {self.status_code} with an answer that is no JSON") from None


class _TimedResponse(HTTPResponse):
    """Reads headers and body by one deadline: the socket's time-out is what is left for the request."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_Deadline(sock))


class _Deadline(io.RawIOBase):
    """Reads a socket until its time-out, counted from now, has passed, however slowly the bytes come."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._until = time.monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Timed(HTTPConnection):
    response_class = _TimedResponse


class _TimedTls(HTTPSConnection):
    response_class = _TimedResponse
