"""The API took its own slowness for its clients': while it had no processor, requests that had come were cut as idle."""

import asyncio
import time

from support.waiting import until_async
from torghut_core.admin import connections
from torghut_core.admin.auth import Guard
from torghut_core.admin.connections import LIMITS, Connection, Connections, Phase


class Transport:
    def get_write_buffer_size(self):
        return 0


class Waiting(Connection):
    """A connection whose client has sent a request, or nothing."""

    def __init__(self, since=0.0):
        self.seen, self.since = (Phase.REQUEST, None), since
        self.is_queued, self.cycle, self.transport = False, None, Transport()
        self.is_aborted = False

    def abort(self):
        self.is_aborted = True


def test_what_is_queued_here_waits_for_us():
    """Its client has sent all that it had to; one that has sent nothing is idle."""
    each, late = Waiting(), LIMITS[Phase.REQUEST] + 1
    assert each.is_overdue(late)
    each.is_queued = True
    assert not each.is_overdue(late)


def test_time_that_the_server_was_stalled_is_no_clients(monkeypatch):
    """What a client sent meanwhile is read first; afterwards its time goes on."""
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.01)
    monkeypatch.setitem(connections.LIMITS, Phase.REQUEST, 0.5)

    async def run():
        began = asyncio.get_running_loop().time()
        each, all_ = Waiting(began), Connections(Guard({}, hosts=None, is_open=True))
        all_._all[each] = None
        watch = asyncio.create_task(all_.watch())
        await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251 - the loop is stalled
        await until_async(lambda: each.since != began)
        assert each.since - began > 0.35
        await until_async(lambda: each.is_aborted)
        watch.cancel()
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(run()) >= 0.85
