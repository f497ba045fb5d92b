"""What stages have derived, as messages: rows of a batch in their envelopes."""

from __future__ import annotations

from torghut_core.bus.envelope import Envelope, MicrobarPayload, SignalsPayload, StatusPayload, Window
from torghut_core.model.market import SIGNAL_COLUMNS, Batch, Message

SOURCE = "ta"
"""What the envelope's `source` and `feed` say of every event that torghut derived."""


def derived_messages(batch: Batch) -> list[Message]:
    """The bars and signals that stages made of a batch, each bar before its signal's channel.

    `ingest_ts` is the loop's time at which a row became known and `seq` is made of its window, so that deriving it again
    gives the same bytes.
    """
    names = batch.symbols.names
    messages = []
    bars = batch.microbars
    for row in range(len(bars)):
        values = dict(zip(bars.FLOAT_COLUMNS, bars.floats[:, row].tolist(), strict=True))
        start, step = bars.event_ts.item(row), bars.step.item(row)
        envelope = Envelope(
            ingest_ts=batch.now.item(bars.at.item(row) - batch.start),
            event_ts=start,
            feed=SOURCE,
            channel="microbars",
            symbol=names[bars.symbol.item(row)],
            seq=bars.seq.item(row),
            is_final=True,
            source=SOURCE,
            window=Window.of(start, step),
            payload=MicrobarPayload(
                open=values["open"],
                high=values["high"],
                low=values["low"],
                close=values["close"],
                volume=values["volume"],
                vwap=None if values["vwap"] != values["vwap"] else values["vwap"],
                count=bars.count.item(row),
                event_ts=start,
            ),
        )
        messages.append(Message(envelope.channel, envelope.symbol, envelope.encode()))
    signals = batch.signals
    width = len(SIGNAL_COLUMNS)
    for row in range(len(signals)):
        start, step = signals.event_ts.item(row), signals.step.item(row)
        signal = Envelope(
            ingest_ts=batch.now.item(signals.at.item(row) - batch.start),
            event_ts=start,
            feed=SOURCE,
            channel="signals",
            symbol=names[signals.symbol.item(row)],
            seq=signals.seq.item(row),
            is_final=True,
            source=SOURCE,
            window=Window.of(start, step),
            payload=SignalsPayload.of(dict(zip(SIGNAL_COLUMNS, signals.floats[:width, row].tolist(), strict=True))),
        )
        messages.append(Message(signal.channel, signal.symbol, signal.encode()))
    return messages


def status_message(
    lane: str, *, now: int, watermark: int, last_event_ts: int | None, status: str, beat: int
) -> Message:
    """The heartbeat of a lane.

    Parameters
    ----------
    now, watermark : wall time and the lane's watermark, ns.
    last_event_ts : largest time of an event so far, ns; None before the first.
    status : ``running``, ``idle`` or ``paused``.
    beat : how many there were before.
    """
    envelope = Envelope(
        ingest_ts=now,
        event_ts=now,
        feed=SOURCE,
        channel="ta-status",
        symbol=f"TA-{lane or 0}",
        seq=beat,
        is_final=True,
        source=SOURCE,
        payload=StatusPayload(
            watermark_lag_ms=max(0, now - watermark) // 1_000_000 if last_event_ts is not None else 0,
            last_event_ts=last_event_ts,
            status=status,
            heartbeat=beat,
        ),
    )
    return Message(envelope.channel, envelope.symbol, envelope.encode())
