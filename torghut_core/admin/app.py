"""The admin API of a kernel, put together.

A route parses, calls one method of the kernel, and answers with what it returns. Each call runs in one of the `worker_pools`.
"""

from __future__ import annotations

from litestar import Litestar
from litestar.datastructures import ResponseHeader

from torghut_core.admin.auth import Guard
from torghut_core.admin.http_errors import EXCEPTION_HANDLERS
from torghut_core.admin.kernel import Kernel
from torghut_core.admin.loop_priority import LoopPriority
from torghut_core.admin.metrics import numbers
from torghut_core.admin.openapi import describe, openapi_config
from torghut_core.admin.routes.catalog import catalog_routes
from torghut_core.admin.routes.probes import probe_routes
from torghut_core.admin.routes.trading import trading_routes
from torghut_core.admin.worker_pools import WorkerPools

MAX_BODY = 1 << 20
"""Largest body of a request, bytes."""


def make_app(kernel: Kernel, guard: Guard, priority: LoopPriority) -> Litestar:
    """Make the admin API of a kernel, an ASGI application."""
    pools = WorkerPools(priority)
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
