"""The list of symbols is what the source says, and the last good one while the source cannot say."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.waiting import PATIENCE
from torghut_core.errors import SettingsError
from torghut_core.installation.universe import UniverseSettings, open_universe
from torghut_core.market_data.jangar import FAILURES, LARGEST_ANSWER, LIST_FILE, JangarUniverse
from torghut_core.market_data.universe import StaticUniverse
from torghut_core.ports import Universe
from torghut_core.telemetry import logs

PAGE = Path(__file__).parents[3] / "docs" / "universe.md"
FETCH = "ws_desired_symbols_fetch"
TWO = b'{"symbols": ["ETH/USD", "BTC/USD"]}'


@contextlib.asynccontextmanager
async def serving(handler):
    """A handler of connections on loopback, for at most 20 s; yields its address, and closes every connection."""
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async with asyncio.timeout(PATIENCE), await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/api/torghut/symbols"
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


class Jangar:
    """Jangar on loopback: gives `body` with `status`, after the head has waited for `may_answer`."""

    def __init__(self):
        self.body, self.status = TWO, 200
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = []
        self._came = asyncio.Condition()

    async def answer(self, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            async with self._came:
                self.asked.append(head.split()[1].decode())
                self._came.notify_all()
            await self.may_answer.wait()
            writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(self.body)}\r\n\r\n".encode() + self.body)
            await writer.drain()

    async def say(self, body, status=200):
        """Answer so from now on, and wait until the client has taken such an answer in."""
        self.body, self.status = body if isinstance(body, bytes) else json.dumps(body).encode(), status
        await self.looked()

    async def looked(self):
        """Wait until an answer to a question from now on was taken in: the second question after this comes after it."""
        count = len(self.asked) + 2
        async with self._came:
            await self._came.wait_for(lambda: len(self.asked) >= count)


@contextlib.asynccontextmanager
async def jangar():
    server = Jangar()
    async with serving(server.answer) as server.url:
        yield server


@contextlib.contextmanager
def universe_of(server, asset_class="crypto", **options):
    universe = JangarUniverse(server.url, asset_class, **{"interval_seconds": 0.005, "timeout_seconds": 5} | options)
    universe.start()
    try:
        yield universe
    finally:
        universe.close()


@pytest.fixture
def log(monkeypatch):
    """The lines that are logged, level and event."""
    lines = []
    for level in ("info", "warning", "error"):
        monkeypatch.setattr(logs, level, lambda event, level=level, **_: lines.append((level, event)))
    return lines


def failures(universe):
    return {reason: count for reason, count in universe.metrics()[f"{FETCH}_failures_total"].items() if count}


@pytest.mark.parametrize(
    "body",
    [
        {"symbols": ["ETH/USD", "BTC/USD"]},
        {
            "items": [
                {"symbol": "ETH/USD", "enabled": True, "assetClass": "crypto", "updatedAt": "2026-02-22T00:00:00Z"},
                "BTC/USD",
            ]
        },
        {
            "items": [{"symbol": "SOL/USD", "enabled": False}, {"symbol": "BTC/USD", "assetClass": None}, "ETH/USD"],
            "total": 3,
        },
        ["BTC/USD", "ETH/USD", "BTC/USD"],
        [{"symbol": "BTC/USD"}, {"symbol": "ETH/USD", "enabled": True, "assetClass": "crypto", "id": 7}],
        {"symbols": [{"symbol": "BTC/USD", "enabled": True}, "ETH/USD", {"symbol": "SOL/USD", "enabled": False}]},
        {"symbols": ["SOL/USD", {"symbol": "SOL/USD", "enabled": False}, "BTC/USD", "ETH/USD"], "total": 3},
    ],
)
def test_every_shape_of_answer_gives_the_symbols_that_are_enabled(body):
    """A list or an object, of texts or objects: in order, each once, and without what is disabled anywhere in it."""

    async def run():
        async with jangar() as server:
            server.body = json.dumps(body).encode()
            with universe_of(server) as universe:
                await universe.changed()
                assert universe.symbols == ("BTC/USD", "ETH/USD")
                await server.looked()
                assert not universe.is_degraded
                assert universe.gates() == {"universe": None}
                metrics = universe.metrics()
                assert metrics[f"{FETCH}_degraded"] == 0
                assert metrics[f"{FETCH}_success_total"] >= 2
                assert metrics[f"{FETCH}_last_success_ts_seconds"] > 1_600_000_000
                assert metrics[f"{FETCH}_last_failure_ts_seconds"] == 0

    asyncio.run(run())


OUTAGES = [
    (b"", 500, "status"),
    (b"", 302, "status"),
    (TWO, 404, "status"),
    (b"[]", 200, "empty"),
    (b'{"symbols": []}', 200, "empty"),
    (b"", 200, "not-json"),
    (b"<html>", 200, "not-json"),
    (b"\xff", 200, "not-json"),
    (b"[" * 200_000, 200, "not-json"),
    (b"null", 200, "bad-shape"),
    (b'{"items": {"BTC/USD": true}}', 200, "bad-shape"),
    (b'{"items": []}', 200, "empty"),
    (b'{"items": [{"symbol": "BTC/USD", "assetClass": "equity"}]}', 200, "bad-symbols"),
    (b'{"entries": ["BTC/USD"]}', 200, "bad-shape"),
    (b'{"symbols": {"BTC/USD": true}}', 200, "bad-shape"),
    (b'["AAPL", "btc/usd", 7, null, {"symbol": 7}, {"enabled": true}, [], "A B/C"]', 200, "bad-symbols"),
    (json.dumps([f"A{n}/USD" for n in range(11)]).encode(), 200, "too-many"),
    (b" " * LARGEST_ANSWER + TWO, 200, "too-large"),
]


@pytest.mark.parametrize(("body", "status", "reason"), OUTAGES)
def test_an_outage_keeps_the_last_list_and_is_counted_by_reason(body, status, reason, log):
    """No answer, an empty one or nonsense changes no symbol; it is logged once, counted each time, and so is the recovery."""

    async def run():
        async with jangar() as server:
            with universe_of(server, most=10) as universe:
                await universe.changed()
                await server.say(body, status)
                await server.looked()
                assert universe.symbols == ("BTC/USD", "ETH/USD")
                assert universe.is_degraded
                assert universe.gates() == {"universe": None}
                assert failures(universe).keys() == {reason}
                assert failures(universe)[reason] >= 2
                metrics = universe.metrics()
                assert metrics[f"{FETCH}_degraded"] == 1
                assert metrics[f"{FETCH}_last_failure_ts_seconds"] >= metrics[f"{FETCH}_last_success_ts_seconds"]

                await server.say(["SOL/USD"])
                assert universe.symbols == ("SOL/USD",)
                assert not universe.is_degraded

    asyncio.run(run())
    assert [level for level, _ in log] == ["warning", "info"]


def test_a_jangar_that_says_nothing_is_a_timeout():
    """A connection that is open and mute does not hold the next question up for ever."""

    async def run():
        async with jangar() as server:
            with universe_of(server, timeout_seconds=0.1) as universe:
                await universe.changed()
                server.may_answer.clear()
                await server.looked()
                assert failures(universe).keys() == {"timeout"}
                assert universe.symbols == ("BTC/USD", "ETH/USD")

    asyncio.run(run())


def test_an_answer_that_drips_is_a_timeout_as_a_whole():
    """A byte now and then does not make an answer endless."""

    async def drip(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def run():
        async with serving(drip) as url:
            universe = JangarUniverse(url, "crypto", timeout_seconds=0.1, fallback=["BTC/USD"])
            universe.start()
            await universe.changed()
            assert failures(universe) == {"timeout": 1}
            universe.close()

    asyncio.run(run())


def test_without_jangar_and_without_a_list_the_fallback_holds():
    """At a cold start without an answer: the fallback, degraded, and the gate open."""

    async def run():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            server = Jangar()
            server.url = f"http://127.0.0.1:{free.getsockname()[1]}/"
            async with asyncio.timeout(PATIENCE):
                with universe_of(server, fallback=["SOL/USD", "BTC/USD"]) as universe:
                    assert universe.symbols == ()
                    await universe.changed()
                    assert universe.symbols == ("BTC/USD", "SOL/USD")
                    assert universe.is_degraded
                    assert universe.gates() == {"universe": None}
                    assert failures(universe).keys() == {"unreachable"}

    asyncio.run(run())


def test_without_any_symbol_the_gate_is_closed_and_says_why():
    """Nothing known yet, nothing known at all, and everything disabled are three reasons; none of them is silent."""

    async def run():
        async with jangar() as server:
            server.status = 503
            with universe_of(server) as universe:
                gate = universe.gates()["universe"]
                assert (gate.error_class, "has not answered yet" in gate.reason) == ("starting", True)
                await server.looked()
                gate = universe.gates()["universe"]
                assert (gate.error_class, "answers 503" in gate.reason) == ("status", True)
                await server.say([{"symbol": "BTC/USD", "enabled": False}])
                gate = universe.gates()["universe"]
                assert (gate.error_class, "every symbol is disabled" in gate.reason) == ("no-symbols", True)
                await server.say(["BTC/USD"])
                assert universe.gates() == {"universe": None}

    asyncio.run(run())


def test_the_list_outlives_the_process(tmp_path):
    """After a restart in an outage the list from disk holds, not the fallback; the other market's list is not touched."""
    path = tmp_path / "state" / LIST_FILE

    async def run():
        async with jangar() as server:
            server.body = b'["AAPL"]'
            with universe_of(server, "equity", path=path) as universe:
                await universe.changed()
                await server.looked()
            server.body = TWO
            with universe_of(server, path=path, fallback=["SOL/USD"]) as universe:
                await universe.changed()
                await server.looked()
            server.status = 503
            with universe_of(server, path=path, fallback=["SOL/USD"]) as universe:
                assert universe.symbols == ("BTC/USD", "ETH/USD")
                await server.looked()
                assert universe.symbols == ("BTC/USD", "ETH/USD")
                assert universe.is_degraded
            with universe_of(server, "equity", path=path, fallback=["MSFT"]) as universe:
                assert universe.symbols == ("AAPL",)

    asyncio.run(run())
    assert [file.name for file in path.parent.iterdir()] == [LIST_FILE]


def test_what_was_disabled_stays_so_over_a_restart(tmp_path):
    """A list in which every pair is disabled is a good list: an outage does not bring the fallback up."""
    path = tmp_path / LIST_FILE

    async def run():
        async with jangar() as server:
            server.body = b'[{"symbol": "BTC/USD", "enabled": false}]'
            with universe_of(server, path=path, fallback=["BTC/USD"]):
                await server.looked()
            server.status = 503
            with universe_of(server, path=path, fallback=["BTC/USD"]) as universe:
                await server.looked()
                assert universe.symbols == ()

    asyncio.run(run())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\xff",
        '{"crypto": 7}',
        '{"crypto": {}}',
        '{"crypto": {"symbols": ["AAPL"]}}',
        "[" * 99_999,
    ],
)
def test_a_damaged_file_is_said_and_not_used(tmp_path, text, log):
    """A list on disk that is none is as if there were none, and the next good list replaces it."""
    path = tmp_path / LIST_FILE
    path.write_text(text, encoding="latin-1")

    async def run():
        async with jangar() as server:
            with universe_of(server, path=path) as universe:
                assert universe.symbols == ()
                await universe.changed()
                await server.looked()
                assert not universe.is_degraded

    asyncio.run(run())
    assert json.loads(path.read_text())["crypto"]["symbols"] == ["BTC/USD", "ETH/USD"]
    assert log == [("warning", "the list of symbols on disk is not used")]


def test_a_disk_that_takes_nothing_degrades_and_the_list_holds(tmp_path, log):
    """A list that cannot be kept is used all the same, and it is said once."""
    path = tmp_path / "file" / LIST_FILE
    path.parent.write_text("not a folder")

    async def run():
        async with jangar() as server:
            with universe_of(server, path=path) as universe:
                await universe.changed()
                await server.looked()
                assert universe.symbols == ("BTC/USD", "ETH/USD")
                assert universe.is_degraded

    asyncio.run(run())
    told = [event for _, event in log if "cannot be kept" in event]
    assert told == [f"Jangar gave a list that cannot be kept in {path}: File exists"]


def test_entries_that_are_no_symbols_are_left_out_and_named(log):
    """One misspelt pair does not keep the others from being changed; it is named, and the gauge is up until it is fixed."""

    async def run():
        async with jangar() as server:
            server.body = b'["BTC/USD", "eth/usd", "AAPL", {"symbol": "SOL/USD", "enabled": "no"}]'
            with universe_of(server) as universe:
                await server.looked()
                assert universe.symbols == ("BTC/USD",)
                assert universe.is_degraded
                assert failures(universe) == {}
                await server.say(TWO)
                assert not universe.is_degraded

    asyncio.run(run())
    assert log[0] == (
        "warning",
        """Jangar lists 3 that are no crypto symbols and are left out: 'eth/usd', 'AAPL', {'symbol': 'SOL/USD', 'enabled': 'no'}""",
    )


def test_a_disabled_pair_is_out_whatever_the_source_says(tmp_path):
    """TRADING_DISABLED_SYMBOLS holds over Jangar, the fallback and the list on disk, and is not written there."""
    path = tmp_path / LIST_FILE

    async def run():
        async with jangar() as server:
            with universe_of(server, path=path, disabled=["ETH/USD"]) as universe:
                await universe.changed()
                assert universe.symbols == ("BTC/USD",)
                await server.looked()
            server.status = 503
            with universe_of(server, path=path) as universe:
                assert universe.symbols == ("BTC/USD", "ETH/USD")
            with universe_of(server, fallback=["SOL/USD", "BTC/USD"], disabled=["SOL/USD"]) as universe:
                await universe.changed()
                assert universe.symbols == ("BTC/USD",)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "asset_class", "asked"),
    [
        ("", "crypto", "?assetClass=crypto"),
        ("?assetClass=crypto", "crypto", "?assetClass=crypto"),
        ("?assetClass=crypto", "equity", "?assetClass=equity"),
        ("?tenant=a", "equity", "?tenant=a&assetClass=equity"),
    ],
)
def test_jangar_is_asked_for_the_market_that_is_traded(query, asset_class, asked):
    """One setting takes everything back to equities, whatever the address says; the rest of the address is kept."""

    async def run():
        async with jangar() as server:
            server.url += query
            with universe_of(server, asset_class):
                await server.looked()
            assert set(server.asked) == {f"/api/torghut/symbols{asked}"}

    asyncio.run(run())


def test_change_wakes_all_that_wait_and_the_same_list_none():
    """Two who wait both learn of a new list; an answer with the same one is no change."""

    async def run():
        async with jangar() as server:
            with universe_of(server) as universe:
                await universe.changed()
                waiting = [asyncio.create_task(universe.changed()) for _ in range(2)]
                await server.say(b'["ETH/USD", "BTC/USD"]')
                assert not any(task.done() for task in waiting)
                await server.say(["SOL/USD"])
                await asyncio.gather(*waiting)

    asyncio.run(run())


def test_start_and_close_may_be_called_twice():
    """A second start asks no more often, and nothing is asked after the end."""

    async def run():
        async with jangar() as server:
            with universe_of(server) as universe:
                universe.start()
                await universe.changed()
                universe.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*(task for task in others if "_poll" in repr(task.get_coro())), return_exceptions=True)
            before = len(server.asked)
            await asyncio.sleep(0.05)
            assert len(server.asked) == before

    asyncio.run(run())


def test_a_surprise_is_an_outage_and_not_the_end(monkeypatch):
    """Whatever is raised while an answer is read, the next question is asked."""

    async def run():
        async with jangar() as server:
            with universe_of(server) as universe:
                await universe.changed()
                with monkeypatch.context() as broken:
                    broken.setattr("torghut_core.market_data.jangar._symbols_of", lambda *_: 1 / 0)
                    await server.looked()
                    assert failures(universe).keys() == {"error"}
                await server.looked()
                assert not universe.is_degraded

    asyncio.run(run())


@given(st.lists(st.sampled_from(["good", "other", "empty", "down", "garbage", "disabled"]), min_size=1, max_size=12))
def test_the_list_is_always_the_last_good_one(script):
    """Over any course of answers: symbols are those of the last good answer, and degraded says whether the last was good."""
    answers = {
        "good": (TWO, 200, ("BTC/USD", "ETH/USD")),
        "other": (b'["SOL/USD"]', 200, ("SOL/USD",)),
        "disabled": (b'[{"symbol": "BTC/USD", "enabled": false}]', 200, ()),
        "empty": (b"[]", 200, None),
        "down": (b"", 503, None),
        "garbage": (b"<html>", 200, None),
    }

    async def run():
        async with jangar() as server:
            expected = ("DOGE/USD",)
            server.status = 503
            with universe_of(server, interval_seconds=0, fallback=expected) as universe:
                for step in script:
                    body, status, symbols = answers[step]
                    expected = expected if symbols is None else symbols
                    await server.say(body, status)
                    assert universe.symbols == expected
                    assert universe.is_degraded == (symbols is None)

    asyncio.run(run())


def test_static_list_stands():
    """Sorted, each once, without what is disabled; there is nothing to wait for."""
    universe = StaticUniverse(["MSFT", "AAPL", "MSFT", "TSLA"], disabled=["TSLA"])
    assert isinstance(universe, Universe)
    assert universe.symbols == ("AAPL", "MSFT")
    assert universe.gates() == {"universe": None}
    assert universe.metrics() == {}

    async def run():
        universe.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await universe.changed()
        universe.close()

    asyncio.run(run())


def test_static_list_without_symbols_closes_the_gate():
    """An empty list is said, with the setting to fix it."""
    gate = StaticUniverse([]).gates()["universe"]
    assert (gate.error_class, "TRADING_STATIC_SYMBOLS" in gate.reason) == ("no-symbols", True)


@pytest.mark.parametrize(
    ("environment", "symbols"),
    [
        ({}, ("AAPL", "MSFT")),
        ({"ALPACA_MARKET_TYPE": "crypto"}, ("BTC/USD",)),
        ({"TRADING_STATIC_SYMBOLS": "TSLA, ETH/USD ,,NVDA"}, ("NVDA", "TSLA")),
        ({"TRADING_STATIC_SYMBOLS": "TSLA, ETH/USD", "ALPACA_MARKET_TYPE": "crypto"}, ("ETH/USD",)),
        ({"TRADING_DISABLED_SYMBOLS": "AAPL"}, ("MSFT",)),
    ],
)
def test_settings_make_the_static_universe(environment, symbols, monkeypatch, tmp_path):
    """The setting's list, else the catalog's; of the market that is traded, so that one setting takes it back."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    universe = open_universe(UniverseSettings.read(), ["MSFT", "AAPL", "BTC/USD"], tmp_path)
    assert isinstance(universe, StaticUniverse)
    assert universe.symbols == symbols


def test_settings_make_the_jangar_universe(monkeypatch, tmp_path):
    """Address, asset class, interval, fallback and file come from the settings."""

    async def run():
        async with jangar() as server:
            monkeypatch.setenv("TRADING_UNIVERSE_SOURCE", "jangar")
            monkeypatch.setenv("JANGAR_SYMBOLS_URL", server.url)
            monkeypatch.setenv("SYMBOLS_POLL_INTERVAL_MS", "100")
            monkeypatch.setenv("ALPACA_MARKET_TYPE", "crypto")
            universe = open_universe(UniverseSettings.read(), [], tmp_path)
            universe.start()
            await universe.changed()
            await server.looked()
            assert universe.symbols == ("BTC/USD", "ETH/USD")
            universe.close()

    asyncio.run(run())
    assert (tmp_path / LIST_FILE).exists()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TRADING_UNIVERSE_SOURCE": "jangar"}, "JANGAR_SYMBOLS_URL is not set"),
        ({"TRADING_UNIVERSE_SOURCE": "jangar", "JANGAR_SYMBOLS_URL": "jangar/api"}, "JANGAR_SYMBOLS_URL is no address"),
        ({"TRADING_STATIC_SYMBOLS": "aapl"}, "TRADING_STATIC_SYMBOLS: 'aapl' is not a symbol"),
        ({"TRADING_DISABLED_SYMBOLS": "A B"}, "TRADING_DISABLED_SYMBOLS: 'A B' is not a symbol"),
        ({"TRADING_UNIVERSE_SOURCE": "file"}, "TRADING_UNIVERSE_SOURCE: "),
        ({"SYMBOLS_POLL_INTERVAL_MS": "1"}, "SYMBOLS_POLL_INTERVAL_MS: "),
    ],
)
def test_wrong_settings_are_named(environment, said, monkeypatch, tmp_path):
    """A wrong setting is an error before anything is requested."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said):
        open_universe(UniverseSettings.read(), [], tmp_path)


def test_password_in_the_address_is_not_logged(monkeypatch):
    """An address may hold a password; a line about it does not."""
    lines = []
    monkeypatch.setattr(logs, "warning", lambda event, **fields: lines.append(f"{event} {fields}"))

    async def run():
        async with jangar() as server:
            server.status = 503
            server.url = server.url.replace("http://", "http://jane:sesame@")
            with universe_of(server):
                await server.looked()

    asyncio.run(run())
    assert len(lines) == 1
    assert "sesame" not in lines[0]


def test_every_reason_is_there_from_the_start():
    """A counter begins at zero, so that its first increase can be seen."""
    counts = JangarUniverse("http://jangar", "crypto").metrics()[f"{FETCH}_failures_total"]
    assert counts == dict.fromkeys(FAILURES, 0)


def test_page_names_every_setting_reason_and_metric():
    """docs/universe.md lists everything that an operator may set or see."""
    page = PAGE.read_text()
    universe = JangarUniverse("http://jangar", "crypto")
    settings = [name.upper() for name in UniverseSettings.model_fields]
    metrics = [f"torghut_{name}" for name in universe.metrics()]
    assert [name for name in (*settings, *metrics, *FAILURES) if f"`{name}`" not in page] == []


def test_what_is_held_stays_wanted():
    """A symbol that is taken out of the list, or disabled, stays subscribed for as long as a position is held in it."""
    universe = StaticUniverse(["BTC/USD", "ETH/USD"], disabled=["ETH/USD"])
    assert universe.symbols == ("BTC/USD",)
    universe.keep(["ETH/USD", "SOL/USD"])
    assert universe.symbols == ("BTC/USD", "ETH/USD", "SOL/USD")
    universe.keep([])
    assert universe.symbols == ("BTC/USD",)


def test_the_catalogs_list_follows_the_catalog():
    """A strategy that a reload adds gets its data where no list of symbols was set; a list that was set does not change."""
    follows = StaticUniverse(["BTC/USD"], follows="crypto")
    follows.follow(["BTC/USD", "ETH/USD", "AAPL"])
    assert follows.symbols == ("BTC/USD", "ETH/USD")
    stands = StaticUniverse(["BTC/USD"])
    stands.follow(["ETH/USD"])
    assert stands.symbols == ("BTC/USD",)


def test_a_change_of_the_catalog_wakes_those_who_wait():
    """Who waits for another list is woken by it."""

    async def woken():
        universe = StaticUniverse(["BTC/USD"], follows="crypto")
        waits = asyncio.create_task(universe.changed())
        await asyncio.sleep(0)
        universe.follow(["ETH/USD"])
        async with asyncio.timeout(PATIENCE):
            await waits

    asyncio.run(woken())
