"""Routes about trading: how it stands, what was decided and executed, stop, release and reconciliation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, Parameter

from torghut_core.admin.auth import OPERATOR
from torghut_core.admin.kernel import Kernel
from torghut_core.admin.metrics import numbers
from torghut_core.admin.routes.paging import Before, Limit, page

Symbol = Annotated[str | None, Parameter(max_length=64, description="only this symbol")]
Since = Annotated[str | None, Parameter(max_length=40, description="only what happened since then, RFC 3339")]


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


def trading_routes(kernel: Kernel) -> list[HTTPRouteHandler]:
    """Make the routes ``/trading/...``."""

    @get("/trading/status", sync_to_thread=True)
    def status() -> dict[str, Any]:
        """How trading stands: account, control, positions, orders, and how our books and the venue's agree."""
        return kernel.trading()

    @get("/trading/health", sync_to_thread=True)
    def health() -> dict[str, Any]:
        """Whether it is safe: `ok`, and what speaks against it."""
        return kernel.trading_health()

    @get("/trading/metrics", sync_to_thread=True)
    def metrics() -> dict[str, Any]:
        """The numbers of `/metrics`, as JSON."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in numbers(kernel).items()}

    @get("/trading/decisions", sync_to_thread=True)
    def decisions(
        symbol: Symbol = None, since: Since = None, before: Before = None, limit: Limit = 50
    ) -> dict[str, Any]:
        """Decisions, newest first; `next` is the `before` of the next page, null after the last one."""
        rows = kernel.rows("trade_decisions", symbol=symbol, since=since, before=before, limit=limit + 1)
        return page("decisions", rows, limit)

    @get("/trading/executions", sync_to_thread=True)
    def executions(
        symbol: Symbol = None, since: Since = None, before: Before = None, limit: Limit = 50
    ) -> dict[str, Any]:
        """Orders as they are now, newest first; `next` is the `before` of the next page, null after the last one."""
        rows = kernel.rows("executions", symbol=symbol, since=since, before=before, limit=limit + 1)
        return page("executions", rows, limit)

    @post("/trading/kill", status_code=200, sync_to_thread=True, opt=OPERATOR)
    def kill(request: Request[str, Any, Any], data: JSONBody[Kill]) -> dict[str, Any]:
        """Let no order leave any more, cancel what works, and close positions on request."""
        return kernel.kill(data.reason, flatten=data.flatten, actor=request.user)

    @post("/trading/unkill", status_code=200, sync_to_thread=True, opt=OPERATOR)
    def unkill(request: Request[str, Any, Any], data: JSONBody[Unkill]) -> dict[str, Any]:
        """Let orders leave again: all, or exits only."""
        return kernel.unkill(data.reason, data.state, request.user)

    @post("/trading/reconcile", status_code=200, sync_to_thread=True, opt=OPERATOR)
    def reconcile(request: Request[str, Any, Any], data: JSONBody[Reconcile | None] = None) -> dict[str, Any]:
        """Hold our books against the venue's now. Answers when that is done."""
        asked = data or Reconcile()
        return kernel.reconcile(asked.accept, asked.reason, request.user)

    return [status, health, metrics, decisions, executions, kill, unkill, reconcile]
