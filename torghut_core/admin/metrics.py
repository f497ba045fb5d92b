"""What Prometheus reads: the kernel's own numbers, and those that its status tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as PrometheusMetric
from prometheus_client.registry import Collector

from torghut_core.admin.kernel import Kernel
from torghut_core.ports import Metric
from torghut_core.timestamps import SECOND, parse_timestamp

HELP: Mapping[str, str] = {
    "catalog_generation": "Number of the generation that trades.",
    "catalog_degraded": "1 while a part of the catalog could not be taken up.",
    "catalog_last_reload_successful": "1 where the last reload took up all that it could read.",
    "catalog_last_reload_success_timestamp_seconds": "When a reload was successful last, Unix time.",
    "plugin_quarantined": "1 for each strategy that was taken out because it failed.",
    "events_total": "Events traded on.",
    "event_lag_seconds": "How far the loop's time is behind the clock.",
    "late_total": "Trades that came after their microbar was closed; also second copies of trades that are in it.",
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
    "store_writable": "0 while the signal store does not take rows as fast as they come, and entries wait.",
    "reconcile_updates_total": "What the venue had to tell that was not known here.",
    "reconcile_age_seconds": "How long ago our books were held against the venue's.",
    "reconcile_lag_seconds": "How long the venue took to show how it stands.",
    "reconcile_differences": "Symbols in which entries wait because the books differ.",
    "orders_foreign": "Open orders of somebody else at the venue.",
    "orders_unresolved": "Orders of which nobody knows whether the venue has them.",
    "order_requests_total": "Requests to the venue, by what became of them.",
    "lease_held": "1 while this process is the one that trades the account.",
    "reload_pause_seconds": "How long the loop stood still for the last reload.",
    "ws_readyz_status": "1 while the process can make progress.",
    "ws_readyz_gate_status": "1 for each gate that is open.",
    "ws_readyz_error_class": "1 for the class of what closes a gate.",
    "ws_ws_connect_success_total": "Connections to the market data that were made.",
    "ws_ws_connect_errors_total": "Connections that failed or were lost, by class.",
    "ws_reconnects_total": "Connections that were made again.",
    "ws_kafka_produce_success_total": "Events that the bus has acknowledged, by topic.",
    "ws_kafka_produce_errors_total": "Events that the bus has refused, by topic.",
    "ws_kafka_send_latency_ms": "From taking an event to its acknowledgement, milliseconds, by quantile.",
    "ws_lag_ms": "From an event at the venue to its arrival here, milliseconds, by quantile.",
    "ws_dedup_drops_total": "Events that came twice and were dropped, by channel.",
    "ws_ahead_refused_total": "Events refused because they are ahead of all clocks.",
    "ws_backfill_events_total": "Events that came from the history.",
    "ws_backfill_failures_total": "Times that the history did not answer.",
    "ws_backfill_truncated_total": "Gaps of which only the end was filled, as they are too long.",
    "ws_backfills_total": "Gaps that were filled.",
    "ws_bar_updates_total": "Corrected bars, which are forwarded and not derived from.",
    "ws_complaints_total": "Messages of the venue that could not be used, by reason.",
    "ws_gaps_total": "Times that something was missed.",
    "ws_queue_bytes": "Bytes of the venue's frames that wait.",
    "ws_queue_frames": "Frames of the venue that wait.",
    "ws_symbols_confirmed": "Symbols that the venue has confirmed.",
    "ws_symbols_refused": "Symbols that the venue does not give.",
    "ws_ticks_total": "Times that only the clock went on.",
    "ws_unknown_messages_total": "Messages of kinds that are not known, by kind.",
    "bus_bar_updates_total": "Bars that came again on the bus and were left out.",
    "bus_dead_letters_total": "Records that could not be used, by topic.",
    "bus_lag_records": "Records on the bus that were not read yet, by topic.",
    "bus_lanes": "Partitions that this process reads.",
    "bus_records_total": "Records read, by topic.",
    "bus_skipped_total": "Records that are no market data, by channel.",
    "forwarded_total": "Events forwarded, by channel.",
    "excluded_total": "Trades that no bar counts, by their sale conditions.",
    "ta_checkpoints_total": "Times that rows, states and offsets were made durable.",
    "ta_watermark_lag_ms": "How far a lane's watermark is behind the clock, milliseconds.",
    "clickhouse_guardrails_disk_free_bytes": "Room on the signal store's disk.",
    "clickhouse_guardrails_errors_total": "What the signal store could not do, by class.",
    "clickhouse_guardrails_ta_microbars_max_event_ts_seconds": "Time of the newest microbar, Unix time.",
    "clickhouse_guardrails_ta_signals_max_event_ts_seconds": "Time of the newest signal, Unix time.",
    "clickhouse_guardrails_writes_paused": "1 while nothing is written because the disk is full.",
    "clickhouse_signals_duplicates_total": "Rows of the signal store that were seen before.",
    "clickhouse_signals_errors_total": "Times that the signal store did not answer.",
    "clickhouse_signals_lag_ms": "How old the newest row is, milliseconds.",
    "clickhouse_signals_late_total": "Rows that came behind a newer one of their series and are not traded on.",
    "clickhouse_signals_polls_total": "Times that the signal store was asked for rows.",
    "clickhouse_signals_rows_total": "Rows traded on.",
    "clickhouse_signals_unpriced_total": "Signals without a bar, which are not traded on.",
    "ws_desired_symbols_fetch_degraded": "1 while the last known list of symbols is used.",
    "ws_desired_symbols_fetch_success_total": "Lists of symbols that were fetched.",
    "ws_desired_symbols_fetch_failures_total": "Lists of symbols that could not be had, by reason.",
    "ws_desired_symbols_fetch_last_success_ts_seconds": "When a list of symbols was fetched last, Unix time.",
    "ws_desired_symbols_fetch_last_failure_ts_seconds": "When a list of symbols could not be had last, Unix time.",
}
"""Metrics without ``torghut_``, and what they mean."""

LABELS: Mapping[str, str] = {
    "ws_readyz_gate_status": "gate",
    "ws_readyz_error_class": "error_class",
    "ws_ws_connect_errors_total": "error_class",
    "ws_kafka_produce_success_total": "topic",
    "ws_kafka_produce_errors_total": "topic",
    "ws_kafka_send_latency_ms": "quantile",
    "ws_lag_ms": "quantile",
    "ws_dedup_drops_total": "channel",
    "ws_desired_symbols_fetch_failures_total": "reason",
    "ws_complaints_total": "reason",
    "ws_unknown_messages_total": "type",
    "bus_dead_letters_total": "topic",
    "bus_lag_records": "topic",
    "bus_records_total": "topic",
    "bus_skipped_total": "channel",
    "forwarded_total": "channel",
    "clickhouse_guardrails_errors_total": "error_class",
    "ta_watermark_lag_ms": "lane",
}
"""The label of metrics that have another one than ``name``."""


class NumberCollector(Collector):
    """Asks for the numbers when it is scraped; keeps nothing."""

    def __init__(self, numbers: Callable[[], Mapping[str, Metric]]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[PrometheusMetric]:
        """All metrics."""
        for name, value in sorted(self._numbers().items()):
            family_type = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            labels = [LABELS.get(name, "name")] if isinstance(value, Mapping) else None
            family = family_type(f"torghut_{name}", HELP.get(name, f"{name.replace('_', ' ')}."), labels=labels)
            if isinstance(value, Mapping):
                for label, number in value.items():
                    family.add_metric([label], float(number))
            else:
                family.add_metric([], float(value))
            yield family


class Metrics:
    """The text of numbers that are asked for again each time: name -> number, or numbers by label."""

    def __init__(self, numbers: Callable[[], Mapping[str, Metric]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(NumberCollector(numbers))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, as they are now."""
        return generate_latest(self._registry)


def numbers(kernel: Kernel) -> dict[str, Metric]:
    """All metrics of a kernel as they are now, by name; one that the kernel counts itself is the kernel's."""
    return {**_of_status(kernel.status()), **kernel.metrics()}


def _of_status(status: dict[str, Any]) -> dict[str, Metric]:
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
