"""Tapes as messages: recorded ones, and generated ones."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from torghut_core import SECOND, Envelope
from torghut_testing.alpaca.wire import timestamp

Message = dict[str, Any]
FIRST_ID = 1 << 60
"""Ids of generated crypto trades count from here: beyond what a double holds exactly."""

_ROWS = 8192


def messages_of(table: pa.Table) -> Iterator[Message]:
    """The rows of a tape as Alpaca would print them.

    Alpaca prints an id with every trade: where the tape has none it is made from `seq` (or the row), and a missing side of a
    quote is 0 at 0. Marks of suspicious trades are left out, and bars are of one minute.

    Raises
    ------
    ValueError : columns of neither trades, quotes nor bars.
    """
    names = set(table.column_names)
    for first, columns, make in (
        ("price", {"size"}, _trade),
        ("bid_price", {"bid_size", "ask_price", "ask_size"}, _quote),
        ("open", {"high", "low", "close", "volume"}, _bar),
    ):
        if names >= {first, *columns, "symbol", "event_ts"}:
            return _messages(table, make)
    raise ValueError(f"columns {sorted(names)} are not those of trades, quotes or bars")


def _messages(table: pa.Table, make: Callable[[Message, int], Message]) -> Iterator[Message]:
    place = table.column_names.index("event_ts")
    times = pc.cast(pc.cast(table.column("event_ts"), pa.timestamp("ns", "UTC")), pa.int64())
    table = table.set_column(place, "event_ts", times)
    row = 0
    for batch in table.to_batches(_ROWS):
        for values in batch.to_pylist():
            yield make(values, row)
            row += 1


def _trade(row: Message, number: int) -> Message:
    seq = row.get("seq")
    id_ = row.get("trade_id")
    if id_ is None:
        id_ = (number if seq is None else seq) + 1
    message = {"T": "t", "S": row["symbol"], "i": id_, "p": row["price"], "s": row["size"], "t": row["event_ts"]}
    if "/" in row["symbol"]:
        side = row.get("side")
        return message | ({"tks": side[:1].upper()} if side else {})
    conditions = (row.get("conditions") or "@").split(",")
    return message | {"x": row.get("exchange") or "V", "c": conditions, "z": "C"}


def _quote(row: Message, number: int) -> Message:
    del number
    sides = {"bp": "bid_price", "bs": "bid_size", "ap": "ask_price", "as": "ask_size"}
    message = {"T": "q", "S": row["symbol"]} | {short: row[name] or 0 for short, name in sides.items()}
    if "/" not in row["symbol"]:
        venues = {"bx": row.get("bid_exchange") or "V", "ax": row.get("ask_exchange") or "V"}
        message |= venues | {"c": [row.get("conditions") or "R"], "z": "C"}
    return message | {"t": row["event_ts"]}


def _bar(row: Message, number: int) -> Message:
    del number
    sides = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap", "n": "trade_count"}
    values = {short: row.get(name) for short, name in sides.items()}
    return {"T": "b", "S": row["symbol"]} | {k: v for k, v in values.items() if v is not None} | {"t": row["event_ts"]}


_CHANNELS = {"trades": "t", "quotes": "q", "bars": "b"}


def _message_of(envelope: Envelope[Any], row: int) -> Message | None:
    """The message for an envelope; None for a channel that the market does not have."""
    if envelope.channel == "status" and isinstance(envelope.payload, dict) and "T" in envelope.payload:
        return dict(envelope.payload)
    if envelope.channel not in _CHANNELS:
        return None
    payload = envelope.payload
    values = {name: getattr(payload, name) for name in payload.__struct_fields__} | {
        "symbol": envelope.symbol,
        "event_ts": payload.event_ts,
    }
    if envelope.channel == "trades":
        values["conditions"] = ",".join(payload.conditions or ()) or None
        return _trade(values, row)
    if envelope.channel == "quotes":
        return _quote(values, row)
    return _bar(values | {"trade_count": payload.count}, row)


def read_tape(path: str | Path) -> Iterator[Message]:
    """The messages of a tape: Parquet with the columns of trades, quotes or bars, or envelopes as JSONL.

    Raises
    ------
    ValueError : another file ending, or columns of neither trades, quotes nor bars.
    InputError : a line that is not an envelope.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".parquet"):
        return messages_of(pyarrow.parquet.read_table(path))
    if name.endswith((".jsonl", ".jsonl.gz")):
        return _read_lines(path)
    raise ValueError(f"{path} is of an unknown format (use a file that ends in .parquet, .jsonl or .jsonl.gz)")


def _read_lines(path: Path) -> Iterator[Message]:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as lines:
        for row, line in enumerate(lines):
            message = _message_of(Envelope.decode(line), row) if line.strip() else None
            if message is not None:
                yield message


def synthetic(
    prices: Mapping[str, float],
    *,
    rate: float = 100.0,
    seed: int = 0,
    start: int,
    until: int | None = None,
    count: int | None = None,
    quotes: float = 0.5,
) -> Iterator[Message]:
    """Trades and quotes of a random walk from these prices, the same for the same arguments.

    Parameters
    ----------
    prices : first price by symbol.
    rate : messages a second of all symbols together, evenly spaced up to a jitter.
    start, until : nanoseconds since the epoch; no event is at or after `until`.
    count : messages in all; None for no end (except `until`).
    quotes : share of quotes among them, 0 to 1.
    """
    dice = random.Random(seed)
    symbols = sorted(prices)
    walk = dict(prices)
    step = SECOND / rate
    number = 0
    while count is None or number < count:
        at = start + int(number * step + dice.random() * step)
        if until is not None and at >= until:
            return
        symbol = symbols[dice.randrange(len(symbols))]
        walk[symbol] *= 1 + dice.gauss(0, 1e-4)
        yield (_made_quote if dice.random() < quotes else _made_trade)(dice, symbol, walk[symbol], number, at)
        number += 1


def _made_trade(dice: random.Random, symbol: str, price: float, number: int, at: int) -> Message:
    time = timestamp(at)
    if "/" in symbol:
        size, side = round(dice.uniform(1e-6, 2), 9), dice.choice("BS")
        return {"T": "t", "S": symbol, "p": round(price, 3), "s": size, "t": time, "i": FIRST_ID + number, "tks": side}
    size, venue = dice.randrange(1, 500), dice.choice("VQPKD")
    trade = {"T": "t", "S": symbol, "i": number + 1, "x": venue, "p": round(price, 2), "s": size, "c": ["@"]}
    return trade | {"z": "C", "t": time}


def _made_quote(dice: random.Random, symbol: str, price: float, number: int, at: int) -> Message:
    del number
    time, is_crypto = timestamp(at), "/" in symbol
    digits, half = (3, price * 2e-4) if is_crypto else (2, max(0.01, price * 1e-4))
    bid, ask = round(price - half, digits), round(price + half, digits)
    if is_crypto:
        sizes = {"bs": round(dice.uniform(0.01, 5), 6), "as": round(dice.uniform(0.01, 5), 6)}
        return {"T": "q", "S": symbol, "bp": bid, "ap": ask, "t": time} | sizes
    sizes = {"bs": dice.randrange(1, 20), "as": dice.randrange(1, 20)}
    return {"T": "q", "S": symbol, "bx": "V", "bp": bid, "ax": "V", "ap": ask, "c": ["R"], "z": "C", "t": time} | sizes
