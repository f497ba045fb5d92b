"""Routes that every process has: is it alive, is it ready, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Protocol

from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CONTENT_TYPE_LATEST

from torghut_core.admin.auth import OPEN
from torghut_core.admin.metrics import STATUS_METRICS, Metrics
from torghut_core.admin.readiness import readiness_switches
from torghut_core.admin.worker_pools import WorkerPool
from torghut_core.telemetry.metrics import Measured, Metric

ANSWER_SECONDS = 5.0
"""How long a probe waits for the process that it asks about."""

SILENT = f"the process has not answered within {ANSWER_SECONDS:.0f} s"


class Probed(Measured, Protocol):
    """A process with probes. Every method may be called from any thread."""

    def health(self) -> list[str]:
        """Reasons why it is not alive; none when it is."""

    def readiness(self) -> list[str]:
        """Reasons why it is not ready; none when it is."""

    def gates(self) -> dict[str, str]:
        """The readiness checks by name, each with the reason why it fails, "" if it is ok."""

    def error_class(self) -> str:
        """The class of the check that fails, see `readiness_class`; "" where none does."""


def probe_routes(
    probed: Probed, numbers: Callable[[], Mapping[str, Metric]], pool: WorkerPool
) -> list[HTTPRouteHandler]:
    """Make the routes ``/healthz``, ``/readyz`` and ``/metrics``, which need no token."""
    metrics = Metrics(numbers, lambda: (*STATUS_METRICS, *probed.metric_specs))

    def probe(ask: Callable[[], Response[Any]], **silent: Any) -> Callable[[], Any]:
        """Make a handler that shares its answers, and answers `silent` where there is none in time."""

        @wraps(ask)
        async def answered() -> Response[Any]:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer: Response[Any] = await pool.share(ask, ask)
                    return answer
            except TimeoutError:
                return Response(silent, status_code=503, media_type=MediaType.JSON)

        return answered

    def healthz() -> Response[dict[str, Any]]:
        """Whether the process is alive: 200, or 503 with the reasons why not."""
        reasons = probed.health()
        return Response({"ok": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    def readyz() -> Response[dict[str, Any]]:
        """Whether the process is ready: 200, or 503 with the reasons and their class; and every check."""
        reasons, gates = probed.readiness(), probed.gates()
        content = {
            "ok": not reasons,
            "status": "not_ready" if reasons else "ready",
            "ready": not reasons,
            "error_class": (probed.error_class() or "unknown") if reasons else None,
            "reasons": reasons,
            "gates": {**gates, **readiness_switches(gates)},
        }
        return Response(content, status_code=503 if reasons else 200)

    def prometheus() -> Response[bytes]:
        """Metrics in Prometheus' text format."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    return [
        get("/healthz", opt=OPEN)(probe(healthz, ok=False, reasons=[SILENT])),
        get("/readyz", opt=OPEN)(probe(readyz, ok=False, reasons=[SILENT], gates={"process": SILENT})),
        get("/metrics", opt=OPEN, media_type=MediaType.TEXT)(probe(prometheus, error=SILENT)),
    ]
