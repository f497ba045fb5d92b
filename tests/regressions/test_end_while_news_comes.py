"""A run that received news of orders at the moment of its end never ended: the news swallowed the cancellation."""

import asyncio

import pytest

from torghut_core.concurrency import wait_for


def test_cancellation_that_comes_with_the_event_is_kept():
    """A wait for an event is canceled all the same when the event is set at that very moment."""

    async def both():
        event = asyncio.Event()
        waiting = asyncio.create_task(wait_for(event, 60))
        await asyncio.sleep(0)
        event.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(both())


def test_the_wait_ends_with_the_time_or_the_event():
    """After the time the caller continues, and an event that was set is cleared."""

    async def none_and_one():
        event = asyncio.Event()
        await wait_for(event, 0.001)
        event.set()
        await wait_for(event, 60)
        return event.is_set()

    assert asyncio.run(none_and_one()) is False
