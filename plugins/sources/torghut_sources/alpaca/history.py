"""What happened at Alpaca before: pages of its REST interface, as one stream of events.

The venue gives at most 10,000 rows a page, symbol by symbol, and names the next page until there is none: a page may be
short or empty and still not be the last (https://docs.alpaca.markets/reference/stocktrades, read 2026-11-21). Whoever
takes the first answer for the whole gets 290 of 960 bars (https://github.com/alpacahq/alpaca-trade-api-python/issues/588).
So every chain of pages is followed to its end, and one that breaks is an error, never a shorter history.

**Order.** Each channel of each symbol is a chain of its own. What is given out are the rows of all chains that became
known before the last loaded row of every chain that goes on: nothing earlier can still come. A chain is asked for its next
page when that row is its own, or when little of its page is left; so less than two pages of each are held, and pages are the smaller the more chains there are:
memory holds about `ROWS` rows, whatever the interval.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from pydantic import SecretStr

from torghut_core import InputError, IntArray, SettingsError, Throttled, Unanswered, VenueError, format_timestamp
from torghut_sources.alpaca.refusals import handshake_refusal
from torghut_sources.alpaca.settings import HISTORY_CHANNELS, AlpacaSettings
from torghut_sources.alpaca.wire import UNREADABLE, Bar, Complaint, Events, Quote, Trade, Wire

if TYPE_CHECKING:
    import httpx

ROWS = 200_000
"""Rows of all pages that are held, about."""
LARGEST_PAGE = 10_000
SMALLEST_PAGE = 100
"""Rows of one page. Smaller ones would spend the venue's requests (200 a minute, without a plan) on little."""
REQUESTS = 4
"""Requests under way at the same time."""
ATTEMPTS = 8
"""How often one page is asked for before the history is given up."""
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


class History:
    """Asks for what is past. Use it in one event loop, and close it.

    Parameters
    ----------
    settings : where to ask, and how long to wait before a retry.
    key, secret : the account's.
    complain : is told of each row that cannot be used and is left out.
    attempts : how often one page is asked for.
    answer_s : how long one answer may take in all, seconds.
    sleep, chance : how waits are waited, seconds, and numbers from 0 to 1 to draw them with.

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
        self._complain = complain
        self._attempts = attempts
        self._answer_s = answer_s
        self._sleep = sleep
        self._chance = chance
        self._client: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(REQUESTS)
        self._wire = Wire()
        self.retries = 0

    async def aclose(self) -> None:
        """Let go of the connections; closing twice is harmless."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def events(
        self, channels: Sequence[str], symbols: Sequence[str], since: int, until: int
    ) -> AsyncGenerator[Events, None]:
        """Yield what has an `event_ts` from `since` up to, not including, `until` (ns), in the order in which it became known.

        Equals stand in the order bars, quotes, trades, then by symbol, then as the venue gives them. Every channel and
        symbol is given to its end, or this raises.

        Raises
        ------
        InputError : a channel without a history; `SettingsError` : the venue refuses the keys, or the plan has no such feed.
        VenueError : the venue does not answer (`Unanswered`), has enough of us (`Throttled`), or refuses the request.
        """
        unknown = set(channels) - set(HISTORY_CHANNELS)
        if unknown:
            raise InputError(f"no history of {', '.join(sorted(unknown))} (use {', '.join(HISTORY_CHANNELS)})")
        wanted = [
            (channel, symbol) for channel in HISTORY_CHANNELS if channel in channels for symbol in sorted(set(symbols))
        ]
        if since >= until or not wanted:
            return
        limit = min(LARGEST_PAGE, max(SMALLEST_PAGE, ROWS // len(wanted)))
        chains = [_Chain(self, channel, symbol, since, until, limit) for channel, symbol in wanted]
        await _together([chain.load() for chain in chains])
        while True:
            horizon = min(chain.until for chain in chains)
            ready = [part for chain in chains if len(part := chain.take(horizon))]
            if ready:
                events = Events.concatenate(ready)
                order = np.argsort(events.known_ts(), kind="stable")
                yield events.take(order)
            if horizon == NEVER:
                return
            await _together([chain.load() for chain in chains if chain.until == horizon or chain.is_low])

    async def page(self, channel: str, symbol: str, query: dict[str, str]) -> tuple[Events, str | None]:
        """One page of a symbol, and the token of the next; raises as `events`."""
        url, params = self._settings.history_url(channel), self._settings.history_query(channel)
        params |= {"symbols": symbol} | query
        wait_ms = self._settings.reconnect_base_ms
        for attempt in range(1, self._attempts + 1):
            try:
                async with self._slots:
                    body = await self._get(url, params)
                return self._read(channel, symbol, body)
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
            self._client = httpx.AsyncClient(headers=self._headers, timeout=self._answer_s)
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
        said = " ".join(answer.text.split())[:LONGEST_TEXT]
        message = f"{url} answered HTTP {answer.status_code}: {said}"
        if answer.status_code == 429:
            raise Throttled(message, _retry_after(answer.headers, time.time()))
        if answer.status_code >= 500 or answer.status_code == 408:
            raise Unanswered(message)
        if answer.status_code in (401, 403):
            raise SettingsError(f"{message} ({handshake_refusal(answer.status_code).mend}; for a feed, ALPACA_FEED)")
        raise VenueError(message)

    def _read(self, channel: str, symbol: str, body: bytes) -> tuple[Events, str | None]:
        try:
            page = PAGES[channel].decode(body)
            rows = _rows(page, channel, symbol)
        except UNREADABLE:
            try:
                page = _RAW_PAGE.decode(body)
            except UNREADABLE as error:
                raise Unanswered(f"no page of {channel} of {symbol}: {error}: {body[:LONGEST_TEXT]!r}") from None
            rows = self._salvage(channel, _rows(page, channel, symbol))
        for row in rows:
            row.symbol = symbol
        complaints: list[Complaint] = []
        events = self._wire.timed(rows, complaints)
        for complaint in complaints:
            self._complain(complaint)
        return events, page.next_page_token or None

    def _salvage(self, channel: str, raws: list[msgspec.Raw]) -> list[Any]:
        rows = []
        for raw in raws:
            try:
                rows.append(EVENTS[channel].decode(raw))
            except UNREADABLE as error:
                self._complain(Complaint("message", f"{error}: {bytes(raw)[:LONGEST_TEXT]!r}"))
        return rows


class _Chain:
    """The pages of one symbol in one channel; what is not loaded became known at `until` or later."""

    def __init__(self, history: History, channel: str, symbol: str, since: int, until: int, limit: int) -> None:
        self._history = history
        self._channel = channel
        self._symbol = symbol
        self._since = since
        self._end = until
        self._query = {"start": format_timestamp(since), "end": format_timestamp(until - 1), "limit": str(limit)}
        self._token: str | None = None
        self._low = limit // 2
        self._loaded = _NOTHING
        self._known: IntArray = _NOTHING.event_ts
        self._given = -NEVER
        self.until = -NEVER

    @property
    def is_low(self) -> bool:
        """Whether to get the next page already, beside those of others."""
        return self.until < NEVER and len(self._loaded) < self._low

    async def load(self) -> None:
        """Get pages until one has rows, or there is none."""
        while True:
            query = self._query if self._token is None else self._query | {"page_token": self._token}
            events, token = await self._history.page(self._channel, self._symbol, query)
            if token is not None and token == self._token:
                raise Unanswered(
                    f"{self._channel} of {self._symbol}: the venue names the same page again ({token[:40]})"
                )
            self._token = token
            self._append(events)
            if token is None:
                self.until = NEVER
            if token is None or len(events):
                return

    def take(self, horizon: int) -> Events:
        """What became known before `horizon`."""
        self._given = horizon
        cut = int(np.searchsorted(self._known, horizon))
        if not cut:
            return _NOTHING
        ready = self._loaded.take(np.arange(cut))
        self._loaded = self._loaded.take(np.arange(cut, len(self._loaded)))
        self._known = self._known[cut:]
        return ready

    def _append(self, events: Events) -> None:
        known = events.known_ts()
        if not len(known):
            return
        if known.min() < self._given:
            raise Unanswered(f"{self._channel} of {self._symbol}: the venue's pages are not in order of time")
        self.until = max(self.until, int(known.max()))
        inside = events.take(np.flatnonzero((events.event_ts >= self._since) & (events.event_ts < self._end)))
        loaded = Events.concatenate([self._loaded, inside])
        known = loaded.known_ts()
        order = np.argsort(known, kind="stable")
        self._loaded, self._known = loaded.take(order), known[order]


_NOTHING = Events([], np.empty(0, np.int64))


async def _together(tasks: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all at the same time; where one fails, end the others and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _rows(page: Any, channel: str, symbol: str) -> list[Any]:
    """The rows of a page that holds one symbol's at most."""
    by_symbol = getattr(page, channel) or {}
    others = by_symbol.keys() - {symbol}
    if others:
        raise Unanswered(f"{channel} of {symbol} were asked for, and of {', '.join(sorted(others))[:40]} given")
    return by_symbol.get(symbol) or []


def _retry_after(headers: httpx.Headers, now: float) -> float | None:
    """Seconds to wait, at least 0: of ``Retry-After``, or until ``X-Ratelimit-Reset``, an epoch second; None where neither."""
    for name, start in (("Retry-After", 0.0), ("X-Ratelimit-Reset", now)):
        try:
            wait = float(headers.get(name, "")) - start
        except ValueError:
            continue
        if wait == wait and wait < float("inf"):
            return max(0.0, wait)
    return None
