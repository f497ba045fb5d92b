"""What looks after the signal store: it pauses in time, resumes with a margin, and says why."""

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, ProgrammingError

from torghut_core.errors import StateError
from torghut_core.signals import MemorySignalStore
from torghut_core.signals.failures import Remedy, StoreError, back_off, classify
from torghut_core.signals.guardrails import Guardrails
from torghut_core.timestamps import SECOND, Clock

NOW = 1_767_623_400 * SECOND
GIB = 1 << 30


class Store(MemorySignalStore):
    """A store with a disk and rows as a test wants them; what is done to it is noted."""

    def __init__(self):
        super().__init__()
        self.free = 10 * GIB
        self.newest = {"microbars": NOW, "signals": NOW}
        self.fails: Exception | None = None
        self.done = []
        self.asked = 0
        self.why = None

    def free_bytes(self):
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return self.free

    def newest_event_ts(self, table):
        return self.newest[table]

    def pause(self, reason):
        self.done.append(f"pause: {reason.error_class}")

    def resume(self):
        self.done.append("resume")

    @property
    def trouble(self):
        return self.why


@pytest.fixture
def store():
    return Store()


def guard(store, **options):
    options = {
        "min_free_bytes": GIB,
        "max_age_s": 120,
        "every_s": 0,
        "clock": Clock(wall=lambda: NOW + 60 * SECOND),
    } | options
    return Guardrails(store, **options)


@pytest.mark.parametrize(("resume", "until"), [(None, GIB * 5 // 4), (3 * GIB, 3 * GIB), (1, GIB)])
def test_writing_is_paused_below_the_threshold_until_there_is_a_margin(store, resume, until):
    """A disk whose free space varies about the threshold pauses the store once, not at each check."""
    guarded = guard(store, resume_free_bytes=resume)
    seen = []
    for free in (GIB, GIB - 1, until - 1, GIB - 1, until, until - 1 if until > GIB else until):
        store.free = free
        guarded.check()
        seen.append(guarded.may_write)

    assert seen == [True, False, False, False, True, True]
    assert store.done == ["pause: disk-full", "resume"]


def test_the_gate_says_how_much_is_missing(store):
    """`/readyz` says what is free, what is needed, and that writing resumes by itself."""
    store.free = 5
    guarded = guard(store)
    guarded.check()

    closed = guarded.gates()["store"]
    assert closed.error_class == "disk-full"
    assert "5 bytes are free, less than 1,073,741,824" in closed.reason
    assert "resumes by itself at 1,342,177,280 bytes" in closed.reason


def test_a_store_that_does_not_answer_is_reported_and_changes_nothing(store):
    """An unknown free space neither pauses nor resumes writing."""
    store.free = 5
    guarded = guard(store)
    guarded.check()
    store.fails = StoreError("gone (look)", "connection", Remedy.RETRY)
    guarded.check()
    assert not guarded.may_write

    store.fails, store.free = None, 10 * GIB
    guarded.check()
    store.fails = StoreError("gone (look)", "connection", Remedy.RETRY)
    guarded.check()
    assert guarded.may_write
    assert guarded.gates()["store"].error_class == "connection"
    store.fails = None
    guarded.check()
    assert guarded.gates()["store"] is None


def test_what_keeps_rows_from_being_stored_closes_the_gate(store):
    """The writer's trouble is the store's: the gate opens when it is over."""
    guarded = guard(store)
    guarded.check()
    store.why = StoreError("too many parts", "too-many-parts", Remedy.WAIT)
    assert guarded.gates()["store"].error_class == "too-many-parts"
    store.why = None
    assert guarded.gates()["store"] is None


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        ({}, None),
        ({"signals": None}, "no-rows"),
        ({"microbars": NOW - 61 * SECOND}, "stale"),
        ({"signals": NOW - 60 * SECOND}, None),
    ],
)
def test_each_table_has_to_be_fresh(store, newest, expected):
    """The oldest of the two decides; a table without rows is not fresh."""
    store.newest |= newest
    guarded = guard(store)
    guarded.check()
    closed = guarded.gates()["freshness"]
    assert (closed and closed.error_class) == expected


def test_freshness_is_judged_only_where_it_is_asked_for(store):
    """A rehearsal with an old tape has no such gate."""
    assert list(guard(store, max_age_s=None).gates()) == ["store"]


def test_it_asks_no_more_often_than_it_should(store):
    """Called every second, it looks at the disks every five."""
    clock = [0.0]
    guarded = guard(store, every_s=5, clock=Clock(monotonic=lambda: clock[0]))
    for second in range(11):
        clock[0] = float(second)
        guarded.check()
    assert store.asked == 3


def test_metrics_are_the_user_s(store):
    """The names of the observability page; what is not known is not there."""
    guarded = guard(store)
    assert guarded.metrics() == {
        "clickhouse_guardrails_writes_paused": 0.0,
        "clickhouse_guardrails_errors_total": {},
    }
    store.free, store.newest["signals"] = 5, None
    guarded.check()
    assert guarded.metrics() == {
        "clickhouse_guardrails_writes_paused": 1.0,
        "clickhouse_guardrails_errors_total": {},
        "clickhouse_guardrails_disk_free_bytes": 5,
        "clickhouse_guardrails_ta_microbars_max_event_ts_seconds": NOW / SECOND,
    }


def test_a_store_in_memory_has_room():
    """It writes to no disk, so nothing is paused."""
    guarded = Guardrails(MemorySignalStore(), min_free_bytes=GIB)
    guarded.check()
    assert guarded.may_write
    assert guarded.gates() == {"store": None}


def test_unknown_free_space_pauses_nothing_and_is_logged_once(store, monkeypatch):
    """Where the tables' engine names no disk, writing goes on, and one warning says that space is not watched."""
    logged = []
    monkeypatch.setattr("torghut_core.signals.guardrails.logs.warning", logged.append)
    store.free = None
    guarded = guard(store)
    guarded.check()
    guarded.check()

    assert guarded.may_write
    assert store.done == []
    assert guarded.gates()["store"] is None
    assert "clickhouse_guardrails_disk_free_bytes" not in guarded.metrics()
    (text,) = logged
    assert "not known" in text


@pytest.mark.parametrize("remedy", Remedy)
def test_attempts_are_spread_and_bounded(remedy):
    """Pauses grow from failure to failure, are never 0, never the same for all, and never longer than a minute."""
    error = StoreError("x", "y", remedy)
    waits = [[back_off(error, failures) for _ in range(50)] for failures in (1, 4, 10_000)]
    assert min(waits[0]) >= 0.1
    assert max(waits[0]) < max(waits[1]) < max(waits[2]) <= 45
    assert all(len(set(each)) > 1 for each in waits)


def test_other_errors_are_not_classified_by_chance():
    """An unknown error is for the operator to fix (STOP); a `StoreError` is a `StateError`."""
    assert classify(RuntimeError("x"))[:2] == ("other", Remedy.STOP)
    assert classify(ConnectionResetError())[:2] == ("connection", Remedy.RETRY)
    assert classify(OSError(5, "Input/output error"))[:2] == ("disk", Remedy.PAUSE)
    assert issubclass(StoreError, StateError)


@pytest.mark.parametrize(
    ("error", "error_class", "remedy"),
    [
        (DatabaseError("<html>502 Bad Gateway</html>"), "connection", Remedy.RETRY),
        (DatabaseError("no privilege", code=497), "auth", Remedy.STOP),
        (DatabaseError("type mismatch", code=53), "other", Remedy.STOP),
        (DatabaseError("the server ends", code=236), "connection", Remedy.RETRY),
        (ProgrammingError("wrong argument"), "other", Remedy.STOP),
    ],
)
def test_only_what_will_say_the_same_every_time_stops(error, error_class, remedy):
    """An answer that is no ClickHouse's is a proxy's, and passes; `torghut ta` ends at what does not."""
    assert classify(error)[:2] == (error_class, remedy)
