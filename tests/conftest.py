"""What all tests share: how hard they look (see `support.effort`), and which of them are proofs."""

import gc
import itertools
import logging
import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

from support import processes
from support.api_threads import ApiThread
from support.effort import EFFORT, many
from support.postgres import execute, servers, url_of
from torghut_core.admin import api_process
from torghut_core.audit import upgrade
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


def pytest_configure(config):
    """Collect no garbage while modules are imported and tests are collected.

    Hear Ctrl-C as in a terminal: a shell that runs the tests in the background lets them ignore it. What forks the commands
    of the tests is one process, for all workers.
    """
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if processes.FORKS and config.getoption("numprocesses", None):
        processes.share_fork_server()


def pytest_collection_finish():
    """Keep what is loaded by now out of later collections: they took a tenth of the time of all tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


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


@pytest.fixture(scope="session", autouse=True)
def _api_threads():
    """A server that a test makes serves in a thread of the test's process, see `support.api_threads`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api_process, "start_process", ApiThread)
        yield


@pytest.fixture(scope="session")
def make_server():
    """A function that starts a real Postgres server and gives it; all are stopped at the end."""
    with servers() as start:
        yield start


@pytest.fixture(scope="session")
def postgres_server(make_server):
    """A real Postgres server, for this process alone."""
    return make_server()


@pytest.fixture(scope="session")
def make_database(postgres_server):
    """A function that makes a database on the real server and gives its URL: empty, or with the audit's tables."""
    numbers = itertools.count()

    def make(template="template1"):
        name = f"made_{next(numbers)}"
        execute(url_of(postgres_server), f"CREATE DATABASE {name} TEMPLATE {template}")
        return url_of(postgres_server, name)

    execute(url_of(postgres_server), "CREATE DATABASE audited")
    upgrade(url_of(postgres_server, "audited"))
    return lambda is_empty=False: make() if is_empty else make("audited")
