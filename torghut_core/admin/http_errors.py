"""How an error is answered: its HTTP status, and ``{"error": "what is wrong, and how to fix it"}``."""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException

from torghut_core.admin.auth import Refused
from torghut_core.admin.kernel_calls import KernelDefect
from torghut_core.admin.worker_pools import TooManyRequests
from torghut_core.errors import InputError, NotFoundError, StateError, TorghutError
from torghut_core.telemetry import logs


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response[dict[str, str]]:
    return Response({"error": message}, status_code=status, media_type=MediaType.JSON, headers=headers)


def refused(_: Request[Any, Any, Any], error: Refused) -> Response[dict[str, str]]:
    """Answer a request that the guard did not admit."""
    return _error(error.status, str(error), {"www-authenticate": "Bearer"} if error.status == 401 else None)


def _too_many(_: Request[Any, Any, Any], error: TooManyRequests) -> Response[dict[str, str]]:
    return _error(429, str(error), {"retry-after": "1"})


def _http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, str]]:
    """Answer what the web framework refuses: an unknown route, a method or parameter not allowed, too large a body."""
    message = error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        message = "; ".join(map(_complaint, error.extra)) or message
    return _error(error.status_code, message)


def _complaint(problem: dict[str, str]) -> str:
    if problem["message"] == "'data'":  # the web framework's word for a body that is not there
        return "body: it is missing (send a JSON object)"
    return f"{problem.get('key', 'body')}: {problem['message']}"


def _torghut_error(_: Request[Any, Any, Any], error: TorghutError) -> Response[dict[str, str]]:
    match error:
        case NotFoundError():
            status = 404
        case InputError():
            status = 400
        case StateError():
            status = 503
        case _:
            status = 409
    return _error(status, str(error))


def _failure(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, str]]:
    if not isinstance(error, KernelDefect):  # the kernel has logged its own
        logs.error("admin API failed", path=request.scope["path"], exc_info=error)
    return _error(500, "this is a defect of torghut (its log has the traceback)")


EXCEPTION_HANDLERS: dict[int | type[Exception], Any] = {
    Refused: refused,
    TooManyRequests: _too_many,
    HTTPException: _http_error,
    TorghutError: _torghut_error,
    Exception: _failure,
}
"""Of the application: what answers an exception of a route."""
