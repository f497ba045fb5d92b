"""Time marks say what they are, and of everything else that it is none."""

import pytest

from torghut_core.bus.envelope import Envelope
from torghut_core.bus.marks import ends_of, time_message, time_of, with_ends

T = 1_770_000_000_000_000_001


def test_a_mark_is_a_status_for_every_partition():
    """A mark has no symbol to be parted by, and carries its time to the nanosecond."""
    message = time_message(T, T + 5)
    envelope = Envelope.decode(message.value)
    assert (message.channel, message.symbol) == ("status", "")
    assert (envelope.symbol, envelope.ingest_ts) == ("*", T + 5)
    assert time_of(envelope) == T
    assert ends_of(envelope) == {}


def test_a_mark_may_say_where_topics_end():
    """What was put into a mark is read out of it, over the wire too."""
    marked = with_ends(Envelope.decode(time_message(T, T).value), {"a": 7, "b": 1})
    again = Envelope.decode(marked.encode())
    assert ends_of(again) == {"a": 7, "b": 1}
    assert time_of(again) == T


@pytest.mark.parametrize("payload", [{"type": "halt"}, {}, "time", None, ["type", "time"]])
def test_other_statuses_are_no_marks(payload):
    """A status of the venue is not taken for a mark, whatever it looks like."""
    envelope = Envelope(
        ingest_ts=T, event_ts=T, feed="", channel="status", symbol="ES", seq=0, is_final=True, source="x",
        payload=payload,
    )  # fmt: skip
    assert time_of(envelope) is None
    assert ends_of(envelope) == {}


def test_ends_that_are_none_are_left_out():
    """In a mark that another program wrote, an end that is no offset is ignored."""
    envelope = Envelope(
        ingest_ts=T, event_ts=T, feed="", channel="status", symbol="*", seq=0, is_final=True, source="x",
        payload={"type": "time", "ends": {"a": "7", "b": True, "c": 3}},
    )  # fmt: skip
    assert ends_of(envelope) == {"c": 3}
