"""What Prometheus reads: the numbers that the parts of a process count, and those of a kernel's status."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as PrometheusMetric
from prometheus_client.registry import Collector

from torghut_core.admin.kernel import Kernel
from torghut_core.telemetry.metrics import Metric, MetricSpec
from torghut_core.timestamps import SECOND, parse_timestamp

STATUS_METRICS = (
    MetricSpec("catalog_generation", "Number of the generation that trades."),
    MetricSpec("catalog_degraded", "1 while a part of the catalog could not be applied."),
    MetricSpec("catalog_last_reload_successful", "1 where the last reload applied all that it could read."),
    MetricSpec(
        "catalog_last_reload_success_timestamp_seconds", "When a reload was successful last, Unix time in seconds."
    ),
    MetricSpec("plugin_quarantined", "1 for each strategy that was taken out because it failed.", "name"),
)
"""What the status of a kernel says as numbers."""


class Metrics(Collector):
    """The metrics of a process; their numbers are asked for again each time.

    Parameters
    ----------
    numbers : gives numbers by name, or by name and label.
    specs : gives what they are called and mean.
    """

    def __init__(self, numbers: Callable[[], Mapping[str, Metric]], specs: Callable[[], Iterable[MetricSpec]]) -> None:
        self._numbers = numbers
        self._specs = specs

    def collect(self) -> Iterator[PrometheusMetric]:
        """Give the metrics to prometheus_client."""
        specs = {spec.name: spec for spec in self._specs()}
        for name, value in sorted(self._numbers().items()):
            spec = specs.get(name) or MetricSpec(name, f"{name.replace('_', ' ')}.")  # a plugin that says nothing
            family_type = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            labels = [spec.label or "name"] if isinstance(value, Mapping) else None
            family = family_type(f"torghut_{name}", spec.help, labels=labels)
            if isinstance(value, Mapping):
                for label, number in value.items():
                    family.add_metric([label], float(number))
            else:
                family.add_metric([], float(value))
            yield family

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, as they are now."""
        return generate_latest(self)


def numbers(kernel: Kernel) -> dict[str, Metric]:
    """All metrics of a kernel as they are now, by name; one that the kernel counts itself is the kernel's."""
    return {**_of_status(kernel.status()), **kernel.metrics()}


def _of_status(status: dict[str, Any]) -> dict[str, Metric]:
    reload = status["last_reload"]
    # What trades was applied successfully, so after a failure that is the last success that is known.
    success = reload["at"] if reload["successful"] else status["since"]
    return {
        "catalog_generation": status["generation"],
        "catalog_degraded": int(bool(status["degraded"])),
        "catalog_last_reload_successful": int(bool(reload["successful"])),
        "catalog_last_reload_success_timestamp_seconds": parse_timestamp(success) / SECOND,
        "plugin_quarantined": dict.fromkeys(status["quarantined"], 1),
    }
