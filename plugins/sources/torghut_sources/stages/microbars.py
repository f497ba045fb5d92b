"""The `microbars` stage: trades to bars of one second.

Event time decides, as if events came one by one. An event first moves the watermark (the loop's time less
`max_out_of_order_ms`), which closes the windows that end at or before it. Then it is counted: as excluded by its sale
conditions, as late if its window is closed, as a duplicate if its identity was seen in a window of its symbol that is
still open, or as part of a bar. So trades in = trades in bars + late + duplicates + excluded + those in open windows.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from torghut_core import (
    MILLISECOND,
    NO_PRICE,
    NOTHING_COUNTS,
    SECOND,
    Batch,
    FloatArray,
    IntArray,
    Params,
    SaleConditions,
    ShapeError,
    SymbolTable,
    Trades,
    check_condition,
    param,
)
from torghut_core.stages import (
    BITS,
    COLUMN,
    FLOATS,
    INTS,
    NUMBER,
    NUMBERS,
    OUTPUT,
    TABLE,
    Stage,
    kernel,
    native,
    records,
)
from torghut_sources.settings import TaSettings
from torghut_sources.stages.order import merge
from torghut_sources.stages.state import from_words
from torghut_sources.stages.tumbling import FIRST_OPEN, OWN, ROW, STARTED, UNPRICED, WINDOW, Tumbling, close_until

AT, TS, SYMBOL, SEQ = Trades.at.row, Trades.event_ts.row, Trades.symbol.row, Trades.seq.row
TRADE_KEY, CONDITIONS = Trades.trade_key.row, Trades.conditions.row
PRICE, SIZE = Trades.price.row, Trades.size.row

KEYS, TRADE, LATE, DUPLICATES, EXCLUDED = range(OWN, OWN + 5)
"""Places in `Tumbling.progress`: identities in the table; and within a batch the next row, and counts."""

KEY = np.dtype([("key", np.int64), ("symbol", np.int64), ("number", np.int64)])
"""The identity of a trade, and the number of its window; a `key` of 0 is an empty place."""


@kernel
def remember(keys: Any, key: int, symbol: int, number: int, first_open: int) -> int:
    """Put an identity into a hash table that is at most half full; return how many places this took, -1 if it was there.

    Identities of closed windows do not count: they stay until the table is rebuilt.
    """
    mask = len(keys) - 1
    mixed = (key ^ symbol * 0x165667B19E3779F9) * 0x27D4EB2F165667C5
    place = (mixed ^ mixed >> 32) & mask
    while keys[place].key != 0:
        if keys[place].key == key and keys[place].symbol == symbol:
            if keys[place].number >= first_open:
                return -1
            keys[place].number = number
            return 0
        place = (place + 1) & mask
    keys[place].key = key
    keys[place].symbol = symbol
    keys[place].number = number
    return 1


@kernel
def remember_all(keys: Any, some: Any) -> None:
    """Put identities that differ from each other into the table."""
    for i in range(len(some)):
        remember(keys, some[i].key, some[i].symbol, some[i].number, some[i].number)


@kernel
def fold(
    windows: Any,
    in_slot: IntArray,
    by_name: IntArray,
    progress: IntArray,
    keys: Any,
    left_out: Any,
    is_pair: IntArray,
    lateness: int,
    now: IntArray,
    start: int,
    position: int,
    ints: IntArray,
    floats: FloatArray,
    out_ints: IntArray,
    out_floats: FloatArray,
) -> int:
    """Process the batch from a position on.

    Returns
    -------
    The position at which the buffer or the table of identities is full, the batch's length when it is done, or -1 at a
    trade that breaks the contract: progress[TRADE] is its row.
    """
    slots = windows.shape[1]
    trade = progress[TRADE]
    if progress[STARTED] == 0 and len(now) > 0:
        progress[STARTED] = 1
        progress[FIRST_OPEN] = (now[0] - lateness) // SECOND
    deadline = (progress[FIRST_OPEN] + 1) * SECOND + lateness
    for here in range(position, len(now)):
        if now[here] >= deadline:
            until = (now[here] - lateness) // SECOND
            if not close_until(windows, in_slot, by_name, progress, until, start + here, SECOND, out_ints, out_floats):
                progress[TRADE] = trade
                return here
            deadline = (until + 1) * SECOND + lateness
        if trade == ints.shape[1] or ints[AT, trade] != start + here:
            continue
        ts, symbol, seq, key = ints[TS, trade], ints[SYMBOL, trade], ints[SEQ, trade], ints[TRADE_KEY, trade]
        condition, price, size = ints[CONDITIONS, trade], floats[PRICE, trade], floats[SIZE, trade]
        number = ts // SECOND
        beyond = number >= progress[FIRST_OPEN] + slots
        if beyond or symbol < 0 or symbol >= len(windows) or condition < 0 or condition >= left_out.shape[1]:
            progress[TRADE] = trade
            return -1
        uncounted = left_out[is_pair[symbol], condition]
        if uncounted == NOTHING_COUNTS:
            progress[EXCLUDED] += 1
            trade += 1
            continue
        if number < progress[FIRST_OPEN]:
            progress[LATE] += 1
            trade += 1
            continue
        if key != 0:
            if 2 * progress[KEYS] >= len(keys):
                progress[TRADE] = trade
                return here
            places = remember(keys, key, symbol, number, progress[FIRST_OPEN])
            if places < 0:
                progress[DUPLICATES] += 1
                trade += 1
                continue
            progress[KEYS] += places
        slot = number & (slots - 1)
        window = windows[symbol, slot]
        if window.parts == 0:
            in_slot[slot] += 1
            window.count = 0
            window.open = math.nan
            window.volume = window.priced = window.notional = 0.0
        window.parts += 1
        window.count += 1
        trade += 1
        window.volume += size
        if uncounted & NO_PRICE != 0:
            continue
        if window.open != window.open:
            window.open_ts = window.close_ts = ts
            window.open_seq = window.close_seq = seq
            window.open = window.high = window.low = window.close = price
        elif ts > window.close_ts or (ts == window.close_ts and seq >= window.close_seq):
            window.close_ts, window.close_seq, window.close = ts, seq, price
        elif ts < window.open_ts or (ts == window.open_ts and seq < window.open_seq):
            window.open_ts, window.open_seq, window.open = ts, seq, price
        window.high = max(window.high, price)
        window.low = min(window.low, price)
        window.priced += size
        window.notional += price * size
    return len(now)


class Microbars(Stage):
    """Bars of one second of each symbol's trades, in `Batch.microbars`.

    A bar is known at the first event, of any kind or symbol, at which the watermark has reached the bar's end; its open
    and close are its first and last trade by (event_ts, seq), whatever the order of arrival. A second without a trade
    has no bar. Memory is bounded by the windows that can be open at once.
    """

    derives: ClassVar[str] = "microbars"
    state_version: ClassVar[int] = 2
    settings = (TaSettings,)

    class Params(Params):
        """Parameters of `Microbars`."""

        max_out_of_order_ms: int = param(
            setting=(TaSettings, "ta_max_out_of_order_ms"),
            ge=0,
            le=3_600_000,
            help="how late a trade may arrive and still count, ms",
        )
        exclude_conditions: list[str] | None = param(
            None,
            help="sale conditions of trades to leave out, in place of the tapes' table: hexadecimal flag words (any bit of"
            " them) or codes; what is not listed then counts, for bars, fills, triggers and marks",
        )
        exclude_suspicious: bool = param(True, help="leave out trades that the tape marks as suspicious")

        @field_validator("exclude_conditions")
        @classmethod
        def _conditions_can_be_looked_for(cls, conditions: list[str] | None) -> list[str] | None:
            return conditions and [check_condition(condition) for condition in conditions]

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        is_standard = params.exclude_conditions is None and params.exclude_suspicious
        self._own = None if is_standard else SaleConditions(params.exclude_conditions, params.exclude_suspicious)
        self._fold = native(
            fold,
            records(WINDOW, 2),
            *(NUMBERS, NUMBERS, NUMBERS, records(KEY), BITS, NUMBERS, NUMBER),
            *(COLUMN, NUMBER, NUMBER, INTS, FLOATS, TABLE, OUTPUT),
        )
        self._remember_all = native(remember_all, records(KEY), records(KEY))
        self._clear()

    def _clear(self) -> None:
        self._symbols = SymbolTable()
        self._saved: dict[str, Any] | None = None
        self._tumbling = Tumbling(SECOND, self.params.max_out_of_order_ms * MILLISECOND, own=5)
        self._keys = np.zeros(1 << 10, KEY)
        self._left_out = np.zeros((2, 0), np.uint8)

    def drain_ns(self) -> int:
        """Return the watermark's lag plus the window in progress, ns."""
        return self._tumbling.lateness + SECOND

    def update(self, batch: Batch) -> Batch:
        """Add the bars that this batch's events close to `Batch.microbars`, and count the trades that were left out.

        Raises
        ------
        ShapeError : a trade of a symbol or of conditions that are not in the table, or of a time after the loop's.
        """
        symbols, trades, tumbling = batch.symbols, batch.trades, self._tumbling
        if symbols is not self._symbols:
            self._adopt(symbols)
            tumbling = self._tumbling
        left_out = symbols.left_out if self._own is None else self._override(batch, self._own)
        tumbling.begin(symbols)
        tumbling.progress[TRADE:] = 0
        position = 0
        while True:
            position = self._fold(
                *(tumbling.windows, tumbling.in_slot, tumbling.by_name, tumbling.progress),
                *(self._keys, left_out, symbols.is_pair, tumbling.lateness, batch.now, batch.start, position),
                *(trades.ints, trades.floats, tumbling.ints, tumbling.floats),
            )
            if position == len(batch.now):
                break
            if position < 0:
                raise ShapeError(self._breach(batch))
            if 2 * tumbling.progress[KEYS] >= len(self._keys):
                self._rebuild_keys(self._live_keys())
            else:
                tumbling.enlarge()
        late, duplicates, excluded = tumbling.progress[LATE:].tolist()
        batch.late += late
        batch.duplicates += duplicates
        batch.excluded += excluded + int(tumbling.progress[UNPRICED])
        if tumbling.progress[ROW]:
            bars = tumbling.bars(symbols)
            batch.microbars = merge(symbols, batch.microbars, bars) if len(batch.microbars) else bars
        return batch

    def _override(self, batch: Batch, own: SaleConditions) -> NDArray[np.uint8]:
        """Make the parameters say what this batch's prints count for, here and for all who read the batch after."""
        known = self._left_out.shape[1]
        if known < len(batch.symbols.conditions):
            self._left_out = np.append(self._left_out, own.table(batch.symbols.conditions[known:]), axis=1)
        batch.left_out = self._left_out
        return self._left_out

    def _live_keys(self) -> NDArray[Any]:
        is_live = (self._keys["key"] != 0) & (self._keys["number"] >= self._tumbling.progress[FIRST_OPEN])
        live: NDArray[Any] = self._keys[is_live]
        return live

    def _rebuild_keys(self, live: NDArray[Any]) -> None:
        """Rebuild the table of identities, with room for as many again."""
        self._keys = np.zeros(max(1 << 10, 1 << (4 * len(live)).bit_length()), KEY)
        self._remember_all(self._keys, live)
        self._tumbling.progress[KEYS] = len(live)

    def _breach(self, batch: Batch) -> str:
        trade = self._tumbling.progress[TRADE]
        row = {name: int(getattr(batch.trades, name)[trade]) for name in ("at", "event_ts", "symbol", "conditions")}
        return (
            f"microbars: trade {row} at loop time {batch.now[row['at'] - batch.start]} is ahead of the loop, or not one of"
            f" the table's {len(batch.symbols)} symbols and {len(batch.symbols.conditions)} conditions"
        )

    def save_state(self) -> dict[str, Any]:
        """Return the state by name: open `windows` (see `Tumbling.save`), and `keys`: rows of window number and identity."""
        if self._saved is not None:
            return self._saved
        live = self._live_keys()
        return {
            "windows": self._tumbling.save(self._symbols),
            "key_symbols": [self._symbols.names[number] for number in live["symbol"]],
            "keys": np.stack([live["number"], live["key"]], axis=1),
        }

    def load_state(self, state: dict[str, Any], version: int) -> None:
        """Resume from what `save_state` gave.

        Raises
        ------
        ValueError : state of another version or shape.
        """
        super().load_state(state, version)
        from_words(state["windows"]["windows"], WINDOW)
        self._clear()
        self._saved = state

    def _adopt(self, symbols: SymbolTable) -> None:
        """Adopt the saved state, or that of the table before, by the names of the symbols."""
        saved = self.save_state()
        self._clear()
        self._symbols = symbols
        self._tumbling.load(symbols, saved["windows"])
        live = np.zeros(len(saved["keys"]), KEY)
        live["symbol"] = [symbols.number(name) for name in saved["key_symbols"]]
        live["number"], live["key"] = np.asarray(saved["keys"], np.int64).reshape(-1, 2).T
        self._rebuild_keys(live)
