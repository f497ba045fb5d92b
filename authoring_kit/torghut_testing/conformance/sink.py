"""What every sink promises that can be seen without its bus."""

from __future__ import annotations

from typing import ClassVar

from torghut_core import Sink
from torghut_testing.conformance.plugin import PluginConformance


class SinkConformance(PluginConformance):
    """Checks of a sink that is not connected. What it does with its bus is for its own tests.

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
        """A catalog can be checked where the bus cannot be reached."""
        sink = self.make()
        sink.close()
        sink.close()

    def test_metrics_are_numbers(self) -> None:
        """What it counts can be shown, and counters say so in their names."""
        for name, value in self.make().metrics().items():
            numbers = [value] if isinstance(value, (int, float)) else list(value.values())
            assert name == name.lower()
            assert all(isinstance(number, (int, float)) for number in numbers), name
