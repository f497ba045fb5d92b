"""What a metric is called and what it means, stated by the part that counts it.

A part (a source, a sink, the reconciler, ...) names its metrics in `metric_specs` and gives their numbers in `metrics()`.
Whoever serves them, `admin.metrics`, knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias

Metric: TypeAlias = float | Mapping[str, float]
"""A number, or numbers by the value of the metric's one label."""


class MetricSpec(NamedTuple):
    """One metric.

    Attributes
    ----------
    name : without ``torghut_``, with its unit; one that ends in ``_total`` is a counter, any other a gauge.
    help : one sentence that says what is counted or measured, in which unit.
    label : what tells its numbers apart, such as ``topic``; "" where it is a single number.

    Examples
    --------
    >>> MetricSpec("bus_records_total", "Records read, by topic.", "topic").label
    'topic'
    """

    name: str
    help: str
    label: str = ""


class Measured(Protocol):
    """A part of a process that has metrics. Both may be asked for from any thread."""

    @property
    def metric_specs(self) -> tuple[MetricSpec, ...]:
        """Its metrics: what each is called and means."""

    def metrics(self) -> Mapping[str, Metric]:
        """The numbers of `metric_specs`, by name; one that is not known yet may be left out."""
