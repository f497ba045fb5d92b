"""A signal store beside a trading loop, on a server that refuses, hangs or is slow: writing never waits."""

import time
from contextlib import closing
from statistics import median

import pytest
from torghut_testing.clickhouse import ClickHouseProcess, Fault

from support.waiting import until
from torghut_core.model.market import Batch
from torghut_core.signals import clickhouse as clickhouse_module
from torghut_core.signals import open_signal_store
from torghut_core.signals.failures import StoreError

KEPT = {"microbars_ttl_days": None, "signals_ttl_days": None}
INSERT = "INSERT INTO torghut"


@pytest.fixture
def clickhouse(tmp_path, monkeypatch):
    """A server of the test's own; who asks it waits a second for an answer."""
    pytest.importorskip("chdb", reason="the engine behind the server is torghut[embedded]")
    monkeypatch.setattr(clickhouse_module, "_ANSWER_S", 1)
    with ClickHouseProcess(tmp_path) as process:
        yield process


def piece(batch, start, stop):
    """Some rows of a batch, as if they had come alone."""
    part = Batch.of(batch.symbols, start, batch.now[start:stop])
    part.microbars, part.signals = batch.microbars.rows(start, stop), batch.signals.rows(start, stop)
    return part


def test_a_server_has_five_seconds_to_let_us_in_and_thirty_to_answer(tmp_path):
    """A server that hangs is a failure soon, and not after minutes."""
    pytest.importorskip("chdb", reason="the engine behind the server is torghut[embedded]")
    with ClickHouseProcess(tmp_path) as process, closing(open_signal_store(url=process.url, **KEPT)) as store:
        limits = store._client.timeout
        assert (limits.connect_timeout, limits.read_timeout) == (5, 30)


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        pytest.param(Fault.cut(statement=INSERT, times=None), "connection", marks=pytest.mark.proof),
        (Fault.timeout(statement=INSERT, times=None), "timeout"),
        pytest.param(Fault.table_read_only(statement=INSERT, times=None), "read-only", marks=pytest.mark.proof),
    ],
)
def test_writing_continues_while_rows_are_refused(clickhouse, derived_batch, fault, error_class):
    """No call raises or waits; `trouble` gives the reason until all rows are stored, for which clock ticks are enough."""
    with closing(open_signal_store(url=clickhouse.url, waits=False, block_age_s=0.0, **KEPT)) as store:
        rows = derived_batch([float(number) for number in range(2000)])
        store.write(piece(rows, 0, 1))
        store.flush()
        clickhouse.add(fault)
        took, count = [], 1
        while store.trouble is None or store.trouble.error_class != error_class:
            assert count < 2000
            began = time.perf_counter()
            store.write(piece(rows, count, count + 1))
            took.append(time.perf_counter() - began)
            count += 1
            time.sleep(0.01)
        clickhouse.clear()
        assert median(took) < 0.1
        until(lambda: store.write(piece(rows, 0, 0)) or (store.trouble is None and not store._writer.kept))
        assert store.errors[error_class] >= 1
        assert store.bars()["close"].to_pylist() == [float(number) for number in range(count)]
        assert store.counts() == {"microbars": count, "signals": count}


def test_rows_that_cannot_be_stored_before_the_end_are_an_error(clickhouse, derived_batch):
    """`close` raises with the number of rows lost, and why."""
    store = open_signal_store(url=clickhouse.url, waits=False, **KEPT)
    store.write(derived_batch([1.0, 2.0]))
    clickhouse.add(Fault.error(497, "Not enough privileges", statement=INSERT, times=None))
    with pytest.raises(StoreError, match=r"^4 rows were not saved: .*grant it to the user"):
        store.close()
