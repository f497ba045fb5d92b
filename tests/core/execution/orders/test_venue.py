"""What a real venue's state says of whether it can be traded at."""

import asyncio
from types import SimpleNamespace

from tests.core.execution.orders.conftest import ACCOUNT
from torghut_core.execution.permit import Permit
from torghut_core.execution.venue import Access, Venue


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
