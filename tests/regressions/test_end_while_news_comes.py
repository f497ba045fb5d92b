"""A run whose orders came to something at the moment of its end never ended: the news ate the cancellation."""

import asyncio

import pytest

from torghut_core.runtime.run import heard


def test_cancellation_that_comes_with_the_event_is_kept():
    """Who waits for news is canceled all the same when the news comes at that very moment."""

    async def both():
        event = asyncio.Event()
        waiting = asyncio.create_task(heard(event, 60))
        await asyncio.sleep(0)
        event.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(both())


def test_what_is_not_heard_is_not_waited_for():
    """After the time the caller goes on, and an event that came is taken."""

    async def none_and_one():
        event = asyncio.Event()
        await heard(event, 0.001)
        event.set()
        await heard(event, 60)
        return event.is_set()

    assert asyncio.run(none_and_one()) is False
