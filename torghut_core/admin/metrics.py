"""What Prometheus reads: the kernel's own numbers, and those that its status tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from torghut_core.admin.kernel import Kernel
from torghut_core.timestamps import SECOND, parse_timestamp

HELP: Mapping[str, str] = {
    "catalog_generation": "Number of the generation that trades.",
    "catalog_degraded": "1 while a part of the catalog could not be taken up.",
    "catalog_last_reload_successful": "1 where the last reload took up all that it could read.",
    "catalog_last_reload_success_timestamp_seconds": "When a reload was successful last, Unix time.",
    "plugin_quarantined": "1 for each strategy that was taken out because it failed.",
    "events_total": "Events traded on.",
    "event_lag_seconds": "How far the loop's time is behind the clock.",
    "late_total": "Trades that came after their microbar was closed.",
    "duplicates_total": "Trades that came twice.",
    "microbars_total": "Bars derived.",
    "signals_total": "Signal rows derived.",
    "decisions_total": "Decisions that strategies made.",
    "denials_total": "Decisions denied, by the code of the verdict.",
    "orders_submitted_total": "Orders handed to the broker.",
    "orders_rejected_total": "Orders that the broker rejected.",
    "orders_working": "Orders that are out.",
    "fills_total": "Fills, partial ones too.",
    "control_rank": "How strict the operator's control is: 0 running, 1 entries paused, 2 reduce only, 3 halted.",
    "audit_writable": "0 while the audit database cannot be written, and entries wait.",
    "reconcile_updates_total": "What the venue had to tell that was not known here.",
    "reconcile_age_seconds": "How long ago our books were held against the venue's.",
    "reconcile_lag_seconds": "How long the venue took to show how it stands.",
    "reconcile_differences": "Symbols in which entries wait because the books differ.",
    "orders_foreign": "Open orders of somebody else at the venue.",
    "orders_unresolved": "Orders of which nobody knows whether the venue has them.",
    "order_requests_total": "Requests to the venue, by what became of them.",
    "lease_held": "1 while this process is the one that trades the account.",
    "reload_pause_seconds": "How long the loop stood still for the last reload.",
}
"""Metrics without ``torghut_``, and what they mean."""


class KernelCollector(Collector):
    """Asks the kernel when it is scraped; keeps nothing."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        for name, value in sorted(numbers(self._kernel).items()):
            family_type = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            labels = ["name"] if isinstance(value, Mapping) else None
            family = family_type(f"torghut_{name}", HELP.get(name, f"{name.replace('_', ' ')}."), labels=labels)
            if isinstance(value, Mapping):
                for label, number in value.items():
                    family.add_metric([label], float(number))
            else:
                family.add_metric([], float(value))
            yield family


class Metrics:
    """The text of a kernel's metrics."""

    def __init__(self, kernel: Kernel) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(KernelCollector(kernel))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, as they are now."""
        return generate_latest(self._registry)


def numbers(kernel: Kernel) -> dict[str, float | Mapping[str, float]]:
    """All metrics of a kernel as they are now, by name; one that the kernel counts itself is the kernel's."""
    return {**_of_status(kernel.status()), **kernel.metrics()}


def _of_status(status: dict[str, Any]) -> dict[str, float | Mapping[str, float]]:
    reload = status["last_reload"]
    # What trades was taken up successfully, so after a failure that is the last success that is known.
    success = reload["at"] if reload["successful"] else status["since"]
    return {
        "catalog_generation": status["generation"],
        "catalog_degraded": int(bool(status["degraded"])),
        "catalog_last_reload_successful": int(bool(reload["successful"])),
        "catalog_last_reload_success_timestamp_seconds": parse_timestamp(success) / SECOND,
        "plugin_quarantined": dict.fromkeys(status["quarantined"], 1),
    }
