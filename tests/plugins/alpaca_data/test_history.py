"""Alpaca's history: every page to the end, in order, or an error."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from torghut_sources.alpaca.history import LONGEST_LIST, History
from torghut_sources.alpaca.messages import Bar, Quote, Trade
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.alpaca.source import Alpaca
from torghut_testing.alpaca_data import FakeMarketData, event_of
from torghut_testing.alpaca_data.history import History as Archive

from support.effort import examples
from support.waiting import PATIENCE
from torghut_core import (
    InputError,
    SettingsError,
    Throttled,
    Unanswered,
    VenueError,
    format_timestamp,
    parse_timestamp,
)

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "alpaca" / "rest_market_data.json"
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
T0 = 1_770_564_600 * SECOND
TRADE = {"p": 2.5, "s": 1, "i": 1, "x": "V"}
QUOTE = {"bp": 1, "bs": 2, "ap": 3, "as": 4}
BAR = {"o": 2, "h": 2, "l": 2, "c": 2, "v": 1, "n": 1, "vw": 2}


class Venue:
    """A small HTTP server of the kit's history, of rows by (channel, symbol), that serves `faults` first, one for each request.

    `log` has what was asked, path, query and headers, with the rows that were served for it.
    """

    def __init__(self, rows, faults=(), page=3):
        self.past = Archive(1_000_000)
        for (channel, symbol), found in rows.items():
            self.past.add(event_of({"T": channel[0], "S": symbol} | row) for row in found)
        self.faults = list(faults)
        self.page = page
        self.log = []
        self.under_way = self.most_under_way = 0
        self.slow = asyncio.Event()
        self.served = set()

    @property
    def asked(self):
        return [asked for asked, _ in self.log]

    @asynccontextmanager
    async def open(self, **settings):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        waits, complaints = [], []

        async def sleep(seconds):
            waits.append(seconds)

        options = {name: settings.pop(name) for name in ("attempts", "answer_s", "rows") if name in settings}
        history = History(
            AlpacaSettings(alpaca_base_url=url, **settings), SecretStr("key-id"), SecretStr("secret-key"),
            complain=complaints.append, page=self.page, sleep=sleep, chance=lambda: 0.5, **options,
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
        self.log.append(((target.path, query, fields), 0))
        fault = self.faults.pop(0) if self.faults else None
        if fault == "never":
            await self.slow.wait()
        if fault == "truncated":
            return b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\nConnection: close\r\n\r\n{"next_page_token":null,"tr'
        if isinstance(fault, bytes):
            return http(200, fault)
        if isinstance(fault, tuple):
            return http(fault[0], b'{"message":"said"}', *fault[1:])
        query = urlencode(query | {"limit": min(self.page, int(query["limit"]))})
        channel = target.path.rpartition("/")[2]
        page = self.past.page(channel, query, is_crypto="crypto" in target.path)
        self.log[-1] = self.log[-1][0], sum(map(len, page[channel].values()))
        return http(200, msgspec.json.encode(page))


def http(status, body, *headers):
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def rows(base, *times):
    return [base | {"t": format_timestamp(ns)} for ns in times]


def trades(n, symbol="AAPL", gap=SECOND):
    return {("trades", symbol): [TRADE | {"i": k, "t": format_timestamp(T0 + k * gap)} for k in range(n)]}


def run(case):
    async def limited():
        async with asyncio.timeout(PATIENCE):
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


KINDS = {"bars": BAR, "quotes": QUOTE, "trades": TRADE}


@given(st.data(), st.sampled_from([1, SECOND, 20 * SECOND]), st.integers(1, 4), st.integers(1, 30))
@examples(30)
def test_all_rows_come_once_and_in_order(data, gap, page, held):
    """Whatever is on a page, held, and asked: every row of the interval once, in the order in which it became known."""
    times = st.integers(0, 9).map(lambda k: T0 + k * gap)
    names = ("AAPL", "B", "MSFT")
    tape = {
        (channel, name): rows(base, *sorted(data.draw(st.lists(times, max_size=9, unique=channel == "bars"))))
        for channel, base in KINDS.items()
        for name in names
    }
    for name in names:
        for number, row in enumerate(tape["trades", name]):
            row["i"] = number
    since, until = sorted(data.draw(st.tuples(times, times)))
    got, _ = collect(Venue(tape, page=page), ("trades", "bars", "quotes"), names[::-1], since, until, rows=held)
    expected = [
        (channel, name, parse_timestamp(row["t"]), row.get("i"))
        for (channel, name), found in tape.items()
        for row in found
        if since <= parse_timestamp(row["t"]) < until
    ]
    order = list(KINDS)
    expected.sort(key=lambda row: (row[2] + MINUTE * (row[0] == "bars"), order.index(row[0]), row[1]))
    words = {Bar: "bars", Quote: "quotes", Trade: "trades"}
    assert [(words[type(item)], item.symbol, ts, getattr(item, "trade_id", None)) for ts, item in got] == expected


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
    """Empty pages that name others are followed."""
    venue = Venue(trades(5), [b'{"trades":null,"next_page_token":"WyJBQVBMIiwwLDBd"}'])
    venue.past.empty_pages = 2
    got, _ = collect(venue)
    assert [item.trade_id for _, item in got] == list(range(5))
    assert len(venue.asked) == 5


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
    """A page that never comes raises, also in the middle of a slice, of which no row is yielded."""
    venue = Venue(trades(9), [None, *[fault] * 3])
    with pytest.raises(error):
        collect(venue, attempts=3)
    assert [rows for _, rows in venue.log] == [3, 0, 0, 0]


@pytest.mark.parametrize("status", [401, 403])
def test_refused_keys_stop_with_a_hint(status):
    """Wrong keys are not retried; the error names the settings and shows no key."""
    venue = Venue(trades(3), [(status,)])
    with pytest.raises(SettingsError, match="ALPACA_KEY_ID and ALPACA_SECRET_KEY") as caught:
        collect(venue)
    assert len(venue.asked) == 1
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize("status", [302, 400, 404, 422])
def test_refused_request_stops(status):
    """A request that the venue refuses is an error at once, with the venue's message."""
    with pytest.raises(VenueError, match="said"):
        collect(Venue(trades(3), [(status,)]))


@pytest.mark.parametrize("tokens", [["A"], ["A", "B"], ["A", "B", "C"]])
def test_endless_chain_is_an_error(tokens):
    """A page token that comes again is an error, not an endless loop."""
    pages = [
        json.dumps({"trades": {"AAPL": rows(TRADE, T0)}, "next_page_token": token}).encode() for token in tokens * 9
    ]
    with pytest.raises(Unanswered, match="trades of AAPL: the venue names the same page again"):
        collect(Venue(trades(3), pages))


def test_pages_that_go_back_in_time_are_an_error():
    """A page that begins before the end of the last one is an error, since it is unknown whether rows are missing."""
    pages = [
        json.dumps({"trades": {"AAPL": rows(TRADE, ns)}, "next_page_token": token}).encode()
        for ns, token in ((T0 + 5, "MQ=="), (T0 + 9, "Mg=="), (T0 + 1, None))
    ]
    with pytest.raises(Unanswered, match="not in order of time"):
        collect(Venue({}, pages))


def test_symbols_may_come_in_any_order():
    """Rows of the same time are ordered by symbol, whatever order the venue sends."""
    page = {name: rows(TRADE, T0, T0 + 1) for name in ("MSFT", "AAPL", "B")}
    body = json.dumps({"trades": page, "next_page_token": None}).encode()
    got, _ = collect(Venue({}, [body]), symbols=tuple(page))
    assert [(ts - T0, item.symbol) for ts, item in got] == [(ns, name) for ns in (0, 1) for name in sorted(page)]


def test_rows_of_other_times_are_left_out():
    """Rows outside the slice asked for are dropped: they come once, with their own slice."""
    beyond = json.dumps({"trades": {"AAPL": rows(TRADE, T0 - 1, T0, T0 + 9)}, "next_page_token": None}).encode()
    assert [ts - T0 for ts, _ in collect(Venue({}, [beyond]), until=T0 + 9)[0]] == [0]


def test_bad_row_is_a_complaint_and_the_rest_kept():
    """A row that cannot be used is a complaint; the other rows and the next pages are kept."""
    tape = trades(5)
    tape["trades", "AAPL"][1]["p"] = None
    tape["trades", "AAPL"][3]["s"] = -1
    got, history = collect(Venue(tape))
    assert [item.trade_id for _, item in got] == [0, 2, 4]
    assert [complaint.reason for complaint in history.complaints] == ["message", "message"]
    again, small = collect(Venue(tape), rows=2)
    assert ([item.trade_id for _, item in again], len(small.complaints)) == ([0, 2, 4], 2)


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


@pytest.mark.parametrize("crypto", [False, True])
def test_many_symbols_are_asked_for_together(crypto):
    """One request is for as many symbols as an address has room for, and few are under way at a time."""
    names = [f"S{n:03}/USD" if crypto else f"S{n:03}" for n in range(900)]
    tape = {(channel, name): rows(KINDS[channel], T0 + n) for channel in KINDS for n, name in enumerate(names)}
    venue = Venue(tape, page=5000)
    got, _ = collect(venue, KINDS, names, until=T0 + 900, alpaca_market_type="crypto" if crypto else "equity")
    assert len(got) == 2700
    assert len(venue.asked) == 3 * (3 if crypto else 2)
    assert all(len(urlencode({"": query["symbols"]})) <= LONGEST_LIST for _, query, _ in venue.asked)
    assert 1 < venue.most_under_way <= 4


def test_gap_of_a_minute_costs_a_handful_of_requests():
    """Of 200 symbols with ordinary traffic: a request for each channel, and more only where a page is full."""
    names = [f"S{n}" for n in range(200)]
    traffic = {"t": (TRADE, 20), "q": (QUOTE, 80), "b": (BAR, 1)}
    events = [
        event_of({"T": kind, "S": name, **row, "t": T0 + k * MINUTE // count + n})
        for n, name in enumerate(names)
        for kind, (row, count) in traffic.items()
        for k in range(count)
    ]

    async def case(market):
        history = History(
            AlpacaSettings(alpaca_base_url=market.rest_url), SecretStr(market.key), SecretStr(market.secret),
            complain=pytest.fail,
        )  # fmt: skip
        try:
            return [part async for part in history.events(list(KINDS), names, T0, T0 + MINUTE)]
        finally:
            await history.aclose()

    with FakeMarketData() as market:
        market.record(events)
        parts = run(lambda: case(market))
        assert len(market.requests) == 4
    assert sum(map(len, parts)) == len(events)
    known = [ts for part in parts for ts in part.known_ts().tolist()]
    assert known == sorted(known)


def loaded(log):
    """How many rows are held after each step of a log of answers and of rows that were given out."""
    kept, current = {}, {}
    given = 0
    for step, rows_of in log:
        if step == "given":
            given += rows_of
            continue
        path, query, _ = step
        start, end, before = query["start"], query["end"], current.get(path)
        if before and before[:2] != (start, end):
            assert start != before[0] or parse_timestamp(end) < parse_timestamp(before[1])
            if start != before[0]:
                kept[path] = kept.get(path, 0) + before[2]
            before = None
        current[path] = (start, end, rows_of + (before[2] if before else 0))
        yield sum(kept.values()) + sum(rows_of for _, _, rows_of in current.values()) - given


@given(st.data(), st.integers(2, 5), st.integers(10, 60))
@examples(20)
def test_memory_holds_little_of_a_long_history(data, page, held):
    """Whatever the traffic, slices are abandoned before they hold much more than there is room for."""
    bursts = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), min_size=1, max_size=2)
    tape = {
        (channel, name): rows(
            KINDS[channel],
            *sorted({T0 + minute * MINUTE + SECOND * k + n for minute, size in data.draw(bursts) for k in range(size)}),
        )
        for channel in KINDS
        for n, name in enumerate(("AAPL", "B", "MSFT"))
    }
    venue = Venue(tape, page=page)

    async def case():
        async with venue.open(rows=held) as history:
            async for part in history.events(list(KINDS), ("AAPL", "B", "MSFT"), T0, T0 + 10 * MINUTE):
                venue.log.append(("given", len(part)))

    run(case)
    assert sum(size for step, size in venue.log if step == "given") == sum(map(len, tape.values()))
    assert max(loaded(venue.log)) <= held + 5 * page


def test_long_history_costs_hardly_more_than_its_full_pages():
    """Slices are so long that few pages are not full, whatever the traffic was before."""
    tape = trades(20_000, "A", gap=SECOND) | trades(10_000, "B", gap=2 * SECOND) | trades(5_000, "C", gap=4 * SECOND)
    venue = Venue(tape, page=100)
    got, _ = collect(venue, symbols=("A", "B", "C"), rows=2000, until=T0 + 20_000 * SECOND)
    assert len(got) == 35_000
    assert len(venue.asked) < 350 * 1.1


def test_pause_and_burst_cost_few_requests():
    """A slice grows over a pause, and one that is abandoned shows how short it has to be."""
    quiet = trades(10, gap=3600 * SECOND)["trades", "AAPL"]
    burst = rows(TRADE, *range(T0 + 86_400 * SECOND, T0 + 86_401 * SECOND, SECOND // 1000))
    venue = Venue({("trades", "AAPL"): quiet + burst}, page=10)
    got, _ = collect(venue, until=T0 + 10 * 86_400 * SECOND, rows=200)
    assert len(got) == 1010
    assert len(venue.asked) < 101 * 1.6


def test_pieces_are_bounded():
    """Of a full slice not all is given out at a time."""
    venue = Venue(trades(25_000, gap=1000), page=10_000)

    async def case():
        async with venue.open() as history:
            return [len(part) async for part in history.events(("trades",), ("AAPL",), T0, T0 + MINUTE)]

    assert run(case) == [10_000, 10_000, 5000]
    assert len(venue.asked) == 3


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "market"), [("stock_trades_page", "equity"), ("crypto_trades_page", "crypto")]
)  # fmt: skip
def test_recorded_pages_are_read(case, market):
    """What the real venue answered is read, as one page of what was asked for."""
    if not SHARED.exists():
        pytest.skip("needs the recorded data beside the project (../shared)")
    found = {each["name"]: each["message"] for each in json.loads(SHARED.read_text())}[case]
    (symbol, of), *others = found["trades"].items()
    assert not others
    start, end = (parse_timestamp(of[place]["t"]) for place in (0, -1))
    last = json.dumps({"trades": {}, "next_page_token": None}).encode()
    venue = Venue({}, [json.dumps(found).encode(), last])
    got, history = collect(venue, ("trades",), (symbol, "ZZZ"), start, end + 1, alpaca_market_type=market)
    assert [(ts, item.trade_id, item.price) for ts, item in got] == [
        (parse_timestamp(row["t"]), row["i"], row["p"]) for row in of
    ]
    assert not history.complaints
    tokens = [query["page_token"] for _, query, _ in venue.asked[1:]]
    assert tokens == ([found["next_page_token"]] if found["next_page_token"] else [])


def test_nothing_to_ask_for_asks_nothing():
    """An empty interval, no symbols or no channels is an empty history; a channel without history is an error."""
    venue = Venue({})
    assert collect(venue, since=T0, until=T0)[0] == []
    assert collect(venue, symbols=())[0] == []
    assert venue.asked == []
    with pytest.raises(InputError, match="statuses"):
        collect(venue, ("statuses",))


@pytest.mark.parametrize("open_twice", [True, False])
def test_no_listener_is_unanswered(open_twice):
    """A refused connection is retried and then an error; closing twice is harmless."""

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


def test_rows_that_cannot_be_used_are_in_the_metric_of_the_source(simulated):
    """What the history holds and is left out is counted by the source as what the stream holds is."""
    good = {"t": format_timestamp(T0), "p": 1.0, "s": 2.0}
    page = {"trades": {"BTC/USD": [good, good | {"p": None}, good | {"t": "soon"}]}, "next_page_token": None}

    async def main():
        source = simulated.source(simulated.Venue(), simulated.Listed("BTC/USD"))
        async with Venue({}, [json.dumps(page).encode()]).open() as own:
            history = Alpaca._open_history(source)
            history._settings = own._settings
            try:
                assert sum([len(part) async for part in history.events(["trades"], ["BTC/USD"], T0, T0 + 1)]) == 1
            finally:
                await history.aclose()
        return source.metrics()["ws_complaints_total"]

    assert run(main) == {"message": 1, "time": 1}
