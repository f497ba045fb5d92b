"""What was given out is remembered, up to a bound."""

import asyncio
import json
import sys
import threading
from types import SimpleNamespace

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from torghut_sources.alpaca.dedup import SMALLEST, Once, Recent
from torghut_sources.alpaca.inbox import MARK_S, Inbox
from torghut_sources.alpaca.source import Alpaca
from torghut_sources.alpaca.wire import Wire

from torghut_core import SymbolTable


@given(st.lists(st.lists(st.integers(1, 40)), max_size=20))
def test_few_identities_are_new_once(chunks):
    """As long as few are there each identity is new the first time only, however they are cut into chunks."""
    recent, seen = Recent(SMALLEST), set()
    for chunk in chunks:
        expected = []
        for number in chunk:
            expected.append(number not in seen)
            seen.add(number)
        assert recent.admit(np.array(chunk, np.int64)).tolist() == expected


@given(seed=st.integers(0, 2**32), chunk=st.sampled_from([100, 5_000, 30_000]))
def test_last_identities_are_remembered_and_memory_is_bounded(seed, chunk):
    """Of any number of identities the last `capacity` are known, and the tables stop growing."""
    capacity = 8_192
    recent = Recent(capacity)
    ids = np.unique(np.random.default_rng(seed).integers(1, 2**63, 60_000))
    for start in range(0, len(ids), chunk):
        assert recent.admit(ids[start : start + chunk]).all()
    assert not recent.admit(ids[-capacity:]).any()
    assert len(recent._table) + len(recent._older) <= 8 * capacity


def test_frames_behind_a_gap_wait_for_the_bridge():
    """What comes after a gap is taken after `bridge` only; a second loss before that drops it, and frees its room."""

    async def main():
        inbox = Inbox(max_frames=4, max_bytes=100)
        inbox.put(b"before", 0.0)
        inbox.lose()
        inbox.put(b"dropped", 0.0)
        assert inbox.take(9) == [b"before"]
        assert inbox.take(9) == []
        inbox.lose()
        assert (len(inbox), inbox.size) == (0, 0)
        inbox.put(b"after", 0.0)
        assert inbox.take(9) == []
        inbox.bridge()
        assert not inbox.has_gap
        assert inbox.take(9) == [b"after"]
        assert inbox.size == 0

    asyncio.run(main())


def test_inbox_says_when_it_is_full_and_when_half_empty():
    """Either bound makes it full; there is room again at half of both."""

    async def main():
        for frame, count in ((b"x", 4), (b"x" * 50, 2)):
            inbox = Inbox(max_frames=4, max_bytes=100)
            for _ in range(count):
                assert not inbox.is_full
                inbox.put(frame, 0.0)
            assert inbox.is_full
            assert not inbox.has_room
            inbox.take(count // 2)
            assert inbox.has_room

    asyncio.run(main())


def test_events_that_differ_in_anything_are_kept():
    """Quotes differ by symbol, time and each value, trades by symbol, exchange, id and day, or without an id by values too."""
    quote = {"T": "q", "S": "A", "t": "2026-01-05T14:30:00Z", "bp": 1.0, "bs": 2.0, "ap": 3.0, "as": 4.0}
    trade = {"T": "t", "S": "A", "t": "2026-01-05T14:30:00Z", "i": 1, "x": "V", "p": 1.0, "s": 2.0}
    bare = {name: value for name, value in trade.items() if name not in "ix"}
    others = {"S": "B", "t": "2026-01-06T14:30:00Z", "bp": None, "bs": 9.0, "ap": 9.0, "as": 9.0, "i": "a", "x": "K"}
    values = {"p": 9.0, "s": 9.0}
    stream = [
        *([quote] + [quote | {name: others[name]} for name in ("S", "t", "bp", "bs", "ap", "as")]),
        *([trade] + [trade | {name: others[name]} for name in ("S", "t", "i", "x")]),
        *([bare] + [bare | {name: (others | values)[name]} for name in ("S", "t", "p", "s")]),
    ]
    events = Wire().read([json.dumps(stream).encode()]).events
    once, symbols = Once(SMALLEST), SymbolTable()
    assert len(once.pass_on(events, symbols)) == len(stream)
    again = Wire("json").read([json.dumps([each]).encode() for each in reversed(stream)]).events
    assert len(once.pass_on(again, symbols)) == 0
    assert once.drops == {"quotes": 7, "trades": 10}


def test_inbox_tells_how_long_its_oldest_frame_has_waited():
    """Whatever was taken, dropped or waits behind a gap; nothing where nothing waits."""
    now = [0.0]

    async def wait():
        inbox = Inbox(1000, 10**6)
        assert inbox.age(5) == 0
        for number in range(100):
            now[0] = float(number)
            inbox.put(b"x", now[0])
        assert inbox.age(100) == 100
        inbox.take(40)
        assert inbox.age(100) == 60
        inbox.lose()
        now[0] = 150.0
        inbox.put(b"x", now[0])
        inbox.take(60)
        assert inbox.age(151) == 1
        inbox.bridge()
        inbox.take(9)
        assert inbox.age(1e6) == 0

    asyncio.run(wait())


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([0.0, 0.01, 0.2, 0.25, 3.0])),
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["lose", "miss", "bridge", "pass"]), st.just(1)),
    ),
    max_size=40,
)


@given(steps)
@example([("lose", 1), ("put", 0.0), ("put", 3.0), ("lose", 1), ("put", 0.01)])
def test_age_and_arrival_are_known_whatever_happens(steps):
    """What waits, is taken or is dropped: of the oldest frame to `MARK_S`, and what was taken had come by then."""

    async def main():
        inbox, now = Inbox(1000, 10**6), 0.0
        ready, behind = [], []
        for step, size in steps:
            if step == "put":
                now += size
                inbox.put(b"x", now)
                (behind if inbox.has_gap else ready).append(now)
            elif step == "take":
                taken, ready = ready[:size], ready[size:]
                assert len(inbox.take(size)) == len(taken)
                if taken:
                    assert taken[-1] <= inbox.came_by(now) <= min(now, taken[-1] + MARK_S)
            elif step == "lose":
                inbox.lose()
                behind = []
            elif step == "miss":
                ready, behind = [], behind if inbox.has_gap else ready
                inbox.miss()
            elif step == "bridge":
                inbox.bridge()
                ready, behind = ready + behind, []
            else:
                now += 7
            waits = ready + behind
            assert len(inbox) == inbox.size == len(waits)
            age = inbox.age(now)
            assert abs(age - (now - waits[0])) <= MARK_S if waits else age == 0

    asyncio.run(main())


def test_any_thread_may_ask_for_the_age():
    """While frames come and are taken and dropped, an asker in another thread always gets an answer that can be."""
    inbox, wrong, is_over = Inbox(10**6, 10**9), [], threading.Event()

    def ask():
        while not is_over.is_set():
            try:
                if not 0 <= inbox.age(1e6) <= 1e6:
                    wrong.append("age")
            except Exception as error:
                wrong.append(error)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for asker in askers:
            asker.start()
        for number in range(10_000):
            inbox.put(b"x", float(number))
            if number % 1000 == 500:
                inbox.lose()
            if number % 1000 > 900:
                inbox.take(20)
            if number % 2000 == 1999:
                inbox.bridge()
    finally:
        is_over.set()
        for asker in askers:
            asker.join()
        sys.setswitchinterval(interval)
    assert wrong == []


def test_two_gaps_are_one():
    """Where something is missing before a gap too, what waits between the two is dropped: the history has all of it."""

    async def main():
        inbox = Inbox(max_frames=4, max_bytes=100)
        inbox.put(b"between", 0.0)
        inbox.lose()
        inbox.put(b"after", 0.0)
        inbox.miss()
        assert (len(inbox), inbox.size) == (1, 5)
        assert inbox.take(9) == []
        inbox.bridge()
        assert inbox.take(9) == [b"after"]

    asyncio.run(main())


def test_what_waits_too_long_closes_freshness():
    """Frames that waited too long are not traded on: the gate is closed while they wait, and opens when they were taken."""
    made = Alpaca(Alpaca.Params(max_wait_s=10))
    made._connection = SimpleNamespace(
        inbox=SimpleNamespace(age=lambda _now: 9.0), session=SimpleNamespace(gates=lambda _now: dict(OPEN))
    )
    assert made.gates() == OPEN
    made._connection.inbox.age = lambda _now: 11.0
    assert made.gates()["freshness"].error_class == "behind"


OPEN = dict.fromkeys(("auth", "subscription", "backfill", "freshness"))
