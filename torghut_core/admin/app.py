"""The admin API of a process, put together: ASGI applications.

A route parses, calls one method of the kernel, and answers with what it returns. Each call runs in one of the `worker_pools`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Litestar, get
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler

from torghut_core.admin.api_process import Routes
from torghut_core.admin.auth import OPEN, Guard, Refused
from torghut_core.admin.http_errors import EXCEPTION_HANDLERS, refused
from torghut_core.admin.kernel import Kernel
from torghut_core.admin.metrics import numbers
from torghut_core.admin.openapi import describe, openapi_config
from torghut_core.admin.routes.catalog import catalog_routes
from torghut_core.admin.routes.probes import Probed, probe_routes
from torghut_core.admin.routes.trading import trading_routes
from torghut_core.admin.worker_pools import PROBES, WorkerPool, WorkerPools

MAX_BODY = 1 << 20
"""Largest body of a request, bytes."""


def make_app(kernel: Kernel, guard: Guard) -> Litestar:
    """Make the whole API of a kernel."""
    pools = WorkerPools()
    probes = probe_routes(kernel, lambda: numbers(kernel), pools.probes)
    app = Litestar(
        [*probes, *catalog_routes(kernel, pools), *trading_routes(kernel, pools)],
        guards=[guard.admit_to_route],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(),
        request_max_body_size=MAX_BODY,
        response_headers=[
            ResponseHeader(name="cache-control", value="no-store"),
            ResponseHeader(name="x-content-type-options", value="nosniff"),
        ],
        logging_config=None,
        debug=False,
    )
    describe(app.openapi_schema)
    return app


def make_probe_app(probed: Probed, guard: Guard) -> Litestar:
    """Make the probes alone."""
    return _make_open_app(probe_routes(probed, probed.metrics, WorkerPool(PROBES, 3, is_shared=True)), guard)


def make_waiting_app(waiting: Any, guard: Guard) -> Litestar:
    """Make the probes and ``/trading/status`` of a `waiting.Waiting`, which need no token."""
    pool = WorkerPool(PROBES, 3, is_shared=True)

    @get("/trading/status", opt=OPEN)
    @pool
    def trading() -> dict[str, Any]:
        """That it stands by, and for whom."""
        status: dict[str, Any] = waiting.status()
        return status

    return _make_open_app([*probe_routes(waiting, waiting.metrics, pool), trading], guard)


def _make_open_app(routes: list[HTTPRouteHandler], guard: Guard) -> Litestar:
    return Litestar(
        routes,
        guards=[guard.admit_to_route],
        opt=OPEN,
        exception_handlers={Refused: refused},
        openapi_config=None,
        logging_config=None,
    )


APPS: dict[Routes, Callable[[Any, Guard], Litestar]] = {
    Routes.ALL: make_app,
    Routes.PROBES: make_probe_app,
    Routes.WAITING: make_waiting_app,
}
"""What makes the application that has these routes."""
