"""The watchdog names the plugin that is at work, and nothing where none is."""

import signal
import sys

import pytest

from torghut_core.plugin_host.watchdog import TICKS, Overrun, Watchdog


def caller(work, name_first):
    """A kernel function that calls a plugin; it knows its name before or after."""
    if name_first:
        plugin = "slow"
    work()
    plugin = "late"
    return plugin.upper()


@pytest.fixture
def dog():
    return Watchdog(0.1, {caller.__code__: "plugin"}, kernel="/nowhere/kernel", uninterrupted="/nowhere/kernel/trading")


def alarms(dog):
    """A plugin at work while the alarm goes off as often as its budget allows."""
    for _ in range(TICKS):
        dog._check(signal.SIGALRM, sys._getframe())


def test_plugin_that_has_used_up_its_budget_is_interrupted(dog):
    """It is seen at work once too often."""
    with pytest.raises(Overrun):
        caller(lambda: alarms(dog), name_first=True)


def test_alarm_before_a_plugin_is_named_raises_nothing(dog):
    """The alarm raised KeyError in the kernel, and ended the process, when it came before the first row of a batch."""
    assert caller(lambda: alarms(dog), name_first=False) == "LATE"


def test_caller_without_the_local_that_names_the_plugin_is_refused():
    """Whoever renames the local learns it at the start, not from an alarm."""
    with pytest.raises(ValueError, match="has no local variable 'name'"):
        Watchdog(0.1, {caller.__code__: "name"}, kernel="", uninterrupted="")
