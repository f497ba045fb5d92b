"""Routes about trading: its state, decisions and executions, stop, release and reconciliation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, Parameter

from torghut_core.admin.auth import OPERATOR
from torghut_core.admin.kernel import Kernel
from torghut_core.admin.metrics import numbers
from torghut_core.admin.routes.paging import Before, Limit, page
from torghut_core.admin.routes.stop import read_stop
from torghut_core.admin.worker_pools import WorkerPools
from torghut_core.audit.listing import Kind

Symbol = Annotated[str | None, Parameter(max_length=64, description="only this symbol")]
Strategy = Annotated[str | None, Parameter(max_length=200, description="only this strategy")]
Since = Annotated[str | None, Parameter(max_length=40, description="only what happened since then, RFC 3339")]


class Unkill(msgspec.Struct, forbid_unknown_fields=True):
    """The reason of a release, and the control's new state."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    state: Literal["running", "pause_entries", "reduce_only"] = "running"


class Reconcile(msgspec.Struct, forbid_unknown_fields=True):
    """Symbols whose difference is accepted as an outside trade, and how that is known."""

    accept: Annotated[list[str], msgspec.Meta(max_length=1000)] = []
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


def trading_routes(kernel: Kernel, pools: WorkerPools) -> list[HTTPRouteHandler]:
    """Make the routes ``/trading/...``."""

    def trading_numbers() -> dict[str, Any]:
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in numbers(kernel).items()}

    @get("/trading/status")
    @pools.reads
    def trading() -> dict[str, Any]:
        """The state of trading: account, control, positions, orders, the last reconciliation with the venue, numbers."""
        return {**kernel.trading(), "metrics": trading_numbers()}

    @get("/trading/health")
    @pools.reads
    def trading_health() -> Response[dict[str, Any]]:
        """Whether trading is well: 200, or 503; `checks` with the reasons why not."""
        health = kernel.trading_health()
        return Response(health, status_code=200 if health["ok"] else 503)

    @get("/trading/metrics")
    @pools.reads
    def trading_metrics() -> dict[str, Any]:
        """The numbers of `/metrics`, as JSON."""
        return trading_numbers()

    def rows_of(kind: Kind, name: str, limit: int, **choice: Any) -> dict[str, Any]:
        return page(name, kernel.rows(kind, **choice, limit=limit + 1), limit)

    @get("/trading/decisions")
    @pools.queries
    def decisions(
        symbol: Symbol = None,
        strategy: Strategy = None,
        since: Since = None,
        before: Before = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """Decisions, newest first; `next` is the `before` of the next page, null after the last one."""
        choice = {"symbol": symbol, "strategy": strategy, "since": since, "before": before}
        return rows_of("trade_decisions", "decisions", limit, **choice)

    @get("/trading/executions")
    @pools.queries
    def executions(
        symbol: Symbol = None,
        strategy: Strategy = None,
        since: Since = None,
        before: Before = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """Orders as they are now, newest first; `next` is the `before` of the next page, null after the last one."""
        choice = {"symbol": symbol, "strategy": strategy, "since": since, "before": before}
        return rows_of("executions", "executions", limit, **choice)

    @get("/trading/fills")
    @pools.queries
    def fills(
        symbol: Symbol = None,
        strategy: Strategy = None,
        since: Since = None,
        before: Before = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """Fills, newest first; `next` is the `before` of the next page, null after the last one."""
        choice = {"symbol": symbol, "strategy": strategy, "since": since, "before": before}
        return rows_of("fills", "fills", limit, **choice)

    @post("/trading/kill", status_code=200, opt=OPERATOR)
    async def kill(request: Request[str, Any, Any]) -> dict[str, Any]:
        """Stop trading: send no more orders, cancel open ones, and close positions if `flatten` is set."""
        stop = await read_stop(request)
        answer = await pools.stops.run(partial(kernel.kill, stop.reason, flatten=stop.flatten, actor=request.user))
        return {**answer, "problems": [*answer["problems"], *stop.problems]}

    @post("/trading/unkill", status_code=200, opt=OPERATOR)
    @pools.changes
    def unkill(request: Request[str, Any, Any], data: JSONBody[Unkill]) -> dict[str, Any]:
        """Send orders again: all, or exits only."""
        return kernel.unkill(data.reason, data.state, request.user)

    @post("/trading/reconcile", status_code=200, opt=OPERATOR)
    @pools.changes
    def reconcile(request: Request[str, Any, Any], data: JSONBody[Reconcile | None] = None) -> dict[str, Any]:
        """Compare our records with the venue's now. Answers when that is finished."""
        body = data or Reconcile()
        return kernel.reconcile(body.accept, body.reason, request.user)

    return [trading, trading_health, trading_metrics, decisions, executions, fills, kill, unkill, reconcile]
