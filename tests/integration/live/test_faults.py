"""Whatever goes wrong at the venue, the store ends with the rows of the tape, and nothing is traded on a gap."""

import asyncio
from itertools import combinations_with_replacement, pairwise

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from msgspec.structs import replace
from torghut_testing.alpaca_data import FakeMarketData, Fault, RestFault

from support.effort import examples
from support.waiting import PATIENCE, until_async

REST = r"/v1beta3/.*"


def stream(kind, **options):
    """Makes the faults of a kind of the stream, at a place of the tape; `lost` where it deafens."""

    def faults(at, lost):
        fault = Fault(kind=kind, at=at, **options)
        return [Fault(kind=kind, at=at, lost=lost, **options)] if fault.deafens else [fault]

    return faults, []


def at_door(kind, **options):
    """Makes a connection that is cut, and what is wrong when it is opened again."""
    return lambda at, lost: [Fault(kind="cut", at=at, lost=lost), Fault(kind=kind, at=at, **options)], []


def in_history(*rest):
    """Makes a connection that is cut, and what is wrong with the history that is then asked for."""
    return lambda at, lost: [Fault(kind="cut", at=at, lost=lost)], rest


KINDS = {
    "mute": stream("mute"),
    "mute-with-pongs": stream("mute", pings=True),
    "cut": stream("cut"),
    "half-open": stream("half_open", seconds=0.3),
    "close": stream("close"),
    "restart": stream("restart", seconds=0.05),
    "slow": stream("slow", count=3, seconds=0.002),
    "duplicate": stream("duplicate", count=20),
    "reorder": stream("reorder", count=6),
    "garbage": stream("garbage"),
    "unknown": stream("unknown"),
    "404": stream("error", code=404),
    "406": stream("error", code=406),
    "407": stream("error", code=407),
    "500": stream("error", code=500),
    "login-404": at_door("error", code=404, when="auth"),
    "login-406": at_door("error", code=406, when="auth", count=2),
    "subscribe-500": at_door("error", code=500, when="subscribe"),
    "handshake-429": at_door("handshake", code=429, count=2),
    "handshake-500": at_door("handshake", code=500, count=2),
    "history-500": in_history(lambda: RestFault.server_error(path=REST, times=2)),
    "history-429": in_history(lambda: RestFault.throttle(0.02, path=REST, times=2)),
    "history-html": in_history(lambda: RestFault.html(path=REST)),
    "history-cut": in_history(lambda: RestFault.cut(path=REST, mid_body=True)),
    "history-truncated": in_history(lambda: RestFault.truncate(path=REST)),
    "history-empty-pages": in_history(),
}
HARMLESS = {"slow", "duplicate", "reorder", "unknown"}
FAINT = HARMLESS | {"garbage"}
"""After these no event is lost."""
SPANS = {"slow": 3, "duplicate": 20, "reorder": 6}
"""Events that a kind is about, where that is not those that are lost: what is to come earlier comes after them."""
PAIRS = list(combinations_with_replacement(KINDS, 2))
FEW_PAIRS = list(zip([*KINDS][::2], [*KINDS][1::2], strict=True))
"""Each kind in one of them; all others are for a proof."""


class Venue(FakeMarketData):
    """Plays a tape on which things go wrong: a schedule of (kind, place, events lost)."""

    def __init__(self, live, tape, schedule):
        super().__init__()
        self.clock = live.Clock()
        self._tape = tape
        self._faults, self._refusals = [], []
        for kind, at, lost in schedule:
            make, rest = KINDS[kind]
            self._faults += make(at, lost)
            self._refusals += [self.rest_faults.add(each()) for each in rest]
            self.history.empty_pages += 2 * (kind == "history-empty-pages")

    def part(self, start, stop, speed=None):
        """Makes it play some events; gives how many are played then."""

        def play():
            faults = [replace(fault, at=fault.at - start) for fault in self._faults if start <= fault.at < stop]
            events = self.clock.run(self._tape.events[start:stop])
            self._playback = self.play(events, faults=faults, wait_for=self._tape.symbols, speed=speed)
            return stop

        return play

    @property
    def has_done_its_worst(self):
        """Whether all that was to go wrong did."""
        return not self._playback.faults and all(each.fired for each in self._refusals) and not self.history.empty_pages


def proven(live, tape, schedule, pause=None, **params):
    """Play a tape with faults through source, stages and store; check the rows and what the gates said meanwhile.

    At the event `pause` nothing more happens until all before has come.
    """

    async def main():
        with Venue(live, tape, schedule) as venue:
            ends = sorted({0, len(tape), pause or 0})
            parts = [venue.part(start, stop) for start, stop in pairwise(ends)]
            source = live.source_of(venue, tape.symbols, wall=venue.clock, **params)
            rows, deriver = await live.derived(source, *parts)
            assert venue.has_done_its_worst
            return source, rows, deriver.totals

    source, rows, totals = asyncio.run(main())
    is_exact = pause is not None and all(kind != "reorder" for kind, _, _ in schedule)
    assert settled(rows, is_exact) == settled(tape.rows, is_exact)
    assert (totals.events, totals.late, totals.duplicates) == (len(tape), 0, 0)
    history = [closed for _, closed in source.readiness.history]
    assert set(history[-1]) <= {"freshness"}
    return source, history


def settled(rows, is_exact):
    """What of the rows is the same in whatever order events come within the watermark.

    The last quote when a bar becomes known (``imbalance_...``) is not: an event that overtakes others ends a window before
    they have come. Nor are the last digits of sums. A stream that reorders does that, and so does a venue without a
    pace: between two answers of its history a second of the tape passes.
    """
    if is_exact:
        return rows

    def rough(value):
        return float(f"{value:.9g}") if isinstance(value, float) else value

    return {
        table: [{name: rough(row[name]) for name in row if not name.startswith("imbalance_")} for row in found]
        for table, found in rows.items()
    }


def unheard(schedule):
    """The places of events that no stream carried."""
    return {place for kind, at, lost in schedule if kind not in FAINT for place in range(at, at + lost)}


def check_gates(source, history, schedule):
    """No event of a gap was given out through open gates, and a venue that did no harm closed none."""
    lost = unheard(schedule)
    for start, stop, closed in source.given:
        if lost & set(range(start, stop)):
            assert "backfill" in closed, (start, stop, closed)
    if lost:
        assert any("backfill" in closed for closed in history)
    if {kind for kind, _, _ in schedule} <= HARMLESS:
        first_open = history.index(())
        assert {name for closed in history[first_open:] for name in closed} <= {"freshness"}


@pytest.mark.parametrize("kind", KINDS)
def test_store_has_the_tape_after_each_fault(live, tape, kind):
    """After each kind of fault the rows are those of the tape, each once; rows of a gap come while a gate is closed."""
    schedule = [(kind, 120, 40)]
    source, history = proven(live, tape, schedule, pause=160)
    check_gates(source, history, schedule)


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(*pair, marks=() if pair in FEW_PAIRS else pytest.mark.proof, id="+".join(pair)) for pair in PAIRS],
)
def test_store_has_the_tape_after_each_pair_of_faults(live, tape, first, second):
    """The rows are those of the tape if a second fault comes while the gap of the first is being filled."""
    schedule = [(first, 100, 20), (second, 125, 20)]
    source, history = proven(live, tape, schedule)
    check_gates(source, history, schedule)


@pytest.mark.parametrize("seconds", [-5, 0, 5])
def test_gap_is_filled_whole_by_a_clock_that_is_wrong(live, tape, seconds):
    """With the machine's clock wrong by less than `max_ahead_ms`, nothing is missing when the gates open."""

    async def main():
        with Venue(live, tape, [("cut", 120, 60)]) as venue:
            play = venue.part(0, 180)
            source = live.source_of(
                venue, tape.symbols, wall=lambda: venue.clock() + seconds * live.SECOND, stale_after_s=30
            )
            given = 0
            async with asyncio.timeout(PATIENCE):
                play()
                async for batch in source.batches(1000):
                    given += len(batch)
                    if given == 120:
                        filled = asyncio.create_task(until_async(lambda: source.metrics()["ws_backfills_total"]))
                        filled.add_done_callback(lambda _: source.close())
            return given

    assert asyncio.run(main()) == 180


@pytest.mark.parametrize("seconds", [-5, 0, 5])
def test_history_that_answers_unevenly_makes_nothing_late(live, tape, seconds):
    """If one channel's history comes later than the other's, events meanwhile are in the microbars all the same."""

    async def main():
        with Venue(live, tape, [("cut", 100, 20)]) as venue:
            venue.rest_faults.add(RestFault.delay(0.2, after=False, path=".*/quotes", times=2))
            source = live.source_of(
                venue, tape.symbols, wall=lambda: tape.events[120].at + seconds * live.SECOND, max_ahead_ms=60_000
            )
            return await live.derived(source, venue.part(0, len(tape), speed=20))

    rows, deriver = asyncio.run(main())
    assert deriver.totals.late == 0
    assert rows["microbars"] == tape.rows["microbars"]


@pytest.mark.parametrize("seconds", [-5, 0, 5])
def test_gap_that_begins_while_another_is_filled_is_filled_whole(live, tape, seconds):
    """Nothing is missing if the connection is lost again when one channel's history is read, and the other's not yet."""

    async def main():
        with Venue(live, tape, [("cut", 100, 20), ("cut", 120, 100)]) as venue:
            venue.rest_faults.add(RestFault.delay(0.2, after=False, path=".*/quotes", times=1))
            source = live.source_of(
                venue, tape.symbols, wall=lambda: venue.clock() + seconds * live.SECOND, stale_after_s=30, ping_s=5
            )
            first, second = venue.part(0, 120), venue.part(120, 220)
            given = 0

            async def go_on():
                await until_async(lambda: any("/trades" in request.path for request in venue.requests))
                second()
                await until_async(lambda: source.metrics()["ws_backfills_total"] == 2)
                source.close()

            async with asyncio.timeout(PATIENCE):
                first()
                others = asyncio.create_task(go_on())
                async for batch in source.batches(1000):
                    given += len(batch)
                await others
            return given

    assert asyncio.run(main()) == 220


schedules = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.integers(1, 45), st.integers(0, 25)), min_size=1, max_size=4
)


@examples(33, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=schedules, queue_frames=st.sampled_from([3, 100_000]), encoding=st.sampled_from(["json", "msgpack"]))
def test_store_has_the_tape_after_any_schedule_of_faults(live, tape, steps, queue_frames, encoding):
    """The rows are those of the tape with any faults, at any distance, any events lost, and any size of the queue."""
    schedule, at = [], 0
    for kind, distance, lost in steps:
        at += distance
        schedule.append((kind, at, lost))
        at += SPANS.get(kind, lost)
    source, history = proven(live, tape, schedule, queue_frames=queue_frames, encoding=encoding)
    check_gates(source, history, schedule)


def test_nothing_is_bought_on_a_gap(live, tape, torghut, bought):
    """`torghut run` denies every entry on rows of a gap, and none before and after it."""
    cut, back = 120, 220
    with Venue(live, tape, [("history-500", cut, back - cut)]) as venue:
        params = {**live.QUICK, "channels": ["trades", "quotes"], "stale_after_s": 60, "ping_s": 5}
        catalog = bought.strategies(*tape.symbols)
        catalog["pipelines"]["trading"] |= {
            "source": {"use": "alpaca", "params": params},
            "stages": [{"use": "microbars"}, {"use": "indicators"}],
        }
        run = torghut("run", catalog, live.environment_of(venue) | bought.environment).begin()
        for start, stop in pairwise([0, back, len(tape)]):
            venue.part(start, stop)()
            run.until(lambda stop=stop: run.metric("events_total") == stop and not run.gates)
        assert run.send() == 0
    first, last, end = (tape.events[place].at for place in (cut, back, -1))
    assert bought.between(0, first) == {"allowed"}
    assert bought.between(first, last) == {"not-ready"}
    assert bought.between(last, end + live.SECOND) == {"allowed"}
