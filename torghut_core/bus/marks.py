"""Time marks: a forwarder's messages that time has advanced, for readers that derive from the bus while no event comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from torghut_core.bus.envelope import Envelope
from torghut_core.model.market import Message

EVERYWHERE = "*"
"""The symbol in a mark's envelope: it is for every partition."""


def time_message(known_until: int, ingest_ts: int) -> Message:
    """Make the mark "every event up to this time was sent before", for every partition of the topic.

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
    """The time of a mark, ns; None for any other envelope."""
    return envelope.event_ts if _is_mark(envelope) else None


def with_ends(envelope: Envelope[Any], ends: Mapping[str, int]) -> Envelope[Any]:
    """A mark that also has the end of what was sent before it: the next offset in its partition, by topic.

    Partitions are read in any order. By these offsets a reader knows whether it has read everything before the mark.
    """
    return msgspec.structs.replace(envelope, payload={**envelope.payload, "ends": dict(ends)})


def ends_of(envelope: Envelope[Any]) -> dict[str, int]:
    """The offsets that `with_ends` put into a mark, by topic; a topic may be missing."""
    ends = envelope.payload.get("ends") if _is_mark(envelope) else None
    if not isinstance(ends, dict):
        return {}
    return {
        topic: end for topic, end in ends.items() if isinstance(topic, str) and type(end) is int and 0 <= end < 2**63
    }


def _is_mark(envelope: Envelope[Any]) -> bool:
    payload = envelope.payload
    return envelope.channel == "status" and isinstance(payload, dict) and payload.get("type") == "time"
