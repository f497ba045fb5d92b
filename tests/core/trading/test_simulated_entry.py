"""A simulated broker is called as the plugin that it is."""

from types import SimpleNamespace

import pytest

from torghut_core.errors import PluginError
from torghut_core.plugin_host.running_plugin import LOOP, NO_PLUGIN, RECORD, label
from torghut_core.trading.simulated_entry import SimulatedEntry


def test_broker_is_recorded_while_it_runs():
    """A crash inside it is not the strategy's whose order it fills; afterwards the strategy runs again, or none."""
    seen = []
    broker = SimpleNamespace(
        day_zone="UTC", may_liquidate=False, updates=lambda: seen.append(bytes(RECORD.memory[LOOP])) or []
    )
    entry = SimulatedEntry("simulated", broker)
    for before in (label("strategy", "one"), NO_PLUGIN):
        RECORD.memory[LOOP] = before
        entry.updates()
        assert RECORD.memory[LOOP] == before
    assert seen == [label("broker", "simulated")] * 2


def test_broker_that_raises_does_not_run_any_more():
    """The error names it, and nothing else says that it still runs."""
    broker = SimpleNamespace(day_zone="UTC", may_liquidate=False, account=lambda: 1 / 0)
    with pytest.raises(PluginError, match="simulated"):
        SimulatedEntry("simulated", broker).account()
    assert RECORD.memory[LOOP] == NO_PLUGIN
