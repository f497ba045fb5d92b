"""A market's events as messages: trades, quotes and bars of a batch in their envelopes, for what is played onto a bus."""

from __future__ import annotations

from torghut_core.bus.envelope import BarPayload, Envelope, QuotePayload, TradePayload, Window
from torghut_core.model.market import Bars, Batch, Message, Quotes, Trades

SOURCE = "tape"
"""The envelope's `source` and `feed`."""


def event_messages(batch: Batch) -> list[Message]:
    """The events of a batch in the order of the stream; reading them gives the same events again.

    `ingest_ts` is the loop's time, so that playing the same gives the same bytes. A trade's id stands for the venue's id and
    exchange: equal trades have equal ones. Prints that a tape marks as suspicious count for nothing, and an envelope cannot
    say that of one: they are left out.
    """
    tables: tuple[Trades | Quotes | Bars, ...] = (batch.trades, batch.quotes, batch.bars)
    found = [(table.at.item(row), table, row) for table in tables for row in range(len(table))]
    suspicious = {number for number, (_, is_suspicious) in enumerate(batch.symbols.conditions) if is_suspicious}
    return [
        _message(batch, table, row)
        for _, table, row in sorted(found, key=lambda each: each[0])
        if not (suspicious and isinstance(table, Trades) and table.conditions.item(row) in suspicious)
    ]


def _message(batch: Batch, table: Trades | Quotes | Bars, row: int) -> Message:
    event_ts = table.event_ts.item(row)
    window = None
    payload: TradePayload | QuotePayload | BarPayload
    if isinstance(table, Trades):
        channel = "trades"
        conditions, _ = batch.symbols.conditions[table.conditions.item(row)]
        payload = TradePayload(
            trade_id=table.trade_key.item(row) or None,
            price=table.price.item(row),
            size=table.size.item(row),
            event_ts=event_ts,
            conditions=tuple(conditions.split(",")) if conditions else None,
        )
    elif isinstance(table, Quotes):
        channel = "quotes"
        payload = QuotePayload(
            bid_price=_known(table.bid_price.item(row)),
            bid_size=_known(table.bid_size.item(row)),
            ask_price=_known(table.ask_price.item(row)),
            ask_size=_known(table.ask_size.item(row)),
            event_ts=event_ts,
        )
    else:
        channel = "bars"
        window = Window.of(event_ts, table.step.item(row), table.end.item(row))
        payload = BarPayload(
            open=table.open.item(row),
            high=table.high.item(row),
            low=table.low.item(row),
            close=table.close.item(row),
            volume=table.volume.item(row),
            vwap=_known(table.vwap.item(row)),
            count=table.count.item(row) or None,
            event_ts=event_ts,
        )
    symbol = batch.symbols.names[table.symbol.item(row)]
    envelope = Envelope(
        ingest_ts=batch.now.item(table.at.item(row) - batch.start),
        event_ts=event_ts,
        feed=SOURCE,
        channel=channel,
        symbol=symbol,
        seq=max(0, table.seq.item(row)),
        is_final=True,
        source=SOURCE,
        window=window,
        payload=payload,
    )
    return Message(channel, symbol, envelope.encode())


def _known(value: float) -> float | None:
    return None if value != value else value
