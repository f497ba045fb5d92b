"""What was given out is remembered, up to a bound."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torghut_sources.alpaca.gap import SMALLEST, Recent
from torghut_sources.alpaca.inbox import Inbox


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
        inbox.put(b"before")
        inbox.lose()
        inbox.put(b"dropped")
        assert inbox.take(9) == [b"before"]
        assert inbox.take(9) == []
        inbox.lose()
        assert (len(inbox), inbox.size) == (0, 0)
        inbox.put(b"after")
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
                inbox.put(frame)
            assert inbox.is_full
            assert not inbox.has_room
            inbox.take(count // 2)
            assert inbox.has_room

    asyncio.run(main())
