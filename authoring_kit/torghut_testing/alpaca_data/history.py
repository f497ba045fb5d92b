"""The events so far, and the pages of them that REST returns."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from torghut_testing.alpaca.wire import read_timestamp
from torghut_testing.alpaca_data.events import Event

MOST_ROWS = 10_000
_SERIES = {"t": "trades", "q": "quotes", "b": "bars/1Min", "u": "bars/1Min", "d": "bars/1Day"}
_END_OF_TIME = 2**63 - 1


class BadRequest(Exception):
    """A request that is refused with a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Series:
    """Events of one kind and symbol: rising times, and rows."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.rows: list[bytes] = []

    def add(self, at: int, row: bytes, *, replaces: bool) -> int:
        """Insert a row by its time; return by how much the series grew."""
        if not self.times or at > self.times[-1]:
            self.times.append(at)
            self.rows.append(row)
            return 1
        place = bisect_right(self.times, at)
        if replaces and self.times[place - 1] == at:
            self.rows[place - 1] = row
            return 0
        self.times.insert(place, at)
        self.rows.insert(place, row)
        return 1

    def forget(self, count: int) -> None:
        """Drop the oldest rows."""
        del self.times[:count], self.rows[:count]


class _Place(msgspec.Struct, array_like=True):
    """Where the next page begins: after `skip` rows of `symbol` at time `at`; `empty` numbers empty pages."""

    symbol: str
    at: int
    skip: int
    empty: int = 0


class History:
    """Trades, quotes and bars, up to now.

    Parameters
    ----------
    limit : rows that are kept, all series together; the oldest go first, a fifth at a time, and are in `forgotten`.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.forgotten = 0
        self.empty_pages = 0
        """Number of pages to return next without rows, with a token for the page after."""
        self._series: dict[tuple[str, str], _Series] = {}
        self._rows = 0

    def add(self, events: Iterable[Event]) -> None:
        """Add events; an updated bar replaces its bar, and kinds that REST does not have are left out."""
        for event in events:
            name = _SERIES.get(event.kind)
            if name is None:
                continue
            series = self._series.get((name, event.symbol))
            if series is None:
                series = self._series[name, event.symbol] = _Series()
            self._rows += series.add(event.at, event.row, replaces=event.kind in "bud")
        while self._rows > self.limit:
            for series in self._series.values():
                count = -(-len(series.times) // 5)
                series.forget(count)
                self._rows -= count
                self.forgotten += count

    def page(self, channel: str, query: str, *, is_crypto: bool) -> dict[str, Any]:
        """The page for a query: ``{channel: {symbol: rows}, "next_page_token": ...}``.

        Raises
        ------
        BadRequest : a parameter that Alpaca would refuse, or that this fake does not support.
        """
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        symbols = sorted({name for name in asked.get("symbols", "").split(",") if name})
        if not symbols:
            raise BadRequest(400, "symbols is required")
        wrong = [name for name in symbols if ("/" in name) != is_crypto]
        if wrong:
            raise BadRequest(400, f"invalid symbol: {wrong[0]}")
        if asked.get("sort", "asc") != "asc":
            raise BadRequest(400, "this fake sorts asc only")
        name = channel
        if channel == "bars":
            name = f"bars/{_timeframe(asked.get('timeframe', ''))}"
        start, end = _time(asked, "start", 0), _time(asked, "end", _END_OF_TIME)
        limit = _limit(asked.get("limit", "1000"))
        place = _read_token(asked["page_token"]) if asked.get("page_token") else _Place(symbols[0], start, 0)
        if self.empty_pages:
            place.empty = self.empty_pages
            self.empty_pages -= 1
            return {channel: {}, "next_page_token": _token(place)}
        page: dict[str, list[msgspec.Raw]] = {}
        left = limit
        for symbol in symbols[bisect_left(symbols, place.symbol) :]:
            series = self._series.get((name, symbol))
            if series is None:
                continue
            first = bisect_left(series.times, start)
            if symbol == place.symbol:
                first = max(first, bisect_left(series.times, place.at) + place.skip)
            until = bisect_right(series.times, end)
            if first >= until:
                continue
            if not left:
                return {channel: page, "next_page_token": _token(_after(series, symbol, first))}
            stop = min(until, first + left)
            page[symbol] = [msgspec.Raw(row) for row in series.rows[first:stop]]
            left -= stop - first
            if stop < until:
                return {channel: page, "next_page_token": _token(_after(series, symbol, stop))}
        return {channel: page, "next_page_token": None}


def _after(series: _Series, symbol: str, stop: int) -> _Place:
    """The place of row `stop`, given by its time, so that rows that are inserted before it do not move it."""
    at = series.times[stop]
    return _Place(symbol, at, stop - bisect_left(series.times, at))


def _token(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _read_token(text: str) -> _Place:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Place)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise BadRequest(400, "invalid page_token") from None


def _timeframe(text: str) -> str:
    known = {"1Min": "1Min", "1T": "1Min", "1Day": "1Day", "1D": "1Day"}
    if text not in known:
        raise BadRequest(400, f"invalid timeframe: {text!r} (this fake has 1Min and 1Day)")
    return known[text]


def _time(asked: dict[str, str], name: str, default: int) -> int:
    if name not in asked:
        return default
    try:
        return read_timestamp(asked[name])
    except ValueError:
        raise BadRequest(400, f"invalid {name}: {asked[name]}") from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_ROWS):
        raise BadRequest(400, f"invalid limit: {text} (from 1 to {MOST_ROWS})")
    return int(text)
