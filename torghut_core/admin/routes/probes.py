"""Routes that every process has: is it alive, is it ready, and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from litestar import Litestar, MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST

from torghut_core.admin.auth import OPEN, Guard, Refused
from torghut_core.admin.http_errors import refused
from torghut_core.admin.metrics import STATUS_METRICS, Metrics
from torghut_core.admin.worker_pools import WorkerPool
from torghut_core.telemetry.metrics import Measured, Metric


class Probed(Measured, Protocol):
    """A process with probes. Every method may be called from any thread."""

    def health(self) -> list[str]:
        """Reasons why it is not alive; none when it is."""

    def readiness(self) -> list[str]:
        """Reasons why it is not ready; none when it is."""

    def gates(self) -> dict[str, str]:
        """The readiness checks by name, each with the reason why it fails, "" if it is ok."""


def probe_routes(
    probed: Probed, numbers: Callable[[], Mapping[str, Metric]], pool: WorkerPool
) -> list[HTTPRouteHandler]:
    """Make the routes ``/healthz``, ``/readyz`` and ``/metrics``, which need no token."""
    metrics = Metrics(numbers, lambda: (*STATUS_METRICS, *probed.metric_specs))

    @get("/healthz", opt=OPEN)
    @pool
    def healthz() -> Response[dict[str, Any]]:
        """Whether the process is alive: 200, or 503 with the reasons why not."""
        reasons = probed.health()
        return Response({"ok": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    @get("/readyz", opt=OPEN)
    @pool
    def readyz() -> Response[dict[str, Any]]:
        """Whether the process is ready: 200, or 503 with the reasons why not; and every check."""
        reasons = probed.readiness()
        content = {"ok": not reasons, "reasons": reasons, "gates": probed.gates()}
        return Response(content, status_code=503 if reasons else 200)

    @get("/metrics", opt=OPEN, media_type=MediaType.TEXT)
    @pool
    def prometheus() -> Response[bytes]:
        """Metrics in Prometheus' text format."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    return [healthz, readyz, prometheus]


def make_probe_app(probed: Probed, guard: Guard) -> Litestar:
    """Make the probes alone, an ASGI application."""
    return Litestar(
        probe_routes(probed, probed.metrics, WorkerPool(3, 3)),
        guards=[guard.admit_to_route],
        opt=OPEN,
        exception_handlers={Refused: refused},
        openapi_config=None,
        logging_config=None,
    )
