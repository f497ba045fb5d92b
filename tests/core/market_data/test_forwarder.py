"""`torghut forward` moves every event, in order, and knows how far the bus has acknowledged."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from support.waiting import PATIENCE
from torghut_core import Envelope
from torghut_core.bus.marks import time_of
from torghut_core.errors import InputError, StateError
from torghut_core.market_data.forwarder import Forwarder
from torghut_core.market_data.snapshots import SnapshotStore
from torghut_core.model.market import Message


def test_every_event_is_moved_in_order(parts):
    """What the source gives is what the bus has, and it is counted by channel."""
    trades, sink = parts.random_trades(500), parts.Log()
    forwarder = Forwarder(parts.Tape(trades), sink)
    asyncio.run(forwarder.run(7))
    assert [message.value for message in sink.sent] == [str(row).encode() for row in trades]
    assert sink.acknowledged == 500
    assert forwarder.metrics() == {"forwarded_total": {"trades": 500}}


@given(cuts=st.lists(st.integers(1, 300), max_size=4), size=st.integers(1, 50), often=st.booleans())
@examples(40)
def test_killed_anywhere_it_loses_nothing(parts, tmp_path_factory, cuts, size, often):
    """A restart resumes from what the bus has acknowledged: some events come twice, none is missing."""
    trades, folder = parts.random_trades(300), str(tmp_path_factory.mktemp("cursors"))
    sink = parts.Log()
    for cut in [*cuts, None]:
        tape = parts.Tape(trades, cut)
        forwarder = Forwarder(tape, sink, SnapshotStore(folder), checkpoint_s=0 if often else 1e9)
        try:
            asyncio.run(forwarder.run(size))
        except parts.Killed:
            assert tape.cut is not None
    assert {message.value for message in sink.sent} == {str(row).encode() for row in trades}


def test_bus_that_refuses_stops_it(parts):
    """An event that the bus refuses for good ends the process, loudly."""

    class Broken(parts.Log):
        async def send(self, messages):
            raise StateError("torghut.trades.v1: message too large (raise the topic's limit)")

    with pytest.raises(StateError, match="too large"):
        asyncio.run(Forwarder(parts.Tape(parts.random_trades(9)), Broken()).run())


def test_source_without_messages_is_an_error(parts):
    """A source that cannot be forwarded says so, and what to do."""

    class Silent(parts.Tape):
        def messages(self, size):
            return super(parts.Tape, self).messages(size)

    with pytest.raises(InputError, match="use another source"):
        asyncio.run(Forwarder(Silent([]), parts.Log()).run())


def test_time_mark_covers_only_what_was_sent(parts, monkeypatch):
    """A mark stands behind every event up to its time, and there is none while the source knows of a gap."""
    monkeypatch.setattr("torghut_core.market_data.forwarder.MARK_S", 0)

    class Timed(parts.Tape):
        gap = range(20, 40)

        def known_until(self):
            return None if self.position in self.gap else self.position

    trades, sink = parts.random_trades(60), parts.Log()
    asyncio.run(Forwarder(Timed(trades), sink).run(1))
    sent, told = 0, []
    for message in sink.sent:
        if message.symbol:
            sent += 1
        else:
            told.append(time_of(Envelope.decode(message.value)))
            assert told[-1] <= sent
    assert told == sorted(set(told))
    assert len(told) > 20
    assert not set(told) & set(Timed.gap)


def test_what_comes_while_a_time_mark_is_sent_is_not_written_down_as_sent(parts, tmp_path, monkeypatch):
    """A cursor that is kept covers what the bus was given, and nothing that the source gave meanwhile."""
    monkeypatch.setattr("torghut_core.market_data.forwarder.MARK_S", 0)
    trades, sink = parts.random_trades(6), parts.Log()
    last = asyncio.Event()

    class Timed(parts.Tape):
        def known_until(self):
            return self.position

        async def messages(self, size):
            async for messages in super().messages(size):
                if self.position == len(trades):
                    await last.wait()
                yield messages

        def commit(self, cursor):
            assert cursor["position"] <= sum(bool(message.symbol) for message in sink.sent)
            super().commit(cursor)

    class Slow(parts.Log):
        async def send(self, messages):
            await super().send(messages)
            if not messages[0].symbol and tape.position == len(trades):
                last.set()
                for _ in range(10):
                    await asyncio.sleep(0)

    tape, sink = Timed(trades), Slow()
    asyncio.run(Forwarder(tape, sink, SnapshotStore(str(tmp_path)), checkpoint_s=0).run(1))
    assert last.is_set()
    assert tape.committed == {"position": len(trades)}


def test_a_source_that_never_waits_is_stopped(parts):
    """No further piece is asked for after the stop, also where there is always one."""
    forwarder, sink = None, parts.Log()

    class Endless(parts.Tape):
        async def messages(self, size):
            del size
            while True:
                self.position += 1
                if self.position == 10:
                    forwarder.stop()
                yield [Message("trades", "A", b"%d" % self.position)]

    async def work():
        async with asyncio.timeout(PATIENCE):
            await forwarder.run()

    tape = Endless([])
    forwarder = Forwarder(tape, sink)
    asyncio.run(work())
    assert (tape.position, sink.acknowledged) == (10, 10)
    assert tape.committed == {"position": 10}
