"""`torghut ta` derives the same rows whatever happens to its process, its store and its bus."""

import asyncio
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from support.waiting import PATIENCE, until_async
from torghut_core import Envelope
from torghut_core.errors import StateError
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.snapshots import Snapshot, SnapshotStore, decode, encode
from torghut_core.ports import Source
from torghut_core.signals.failures import Remedy, StoreError

TRADES = 600


def derive(parts, trades, *, size=64, **more):
    """The rows of one run to the end, and the deriver."""
    store, sink = parts.Store(), parts.Log()
    deriver = Deriver(parts.Tape(trades), parts.stages(), store, sink, **more)
    asyncio.run(deriver.run(size))
    return parts.rows(store), deriver, sink


@pytest.fixture(scope="module")
def trades(parts):
    return parts.random_trades(TRADES)


@pytest.fixture(scope="module")
def whole(parts, trades):
    """The rows of a run that nothing happens to."""
    return derive(parts, trades)[0]


def test_every_trade_is_accounted_for(parts, trades):
    """Trades in are trades in bars, late, or twice; after the end no window stays open."""
    rows, deriver, _ = derive(parts, trades)
    totals = deriver.totals
    assert totals.events == TRADES
    assert sum(row["count"] for row in rows["microbars"]) + totals.late + totals.duplicates == TRADES
    assert len(rows["signals"]) == totals.signals == totals.microbars > 100


def test_batch_size_changes_nothing(parts, trades, whole):
    """Rows do not depend on how the stream is cut."""
    assert derive(parts, trades, size=1)[0] == derive(parts, trades, size=1000)[0] == whole


@given(cuts=st.lists(st.integers(1, TRADES), min_size=1, max_size=4), size=st.integers(1, 97), often=st.booleans())
@examples(40)
def test_killed_anywhere_it_derives_the_same(parts, tmp_path_factory, cuts, size, often):
    """Killed at any events, with or without a fresh checkpoint, the rows in the store are those of a run without a kill."""
    trades = parts.random_trades(TRADES)
    folder = str(tmp_path_factory.mktemp("snapshots"))
    store, sink = parts.Store(), parts.Log()
    for cut in [*cuts, None]:
        checkpoint_s = 0 if often else 1e9
        tape = parts.Tape(trades, cut)
        deriver = Deriver(tape, parts.stages(), store, sink, SnapshotStore(folder), checkpoint_s=checkpoint_s)
        try:
            asyncio.run(deriver.run(size))
        except parts.Killed:
            assert tape.cut is not None
    assert parts.rows(store) == derive(parts, trades)[0]


def test_what_it_sends_is_what_it_stores(parts, trades):
    """Each row of the store is on the bus, with the values that the store has, and read by the envelope's own reader."""
    rows, _, sink = derive(parts, trades)
    sent = [Envelope.decode(message.value) for message in sink.sent]
    bars = {(each.symbol, each.event_ts): each for each in sent if each.channel == "microbars"}
    assert len(bars) == len(rows["microbars"])
    for row in rows["microbars"]:
        bar = bars[row["symbol"], row["event_ts"].value]
        assert (bar.payload.open, bar.payload.close, bar.payload.volume) == (row["o"], row["c"], row["v"])
        assert (bar.seq, bar.window.size) == (row["seq"], row["window_size"])
    signals = [each for each in sent if each.channel == "signals"]
    warm = {(row["symbol"], row["event_ts"].value): row["rsi14"] for row in rows["signals"]}
    assert {(each.symbol, each.event_ts): each.payload.rsi14 for each in signals} == warm


def test_deriving_again_sends_the_same_bytes(parts, trades):
    """A message that comes twice is recognised by its bytes."""
    first, second = (
        [message for message in derive(parts, trades)[2].sent if message.channel != "ta-status"] for _ in range(2)
    )
    assert first == second


def test_nothing_is_committed_before_it_is_stored_and_acknowledged(parts, trades):
    """The source commits its cursor only after the store and the bus have everything up to it."""
    order = []

    class Tape(parts.Tape):
        def commit(self, cursor):
            order.append(("commit", cursor["position"], store.flushes, sink.acknowledged == len(sink.sent)))

    store, sink = parts.Store(), parts.Log()
    asyncio.run(Deriver(Tape(trades), parts.stages(), store, sink, checkpoint_s=0).run(100))
    assert len(order) >= 6
    assert all(is_acknowledged for *_, is_acknowledged in order)
    assert [flushes for _, _, flushes, _ in order] == sorted({flushes for _, _, flushes, _ in order})


def test_store_that_refuses_is_waited_for(parts, trades, whole, monkeypatch):
    """A full disk stops the reading, closes the gate, and loses nothing."""
    monkeypatch.setattr("torghut_core.market_data.deriver.RETRY_S", (0.001, 0.002))
    store = parts.Store()
    store.refusals = 3
    deriver = Deriver(parts.Tape(trades), parts.stages(), store, checkpoint_s=0)
    closed = []
    asyncio.run(deriver.run(64, on_progress=lambda _events: closed.append(deriver.gates()["store"])))
    assert parts.rows(store) == whole
    assert store.refusals == 0
    assert deriver.gates() == {"store": None}


def test_store_that_will_never_take_rows_ends_it(parts, trades):
    """What trying again cannot fix (a wrong password) ends the process, loudly."""

    class Refusing(parts.Store):
        def flush(self):
            raise StoreError("wrong password (set TA_CLICKHOUSE_PASSWORD)", "auth", Remedy.STOP)

    with pytest.raises(StateError, match="wrong password"):
        asyncio.run(Deriver(parts.Tape(trades), parts.stages(), Refusing()).run())


def test_gate_tells_why_the_store_refuses(parts, trades, monkeypatch):
    """While it waits, readiness has the store's own words."""
    monkeypatch.setattr("torghut_core.market_data.deriver.RETRY_S", (0.001, 0.002))
    store = parts.Store()
    store.refusals = 10**9
    deriver = Deriver(parts.Tape(trades), parts.stages(), store, checkpoint_s=0)

    refused = asyncio.Event()

    async def until_closed():
        monkeypatch.setattr("torghut_core.market_data.deriver.logs.error", lambda *_args, **_fields: refused.set())
        work = asyncio.create_task(deriver.run(64))
        async with asyncio.timeout(PATIENCE):
            await refused.wait()
            await asyncio.sleep(0)
        reason = deriver.gates()["store"].reason
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return reason

    assert asyncio.run(until_closed()) == "disk full"


def test_guard_pauses_the_reading(parts, trades, whole, monkeypatch):
    """Below the disk threshold nothing is taken from the source; above it everything resumes, and nothing is lost."""
    monkeypatch.setattr("torghut_core.market_data.deriver.RETRY_S", (0.001, 0.002))
    asked = []

    def may_write():
        asked.append(tape.position)
        return len(asked) > 20 or len(asked) < 5

    tape, store, sink = parts.Tape(trades), parts.Store(), parts.Log()
    asyncio.run(Deriver(tape, parts.stages(), store, sink, may_write=may_write, status_s=0).run(64))
    assert len(set(asked[4:20])) == 1
    assert parts.rows(store) == whole
    assert "paused" in [beat.status for beat in beats_of(sink)]


def beats_of(sink):
    """The heartbeats that were sent."""
    return [Envelope.decode(message.value).payload for message in sink.sent if message.channel == "ta-status"]


def test_heartbeat_says_how_far_it_is(parts, trades):
    """The status topic has the watermark's lag and the last event of each lane."""
    beats = beats_of(derive(parts, trades, status_s=0)[2])
    assert [beat.heartbeat for beat in beats] == list(range(len(beats)))
    assert beats[-1].last_event_ts == max(trade[0] for trade in trades)
    assert all(beat.watermark_lag_ms > 0 for beat in beats if beat.last_event_ts is not None)


def test_heartbeats_continue_while_the_store_is_away(parts, trades, monkeypatch):
    """Heartbeats report that nothing is derived until the store takes rows again."""
    monkeypatch.setattr("torghut_core.market_data.deriver.RETRY_S", (0.001, 0.001))

    class Away(parts.Store):
        def flush(self):
            if [beat.status for beat in beats_of(sink)].count("paused") < 3:
                raise StateError("connection refused")
            super().flush()

    store, sink = Away(), parts.Log()
    asyncio.run(Deriver(parts.Tape(trades), parts.stages(), store, sink, checkpoint_s=0, status_s=0).run(64))
    assert [beat.status for beat in beats_of(sink)].count("paused") >= 3
    assert beats_of(sink)[-1].status != "paused"


def test_heartbeat_after_a_restart_knows_how_far_its_lane_is(parts, trades, tmp_path):
    """The watermark is that of the state that was kept, also while nothing new comes; a lane without a state has no lag."""

    class Silent(parts.Tape):
        async def batches(self, size):
            del size
            await asyncio.Event().wait()
            yield

    def first_beat():
        sink = parts.Log()
        deriver = Deriver(Silent([]), parts.stages(), parts.Store(), sink, SnapshotStore(str(tmp_path)))

        async def work():
            running = asyncio.create_task(deriver.run())
            await until_async(lambda: beats_of(sink))
            deriver.stop()
            await running

        asyncio.run(work())
        return beats_of(sink)[0]

    assert (first_beat().status, first_beat().watermark_lag_ms) == ("idle", 0)
    derive(parts, trades, snapshots=SnapshotStore(str(tmp_path)))
    assert first_beat().watermark_lag_ms > 0


def test_bus_that_refuses_a_heartbeat_ends_it(parts):
    """It ends loudly, and not with the next event."""

    class Silent(parts.Tape):
        async def batches(self, size):
            del size
            await asyncio.Event().wait()
            yield

    class Broken(parts.Log):
        async def send(self, messages):
            if messages:
                raise StateError("torghut.ta.status.v1: not allowed")

    async def work():
        async with asyncio.timeout(PATIENCE):
            await Deriver(Silent([]), parts.stages(), parts.Store(), Broken()).run()

    with pytest.raises(StateError, match="not allowed"):
        asyncio.run(work())


def test_state_of_other_stages_is_refused(parts, trades, tmp_path):
    """A catalog with other stages does not go on from a state that is none of theirs."""
    snapshots = SnapshotStore(str(tmp_path))
    derive(parts, trades, snapshots=snapshots)
    deriver = Deriver(parts.Tape(trades), parts.stages()[:1], parts.Store(), snapshots=snapshots)
    with pytest.raises(StateError, match="Microbars, Indicators"):
        asyncio.run(deriver.run())


@given(stop=st.integers(0, TRADES), turns=st.integers(0, 3), size=st.integers(1, 50))
@examples(40)
def test_stop_at_any_moment_loses_and_doubles_nothing(parts, tmp_path_factory, stop, turns, size):
    """SIGTERM at any moment, also as a batch comes, loses none: the next process resumes where this one ended."""
    trades = parts.random_trades(TRADES)
    snapshots, store = SnapshotStore(str(tmp_path_factory.mktemp("snapshots"))), parts.Store()

    async def stopped():
        tape = parts.Tape(trades)
        deriver = Deriver(tape, parts.stages(), store, snapshots=snapshots, checkpoint_s=1e9)

        async def stop_there():
            for turn in itertools.count():
                if tape.position >= stop and turn >= turns:
                    break
                await asyncio.sleep(0)
            deriver.stop()

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(deriver.run(size), stop_there())

    asyncio.run(stopped())
    asyncio.run(Deriver(parts.Tape(trades), parts.stages(), store, snapshots=snapshots).run())
    assert parts.rows(store) == derive(parts, trades)[0]


def test_it_ends_with_a_checkpoint_while_nothing_comes(parts, tmp_path):
    """A source that is silent does not keep the process from ending, and what came before is durable."""

    class Silent(parts.Tape):
        async def batches(self, size):
            async for batch in super().batches(size):
                yield batch
            silent.set()
            await asyncio.Event().wait()

    silent = asyncio.Event()
    tape = Silent(parts.random_trades(50))
    deriver = Deriver(tape, parts.stages(), parts.Store(), snapshots=SnapshotStore(str(tmp_path)), checkpoint_s=1e9)

    async def stopped():
        work = asyncio.create_task(deriver.run())
        async with asyncio.timeout(PATIENCE):
            await silent.wait()
            deriver.stop()
            await work

    asyncio.run(stopped())
    assert tape.committed == {"position": 50}
    assert SnapshotStore(str(tmp_path)).load("ta-0").cursor == {"position": 50}


class Shared(Source):
    """A source of one lane, "7", whose owner may change."""

    has_lanes = True

    def __init__(self, parts):
        super().__init__(None)
        self.tape = parts.Tape(parts.random_trades(40))
        self.committed = []
        self.is_ours = True
        self.goes_on = asyncio.Event()

    async def batches(self, size):
        await self.keeper.take("7")
        async for batch in self.tape.batches(size):
            batch.lane = "7"
            yield batch
            await self.goes_on.wait()

    def cursor(self):
        return {"7": {"offsets": {"t": self.tape.position}}} if self.is_ours else {}

    def commit(self, cursor):
        self.committed.append(cursor)

    async def lose(self):
        self.is_ours = False
        await self.keeper.leave("7")


def refusing(parts):
    """A store that keeps rows which it refuses, as the real one does."""

    class Refusing(parts.Store):
        def write(self, batch):
            super().write(batch)
            if self.refusals:
                raise StateError("no connection")

    return Refusing()


@pytest.mark.parametrize("waits_for", ["room", "store"])
def test_nothing_is_done_for_a_lane_that_was_lost(parts, tmp_path, monkeypatch, waits_for):
    """A batch whose lane is lost while it waits makes nothing of the next one of that name, and is not sent or kept."""
    monkeypatch.setattr("torghut_core.market_data.deriver.RETRY_S", (0.001, 0.002))
    has_room, store, sink = asyncio.Event(), refusing(parts), parts.Log()

    async def lost():
        store.refusals = 10**9 if waits_for == "store" else 0
        if waits_for == "store":
            has_room.set()
        source, snapshots = Shared(parts), SnapshotStore(str(tmp_path))
        deriver = Deriver(source, parts.stages(), store, sink, snapshots, may_write=has_room.is_set)
        task = asyncio.create_task(deriver.run(40))
        await until_async(lambda: source.tape.position and (waits_for == "room" or store.flushes))
        await source.lose()
        await source.keeper.take("7")
        taken = deriver.lanes["7"]
        store.refusals = 0
        has_room.set()
        await until_async(lambda: deriver._trouble is None and not store.refusals)
        deriver.stop()
        await task
        return deriver, taken, source

    deriver, taken, source = asyncio.run(lost())
    assert deriver.lanes == {"7": taken}
    assert taken.now == 0
    assert deriver.totals.events == (0 if waits_for == "room" else 40)
    assert {message.channel for message in sink.sent} <= {"ta-status"}
    assert not any(source.committed)
    assert SnapshotStore(str(tmp_path)).load("ta-7") is None


def test_lane_that_another_has_kept_further_is_left_to_them(parts, tmp_path, monkeypatch):
    """What another process has kept since stays, our offsets are not committed, and the log says it once."""
    errors = []
    monkeypatch.setattr(
        "torghut_core.market_data.deriver.logs.error", lambda text, **fields: errors.append((text, fields))
    )
    theirs = Snapshot([], {"offsets": {"t": 1_000}}, 5)

    async def overtaken():
        source, snapshots = Shared(parts), SnapshotStore(str(tmp_path))
        deriver = Deriver(source, parts.stages(), parts.Store(), parts.Log(), snapshots, checkpoint_s=1e9)
        task = asyncio.create_task(deriver.run(10))
        await until_async(lambda: deriver.totals.checkpoints)
        assert snapshots.save("ta-7", theirs)
        await deriver.checkpoint()
        await deriver.checkpoint()
        assert snapshots.load("ta-7") == theirs
        for file in tmp_path.iterdir():
            file.unlink()
        deriver.stop()
        await task
        return source.committed

    assert [set(cursor) for cursor in asyncio.run(overtaken())] == [{"7"}, set(), set(), {"7"}]
    ((text, fields),) = errors
    assert "further" in text
    assert fields == {"lane": "7"}


# ---------------------------------------------------------------------------------------------------------- snapshots


def snapshot(position):
    return Snapshot([("Microbars", 1, {"rows": [1, 2]})], {"position": position}, 5)


def test_snapshot_is_read_as_it_was_written(parts, trades):
    """Arrays of every shape, text and numbers come back as they were."""
    derived = derive(parts, trades)[1]
    lane = derived.lanes[""]
    taken = lane.snapshot({"position": 7})
    again = decode(encode(taken))
    assert encode(again) == encode(taken)
    assert again.cursor == {"position": 7}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_what_is_kept_goes_on_only(tmp_path_factory, cursors):
    """Whichever process saves in whatever order, the lane's kept state never falls behind in any topic."""
    store = SnapshotStore(str(tmp_path_factory.mktemp("snapshots")))
    best = (0, 0)
    for number, (trades, quotes) in enumerate(cursors):
        is_kept = store.save("ta-0", Snapshot([], {"offsets": {"t": trades, "q": quotes}, "number": number}, number))
        assert is_kept == (trades >= best[0] and quotes >= best[1])
        if is_kept:
            best, newest = (trades, quotes), number
        assert store.load("ta-0").cursor["number"] == newest


def test_damaged_snapshot_may_be_replaced(tmp_path):
    """What cannot be read is no further than anything."""
    store = SnapshotStore(str(tmp_path))
    store.save("ta-0", snapshot(1))
    (tmp_path / "ta-0.snapshot").write_bytes(b"garbage")
    assert store.save("ta-0", snapshot(2))
    assert store.load("ta-0").cursor == {"position": 2}


def test_damaged_snapshot_gives_way_to_the_one_before(tmp_path):
    """A file that was cut or changed costs the work since the one before it, and no more."""
    store = SnapshotStore(str(tmp_path))
    store.save("ta-0", snapshot(1))
    store.save("ta-0", snapshot(2))
    assert store.load("ta-0").cursor == {"position": 2}
    file = tmp_path / "ta-0.snapshot"
    file.write_bytes(file.read_bytes()[:-1])
    assert store.load("ta-0").cursor == {"position": 1}
    file.unlink()  # killed between the two moves
    assert store.load("ta-0").cursor == {"position": 1}


def test_snapshots_that_are_all_damaged_stop_the_start(tmp_path):
    """State that is there and cannot be read is an error with its file and the fix, and not taken for none."""
    store = SnapshotStore(str(tmp_path))
    assert store.load("ta-0") is None
    store.save("ta-0", snapshot(1))
    (tmp_path / "ta-0.snapshot").write_bytes(b"garbage")
    with pytest.raises(StateError, match=r"ta-0\.snapshot.*remove them"):
        store.load("ta-0")


def test_snapshot_is_on_the_disk_before_its_source_may_forget(tmp_path, monkeypatch):
    """What was written is synced before it takes its name, and the name before `save` returns: a power cut empties neither."""
    synced = []
    sync = os.fsync

    def noted(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    SnapshotStore(str(tmp_path)).save("ta-0", snapshot(1))
    file, folder = synced
    assert Path(file).match("ta-0.snapshot.*.new")
    assert folder == str(tmp_path)


def test_two_owners_may_save_at_once(tmp_path):
    """A lane's old owner and its new one save at the same moment: neither fails, and what is kept can be read."""
    start = threading.Barrier(4)

    def save(owner):
        store = SnapshotStore(str(tmp_path))
        start.wait(PATIENCE)
        for number in range(10):
            store.save("ta-0", snapshot(owner * 1000 + number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(4)))
    assert SnapshotStore(str(tmp_path)).load("ta-0") is not None
    assert {file.name for file in tmp_path.iterdir()} == {"ta-0.snapshot", "ta-0.snapshot.before"}


def test_abandoned_file_is_removed(tmp_path):
    """What a killed process had begun to write is removed at a later start, and what another writes now is not."""
    old, new = tmp_path / "ta-0.snapshot.a.new", tmp_path / "ta-0.snapshot.b.new"
    for file in (old, new):
        file.write_bytes(b"begun")
    os.utime(old, (0, 0))
    SnapshotStore(str(tmp_path))
    assert not old.exists()
    assert new.exists()
