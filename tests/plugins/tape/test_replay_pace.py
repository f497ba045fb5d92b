"""A paced replay gives events when they are due, by a clock that the test sets."""

import asyncio

import pytest
from pydantic import ValidationError
from torghut_sources.tape.source import Replay

SECOND = 1_000_000_000


class FakeTime:
    """A clock that moves only by sleeping, and by `work` seconds for each batch that is handled."""

    def __init__(self, work=0.0):
        self.now = 1000.0
        self.work = work
        self.slept = []

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


async def _paced(source, time, size):
    arrivals = []
    async for batch in source.batches(size):
        arrivals += [(round(time.now - 1000.0, 6), len(batch))]
        time.now += time.work
    return arrivals


def paced(kit, path, speed, size=100, work=0.0):
    time = FakeTime(work)
    source = Replay(Replay.Params(paths=[str(path)], speed=speed), clock=time.clock, sleep=time.sleep)
    return asyncio.run(_paced(source, time, size)), time


@pytest.fixture
def tape(kit, tmp_path):
    kit.write_parquet(tmp_path / "tape.parquet", [kit.trade(t * SECOND) for t in (0, 0, 1, 3, 3, 63)])
    return tmp_path / "tape.parquet"


def test_events_come_as_far_apart_as_they_were(kit, tape):
    """At 1x the gaps between events are those of the tape, and what happened at once comes at once."""
    assert paced(kit, tape, "1x")[0] == [(0.0, 2), (1.0, 1), (3.0, 2), (63.0, 1)]


def test_speed_divides_the_gaps(kit, tape):
    """At 60x a minute takes a second."""
    assert paced(kit, tape, "60x")[0] == [(0.0, 2), (0.016667, 1), (0.05, 2), (1.05, 1)]


def test_slow_consumer_gets_what_is_overdue_at_once(kit, tape):
    """Falling behind is caught up in one batch; nothing is dropped, and no time is slept away."""
    arrivals, time = paced(kit, tape, "1x", work=10.0)
    assert arrivals == [(0.0, 2), (10.0, 3), (63.0, 1)]
    assert sum(time.slept) == pytest.approx(43.0)


def test_batch_size_bounds_what_is_due(kit, tape):
    """Also a paced batch has at most `size` events."""
    assert [n for _, n in paced(kit, tape, "1x", size=1)[0]] == [1] * 6


def test_pauses_are_no_shorter_than_a_millisecond(kit, tmp_path):
    """A dense tape at high speed comes in handfuls, not in a busy loop of tiny sleeps."""
    kit.write_parquet(tmp_path / "dense.parquet", [kit.trade(t) for t in range(0, 10_000_000, 1000)])
    arrivals, time = paced(kit, tmp_path / "dense.parquet", "1x", size=65_536)
    assert sum(n for _, n in arrivals) == 10_000
    assert min(time.slept) >= 0.001
    assert len(arrivals) <= 12


def test_speed_max_never_sleeps(kit, tape):
    """At full speed there is no clock."""
    arrivals, time = paced(kit, tape, "max")
    assert (arrivals, time.slept) == ([(0.0, 6)], [])


def test_paced_stream_is_the_unpaced_one(kit, tape):
    """The speed changes when events come and nothing else."""
    kit.assert_same(kit.play(tape, speed="100000x"), kit.play(tape))


@pytest.mark.parametrize("speed", ["", "0x", "-1x", "60", "fast", "x", "1e3x", "1.x", "0.0x"])
def test_speed_that_is_no_multiple_is_refused(speed):
    """The message says what to write."""
    with pytest.raises(ValidationError, match="use max, or a positive multiple like 1x or 60x"):
        Replay.Params(paths=["tape.parquet"], speed=speed)


@pytest.mark.parametrize("speed", ["max", "1x", "60x", "0.5x", "12.5x"])
def test_speed_that_is_a_multiple_is_taken(speed):
    """Any positive multiple will do, slower than life too."""
    assert Replay.Params(speed=speed).speed == speed


def test_bar_step_that_is_no_timeframe_is_refused():
    """The message lists the timeframes."""
    with pytest.raises(ValidationError, match="use one of 1Sec, 1Min, 5Min, 15Min, 1Hour, 1Day"):
        Replay.Params(bar_step="1m")
