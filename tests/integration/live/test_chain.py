"""Venue, forwarder, bus, TA and store in one process: whichever part is killed at any time, the rows are the tape's."""

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Lock

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from torghut_sources.bus import MemorySink, MemorySource
from torghut_sources.bus.memory import MemoryBus
from torghut_testing.alpaca_data import FakeMarketData, Fault

from support.effort import examples
from support.waiting import PATIENCE, until_async
from torghut_core import Connection
from torghut_core.market_data.deriver import Deriver
from torghut_core.market_data.forwarder import Forwarder
from torghut_core.market_data.snapshots import SnapshotStore
from torghut_core.signals import MemorySignalStore

LATENESS = 2_000_000_000
"""What the stages allow events to be late, ns: so far behind the last event windows are closed."""

PATIENT = {"stale_after_s": 2 * PATIENCE, "ping_s": 2 * PATIENCE}
"""The source gives no connection up because nothing comes: the tape waits for the parts, however long that takes."""


class Snapshots(SnapshotStore):
    """Saves one at a time: a cancelled part may leave a thread that saves, which a killed process does not."""

    def __init__(self, folder):
        super().__init__(str(folder))
        self._saving = Lock()

    def save(self, name, snapshot):
        with self._saving:
            return super().save(name, snapshot)


class Chain:
    """The parts, each of which can be killed and begun again on what it has kept."""

    def __init__(self, live, venue, tape, folder):
        self.live, self.venue, self.tape = live, venue, tape
        self.clock = live.Clock()
        self.store = MemorySignalStore()
        self.forwards, self.states = Snapshots(folder / "forward"), Snapshots(folder / "ta")
        self.forwarder = self.deriver = None
        self.tasks = {}
        self.restored = 0

    def begin(self, part):
        """Start a new instance of a part."""
        nothing = Connection(False, pytest.fail)
        if part == "forwarder":
            source = self.live.source_of(self.venue, self.tape.symbols, wall=self.clock, **PATIENT)
            sink = MemorySink(MemorySink.Params())
            sink.connect(nothing)
            self.forwarder = Forwarder(source, sink, self.forwards, checkpoint_s=0.01)
            self.tasks[part] = source, asyncio.create_task(self.forwarder.run(16))
        else:
            source = MemorySource(MemorySource.Params(channels=["trades", "quotes"], tick_ms=0, idle_ms=20))
            source.connect(nothing)
            self.deriver = Deriver(source, self.live.stages(), self.store, None, self.states, checkpoint_s=0.01)
            self.tasks[part] = source, asyncio.create_task(self.deriver.run(16))

    async def kill(self, part):
        """End a part amid whatever it does."""
        source, task = self.tasks.pop(part)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        source.close()
        if part == "ta":
            self.restored += self.deriver.totals.restored

    async def until(self, claim):
        """Wait until something is so, while all parts go on."""
        await until_async(claim, tasks=[task for _, task in self.tasks.values()])

    def is_written(self, snapshots, name):
        """Whether a part has something to go on from."""
        return snapshots.load(name) is not None

    async def play(self, start, stop, faults=(), *, is_heard=True):
        """Have events happen, and wait until they have; and until the bus has as many more, where anybody hears.

        None happens while a gap is filled. A tape without a pace would go on by seconds between the history's answers of
        trades and of quotes, which no venue does: then events that are not late would be.
        """
        if is_heard:
            source, _ = self.tasks["forwarder"]
            await self.until(lambda: source.is_filled)
        events = self.clock.run(self.tape.events[start:stop])
        before = self.forwarder.forwarded.total()
        playback = self.venue.play(events, faults=faults, wait_for=self.tape.symbols if is_heard else ())
        await self.until(lambda: playback.is_done)  # the forwarder may bring old events again, and have as many sooner
        if is_heard:
            await self.until(lambda: self.forwarder.forwarded.total() >= before + stop - start)


async def chained(live, tape, folder, steps, *, are_saved=False):
    """Play a tape; after each of some events, parts are killed, and some more events happen before they are back.

    `are_saved`: none is killed before the TA runs and its state is saved.
    """
    async with asyncio.timeout(2 * PATIENCE):
        with FakeMarketData() as venue:
            chain = Chain(live, venue, tape, folder)
            chain.begin("ta")
            chain.begin("forwarder")
            await chain.play(0, 5)
            await chain.until(lambda: chain.is_written(chain.forwards, "forwarder"))
            at = 5
            for heard, parts, unheard in steps:
                if heard:  # else parts are killed right after they began, amid a gap that is filled
                    await chain.play(at, at + heard)
                    at += heard
                if are_saved:
                    await chain.until(lambda: chain.deriver.lanes and chain.is_written(chain.states, "ta-0"))
                for part in parts:
                    await chain.kill(part)
                if "forwarder" in parts:
                    await chain.play(at, at + unheard, is_heard=False)
                    at += unheard
                for part in parts:
                    chain.begin(part)
            await chain.play(at, len(tape), [Fault(kind="cut", at=5, lost=5)])
            last = tape.events[-1].at
            await chain.until(lambda: chain.deriver.lanes.get("0") and chain.deriver.lanes["0"].now == last)
            await chain.deriver.checkpoint()
            for part in list(chain.tasks):
                await chain.kill(part)
            return chain


def expected(live, tape):
    """What is known of the tape without a clock tick after it: the windows that its last event has closed."""
    limit = tape.events[-1].at - LATENESS
    return {
        table: [row for row in rows if row["window_end"].value <= limit] for table, rows in tape.rows.items()
    }, limit


KILLED = st.sampled_from([("forwarder",), ("ta",), ("ta", "forwarder")])


@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 40), KILLED, st.integers(1, 25)), min_size=1, max_size=4))
def test_rows_are_those_of_the_tape_whichever_part_is_killed(live, tape, monkeypatch, steps):
    """If forwarder and TA are killed at any events, and events happen meanwhile, the rows are the same."""
    monkeypatch.setattr(MemoryBus, "_named", {})
    rows, limit = expected(live, tape)
    with tempfile.TemporaryDirectory() as folder:
        chain = asyncio.run(chained(live, tape, Path(folder), steps))
    assert live.rows_of(chain.store, limit) == rows


def test_restarts_resume_from_the_stored_state(live, tape, tmp_path, monkeypatch):
    """Each TA that is started again loads its stored state: the case above does test restarts."""
    monkeypatch.setattr(MemoryBus, "_named", {})
    chain = asyncio.run(
        chained(live, tape, tmp_path, [(80, ("ta", "forwarder"), 20), (60, ("ta",), 1)], are_saved=True)
    )
    assert chain.restored == 2
