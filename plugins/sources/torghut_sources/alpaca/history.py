"""Alpaca's history: pages of its REST interface, as one stream of events.

The venue gives at most 10,000 rows a page, of many symbols in one request: all of the first symbol, then of the next. It
names the next page until there is none: a page may be short or empty and still not be the last
(https://docs.alpaca.markets/reference/stocktrades, read 2026-11-21). Who takes the first page for the whole answer gets 290
of 960 bars (https://github.com/alpacahq/alpaca-trade-api-python/issues/588). So all pages are followed to the end, and a
failure on the way is an error, never a shorter history.

**Slices.** Requests are scarce (200 a minute, without a plan), so all symbols of a channel are requested together. As they
come one after the other, nothing of a page can be given out before the last one came: so the time is cut into slices, and
each is loaded completely. The length of a slice is chosen to fill two thirds of the available rows, by the rate of the
slice before it. A slice that turns out too large is abandoned, and requested again up to a time that its rows suggest. Then
the symbols that had come have no more than their share of the rows, so it can only be too large again for a symbol after
them; and a slice of a nanosecond is taken as it is. So memory holds about `ROWS` rows, whatever the interval and the traffic.

**Order.** Each channel has slices of its own: a few of bars reach as far as many of quotes. Events are given out when they
became known before the end of every channel's slice: nothing earlier can still come.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import date
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np
from pydantic import SecretStr

from torghut_core import (
    MINUTE,
    CorporateAction,
    InputError,
    IntArray,
    SettingsError,
    Throttled,
    Unanswered,
    VenueError,
    format_timestamp,
    retry_after,
)
from torghut_sources.alpaca.corporate_actions import actions_query, read_actions
from torghut_sources.alpaca.events import Events
from torghut_sources.alpaca.messages import Bar, Quote, Trade
from torghut_sources.alpaca.refusals import handshake_refusal
from torghut_sources.alpaca.settings import HISTORY_CHANNELS, AlpacaSettings
from torghut_sources.alpaca.wire import Complaint, Wire

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

ROWS = 200_000
"""Rows of all slices in memory, about."""
LARGEST_PAGE = 10_000
"""Rows of one page at most."""
FILL = 2 / 3
"""How full a slice is planned to be: traffic may grow by half before one has to be abandoned."""
FIRST_RATE = 1e-9
"""Rows per nanosecond and symbol that the first slice assumes."""
GROWTH = 8
"""How many times as long as the slice before it a slice may be."""
LONGEST_LIST = 4000
"""Characters of symbols in one address: servers commonly refuse some 8,000 in all."""
PIECE = 10_000
"""Rows that are given out at a time at most."""
REQUESTS = 4
"""Requests under way at the same time."""
ATTEMPTS = 8
"""How often one page is requested before the history fails."""
ANSWER_S = 30.0
"""How long one answer may take in all, seconds."""
LONGEST_WAIT_S = 120.0
"""The longest wait that the venue may ask for between two attempts, seconds."""
LONGEST_TEXT = 300
"""Characters of an answer that an error shows."""
NEVER = 2**63 - 1


class _Bars(msgspec.Struct):
    next_page_token: str | None
    bars: dict[str, list[Bar[str]] | None] | None


class _Quotes(msgspec.Struct):
    next_page_token: str | None
    quotes: dict[str, list[Quote[str]] | None] | None


class _Trades(msgspec.Struct):
    next_page_token: str | None
    trades: dict[str, list[Trade[str]] | None] | None


class _RawPage(msgspec.Struct):
    """A page of which not all rows can be used."""

    next_page_token: str | None
    bars: dict[str, list[msgspec.Raw] | None] | None = None
    quotes: dict[str, list[msgspec.Raw] | None] | None = None
    trades: dict[str, list[msgspec.Raw] | None] | None = None


PAGES: dict[str, Any] = {
    channel: msgspec.json.Decoder(page)
    for channel, page in zip(HISTORY_CHANNELS, (_Bars, _Quotes, _Trades), strict=True)
}
EVENTS: dict[str, Any] = {
    channel: msgspec.json.Decoder(event)
    for channel, event in zip(HISTORY_CHANNELS, (Bar[str], Quote[str], Trade[str]), strict=True)
}
_RAW_PAGE = msgspec.json.Decoder(_RawPage)


class Page(NamedTuple):
    """An answer: rows, those that had to be left out, and the token of the next page."""

    events: Events
    complaints: list[Complaint]
    token: str | None


class History:
    """Requests past events. Use it in one event loop, and close it.

    Parameters
    ----------
    settings : where to ask, and how long to wait before a retry.
    key, secret : the account's.
    complain : called once for each row that cannot be used and is dropped.
    rows, page : how many rows are in memory, about, and how many one page may have.
    attempts : how often one page is requested.
    answer_s : how long one answer may take in all, seconds.
    sleep, chance : how to wait, seconds, and numbers from 0 to 1 to draw the pauses with.

    Attributes
    ----------
    retries : requests that had to be made again.
    """

    def __init__(
        self,
        settings: AlpacaSettings,
        key: SecretStr,
        secret: SecretStr,
        *,
        complain: Callable[[Complaint], None],
        rows: int = ROWS,
        page: int = LARGEST_PAGE,
        attempts: int = ATTEMPTS,
        answer_s: float = ANSWER_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._headers = {
            "APCA-API-KEY-ID": key.get_secret_value(),
            "APCA-API-SECRET-KEY": secret.get_secret_value(),
            "Accept": "application/json",
        }
        self.complain = complain
        self._rows = rows
        self._page = page
        self._attempts = attempts
        self._answer_s = answer_s
        self._sleep = sleep
        self._chance = chance
        self._client: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(REQUESTS)
        self._wire = Wire()
        self.retries = 0

    async def aclose(self) -> None:
        """Close the connections; closing twice is harmless."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def events(
        self, channels: Sequence[str], symbols: Sequence[str], since: int, until: int
    ) -> AsyncGenerator[Events, None]:
        """Yield what has an `event_ts` from `since` up to, not including, `until` (ns), in the order in which it became known.

        Events of the same time are in the order bars, quotes, trades, then by symbol, then as the venue gives them. Every
        channel and symbol is given to its end, or this raises.

        Raises
        ------
        InputError : a channel without a history; `SettingsError` : the venue refuses the keys, or the plan has no such feed.
        VenueError : the venue does not answer (`Unanswered`), limits our requests (`Throttled`), or refuses the request.
        """
        unknown = set(channels) - set(HISTORY_CHANNELS)
        if unknown:
            raise InputError(f"no history of {', '.join(sorted(unknown))} (use {', '.join(HISTORY_CHANNELS)})")
        if since >= until or not symbols:
            return
        names = sorted(set(symbols))
        series = [_Series(self, channel, names, since, until) for channel in HISTORY_CHANNELS if channel in channels]
        while (horizon := min((each.until for each in series), default=NEVER)) < NEVER:
            loading = [each for each in series if each.until == horizon]
            room = (self._rows - sum(map(len, series))) // len(loading)
            await _together([each.load(max(room, self._page)) for each in loading])
            for piece in _merged(series):
                yield piece

    async def page(self, channel: str, symbols: Sequence[str], start: int, stop: int, token: str | None = None) -> Page:
        """Return what happened from `start` up to `stop`, ns, or the next page of it; raises as `events`."""
        url, params = self._settings.history_url(channel), self._settings.history_query(channel)
        params |= {
            "symbols": ",".join(symbols),
            "start": format_timestamp(start),
            "end": format_timestamp(stop - 1),
            "limit": str(self._page),
        }
        if token is not None:
            params["page_token"] = token
        return await self._ask(url, params, lambda body: self._read(channel, symbols, body))

    async def actions(self, symbols: Sequence[str], since: date, until: date) -> list[CorporateAction]:
        """Return the splits and cash dividends with an ex date from `since` up to, not including, `until`; raises as `events`."""
        url = f"{self._settings.alpaca_base_url}/v1/corporate-actions"
        found: list[CorporateAction] = []
        for group in _groups(sorted(set(symbols))):
            params = actions_query(group, since, until)
            named = set[str]()
            while True:
                actions, token = await self._ask(url, params, read_actions)
                found += [action for action in actions if since <= action.ex_date < until]
                if token is None:
                    break
                if token in named:
                    raise Unanswered(f"corporate actions: the venue names the same page again ({token[:40]})")
                named.add(token)
                params = params | {"page_token": token}
        return sorted(found, key=attrgetter("ex_date", "symbol", "is_split"))

    async def _ask(self, url: str, params: dict[str, str], read: Callable[[bytes], T]) -> T:
        """Return what `read` makes of an answer; one that does not come, or that it does not understand, is asked for again."""
        wait_ms = self._settings.reconnect_base_ms
        for attempt in range(1, self._attempts + 1):
            try:
                async with self._slots:
                    body = await self._get(url, params)
                return read(body)
            except (Unanswered, Throttled) as error:
                if attempt == self._attempts:
                    raise
                self.retries += 1
                asked = error.retry_after if isinstance(error, Throttled) else None
                drawn = self._chance() * min(wait_ms, self._settings.reconnect_max_ms) / 1000
                await self._sleep(drawn if asked is None else min(asked, LONGEST_WAIT_S) + drawn)
                wait_ms *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _get(self, url: str, params: dict[str, str]) -> bytes:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(
                headers=self._headers,
                timeout=self._answer_s,
                trust_env=url.startswith("https:"),  # a proxy of the environment would see the keys in plain http
            )
        try:
            async with asyncio.timeout(self._answer_s):
                answer = await self._client.get(url, params=params)
        except TimeoutError:
            raise Unanswered(f"{url} did not answer within {self._answer_s:g} s") from None
        except httpx.InvalidURL as error:
            raise SettingsError(f"ALPACA_BASE_URL: {error}") from None
        except httpx.HTTPError as error:
            raise Unanswered(f"{url}: {type(error).__name__}: {error}") from None
        if answer.status_code == 200:
            return answer.content
        body = " ".join(answer.text.split())[:LONGEST_TEXT]
        message = f"{url} answered HTTP {answer.status_code}: {body}"
        if answer.status_code == 429:
            raise Throttled(message, retry_after(answer.headers, time.time()))
        if answer.status_code >= 500 or answer.status_code == 408:
            raise Unanswered(message)
        if answer.status_code in (401, 403):
            raise SettingsError(f"{message} ({handshake_refusal(answer.status_code).hint}; for a feed, ALPACA_FEED)")
        raise VenueError(message)

    def _read(self, channel: str, symbols: Sequence[str], body: bytes) -> Page:
        complaints: list[Complaint] = []
        try:
            page = PAGES[channel].decode(body)
            found = _rows(page, channel, symbols)
        except Exception:  # whatever the bytes are
            try:
                page = _RAW_PAGE.decode(body)
            except Exception as error:  # as above
                subject = _subject(channel, symbols)
                raise Unanswered(f"no page of {subject}: {error}: {body[:LONGEST_TEXT]!r}") from None
            raws = _rows(page, channel, symbols)
            found = {symbol: _salvage(channel, of, complaints) for symbol, of in raws.items()}
        for symbol, rows in found.items():
            for row in rows:
                row.symbol = symbol
        events = self._wire.timed([row for rows in found.values() for row in rows], complaints)
        return Page(events, complaints, page.next_page_token or None)


class _Series:
    """A channel of some symbols, loaded a slice at a time; what is not loaded became known at `until` or later."""

    def __init__(self, history: History, channel: str, symbols: Sequence[str], since: int, until: int) -> None:
        self._history = history
        self._channel = channel
        self._groups = _groups(symbols)
        self._ranks = {symbol: rank for rank, symbol in enumerate(symbols)}
        self._delay = MINUTE if channel == "bars" else 0
        self._next = since
        self._end = until
        self._rate = FIRST_RATE * len(symbols)
        self._longest = until - since
        self._loaded = _NOTHING
        self._known: IntArray = _NOTHING.event_ts
        self.until = -NEVER

    def __len__(self) -> int:
        return len(self._loaded)

    async def load(self, room: int) -> None:
        """Load the next slice, of about `room` rows at most, once the one before was taken."""
        span = min(self._longest, self._end - self._next, int(FILL * room / self._rate))
        stop = self._next + max(1, span)
        while isinstance(found := await self._slice(self._next, stop, room), int):
            stop = found
        for page in found:
            for complaint in page.complaints:
                self._history.complain(complaint)
        events = Events.concatenate([page.events for page in found])
        ranks = np.fromiter((self._ranks[event.symbol] for event in events.items), np.int64, len(events))
        self._loaded = events.take(np.lexsort((ranks, events.event_ts)))
        self._known = self._loaded.known_ts()
        span = stop - self._next
        self._rate, self._longest = max(1, len(events)) / span, GROWTH * span
        self._next = stop
        self.until = self._next + self._delay if self._next < self._end else NEVER

    def take(self, horizon: int) -> Events:
        """Take what became known before `horizon`."""
        cut = int(np.searchsorted(self._known, horizon))
        if not cut:
            return _NOTHING
        ready = self._loaded.take(np.arange(cut))
        self._loaded = self._loaded.take(np.arange(cut, len(self._loaded)))
        self._known = self._known[cut:]
        return ready

    async def _slice(self, start: int, stop: int, room: int) -> list[Page] | int:
        """Return the pages from `start` up to `stop`; or, where they exceed `room`, the time up to which to request again."""
        pages: list[Page] = []
        rows = 0
        last = _NOTHING
        for group in self._groups:
            token, named = None, set[str]()
            while True:
                if rows >= room and stop - start > 1:
                    times = np.sort(np.concatenate([page.events.event_ts for page in pages]))
                    begun = self._ranks[last.items[-1].symbol] + 1
                    return max(start + 1, int(times[int(FILL * room * begun / len(self._ranks))]))
                page = await self._history.page(self._channel, group, start, stop, token)
                events = page.events
                events = events.take(np.flatnonzero((events.event_ts >= start) & (events.event_ts < stop)))
                pages.append(page._replace(events=events))
                if len(events):
                    self._check_order(last, events)
                    last = events
                    rows += len(events)
                token = page.token
                if token is None:
                    break
                if token in named:
                    subject = _subject(self._channel, group)
                    raise Unanswered(f"{subject}: the venue names the same page again ({token[:40]})")
                named.add(token)
        return pages

    def _check_order(self, before: Events, after: Events) -> None:
        """Raise unless a symbol continues where the page before stopped."""
        if len(before):
            symbol = before.items[-1].symbol
            if symbol == after.items[0].symbol and after.event_ts[0] < before.event_ts[-1]:
                raise Unanswered(f"{self._channel} of {symbol}: the venue's pages are not in order of time")


_NOTHING = Events([], np.empty(0, np.int64))


async def _together(tasks: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all concurrently; where one fails, cancel the others and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _merged(series: Sequence[_Series]) -> Iterator[Events]:
    """Take the events before which nothing can come any more, in order, in pieces."""
    horizon = min(each.until for each in series)
    events = Events.concatenate([each.take(horizon) for each in series])
    order = np.argsort(events.known_ts(), kind="stable")
    for start in range(0, len(order), PIECE):
        yield events.take(order[start : start + PIECE])


def _groups(symbols: Sequence[str]) -> list[list[str]]:
    """Split the symbols into lists that fit into an address."""
    groups: list[list[str]] = []
    left = 0
    for symbol in symbols:
        length = len(quote(symbol, safe="")) + len("%2C")
        if length > left:
            groups.append([])
            left = LONGEST_LIST
        groups[-1].append(symbol)
        left -= length
    return groups


def _salvage(channel: str, raws: list[msgspec.Raw], complaints: list[Complaint]) -> list[Any]:
    """Return the rows that can be used."""
    rows = []
    for raw in raws:
        try:
            rows.append(EVENTS[channel].decode(raw))
        except Exception as error:  # whatever the bytes are
            complaints.append(Complaint("message", f"{error}: {bytes(raw)[:LONGEST_TEXT]!r}"))
    return rows


def _rows(page: Any, channel: str, symbols: Sequence[str]) -> dict[str, list[Any]]:
    """Return the rows of a page by symbol."""
    found = getattr(page, channel) or {}
    others = found.keys() - set(symbols)
    if others:
        named = ", ".join(sorted(others))[:40]
        raise Unanswered(f"{_subject(channel, symbols)} were requested, and the venue gave {named}")
    return {symbol: rows or [] for symbol, rows in found.items()}


def _subject(channel: str, symbols: Sequence[str]) -> str:
    """Describe what was requested, in few words."""
    more = f" and {len(symbols) - 3} more" if len(symbols) > 3 else ""
    return f"{channel} of {', '.join(symbols[:3])}{more}"
