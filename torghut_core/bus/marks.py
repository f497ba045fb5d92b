"""Time marks: what a forwarder says of time to those who derive from the bus, where no event says it."""

from __future__ import annotations

from typing import Any

from torghut_core.bus.envelope import Envelope
from torghut_core.model.market import Message

EVERYWHERE = "*"
"""The envelope's symbol of a mark: it is for every partition."""


def time_message(known_until: int, ingest_ts: int) -> Message:
    """The mark "every event up to this time was sent before", for every partition of the topic.

    Parameters
    ----------
    known_until, ingest_ts : ns.
    """
    envelope = Envelope(
        ingest_ts=ingest_ts,
        event_ts=known_until,
        feed="",
        channel="status",
        symbol=EVERYWHERE,
        seq=0,
        is_final=True,
        source="forwarder",
        payload={"type": "time"},
    )
    return Message("status", "", envelope.encode())


def time_of(envelope: Envelope[Any]) -> int | None:
    """The time that a mark tells, ns; None of any other envelope."""
    is_mark = envelope.channel == "status" and isinstance(envelope.payload, dict) and envelope.payload.get("type") == "time"
    return envelope.event_ts if is_mark else None
