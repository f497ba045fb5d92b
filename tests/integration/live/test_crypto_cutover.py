"""From equities to crypto and back, as the design of the migration (seed 004, sections 7 to 13) accepts it."""

import asyncio
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from torghut_sources.tape.source import Replay
from torghut_testing.alpaca_data import FakeMarketData, Fault, synthetic
from torghut_testing.clickhouse import ClickHouseProcess

from torghut_core.market_data.deriver import Deriver
from torghut_core.signals import open_signal_store

PAIRS = {"BTC/USD": 60_000.0, "ETH/USD": 3_000.0, "SOL/USD": 150.0}
EQUITIES = {"AAPL": 230.0, "NVDA": 180.0}
WANTED = {
    "crypto": (PAIRS, "/v1beta3/crypto/us", ["bars", "quotes", "trades", "updatedBars"], "/v1beta3/crypto/us/"),
    "equity": (EQUITIES, "/v2/iex", ["bars", "quotes", "statuses", "trades", "updatedBars"], "/v2/stocks/"),
}
"""By market: first prices, and the path, channels and history that the venue has to be asked for."""


def now():
    """A whole second, ns."""
    return time.time_ns() // 1_000_000_000 * 1_000_000_000


class Jangar:
    """What other programs want: symbols by asset class, enabled or not."""

    def __init__(self):
        self.enabled = {"crypto": dict.fromkeys(PAIRS, True), "equity": dict.fromkeys(EQUITIES, True)}
        self.status = 200
        self.asked = []
        jangar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asset_class = parse_qs(urlsplit(self.path).query)["assetClass"][0]
                jangar.asked.append(asset_class)
                listed = [{"symbol": name, "enabled": on} for name, on in jangar.enabled[asset_class].items()]
                self.send_response(jangar.status)
                self.end_headers()
                self.wfile.write(msgspec.json.encode({"symbols": listed}))

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/torghut/symbols"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        """End it."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def jangar():
    """Jangar on loopback."""
    with closing(Jangar()) as jangar:
        yield jangar


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory):
    """A store that several processes share."""
    with ClickHouseProcess(tmp_path_factory.mktemp("clickhouse")) as clickhouse:
        yield clickhouse


@pytest.fixture
def store(clickhouse, request):
    """A store in tables of the test's own, with the settings that name them."""
    database = request.node.originalname
    names = {"TRADING_PRICE_TABLE": f"{database}.ta_microbars", "TRADING_SIGNAL_TABLE": f"{database}.ta_signals"}
    with closing(
        open_signal_store(
            url=clickhouse.url,
            price_table=names["TRADING_PRICE_TABLE"],
            signal_table=names["TRADING_SIGNAL_TABLE"],
        )
    ) as opened:
        yield SimpleNamespace(database=opened, settings=names | {"TA_CLICKHOUSE_URL": clickhouse.url})


@pytest.fixture
def ta(live, torghut, store):
    """Makes the TA process, always with the same catalog."""
    params = {**live.QUICK, "channels": ["trades", "quotes"], "stale_after_s": 60, "ping_s": 5, "tick_ms": 100}
    pipeline = {"source": {"use": "alpaca", "params": params}, "stages": [{"use": "microbars"}, {"use": "indicators"}]}

    def make(market, asset_class, **settings):
        environment = live.environment_of(market, **store.settings)
        environment |= {"TA_CHECKPOINT_MS": "100", "TA_CLICKHOUSE_FLUSH_MS": "50", "SYMBOLS_POLL_INTERVAL_MS": "100"}
        del environment["TRADING_STATIC_SYMBOLS"], environment["ALPACA_MARKET_TYPE"]
        market_type = {} if asset_class == "equity" else {"ALPACA_MARKET_TYPE": asset_class}
        return torghut("ta", {"version": 1, "pipelines": {"ta": pipeline}}, environment | market_type | settings)

    return make


class Market(FakeMarketData):
    """Trades at once what would take some seconds: the last minute, bit by bit."""

    def __init__(self):
        super().__init__()
        self._began = now() - 60_000_000_000
        self._times = 0

    def trade(self, prices, wait_for=()):
        """Have all of these trade for 3.3 s; gives from when on."""
        start = self._began + self._times * 6_000_000_000
        events = list(synthetic(prices, rate=60, seed=3, start=start, count=200))
        for event in events:
            if "i" in event:
                event["i"] += 1000 * self._times
        self._times += 1
        self.play(events, wait_for=wait_for or prices)
        return start


def advanced(store, since):
    """The symbols that have microbars and signals of windows since a time."""
    found = []
    for table in (store.database.bars, store.database.signals):
        rows = table(since=since)
        found.append(set(rows["symbol"].to_pylist()))
    return found[0] & found[1]


@pytest.mark.parametrize("asset_class", WANTED)
def test_market_type_chooses_path_channels_and_history(live, asset_class):
    """One setting leads to the endpoint family, the channels and the history of a market, and to its symbols alone."""
    prices, path, channels, history = WANTED[asset_class]
    events = list(synthetic(prices, rate=100, seed=2, start=live.T0, count=120))

    async def main():
        with FakeMarketData() as market:
            market.play(events, faults=[Fault(kind="cut", at=60, lost=20)], wait_for=prices)
            source = live.source_of(market, [*PAIRS, *EQUITIES], asset_class=asset_class)
            _, deriver = await live.derived(source, lambda: len(events))
            return market.attempts, [request.path for request in market.requests], deriver.totals.events

    attempts, requests, given = asyncio.run(main())
    assert given == len(events)
    assert {attempt.path for attempt in attempts} == {path}
    for said in (said for attempt in attempts for said in attempt.said if said["action"] == "subscribe"):
        assert sorted(said.keys() - {"action"}) == channels
        assert all(said[channel] == sorted(prices) for channel in channels)
    assert requests
    assert all(request.startswith(history) for request in requests)
    assert {"feed=iex" in request for request in requests} == {asset_class == "equity"}


def test_each_pair_advances_and_is_enabled_by_itself(ta, store, jangar):
    """Rows of each pair advance; a pair that Jangar disables stops, alone and without a reconnect, until it is back."""
    with Market() as market:
        process = ta(market, "crypto", TRADING_UNIVERSE_SOURCE="jangar", JANGAR_SYMBOLS_URL=jangar.url).begin()
        since = market.trade(PAIRS)
        process.until(lambda: advanced(store, since) == set(PAIRS))
        jangar.enabled["crypto"]["SOL/USD"] = False
        process.until(lambda: process.metric("ws_symbols_confirmed") == 2)
        since = market.trade(PAIRS, wait_for=["BTC/USD", "ETH/USD"])
        process.until(lambda: advanced(store, since) == {"BTC/USD", "ETH/USD"})
        jangar.enabled["crypto"]["SOL/USD"] = True
        process.until(lambda: process.metric("ws_symbols_confirmed") == 3)
        since = market.trade(PAIRS)
        process.until(lambda: advanced(store, since) == set(PAIRS))
        assert len(market.attempts) == 1
        assert set(jangar.asked) == {"crypto"}
        assert process.send() == 0


def test_disabled_symbols_are_never_asked_for(ta, store, jangar):
    """A pair in TRADING_DISABLED_SYMBOLS is not subscribed, whatever Jangar says: pairs are let in one by one."""
    with Market() as market:
        settings = {"TRADING_DISABLED_SYMBOLS": "ETH/USD,SOL/USD", "TRADING_UNIVERSE_SOURCE": "jangar"}
        process = ta(market, "crypto", **settings, JANGAR_SYMBOLS_URL=jangar.url).begin()
        since = market.trade(PAIRS, wait_for=["BTC/USD"])
        process.until(lambda: advanced(store, since) == {"BTC/USD"})
        asked = [said["trades"] for said in market.attempts[0].said if said["action"] == "subscribe"]
        assert asked == [["BTC/USD"]]
        assert process.send() == 0


def test_failing_jangar_degrades_and_never_stops(ta, store, jangar):
    """While Jangar fails, the last list stays in use, rows advance, and the gauges say that the list is old."""
    with Market() as market:
        process = ta(market, "crypto", TRADING_UNIVERSE_SOURCE="jangar", JANGAR_SYMBOLS_URL=jangar.url).begin()
        process.until(lambda: process.metric("ws_symbols_confirmed") == 3)
        process.until(lambda: process.metric("ws_desired_symbols_fetch_degraded") == 0)
        jangar.status = 503
        process.until(lambda: process.metric("ws_desired_symbols_fetch_failures_total", "status") >= 3)
        assert process.metric("ws_desired_symbols_fetch_degraded") == 1
        since = market.trade(PAIRS)
        process.until(lambda: advanced(store, since) == set(PAIRS))
        assert {"auth", "subscription", "universe"}.isdisjoint(process.gates)
        jangar.status = 200
        process.until(lambda: process.metric("ws_desired_symbols_fetch_degraded") == 0)
        assert len(market.attempts) == 1
        assert process.send() == 0


def test_one_setting_switches_back_to_equities(ta, store, jangar):
    """With the same catalog, state and settings but ALPACA_MARKET_TYPE, equities advance again, and pairs do not."""
    settings = {"TRADING_UNIVERSE_SOURCE": "jangar", "JANGAR_SYMBOLS_URL": jangar.url}
    with Market() as market:
        process = ta(market, "crypto", **settings).begin()
        since = market.trade(PAIRS)
        process.until(lambda: advanced(store, since) == set(PAIRS))
        assert process.send() == 0
        process = ta(market, "equity", **settings).begin()
        since = market.trade(EQUITIES)
        process.until(lambda: advanced(store, since) >= set(EQUITIES))
        assert process.until(lambda: process.gates == {} and "ready")
        assert advanced(store, since) == set(EQUITIES)
        assert process.send() == 0
        assert [attempt.path for attempt in market.attempts] == ["/v1beta3/crypto/us", "/v2/iex"]
    assert jangar.asked[-1] == "equity"


def test_nothing_is_bought_on_stale_rows(live, torghut, bought, store):
    """Entries are denied while the newest signal is older than `fresh_after_s`, and pass when rows are fresh."""
    catalog = bought.strategies(*PAIRS)
    catalog["pipelines"]["trading"]["source"] = {
        "use": "clickhouse-signals",
        "params": {"poll_ms": 20, "start": "earliest", "fresh_after_s": 120},
    }
    environment = store.settings | bought.environment | {"ALPACA_MARKET_TYPE": "crypto"}

    def derive(start):
        tape = live.tape(PAIRS, rate=60, seed=3, start=start, count=300)
        source = Replay(Replay.Params(paths=tape.paths))
        asyncio.run(Deriver(source, live.stages(), store.database).run())
        return len(tape.rows["signals"])

    old = derive(now() - 600_000_000_000)
    run = torghut("run", catalog, environment).begin()
    run.until(lambda: run.metric("decisions_total") == old)
    assert "more than 120 s" in run.gates["freshness"]
    border = now() - 100_000_000_000
    fresh = derive(now() - 6_000_000_000)
    run.until(lambda: run.metric("decisions_total") == old + fresh)
    assert not run.gates
    assert run.send() == 0
    assert bought.between(0, border) == {"not-ready"}
    assert bought.between(border, now() + 60_000_000_000) == {"allowed"}
