"""Whose turn it is: of all processes on an account, the one that has its lease trades, and the others stand by.

A process that stands by follows market data and catalog, shows the rows to its strategies, decides nothing, sends nothing
and writes nothing down. It asks for the lease again and again, and trades once it has it. One that may not trade at all
(``TRADING_ENABLED=false``) lives in the same way, and never asks.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

from torghut_core.errors import StateError
from torghut_core.execution.lease import Lease, holder_since
from torghut_core.timestamps import SECOND, SYSTEM_CLOCK, Clock, format_timestamp

ASK_S = 0.5
"""Seconds between two requests for a lease that another process has."""


class ReplicaRole(StrEnum):
    """What a process does for its account."""

    TRADING = "trading"
    STANDBY = "standby"
    """Another process trades the account; this one takes over when that ends."""
    DISABLED = "disabled"
    """``TRADING_ENABLED`` is not true."""


class Standby:
    """Says whether a process trades its account, and where it does not, why.

    Parameters
    ----------
    account_label : the account.
    lease : on that account, not taken yet.
    is_enabled : ``TRADING_ENABLED``; where it is not, the lease is never asked for.
    clock : where it asks for the time.

    Attributes
    ----------
    role : what the process does now.
    """

    def __init__(self, account_label: str, lease: Lease, *, is_enabled: bool, clock: Clock = SYSTEM_CLOCK) -> None:
        self.role = ReplicaRole.STANDBY if is_enabled else ReplicaRole.DISABLED
        self._label = account_label
        self._lease = lease
        self._clock = clock
        self._problem = ""

    @property
    def is_trading(self) -> bool:
        """Whether decisions are made, sent and written down."""
        return self.role is ReplicaRole.TRADING

    def take_lease(self) -> bool:
        """Ask for the lease once, from any thread; whether it is held now. Never where trading is not enabled."""
        if self.role is ReplicaRole.DISABLED:
            return False
        try:
            is_held = self._lease.acquire()
        except StateError as error:
            self._problem = str(error)
            return False
        self._problem = ""
        return is_held

    async def wait(self) -> None:
        """Wait until the lease is held; for ever where trading is not enabled."""
        if self.role is ReplicaRole.DISABLED:
            await asyncio.Event().wait()
        while True:
            if await asyncio.to_thread(self.take_lease):
                return
            await asyncio.sleep(ASK_S)

    def start_trading(self) -> None:
        """Trade from now on."""
        self.role = ReplicaRole.TRADING

    @property
    def reason(self) -> str:
        """Why this process does not trade, "" where it does."""
        match self.role:
            case ReplicaRole.TRADING:
                return ""
            case ReplicaRole.DISABLED:
                return "no orders are sent: TRADING_ENABLED is not true (set it, and start this process again)"
        if self._problem:
            return f"the lease on {self._label} cannot be asked for: {self._problem}"
        holder = self._lease.holder
        if not holder:
            return f"the lease on {self._label} is being taken"
        since = holder_since(holder)
        age = "" if since is None else f", for {_age_s(since, self._clock):.0f} s"
        return f"account {self._label} is traded by {holder}{age} (this process takes over when that one ends)"

    def status(self) -> dict[str, Any] | None:
        """Who has the lease and since when, as JSON values; None where this process trades."""
        if self.is_trading:
            return None
        holder = self._lease.holder
        return standby_status(self.reason, holder, holder_since(holder), self._clock)


def standby_status(reason: str, holder: str, since: int | None, clock: Clock) -> dict[str, Any]:
    """Why a process stands by, for whom and since when (ns, None where it is not known), as JSON values."""
    return {
        "reason": reason,
        "holder": holder,
        "since": None if since is None else format_timestamp(since),
        "age_seconds": None if since is None else round(_age_s(since, clock), 3),
    }


def _age_s(since: int, clock: Clock) -> float:
    return max(0.0, (clock.wall() - since) / SECOND)
