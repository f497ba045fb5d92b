"""The REST history: what happened so far, page by page, and what goes wrong with it."""

import http.client
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_testing.alpaca_data import FakeMarketData, Fault, RestFault, event_of
from torghut_testing.alpaca_data.history import History

from support.effort import examples

CRYPTO = "/v1beta3/crypto/us/trades"
NOON = "2026-01-05T12:00:0"


def rows(pages, channel="trades"):
    """Symbol and row of everything in these pages, in the order in which it came."""
    return [(symbol, row) for page in pages for symbol, of in page[channel].items() for row in of]


def test_what_was_played_is_history(market, rest, trades):
    """REST tells what happened, whether anybody was connected or not, and nothing that is still to come."""
    assert rest(CRYPTO, symbols="BTC/USD") == (200, {"trades": {}, "next_page_token": None})
    playback = market.play(trades(9), faults=[Fault(kind="cut", at=5)], wait_for=["BTC/USD"])
    assert rest(CRYPTO, symbols="BTC/USD")[1]["trades"] == {}
    market.stop_playing()
    with pytest.raises(RuntimeError, match="ended early, at event 0"):
        playback.wait()
    market.play(trades(5)).wait()
    assert [row["i"] - 2**60 for _, row in rows([rest(CRYPTO, symbols="BTC/USD")[1]])] == [0, 1, 2, 3, 4]


def test_rows_are_messages_without_type_and_symbol(market, rest, listen, trades):
    """A row of REST is the stream's message without T and S, to the last digit."""
    client = listen(market)
    market.play(trades(1)).wait()
    assert rows([rest(CRYPTO, symbols="BTC/USD")[1]]) == [
        ("BTC/USD", {name: value for name, value in client.receive().items() if name not in ("T", "S")})
    ]


def test_pages_run_symbol_by_symbol(market, rest, trade):
    """Pages go through the symbols in order, each by time, and one page may end a symbol and begin the next."""
    market.record([trade(number, symbol) for number in range(5) for symbol in ("ETH/USD", "BTC/USD", "SOL/USD")])
    pages = rest.pages(CRYPTO, symbols="SOL/USD,BTC/USD,DOGE/USD,ETH/USD", limit=3)
    assert [[len(of) for of in page["trades"].values()] for page in pages] == [[3], [2, 1], [3], [1, 2], [3]]
    expected = [(symbol, number) for symbol in ("BTC/USD", "ETH/USD", "SOL/USD") for number in range(5)]
    assert [(symbol, row["i"] - 2**60) for symbol, row in rows(pages)] == expected


def test_start_and_end_are_included(market, rest, trade):
    """Both ends of the asked time are in it, to the nanosecond; both may be left out."""
    second = 1_767_614_400_000_000_000
    market.record([trade(number, at=second + number) for number in range(5)])

    def asked(**query):
        return [row["i"] - 2**60 for _, row in rows([rest(CRYPTO, symbols="BTC/USD", **query)[1]])]

    assert asked(start=f"{NOON}0.000000001Z", end=f"{NOON}0.000000003Z") == [1, 2, 3]
    assert asked(start=f"{NOON}0.000000003Z") == [3, 4]
    assert asked(end="2026-01-05T07:00:00-05:00") == [0]
    assert asked(start="2026-01-06") == []


def test_ties_over_pages(market, rest, trade):
    """Events of one time are neither lost nor doubled where a page ends among them, nor where more come in before them."""
    market.record([trade(number, at=1000) for number in range(5)])
    status, first = rest(CRYPTO, symbols="BTC/USD", limit=2)
    assert status == 200
    market.record([trade(9, at=500)])
    rest_of_it = rest(CRYPTO, symbols="BTC/USD", limit=9, page_token=first["next_page_token"])[1]
    assert [row["i"] - 2**60 for _, row in rows([first, rest_of_it])] == [0, 1, 2, 3, 4]


@examples(100)
@given(
    st.lists(st.tuples(st.sampled_from(["A/USD", "B/USD"]), st.integers(0, 3)), min_size=4, max_size=40),
    st.integers(1, 4),
    st.integers(0, 1),
    st.integers(1, 3),
)
def test_pages_give_everything_once(trade, made, limit, start, end):
    """Whatever the page size, all pages together are what happened between start and end, once, by symbol and time."""
    history = History(1000)
    history.add([event_of(trade(number, symbol, at=at)) for number, (symbol, at) in enumerate(made)])
    query = f"symbols=C/USD,B/USD,A/USD&limit={limit}&start={_text(start)}&end={_text(end)}"
    token, got = "", []
    while token is not None:
        page = history.page("trades", f"{query}&page_token={token}" if token else query, is_crypto=True)
        of_page = [(name, msgspec.json.decode(row)["i"] - 2**60) for name, of in page["trades"].items() for row in of]
        assert len(of_page) <= limit
        got += of_page
        assert len(got) <= len(made)
        token = page["next_page_token"]
    happened = sorted((symbol, at, number) for number, (symbol, at) in enumerate(made) if start <= at <= end)
    assert got == [(symbol, number) for symbol, _, number in happened]


def _text(at):
    return f"1970-01-01T00:00:00.{at:09d}Z"


def test_all_channels_of_both_markets(market, rest):
    """Trades, quotes and bars have their endpoints for stocks and for crypto; symbols of the other market are refused."""
    minute = "2026-01-05T12:00:00Z"
    for symbol, path in (("AAPL", "/v2/stocks"), ("BTC/USD", "/v1beta3/crypto/us")):
        made = {
            "trades": {"T": "t", "S": symbol, "i": 1, "p": 1, "s": 1, "t": minute},
            "quotes": {"T": "q", "S": symbol, "bp": 1, "bs": 1, "ap": 2, "as": 1, "t": minute},
            "bars": {"T": "b", "S": symbol, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1, "t": minute},
        }
        market.record(made.values())
        for channel, message in made.items():
            query = {"symbols": symbol} | ({"timeframe": "1Min"} if channel == "bars" else {})
            row = {name: value for name, value in message.items() if name not in ("T", "S")}
            assert rest(f"{path}/{channel}", **query)[1][channel] == {symbol: [row]}
            wrong = "BTC/USD" if symbol == "AAPL" else "AAPL"
            assert rest(f"{path}/{channel}", **query | {"symbols": wrong})[0] == 400


def test_updated_bars_replace(market, rest):
    """An updated bar takes the place of its bar; daily bars are of their own timeframe."""
    bar = {"S": "AAPL", "o": 1, "h": 2, "l": 1, "c": 2, "v": 5}
    first, second = "2026-01-05T12:00:00Z", "2026-01-05T12:01:00Z"
    made = [("b", 1, first), ("b", 2, second), ("u", 3, first), ("d", 9, first), ("d", 10, first)]
    market.record([bar | {"T": kind, "v": volume, "t": at} for kind, volume, at in made])

    def volumes(timeframe):
        return [row["v"] for row in rest("/v2/stocks/bars", symbols="AAPL", timeframe=timeframe)[1]["bars"]["AAPL"]]

    assert volumes("1Min") == [3, 2]
    assert volumes("1Day") == [10]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"symbols": "BTC/USD", "limit": 0},
        {"symbols": "BTC/USD", "limit": 10_001},
        {"symbols": "BTC/USD", "start": "yesterday"},
        {"symbols": "BTC/USD", "sort": "desc"},
        {"symbols": "BTC/USD", "page_token": "nonsense"},
    ],
)
def test_what_cannot_be_asked(rest, query):
    """A parameter that makes no sense is a 400 that names it."""
    status, answer = rest(CRYPTO, **query)
    assert status == 400
    assert answer["message"]


def test_timeframes(rest):
    """Bars want a timeframe that there is."""
    assert rest("/v2/stocks/bars", symbols="AAPL", timeframe="7Min")[0] == 400
    assert rest("/v2/stocks/bars", symbols="AAPL")[0] == 400


def test_who_may_ask(market, rest):
    """Without keys it is 401, with wrong ones 403, elsewhere 404."""
    keys = rest.headers
    rest.headers = {}
    assert rest(CRYPTO, symbols="BTC/USD")[0] == 401
    rest.headers = keys | {"APCA-API-SECRET-KEY": "wrong"}
    assert rest(CRYPTO, symbols="BTC/USD")[0] == 403
    rest.headers = keys
    assert rest("/v2/stocks/futures")[0] == 404


def test_feeds_of_the_account(rest_of):
    """A feed that the account does not have is refused."""
    with FakeMarketData(entitled={"iex"}) as market:
        asked = rest_of(market)
        assert asked("/v2/stocks/trades", symbols="AAPL", feed="sip")[0] == 403
        assert asked("/v2/stocks/trades", symbols="AAPL", feed="iex")[0] == 200


def test_faults_of_requests(market, rest, rest_of, trades):
    """Everything that can go wrong with an answer does so on demand, once, and the next request is answered."""
    market.record(trades(50))
    right = rest(CRYPTO, symbols="BTC/USD")
    market.rest_faults.add(RestFault.throttle(2, path=CRYPTO))
    status, _ = rest(CRYPTO, symbols="BTC/USD")
    assert status == 429
    market.rest_faults.add(RestFault.server_error(500))
    assert rest(CRYPTO, symbols="BTC/USD")[0] == 500
    market.rest_faults.add(RestFault.html(502))
    assert rest.raw(CRYPTO, symbols="BTC/USD")[1].startswith(b"<html>")
    market.rest_faults.add(RestFault.truncate())
    with pytest.raises(json.JSONDecodeError):
        rest(CRYPTO, symbols="BTC/USD")
    market.rest_faults.add(RestFault.cut(mid_body=True))
    with pytest.raises(http.client.IncompleteRead):
        rest(CRYPTO, symbols="BTC/USD")
    market.rest_faults.add(RestFault.timeout())
    with pytest.raises(TimeoutError):
        rest_of(market, timeout=0.1)(CRYPTO, symbols="BTC/USD")
    market.rest_faults.add(RestFault.delay(0.05))
    assert rest(CRYPTO, symbols="BTC/USD") == right
    market.rest_faults.add(RestFault.drip(0.0001))
    assert rest(CRYPTO, symbols="BTC/USD", limit=1)[0] == 200
    kinds = [request.fault for request in market.requests]
    assert kinds == [None, "throttle", "status", "html", "truncate", "cut", "timeout", "delay", "drip"]


def test_empty_pages(market, rest, trades):
    """A page may be empty with a token for the next; a client that follows it misses nothing."""
    market.record(trades(5))
    market.history.empty_pages = 2
    pages = rest.pages(CRYPTO, symbols="BTC/USD", limit=3)
    assert [len(page["trades"].get("BTC/USD", [])) for page in pages] == [0, 0, 3, 2]
    assert len({page["next_page_token"] for page in pages}) == 4


def test_history_is_bounded(trade):
    """When there are too many rows the oldest are dropped first, and counted."""
    history = History(10)
    history.add([event_of(trade(number)) for number in range(25)])
    page = history.page("trades", "symbols=BTC/USD", is_crypto=True)["trades"]["BTC/USD"]
    numbers = [msgspec.json.decode(row)["i"] - 2**60 for row in page]
    assert numbers == list(range(25 - len(numbers), 25))
    assert len(numbers) + history.forgotten == 25
    assert len(numbers) <= 10


@pytest.mark.shared
@pytest.mark.parametrize(("case", "path"), [("stock_trades_page", "/v2/stocks/trades"), ("crypto_trades_page", CRYPTO)])
def test_recorded_pages(market, rest, recorded, case, path):
    """A recorded page comes out as it went in."""
    page = recorded[f"rest_market_data/{case}"]
    for symbol, of in page["trades"].items():
        market.record([{"T": "t", "S": symbol} | row for row in of])
        assert rest(path, symbols=symbol)[1]["trades"] == {symbol: of}
