"""What the sources and sinks that come with torghut read of the environment, `torghut doctor` knows."""

import pytest

from torghut_core.installation.settings import Settings
from torghut_core.plugin_host import PluginHost


@pytest.mark.parametrize(
    ("kind", "name", "setting"),
    [
        ("source", "alpaca", "alpaca_feed"),
        ("source", "kafka", "kafka_bootstrap"),
        ("source", "kafka", "topic_trades"),
        ("source", "clickhouse-signals", "trading_poll_ms"),
        ("sink", "kafka", "kafka_linger_ms"),
        ("sink", "kafka", "topic_status"),
    ],
)
def test_settings_are_declared(kind, name, setting):
    """Each is in one of the classes that the plugin names, and no setting of the kernel's is."""
    plugin = PluginHost.load().registry[kind][name].cls
    named = {field for settings in plugin.settings for field in settings.model_fields}
    assert setting in named
    assert named.isdisjoint(Settings.model_fields)
