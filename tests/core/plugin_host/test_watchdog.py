"""The watchdog names the plugin that is at work, charges it with its own processor time, and nobody where none is."""

import signal
import sys
import threading
import time

import pytest

from torghut_core.plugin_host.watchdog import TICKS, WAITS, Overrun, Watchdog

BUDGET = 0.1


def caller(work, name_first):
    """A kernel function that calls a plugin; it knows its name before or after."""
    if name_first:
        plugin = "slow"
    work()
    plugin = "late"
    return plugin.upper()


@pytest.fixture
def dog():
    return Watchdog(
        BUDGET, {caller.__code__: "plugin"}, kernel="/nowhere/kernel", uninterrupted="/nowhere/kernel/trading"
    )


@pytest.fixture
def clock(monkeypatch):
    """Processor time and wall time, seconds, which a test lets pass."""

    class Times:
        processor = wall = 0.0

    monkeypatch.setattr(time, "thread_time", lambda: Times.processor)
    monkeypatch.setattr(time, "monotonic", lambda: Times.wall)
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)
    return Times


def alarms(dog, clock, ticks, processor, wall=BUDGET / TICKS):
    """A plugin at work while the alarm goes off so often, with so much time of each kind in between."""
    for _ in range(ticks):
        clock.processor += processor
        clock.wall += wall
        dog._check(signal.SIGALRM, sys._getframe())


def test_plugin_that_has_used_up_its_budget_is_interrupted(dog, clock):
    """It is charged with the processor time of the thread while it is seen at work."""
    alarms_of_plugin = lambda: alarms(dog, clock, TICKS, BUDGET / TICKS)  # noqa: E731
    with pytest.raises(Overrun, match=r"more than 0\.1 s of one batch"):
        caller(alarms_of_plugin, name_first=True)


def test_time_in_which_others_have_the_processor_is_charged_to_nobody(dog, clock):
    """A plugin that uses a twentieth of a busy machine is not blamed for the rest."""
    for _ in range(3):
        caller(lambda: alarms(dog, clock, 5 * TICKS, BUDGET / TICKS / 20), name_first=True)


def test_processor_time_before_a_late_alarm_is_not_the_plugins(dog, clock):
    """An alarm that was held up by the kernel's own native code charges a tenth of the budget at most."""
    caller(lambda: alarms(dog, clock, 1, 100 * BUDGET), name_first=True)


def test_call_that_waits_is_interrupted(dog, clock):
    """After ten budgets by the clock, though it uses no processor."""
    with pytest.raises(Overrun, match="did not return within 1 s"):
        caller(lambda: alarms(dog, clock, WAITS * TICKS + 2, 0.0), name_first=True)


def test_many_short_calls_on_a_slow_machine_are_not_interrupted(dog, clock):
    """The clock counts for each call alone."""
    for _ in range(WAITS * TICKS):
        caller(lambda: alarms(dog, clock, 2, 0.0), name_first=True)


@pytest.fixture
def dog_of_replays():
    return Watchdog(
        BUDGET,
        {caller.__code__: "plugin"},
        kernel="/nowhere/kernel",
        uninterrupted="/nowhere/kernel/trading",
        is_of_a_call=True,
    )


def test_in_a_replay_a_call_that_does_not_return_is_interrupted(dog_of_replays, clock):
    """By the processor time that it has used itself."""
    with pytest.raises(Overrun, match=r"more than 0\.1 s of one call"):
        caller(lambda: alarms(dog_of_replays, clock, TICKS + 1, BUDGET / TICKS), name_first=True)


def test_in_a_replay_many_calls_may_take_any_time(dog_of_replays, clock):
    """So the result does not depend on how many rows are in a batch."""
    for _ in range(5):
        caller(lambda: alarms(dog_of_replays, clock, TICKS - 1, BUDGET / TICKS), name_first=True)


def test_in_a_replay_a_call_may_wait(dog_of_replays, clock):
    """A person may sit at a debugger."""
    caller(lambda: alarms(dog_of_replays, clock, 2 * WAITS * TICKS, 0.0), name_first=True)


def test_alarm_before_a_plugin_is_named_raises_nothing(dog, clock):
    """The alarm raised KeyError in the kernel, and ended the process, when it came before the first row of a batch."""
    assert caller(lambda: alarms(dog, clock, 20 * TICKS, BUDGET), name_first=False) == "LATE"


def swallow_all():
    while True:
        try:
            while True:
                pass
        except:  # noqa: E722 - as careless plugins do
            continue


def swallow_and_wait():
    while True:
        try:
            threading.Event().wait(3600)
        except BaseException:
            threading.Event().wait(3600)


@pytest.mark.parametrize("work", [swallow_all, swallow_and_wait])
def test_plugin_that_catches_everything_is_interrupted_all_the_same(work):
    """What catches even `Overrun` gets it again, also in its handler."""
    dog = Watchdog(0.02, {caller.__code__: "plugin"}, kernel="/nowhere/kernel", uninterrupted="/nowhere/kernel/trading")
    with dog.installed(), dog.batch(), pytest.raises((Overrun, RuntimeError)):  # interrupted while it gives up a lock
        caller(work, name_first=True)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_caller_without_the_local_that_names_the_plugin_is_refused():
    """Whoever renames the local learns it at the start, not from an alarm."""
    with pytest.raises(ValueError, match="has no local variable 'name'"):
        Watchdog(0.1, {caller.__code__: "name"}, kernel="", uninterrupted="")
