"""Whatever happens to the connection, each event is given out once, in order: on a simulated venue and clock."""

import asyncio

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torghut_sources.alpaca.dedup import Once

from torghut_core import Envelope, InputError, format_timestamp

pytestmark = pytest.mark.filterwarnings("error")

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD")
FAULTS = (
    "cut",
    "mute",
    "half-open",
    "garbage",
    "duplicate",
    "down",
    "rest",
    "407",
    "406",
    "500",
    "close-twice",
    "busy",
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("events"), st.integers(1, 12)),
        st.tuples(st.just("pass"), st.integers(1, 400)),
        st.tuples(st.sampled_from(FAULTS), st.integers(0, 6)),
    ),
    min_size=1,
    max_size=12,
)


class Tape:
    """Events in order: trades and quotes of three symbols."""

    def __init__(self, kit):
        self._kit = kit
        self.number = 0
        self.all = []

    def next(self, count):
        events = []
        for _ in range(count):
            make = self._kit.quote if self.number % 3 == 2 else self._kit.trade
            events.append(make(self.number, SYMBOLS[self.number % 7 % 3]))
            self.number += 1
        self.all += events
        return events


async def apply(step, venue, tape):
    kind, count = step
    transport = venue.transport
    if kind == "events":
        venue.happen(*tape.next(count))
    elif kind == "pass":
        await asyncio.sleep(count / 100)
    elif kind in ("cut", "close-twice"):
        for _ in range(1 + (kind == "close-twice")):
            if venue.transport is not None:
                venue.transport.end()
            venue.happen(*tape.next(count))
            await asyncio.sleep(0.03)
    elif kind == "busy":
        transport.end()
        for moment in range(40):
            venue.happen(*tape.next(1))
            await asyncio.sleep(0.002)
            if moment in (count * 2, count * 7):
                venue.transport.end()
    elif kind == "mute" and transport is not None:
        transport.is_mute = True
        venue.happen(*tape.next(count))
    elif kind == "half-open" and transport is not None:
        transport.is_mute, transport.answers_pings = True, False
        venue.happen(*tape.next(count))
    elif kind == "garbage" and transport is not None:
        venue.remember(*tape.next(count))
        transport.give(raw=b'[{"T":"t",')
    elif kind == "duplicate" and transport is not None and transport.subscribed:
        transport.give(*venue.known_history()[-count:] or [{"T": "success", "msg": "again"}])
    elif kind == "down":
        venue.is_down = True
        if transport is not None:
            transport.end()
        venue.happen(*tape.next(count))
        await asyncio.sleep(0.3)
        venue.is_down = False
    elif kind == "rest":
        venue.rest_faults += count
    elif kind.isdigit() and transport is not None:
        transport.give({"T": "error", "code": int(kind), "msg": "simulated"})
        venue.happen(*tape.next(count))


def given_out(batches):
    """(time, symbol, seq) of all rows, in stream order, and the positions."""
    rows = []
    for batch in batches:
        for table in (batch.trades, batch.quotes, batch.bars):
            names = [batch.symbols.names[number] for number in table.symbol.tolist()]
            rows += zip(table.at.tolist(), names, table.event_ts.tolist(), strict=True)
    return sorted(rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=steps, size=st.sampled_from([1, 5, 1000]), tick_ms=st.sampled_from([0, 50]), small=st.booleans())
def test_each_event_comes_once_whatever_happens(simulated, schedule, size, tick_ms, small):
    """For any schedule of faults the events given out are the tape's, in its order, at positions without a gap."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        queue = {"queue_frames": 2} if small else {}
        source = simulated.source(venue, simulated.Listed(*SYMBOLS), tick_ms=tick_ms, **queue)
        batches, history = [], []
        first = asyncio.Event()

        async def take():
            async for batch in source.batches(size):
                batches.append(batch)
                history.append(source.gates()["backfill"] is None)
                first.set()

        taker = asyncio.create_task(take())
        await venue.settled()
        await asyncio.sleep(0.01)
        venue.happen(*tape.next(1))
        await first.wait()
        for step in schedule:
            await apply(step, venue, tape)
        await asyncio.sleep(5)
        while not all(gate is None for gate in source.gates().values()):
            await asyncio.sleep(0.05)
            venue.happen(*tape.next(1))
        await asyncio.sleep(2)
        source.close()
        await taker
        return batches, tape

    async def limited():
        async with asyncio.timeout(600):
            return await main()

    batches, tape = simulated.run(limited())
    rows = given_out(batches)
    assert [batch.start for batch in batches] == [0, *(batch.stop for batch in batches[:-1])]
    now = np.concatenate([batch.now for batch in batches])
    assert (np.diff(now) >= 0).all()
    wanted = [(event["S"], event["t"]) for event in tape.all]
    assert [(name, format_timestamp(ts)) for _, name, ts in rows] == wanted
    ticks = len(now) - len(rows)
    assert ticks >= 0
    if not tick_ms:
        assert ticks == 0


class PacedTape(Tape):
    """The same, each at the time at which it happens."""

    def __init__(self, kit):
        super().__init__(kit)
        self._start = asyncio.get_running_loop().time()

    def now(self):
        return int((asyncio.get_running_loop().time() - self._start) * 10**9)

    def next(self, count):
        events = []
        for _ in range(count):
            make = self._kit.quote if self.number % 3 == 2 else self._kit.trade
            events.append(make(self.number, SYMBOLS[self.number % 7 % 3], at=self.now() + self.number))
            self.number += 1
        self.all += events
        return events


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    schedule=steps,
    ahead_s=st.floats(-9, 9),
    delays=st.fixed_dictionaries({name: st.sampled_from([0.0, 0.02, 0.5]) for name in ("trades", "quotes", "bars")}),
    is_cursor=st.booleans(),
)
def test_nothing_is_lost_or_late_by_a_clock_that_is_wrong(simulated, schedule, ahead_s, delays, is_cursor):
    """However uneven the history and wrong the clock, each event comes once and is overtaken by `overlap_ms` at most.

    Nothing happens after the last fault: a feed that is quiet then is filled and ready all the same.
    """

    async def main():
        venue, tape = simulated.Venue(), PacedTape(simulated)
        venue.delays = delays
        zero = simulated.T0 - 3600 * 10**9
        source = simulated.source(
            venue, simulated.Listed(*SYMBOLS), wall=lambda: zero + tape.now() + int(ahead_s * 10**9)
        )
        batches = []
        first = asyncio.Event()
        await asyncio.sleep(20)
        if is_cursor:
            source.seek({"position": 0, "seq": 0, "now": zero + tape.now() - 1})
            venue.happen(*tape.next(3))
            await asyncio.sleep(6)
            venue.happen(*tape.next(3))
            await asyncio.sleep(1)

        async def take():
            async for batch in source.batches(1000):
                batches.append(batch)
                first.set()

        taker = asyncio.create_task(take())
        await venue.settled()
        if not is_cursor:
            await asyncio.sleep(0.01)
            venue.happen(*tape.next(1))
            await first.wait()
        for step in schedule:
            await apply(step, venue, tape)
        await asyncio.sleep(60)
        while any(source.gates()[name] is not None for name in ("subscription", "backfill")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # no time at all, by this clock
        source.close()
        await taker
        return batches, tape

    async def limited():
        async with asyncio.timeout(600):
            return await main()

    batches, tape = simulated.run(limited())
    rows = given_out(batches)
    wanted = [(event["S"], event["t"]) for event in tape.all]
    assert sorted((name, format_timestamp(ts)) for _, name, ts in rows) == sorted(wanted)
    times = np.array([ts for _, _, ts in rows])
    assert (np.maximum.accumulate(times) - times).max() <= 50_000_000


@pytest.mark.parametrize("ahead_s", [0, 40, -40])
@pytest.mark.parametrize("is_quiet", [False, True])
def test_bar_that_has_not_ended_is_left_to_the_stream(simulated, is_quiet, ahead_s):
    """What the history has of a minute in progress is not given out: the bar is, when the stream gives it.

    The clock of this machine is of no matter.
    """

    async def main():
        venue, tape = simulated.Venue(), PacedTape(simulated)
        zero = simulated.T0 - 3600 * 10**9
        source = simulated.source(
            venue,
            simulated.Listed("BTC/USD"),
            wall=lambda: zero + tape.now() + ahead_s * 10**9,
            stale_after_s=60,
            overlap_ms=60_000,
            max_ahead_ms=60_000,
        )
        bars = []

        async def take():
            async for batch in source.batches(10):
                bars.extend(zip(batch.bars.event_ts.tolist(), batch.bars.volume.tolist(), strict=True))

        taker = asyncio.create_task(take())
        await venue.settled()
        venue.happen(simulated.trade(0, at=tape.now()))
        await asyncio.sleep(0.1)
        venue.transport.end()
        whole = simulated.bar(0)
        venue.past.append(whole | {"v": 1.0})
        await venue.settled()
        if not is_quiet:
            venue.happen(simulated.trade(1, at=tape.now()))
        await asyncio.sleep(1)
        assert source.gates()["backfill"] is None
        assert bars == []
        await asyncio.sleep(45)
        venue.happen(whole)
        await asyncio.sleep(1)
        source.close()
        await taker
        assert [volume for _, volume in bars] == [whole["v"]]

    simulated.run(main())


def test_readiness_waits_for_the_back_fill_to_be_taken(simulated):
    """The gate `backfill` is closed from the loss until the consumer asks for more after the last batch that filled it."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        stream = source.batches(1000)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        venue.happen(*tape.next(3))
        assert len(await pending) == 3
        assert source.gates()["backfill"] is None
        venue.transport.end()
        assert source.gates()["backfill"] is not None
        venue.happen(*tape.next(4))
        assert len(await anext(stream)) == 4
        gates = source.gates()
        assert gates["auth"] is None
        assert gates["subscription"] is None
        assert gates["backfill"] is not None
        pending = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.5)
        assert source.gates()["backfill"] is None
        source.close()
        with pytest.raises(StopAsyncIteration):
            await pending

    simulated.run(main())


def test_history_that_fails_holds_live_data_back(simulated):
    """While the history does not answer the gate says so, nothing later is given out, and reading stops at the bound."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS), queue_frames=4)
        batches = []

        async def take():
            async for batch in source.batches(1000):
                batches.append(batch)  # noqa: PERF401 - read meanwhile

        taker = asyncio.create_task(take())
        await venue.settled()
        venue.happen(*tape.next(3))
        await asyncio.sleep(0.1)
        venue.rest_faults = 10**9
        venue.transport.end()
        venue.happen(*tape.next(5))
        await asyncio.sleep(0.5)
        for _ in range(9):
            venue.happen(*tape.next(1))
        await asyncio.sleep(1)
        assert sum(map(len, batches)) == 3
        gate = source.gates()["backfill"]
        assert gate is not None
        assert "the history is down" in gate.reason
        assert not venue.transport.is_reading
        assert source.metrics()["ws_queue_frames"] == 4
        venue.rest_faults = 0
        await asyncio.sleep(2)
        assert sum(map(len, batches)) == len(tape.all)
        assert venue.transport.is_reading
        assert source.gates()["backfill"] is None
        source.close()
        await taker

    simulated.run(main())


@pytest.mark.parametrize("code", [402, 409, 410, 411])
def test_final_refusal_ends_the_source_with_a_hint(simulated, code):
    """A final refusal of the venue is raised with what to check, and is not retried."""

    async def main():
        venue = simulated.Venue()
        (venue.auth_errors if code == 402 else venue.refusals).append(code)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        with pytest.raises(InputError, match=rf"{code} no \(check ALPACA_"):
            await anext(source.batches(10))
        assert len(venue.attempts) == 1

    simulated.run(main())


def test_connection_limit_is_waited_for(simulated):
    """After each 406 the next attempt waits longer: at least 5 s, at most a minute."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        venue.auth_errors = [406] * 5
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        pending = asyncio.ensure_future(anext(source.batches(10)))
        while len(venue.attempts) < 6:
            await asyncio.sleep(1)
            gate = source.gates()["auth"]
            if len(venue.attempts) in range(1, 5):
                assert gate is not None
                assert gate.error_class == "connection-limit"
        await venue.settled()
        venue.happen(*tape.next(1))
        assert len(await pending) == 1
        return np.diff(venue.attempts)

    waits = simulated.run(main())
    assert (waits >= 5).all()
    assert waits.sum() > 60
    assert (waits <= 61).all()


def test_symbol_limit_keeps_what_fits(simulated):
    """405: as many symbols as fit stay subscribed and deliver data; the others are counted as refused."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        venue.limit = 2
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        pending = asyncio.ensure_future(anext(source.batches(10)))
        await venue.settled()
        await asyncio.sleep(0.1)
        assert venue.transport.subscribed == {"BTC/USD", "ETH/USD"}
        assert source.metrics()["ws_symbols_refused"] == 1
        assert source.gates()["subscription"] is None
        venue.happen(*tape.next(1))
        assert len(await pending) == 1
        source.close()

    simulated.run(main())


def test_universe_changes_without_a_reconnect(simulated):
    """Symbols that come and go are subscribed and unsubscribed, in batches, on the connection that is there."""

    async def main():
        venue = simulated.Venue()
        universe = simulated.Listed("BTC/USD", "AAPL", "ETH/USD", "SOL/USD")
        source = simulated.source(venue, universe, batch=2)
        pending = asyncio.ensure_future(anext(source.batches(10)))
        await venue.settled()
        await asyncio.sleep(0.1)
        asked = [set(request["trades"]) for request in venue.said_by_client if request["action"] == "subscribe"]
        assert asked == [{"BTC/USD", "ETH/USD"}, {"SOL/USD"}]
        universe.set("ETH/USD", "DOGE/USD")
        await asyncio.sleep(0.1)
        assert venue.transport.subscribed == {"ETH/USD", "DOGE/USD"}
        assert source.gates()["subscription"] is None
        assert len(venue.attempts) == 1
        source.close()
        with pytest.raises(StopAsyncIteration):
            await pending

    simulated.run(main())


def test_event_far_ahead_is_refused(simulated):
    """An event beyond all clocks is left out and counted: it would end every window."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        stream = source.batches(10)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        venue.happen(simulated.trade(0, at=2 * 3600 * 10**9), *tape.next(2))
        assert len(await pending) == 2
        assert source.metrics()["ws_ahead_refused_total"] == 1
        source.close()

    simulated.run(main())


def test_times_that_creep_ahead_do_not_stop_the_others_silently(simulated):
    """One symbol's events are each dated beyond the last: the others' go on, or `freshness` says whose do not."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(
            venue, simulated.Listed(*SYMBOLS), stale_after_s=60, wall=lambda: simulated.T0 - 3600 * 10**9
        )
        taken = []

        async def take():
            async for batch in source.batches(10):
                taken.extend(batch.trades.event_ts.tolist())

        taker = asyncio.create_task(take())
        await venue.settled()
        for step in range(40):
            venue.happen(simulated.trade(10_000 + step, at=step * 10**9))
            venue.happen(*tape.next(2))
            await asyncio.sleep(0.2)
        assert max(taken) <= source._wall() + 10 * 10**9
        assert source.gates()["freshness"].error_class == "misdated"
        metrics = source.metrics()
        assert metrics["ws_ahead_refused_total"] > 0
        assert metrics["ws_late_total"] > 0
        source.close()
        await taker

    simulated.run(main())


def test_time_in_the_future_is_not_resumed_from(simulated):
    """A cursor that an event dated far ahead has left behind: the source goes on from now."""

    async def main():
        source = simulated.source(simulated.Venue(), simulated.Listed(*SYMBOLS))
        now = source._wall()
        source.seek({"position": 5, "seq": 5, "now": now + 3600 * 10**9})
        assert source.cursor()["now"] == now

    simulated.run(main())


def test_silent_feed_tells_the_time_its_history_confirms(simulated):
    """A tick comes when the history has nothing either; where it has more, the stream is mute and opened again."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS), tick_ms=500, stale_after_s=60)
        stream = source.batches(10)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        venue.happen(*tape.next(1))
        first = await pending
        tick = await anext(stream)
        assert (len(tick), len(tick.trades)) == (1, 0)
        assert 400_000_000 < tick.now[0] - first.now[0] < 600_000_000
        venue.transport.is_mute = True
        venue.happen(*tape.next(4))
        filled = await anext(stream)
        assert len(filled.trades) + len(filled.quotes) == 4
        assert len(venue.attempts) == 2
        assert source.metrics()["ws_ws_connect_errors_total"] == {"mute": 1}
        source.close()

    simulated.run(main())


def test_bar_that_the_gap_delayed_is_found(simulated):
    """A bar whose minute ended before the connection was lost, and that had not come yet, comes with the back-fill."""

    async def main():
        venue = simulated.Venue()
        source = simulated.source(venue, simulated.Listed("BTC/USD"))
        stream = source.batches(10)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        venue.happen(simulated.trade(0), simulated.trade(12_500))
        assert len((await pending).trades) == 2
        venue.transport.end()
        venue.happen(simulated.bar(6_000), simulated.trade(12_501))
        filled = [await anext(stream)]
        while sum(map(len, filled)) < 2:
            filled.append(await anext(stream))
        assert [len(batch.bars) + 2 * len(batch.trades) for batch in filled] in ([3], [1, 2])
        source.close()

    simulated.run(main())


def test_cursor_goes_on_where_it_was(simulated):
    """A source that seeks a cursor gives first, from the history, what happened meanwhile; numbers continue."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        venue.past = tape.next(9)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS), overlap_ms=0)
        last = simulated.T0 - 3600 * 10**9 + 50_000_000
        source.seek({"position": 6, "seq": 6, "now": last})
        stream = source.batches(100)
        batch = await anext(stream)
        assert batch.start == 6
        while batch.stop < 10:  # the event of that very time comes again
            batch = await anext(stream)
        assert source.cursor() == {"position": 10, "seq": 10, "now": int(batch.now[-1]), "bars": {}}
        source.close()

    simulated.run(main())


def test_event_that_was_overtaken_before_the_cut_is_found(simulated):
    """An event that a later one overtook, and that was lost with the connection, comes with the back-fill."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        stream = source.batches(10)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        early, late = tape.next(2)
        venue.happen(late)
        assert len(await pending) == 1
        venue.transport.end()
        venue.past.insert(0, early)
        assert (await anext(stream)).trades.event_ts[0] == simulated.T0 - 3600 * 10**9
        source.close()

    simulated.run(main())


def test_same_trade_again_is_dropped_and_counted(simulated):
    """A trade that the venue sends twice is given out once; trades of other symbols or days may have its id."""

    async def main():
        venue = simulated.Venue()
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        pending = asyncio.ensure_future(anext(source.batches(10)))
        await venue.settled()
        day = -25 * 3600 * 10**9
        venue.happen(
            simulated.trade(1),
            simulated.trade(1),
            simulated.trade(1, "ETH/USD"),
            simulated.trade(1, at=day),
        )
        assert len((await pending).trades) == 3
        assert source.metrics()["ws_dedup_drops_total"] == {"trades": 1}
        source.close()

    simulated.run(main())


def test_messages_are_the_same_events(simulated):
    """What is forwarded are the events of `batches`, as envelopes in order, and a gap is filled there too."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        envelopes = []

        async def take():
            async for messages in source.messages(2):
                assert 0 < len(messages) <= 2
                envelopes.extend(Envelope.decode(message.value) for message in messages)

        taker = asyncio.create_task(take())
        await venue.settled()
        venue.happen(*tape.next(5))
        await asyncio.sleep(0.1)
        venue.transport.end()
        venue.happen(*tape.next(5))
        await asyncio.sleep(1)
        source.close()
        await taker
        assert [(each.symbol, format_timestamp(each.event_ts)) for each in envelopes] == [
            (event["S"], event["t"]) for event in tape.all
        ]
        assert [each.seq for each in envelopes] == list(range(10))

    simulated.run(main())


def test_gap_longer_than_the_longest_is_filled_at_its_end(simulated, caplog):
    """Of a gap that is too long the last part is filled, and that is said."""

    async def main():
        venue = simulated.Venue()
        source = simulated.source(venue, simulated.Listed("BTC/USD"), backfill_max_s=10)
        stream = source.batches(10)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        venue.happen(simulated.trade(0))
        await pending
        venue.is_down = True
        venue.transport.end()
        venue.happen(*(simulated.trade(100 * second) for second in range(1, 31)))
        await asyncio.sleep(30)
        venue.is_down = False
        filled = await anext(stream)
        assert 20 <= (filled.trades.event_ts[0] - (simulated.T0 - 3600 * 10**9)) / 10**9 <= 22
        assert source.metrics()["ws_backfill_truncated_total"] == 1
        assert "filled for its last 10 s only" in caplog.text
        source.close()

    simulated.run(main())


def test_gap_that_opens_while_another_is_filled_keeps_the_gate_closed(simulated):
    """When the connection is lost during a back-fill, its end is not yet readiness."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        stream = source.batches(1000)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        venue.happen(*tape.next(1))
        count = len(await pending)
        venue.transport.end()
        venue.happen(*tape.next(20))
        count += len(await anext(stream))
        venue.is_down = True
        venue.transport.end()
        while count < 21:
            count += len(await anext(stream))
        pending = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(1)
        assert source.gates()["backfill"] is not None
        venue.is_down = False
        await asyncio.sleep(2)
        assert source.gates()["backfill"] is None
        source.close()
        with pytest.raises(StopAsyncIteration):
            await pending

    simulated.run(main())


def test_forwarded_feed_tells_the_time_it_is_whole_up_to(simulated):
    """`known_until` is the latest event's time, and of a silent feed the ticks', which come as empty lists; None in a gap."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS), tick_ms=500, stale_after_s=60)
        assert source.known_until() is None
        stream = source.messages(10)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        assert source.known_until() is None
        venue.happen(*tape.next(2))
        last = Envelope.decode((await pending)[-1].value).event_ts
        assert source.known_until() == last
        assert await anext(stream) == []
        assert 400_000_000 < source.known_until() - last < 600_000_000
        until = source.known_until()
        assert source.cursor()["now"] == until
        venue.transport.end()
        assert source.known_until() is None
        venue.happen(*tape.next(4))
        assert len(await anext(stream)) == 4
        assert source.known_until() is None
        pending = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.2)
        assert not pending.done()
        assert source.known_until() == until
        source.close()

    simulated.run(main())


def test_batches_tell_the_time_they_are_whole_up_to(simulated):
    """Of a piece that is given out in parts only the part that was given is known."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS))
        stream = source.batches(2)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        venue.happen(*tape.next(4))
        first = await pending
        assert source.known_until() == first.now[-1]
        second = await anext(stream)
        assert source.known_until() == second.now[-1] > first.now[-1]
        source.close()

    simulated.run(main())


def test_minute_is_one_row(simulated):
    """Updated bars, and bars of the history that differ from the stream's, are counted and no rows."""

    async def main():
        venue = simulated.Venue()
        source = simulated.source(venue, simulated.Listed("BTC/USD"))
        rows, cursors = [], []

        async def take():
            async for batch in source.batches(2):
                rows.extend(batch.bars.event_ts.tolist())
                cursors.append((source.cursor()["bars"], list(rows)))

        taker = asyncio.create_task(take())
        await venue.settled()
        first, second = simulated.bar(6_000), simulated.bar(12_000)
        venue.happen(first, simulated.trade(13_000), first | {"T": "u", "v": 4.0}, second, simulated.trade(19_000))
        await asyncio.sleep(0.1)
        venue.transport.end()
        venue.past = [first | {"v": 4.0}, second | {"v": 5.0}, simulated.bar(18_000)]
        await venue.settled()
        venue.happen(simulated.trade(22_000))  # the third minute is over
        await asyncio.sleep(1)
        source.close()
        await taker
        assert len(rows) == len(set(rows)) == 3
        assert source.metrics()["ws_bar_updates_total"] == 2  # the history's first is the update that had come
        for bars, so_far in cursors:
            assert bars == ({"BTC/USD": so_far[-1]} if so_far else {})
        return source.cursor(), venue

    cursor, venue = simulated.run(main())

    async def again():
        source = simulated.source(venue, simulated.Listed("BTC/USD"))
        source.seek(cursor)
        venue.past.append(simulated.trade(23_000))
        async for batch in source.batches(10):
            assert not len(batch.bars)
            if batch.trades.event_ts.max(initial=0) > cursor["now"]:
                break
        assert source.metrics()["ws_bar_updates_total"] == 5
        source.close()

    simulated.run(again())


def test_lag_of_a_bar_counts_from_its_end(simulated):
    """A bar is not late by the minute that it is about."""

    async def main():
        venue = simulated.Venue()
        source = simulated.source(venue, simulated.Listed("BTC/USD"))
        pending = asyncio.ensure_future(anext(source.batches(10)))
        await venue.settled()
        venue.happen(simulated.bar(0))
        known = int((await pending).now[-1])
        lag_ms = (simulated.T0 - known) / 10**6
        assert source.metrics()["ws_lag_ms"] == {"0.5": lag_ms, "0.99": lag_ms}
        source.close()

    simulated.run(main())


@pytest.mark.parametrize("frame", ["ahead", "bad"])
def test_feed_of_which_nothing_can_be_used_is_not_fresh(simulated, frame):
    """Events that are all refused, and messages that cannot be read, close `freshness` with their reason."""

    async def main():
        venue, tape = simulated.Venue(), Tape(simulated)
        source = simulated.source(venue, simulated.Listed(*SYMBOLS), stale_after_s=3)
        batches = []

        async def take():
            async for batch in source.batches(10):
                batches.append(batch)  # noqa: PERF401 - read meanwhile

        taker = asyncio.create_task(take())
        await venue.settled()
        venue.happen(*tape.next(1))
        await asyncio.sleep(0.1)
        assert source.gates()["freshness"] is None
        for number in range(5):
            ahead, bad = simulated.trade(0, at=(7200 + number) * 10**9), simulated.trade(9) | {"p": None}
            venue.transport.give(ahead if frame == "ahead" else bad)
            await asyncio.sleep(1)
        gate = source.gates()["freshness"]
        assert gate.error_class == "unusable"
        assert ("set the clock of this machine" if frame == "ahead" else "null") in gate.reason
        venue.happen(*tape.next(6))
        await asyncio.sleep(0.1)
        assert source.gates()["freshness"] is None
        assert (len(batches), len(venue.attempts)) == (2, 1)
        source.close()
        await taker

    simulated.run(main())


def test_symbol_that_becomes_wanted_in_a_gap_is_filled_as_the_others(simulated):
    """What happened to it since the gap began comes from the history."""

    async def main():
        venue = simulated.Venue()
        universe = simulated.Listed("BTC/USD")
        source = simulated.source(venue, universe)
        stream = source.batches(10)
        pending = asyncio.ensure_future(anext(stream))
        await venue.settled()
        venue.happen(simulated.trade(10))
        await pending
        venue.is_down = True
        venue.transport.end()
        universe.set("BTC/USD", "ETH/USD")
        venue.happen(simulated.trade(11), simulated.trade(12, "ETH/USD"))
        await asyncio.sleep(0.3)
        venue.is_down = False
        filled = await anext(stream)
        assert [filled.symbols.names[number] for number in filled.trades.symbol] == ["BTC/USD", "ETH/USD"]
        source.close()

    simulated.run(main())


class Paced:
    """A source that is read, on a clock that is right, and a venue that sends a trade of each symbol now and then."""

    def __init__(self, kit, *symbols, ahead_s=0, **params):
        self._kit, self._symbols, self._ahead = kit, symbols, ahead_s * 10**9
        self._start = asyncio.get_running_loop().time()
        self.venue = kit.Venue()
        quick = {"overlap_ms": 50, "history_lag_ms": 200, "stale_after_s": 600, "ping_s": 300}
        self.source = kit.source(self.venue, kit.Listed(*symbols), wall=self.wall, **{**quick, **params})
        self.sent, self.given, self.bars = [], [], []
        self.may_take = asyncio.Event()
        self.may_take.set()
        self._number = 0

    def now(self):
        return int((asyncio.get_running_loop().time() - self._start) * 10**9)

    def time(self):
        """The feed's, ns."""
        return self._kit.T0 - 3600 * 10**9 + self.now()

    def wall(self):
        return self.time() + self._ahead

    def begin(self):
        self._taker = asyncio.create_task(self._take())

    async def _take(self):
        async for batch in self.source.batches(1000):
            names = [batch.symbols.names[number] for number in batch.trades.symbol.tolist()]
            self.given += zip(names, batch.trades.event_ts.tolist(), strict=True)
            self.bars += zip(batch.bars.event_ts.tolist(), batch.bars.volume.tolist(), strict=True)
            await self.may_take.wait()

    async def flow(self, seconds, at_once=1):
        """Trades of all symbols, ten times a second."""
        for _ in range(int(seconds * 10)):
            trades = []
            for number in range(at_once):
                for symbol in self._symbols:
                    self._number += 1
                    trades.append(self._kit.trade(self._number, symbol, at=self.now() + number))
            self.sent += [(message["S"], message["t"]) for message in trades]
            self.venue.happen(*trades)
            await asyncio.sleep(0.1)

    async def end(self):
        self.source.close()
        await self._taker

    def given_out(self):
        """What was given out, as it was sent."""
        return [(name, format_timestamp(ts)) for name, ts in self.given]


def late_subscriptions(kit, seconds):
    """A venue that answers each subscription but the first so much later."""

    class Late(kit.Venue):
        def said(self, transport, request):
            wait = seconds if request["action"] == "subscribe" and transport.subscribed else 0
            asyncio.get_running_loop().call_later(wait, super().said, transport, request)

    return Late


@pytest.mark.parametrize("is_restart", [False, True])
def test_gap_lasts_until_all_symbols_are_subscribed(simulated, is_restart):
    """Trades of a symbol whose subscription comes later than another's are read from the history, after a restart too."""

    async def main():
        simulated.Venue = late_subscriptions(simulated, 3)
        rig = Paced(simulated, "BTC/USD", "ETH/USD", batch=1, answer_s=10)
        if is_restart:
            rig.source.seek({"position": 0, "seq": 0, "now": rig.time() - 1})
        rig.begin()
        if not is_restart:
            await asyncio.sleep(4)
        await rig.flow(8)
        if not is_restart:
            rig.venue.transport.end()
        await rig.flow(8)
        await asyncio.sleep(5)
        await rig.end()
        assert sorted(rig.given_out()) == sorted(rig.sent)

    simulated.run(main())


@pytest.mark.parametrize("queue_frames", [100_000, 60])
def test_gap_before_a_gap_is_filled_with_it(simulated, queue_frames):
    """A frame that cannot be read, found after the connection was lost behind it: both gaps are filled, as one.

    Also where the frames between them had stopped the reading.
    """

    async def main():
        rig = Paced(simulated, "BTC/USD", queue_frames=queue_frames)
        rig.begin()
        await rig.venue.settled()
        await rig.flow(2)
        rig.may_take.clear()
        await rig.flow(0.2)
        rig.venue.transport.give(raw=b'[{"T":"t",')
        await rig.flow(6)
        rig.venue.is_down = True
        rig.venue.transport.end()
        await rig.flow(3)
        rig.venue.is_down = False
        await rig.flow(2)
        rig.may_take.set()
        await rig.flow(5)
        await asyncio.sleep(2)
        assert rig.source.gates()["backfill"] is None
        await rig.end()
        assert rig.given_out() == rig.sent

    simulated.run(main())


def test_history_that_was_away_is_not_asked_up_to_now(simulated):
    """However long it did not answer, nothing is given twice or out of order, also where little can be remembered."""

    async def main():
        rig = Paced(simulated, "BTC/USD")
        rig.source._once = Once(1)
        rig.begin()
        await rig.venue.settled()
        await rig.flow(1)
        rig.venue.rest_faults = 60
        rig.venue.transport.end()
        await rig.flow(15, at_once=100)
        await asyncio.sleep(5)
        await rig.end()
        assert rig.given_out() == rig.sent

    simulated.run(main())


@pytest.mark.parametrize("why", ["cut", "cut-within", "unread", "restart"])
def test_gap_is_filled_though_the_stream_begins_with_something_old(simulated, why):
    """A trade that is reported late, the first after a gap, is not its end, be it from before the gap or from within."""

    async def main():
        rig = Paced(simulated, "BTC/USD")
        late = simulated.trade(10**6, at=rig.now())
        if why == "restart":
            rig.source.seek({"position": 0, "seq": 0, "now": rig.time() + 1})
            await rig.flow(3)
            rig.begin()
            await rig.venue.settled()
        else:
            rig.begin()
            await rig.venue.settled()
            await rig.flow(2)
            rig.sent.append((late["S"], late["t"]))
        if why == "unread":
            rig.venue.transport.is_mute = True
            await rig.flow(0.1)
            rig.venue.transport.is_mute = False
            rig.venue.transport.give(raw=b'[{"T":"t",')
        elif why != "restart":
            rig.venue.is_down = True
            rig.venue.transport.end()
            await rig.flow(1)
            if why == "cut-within":
                late |= {"t": format_timestamp(rig.time())}
                rig.sent[20] = (late["S"], late["t"])
            await rig.flow(2)
            rig.venue.is_down = False
            await rig.venue.settled()
        rig.venue.transport.give(late)
        await rig.flow(3)
        await asyncio.sleep(2)
        await rig.end()
        assert sorted(set(rig.given_out())) == sorted(set(rig.sent))

    simulated.run(main())


def test_fill_that_the_next_gap_overtakes_ends(simulated):
    """A stream that is mute behind a gap, and lost again, leaves no fill that waits for its events: both are one gap."""

    async def main():
        rig = Paced(simulated, "BTC/USD", history_lag_ms=500)
        rig.begin()
        await rig.venue.settled()
        await rig.flow(1)
        rig.venue.transport.end()
        await rig.venue.settled()
        rig.venue.transport.is_mute = True
        await rig.flow(1)
        rig.venue.transport.end()
        await rig.flow(5)
        assert rig.source.gates()["backfill"] is None
        await asyncio.sleep(1)
        await rig.end()
        assert rig.given_out() == rig.sent

    simulated.run(main())


@pytest.mark.parametrize("why", ["late", "slow", "unread"])
def test_bar_that_ended_unheard_is_found(simulated, why):
    """Its minute ended in a gap of a market that is quiet: also where events take a while to come, or waited to be taken."""

    async def main():
        rig = Paced(simulated, "BTC/USD")
        whole, ends_s, delay_s = simulated.bar(0), 40, 0.15
        rig.begin()
        await asyncio.sleep(ends_s - 5)
        if why == "slow":
            rig.may_take.clear()
            rig.venue.happen(simulated.trade(0, at=rig.now()))
            await asyncio.sleep(0.1)
        await asyncio.sleep(4)
        rig.venue.happen(simulated.trade(1, at=rig.now() - int(delay_s * 10**9)))
        if why == "unread":
            await asyncio.sleep(1.01 - (why == "slow") * 0.1)
            rig.venue.remember(whole)
            rig.venue.transport.give(raw=b'[{"T":"b",')
        else:
            rig.venue.is_down = True
            rig.venue.transport.end()
            await asyncio.sleep(0.9)
            rig.venue.happen(whole)
            rig.venue.is_down = False
            await rig.venue.settled()
        await asyncio.sleep(20)
        rig.may_take.set()
        await asyncio.sleep(5)
        assert rig.source.gates()["backfill"] is None
        await rig.end()
        assert [volume for _, volume in rig.bars] == [whole["v"]]

    simulated.run(main())


def test_feed_without_an_event_has_no_time(simulated):
    """At a first start nothing is given out before the first event, however long that takes."""

    async def main():
        rig = Paced(simulated, "BTC/USD", tick_ms=500)
        pending = asyncio.ensure_future(anext(rig.source.batches(10)))
        await asyncio.sleep(60)
        assert not pending.done()
        rig.venue.happen(simulated.trade(0, at=rig.now()))
        assert len((await pending).trades) == 1
        rig.source.close()

    simulated.run(main())


def test_quiet_feed_has_a_time_after_a_restart(simulated):
    """Once the gap is filled, a feed without events yields clock ticks."""

    async def main():
        rig = Paced(simulated, "BTC/USD", tick_ms=500)
        start = rig.time()
        rig.source.seek({"position": 0, "seq": 0, "now": start})
        batch = await anext(rig.source.batches(10))
        assert len(batch.trades) == len(batch.bars) == 0
        assert start < batch.now[0] <= rig.time()
        rig.source.close()

    simulated.run(main())


@pytest.mark.parametrize("ahead_s", [-8, 0, 8])
@pytest.mark.parametrize("after_s", [-20, -2, 2, 20])
def test_bar_of_a_restart_is_whole(simulated, ahead_s, after_s):
    """A quiet market, a restart before or after a minute's end, a clock that is wrong: its bar comes once, with all its trades."""

    async def main():
        rig = Paced(simulated, "BTC/USD", ahead_s=ahead_s)
        whole, ends_s = simulated.bar(0), 40
        so_far = whole | {"v": 1.0}
        rig.venue.past = [simulated.trade(0), so_far]
        rig.source.seek({"position": 0, "seq": 0, "now": rig.time()})
        asyncio.get_running_loop().call_later(ends_s + after_s, rig.begin)
        await asyncio.sleep(ends_s)
        rig.venue.past.remove(so_far)
        rig.venue.happen(whole)
        await asyncio.sleep(40)
        assert rig.source.gates()["backfill"] is None
        await rig.end()
        assert rig.bars == [(simulated.T0 - 3620 * 10**9, whole["v"])]

    simulated.run(main())
