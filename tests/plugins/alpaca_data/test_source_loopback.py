"""The source against a venue on loopback: sockets, the real protocol, each kind of fault."""

import asyncio
import contextlib

import numpy as np
import pytest
from pydantic import SecretStr
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.alpaca.source import Alpaca
from torghut_testing.alpaca_data import FakeMarketData, Fault, event_of, synthetic

from support.waiting import PATIENCE
from torghut_core import Connection, InputError, SettingsError, format_timestamp

SYMBOLS = ("BTC/USD", "ETH/USD")
T0 = 1_760_000_000_000_000_000
EVENTS = [event_of(message) for message in synthetic({"BTC/USD": 60_000.0, "ETH/USD": 3_000.0}, start=T0, count=600)]
QUICK = {
    "history_lag_ms": 5,
    "ping_s": 0.1,
    "stale_after_s": 0.3,
    "answer_s": 1,
    "tick_ms": 0,
    "overlap_ms": 200,
    "crowded_wait_s": 0.05,
}
FAULTS = {
    "none": [],
    "cut": [Fault(kind="cut", at=200, lost=50)],
    "close": [Fault(kind="close", at=200, lost=50)],
    "mute": [Fault(kind="mute", at=200, lost=50)],
    "mute with pongs": [Fault(kind="mute", at=200, lost=50, pings=True)],
    "half-open, counted for the limit": [Fault(kind="half_open", at=200, lost=50, seconds=0.4)],
    "restart": [Fault(kind="restart", at=200, lost=50)],
    "slow": [Fault(kind="slow", at=200, count=3)],
    "duplicate": [Fault(kind="duplicate", at=200, count=40)],
    "garbage": [Fault(kind="garbage", at=200)],
    "unknown": [Fault(kind="unknown", at=200)],
    "407": [Fault(kind="error", code=407, at=200, lost=50)],
    "406": [Fault(kind="error", code=406, at=200, lost=50)],
    "500": [Fault(kind="error", code=500, at=200, lost=50)],
    "auth timeout": [Fault(kind="cut", at=200, lost=10), Fault(kind="error", code=404, when="auth")],
    "429 at the handshake": [Fault(kind="cut", at=200, lost=10), Fault(kind="handshake", code=429, count=2)],
    "duplicate and cut": [Fault(kind="duplicate", at=200, count=30), Fault(kind="cut", at=210, lost=40)],
    "cut twice": [Fault(kind="cut", at=200, lost=30), Fault(kind="cut", at=260, lost=30)],
    "mute and restart": [Fault(kind="mute", at=200, lost=10), Fault(kind="restart", at=300, lost=10)],
    "garbage and cut": [Fault(kind="garbage", at=200), Fault(kind="cut", at=205, lost=40)],
}


def source(market, universe, key=None, **params):
    keys = {"ALPACA_KEY_ID": key or market.key, "ALPACA_SECRET_KEY": market.secret}
    settings = AlpacaSettings(
        alpaca_market_type="crypto",
        alpaca_stream_url=market.url,
        alpaca_base_url=market.rest_url,
        reconnect_base_ms=10,
        reconnect_max_ms=100,
    )
    made = Alpaca(Alpaca.Params(**QUICK | params), settings)
    made.connect(Connection(False, lambda name: SecretStr(keys[name]), universe))
    return made


async def taken(made, count, seconds=10):
    """Batches up to so many events, and until all gates are open."""
    batches, left = [], count
    async with asyncio.timeout(seconds), contextlib.aclosing(made.batches(100)) as stream:
        async for batch in stream:
            batches.append(batch)
            left -= len(batch)
            if left <= 0:
                return batches
    raise AssertionError("the source ended")


def rows(batches):
    found = []
    for batch in batches:
        for kind, table in (("t", batch.trades), ("q", batch.quotes)):
            names = [batch.symbols.names[number] for number in table.symbol.tolist()]
            found += zip(table.at.tolist(), [kind] * len(table), names, table.event_ts.tolist(), strict=True)
    return [row[1:] for row in sorted(found)]


@pytest.mark.parametrize("name", FAULTS)
def test_tape_is_given_out_whatever_fails(listed, name):
    """Each event of the tape comes once, in order, whatever the connection does meanwhile."""
    encoding = "msgpack" if len(name) % 2 else "json"

    async def main():
        with FakeMarketData() as market:
            market.play(EVENTS, faults=FAULTS[name], wait_for=SYMBOLS)
            made = source(market, listed(*SYMBOLS), encoding=encoding)
            batches = await taken(made, len(EVENTS))
            return batches, made, market

    batches, made, market = asyncio.run(main())
    assert rows(batches) == [(event.kind, event.symbol, event.at) for event in EVENTS]
    now = np.concatenate([batch.now for batch in batches])
    assert (np.diff(now) >= 0).all()
    faults = FAULTS[name]
    if any(fault.deafens for fault in faults):
        assert made.metrics()["ws_reconnects_total"] >= 1
        assert made.metrics()["ws_backfill_events_total"] > 0
    assert all(set(attempt.path.split("/")) >= {"v1beta3", "crypto", "us"} for attempt in market.attempts)


def test_order_of_the_stream_is_kept(listed):
    """Events that the venue sends out of order are given out as they came, and what was lost meanwhile is found."""
    faults = [Fault(kind="reorder", at=200, count=8), Fault(kind="cut", at=204, lost=20)]

    async def main():
        with FakeMarketData() as market:
            market.play(EVENTS, faults=faults, wait_for=SYMBOLS)
            made = source(market, listed(*SYMBOLS))
            return await taken(made, len(EVENTS))

    batches = asyncio.run(main())
    assert sorted(rows(batches)) == sorted((event.kind, event.symbol, event.at) for event in EVENTS)


def test_consumer_that_stops_holds_the_socket(listed):
    """Without a consumer memory stays bounded, the venue reports a slow client, and afterwards the whole tape comes."""
    events = [
        {"T": "t", "S": "BTC/USD", "i": number, "p": 1.0, "s": 1.0, "t": format_timestamp(T0 + number * 100_000)}
        for number in range(30_000)
    ]

    async def main():
        with FakeMarketData(buffer_limit=1 << 16) as market:
            playback = market.play(events, wait_for=["BTC/USD"], speed=20.0)
            made = source(market, listed("BTC/USD"), queue_frames=50, overlap_ms=20)
            batches = []
            async with asyncio.timeout(PATIENCE), contextlib.aclosing(made.batches(1000)) as stream:
                batches.append(await anext(stream))
                while not playback.is_done:
                    await asyncio.sleep(0.01)
                    assert made.metrics()["ws_queue_frames"] <= 50 + 400  # and what was read at once
                while sum(map(len, batches)) < len(events):
                    batches.append(await anext(stream))
            return batches

    batches = asyncio.run(main())
    assert [row[2] for row in rows(batches)] == [T0 + number * 100_000 for number in range(30_000)]


def test_wrong_keys_end_the_source_and_are_never_shown(listed):
    """Keys that the venue refuses are an error that says what to check, and shows none of them."""

    async def main():
        with FakeMarketData() as market:
            made = source(market, listed(*SYMBOLS), key="PKPLANTEDWRONG")
            async with asyncio.timeout(PATIENCE):
                await anext(made.batches(1))

    with pytest.raises(InputError, match="ALPACA_KEY_ID") as raised:
        asyncio.run(main())
    assert "PLANTED" not in str(raised.value)


def test_market_type_alone_leads_back_to_equities(listed, monkeypatch):
    """One setting, ALPACA_MARKET_TYPE, decides path, channels and which of the universe's symbols are asked for."""

    async def main():
        with FakeMarketData() as market:
            monkeypatch.setenv("ALPACA_STREAM_URL", market.url)
            monkeypatch.setenv("ALPACA_BASE_URL", market.rest_url)
            seen = {}
            for kind in ("crypto", "equity"):
                monkeypatch.setenv("ALPACA_MARKET_TYPE", kind)
                made = Alpaca(Alpaca.Params(**QUICK))
                keys = {"ALPACA_KEY_ID": market.key, "ALPACA_SECRET_KEY": market.secret}
                connection = Connection(False, lambda name, keys=keys: SecretStr(keys[name]), listed("AAPL", "BTC/USD"))
                made.connect(connection)
                symbol = "BTC/USD" if kind == "crypto" else "AAPL"
                event = {"T": "t", "S": symbol, "i": 1, "p": 1.0, "s": 1.0, "t": format_timestamp(T0)}
                market.play([event], wait_for=[symbol])
                batch = (await taken(made, 1, 5))[0]
                asked = [said for said in market.attempts[-1].said if said.get("action") == "subscribe"]
                seen[kind] = (market.attempts[-1].path, sorted(asked[0]), asked[0]["trades"], batch.symbols.names)
        return seen

    seen = asyncio.run(main())
    crypto = ["action", "bars", "quotes", "trades", "updatedBars"]
    assert seen["crypto"] == ("/v1beta3/crypto/us", crypto, ["BTC/USD"], ["BTC/USD"])
    assert seen["equity"] == ("/v2/iex", [*crypto[:3], "statuses", *crypto[3:]], ["AAPL"], ["AAPL"])


def test_missing_universe_or_channel_is_an_error_before_connecting(listed):
    """A missing universe, or a channel that the market does not have, is an error with its fix."""
    settings = AlpacaSettings(alpaca_market_type="crypto")
    secret = SecretStr("planted")
    with pytest.raises(SettingsError, match="no universe"):
        Alpaca(Alpaca.Params(), settings).connect(Connection(False, lambda name: secret))
    with pytest.raises(SettingsError, match=r"crypto has no channel statuses .*ALPACA_MARKET_TYPE"):
        Alpaca(Alpaca.Params(channels=["trades", "statuses"]), settings).connect(
            Connection(False, lambda name: secret, listed("BTC/USD"))
        )
