"""What the venue plays: recorded trades of BTC/USD, and generated ones of ETH/USD and SOL/USD beside them.

A tape is sped up by compressing its times before it is played: at 60, a minute of the tape is a second for the venue and
for every process behind it, and that second takes a second. So event time and the clock keep the same pace, and whatever is
measured in seconds of event time (a window, a watermark, the age of a quote) means what it means live.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from torghut_core import MINUTE, SECOND, parse_timestamp
from torghut_testing.alpaca_data import messages_of, synthetic

GENERATED = {"BTC/USD": 25_750.0, "ETH/USD": 1_630.0, "SOL/USD": 19.5}
"""First prices of the pairs whose trades and quotes are generated."""

TAIL = 3_500_000_000
"""Time from the last trade to a final quote of each pair, ns: more than a window and the watermark's lag, so that the last
bars are closed by events, without waiting for a clock."""


class Tape(msgspec.Struct, frozen=True):
    """The tapes to be played.

    Attributes
    ----------
    files : Parquet tapes, to be merged by time.
    trades, quotes : events by symbol.
    seconds : from the first event to the last.
    """

    files: tuple[Path, ...]
    trades: Mapping[str, int]
    quotes: Mapping[str, int]
    seconds: float

    @property
    def symbols(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted(self.quotes))

    @property
    def events(self) -> int:
        """Trades and quotes of all symbols."""
        return sum(self.trades.values()) + sum(self.quotes.values())


def make_tape(folder: Path, recorded: Path | None, *, minutes: float, speed: float, rate: float, seed: int = 0) -> Tape:
    """Write the tapes of a rehearsal into a folder.

    Parameters
    ----------
    recorded : a Parquet tape of trades of one pair; None generates BTC/USD too.
    minutes : of the tape, counted from its beginning.
    speed : seconds of the tape per second.
    rate : generated messages a second of the rehearsal, of all generated pairs together.
    seed : of generated data.

    Raises
    ------
    ValueError : a tape that has no trades, or of several pairs.
    """
    trades: list[dict[str, Any]] = []
    quotes: list[dict[str, Any]] = []
    begin, seconds = SECOND, minutes * 60 / speed
    prices = dict(GENERATED)
    if recorded is not None:
        trades = list(_compressed(recorded, minutes, speed))
        symbol, begin = trades[0]["symbol"], trades[0]["event_ts"]
        prices.pop(symbol, None)
        quotes = list(_quotes_before(trades, random.Random(seed)))
    until = begin + round(seconds * SECOND)
    for message in synthetic(prices, rate=rate, seed=seed, start=begin, until=until):
        (trades if message["T"] == "t" else quotes).append(_row(message))
    quotes.sort(key=lambda row: row["event_ts"])
    last = max(row["event_ts"] for row in (*trades, *quotes))
    final = {row["symbol"]: row for row in quotes}
    quotes += [row | {"event_ts": last + TAIL} for _, row in sorted(final.items())]
    files = folder / "trades.parquet", folder / "quotes.parquet"
    for file, rows in zip(files, (trades, quotes), strict=True):
        pq.write_table(_table(sorted(rows, key=lambda row: row["event_ts"])), file)
    return Tape(files, _count(trades), _count(quotes), (last + TAIL - begin) / SECOND)


def _compressed(path: Path, minutes: float, speed: float) -> Iterator[dict[str, Any]]:
    """The trades of the first minutes of a tape, the time between them divided by the speed."""
    table = pq.read_table(path)
    symbols = table["symbol"].unique().to_pylist() if "price" in table.column_names else []
    if len(symbols) != 1 or "/" not in symbols[0]:
        raise ValueError(
            f"{path}: a rehearsal plays the trades of one pair (give a Parquet tape of trades, see --tape)"
        )
    first: int | None = None
    for message in messages_of(table):
        first = message["t"] if first is None else first
        past = message["t"] - first
        if past > minutes * MINUTE:
            return
        yield _row(message | {"t": first + round(past / speed)})


def _quotes_before(trades: Iterable[Mapping[str, Any]], dice: random.Random) -> Iterator[dict[str, Any]]:
    """For each trade a quote around its price, a moment before it."""
    for trade in trades:
        half = trade["price"] * 1e-4
        yield {
            "symbol": trade["symbol"],
            "event_ts": trade["event_ts"] - 1_000_000,
            "bid_price": round(trade["price"] - half, 3),
            "bid_size": round(dice.uniform(0.01, 5), 6),
            "ask_price": round(trade["price"] + half, 3),
            "ask_size": round(dice.uniform(0.01, 5), 6),
        }


def _row(message: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a tape for a message as Alpaca prints it."""
    time = message["t"]
    row = {"symbol": message["S"], "event_ts": time if isinstance(time, int) else parse_timestamp(time)}
    if message["T"] == "t":
        side = {"B": "buy", "S": "sell"}.get(message.get("tks", ""))
        return row | {"price": message["p"], "size": message["s"], "trade_id": message["i"], "side": side}
    sides = {"bid_price": "bp", "bid_size": "bs", "ask_price": "ap", "ask_size": "as"}
    return row | {name: message[short] for name, short in sides.items()}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(rows)
    place = table.column_names.index("event_ts")
    return table.set_column(place, "event_ts", table["event_ts"].cast(pa.timestamp("ns", "UTC")))


def _count(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["symbol"]] = counts.get(row["symbol"], 0) + 1
    return counts
