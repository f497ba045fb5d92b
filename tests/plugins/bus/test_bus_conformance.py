"""Sinks and sources of the bus pass the kit's suites."""

import pytest
from torghut_sources.bus import KafkaSink, KafkaSource, MemorySink, MemorySource
from torghut_testing import LiveSourceConformance, SinkConformance


class TestKafkaSink(SinkConformance):
    sink = KafkaSink


class TestMemorySink(SinkConformance):
    sink = MemorySink


class TestKafkaSource(LiveSourceConformance):
    source = KafkaSource


class TestMemorySource(LiveSourceConformance):
    source = MemorySource


def test_channels_are_named_once():
    """A channel that is named twice is a mistake, and said so."""
    with pytest.raises(ValueError, match="once"):
        KafkaSource.Params(channels=["trades", "trades"])
