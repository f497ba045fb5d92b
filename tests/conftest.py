"""What all tests share: how hard hypothesis looks.

The examples are the same on every run, so that a change is judged by what it does. ``HYPOTHESIS_PROFILE=hunt`` looks
for new ones, ten times as hard.
"""

import logging
import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from torghut_core.telemetry import logs

settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("hunt", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True)
def _logging_as_before():
    """A command that a test calls sets up the logging of its process; the next test is another's."""
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, root.manager.loggerDict))}
    level, packages = logs._level, set(logs._plugin_packages)
    yield
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__ != logs.__name__]
    for logger in (root, *map(logging.getLogger, list(root.manager.loggerDict))):
        logger.setLevel(levels.get(logger, logging.NOTSET))
    logs._level, logs._plugin_packages = level, packages
