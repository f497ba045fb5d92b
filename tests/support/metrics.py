"""Every metric of torghut: those of the kernel's parts, and of the sources and sinks of its distributions."""

from __future__ import annotations

from torghut_sources.alpaca.source import Alpaca
from torghut_sources.bus import KafkaSink, KafkaSource
from torghut_sources.signal_store import ClickHouseSignals

from torghut_core import MetricSpec
from torghut_core.admin.console import RUN_METRICS
from torghut_core.admin.metrics import STATUS_METRICS
from torghut_core.admin.readiness import Readiness
from torghut_core.admin.server import AdminServer
from torghut_core.execution.venue import Venue
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.forwarder import Forwarder
from torghut_core.market_data.jangar import JangarUniverse
from torghut_core.signals.guardrails import Guardrails
from torghut_core.trading.totals import Totals

OF_A_RUN: tuple[MetricSpec, ...] = (
    *STATUS_METRICS,
    *Totals.metric_specs,
    *RUN_METRICS,
    *Readiness.metric_specs,
    *AdminServer.metric_specs,
)
"""What `torghut run` has with any source and broker."""

OF_A_VENUE: tuple[MetricSpec, ...] = Venue.metric_specs
"""What it has besides with a real venue."""

MEASURED = (Forwarder, Deriver, Guardrails, JangarUniverse, Alpaca, KafkaSource, KafkaSink, ClickHouseSignals)

EVERY_METRIC: dict[str, MetricSpec] = {
    spec.name: spec for spec in (*OF_A_RUN, *OF_A_VENUE, *(spec for part in MEASURED for spec in part.metric_specs))
}
"""By name, in the order of the docs."""
