"""The brokers that come with Torghut."""

from __future__ import annotations

from torghut_brokers.alpaca import Alpaca
from torghut_brokers.simulated import Simulated
from torghut_core import Broker, Register, hookimpl


@hookimpl
def register_brokers(register: Register[Broker]) -> None:
    """Bring every broker of this package."""
    register("alpaca", Alpaca)
    register("simulated", Simulated)
