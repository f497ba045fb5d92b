"""Permission to send orders: what has to hold right before each one is sent, checked in one place.

That is the operator's control, the lease on the account, and that the books were reconciled with the venue's since the
lease was taken.
"""

from __future__ import annotations

from torghut_core.errors import StateError, Superseded
from torghut_core.execution.controls import Controls
from torghut_core.execution.lease import Lease
from torghut_core.model.trading import Intent, Purpose
from torghut_core.timestamps import SYSTEM_CLOCK, Clock


def control_refusal(controls: Controls, intent: Intent) -> str:
    """Why the operator's control does not let an order be sent, "" where it does: what protects a fill always leaves."""
    if intent.parent:
        return ""
    return controls.refusal(intent.purpose is not Purpose.ENTRY, intent.purpose is Purpose.FLATTEN)


class Permit:
    """Says of each order whether it may be sent to a real venue now.

    Parameters
    ----------
    account_label : the account that is traded.
    controls : the operator's control.
    lease : on that account; see `Standby`.
    clock : where it asks for the time.

    Attributes
    ----------
    lease : see above.
    is_cut_off : the lease was lost because its database cannot be reached.
    is_reconciled : the books were reconciled with the venue's since the lease was taken.
    """

    def __init__(self, account_label: str, controls: Controls, lease: Lease, clock: Clock = SYSTEM_CLOCK) -> None:
        self.lease = lease
        self.is_cut_off = False
        self._label = account_label
        self._controls = controls
        self._clock = clock
        self.is_reconciled = False
        self._held_since = 0

    def refusal(self, intent: Intent) -> str:
        """Why an order may not be sent now, "" when it may; any thread.

        Where the lease is lost because its database cannot be reached, exits are sent all the same: being unable to exit
        is worse than two processes closing the same position. Where another process has the lease, nothing is sent.
        """
        is_exit = intent.purpose is not Purpose.ENTRY
        if not (self.is_cut_off and is_exit):
            if not self.lease.is_held:
                return "the lease on the account is lost"
            if not self.is_reconciled:
                return "the books were not reconciled with the venue's yet"
        return control_refusal(self._controls, intent)

    def confirm(self, reconciled_at: int) -> None:
        """Note that the books were reconciled with what the venue showed at this time, ns."""
        self.is_reconciled = self.lease.is_held and reconciled_at >= self._held_since

    def regain_lease(self) -> None:
        """Try to get a lost lease back; nothing is sent until the next reconciliation.

        Raises
        ------
        Superseded : another process has it, or has had it: what is known here is old.
        """
        self.is_reconciled = False
        try:
            is_held = self.lease.acquire()
        except Superseded:
            raise
        except StateError:  # the lease says why
            self.is_cut_off = True
            return
        self.is_cut_off = False
        self._held_since = self._clock.wall()
        if not is_held:
            raise Superseded(f"account {self._label} is traded by {self.lease.holder} now (this one ends)")
