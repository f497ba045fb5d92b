"""What all tests share: how hard they look (see `support.effort`), and which of them are proofs."""

import logging

import pytest
from hypothesis import HealthCheck, Phase, settings

from support.effort import EFFORT, many
from torghut_core.telemetry import logs

settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    max_examples=many(100),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("hunt", deadline=None, max_examples=many(100))
settings.load_profile("hunt" if EFFORT == "hunt" else "steady")


def pytest_collection_modifyitems(items):
    """Mark the tests of properties: `make proof` runs them too, with more examples."""
    for item in items:
        if getattr(getattr(item, "function", None), "is_hypothesis_test", False):
            item.add_marker("examples")


@pytest.fixture(autouse=True)
def _logging_as_before():
    """A command that a test calls sets up the logging of its process; the next test is another's."""
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, root.manager.loggerDict))}
    level, packages = logs._level, set(logs._plugin_packages)
    yield
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__ != logs.__name__]
    # only those that `logs` sets: a module that is imported in a test may silence a logger of its own for good
    for logger in (root, *map(logging.getLogger, (*logs.QUIET, *logs._plugin_packages))):
        logger.setLevel(levels.get(logger, logging.NOTSET))
    logs._level, logs._plugin_packages = level, packages
