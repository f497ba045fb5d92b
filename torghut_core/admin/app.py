"""The routes: each parses, calls one method of the kernel, and answers with what it returns.

The kernel's methods may wait, for a lock or for a whole reload, so each is called in a thread of its own and the
server goes on answering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Annotated, Any, Literal, cast

import msgspec
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import ResponseHeader
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    RequestBody,
    Schema,
    SecurityScheme,
)
from litestar.params import JSONBody, Parameter, RawBody

from torghut_core.admin.auth import Gate, Refused, Role
from torghut_core.admin.kernel import Kernel
from torghut_core.admin.metrics import numbers
from torghut_core.admin.routes.probes import probe_routes
from torghut_core.errors import InputError, NotFoundError, StateError, TorghutError
from torghut_core.telemetry import logs

MAX_BODY = 1 << 20
"""Largest body of a request, bytes."""

MAX_PAGE = 200
"""Most rows of one answer."""

MAX_ID = 2**63 - 1
"""Greatest number that a database keeps."""

_OPERATOR = {"role": Role.OPERATOR}


class Rollback(msgspec.Struct, forbid_unknown_fields=True):
    """Which generation shall trade again; the one before where `to` is not given."""

    to: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Kill(msgspec.Struct, forbid_unknown_fields=True):
    """Why everything stops, and whether positions are closed. No stop is refused because its reason is long."""

    reason: Annotated[str, msgspec.Meta(min_length=1)]
    flatten: bool = False


class Unkill(msgspec.Struct, forbid_unknown_fields=True):
    """Why trading may go on, and how far."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    state: Literal["running", "pause_entries", "reduce_only"] = "running"


class Reconcile(msgspec.Struct, forbid_unknown_fields=True):
    """Symbols whose difference is somebody else's doing, and why that is known."""

    accept: Annotated[list[str], msgspec.Meta(max_length=1000)] = []
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="at most so many")]
Before = Annotated[int | None, Parameter(ge=1, le=MAX_ID, description="only those with a lower `id`")]
Symbol = Annotated[str | None, Parameter(max_length=64, description="only this symbol")]
Since = Annotated[str | None, Parameter(max_length=40, description="only what happened since then, RFC 3339")]


def make_app(kernel: Kernel, gate: Gate) -> Litestar:
    """The admin API of a kernel, as an ASGI application."""

    def admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        scope: Any = connection.scope
        headers = connection.headers
        role = handler.opt.get("role", Role.VIEWER)
        scope["user"] = gate.admit(role, scope["method"], headers.get("host", ""), headers.get("authorization", ""))

    @get("/catalog", sync_to_thread=True)
    def catalog() -> dict[str, Any]:
        """What trades now: its status, and the content of its catalog."""
        return {"status": kernel.status(), "content": kernel.catalog()}

    @get("/catalog/generations", sync_to_thread=True)
    def generations(
        limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="at most so many")] = 50,
        before: Annotated[int | None, Parameter(ge=1, le=MAX_ID, description="only those with a lower number")] = None,
    ) -> dict[str, Any]:
        """Generations, newest first; `next` is the `before` of the next page, null after the last one."""
        found = kernel.generations(limit + 1, before)
        page = found[:limit]
        return {"generations": page, "next": page[-1]["number"] if len(found) > limit else None}

    @get("/catalog/schema", sync_to_thread=True)
    def schema() -> dict[str, Any]:
        """JSON Schema of a catalog, with the parameters of the plugins that may be used."""
        return kernel.schema()

    @get("/plugins", sync_to_thread=True)
    def plugins() -> dict[str, Any]:
        """Plugins that may be used, and those that could not be loaded, and why."""
        return kernel.plugins()

    @post("/catalog/validate", status_code=200, sync_to_thread=True)
    def validate(body: RawBody) -> dict[str, Any]:
        """Check a catalog, the body as YAML text, and tell what it would change; changes nothing."""
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"the catalog is not UTF-8: byte 0x{body[error.start]:02x} (save it as UTF-8)") from None
        return kernel.validate(text)

    @post("/catalog/reload", status_code=200, sync_to_thread=True, opt=_OPERATOR)
    def reload(request: Request[str, Any, Any]) -> dict[str, Any]:
        """Read the catalog again and take it up; releases quarantined strategies. Answers when that is done."""
        return kernel.reload(request.user)

    @post("/catalog/rollback", status_code=200, sync_to_thread=True, opt=_OPERATOR)
    def rollback(request: Request[str, Any, Any], data: JSONBody[Rollback | None] = None) -> dict[str, Any]:
        """Trade an earlier generation again, until the catalog's file changes. Answers when that is done."""
        return kernel.rollback(data.to if data else None, request.user)

    @get("/trading/status", sync_to_thread=True)
    def trading() -> dict[str, Any]:
        """How trading stands: account, control, positions, orders, and how our books and the venue's agree."""
        return kernel.trading()

    @get("/trading/health", sync_to_thread=True)
    def trading_health() -> dict[str, Any]:
        """Whether it is safe: `ok`, and what speaks against it."""
        return kernel.trading_health()

    @get("/trading/metrics", sync_to_thread=True)
    def trading_metrics() -> dict[str, Any]:
        """The numbers of `/metrics`, as JSON."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in numbers(kernel).items()}

    @get("/trading/decisions", sync_to_thread=True)
    def decisions(
        symbol: Symbol = None, since: Since = None, before: Before = None, limit: Limit = 50
    ) -> dict[str, Any]:
        """Decisions, newest first; `next` is the `before` of the next page, null after the last one."""
        return _page(
            "decisions",
            kernel.rows("trade_decisions", symbol=symbol, since=since, before=before, limit=limit + 1),
            limit,
        )

    @get("/trading/executions", sync_to_thread=True)
    def executions(
        symbol: Symbol = None, since: Since = None, before: Before = None, limit: Limit = 50
    ) -> dict[str, Any]:
        """Orders as they are now, newest first; `next` is the `before` of the next page, null after the last one."""
        return _page(
            "executions", kernel.rows("executions", symbol=symbol, since=since, before=before, limit=limit + 1), limit
        )

    @post("/trading/kill", status_code=200, sync_to_thread=True, opt=_OPERATOR)
    def kill(request: Request[str, Any, Any], data: JSONBody[Kill]) -> dict[str, Any]:
        """Let no order leave any more, cancel what works, and close positions on request."""
        return kernel.kill(data.reason, flatten=data.flatten, actor=request.user)

    @post("/trading/unkill", status_code=200, sync_to_thread=True, opt=_OPERATOR)
    def unkill(request: Request[str, Any, Any], data: JSONBody[Unkill]) -> dict[str, Any]:
        """Let orders leave again: all, or exits only."""
        return kernel.unkill(data.reason, data.state, request.user)

    @post("/trading/reconcile", status_code=200, sync_to_thread=True, opt=_OPERATOR)
    def reconcile(request: Request[str, Any, Any], data: JSONBody[Reconcile | None] = None) -> dict[str, Any]:
        """Hold our books against the venue's now. Answers when that is done."""
        asked = data or Reconcile()
        return kernel.reconcile(asked.accept, asked.reason, request.user)

    app = Litestar(
        [
            *probe_routes(kernel, lambda: numbers(kernel)),
            catalog,
            generations,
            schema,
            plugins,
            validate,
            reload,
            rollback,
            trading,
            trading_health,
            trading_metrics,
            decisions,
            executions,
            kill,
            unkill,
            reconcile,
        ],
        guards=[admit],
        exception_handlers={
            Refused: _refused,
            HTTPException: _http_error,
            TorghutError: _torghut_error,
            Exception: _failure,
        },
        openapi_config=OpenAPIConfig(
            title="Torghut admin API",
            version=version("torghut"),
            path="/openapi.json",
            render_plugins=[JsonRenderPlugin(path="/", media_type=MediaType.JSON)],
            use_handler_docstrings=True,
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"token": []}],
        ),
        request_max_body_size=MAX_BODY,
        response_headers=[
            ResponseHeader(name="cache-control", value="no-store"),
            ResponseHeader(name="x-content-type-options", value="nosniff"),
        ],
        logging_config=None,
        debug=False,
    )
    _describe(app.openapi_schema)
    return app


def _describe(schema: OpenAPI) -> None:
    """Put into the published description what the web framework cannot know: error bodies, probes, the YAML body."""
    text = Schema(type=OpenAPIType.STRING)
    error = Schema(type=OpenAPIType.OBJECT, properties={"error": text}, required=["error"])
    failed = OpenAPIResponse("What is wrong, and how to fix it.", content={"application/json": OpenAPIMediaType(error)})
    paths = schema.paths or {}
    for path, item in paths.items():
        for operation in filter(None, (item.get, item.post)):
            done = (operation.responses or {})["200"]
            operation.responses = {"200": done, "default": failed}
            if path in ("/healthz", "/readyz"):
                operation.responses = {"200": done, "503": done, "default": failed}
            if path in ("/healthz", "/readyz", "/metrics"):
                operation.security = []
    if validate := paths["/catalog/validate"].post:
        validate.request_body = RequestBody({"application/yaml": OpenAPIMediaType(text)}, required=True)
    for path in ("/catalog/rollback", "/trading/reconcile"):
        if optional := paths[path].post:
            optional.request_body = replace(cast("RequestBody", optional.request_body), required=False)


def _page(name: str, found: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    page = found[:limit]
    return {name: page, "next": page[-1]["id"] if len(found) > limit else None}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response[dict[str, str]]:
    return Response({"error": message}, status_code=status, media_type=MediaType.JSON, headers=headers)


def _refused(_: Request[Any, Any, Any], error: Refused) -> Response[dict[str, str]]:
    return _error(error.status, str(error), {"www-authenticate": "Bearer"} if error.status == 401 else None)


def _http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, str]]:
    """What the web framework refuses: no such route, a method or parameter that is not allowed, too large a body."""
    message = error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        message = "; ".join(map(_complaint, error.extra)) or message
    return _error(error.status_code, message)


def _complaint(problem: dict[str, str]) -> str:
    if problem["message"] == "'data'":  # the web framework's word for a body that is not there
        return "body: none was sent (send a JSON object)"
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
    logs.error("admin API failed", path=request.scope["path"], exc_info=error)
    return _error(500, "this is a defect of torghut: its log says more")
