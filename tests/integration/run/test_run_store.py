"""`torghut run` that derives its rows itself, while the signal store refuses them."""

import time
from contextlib import closing

import pytest
from torghut_testing.clickhouse import ClickHouseProcess, Fault

from support.waiting import PATIENCE
from torghut_core.signals import open_signal_store

from .conftest import FLIP, Kernel

INSERT = "INSERT INTO torghut"

LIVE = '''
"""A source that is no tape to the kernel: it cannot be told to wait."""
from torghut_core import hookimpl
from torghut_sources.tape.source import Replay


class Live(Replay):
    is_recorded = False


@hookimpl
def register_sources(register):
    register("live", Live)
'''

LATE = FLIP.replace('"flip"', '"late"').replace(
    "        self.rows += 1\n", "        self.rows += 1\n        if self.rows == 1:\n            return None\n"
)
"""Skips the first row, and then buys where `flip` closes: while entries pass, one of the two holds at any time."""


class Beside(Kernel):
    """A kernel whose source does not wait, and whose rows go to a server."""

    def text(self, strategies, **head):
        return super().text(strategies, **head).replace("use: replay", "use: live")

    def denied(self):
        """How many decisions the closed gate has denied."""
        lines = self.ask("/metrics")[1].splitlines()
        found = [line.split()[-1] for line in lines if line.startswith("torghut_denials_total") and "not-ready" in line]
        return float(found[0]) if found else 0.0

    def pulse(self, holds):
        """Bars, one after the other, until something is true; how long the slowest took to be traded."""
        slowest, end = 0.0, time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, self.log
            began = time.monotonic()
            self.trade(1)
            slowest = max(slowest, time.monotonic() - began)
        return slowest

    def quantity(self):
        """What is held."""
        return sum(float(each["quantity"]) for each in self.get("/trading/status")["positions"])


@pytest.fixture
def clickhouse(tmp_path):
    pytest.importorskip("chdb", reason="the engine behind the server is torghut[embedded]")
    with ClickHouseProcess(tmp_path / "clickhouse") as process:
        yield process


@pytest.fixture
def kernel(tmp_path, clickhouse):
    kernel = Beside(tmp_path)
    kernel.env |= {
        "TA_CLICKHOUSE_URL": clickhouse.url,
        "TA_CLICKHOUSE_FLUSH_MS": "20",
        "TA_MICROBARS_TTL_DAYS": "3650",
        "TA_SIGNALS_TTL_DAYS": "3650",
    }
    kernel.write_plugin("live", LIVE)
    kernel.write_plugin("late", LATE)
    kernel.write({"one": 1, "two": {"use": "late", "params": {"quantity": 1}}})
    yield kernel
    kernel.kill()


def rows_of(clickhouse):
    with closing(open_signal_store(url=clickhouse.url, microbars_ttl_days=None, signals_ttl_days=None)) as store:
        return store.signals()["seq"].to_pylist()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault.cut, marks=pytest.mark.proof),
        Fault.timeout,
        pytest.param(Fault.table_read_only, marks=pytest.mark.proof),
    ],
)
def test_exits_pass_while_the_store_is_down(kernel, clickhouse, fault):
    """A store that refused rows, or hung, once ended the run, or blocked it with positions open.

    Entries wait, exits pass, the reason is shown; when it takes rows again, all of them are stored and entries pass.
    """
    kernel.begin()
    for _ in range(3):
        kernel.trade(1)
        assert kernel.quantity() == 1
    clickhouse.add(fault(statement=INSERT, times=None))
    assert kernel.pulse(lambda: kernel.metric("store_writable") == 0) < 3
    assert kernel.pulse(lambda: kernel.denied() >= 3) < 3
    assert kernel.quantity() == 0

    code, told = kernel.ask("/readyz")
    assert code == 503
    assert "store: " in told
    (reason,) = kernel.health["store"]
    assert "ClickHouse" in reason or "signal store" in reason
    assert kernel.ask("/healthz")[0] == 200

    clickhouse.clear()
    kernel.until(lambda: kernel.metric("store_writable") == 1)
    kernel.pulse(lambda: kernel.quantity() > 0)
    assert kernel.ask("/readyz")[0] == 200
    assert kernel.send() == 0
    assert len(rows_of(clickhouse)) == kernel.fed


def test_rows_that_the_end_cannot_store_make_it_fail(kernel, clickhouse):
    """On SIGTERM while the store is down it records its books, and says how many rows are lost."""
    kernel.begin()
    for _ in range(3):
        kernel.trade(1)
        assert kernel.quantity() == 1
    clickhouse.add(Fault.error(497, "Not enough privileges", statement=INSERT, times=None))
    kernel.pulse(lambda: kernel.metric("store_writable") == 0)
    assert kernel.send() == 1
    assert "rows were not saved" in kernel.log
    assert kernel.rows("position_snapshots", symbol="ES")
    assert kernel.findings == []


def test_tape_whose_rows_are_refused_ends_with_what_to_do_and_goes_on(tmp_path, clickhouse):
    """A tape waits for the store: on a full disk the run ends, says so truly, and the next start stores all of it."""
    kernel = Kernel(tmp_path)
    kernel.env |= {
        "TA_CLICKHOUSE_URL": clickhouse.url,
        "TA_MICROBARS_TTL_DAYS": "3650",
        "TA_SIGNALS_TTL_DAYS": "3650",
    }
    kernel.source = {}
    kernel.grow(9)
    kernel.write({"one": 1})
    clickhouse.add(Fault.error(243, "Cannot reserve 1.00 MiB, not enough space", statement=INSERT, times=None))
    code, log = kernel.run("--port", 0)
    assert code == 1
    (told,) = [line for line in log.splitlines() if line.startswith("error: ")]
    for text in (clickhouse.url.partition("://")[2], "not enough space", "free disk space", "start it again"):
        assert text in told
    assert "kept and sent again" not in log
    clickhouse.clear()
    code, log = kernel.run("--port", 0)
    assert code == 0, log
    assert len(rows_of(clickhouse)) == kernel.fed
