"""Snapshots of the venue, each in a thread of its own as in `torghut run`, leave nothing open behind them."""

import asyncio
import threading
from pathlib import Path

import pytest
from torghut_testing.alpaca import Fault

from support.effort import many
from support.waiting import until
from torghut_core import VenueError
from torghut_core.concurrency import DaemonThreads

OPEN = Path("/proc/self/fd")
KEPT = 10
"""Connections that are kept at most; the venue's end of each is in this process too."""


def open_descriptors():
    return len(list(OPEN.iterdir()))


async def take_snapshot(broker):
    """Take a snapshot of the venue as the reconciler does: how many of twelve at once failed."""
    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    calls = (broker.account, broker.positions, broker.orders)
    answers = [asyncio.to_thread(call) for _ in range(4) for call in calls]
    return sum(isinstance(each, VenueError) for each in await asyncio.gather(*answers, return_exceptions=True))


@pytest.mark.skipif(not OPEN.is_dir(), reason="counts the open files of this process")
@pytest.mark.parametrize("is_mute", [False, True], ids=["answered", "timed out"])
def test_snapshots_leave_no_file_and_no_thread_open(fake, kit, is_mute):
    """However many snapshots were taken, also such as never got an answer, the connections are a handful."""
    broker = kit.connect(timeout_seconds=0.4 if is_mute else 5.0)
    asyncio.run(take_snapshot(broker))
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(many(20, quick=3) if is_mute else many(100, quick=20)):
        if is_mute:
            fake.faults.add(Fault.timeout(method="GET", times=12))
        failed = asyncio.run(take_snapshot(broker))
        assert is_mute == bool(failed)
    until(lambda: open_descriptors() <= descriptors + 2 * KEPT, open_descriptors)
    until(lambda: threading.active_count() <= threads, threading.active_count)
    broker.close()
    until(lambda: open_descriptors() <= descriptors, open_descriptors)
