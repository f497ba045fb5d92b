"""The API of `torghut run` is killed, frozen, or loses its kernel: trading goes on, and the API is there again."""

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from support.processes import api_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")


@pytest.fixture
def real(kernel):
    """A kernel that is started as a shell would, and trades."""
    kernel.real = True
    return kernel.begin()


def decided(kernel):
    """How many decisions its records have, also while it runs."""
    with closing(sqlite3.connect(kernel.state / "audit.db")) as database:
        return database.execute("SELECT count(*) FROM trade_decisions").fetchone()[0]


def test_trading_goes_on_while_the_api_is_killed_or_frozen(real):
    """Bars that come meanwhile are traded; the next process answers for what was done, and a frozen one holds up no end."""
    pid = api_process(real.process.pid)
    os.kill(pid, signal.SIGKILL)
    real.trade(4)
    assert real.metric("admin_restarts_total") == 1
    assert "the admin API's process has ended" in real.log
    os.kill(api_process(real.process.pid), signal.SIGSTOP)
    real.grow(4)
    real.until(lambda: decided(real) == 2 * real.fed)
    assert real.send() == 0
    assert real.findings == []


@pytest.mark.proof
def test_killed_run_takes_its_api_along(real):
    """After kill -9 no process of it is left, and the next one has the same address at once."""
    port = real.url.rpartition(":")[2]
    pid = api_process(real.process.pid)
    real.send(signal.SIGKILL)
    real.start("run", "--catalog", real.catalog, "--state", real.state, "--port", port)
    assert real.listens(), real.log
    real.until(lambda: real.ask("/readyz")[0] == 200)
    assert not Path(f"/proc/{pid}/cmdline").is_file() or not Path(f"/proc/{pid}/cmdline").read_bytes()
