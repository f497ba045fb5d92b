"""Groups on the bus in memory: whatever happens to the members, each event ends in one state."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.bus import MemorySink, MemorySource
from torghut_sources.bus import source as bus_source
from torghut_sources.bus.memory import MemoryBus

from support.effort import examples
from support.waiting import PATIENCE, until_async
from torghut_core import StateError

from .conftest import CONNECTION, TRADES, Kernel, gather, quote, trade

PARTITIONS = 3
SYMBOLS = [f"S{number}" for number in range(8)]
STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 30)),
    st.tuples(st.just("join"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["crash", "leave", "keep", "stand", "go"]), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(1, 20)),
)


class Member:
    """A process of the group: a source, and a kernel that keeps a checkpoint every few batches."""

    def __init__(self, bus, disk, every):
        self.kernel = Kernel(disk)
        self.source = MemorySource(MemorySource.Params(partitions=PARTITIONS, idle_ms=1, tick_ms=0))
        self.source.connect(CONNECTION)
        self.source._bus = bus
        self.source.keeper = self.kernel
        self.kernel.source = self.source
        self._every = every
        self.may_go = asyncio.Event()
        self.may_go.set()
        self._task = asyncio.create_task(self._run())

    async def _run(self):
        done = 0
        async for batch in self.source.batches(7):
            state = self.kernel.states[batch.lane]
            while not self.may_go.is_set():
                await self.may_go.wait()
            if self.kernel.states.get(batch.lane) is not state:
                continue
            self.kernel.update(batch)
            await asyncio.sleep(0)
            done += 1
            if done % self._every == 0:
                self.kernel.keep()

    async def end(self, *, keep):
        """Stop, with a last checkpoint or without."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if keep:
            self.kernel.keep()
        self.source.close()


async def play(steps):
    """Go through the steps; then let the group finish, and give what was sent and what was kept."""
    bus, disk, members, sent = MemoryBus(PARTITIONS), {}, [], []
    sink = MemorySink(MemorySink.Params())
    sink.connect(CONNECTION)
    sink._writer = bus.writer()
    for step, number in [*steps, ("join", 2)]:
        if step == "send":
            first = len(sent)
            new = [(trade, quote)[each % 2](each, SYMBOLS[each % 5]) for each in range(first, first + number)]
            sent += new
            await sink.send(new)
        elif step == "join":
            members.append(Member(bus, disk, number))
        elif step == "wait":
            for _ in range(number):
                await asyncio.sleep(0)
        elif members:
            member = members[number % len(members)]
            if step == "stand":
                member.may_go.clear()
            elif step == "go":
                member.may_go.set()
            elif step == "keep":
                if member.may_go.is_set():
                    member.kernel.keep()
            else:
                members.remove(member)
                await member.end(keep=step == "leave" and member.may_go.is_set())
    await until_async(lambda: sum(len(member.source._lanes) for member in members) == PARTITIONS)
    for member in members:
        member.may_go.set()

    def is_kept():
        """Whether all is on the disk, after a checkpoint of each member: on a slow machine lanes change hands at any time."""
        for member in members:
            member.kernel.keep()
        return sum(len(state) for _, state in disk.values()) >= len(sent)

    await until_async(is_kept)
    for member in members:
        await member.end(keep=False)
    return sent, disk


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus_source, "AWAY_SECONDS", 0.002)
        patch.setattr(bus_source, "STAY_SECONDS", 0.001)
        yield


@examples(60)
@given(st.lists(STEPS, max_size=14))
def test_each_event_ends_in_one_state(steps):
    """Members join, leave, pause, crash before a commit and restart; each event is in the state of its lane once, in order."""
    sent, disk = asyncio.run(play(steps))
    kept = [event for _, state in disk.values() for event in state]
    assert len(kept) == len(sent)
    assert {(channel, number) for _, channel, number, _ in kept} == {
        (("trades", "quotes")[number % 2], number) for number in range(len(sent))
    }
    for cursor, state in disk.values():
        for channel in ("trades", "quotes"):
            numbers = [number for _, each, number, _ in state if each == channel]
            assert numbers == sorted(numbers)
        assert cursor["position"] == len(state)


def test_writer_waits_for_the_slowest_group(memory_pair):
    """A full log takes no more until what it holds is committed, and then lets go of it: memory is bounded."""
    bus = MemoryBus(1, capacity=10)
    sink, source = memory_pair.sink, memory_pair.source(channels=["trades"])
    sink._writer, source._bus = bus.writer(), bus

    async def run():
        sending = asyncio.create_task(sink.send([trade(number) for number in range(25)]))
        batches = source.batches(10)
        async with asyncio.timeout(PATIENCE):
            assert len(await anext(batches)) == 10
            await asyncio.sleep(0.01)
            assert not sending.done()
            source.commit(source.cursor())
            assert len(await anext(batches)) == 10
            source.commit(source.cursor())
            assert len(await anext(batches)) == 5
            await sending
        source.commit(source.cursor())

    asyncio.run(run())
    assert bus.log(TRADES, 0).records == []


def test_cursor_of_an_earlier_process_begins_anew(memory_pair):
    """What an earlier process had in memory went with it: the lane begins with what there is now."""
    sink, source = memory_pair.sink, memory_pair.source(channels=["trades"], tick_ms=0)
    old = {"offsets": {TRADES: 500}, "position": 7, "now": 0, "symbols": [], "conditions": [], "series": [], "bars": []}
    source.seek({"0": old, "1": old})

    async def run():
        await sink.send([trade(0), trade(1)])
        return await gather(source, 2)

    (batch,) = asyncio.run(run())
    assert batch.start == 7


def test_cursor_before_what_is_left_is_an_error(memory_pair):
    """A state that is older than what was committed cannot resume, and says so."""
    bus = MemoryBus(1)
    log = bus.log(TRADES, 0)
    writer = bus.writer()
    for _ in range(5):
        writer.put(TRADES, b"S", b"{}")
    log.forget(3)
    source = memory_pair.source(channels=["trades"])
    source._bus = bus
    source.seek(
        {
            "0": {
                "offsets": {TRADES: 1},
                "position": 1,
                "now": 0,
                "symbols": [],
                "conditions": [],
                "series": [],
                "bars": [],
            }
        }
    )
    with pytest.raises(StateError, match=r"offset 1 of .* is gone"):
        asyncio.run(gather(source, 1))
