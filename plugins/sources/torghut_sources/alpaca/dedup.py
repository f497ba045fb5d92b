"""Each event once: events that were given out before are dropped, by their identity.

The history of a gap is requested from a while before the last event on, as events of a stream overtake each other and bars
come some time after their end. So its ends overlap what the stream gave before and gives after. The identity of a trade is
its symbol, exchange, id and UTC day (ids of equities begin anew each day); of everything else its symbol, time and values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from torghut_core import DAY, IntArray, SymbolTable
from torghut_core.stages import kernel
from torghut_sources.alpaca.events import Events
from torghut_sources.alpaca.messages import Bar, Quote, Trade, UpdatedBar

SMALLEST = 1 << 12
"""Places of a new table."""


@kernel
def admit(table: IntArray, older: IntArray, ids: IntArray, is_new: NDArray[np.bool_], start: int, count: int) -> Any:
    """Put identities from `start` on into a hash table that is at most half full, and mark those that were in neither table.

    Returns
    -------
    Where it stopped, because the table is full or all are done; how many the table holds now; and what was fetched ahead,
    returned only so that the compiler does not leave the fetching out.
    """
    mask, older_mask = len(table) - 1, len(older) - 1
    touched = 0
    for here in range(start, len(ids)):  # fetches all places at once, so that what follows waits for memory less often
        mixed = ids[here] * 0x27D4EB2F165667C5
        mixed ^= mixed >> 32
        touched ^= table[mixed & mask] ^ older[mixed & older_mask]
    for here in range(start, len(ids)):
        if 2 * count >= len(table):
            return here, count, touched
        key = ids[here]
        mixed = key * 0x27D4EB2F165667C5
        mixed ^= mixed >> 32
        place = mixed & older_mask
        while older[place] != 0 and older[place] != key:
            place = (place + 1) & older_mask
        is_known = older[place] == key
        place = mixed & mask
        while table[place] != 0 and table[place] != key:
            place = (place + 1) & mask
        if table[place] == 0:
            table[place] = key
            count += 1
            is_new[here] = not is_known
        else:
            is_new[here] = False
    return len(ids), count, touched


@kernel
def identify(
    keys: IntArray, symbols: IntArray, event_ts: IntArray, in_quotes: IntArray, quotes: IntArray, ids: IntArray
) -> None:
    """Identities of trades by key, symbol number and day, and of quotes by symbol number, time and the bits of their values."""
    for here in range(len(keys)):
        key = (keys[here] ^ (symbols[here] * 0x27D4EB2F165667C5)) * 0x1E3779B97F4A7C15 + event_ts[here] // DAY
        ids[here] = key if key != 0 else 1
    for row in range(len(in_quotes)):
        here = in_quotes[row]
        key = event_ts[here] ^ (symbols[here] * 0x27D4EB2F165667C5)
        for value in range(4):
            key = (key ^ quotes[value, row]) * 0x1E3779B97F4A7C15
            key ^= key >> 29
        ids[here] = key if key != 0 else 1


class Recent:
    """Remembers the last identities, at least `capacity` of them; memory grows up to some 32 bytes for each.

    Two tables take turns: when one is full the other is forgotten.
    """

    def __init__(self, capacity: int) -> None:
        self._largest = max(SMALLEST, 1 << (2 * capacity - 1).bit_length())
        self._table = np.zeros(SMALLEST, np.int64)
        self._older = np.zeros(SMALLEST, np.int64)
        self._count = 0

    def admit(self, ids: IntArray) -> NDArray[np.bool_]:
        """Return which of the identities (none is 0) are new, and remember all."""
        is_new = np.empty(len(ids), np.bool_)
        done, self._count, _ = admit(self._table, self._older, ids, is_new, 0, self._count)
        while done < len(ids):
            self._make_room()
            done, self._count, _ = admit(self._table, self._older, ids, is_new, done, self._count)
        return is_new

    def _make_room(self) -> None:
        size = len(self._table)
        if size == self._largest:
            self._older, self._table, self._count = self._table, np.zeros(size, np.int64), 0
            return
        kept = self._table[self._table != 0]
        self._table = np.zeros(2 * size, np.int64)
        _, self._count, _ = admit(self._table, np.zeros(1, np.int64), kept, np.empty(len(kept), np.bool_), 0, 0)


class Once:
    """Lets each event through once.

    Bars and statuses are few and come late, so they are remembered apart.

    Attributes
    ----------
    drops : events dropped, by channel.
    """

    def __init__(self, capacity: int) -> None:
        self._often, self._seldom = Recent(capacity), Recent(capacity)
        self.drops: Counter[str] = Counter()

    def pass_on(self, events: Events, symbols: SymbolTable) -> Events:
        """Return the events that were not there before, in their order; `symbols` is the same table each time."""
        items = events.items
        if not items:
            return events
        ids, is_often = identities(events, symbols)
        if is_often.all():
            is_new = self._often.admit(ids)
        else:
            is_new = np.empty(len(ids), np.bool_)
            is_new[is_often] = self._often.admit(ids[is_often])
            is_new[~is_often] = self._seldom.admit(ids[~is_often])
        if is_new.all():
            return events
        self.drops.update(channel_of(items[place]) for place in np.flatnonzero(~is_new).tolist())
        return events.take(np.flatnonzero(is_new))


def identities(events: Events, symbols: SymbolTable) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return the identity of each event, never 0, valid for one `symbols`; and which are trades and quotes."""
    items, event_ts, keys = events.items, events.event_ts, events.trade_keys()
    ids = np.empty(len(items), np.int64)
    is_other = keys == 0
    is_often = np.ones(len(items), np.bool_)
    in_quotes = events.parts[1][1]
    identify(keys, events.numbers(symbols), event_ts, in_quotes, events.quote_values().view(np.int64), ids)
    is_other[in_quotes] = False
    for place in np.flatnonzero(is_other).tolist():
        item = items[place]
        kind = type(item)
        ids[place] = hash((int(event_ts[place]), _VALUES.get(kind, repr)(item))) or 1
        is_often[place] = kind is Trade
    return ids, is_often


def channel_of(event: Any) -> str:
    """Return the channel of the envelope of an event."""
    return _CHANNELS.get(type(event), "status")


def _values(kind: type[msgspec.Struct]) -> Callable[[Any], Any]:
    """Return a getter of all fields but the time, whose form differs by encoding."""
    return attrgetter(*(field for field in kind.__struct_fields__ if field != "time"))


_CHANNELS: dict[type, str] = {Trade: "trades", Quote: "quotes", Bar: "bars", UpdatedBar: "bars"}
_VALUES: dict[type, Callable[[Any], Any]] = {kind: _values(kind) for kind in (Trade, Bar, UpdatedBar)}
