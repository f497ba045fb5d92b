"""Derived bars and signals as messages: rows of a batch in their envelopes."""

from __future__ import annotations

from typing import Any

from torghut_core.bus.envelope import Envelope, MicrobarPayload, SignalsPayload, StatusPayload, Window
from torghut_core.model.market import SIGNAL_COLUMNS, Bars, Batch, Message, Signals, stored_seq
from torghut_core.timestamps import MILLISECOND

SOURCE = "ta"
"""The envelope's `source` and `feed` of every event that torghut derived."""


def derived_messages(batch: Batch) -> list[Message]:
    """The bars and signals that stages derived from a batch, all bars first.

    `ingest_ts` is the loop's time at which a row became known and `seq` is made of its window, so that deriving it again
    gives the same bytes.
    """
    messages = []
    bars, signals = batch.microbars, batch.signals
    seq = stored_seq(batch.symbols, signals)
    for row, floats in enumerate(bars.floats.T.tolist()):
        values = dict(zip(bars.FLOAT_COLUMNS, floats, strict=True))
        if values["vwap"] != values["vwap"]:
            values["vwap"] = None
        bar = MicrobarPayload(**values, count=bars.count.item(row), event_ts=bars.event_ts.item(row))
        messages.append(_message(batch, "microbars", bars, row, bars.seq.item(row), bar))
    for row, floats in enumerate(signals.floats[: len(SIGNAL_COLUMNS)].T.tolist()):
        signal = SignalsPayload.of(dict(zip(SIGNAL_COLUMNS, floats, strict=True)))
        messages.append(_message(batch, "signals", signals, row, seq.item(row), signal))
    return messages


def _message(batch: Batch, channel: str, table: Bars | Signals, row: int, seq: int, payload: Any) -> Message:
    start = table.event_ts.item(row)
    envelope = Envelope(
        ingest_ts=batch.now.item(table.at.item(row) - batch.start),
        event_ts=start,
        feed=SOURCE,
        channel=channel,
        symbol=batch.symbols.names[table.symbol.item(row)],
        seq=seq,
        is_final=True,
        source=SOURCE,
        window=Window.of(start, table.step.item(row), table.end.item(row)),
        payload=payload,
    )
    return Message(channel, envelope.symbol, envelope.encode())


def status_message(
    lane: str, *, now: int, watermark: int | None, last_event_ts: int | None, status: str, heartbeat: int
) -> Message:
    """The heartbeat of a lane.

    Parameters
    ----------
    now, watermark : wall time and the lane's watermark, ns; None while there is no watermark yet.
    last_event_ts : largest time of an event since the start, ns; None before the first.
    status : ``running``, ``idle`` (no event since the last heartbeat) or ``paused`` (the store does not take rows).
    heartbeat : how many there were before.
    """
    envelope = Envelope(
        ingest_ts=now,
        event_ts=now,
        feed=SOURCE,
        channel="ta-status",
        symbol=f"TA-{lane or 0}",
        seq=heartbeat,
        is_final=True,
        source=SOURCE,
        payload=StatusPayload(
            watermark_lag_ms=0 if watermark is None else max(0, now - watermark) // MILLISECOND,
            last_event_ts=last_event_ts,
            status=status,
            heartbeat=heartbeat,
        ),
    )
    return Message(envelope.channel, envelope.symbol, envelope.encode())
