"""Time marks: what a forwarder says of time to those who derive from the bus, where no event says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

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
    return envelope.event_ts if _is_mark(envelope) else None


def with_ends(envelope: Envelope[Any], ends: Mapping[str, int]) -> Envelope[Any]:
    """A mark that says besides where what was sent before it ends: the next offset in its partition, by topic.

    Partitions are read in any order. By this a reader knows whether it has seen what the mark is about.
    """
    return msgspec.structs.replace(envelope, payload={**envelope.payload, "ends": dict(ends)})


def ends_of(envelope: Envelope[Any]) -> dict[str, int]:
    """What `with_ends` has put into a mark; of a topic that is not there nothing is known."""
    ends = envelope.payload.get("ends") if _is_mark(envelope) else None
    if not isinstance(ends, dict):
        return {}
    return {topic: end for topic, end in ends.items() if isinstance(topic, str) and type(end) is int}


def _is_mark(envelope: Envelope[Any]) -> bool:
    payload = envelope.payload
    return envelope.channel == "status" and isinstance(payload, dict) and payload.get("type") == "time"
