"""Alpaca's history: every page to the end, in order, or an error."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from torghut_sources.alpaca.history import History
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.alpaca.wire import Bar, Quote, Trade

from torghut_core import (
    InputError,
    SettingsError,
    Throttled,
    Unanswered,
    VenueError,
    format_timestamp,
    parse_timestamp,
)

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
T0 = 1_770_564_600 * SECOND
TRADE = {"p": 2.5, "s": 1, "i": 1, "x": "V"}
QUOTE = {"bp": 1, "bs": 2, "ap": 3, "as": 4}
BAR = {"o": 2, "h": 2, "l": 2, "c": 2, "v": 1, "n": 1, "vw": 2}


class Venue:
    """A small HTTP server with rows by (channel, symbol), that serves `faults` first, one for each request."""

    def __init__(self, rows, faults=(), page=3):
        self.rows = rows
        self.faults = list(faults)
        self.page = page
        self.asked = []
        self.under_way = self.most_under_way = 0
        self.slow = asyncio.Event()
        self.served = set()

    @asynccontextmanager
    async def open(self, **settings):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        waits, complaints = [], []

        async def sleep(seconds):
            waits.append(seconds)

        options = {name: settings.pop(name) for name in ("attempts", "answer_s") if name in settings}
        history = History(
            AlpacaSettings(alpaca_base_url=url, **settings), SecretStr("key-id"), SecretStr("secret-key"),
            complain=complaints.append, sleep=sleep, chance=lambda: 0.5, **options,
        )  # fmt: skip
        history.waits, history.complaints = waits, complaints
        try:
            yield history
        finally:
            self.slow.set()
            await history.aclose()
            server.close()
            await asyncio.gather(*self.served)
            await server.wait_closed()

    async def _serve(self, reader, writer):
        self.served.add(asyncio.current_task())
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                await asyncio.sleep(0)
                try:
                    answer = await self._answer(head)
                finally:
                    self.under_way -= 1
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head):
        target = urlsplit(head.split(" ")[1])
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        self.asked.append((target.path, query, fields))
        fault = self.faults.pop(0) if self.faults else None
        if fault == "never":
            await self.slow.wait()
        if fault == "truncated":
            return b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\nConnection: close\r\n\r\n{"next_page_token":null,"tr'
        if isinstance(fault, bytes):
            return http(200, fault)
        if isinstance(fault, tuple):
            return http(fault[0], b'{"message":"said"}', *fault[1:])
        return http(200, json.dumps(self._page(target.path.rpartition("/")[2], query)).encode())

    def _page(self, channel, query):
        start, end = parse_timestamp(query["start"]), parse_timestamp(query["end"])
        symbol = query["symbols"]
        rows = [row for row in self.rows.get((channel, symbol), []) if start <= parse_timestamp(row["t"]) <= end]
        first = int(base64.b64decode(query["page_token"])) if "page_token" in query else 0
        last = first + min(self.page, int(query["limit"]))
        token = base64.b64encode(str(last).encode()).decode() if last < len(rows) else None
        return {channel: {symbol: rows[first:last]} if rows else None, "next_page_token": token}


def http(status, body, *headers):
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def rows(base, *times):
    return [base | {"t": format_timestamp(ns)} for ns in times]


def trades(n, symbol="AAPL", gap=SECOND):
    return {("trades", symbol): [TRADE | {"i": k, "t": format_timestamp(T0 + k * gap)} for k in range(n)]}


def run(case):
    async def limited():
        async with asyncio.timeout(20):
            return await case()

    return asyncio.run(limited())


def collect(venue, channels=("trades",), symbols=("AAPL",), since=T0, until=T0 + 1000 * MINUTE, **settings):
    """What the history gives: (event_ts, event) each, and the history."""

    async def case():
        async with venue.open(**settings) as history:
            parts = [part async for part in history.events(channels, symbols, since, until)]
        return [
            (ts, item) for part in parts for ts, item in zip(part.event_ts.tolist(), part.items, strict=True)
        ], history

    return run(case)


@given(st.data())
@settings(max_examples=25)
def test_all_rows_come_once_and_in_order(data):
    """Whatever the pages, symbols and channels: every row of the interval once, in the order in which it became known."""
    names = ("AAPL", "B", "MSFT")
    kinds = {"bars": BAR, "quotes": QUOTE, "trades": TRADE}
    tape = {
        (channel, name): rows(base, *sorted(data.draw(st.lists(st.integers(T0, T0 + 9).map(lambda n: n), max_size=9))))
        for channel, base in kinds.items()
        for name in names
    }
    since, until = sorted(data.draw(st.tuples(st.integers(T0, T0 + 10), st.integers(T0, T0 + 10))))
    venue = Venue(tape, page=data.draw(st.integers(1, 4)))
    got, _ = collect(venue, ("trades", "bars", "quotes"), names, since, until)
    expected = [
        (channel, name, parse_timestamp(row["t"]))
        for (channel, name), found in tape.items()
        for row in found
        if since <= parse_timestamp(row["t"]) < until
    ]
    order = list(kinds)
    expected.sort(key=lambda row: (row[2] + MINUTE * (row[0] == "bars"), order.index(row[0]), row[1]))
    words = {Bar: "bars", Quote: "quotes", Trade: "trades"}
    assert [(words[type(item)], item.symbol, ts) for ts, item in got] == expected


def test_nanoseconds_and_ids_are_exact():
    """Times keep nine digits, ids all of theirs, and the end is not part of the interval."""
    tape = {("trades", "AAPL"): rows(TRADE | {"i": 7446469938634049684}, T0, T0 + 1, T0 + 2, T0 + 123456789)}
    got, _ = collect(Venue(tape), since=T0 + 1, until=T0 + 123456789)
    assert [ts - T0 for ts, _ in got] == [1, 2]
    assert got[0][1].trade_id == 7446469938634049684


def test_960_bars_are_960_bars():
    """A day's bars come whole, though no page holds more than 290 of them (alpaca-trade-api-python issue 588)."""
    tape = {("bars", "AAPL"): rows(BAR, *(T0 + k * MINUTE for k in range(960)))}
    venue = Venue(tape, page=290)
    got, _ = collect(venue, ("bars",))
    assert len(got) == 960
    assert len(venue.asked) == 4


def test_empty_page_with_a_token_is_not_the_end():
    """An empty page that names another is followed."""
    empty = b'{"trades":{},"next_page_token":"MA=="}'
    got, _ = collect(Venue(trades(5), [empty, b'{"trades":null,"next_page_token":"MQ=="}']))
    assert [item.trade_id for _, item in got] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        ((500,), 0.25), ((503,), 0.25), ((429,), 0.25), ((429, "Retry-After: 7"), 7.25), ((429, "Retry-After: 9999"), 120.25),
        ("truncated", 0.25), (b"<html>", 0.25), (b'{"trades": {', 0.25), (b'{"trades": {}}', 0.25), (b"[]", 0.25),
        (b'{"trades":{"MSFT":[]},"next_page_token":null}', 0.25), ("never", 0.25),
    ],
)  # fmt: skip
def test_failure_is_tried_again(fault, wait):
    """A failed, cut, foreign or late answer is asked for again after the wait that is due, and nothing is missing."""
    venue = Venue(trades(7), [fault])
    got, history = collect(venue, answer_s=0.2 if fault == "never" else 10)
    assert [item.trade_id for _, item in got] == list(range(7))
    assert (history.waits, history.retries) == ([wait], 1)


def test_back_off_doubles_up_to_the_longest():
    """Waits grow from RECONNECT_BASE_MS to RECONNECT_MAX_MS, drawn from 0 to the ceiling."""
    _, history = collect(Venue(trades(1), [(500,)] * 6), reconnect_base_ms=1000, reconnect_max_ms=10_000)
    assert history.waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize(("fault", "error"), [((500,), Unanswered), ((429,), Throttled), ("truncated", Unanswered)])
def test_broken_chain_is_an_error_and_never_a_short_history(fault, error):
    """A page that never comes raises, also in the middle of a chain; what came before was all in order."""
    good = json.dumps({"trades": {"AAPL": rows(TRADE, T0, T0 + 1)}, "next_page_token": "Mg=="}).encode()
    with pytest.raises(error):
        collect(Venue(trades(9), [good, *[fault] * 3]), attempts=3)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_stop_with_a_mend(status):
    """Wrong keys are not tried again; the error names the settings and shows no key."""
    venue = Venue(trades(3), [(status,)])
    with pytest.raises(SettingsError, match="ALPACA_KEY_ID and ALPACA_SECRET_KEY") as caught:
        collect(venue)
    assert len(venue.asked) == 1
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize("status", [302, 400, 404, 422])
def test_refused_request_stops(status):
    """What the venue does not understand is an error at once, with what it said."""
    with pytest.raises(VenueError, match="said"):
        collect(Venue(trades(3), [(status,)]))


def test_endless_chain_is_an_error():
    """A page that names itself as the next is an error, not a loop."""
    again = json.dumps({"trades": {"AAPL": rows(TRADE, T0)}, "next_page_token": "MA=="}).encode()
    with pytest.raises(Unanswered, match="same page"):
        collect(Venue(trades(3), [again] * 9))


def test_pages_that_go_back_in_time_are_an_error():
    """A page with rows before what was given out already is an error, never a disorder."""
    pages = [
        json.dumps({"trades": {"AAPL": rows(TRADE, ns)}, "next_page_token": token}).encode()
        for ns, token in ((T0 + 5, "MQ=="), (T0 + 9, "Mg=="), (T0 + 1, None))
    ]
    with pytest.raises(Unanswered, match="not in order of time"):
        collect(Venue({}, pages))


def test_bad_row_is_told_and_the_rest_kept():
    """A row that cannot be used is a complaint; the others come, and so do the next pages."""
    tape = trades(5)
    tape["trades", "AAPL"][1]["p"] = None
    tape["trades", "AAPL"][3]["s"] = -1
    got, history = collect(Venue(tape))
    assert [item.trade_id for _, item in got] == [0, 2, 4]
    assert [complaint.reason for complaint in history.complaints] == ["message", "message"]


def test_crypto_and_equity_ask_different_addresses():
    """The market type chooses path and query; keys go as headers; back to equity by one setting."""
    name = "BTC/USD"
    venue = Venue({("bars", name): rows(BAR, T0)})
    got, _ = collect(venue, ("bars",), (name,), alpaca_market_type="crypto", alpaca_crypto_location="eu-1")
    assert [item.symbol for _, item in got] == [name]
    path, query, fields = venue.asked[0]
    assert path == "/v1beta3/crypto/eu-1/bars"
    assert (query["symbols"], query["timeframe"], query["sort"]) == (name, "1Min", "asc")
    assert not {"feed", "adjustment"} & query.keys()
    assert (fields["apca-api-key-id"], fields["apca-api-secret-key"]) == ("key-id", "secret-key")
    equity = Venue(trades(1))
    collect(equity, alpaca_feed="sip")
    path, query, _ = equity.asked[0]
    assert (path, query["feed"], query["start"]) == ("/v2/stocks/trades", "sip", format_timestamp(T0))


def test_many_symbols_are_asked_for_a_few_at_a_time_in_smaller_pages():
    """Requests under way are bounded, and so are the rows of all pages together."""
    names = [f"S{n}" for n in range(40)]
    tape = {("trades", name): rows(TRADE, *range(T0 + n, T0 + n + 5)) for n, name in enumerate(names)}
    venue = Venue(tape)
    got, _ = collect(venue, symbols=names)
    assert [ts for ts, _ in got] == sorted(ts for ts, _ in got)
    assert len(got) == 200
    assert 1 < venue.most_under_way <= 4
    assert {int(query["limit"]) for _, query, _ in venue.asked} == {5000}


def test_memory_holds_little_of_a_long_history():
    """Of a long history no more than the pages in hand are loaded before the consumer takes what there is."""
    venue = Venue(trades(3000, gap=1), page=100)

    async def case():
        async with venue.open() as history:
            stream = history.events(("trades",), ("AAPL",), T0, T0 + MINUTE)
            first = await anext(stream)
            asked = len(venue.asked)
            await stream.aclose()
            return len(first), asked

    taken, asked = run(case)
    assert asked == 1
    assert taken == 99


def test_nothing_to_ask_for_asks_nothing():
    """An empty interval, no symbols or no channels is an empty history; a channel without history is an error."""
    venue = Venue({})
    assert collect(venue, since=T0, until=T0)[0] == []
    assert collect(venue, symbols=())[0] == []
    assert venue.asked == []
    with pytest.raises(InputError, match="statuses"):
        collect(venue, ("statuses",))


@pytest.mark.parametrize("open_twice", [True, False])
def test_nobody_listening_is_unanswered(open_twice):
    """A refused connection is tried again and then told; closing twice is harmless."""

    async def case():
        history = History(
            AlpacaSettings(alpaca_base_url="http://127.0.0.1:1"), SecretStr("k"), SecretStr("s"),
            complain=lambda _: None, attempts=2 if open_twice else 1, sleep=lambda _: asyncio.sleep(0),
        )  # fmt: skip
        with pytest.raises(Unanswered, match="ConnectError"):
            await anext(history.events(("trades",), ("A",), T0, T0 + 1))
        await history.aclose()
        await history.aclose()
        return history.retries

    assert run(case) == int(open_twice)
