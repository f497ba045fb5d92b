"""The conformance suite of a sink, as far as it can be checked without its bus."""

from __future__ import annotations

from typing import ClassVar

from torghut_core import Sink
from torghut_testing.conformance.metrics import check_metrics
from torghut_testing.conformance.plugin import PluginConformance


class SinkConformance(PluginConformance):
    """Checks of a sink that is not connected. How it uses its bus is for its own tests.

    Attributes
    ----------
    sink : the class under test.
    """

    sink: ClassVar[type[Sink]]

    @property
    def subject(self) -> type[Sink]:
        """The class under test."""
        return self.sink

    def test_it_can_be_made_and_closed_without_a_bus(self) -> None:
        """Making and closing it needs no bus, so that a catalog can be validated anywhere."""
        sink = self.make()
        sink.close()
        sink.close()

    def test_metrics_are_declared_numbers(self) -> None:
        """What it counts can be shown, each with its meaning and the label that tells its numbers apart."""
        check_metrics(self.make())
