"""A venue in process, on a clock that advances only while every task waits: any schedule of faults takes no time."""

import asyncio
import selectors
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from pydantic import SecretStr
from torghut_sources.alpaca import connection as connection_module
from torghut_sources.alpaca.events import Events
from torghut_sources.alpaca.settings import AlpacaSettings
from torghut_sources.alpaca.source import Alpaca
from torghut_sources.alpaca.wire import Wire

from torghut_core import Connection, Unanswered, Universe, format_timestamp

T0 = 1_760_000_000_000_000_000
SECOND = 1_000_000_000
LAG = 0.008
"""How far the simulated history is behind, seconds."""
KEYS = {"ALPACA_KEY_ID": "PKPLANTEDKEY", "ALPACA_SECRET_KEY": "planted/secret/value"}


class VirtualSelector(selectors.DefaultSelector):
    """Advances the time instead of sleeping."""

    now = 1000.0
    stood = 0

    def select(self, timeout=None):
        assert timeout is not None, "every task waits for ever"
        self.stood = 0 if timeout > 0 else self.stood + 1
        assert self.stood < 100_000, "a task polls without waiting"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def time(self):
        return self._virtual.now


def run(main):
    """Run to the end, or fail after an hour by that clock."""

    async def limited():
        async with asyncio.timeout(3600):
            return await main

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(limited())


class Listed(Universe):
    """A list that a test changes."""

    def __init__(self, *symbols):
        self._symbols = tuple(sorted(symbols))
        self._event = asyncio.Event()

    @property
    def symbols(self):
        return self._symbols

    async def changed(self):
        self._event.clear()
        await self._event.wait()

    def set(self, *symbols):
        self._symbols = tuple(sorted(symbols))
        self._event.set()


class Transport:
    """A socket to the simulated venue."""

    def __init__(self, venue, connection):
        self.venue, self.connection = venue, connection
        self.is_open, self.is_reading, self.is_mute, self.answers_pings = True, True, False, True
        self.subscribed = set()
        self.unread = []
        self.underlying_transport = self

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True
        while self.unread and self.is_reading:
            self.connection.frame(self, self.unread.pop(0))

    def disconnect(self, graceful=True):
        self.is_open = False

    async def wait_disconnected(self):
        assert not self.is_open

    def send(self, kind, data):
        asyncio.get_running_loop().call_soon(self.venue.said, self, msgspec.json.decode(data))

    def send_ping(self):
        if self.answers_pings:
            asyncio.get_running_loop().call_soon(self.pong)

    def pong(self):
        if self.is_open:
            self.connection.ponged(self)

    def give(self, *messages, raw=None):
        if not self.is_open or self.is_mute:
            return
        frame = msgspec.json.encode(list(messages)) if raw is None else raw
        if self.is_reading:
            self.connection.frame(self, frame)
        else:
            self.unread.append(frame)

    def end(self):
        if self.is_open:
            self.is_open = False
            self.connection.ended(self, "cut")


class Venue:
    """Plays a tape to whoever listens, and remembers it.

    `refusals` are the answers to the next subscriptions (error codes), `rest_faults` failures of the next requests for
    history, `limit` the symbols of a connection at most, `attempts` when sockets were opened, `delays` how long each channel's
    history takes to answer, seconds; None for all at once.
    """

    def __init__(self):
        self.past = []
        self._fresh = []
        self.transport = None
        self.attempts = []
        self.said_by_client = []
        self.auth_errors, self.refusals = [], []
        self.is_down = False
        self.rest_faults = 0
        self.rest_requests = 0
        self.limit = None
        self.delays = None

    def open(self, connection):
        self.attempts.append(asyncio.get_running_loop().time())
        if self.is_down:
            raise ConnectionRefusedError("down")
        self.transport = Transport(self, connection)
        connection.opened(self.transport)
        self.transport.give({"T": "success", "msg": "connected"})

    def said(self, transport, request):
        if not transport.is_open or transport.is_mute:
            return
        self.said_by_client.append(request)
        if request["action"] == "auth":
            assert request["key"] == KEYS["ALPACA_KEY_ID"]
            if self.auth_errors:
                transport.give({"T": "error", "code": self.auth_errors.pop(0), "msg": "no"})
            else:
                transport.give({"T": "success", "msg": "authenticated"})
            return
        symbols = set(request["trades"])
        if request["action"] == "unsubscribe":
            transport.subscribed -= symbols
        elif self.refusals:
            transport.give({"T": "error", "code": self.refusals.pop(0), "msg": "no"})
            return
        elif self.limit is not None and len(transport.subscribed | symbols) > self.limit:
            transport.give({"T": "error", "code": 405, "msg": "symbol limit exceeded"})
            return
        else:
            transport.subscribed |= symbols
        listed = sorted(transport.subscribed)
        channels = ("trades", "quotes", "bars", "updatedBars")
        transport.give({"T": "subscription"} | dict.fromkeys(channels, listed))

    def remember(self, *messages):
        """These events happen now, without a stream; the history has them `LAG` later."""
        now = asyncio.get_running_loop().time()
        self._fresh += [(now, message) for message in messages]

    def known_history(self):
        """What the history has now."""
        now = asyncio.get_running_loop().time()
        while self._fresh and now - self._fresh[0][0] >= LAG:
            self.past.append(self._fresh.pop(0)[1])
        return self.past

    def happen(self, *messages):
        """These events happen now."""
        self.remember(*messages)
        transport = self.transport
        if transport is not None:
            arrived = [message for message in messages if message["S"] in transport.subscribed]
            if arrived:
                transport.give(*arrived)

    async def settled(self):
        """Wait until a client is subscribed."""
        while self.transport is None or not self.transport.is_open or not self.transport.subscribed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # no time at all, by this clock


class Past:
    """The history of a simulated venue."""

    def __init__(self, venue):
        self._venue = venue

    async def events(self, channels, symbols, since, until):
        venue = self._venue
        venue.rest_requests += 1
        known = list(venue.known_history())
        await asyncio.sleep(0.005)
        wire = Wire()
        kinds = {"trades": "t", "quotes": "q", "bars": "b"}
        wanted = {kinds[channel] for channel in channels}
        rows = [row for row in known if row["T"] in wanted and row["S"] in symbols]
        events = wire.read([msgspec.json.encode(rows)]).events
        events = events.take(np.flatnonzero((events.event_ts >= since) & (events.event_ts < until)))
        events = events.take(np.argsort(events.known_ts(), kind="stable"))
        for start in range(0, len(events), 7):
            if venue.rest_faults:
                venue.rest_faults -= 1
                raise Unanswered("the history is down")
            yield events.take(np.arange(start, min(start + 7, len(events))))
            await asyncio.sleep(0.001)

    async def aclose(self):
        pass


class UnevenPast(Past):
    """Each channel answers after a time of its own, with what it knows then."""

    def __init__(self, venue, delays):
        super().__init__(venue)
        self._delays = delays

    async def events(self, channels, symbols, since, until):
        async def of(channel):
            await asyncio.sleep(self._delays[channel])
            return [part async for part in Past.events(self, [channel], symbols, since, until)]

        parts = [part for answer in await asyncio.gather(*map(of, channels)) for part in answer]
        if parts:
            events = Events.concatenate(parts)
            order = np.argsort(events.known_ts(), kind="stable")
            for start in range(0, len(order), 7):
                yield events.take(order[start : start + 7])
                await asyncio.sleep(0.001)


class SimulatedAlpaca(Alpaca):
    """The source, with the simulated venue's history."""

    venue: Venue

    def _open_history(self):
        return Past(self.venue) if self.venue.delays is None else UnevenPast(self.venue, self.venue.delays)


class Telling(Venue):
    """Plays its tape to the first that listens; to those that come for the past there is no more."""

    def __init__(self, count):
        super().__init__()
        self.tape = [
            bar(number - 6_000, "ETH/USD")
            if number == 5
            else (quote if number % 3 == 2 else trade)(number, ("BTC/USD", "ETH/USD")[number % 2])
            for number in range(count)
        ]

    def said(self, transport, request):
        super().said(transport, request)
        if request["action"] == "subscribe" and not self.past:
            for start in range(0, len(self.tape), 6):
                self.happen(*self.tape[start : start + 6])


class Recorded(SimulatedAlpaca):
    """Closes after the last event of its tape."""

    def seek(self, cursor):
        self.venue.past = self.venue.tape
        super().seek(cursor)

    async def batches(self, size):
        last = int(Wire().read([msgspec.json.encode(self.venue.tape)]).events.known_ts().max())
        async for batch in super().batches(size):
            yield batch
            if batch.now[-1] >= last:
                self.close()


@pytest.fixture
def listed():
    """Makes universes of a list, which a test may `set`."""
    return Listed


@pytest.fixture
def simulated(monkeypatch):
    """Makes sources that reach a simulated venue; all in one virtual loop (`run`)."""

    class SimulatedConnection(connection_module.StreamConnection):
        async def _open(self):
            await asyncio.sleep(0.001)
            try:
                SimulatedAlpaca.venue.open(self)
            except OSError as error:
                self.lose(connection_module.Closed(str(error), "connect"))

    monkeypatch.setattr(connection_module, "StreamConnection", SimulatedConnection)

    def source(venue, universe, *, batch=200, wall=lambda: T0, **params):
        SimulatedAlpaca.venue = venue
        loop = asyncio.get_running_loop()
        quick = {"history_lag_ms": 10, "ping_s": 1, "stale_after_s": 3, "answer_s": 1, "tick_ms": 0, "overlap_ms": 50}
        settings = AlpacaSettings(
            alpaca_market_type="crypto", reconnect_base_ms=20, reconnect_max_ms=200, subscribe_batch_size=batch
        )
        made = SimulatedAlpaca(
            Alpaca.Params(**{**quick, **params}), settings, clock=loop.time, wall=wall, chance=lambda: 0.5
        )
        made.connect(Connection(False, lambda name: SecretStr(KEYS[name]), universe))
        return made

    def recorded(count=40):
        """A source that gives a tape and closes: connected already, for a loop that is not there yet."""
        SimulatedAlpaca.venue = Telling(count)
        made = Recorded(
            Alpaca.Params(tick_ms=0, history_lag_ms=0, overlap_ms=0),
            AlpacaSettings(alpaca_market_type="crypto", reconnect_base_ms=1),
            wall=lambda: T0,
        )
        made.connect(Connection(False, lambda name: SecretStr(KEYS[name]), Listed("BTC/USD", "ETH/USD")))
        return made

    return SimpleNamespace(
        recorded=recorded, source=source, Venue=Venue, Listed=Listed, run=run, T0=T0, trade=trade, quote=quote, bar=bar
    )


def trade(number, symbol="BTC/USD", at=None):
    """A trade each 10 ms."""
    ts = T0 - 3600 * SECOND + (number * 10_000_000 if at is None else at)
    return {"T": "t", "S": symbol, "i": 2**60 + number, "p": 100.5, "s": 2.0, "t": format_timestamp(ts)}


def quote(number, symbol="BTC/USD", at=None):
    ts = T0 - 3600 * SECOND + (number * 10_000_000 if at is None else at)
    return {"T": "q", "S": symbol, "bp": 1.0, "bs": 1.0 + number, "ap": 2.0, "as": 1.0, "t": format_timestamp(ts)}


def bar(number, symbol="BTC/USD"):
    """The minute that `number` * 10 ms begins in."""
    ts = T0 - 3600 * SECOND + number * 10_000_000
    ts -= ts % (60 * SECOND)
    values = {"o": 1.0, "h": 2.0, "l": 1.0, "c": 2.0, "v": 3.0, "n": 1, "vw": 1.5}
    return {"T": "b", "S": symbol, "t": format_timestamp(ts)} | values
