"""The embedded ClickHouse: its tables, its one owner, and what survives."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from support.effort import examples, many
from support.waiting import PATIENCE
from torghut_core.errors import SettingsError, StateError
from torghut_core.installation.open import open_signals
from torghut_core.installation.settings import load_settings
from torghut_core.installation.state_directory import StateDirectory
from torghut_core.signals import MemorySignalStore, open_signal_store
from torghut_core.signals import clickhouse as clickhouse_module
from torghut_core.signals.clickhouse import ClickHouseSignalStore
from torghut_core.signals.schema import HEAD, TABLES
from torghut_core.signals.shape import OTHER_NAMES
from torghut_core.timestamps import MINUTE, SECOND

pytest.importorskip("chdb", reason="the embedded ClickHouse is torghut[embedded]")

T0 = 1_767_623_400_000_000_001
DAY = 86_400 * SECOND
KEPT = {"microbars_ttl_days": None, "signals_ttl_days": None}
"""How a replay opens its state: for ever."""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that begins with the helpers of this folder's conftest."""
    conftest = Path(__file__).with_name("conftest.py")
    start = f"import runpy, sys\nfrom pathlib import Path\nderived = runpy.run_path({str(conftest)!r})['derived']\n"
    start += "import torghut_core.signals.clickhouse\nfrom torghut_core.signals import open_signal_store\n"
    start += "kept = {'microbars_ttl_days': None, 'signals_ttl_days': None}\n"
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def stored_rows(store, table="torghut.ta_microbars"):
    """Rows with their duplicates."""
    return store._client.command(f"SELECT count() FROM {table}")


class Client:
    """The real client; `broken` is raised once for each insert, before the insert reaches ClickHouse or after it."""

    def __init__(self, client, *, reaches):
        self._client = client
        self._reaches = reaches
        self.broken: list[Exception] = []
        self.inserts = 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    def insert_arrow(self, *args, **kwargs):
        self.inserts += 1
        if not self.broken:
            self._client.insert_arrow(*args, **kwargs)
            return
        if self._reaches:
            self._client.insert_arrow(*args, **kwargs)
        raise self.broken.pop()


@pytest.fixture
def breaking(embedded, monkeypatch):
    """A store on the embedded one's tables, through a client that breaks."""
    monkeypatch.setattr(clickhouse_module, "_RETRY_DELAYS_S", (0, 0, 0))

    def make(*, reaches):
        client = Client(embedded._client, reaches=reaches)
        return ClickHouseSignalStore(client, "the store", embedded._tables), client

    made = []
    yield lambda **options: made.append(make(**options)) or made[-1]
    for store, _ in made:
        store._writer.close()


# Tables


def test_what_was_stored_is_there_when_it_is_opened_again(tmp_path, derived_batch):
    """The state outlives the process."""
    for closes in ([1.0], [1.0, 2.0]):
        with closing(open_signal_store(tmp_path, **KEPT)) as store:
            store.write(derived_batch(closes))

    with closing(open_signal_store(tmp_path, **KEPT)) as store:
        assert store.bars()["close"].to_pylist() == [1.0, 2.0]


def test_the_tables_are_the_contract_s(embedded):
    """What ClickHouse made of the DDL: engine, partition, order, and every value column nullable."""
    made = str(embedded._client.command("SHOW CREATE TABLE torghut.ta_signals"))

    assert "ReplacingMergeTree(ingest_ts)" in made
    assert "PARTITION BY multiIf(" in made
    assert "ORDER BY (symbol, event_ts, window_size, seq)" in made
    assert made.count("Nullable(Float64)") == 17


def partitions(store, table="torghut.ta_signals"):
    """How many rows each partition has, by its name; empty ones left out."""
    sql = f"SELECT partition, sum(rows) FROM system.parts WHERE active AND concat(database, '.', table) = '{table}'"
    rows = store._client.query(f"{sql} GROUP BY partition ORDER BY partition").result_rows
    return {name: int(count) for name, count in rows}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(30 * SECOND, {"2023-12-31": 2, "2024-01-01": 4}, id="seconds"),
        pytest.param(60 * SECOND, {"2023-12-01": 2, "2024-01-01": 4}, id="minutes", marks=pytest.mark.proof),
        pytest.param(45 * 60 * SECOND, {"2023-12-01": 2, "2024-01-01": 4}, id="many minutes"),
        pytest.param(3600 * SECOND, {"2023-01-01": 2, "2024-01-01": 4}, id="hours", marks=pytest.mark.proof),
        pytest.param(DAY, {"2023-01-01": 2, "2024-01-01": 4}, id="days"),
    ],
)
def test_partitions_fit_the_step_of_what_is_stored(embedded, derived_batch, step, expected):
    """Windows of seconds have a partition a day, of minutes a month, longer ones a year: twenty years of days are twenty."""
    new_year = 1_704_067_200 * SECOND
    embedded.write(derived_batch([float(n) for n in range(6)], first=new_year - 2 * step, step=step))
    embedded.flush()

    assert partitions(embedded) == expected


def test_tables_of_daily_partitions_are_copied_whole(tmp_path, derived_batch):
    """What an earlier version stored is in larger partitions after the next opening: the same rows, under the same TTL.

    Also where a copy was interrupted before.
    """
    days = [float(n) for n in range(30)]
    with closing(open_signal_store(tmp_path, microbars_ttl_days=9_000, signals_ttl_days=None)) as store:
        for table in ("ta_microbars", "ta_signals"):
            made = store._client.command(f"SHOW CREATE TABLE torghut.{table}").replace("\\n", "\n").replace("\\'", "'")
            daily = re.sub(r"PARTITION BY .*", "PARTITION BY toDate(event_ts)", made)
            store._client.command(f"DROP TABLE torghut.{table} SYNC")
            store._client.command(daily)
            store._client.command(daily.replace(table, f"{table}_copy"))
        store.write(derived_batch(days, first=1_704_067_200 * SECOND - 10 * DAY, step=DAY))
        store.flush()
        assert len(partitions(store)) == 30
        before = store.bars(), store.signals()

    with closing(open_signal_store(tmp_path, apply_ttl=False)) as store:
        assert len(partitions(store)) == 2
        assert (store.bars(), store.signals()) == before
        assert store.kept_days("microbars") == 9_000
        assert store.kept_days("signals") is None
        assert [row[0] for row in store._client.query("SHOW TABLES FROM torghut").result_rows] == [
            "ta_microbars",
            "ta_signals",
        ]


def test_a_replay_s_rows_outlive_the_days_of_a_live_run(tmp_path, derived_batch):
    """A tape of 2013 goes into a state that a live run opened with a TTL: the replay takes the TTL off first."""
    open_signal_store(tmp_path).close()

    with closing(open_signal_store(tmp_path, **KEPT)) as store:
        store.write(derived_batch([1.0], first=1_378_072_800 * SECOND))
        store.flush()
        store._client.command("OPTIMIZE TABLE torghut.ta_microbars FINAL")
        assert store.counts() == {"microbars": 1, "signals": 1}


def test_rows_past_their_days_are_dropped(tmp_path, derived_batch):
    """A live run's state keeps each table for the days that the settings say, also where it was opened otherwise before."""
    today = time.time_ns() // DAY * DAY
    open_signal_store(tmp_path, **KEPT).close()

    with closing(open_signal_store(tmp_path, microbars_ttl_days=30, signals_ttl_days=14)) as store:
        for days in (1, 20, 40):
            store.write(derived_batch([float(days)], first=today - days * DAY))
        store.flush()
        for name in store._tables.values():
            store._client.command(f"OPTIMIZE TABLE {name} FINAL")
        assert store.bars()["close"].to_pylist() == [20.0, 1.0]
        assert store.signals()["macd"].to_pylist() == [1.0]


@pytest.fixture
def told(monkeypatch):
    """What the store warned of."""
    told = []
    monkeypatch.setattr("torghut_core.signals.clickhouse.logs.warning", told.append)
    return told


def merged(store):
    """What is there when ClickHouse has done what it would do some time."""
    for name in store._tables.values():
        store._client.command(f"OPTIMIZE TABLE {name} FINAL")
    return store.counts()


def test_a_live_run_deletes_no_row_of_a_replay(tmp_path, derived_batch, told, monkeypatch):
    """`torghut run` in the state directory of a replay once deleted all of its rows, silently.

    Old and new rows are kept, and the log says so, until the operator applies the TTL of the settings.
    """
    monkeypatch.delenv("TA_CLICKHOUSE_URL", raising=False)
    state = StateDirectory(tmp_path)
    with closing(open_signals(load_settings(), state, is_replay=True)) as store:
        store.write(derived_batch([1.0]))
    with closing(open_signals(load_settings(), state, is_replay=False)) as store:
        store.write(derived_batch([2.0], first=T0 + SECOND))
        store.flush()
        assert merged(store) == {"microbars": 2, "signals": 2}
        assert store.kept_days("signals") is None
    assert [text.partition(":")[0] for text in told] == [
        "torghut.ta_microbars has rows older than TA_MICROBARS_TTL_DAYS=30",
        "torghut.ta_signals has rows older than TA_SIGNALS_TTL_DAYS=14",
    ]
    monkeypatch.setenv("TA_CLICKHOUSE_APPLY_TTL", "true")
    with closing(open_signals(load_settings(), state, is_replay=False)) as store:
        assert merged(store) == {"microbars": 0, "signals": 0}
        assert store.kept_days("signals") == 14


def test_days_are_made_fewer_only_where_that_deletes_nothing(tmp_path, derived_batch, told):
    """Young rows lose nothing by a shorter TTL; rows of the day before yesterday would, and so it is not set."""
    for days, kept, words in ((9, 9, 0), (3, 3, 0), (1, 3, 1), (30, 30, 1)):
        with closing(open_signal_store(tmp_path, microbars_ttl_days=None, signals_ttl_days=days)) as store:
            store.write(derived_batch([1.0], first=time.time_ns() - 2 * DAY))
            store.flush()
            assert (store.kept_days("signals"), len(told)) == (kept, words)
    with closing(open_signal_store(tmp_path, signals_ttl_days=1, apply_ttl=False)) as store:
        assert (store.kept_days("signals"), len(told)) == (30, 1)


def test_who_only_reads_changes_no_days(tmp_path):
    """`torghut signals export` and `doctor` took the TTL off an embedded store."""
    state = StateDirectory(tmp_path)
    open_signals(load_settings(), state, is_replay=False).close()
    with closing(open_signals(load_settings(), state)) as store:
        assert (store.kept_days("microbars"), store.kept_days("signals")) == (30, 14)


def test_a_block_may_span_years(embedded, derived_batch):
    """Daily bars have a partition each, and a block of them more than ClickHouse takes by default."""
    embedded.write(derived_batch([1.0] * 120, step=DAY))
    embedded.flush()

    assert embedded.counts() == {"microbars": 120, "signals": 120}


def test_pandas_is_not_imported(tmp_path):
    """Arrow imports pandas, 0.7 s of it, at many a turn; storing and reading take none of them."""
    code = (
        "store = open_signal_store(Path(sys.argv[1]), **kept); store.write(derived([1.0, float('nan')])); store.flush()\n"
        "store.bars(limit=1), store.signals(limit=1), store.export('signals', sys.argv[1] + '.parquet'); store.close()\n"
        "print('pandas' in sys.modules)"
    )
    out, err = child(code, tmp_path / "signals").communicate(timeout=PATIENCE)
    assert out == "False\n", err


# Duplicates


def test_an_insert_sent_again_adds_nothing(breaking, derived_batch):
    """The connection broke after the server had stored the block: the same block again, with its token, adds no row."""
    store, client = breaking(reaches=True)
    client.broken = [OperationalError("reset by peer"), OperationalError("reset by peer")]
    store.write(derived_batch([1.0, 2.0]))
    store.flush()

    assert client.inserts == 4  # microbars three times, signals once
    assert stored_rows(store) == 2


def test_a_process_that_stores_the_same_block_again_adds_nothing(tmp_path, derived_batch):
    """The token is a function of the rows, so it survives the process that made it."""
    for _ in range(2):
        with closing(open_signal_store(tmp_path, **KEPT)) as store:
            store.write(derived_batch([1.0, 2.0]))
            store.flush()
            assert stored_rows(store) == 2


def test_merged_or_not_the_rows_are_the_same(embedded, derived_batch):
    """Readers do not depend on when ClickHouse merges."""
    for delay in (0, 3, 1):
        embedded.write(derived_batch([10.0 + delay, 20.0], delay=delay))
        embedded.flush()
    assert stored_rows(embedded) == 6
    before = embedded.bars()
    embedded._client.command("OPTIMIZE TABLE torghut.ta_microbars FINAL")

    assert stored_rows(embedded) == 2
    assert embedded.bars() == before
    assert before["close"].to_pylist() == [13.0, 20.0]


@examples(10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.tuples(
            st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")), min_size=1, max_size=9),
            st.sampled_from(["ES", "BTC/USD", "A"]),
            st.integers(0, 12),
            st.sampled_from([SECOND, 60 * SECOND]),
        ),
        max_size=6,
    ),
    page_rows=st.integers(1, 9),
)
def test_an_export_is_that_of_the_store_in_memory(embedded, derived_batch, tmp_path, parts, page_rows):
    """Whatever was written, in whatever blocks, with overlaps, and however the export is paged: the same file."""
    for name in embedded._tables.values():
        embedded._client.command(f"TRUNCATE TABLE {name}")
    memory = MemorySignalStore()
    for delay, (closes, symbol, offset, step) in enumerate(parts):
        batch = derived_batch(closes, symbol=symbol, first=T0 + offset * SECOND, step=step, delay=delay)
        for store in (embedded, memory):
            store.write(batch)
            store.flush()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clickhouse_module, "_PAGE_ROWS", page_rows)
        for table in TABLES:
            files = [tmp_path / "embedded.parquet", tmp_path / "memory.parquet"]
            rows = [store.export(table, str(file)) for store, file in zip((embedded, memory), files, strict=True)]
            assert rows[0] == rows[1] == memory.counts()[table]
            assert pq.read_table(files[0]) == pq.read_table(files[1])


def test_a_page_of_an_export_may_end_between_rows_of_one_time(embedded, derived_batch, tmp_path, monkeypatch):
    """A symbol's bars of several steps begin at the same time: the next page goes on among them."""
    monkeypatch.setattr(clickhouse_module, "_PAGE_ROWS", 1)
    for step in (SECOND, 60 * SECOND, DAY):
        embedded.write(derived_batch([1.0], step=step))

    assert embedded.export("microbars", str(tmp_path / "bars.parquet")) == 3


# The other shape of a signal table

ENVELOPES = """CREATE TABLE torghut.envelopes (symbol String, event_ts DateTime64(9, 'UTC'), seq UInt64,
    ingest_ts DateTime64(9, 'UTC'), is_final UInt8, source String, window_size String, window_step String,
    window_start DateTime64(9, 'UTC'), window_end DateTime64(9, 'UTC'), version UInt32, payload String)
    ENGINE = MergeTree ORDER BY (symbol, event_ts)"""


def payload(close: float | None) -> str:
    """The values of `derived` as the envelope nests them; null where the close is, and without a member that is."""
    if close is None:
        return json.dumps({"rsi14": None, "macd": {"macd": None}, "boll": {}})
    v = [close + k / 100 for k in range(17)]
    return json.dumps(
        {
            "macd": {"macd": v[0], "signal": v[1], "hist": v[2]},
            "ema": {"ema12": v[3], "ema26": v[4]},
            "rsi14": v[5],
            "boll": {"mid": v[6], "upper": v[7], "lower": v[8]},
            "vwap": {"session": v[9], "w5m": v[10]},
            "imbalance": {"spread": v[11], "bid_px": v[12], "ask_px": v[13], "bid_sz": v[14], "ask_sz": v[15]},
            "vol_realized": {"w60s": v[16]},
        }
    )


@pytest.fixture
def envelopes(embedded, derived_batch):
    """A function that opens a store on a table of envelopes, which holds the rows of the flat one, each of them twice."""
    embedded.write(derived_batch([float("nan"), 10.0, 11.5]))
    embedded.flush()
    client = embedded._client
    client.command(ENVELOPES)
    rows = client.query_arrow("SELECT * FROM torghut.ta_signals ORDER BY event_ts")
    texts = pa.array([payload(close) for close in rows["macd"].to_pylist()])
    for _ in range(2):
        client.insert_arrow("torghut.envelopes", rows.select([c.name for c in HEAD]).append_column("payload", texts))
    opened = []

    def open_store(signal_schema="auto"):
        tables = {**embedded._tables, "signals": "torghut.envelopes"}
        opened.append(ClickHouseSignalStore(client, "the store", tables, signal_schema))
        return opened[-1]

    yield open_store
    for store in opened:
        store._writer.close()


@pytest.mark.parametrize("signal_schema", ["auto", "envelope"])
def test_envelopes_read_like_flat_rows(embedded, envelopes, signal_schema, tmp_path):
    """The same rows from either shape of the table: to readers and in an export, duplicates gone."""
    store = envelopes(signal_schema)

    assert store.signals() == embedded.signals()
    assert store.signals("ES", limit=1, columns=("vwap_w5m",)).to_pylist()[0]["vwap_w5m"] == 11.6
    assert store.counts()["signals"] == 3
    for name, each in (("flat", embedded), ("envelope", store)):
        each.export("signals", str(tmp_path / name))
    assert pq.read_table(tmp_path / "envelope") == pq.read_table(tmp_path / "flat")


def test_envelopes_are_not_written(envelopes, derived_batch):
    """The table of envelopes is someone else's: a batch with signals stops with the setting to change."""
    with pytest.raises(SettingsError, match=r"torghut.envelopes has the envelope shape.*TRADING_SIGNAL_TABLE"):
        envelopes().write(derived_batch([1.0]))


def test_a_shape_that_the_table_has_not_is_refused(envelopes):
    """A setting that contradicts the table is an error at once, instead of nulls later."""
    with pytest.raises(SettingsError, match=r"TRADING_SIGNAL_SCHEMA=flat, but torghut.envelopes has no column macd"):
        envelopes("flat")
    with pytest.raises(SettingsError, match=r"TRADING_SIGNAL_SCHEMA='nested' is not a table shape \(use auto"):
        envelopes("nested")


# One owner, and what goes wrong


def test_a_second_process_is_refused(embedded, tmp_path):
    """One process owns a directory; the other one reads which directory, and what to do."""
    code = "try: open_signal_store(Path(sys.argv[1]))\nexcept Exception as error: print(type(error).__name__, error)"
    out, err = child(code, tmp_path / "signals").communicate(timeout=PATIENCE)

    assert out.startswith(f"StateError signal store {tmp_path / 'signals'}: in use by another process"), err
    assert "end that process, or use another --state" in out


def test_a_damaged_directory_is_named_as_one_that_may_be_damaged(tmp_path):
    """A store that cannot be opened because of its own files: the message names that cause, and what to do."""
    folder = tmp_path / "signals"
    _, err = child("open_signal_store(Path(sys.argv[1])).close()", folder).communicate(timeout=PATIENCE)
    assert not err
    (folder / "metadata" / "torghut.sql").write_text("ATTACH DATABASE 'cut")
    code = "try: open_signal_store(Path(sys.argv[1]))\nexcept Exception as error: print(type(error).__name__, error)"
    out, _ = child(code, folder).communicate(timeout=PATIENCE)
    assert out.startswith(f"StateError signal store {folder}: in use by another process, not writable, or damaged: ")
    assert "or move the folder away: its rows can be derived again" in out


def test_a_second_directory_in_one_process_is_refused(embedded, tmp_path):
    """The engine is one per process, and the message says so."""
    with pytest.raises(StateError, match="this process has another signal store open"):
        open_signal_store(tmp_path / "other")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    """A file in the place of the directory: the path and the reason."""
    (tmp_path / "signals").write_text("not a directory")
    with pytest.raises(StateError, match=r"signals: File exists \(use another --state\)"):
        open_signal_store(tmp_path / "signals")


def test_without_chdb_the_message_says_what_to_install(tmp_path, monkeypatch):
    """chdb is optional: a deployment with a server leaves it out, and one without a server needs it."""
    monkeypatch.setitem(sys.modules, "chdb", None)
    with pytest.raises(SettingsError, match=r"pip install 'torghut\[embedded\]', or set TA_CLICKHOUSE_URL"):
        open_signal_store(tmp_path)


def test_a_full_disk_is_an_error_and_nothing_is_lost(breaking, derived_batch):
    """With a full disk the next flush raises, and when there is room again the rows are stored."""
    store, client = breaking(reaches=False)
    client.broken = [DatabaseError("Code: 243. DB::Exception: Cannot reserve 9.63 MiB, not enough space.", code=243)]
    store.write(derived_batch([1.0]))
    with pytest.raises(StateError, match=r"the store: cannot write torghut.ta_microbars: .*space \(free disk"):
        store.flush()
    assert stored_rows(store) == 0

    store.flush()
    assert store.counts() == {"microbars": 1, "signals": 1}


def test_a_file_that_cannot_grow_is_an_error_and_nothing_is_lost(tmp_path):
    """At the operating system's limit on a file's size writing fails, and rows stored before stay readable."""
    code = """
import resource
store = open_signal_store(Path(sys.argv[1]), **kept)
store.write(derived([1.0])); store.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
store.write(derived([2.0] * 1000, symbol="NQ"))
try: store.flush()
except Exception as error: print(type(error).__name__, error)
print(store.counts()["microbars"])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.close()
store = open_signal_store(Path(sys.argv[1]), **kept)
print(store.counts()["microbars"])
"""
    out, err = child(code, tmp_path / "signals").communicate(timeout=PATIENCE)
    told, full, after = out.splitlines()

    assert "StoreError" in told, err
    assert "cannot write torghut.ta_microbars: " in told
    assert (full, after) == ("1", "1001")


def test_a_killed_process_loses_no_flushed_row(tmp_path, derived_batch):
    """Kill -9 at any moment, again and again: all that was flushed is there, and storing it again leaves no duplicate."""
    code = """
import os
for first in sys.stdin:  # a process per line, which goes on until it is killed
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        print("killed", flush=True)
        continue
    print(os.getpid(), flush=True)
    store = open_signal_store(Path(sys.argv[1]), **kept)
    for number in range(int(first), 10_000):
        store.write(derived([float(number)] * 5, symbol=f"S{number}"))
        store.flush()
        print(number, flush=True)
"""
    chance = random.Random(7)
    flushed = 0
    with child(code, tmp_path) as parent:
        for _ in range(many(10, quick=2)):
            print(flushed, file=parent.stdin, flush=True)
            pid = int(parent.stdout.readline())
            for _ in range(chance.randint(1, 12)):
                assert int(parent.stdout.readline()) == flushed, parent.stderr.read()
                flushed += 1
            os.kill(pid, signal.SIGKILL)
            flushed += len(list(iter(parent.stdout.readline, "killed\n")))
        parent.stdin.close()

    with closing(open_signal_store(tmp_path, **KEPT)) as store:
        assert {f"S{number}" for number in range(flushed)} <= set(store.bars()["symbol"].to_pylist())
        for number in range(flushed):
            store.write(derived_batch([float(number)] * 5, symbol=f"S{number}"))
            store.flush()
        assert store.bars().num_rows - 5 * flushed in {
            0,
            5,
        }  # the last was perhaps stored, and killed before it said so
        assert stored_rows(store) == store.bars().num_rows


# Tables of another program, whose columns have other names

FOREIGN = {
    "seconds": """CREATE TABLE torghut.foreign (symbol LowCardinality(String), ts DateTime64(3, 'UTC'), macd Float64,
        signal Float64, rsi Nullable(Float64)) ENGINE = MergeTree ORDER BY (symbol, ts)""",
    "whole-seconds": """CREATE TABLE torghut.foreign (symbol String, ts DateTime('UTC'), macd Float64, macd_signal Float32,
        rsi14 Float64) ENGINE = MergeTree ORDER BY (symbol, ts)""",
    "envelope": """CREATE TABLE torghut.foreign (symbol String, event_ts DateTime64(3, 'UTC'),
        ingest_ts DateTime64(3, 'UTC'), seq UInt64, source String, window String, payload String)
        ENGINE = MergeTree ORDER BY (symbol, event_ts)""",
    "text-times": """CREATE TABLE torghut.foreign (symbol String, event_ts String, window Map(String, String), payload String)
        ENGINE = MergeTree ORDER BY symbol""",
}
ENVELOPE = '{"macd": {"macd": 1.5, "signal": 0.5}, "rsi14": 61.25}'
ROWS = {
    "seconds": "('ES', '2026-01-05 14:30:00.000', 1.5, 0.5, 61.25)",
    "whole-seconds": "('ES', '2026-01-05 14:30:00', 1.5, 0.5, 61.25)",
    "envelope": "('ES', '2026-01-05 14:30:00.000', '2026-01-05 14:30:01.000', 7, 'ta',"
    f' \'{{"size": "PT1M", "step": "PT1M"}}\', \'{ENVELOPE}\')',
    "text-times": f"('ES', '2026-01-05T14:30:00Z', {{'size': 'PT1M'}}, '{ENVELOPE}')",
}
AT = 1_767_623_400 * SECOND


@pytest.fixture(params=sorted(FOREIGN))
def foreign(request, embedded):
    """A store on a signal table of another program, with one row; its name."""
    client = embedded._client
    client.command(FOREIGN[request.param])
    client.command(f"INSERT INTO torghut.foreign VALUES {ROWS[request.param]}")
    tables = {**embedded._tables, "signals": "torghut.foreign"}
    store = ClickHouseSignalStore(client, "the store", tables, ttl_days={"signals": 14})
    yield request.param, store
    store._writer.close()


def test_a_table_of_another_program_is_read_by_our_names(foreign, tmp_path):
    """Times, windows and values are found wherever the table has them; what it lacks is null. Its TTL is not touched."""
    kind, store = foreign
    step, window = (MINUTE, "PT1M") if kind in ("envelope", "text-times") else (SECOND, "PT1S")
    (row,) = store.signals().to_pylist()
    assert (row["symbol"], row["window_size"], row["seq"]) == ("ES", window, 7 if kind == "envelope" else 0)
    assert (row["macd"], row["macd_signal"], row["rsi14"], row["macd_hist"]) == (1.5, 0.5, 61.25, None)
    assert (store.newest_event_ts("signals"), store.signals_until()) == (AT, AT + step)
    assert store.counts()["signals"] == store.export("signals", str(tmp_path / "out")) == 1
    assert "TTL" not in str(store._client.command("SHOW CREATE TABLE torghut.foreign"))


def test_its_rows_come_with_the_bars_and_after_a_cursor(embedded, foreign, derived_batch):
    """A trading loop follows it as it follows our table: each row once, from the time on that it asks for."""
    kind, store = foreign
    step = MINUTE if kind in ("envelope", "text-times") else SECOND
    page = store.signals_since({"ES": AT}, after=None, limit=10)
    assert page["window_end"].cast(pa.int64()).to_pylist() == [AT + step]
    (row,) = page.to_pylist()
    last = (AT + step, "ES", row["window_size"], row["seq"])
    assert store.signals_since({"ES": AT}, after=last, limit=10).num_rows == 0
    assert store.signals_since({"ES": AT + step + 1}, after=None, limit=10).num_rows == 0
    with pytest.raises(SettingsError, match=r"torghut.foreign has .*reads and does not write.*TRADING_SIGNAL_TABLE"):
        store.write(derived_batch([1.0]))


def test_a_table_without_time_or_symbol_is_refused(embedded):
    """It could be read, and every row would be wrong."""
    embedded._client.command("CREATE TABLE torghut.odd (at DateTime, macd Float64) ENGINE = MergeTree ORDER BY at")
    tables = {**embedded._tables, "signals": "torghut.odd"}
    with pytest.raises(SettingsError, match=r"TRADING_SIGNAL_TABLE: torghut.odd has no column symbol"):
        ClickHouseSignalStore(embedded._client, "the store", tables)


def test_whatever_columns_it_has_it_is_read(embedded):
    """Any part of our columns, under any of their names, with any of the types that hold them: nothing fails, nothing is guessed."""
    chance, client = random.Random(7), embedded._client
    times = {"DateTime64(9, 'UTC')": True, "DateTime64(3, 'UTC')": True, "DateTime": True, "String": True}
    for number in range(many(40, quick=4)):
        columns = {chance.choice(("event_ts", "ts")): chance.choice(list(times)), "symbol": "LowCardinality(String)"}
        for column in TABLES["signals"]:
            if column.name not in ("symbol", "event_ts", "macd") and chance.random() < 0.5:
                is_time = column.name.endswith("_ts") or column.name in ("window_start", "window_end")
                name = chance.choice((column.name, *OTHER_NAMES.get(column.name, ())))
                columns[name] = chance.choice(list(times)) if is_time else column.sql
        columns[chance.choice(("macd", "payload"))] = "String"
        if columns.get("macd"):
            columns["macd"] = "Float64"
        name = f"torghut.any{number}"
        listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        client.command(f"CREATE TABLE {name} ({listed}) ENGINE = MergeTree ORDER BY symbol")
        given = {"symbol": "'ES'", "payload": f"'{ENVELOPE}'", "macd": "1.5", "window_size": "'PT1M'", "seq": "3"}
        at = "'2026-01-05T14:30:00Z'"
        values = [
            at if kind in times and column != "payload" else given.get(column, "''" if "String" in kind else "2")
            for column, kind in columns.items()
        ]
        client.command(
            f"INSERT INTO {name} SETTINGS date_time_input_format = 'best_effort' VALUES ({', '.join(values)})"
        )
        store = ClickHouseSignalStore(client, "the store", {**embedded._tables, "signals": name})
        (row,) = store.signals().to_pylist()
        assert (row["symbol"], row["macd"], row["seq"]) == ("ES", 1.5, 3 if "seq" in columns else 0)
        assert row["window_size"] == ("PT1M" if "window_size" in columns else "PT1S")
        assert store.newest_event_ts("signals") == AT
        assert store.signals_since({"ES": AT}, after=None, limit=1).num_rows == 1
        store._writer.close()
