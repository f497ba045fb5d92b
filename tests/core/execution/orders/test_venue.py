"""A venue as a run deals with it: whether it can be traded at, and a simulated one whose broker fails."""

import asyncio
from types import SimpleNamespace

import pytest

from tests.core.execution.orders.conftest import ACCOUNT
from torghut_core.errors import PluginError, StateError
from torghut_core.execution.permit import Permit
from torghut_core.execution.venue import Access, SimulatedVenue, Venue


def test_it_is_not_ready_while_no_order_may_be_sent(desk, venue, clock, intent):
    """A lease that was lost and taken again permits nothing before a snapshot, and readiness says so as long."""
    lease = SimpleNamespace(is_held=True, holder="", problem="", acquire=lambda: True)
    permit = Permit(ACCOUNT, SimpleNamespace(refusal=lambda *_: ""), lease, clock)
    access = Access(ACCOUNT, permit, desk.executor)
    traded = Venue(
        venue, access, desk.gateway, desk.reconciler, desk.audit, commit=desk.audit.commit, reconcile_s=30, clock=clock
    )
    for _ in range(2):
        asyncio.run(traded.reconcile())
        assert (permit.refusal(intent()), traded.problems) == ("", [])
        clock.pass_(1)
        permit.regain_lease()
        assert "not reconciled" in permit.refusal(intent())
        assert [each for each in traded.problems if "not reconciled" in each]


def test_its_account_is_not_known_while_it_does_not_answer(desk, venue, clock):
    """A snapshot that is written down is one that the venue gave: while it does not answer there is none."""
    lease = SimpleNamespace(is_held=True, holder="", problem="", acquire=lambda: True)
    permit = Permit(ACCOUNT, SimpleNamespace(refusal=lambda *_: ""), lease, clock)
    traded = Venue(
        venue,
        Access(ACCOUNT, permit, desk.executor),
        desk.gateway,
        desk.reconciler,
        desk.audit,
        commit=desk.audit.commit,
        reconcile_s=30,
        clock=clock,
    )
    asyncio.run(traded.reconcile())
    account, positions = traded.snapshot()
    assert (account, positions) == (venue.account(), venue.positions())
    traded.problem = "the venue does not answer"
    assert traded.snapshot() is None


class Broken:
    """A simulated broker whose state cannot be saved or loaded."""

    state_version = 1

    def save_state(self):
        raise SystemExit(0)

    load_state = save_state


def test_simulated_broker_that_ends_the_process_in_its_state_is_named(desk):
    """Whatever it raises is an error with its name, and no exit."""
    venue = SimulatedVenue(Broken(), Access(ACCOUNT, None, None), desk.gateway, desk.audit)
    desk.books.reports += 1
    with pytest.raises(PluginError, match="Broken"):
        venue.save()
    desk.audit.record_cursor(ACCOUNT, "broker", {"now": 1, "version": 1, "state": {}})
    desk.audit.commit()
    with pytest.raises(StateError, match="cannot be continued"):
        venue.start()
