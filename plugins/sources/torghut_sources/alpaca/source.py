"""The source `alpaca`: a connection to the stream that is kept open, and the history for the time in which it was not.

Two tasks of one event loop. One keeps the connection: it turns what the socket reports into calls of `session`, and puts
frames into the `inbox` as they arrive. The other is the consumer of the batches: it decodes frames, many at a time where
many wait, and fills gaps.

**When the consumer is slow.** Frames are never dropped. A full inbox stops the reading of the socket, the venue's buffers
fill up, and in the end it reports a slow client (407) or cuts the connection. Then it is opened again when the inbox has
room, and what was missed comes from the history. Until the subscription is confirmed the socket is read however much waits,
as nothing could be confirmed otherwise; that lasts for a few answers.

**What is missing** comes from the history: see `filling`. While nothing arrives: see `silence`.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pydantic

from torghut_core import (
    MILLISECOND,
    PAIRS_AND_US_EQUITIES,
    Batch,
    Closed,
    Connection,
    CorporateAction,
    InputError,
    Message,
    Metric,
    MetricSpec,
    SettingsError,
    Source,
    StateError,
    SymbolTable,
    Universe,
    format_timestamp,
    param,
    parse_timestamp,
)
from torghut_sources.alpaca.dedup import Once
from torghut_sources.alpaca.events import Events
from torghut_sources.alpaca.feed import FeedClock
from torghut_sources.alpaca.filling import Filling, GapFiller
from torghut_sources.alpaca.history import History
from torghut_sources.alpaca.hours import regular_hours
from torghut_sources.alpaca.inbox import Inbox
from torghut_sources.alpaca.messages import Trade
from torghut_sources.alpaca.session import Clocks, Session, State
from torghut_sources.alpaca.settings import HISTORY_CHANNELS, AlpacaSettings
from torghut_sources.alpaca.silence import Silence
from torghut_sources.alpaca.wire import Complaint, Wire
from torghut_sources.misdated import Misdated

if TYPE_CHECKING:
    from torghut_sources.alpaca.connection import StreamConnection

KEY_ID, SECRET_KEY = "ALPACA_KEY_ID", "ALPACA_SECRET_KEY"
NAME = "alpaca"
"""The envelope's `source`."""
FRAMES = 96
"""Frames that are decoded at a time at most. Of twice as many the structs are too many for the processor's cache."""
LOOKED_UP = 3
"""Symbols that the history is asked for before a silent feed is given a time: those of the last events."""
LONGEST_TICK_S = 60.0
"""The longest pause between two ticks of a silent feed, seconds: each is twice as long as the one before."""
CONNECTION_LIMIT_MAX_S = 60.0
"""The longest wait after a connection limit, seconds."""
LAGS = 1024
"""Chunks of which the lag of the last event is kept for the metrics."""
COUNTS = {
    "ahead_refused": "Events refused because they are ahead of all clocks.",
    "backfills": "Gaps that were filled.",
    "backfill_events": "Events that came from the history.",
    "backfill_failures": "Times that the history did not answer.",
    "backfill_truncated": "Gaps of which only the end was filled, as they are too long.",
    "bar_updates": "Corrected bars, which are forwarded and not derived from.",
    "late": "Trades and quotes that were further behind the newest than `overlap_ms`: bars that are over lack them.",
    "gaps": "Times that something was missed.",
    "ticks": "Clock ticks: times that only the time advanced.",
}
"""What is counted, and what it means."""

log = logging.getLogger(__name__)


class _Setup(NamedTuple):
    """What `connect` found: where the venue is, the keys, what to subscribe, and whether the market has to give data now."""

    settings: AlpacaSettings
    universe: Universe
    channels: tuple[str, ...]
    keys: tuple[pydantic.SecretStr, pydantic.SecretStr]
    expects_data: Callable[[], bool]

    @property
    def history_channels(self) -> tuple[str, ...]:
        """The channels that have a history."""
        return tuple(channel for channel in HISTORY_CHANNELS if channel in self.channels)


class Alpaca(Source):
    """Trades, quotes, bars and statuses of Alpaca's market data stream, equities or crypto, without gaps.

    ``ALPACA_MARKET_TYPE`` says which; symbols are those of the universe that have the form of its market (``BTC/USD`` of
    crypto, ``AAPL`` of equities). What is missed while there is no connection comes from the REST history, in order and
    before anything later. Each event is given out once, if it is repeated within the last `queue_mb` of events. After
    `seek` events of the last `overlap_ms` may be repeated. A minute of a symbol is at most one row of `Batch.bars`: what
    the venue says of it later (``updatedBars``, or a bar that is not newer than the last row) is counted
    (``ws_bar_updates_total``) and is in messages only.

    Parameters
    ----------
    params : see `Params`.
    settings : where the venue is; None: from the environment.
    clock : gives monotonic time, seconds.
    wall : gives the time of day, ns since the epoch.
    chance : gives numbers from 0 to 1, for waits.
    """

    secrets = (KEY_ID, SECRET_KEY)
    settings = (AlpacaSettings,)
    venue_calendars = PAIRS_AND_US_EQUITIES

    class Params(Source.Params):
        """Parameters of the stream."""

        channels: list[Literal["trades", "quotes", "bars", "updatedBars", "statuses"]] | None = param(
            None, help="channels to subscribe; default: all that the market has", min_length=1
        )
        encoding: Literal["json", "msgpack"] = param("json", help="encoding of the messages")
        backfill: bool = param(True, help="whether to fill gaps from the history")
        since: str | None = param(None, help="at the start, fill from this time on, like 2026-01-05T14:30:00Z")
        backfill_max_s: float = param(
            86_400, gt=0, help="longest gap that is filled completely, seconds; of longer ones the end is"
        )
        history_lag_ms: int = param(1000, ge=0, help="how far the history may be behind the stream, milliseconds")
        overlap_ms: int = param(2000, ge=0, help="how far events may overtake each other, milliseconds")
        max_ahead_ms: int = param(
            10_000,
            ge=0,
            help="events further ahead of all clocks are dropped, milliseconds: they would close all windows",
        )
        tick_ms: int = param(2000, ge=0, help="silence after which a clock tick is given, milliseconds; 0: never")
        stale_after_s: float = param(30, gt=0, help="silence after which a feed that has to give data is mute, seconds")
        max_wait_s: float = param(
            10,
            gt=0,
            help="how long frames may wait for a slow consumer before entries are stopped, seconds",
        )
        quiet_after_s: float = param(
            900, gt=0, help="silence after which equities outside regular hours are mute, seconds"
        )
        stable_after_s: float = param(30, ge=0, help="time with data that ends the back-off of reconnects, seconds")
        crowded_wait_s: float = param(5, gt=0, help="shortest wait after connection limit exceeded (406), seconds")
        ping_s: float = param(10, gt=0, help="silence after which a ping is sent, and time for its pong, seconds")
        answer_s: float = param(10, gt=0, help="time for each answer until the subscription is confirmed, seconds")
        queue_mb: float = param(16, gt=0, help="frames that may wait, MiB")
        queue_frames: int = param(100_000, ge=1, help="frames that may wait, number")

        @pydantic.field_validator("since")
        @classmethod
        def _check_since(cls, since: str | None) -> str | None:
            if since is not None:
                parse_timestamp(since)
            return since

    def __init__(
        self,
        params: Params,
        settings: AlpacaSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(params)
        self._given_settings = settings
        self._setup: _Setup | None = None
        self._wire = Wire(params.encoding)
        self._once = Once(max(1 << 16, int(params.queue_mb * 2**20) // 64))
        self._clock, self._wall, self._chance = clock, wall, chance
        self._symbols = SymbolTable()
        self._position = self._seq = self._now = 0
        self._feed = self._feed_from(None if params.since is None else parse_timestamp(params.since))
        self._connection: StreamConnection | None = None
        self._filler: GapFiller | None = None
        self._counts: Counter[str] = Counter()
        self._complaints: Counter[str] = Counter()
        self._lags: deque[float] = deque(maxlen=LAGS)
        self._last_symbols: tuple[str, ...] = ()
        self._bars: dict[str, int] = {}
        self._misdated: Misdated[str] = Misdated(params.overlap_ms * MILLISECOND)

    def connect(self, connection: Connection) -> None:
        """Take keys, universe and settings; the connection is opened when batches or messages are taken.

        Raises
        ------
        SettingsError : a key or setting is missing or wrong, a channel that the market does not have, no universe.
        """
        try:
            import torghut_sources.alpaca.connection  # noqa: F401 - it needs picows
        except ImportError as error:
            raise SettingsError(f"alpaca: {error.name} is missing (pip install 'torghut[alpaca]')") from error
        settings = self._given_settings or AlpacaSettings.read()
        if connection.universe is None:
            raise SettingsError("alpaca: no universe to subscribe (set TRADING_UNIVERSE_SOURCE or strategies' symbols)")
        channels = tuple(self.params.channels or settings.channels)
        missing = [channel for channel in channels if channel not in settings.channels]
        if missing:
            raise SettingsError(
                f"alpaca: {settings.alpaca_market_type} has no channel {', '.join(missing)} "
                f"(leave it out of `channels`, or change ALPACA_MARKET_TYPE)"
            )
        key, secret = connection.secret(KEY_ID), connection.secret(SECRET_KEY)
        expects_data = (lambda: True) if settings.is_crypto else regular_hours(self._wall)
        self._setup = _Setup(settings, connection.universe, channels, (key, secret), expects_data)
        self._once.pass_on(_ANYTHING, SymbolTable())  # compile now, not in the event loop

    def close(self) -> None:
        """Close the connection; `batches` ends."""
        if self._connection is not None:
            self._connection.close()

    async def batches(self, size: int) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` events, as they arrive: a batch waits for nothing.

        Raises
        ------
        InputError : the venue refuses for good (keys, plan), with the fix.
        """
        async with aclosing(self._pieces()) as stream:
            async for piece in stream:
                if isinstance(piece, int):
                    self._counts["ticks"] += 1
                    batch = Batch.of(self._symbols, self._position, np.array([piece], np.int64))
                else:
                    events = piece.each_minute_once(self._bars)
                    self._counts["bar_updates"] += len(events.parts[3][0])
                    batch = events.batch(self._symbols, self._position, self._seq, self._now)
                    self._seq += len(events)
                for ready in _cut(batch, size):
                    self._position, self._now = ready.stop, int(ready.now[-1])
                    for number, start in zip(ready.bars.symbol.tolist(), ready.bars.event_ts.tolist(), strict=True):
                        self._bars[self._symbols.names[number]] = start
                    yield ready

    async def messages(self, size: int) -> AsyncIterator[list[Message]]:
        """Yield the same events as envelopes, statuses, corrections, cancels and updated bars among them; raises as `batches`.

        A list is empty where only time has passed: see `known_until`.
        """
        async with aclosing(self._pieces()) as stream:
            async for piece in stream:
                if isinstance(piece, int):
                    self._counts["ticks"] += 1
                    self._now = piece
                    yield []
                    continue
                self._counts["bar_updates"] += len(piece.parts[3][0])
                for start in range(0, len(piece), size):
                    part = piece if len(piece) <= size else piece.take(np.arange(start, min(start + size, len(piece))))
                    messages = self._messages(part, self._seq)
                    self._seq += len(part)
                    self._now = max(self._now, int(part.known_ts().max()))
                    yield messages

    async def history(self, symbols: Sequence[str], since: int, until: int) -> AsyncIterator[list[Message]]:
        """Yield past trades, quotes and bars (those that are subscribed), in the order in which they became known."""
        history, channels = self._open_history(), self._venue.history_channels
        try:
            seq = 0
            async with aclosing(history.events(channels, symbols, since, until)) as stream:
                async for events in stream:
                    yield self._messages(events, seq)
                    seq += len(events)
        finally:
            await history.aclose()

    async def past_actions(self, symbols: Sequence[str], since: date, until: date) -> list[CorporateAction]:
        """Return the splits and cash dividends with an ex date in ``[since, until)``; see `Source.past_actions`."""
        if self._venue.settings.is_crypto:
            raise InputError("crypto has no corporate actions (set ALPACA_MARKET_TYPE=equity)")
        history = self._open_history()
        try:
            return await history.actions(symbols, since, until)
        finally:
            await history.aclose()

    def cursor(self) -> dict[str, Any]:
        """Return position, number and time after the last event that was given out, and the last minute of each symbol's bars."""
        return {"position": self._position, "seq": self._seq, "now": self._now, "bars": dict(self._bars)}

    def seek(self, cursor: dict[str, Any]) -> None:
        """Resume after `cursor`: what happened since then comes from the history first."""
        self._position, self._seq, self._now = int(cursor["position"]), int(cursor["seq"]), int(cursor["now"])
        self._bars = {symbol: int(start) for symbol, start in cursor.get("bars", {}).items()}
        wall = self._wall()
        if self._now > self._feed.limit(wall):
            log.warning(
                "alpaca: resumes from %s, which is in the future: from now instead", format_timestamp(self._now)
            )
            self._now = wall
        if self._now:
            self._feed = self._feed_from(self._now)

    def known_until(self) -> int | None:
        """Return the feed's time, ns, ticks included, while it is live and no gap is known; None otherwise."""
        is_whole = self._connection is not None and self._connection.session.state is State.LIVE
        return self._now or None if is_whole else None

    def gates(self) -> Mapping[str, Closed | None]:
        """Return whether keys are accepted (``auth``), symbols confirmed (``subscription``), gaps filled, data fresh."""
        if self._connection is None:
            return dict.fromkeys(
                ("auth", "subscription", "backfill", "freshness"), Closed("not connected", "connecting")
            )
        gates = self._connection.session.gates(self._clock())
        if self._filler is not None and self._filler.problem is not None and gates["backfill"] is not None:
            gates["backfill"] = self._filler.problem
        waited = self._connection.inbox.age(self._clock())
        if gates["freshness"] is None and waited > self.params.max_wait_s:
            reason = f"market data has waited {waited:.0f} s to be processed (find out what slows this process down)"
            gates["freshness"] = Closed(reason, "behind")
        if gates["freshness"] is None and (symbols := self._misdated.symbols(self._clock())):
            gates["freshness"] = self._misdated.gate(symbols)
        return gates

    metric_specs = (
        *(MetricSpec(f"ws_{name}_total", meaning) for name, meaning in COUNTS.items()),
        MetricSpec(
            "ws_lag_ms", "From an event at the venue to its arrival here, milliseconds, by quantile.", "quantile"
        ),
        MetricSpec("ws_dedup_drops_total", "Events that came twice and were dropped, by channel.", "channel"),
        MetricSpec("ws_complaints_total", "Messages of the venue that could not be used, by reason.", "reason"),
        MetricSpec("ws_unknown_messages_total", "Messages of kinds that are not known, by kind.", "type"),
        MetricSpec("ws_ws_connect_success_total", "Connections to the market data that were made."),
        MetricSpec("ws_ws_connect_errors_total", "Connections that failed or were lost, by class.", "error_class"),
        MetricSpec("ws_reconnects_total", "Connections that were made again."),
        MetricSpec("ws_queue_frames", "Frames of the venue that wait."),
        MetricSpec("ws_queue_bytes", "Bytes of the venue's frames that wait."),
        MetricSpec("ws_symbols_confirmed", "Symbols that the venue has confirmed."),
        MetricSpec("ws_symbols_refused", "Symbols that the venue refused to send."),
    )

    def metrics(self) -> Mapping[str, Metric]:
        """Return the values of `metric_specs`, by name."""
        connection = self._connection
        metrics: dict[str, Metric] = {f"ws_{name}_total": float(self._counts[name]) for name in COUNTS}
        lags = sorted(self._lags)
        metrics["ws_lag_ms"] = {} if not lags else {str(q): lags[int(q * (len(lags) - 1))] for q in (0.5, 0.99)}
        metrics["ws_dedup_drops_total"] = dict(self._once.drops)
        metrics["ws_complaints_total"] = dict(self._complaints)
        metrics["ws_unknown_messages_total"] = dict(self._wire.unknown)
        metrics["ws_ws_connect_success_total"] = 0.0 if connection is None else connection.connects
        metrics["ws_ws_connect_errors_total"] = {} if connection is None else dict(connection.errors)
        metrics["ws_reconnects_total"] = 0.0 if connection is None else max(0, connection.connects - 1)
        metrics["ws_queue_frames"] = 0.0 if connection is None else len(connection.inbox)
        metrics["ws_queue_bytes"] = 0.0 if connection is None else connection.inbox.size
        metrics["ws_symbols_confirmed"] = 0.0 if connection is None else len(connection.session.confirmed)
        metrics["ws_symbols_refused"] = 0.0 if connection is None else len(connection.session.refused)
        return metrics

    @property
    def _venue(self) -> _Setup:
        if self._setup is None:
            raise StateError("the source alpaca is not connected (call connect before it is read)")
        return self._setup

    def _feed_from(self, known: int | None) -> FeedClock:
        return FeedClock(known, self.params.max_ahead_ms * MILLISECOND)

    def _messages(self, events: Events, seq: int) -> list[Message]:
        return events.messages(feed=self._venue.settings.feed, source=NAME, seq=seq, ingest_ts=self._wall())

    def _open_history(self) -> History:
        return History(self._venue.settings, *self._venue.keys, complain=self._complain)

    async def _pieces(self) -> AsyncGenerator[Events | int, None]:
        """Yield what is to be given out, each event once: events as they arrive, and a time where none arrives."""
        from torghut_sources.alpaca.connection import StreamConnection

        if self._connection is not None:
            raise RuntimeError("an alpaca source can be read once only: make another")
        params, venue = self.params, self._venue
        settings = venue.settings
        session = Session(
            self._universe_symbols(),
            batch=settings.subscribe_batch_size,
            now=self._clock(),
            clocks=Clocks(
                answer_s=params.answer_s,
                ping_s=params.ping_s,
                stale_s=params.stale_after_s,
                quiet_s=max(params.quiet_after_s, params.stale_after_s),
                base_s=settings.reconnect_base_ms / 1000,
                max_s=settings.reconnect_max_ms / 1000,
                crowded_s=params.crowded_wait_s,
                crowded_max_s=max(CONNECTION_LIMIT_MAX_S, params.crowded_wait_s),
                stable_s=params.stable_after_s,
            ),
            expects_data=venue.expects_data,
            chance=self._chance,
        )
        inbox = Inbox(params.queue_frames, int(params.queue_mb * 2**20))
        connection = self._connection = StreamConnection(
            session,
            inbox,
            settings=settings,
            keys=venue.keys,
            channels=venue.channels,
            wire=Wire(params.encoding),
            universe=venue.universe,
            wanted=self._universe_symbols,
            answer_s=params.answer_s,
            clock=self._clock,
            wall=self._wall,
        )
        if params.backfill and self._feed.complete_until is not None:
            session.gap()
            inbox.lose()
        history = self._open_history()
        filler = self._filler = GapFiller(
            connection,
            self._feed,
            history,
            Filling(
                is_on=params.backfill,
                channels=venue.history_channels,
                encoding=params.encoding,
                lag=params.history_lag_ms * MILLISECOND,
                overlap=params.overlap_ms * MILLISECOND,
                ahead=params.max_ahead_ms * MILLISECOND,
                longest_s=params.backfill_max_s,
                pause_s=settings.reconnect_base_ms / 1000,
                longest_pause_s=settings.reconnect_max_ms / 1000,
            ),
            admit=partial(self._once.pass_on, symbols=self._symbols),
            counts=self._counts,
            clock=self._clock,
            wall=self._wall,
            chance=self._chance,
        )
        connection.start()
        try:
            async with aclosing(self._stream(connection, filler)) as stream:
                async for piece in stream:
                    yield piece
        finally:
            await connection.end()
            await history.aclose()

    async def _stream(self, connection: StreamConnection, filler: GapFiller) -> AsyncGenerator[Events | int, None]:
        inbox = connection.inbox
        silence = Silence(
            connection,
            self._feed,
            look_up=lambda latest: filler.look_up(self._last_symbols, latest),
            complain=self._complain,
            clock=self._clock,
            tick_s=self.params.tick_ms / 1000,
            longest_tick_s=LONGEST_TICK_S,
            lag_s=self.params.history_lag_ms / 1000,
        )
        at_once = FRAMES
        try:
            while True:
                frames = inbox.take(at_once)
                if frames:
                    silence.broken()
                    received = self._wire.read(frames)
                    if len(frames) > 1 and any(complaint.reason == "frame" for complaint in received.complaints):
                        inbox.put_back(frames)  # one at a time, up to the frame that cannot be read: it is a gap
                        at_once = 1
                        continue
                    connection.resume_reading()
                    for complaint in received.complaints:
                        self._complain(complaint)
                    if any(complaint.reason == "frame" for complaint in received.complaints):
                        at_once = FRAMES
                        connection.miss(Closed("a frame could not be read", "frame"))
                    admitted = self._drop_ahead(received.events, filler.limit())
                    if len(admitted):
                        now = self._clock()
                        connection.session.admitted(now)
                        self._record_arrival(admitted, inbox.came_by(now))
                    elif len(received.events):
                        connection.session.unusable("it is ahead of all clocks (set the clock of this machine)")
                    elif received.complaints:
                        connection.session.unusable(received.complaints[-1].text)
                    events = self._once.pass_on(admitted, self._symbols)
                    self._watch_times(events)
                    if len(events):
                        yield events
                elif connection.is_over:
                    return
                elif inbox.has_gap:
                    silence.broken()
                    async with aclosing(filler.fill()) as stream:
                        async for events in stream:
                            yield events
                else:
                    tick = await silence.wait()
                    if tick is not None and tick > self._now:
                        yield tick
        finally:
            silence.broken()

    def _drop_ahead(self, events: Events, limit: int) -> Events:
        """Return the events up to `limit`, ns, and count those that are ahead of it."""
        if not len(events):
            return events
        known = events.known_ts()
        if int(known.max()) <= limit:
            return events
        ahead = np.flatnonzero(known > limit)
        self._counts["ahead_refused"] += len(ahead)
        self._misdated.refuse([events.items[place].symbol for place in ahead.tolist()], self._clock())
        first = f"{len(ahead)} events are ahead of all clocks, the first {events.items[ahead[0]]!r}"
        self._complain(Complaint("ahead", first))
        return events.take(np.flatnonzero(known <= limit))

    def _watch_times(self, events: Events) -> None:
        """Count the trades and quotes that come too late for what is made of them."""
        (_, in_trades), (_, in_quotes), *_ = events.parts
        places = np.sort(np.concatenate([in_trades, in_quotes]))
        late = self._misdated.take(
            events.event_ts[places], lambda: [events.items[place].symbol for place in places.tolist()], self._clock()
        )
        if late:
            self._counts["late"] += late
            self._complain(Complaint("late", f"{late} events are far behind the newest, and in no bar that is over"))

    def _record_arrival(self, events: Events, moment: float) -> None:
        """Record the feed's time, the lag of the stream, and the symbols of the last events."""
        known = events.known_ts()
        self._feed.receive(int(known.max()), moment)
        self._lags.append((self._wall() - int(known[-1])) / MILLISECOND)
        self._last_symbols = tuple(dict.fromkeys(event.symbol for event in events.items[:-9:-1]))[:LOOKED_UP]

    def _universe_symbols(self) -> list[str]:
        """Return the universe's symbols of this market."""
        venue = self._venue
        return [symbol for symbol in venue.universe.symbols if ("/" in symbol) == venue.settings.is_crypto]

    def _complain(self, complaint: Complaint) -> None:
        """Count a message that was dropped, and log the 1st, 10th, 100th and so on."""
        reason = complaint.reason
        self._complaints[reason] += 1
        count = self._complaints[reason]
        if count == 10 ** (len(str(count)) - 1):
            log.warning("alpaca: dropped (%s, %d so far): %s", reason, count, complaint.text)


_ANYTHING = Events([Trade(symbol="A", time="", price=1.0, size=1.0)], np.zeros(1, np.int64))


def _cut(batch: Batch, size: int) -> Iterator[Batch]:
    """Cut a batch into parts of at most `size` events; none where it has none."""
    while len(batch) > size:
        part, batch = batch.split(batch.start + size)
        yield part
    if len(batch):
        yield batch
