"""Topics have the names that the environment gives, and others where nothing is real."""

import pytest

from torghut_core.bus.topics import Topics
from torghut_core.errors import SettingsError


@pytest.mark.parametrize(
    ("name", "simulated"),
    [
        ("torghut.trades.v1", "torghut.sim.trades.v1"),
        ("trades", "sim.trades"),
        ("my.torghut.trades", "sim.my.torghut.trades"),
        ("torghutx.trades", "sim.torghutx.trades"),
    ],
)
def test_simulated_topics_are_others(monkeypatch, name, simulated):
    """`sim.` stands after `torghut.`, or in front of a name that does not begin so."""
    monkeypatch.setenv("TOPIC_TRADES", name)
    assert Topics.read().of("trades") == name
    assert Topics.read().of("trades", simulated=True) == simulated


def test_two_channels_on_one_topic_are_refused(monkeypatch):
    """Two channels with the same topic are an error that names both settings, before anything is written."""
    monkeypatch.setenv("TOPIC_QUOTES", "torghut.trades.v1")
    with pytest.raises(SettingsError, match=r"TOPIC_TRADES and TOPIC_QUOTES share a topic, torghut\.trades\.v1"):
        Topics.read()
