"""Obeys the operator's control: in the gates, between two batches, and in a thread of its own where the loop is stuck.

That thread needs none of the others: while a plugin does not return, open orders are canceled all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from torghut_core.boundary import use_decimal_context
from torghut_core.errors import reason_of
from torghut_core.execution.controls import Control, Controls
from torghut_core.execution.venue import SimulatedVenue, Venue
from torghut_core.telemetry import logs
from torghut_core.timestamps import SYSTEM_CLOCK, Clock
from torghut_core.trading.gates import Gates

CONTROL_POLL_S = 0.05
"""Seconds between two reads of the operator's control."""

DATABASE_POLL_S = 1.0
"""Seconds between two reads of its row in the database, and between two probes whether that can be written."""


def apply_control(controls: Controls, gates: Gates) -> Control:
    """Set the gates as the operator's control says; the control."""
    control = controls.current()
    gates.control = control.state
    gates.control_reason = "" if control.state == "running" else str(control)
    return control


def watch_control(
    controls: Controls,
    venue: Venue | SimulatedVenue,
    ended: threading.Event,
    poll_database: Callable[[], None],
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Poll the control until `ended`; the work of a thread of its own.

    Parameters
    ----------
    venue : where open orders are canceled once the control has changed to a halt.
    poll_database : called each `DATABASE_POLL_S`.
    """
    use_decimal_context()
    before, polled_at, is_due = controls.current(), 0.0, False
    while not ended.wait(CONTROL_POLL_S):
        control = controls.current()
        if control != before:
            logs.warning("control changed", control=str(control), flatten=control.flatten)
            is_due = control.state == "halted" and not venue.is_simulated
        before = control
        if is_due:
            try:
                venue.cancel_all()
                is_due = False
            except Exception as error:  # a defect of ours: this thread has to live, and tries again
                logs.error("open orders are not canceled yet", error=reason_of(error), exc_info=error)
        if clock.monotonic() - polled_at < DATABASE_POLL_S:
            continue
        polled_at = clock.monotonic()
        controls.poll()
        poll_database()
