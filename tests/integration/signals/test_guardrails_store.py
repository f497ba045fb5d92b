"""A signal store whose server fails: each kind of failure has its class, retries are few, no row is lost or doubled."""

import threading
import time
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest
from torghut_testing.clickhouse import ClickHouseProcess, Fault

from support.waiting import PATIENCE
from torghut_core.errors import SettingsError, StateError
from torghut_core.model.market import Batch
from torghut_core.signals import MemorySignalStore, open_signal_store
from torghut_core.signals import clickhouse as clickhouse_module
from torghut_core.signals import failures as failures_module
from torghut_core.signals import writer as writer_module
from torghut_core.signals.failures import Remedy, StoreError
from torghut_core.signals.guardrails import Guardrails
from torghut_core.timestamps import SECOND

KEPT = {"microbars_ttl_days": None, "signals_ttl_days": None}
INSERT = "INSERT INTO torghut"
T0 = 1_767_623_400_000_000_001


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A server for all tests of this file."""
    pytest.importorskip("chdb", reason="the engine behind the server is torghut[embedded]")
    with ClickHouseProcess(tmp_path_factory.mktemp("clickhouse")) as process:
        yield process


@pytest.fixture
def quick(monkeypatch):
    """Waits are a hundredth of what they are."""
    monkeypatch.setattr(clickhouse_module, "_RETRY_DELAYS_S", (0.002, 0.01, 0.03))
    first = {remedy: wait / 100 for remedy, wait in failures_module._FIRST_WAIT_S.items()}
    monkeypatch.setattr(failures_module, "_FIRST_WAIT_S", first)


@pytest.fixture
def clickhouse(running, quick):
    """The server with nothing wrong and empty tables."""
    running.listen_again()
    running.clear()
    running.set_disks()
    with closing(open_signal_store(url=running.url, **KEPT)) as store:
        for name in store._tables.values():
            store._client.command(f"DROP TABLE {name}")
    return running


@pytest.fixture
def store(clickhouse):
    """A store on the server; it ends without a flush where a test leaves trouble behind."""
    made = open_signal_store(url=clickhouse.url, **KEPT)
    yield made
    clickhouse.clear()
    made.resume()
    made.close()


def piece(batch, start, stop):
    """Some rows of a batch, as if they had come alone."""
    part = Batch.of(batch.symbols, start, batch.now[start:stop])
    part.microbars, part.signals = batch.microbars.rows(start, stop), batch.signals.rows(start, stop)
    return part


def attempts(clickhouse, since):
    return [request for request in clickhouse.requests("INSERT") if request.at >= since]


def stored(store):
    return int(store._client.command("SELECT count() FROM torghut.ta_microbars"))


@pytest.mark.parametrize(
    ("fault", "error_class", "remedy"),
    [
        (Fault.too_many_parts, "too-many-parts", Remedy.WAIT),
        (Fault.memory_limit, "memory-limit", Remedy.WAIT),
        (Fault.disk_full, "disk-full", Remedy.PAUSE),
        (Fault.read_only, "read-only", Remedy.PAUSE),
        (Fault.table_read_only, "read-only", Remedy.PAUSE),
        (Fault.timed_out, "timeout", Remedy.RETRY),
        (Fault.cut, "connection", Remedy.RETRY),
    ],
)
def test_each_failure_has_its_class_and_remedy(clickhouse, store, derived_batch, fault, error_class, remedy):
    """The error says what to do; the rows are kept, and stored when the failure is over."""
    clickhouse.add(fault(statement=INSERT, times=None))
    store.write(derived_batch([1.0, 2.0]))
    with pytest.raises(StoreError) as raised:
        store.flush()
    assert (raised.value.error_class, raised.value.remedy) == (error_class, remedy)
    assert store.trouble is not None
    assert store.errors[error_class] >= 1

    clickhouse.clear()
    store.resume()
    store.flush()
    assert store.trouble is None
    assert store.counts() == {"microbars": 2, "signals": 2}
    assert stored(store) == 2


def test_a_wrong_password_and_a_missing_table_are_for_good(clickhouse, store, derived_batch):
    """They stop at once: trying again changes nothing."""
    store._client.command("DROP TABLE torghut.ta_microbars")
    store.write(derived_batch([1.0]))
    before = time.time_ns()
    with pytest.raises(StoreError, match="TRADING_PRICE_TABLE") as raised:
        store.flush()
    assert (raised.value.error_class, raised.value.remedy) == ("unknown-table", Remedy.STOP)
    assert len(attempts(clickhouse, before)) == 1
    open_signal_store(url=clickhouse.url, **KEPT).close()

    with pytest.raises(StoreError) as raised:
        open_signal_store(url=clickhouse.url, password="wrong")
    assert raised.value.error_class == "auth"


@pytest.mark.parametrize(
    "fault",
    [Fault.too_many_parts, *(pytest.param(fault, marks=pytest.mark.proof) for fault in (Fault.disk_full, Fault.cut))],
)
def test_however_often_it_is_asked_it_does_not_storm(clickhouse, store, derived_batch, fault, monkeypatch):
    """A caller that asks again and again makes no more attempts than the pauses allow."""
    monkeypatch.setattr(failures_module, "_FIRST_WAIT_S", dict.fromkeys(Remedy, 30.0))
    monkeypatch.setattr(writer_module, "PATIENCE_S", 0.05)
    clickhouse.add(fault(statement=INSERT, times=None))
    before = time.time_ns()
    for n in range(60):
        try:
            store.write(derived_batch([float(n)], first=T0 + n * SECOND))
            store.flush()
        except StateError:
            continue
    assert 1 <= len(attempts(clickhouse, before)) <= 5

    clickhouse.clear()
    store.resume()
    store.flush()
    assert store.counts() == {"microbars": 60, "signals": 60}


@pytest.mark.parametrize("after", [False, True])
def test_a_cut_connection_is_healed_without_a_word(clickhouse, store, derived_batch, after):
    """Before or after the block was stored: a few attempts later it is there, once, and nobody was told."""
    clickhouse.add(Fault.cut(statement=INSERT, times=2, after=after))
    store.write(derived_batch([1.0, 2.0]))
    store.flush()

    assert stored(store) == 2
    assert store.errors == {"connection": 2}


def test_a_server_that_comes_back_gets_what_it_missed(tmp_path, derived_batch, quick):
    """Killed in between, and started again on its port: nothing is lost, nothing is double."""
    pytest.importorskip("chdb", reason="the engine behind the server is torghut[embedded]")
    with ClickHouseProcess(tmp_path) as process, closing(open_signal_store(url=process.url, **KEPT)) as store:
        store.write(derived_batch([1.0]))
        store.flush()
        process.kill()
        store.write(derived_batch([2.0], first=T0 + SECOND))
        with pytest.raises(StoreError) as raised:
            store.flush()
        assert raised.value.error_class == "connection"
        process.start()
        store.flush()
        assert stored(store) == 2


def test_a_full_disk_pauses_writing_until_there_is_room(clickhouse, store, derived_batch):
    """Below the threshold not one insert leaves; above it, with the margin, everything that waited is stored."""
    guard = Guardrails(store, min_free_bytes=1000, every_s=0)
    clickhouse.set_disks(default=(999, 10_000))
    guard.check()
    before = time.time_ns()
    store.write(derived_batch([1.0, 2.0]))
    with pytest.raises(StoreError, match="999 bytes are free") as raised:
        store.flush()
    assert raised.value.error_class == "disk-full"
    assert not guard.may_write
    assert attempts(clickhouse, before) == []

    clickhouse.set_disks(default=(1249, 10_000))
    guard.check()
    assert not guard.may_write
    clickhouse.set_disks(default=(1250, 10_000))
    guard.check()
    assert guard.may_write
    store.flush()
    assert store.counts() == {"microbars": 2, "signals": 2}


def test_disks_that_the_tables_do_not_use_do_not_count(clickhouse, store):
    """A server's other disk may be full, or as large as an object store says."""
    clickhouse.set_disks(default=(500, 1000), backup=(1, 1000), s3=(2**64 - 1, 2**64 - 1))
    assert store.free_bytes() == 500


def test_room_of_tables_without_disks_is_not_known(clickhouse, store):
    """A Buffer or Distributed table has no storage policy: that is no full disk."""
    names = {"price_table": "torghut.ta_microbars_buffer", "signal_table": "torghut.ta_signals_buffer"}
    for name in store._tables.values():
        engine = f"Buffer('torghut', '{name.partition('.')[2]}', 1, 1, 1, 1, 1, 1, 1)"
        store._client.command(f"CREATE TABLE {name}_buffer AS {name} ENGINE = {engine}")
    with closing(open_signal_store(url=clickhouse.url, **names)) as buffered:
        assert buffered.free_bytes() is None
    for name in names.values():
        store._client.command(f"DROP TABLE {name}")
    assert store.free_bytes() > 0


def test_room_of_an_embedded_store(embedded):
    """The file system's, asked of the operating system."""
    assert embedded.free_bytes() > 0
    assert embedded.newest_event_ts("signals") is None


def test_newest_rows(store, derived_batch):
    """The largest `event_ts` of each table, to the nanosecond."""
    assert store.newest_event_ts("microbars") is None
    store.write(derived_batch([1.0, 2.0]))
    store.flush()
    assert store.newest_event_ts("microbars") == store.newest_event_ts("signals") == T0 + SECOND


# Marks


def test_the_same_rows_after_the_same_mark_are_stored_once(clickhouse, derived_batch, monkeypatch):
    """A process that crashed between insert and checkpoint sends them again, in other parts: the server knows them."""
    made = writer_module.BlockWriter.__init__
    monkeypatch.setattr(made, "__defaults__", (4, *made.__defaults__[1:]))
    whole = derived_batch(np.arange(11.0))
    for parts in ([11], [3, 5, 3], [1] * 11):
        store = open_signal_store(url=clickhouse.url, **KEPT)
        store.mark("0:42")
        at = 0
        for part in parts:
            store.write(piece(whole, at, at + part))
            at += part
        store.flush()
        assert stored(store) == 11
        store.close()
    tokens = {each.options["insert_deduplication_token"] for each in clickhouse.requests(INSERT)[-6:]}
    assert {token.rpartition("/")[0] for token in tokens} == {"0:42/0", "0:42/1", "0:42/2"}


def test_other_rows_after_the_same_mark_are_stored_too(clickhouse, store, derived_batch):
    """Offsets alone do not make a token: a later run that derives more than the first loses nothing of it."""
    for close in (1.0, 2.0):
        store.mark("0:42")
        store.write(derived_batch([close]))
        store.flush()
    assert stored(store) == 2


def test_a_mark_cuts_blocks(store, derived_batch, clickhouse):
    """What comes before a mark is in no block with what comes after it; age does not cut what follows."""
    before = time.time_ns()
    store.write(derived_batch([1.0]))
    store.mark("a")
    store.write(derived_batch([2.0], first=T0 + SECOND))
    store.mark("b")
    store.flush()
    assert len(attempts(clickhouse, before)) == 4


# Days


def test_days_of_a_server_s_tables_follow_the_settings_where_they_may(clickhouse, store):
    """With `apply_ttl` a table that is there gets the days of the settings, once; with False it keeps its own."""

    def ttl():
        return str(store._client.command("SHOW CREATE TABLE torghut.ta_signals"))

    open_signal_store(url=clickhouse.url, signals_ttl_days=7, apply_ttl=False).close()
    assert "TTL" not in ttl()
    for days in (7, 7, 9):
        open_signal_store(url=clickhouse.url, signals_ttl_days=days, apply_ttl=True).close()
        assert f"toIntervalDay({days})" in ttl()
    assert len(clickhouse.requests("ALTER TABLE torghut.ta_signals MODIFY TTL")) == 2


# Reading as it grows


@pytest.fixture(params=["memory", "server"])
def reader(request):
    """A store of each kind: they keep the same promises."""
    return MemorySignalStore() if request.param == "memory" else request.getfixturevalue("store")


def ends(page):
    seconds = ((end - T0) / SECOND for end in page["window_end"].cast(pa.int64()).to_pylist())
    return list(zip(page["symbol"].to_pylist(), page["window_size"].to_pylist(), seconds, strict=True))


def test_rows_are_read_by_their_ends(reader, derived_batch):
    """Every symbol from its own time on, bars of all lengths, in the order in which they were known, a page at a time."""
    assert reader.signals_until() is None
    reader.write(derived_batch([1.0, 2.0, 3.0]))
    reader.write(derived_batch([4.0, 5.0], symbol="NQ"))
    reader.write(derived_batch([6.0], symbol="ES", step=3 * SECOND))
    reader.write(derived_batch([7.0], symbol="YM"))
    reader.flush()

    since = {"ES": T0 + 2 * SECOND, "NQ": 0}
    expected = [("NQ", "PT1S", 1), ("ES", "PT1S", 2), ("NQ", "PT1S", 2), ("ES", "PT1S", 3), ("ES", "PT3S", 3)]
    assert ends(reader.signals_since(since, after=None, limit=10)) == expected
    assert reader.signals_until() == T0 + 3 * SECOND
    assert reader.signals_since({}, after=None, limit=10).num_rows == 0

    pages, after = [], None
    while (page := reader.signals_since(since, after=after, limit=2)).num_rows:
        pages += ends(page)
        last = page.slice(page.num_rows - 1)
        end = last["window_end"].cast(pa.int64())[0].as_py()
        after = (end, *(last[name][0].as_py() for name in ("symbol", "window_size", "seq")))
    assert pages == expected


def test_a_signal_comes_with_its_bar_the_latest_of_each(reader, derived_batch):
    """Rows written again are there once, as they were known last; values and prices belong to the same key."""
    for delay, close in ((5, 10.0), (0, 99.0)):
        reader.write(derived_batch([close, float("nan")], delay=delay))
    lonely = derived_batch([3.0], symbol="NQ")
    lonely.microbars = lonely.microbars.rows(0, 0)
    reader.write(lonely)
    reader.flush()
    page = reader.signals_since({"ES": 0, "NQ": 0}, after=None, limit=10)

    assert page["symbol"].to_pylist() == ["ES", "NQ", "ES"]
    assert page["c"].to_pylist() == [10.0, None, None]
    assert page["macd"].to_pylist() == [10.0, 3.0, None]
    assert page["count"].to_pylist() == [0, None, 1]
    assert page["ingest_ts"].cast(pa.int64()).to_pylist() == [T0 + SECOND + 5, T0 + SECOND, T0 + 2 * SECOND + 5]


def test_both_kinds_of_store_read_the_same(store, derived_batch):
    """Schema and rows, whatever the store is made of."""
    memory = MemorySignalStore()
    for each in (memory, store):
        each.write(derived_batch([1.0, float("nan"), 3.0]))
        each.flush()
    since = {"ES": 0}
    assert store.signals_since(since, after=None, limit=9) == memory.signals_since(since, after=None, limit=9)


def test_a_table_of_the_envelope_s_shape_is_followed_too(embedded, derived_batch):
    """A user's own table, values in a JSON text and `seq` unsigned: the same columns, joined with our bars."""
    embedded.write(derived_batch([1.0]))
    embedded.flush()
    client = embedded._client
    client.command(
        "CREATE TABLE torghut.envelopes (symbol String, event_ts DateTime64(9, 'UTC'), seq UInt64,"
        " ingest_ts DateTime64(9, 'UTC'), window_size String, window_end DateTime64(9, 'UTC'), payload String)"
        " ENGINE = MergeTree ORDER BY (symbol, event_ts)"
    )
    client.command(
        "INSERT INTO torghut.envelopes SELECT symbol, event_ts, toUInt64(seq), ingest_ts, window_size, window_end,"
        """ '{"rsi14": 7.5}' FROM torghut.ta_signals"""
    )
    tables = {"microbars": "torghut.ta_microbars", "signals": "torghut.envelopes"}
    other = clickhouse_module.ClickHouseSignalStore(client, "the store", tables)
    after = (T0, "ES", "PT1S", 0)
    page = other.signals_since({"ES": 0}, after=after, limit=5)
    other._writer.close()
    assert (page["rsi14"].to_pylist(), page["macd"].to_pylist(), page["c"].to_pylist()) == ([7.5], [None], [1.0])


def test_reading_goes_on_while_rows_are_written(store, derived_batch):
    """One client serves both threads: there is no session, so nothing waits for the other."""
    done = threading.Event()
    failed = []

    def read():
        while not done.is_set():
            try:
                store.signals_since({"ES": 0}, after=None, limit=100)
            except StateError as error:
                failed.append(error)
                return

    reading = threading.Thread(target=read)
    reading.start()
    for n in range(20):
        store.write(derived_batch([1.0], first=T0 + n * SECOND))
        store.flush()
    done.set()
    reading.join(PATIENCE)
    assert not failed
    assert store.counts()["signals"] == 20


def test_a_table_name_that_is_none_is_still_refused(clickhouse):
    """Names go into the SQL as they are, so they are checked first."""
    with pytest.raises(SettingsError, match="not a table name"):
        open_signal_store(url=clickhouse.url, price_table="torghut.ta; DROP TABLE x")
