"""Routes about what trades: the catalog, its generations, and the plugins."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, Parameter, RawBody

from torghut_core.admin.auth import OPERATOR
from torghut_core.admin.kernel import Kernel
from torghut_core.admin.routes.paging import MAX_ID, Limit, page
from torghut_core.admin.worker_pools import WorkerPools
from torghut_core.errors import InputError


class Rollback(msgspec.Struct, forbid_unknown_fields=True):
    """The generation to return to; the one before if `to` is not given."""

    to: Annotated[int, msgspec.Meta(ge=1)] | None = None


def catalog_routes(kernel: Kernel, pools: WorkerPools) -> list[HTTPRouteHandler]:
    """Make the routes ``/catalog...`` and ``/plugins``."""

    @get("/catalog")
    @pools.reads
    def catalog() -> dict[str, Any]:
        """The generation that trades now: its status, and the content of its catalog."""
        return {"status": kernel.status(), "content": kernel.catalog()}

    @get("/catalog/generations")
    @pools.queries
    def generations(
        limit: Limit = 50,
        before: Annotated[
            int | None, Parameter(ge=1, le=MAX_ID, description="only generations with a lower number")
        ] = None,
    ) -> dict[str, Any]:
        """Generations, newest first; `next` is the `before` of the next page, null after the last one."""
        return page("generations", kernel.generations(limit + 1, before), limit, "number")

    @get("/catalog/schema")
    @pools.reads
    def schema() -> dict[str, Any]:
        """JSON Schema of a catalog, with the parameters of the plugins that it may use."""
        return kernel.schema()

    @get("/plugins")
    @pools.reads
    def plugins() -> dict[str, Any]:
        """Plugins that a catalog may use, and those that could not be loaded, with the reason."""
        return kernel.plugins()

    @post("/catalog/validate", status_code=200)
    @pools.checks
    def validate(body: RawBody) -> dict[str, Any]:
        """Check a catalog, sent as YAML text, and list what it would change; changes nothing."""
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"the catalog is not UTF-8: byte 0x{body[error.start]:02x} (save it as UTF-8)") from None
        return kernel.validate(text)

    @post("/catalog/reload", status_code=200, opt=OPERATOR)
    @pools.changes
    def reload(request: Request[str, Any, Any]) -> dict[str, Any]:
        """Read the catalog again and apply it; releases quarantined strategies. Answers when that is finished."""
        return kernel.reload(request.user)

    @post("/catalog/rollback", status_code=200, opt=OPERATOR)
    @pools.changes
    def rollback(request: Request[str, Any, Any], data: JSONBody[Rollback | None] = None) -> dict[str, Any]:
        """Trade an earlier generation again, until a file of the catalog changes. Answers when that is finished."""
        return kernel.rollback(data.to if data else None, request.user)

    return [catalog, generations, schema, plugins, validate, reload, rollback]
