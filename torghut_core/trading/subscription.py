"""What a strategy is called for, and whether its answer counts.

A subscription is where a generation's strategy meets the stream. What has just come in does not trade at once: a strategy
that is not warm is shown its rows and its answers are dropped, and new code is on trial for its first calls, with the
old code at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice, pairwise, repeat
from types import CodeType
from typing import Any, ClassVar, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from torghut_core.boundary import bound_method
from torghut_core.feature_graph import FeatureGraph, Wanted
from torghut_core.feature_graph.graph import BARS_OF_SLICE
from torghut_core.feature_graph.history import Place, StrategyHistory
from torghut_core.feature_graph.nodes import Failure
from torghut_core.generation import StrategyInstance
from torghut_core.model.market import Batch, IntArray, Quote, Signal, Slice, Table, Trade, signal_type
from torghut_core.model.timers import Timer
from torghut_core.model.trading import ZERO, Decision
from torghut_core.plugin_host.running_plugin import LOOP, RECORD, label
from torghut_core.ports import (
    Answer,
    Context,
    Deciding,
    Handler,
    LiveContext,
    LivePortfolio,
    PortfolioContext,
    Strategy,
)
from torghut_core.timestamps import EARLIEST
from torghut_core.trading.totals import StrategyTotals
from torghut_core.trading.unshown import Unshown

TRIAL_CALLS = 100
"""For so many calls new code is on trial."""

ON_SIGNAL, ON_SLICE = Handler.ON_SIGNAL, Handler.ON_SLICE  # a member of an enum, reached through its class, is slow
OF_START, OF_TIMERS, OF_MARKET, OF_ROWS, OF_SLICES, OF_SLICED_ROWS = range(-3, 3)
"""Events at one position of the stream come in this order."""

Call: TypeAlias = Callable[[Any, Any], Any]
Contexts: TypeAlias = Callable[[str, str], LiveContext]
"""Gives the view of a strategy, by name, on a symbol."""
Event: TypeAlias = "tuple[tuple[Listener, Any], Any, int, int, float]"
"""Who is called with which view, and for what: with the position in the stream, the loop's time and, of a row, the close."""

CHUNK = 4096
"""So many rows are made at a time: they stay in the processor's cache until they are shown."""


class Stream(NamedTuple):
    """Events of one handler, in order.

    Attributes
    ----------
    at : shape (events,), positions in the stream.
    kind : what comes first at one position.
    rank : shape (events,), what comes first there among those of a kind.
    turn : shape (events,), what comes first among those: `Subscription.turn`.
    """

    events: Iterable[Event]
    at: IntArray
    kind: int
    rank: IntArray
    turn: IntArray


Part: TypeAlias = "tuple[Subscription, IntArray]"
"""A subscription, and the places of the rows that it is shown among its frame's."""


class Seen(NamedTuple):
    """A call of new code on trial."""

    listener: Listener
    event: Any
    context: LiveContext | LivePortfolio
    now: int
    price: float


class Trial(msgspec.Struct):
    """The first calls of new code, and the subscription with the old code, as it was before them."""

    before: Subscription
    seen: list[Seen] = []


class Listener:
    """A handler of a strategy at the stream.

    Attributes
    ----------
    name, label : of the strategy: the watchdog reads the one, the other is noted while it is at work.
    is_of_rows : whether what it is called for is a row, whose time and price its context has.
    call : what the next event is handed to, see `Subscription.listeners`.
    """

    __slots__ = ("call", "handler", "is_of_rows", "label", "name", "subscription")

    def __init__(self, subscription: Subscription, handler: Handler) -> None:
        self.subscription = subscription
        self.handler = handler
        self.name = subscription.name
        self.label = label("strategy", subscription.name)
        self.is_of_rows = handler is ON_SIGNAL
        self.call: Call = _ignore


class Subscription:
    """One strategy of a generation at the stream.

    Parameters
    ----------
    instance : the strategy with its entry.
    place : knows the position in the stream.
    generation : number of the generation that its decisions carry.
    totals : where its rows and decisions are counted.

    Attributes
    ----------
    listeners : its handlers, see there.
    is_running : whether it is called.
    is_closing : it only closes what its strategy held.
    is_new : it resumes with no state of a generation before.
    rows_to_warm : rows that it has to see before its answers count, by symbol; warm symbols are not in it.
    minute, decided : decisions in this minute of the loop's time.
    handled : handlers that the strategy has.
    unshown : rows before the first one that it was shown.
    turn : its turn among subscriptions that share an event.
    """

    def __init__(
        self, instance: StrategyInstance, place: Place, generation: int = 0, totals: StrategyTotals | None = None
    ) -> None:
        self.instance = instance
        self._place = place
        self.name = instance.name
        self.generation = generation
        self.symbols = frozenset(instance.symbols)
        self.is_running = instance.enabled
        self.is_closing = isinstance(instance.strategy, Closing)
        self.is_new = False
        self.totals = totals or StrategyTotals()
        self.rows_to_warm = dict.fromkeys(self.symbols, instance.warmup) if instance.warmup else {}
        self.minute = self.decided = self.turn = 0
        self._given: dict[str, tuple[int, dict[str, int]]] = {}
        self.listeners = {handler: Listener(self, handler) for handler in Handler}
        """Their `call` is swapped, not asked about for each row, because it is on the path of every row. One of five:

        - the strategy's own handler, in its context: it is warm and not on trial;
        - `_on_warm_up_signal`, `_on_warm_up_slice`: until every symbol is warm and is past the rows that were shown beforehand;
        - `_on_trial`: the first `TRIAL_CALLS` calls of new code;
        - `Closing().on_signal`, and the same for each row of a slice: after `close`;
        - `_ignore`: after `stop`; after `revert` to code that reads other columns, until the next batch; and where the
          strategy does not override it.
        """
        self.handled = _handled(instance.strategy)
        self.unshown = _unshown(instance)
        self._has_started = False
        self._next = EARLIEST
        """No moment of its timers is before this one, ns."""
        self._portfolio: LivePortfolio | None = None
        self._looks_back_in: FeatureGraph | None = None
        """Whose bars its views have."""
        self._is_waiting = False
        """Whether nothing is to be called until the next batch."""
        self._shown_until: dict[str, int] = {}
        """By symbol, the `event_ts` of the last row that was shown beforehand."""
        self._trial: Trial | None = None
        self._is_listed = np.zeros(0, bool)
        self._deciding = _deciding(instance)
        self._choose()

    def resume(self, before: Subscription, *, is_on_trial: bool = False) -> None:
        """Resume where the subscription of the generation before is: with the same strategy, or with new code on trial."""
        known = self.symbols & before.symbols
        rows_to_warm = self.rows_to_warm | before.rows_to_warm
        self.rows_to_warm = {symbol: rows for symbol, rows in rows_to_warm.items() if symbol in self.symbols}
        for symbol in known - before.rows_to_warm.keys():
            self.rows_to_warm.pop(symbol, None)
        self._shown_until = dict(before._shown_until)
        self._has_started = before._has_started
        self.minute, self.decided, self._given = before.minute, before.decided, before._given
        before_trial, before._trial = before._trial, None
        self._trial = Trial(before) if is_on_trial else before_trial
        self._choose()

    def save(self) -> dict[str, Any]:
        """How far it is, as plain values."""
        return {
            "symbols": sorted(self.symbols),
            "rows_to_warm": dict(self.rows_to_warm),
            "shown_until": dict(self._shown_until),
            "decided": [self.minute, self.decided],
            "given": dict(self._given),
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Resume from what `save` gave."""
        rows_to_warm = self.rows_to_warm
        for symbol in self.symbols.intersection(saved["symbols"]):
            rows_to_warm.pop(symbol, None)
            if symbol in saved["rows_to_warm"]:
                rows_to_warm[symbol] = saved["rows_to_warm"][symbol]
        self._shown_until = dict(saved["shown_until"])
        self.minute, self.decided = saved["decided"]
        self._given = dict(saved["given"])
        self._has_started = True
        self._choose()

    def skip(self, shown: Mapping[str, tuple[int, int]]) -> None:
        """Skip what was shown beforehand: by symbol, so many rows, and the `event_ts` of the last of them."""
        for symbol, (rows, event_ts) in shown.items():
            self.rows_to_warm[symbol] = self.rows_to_warm.get(symbol, 0) - rows
            self._shown_until[symbol] = event_ts
        self.rows_to_warm = {symbol: rows for symbol, rows in self.rows_to_warm.items() if rows > 0}
        self._choose()

    def revert(self) -> Any:
        """Go back to the old code after new code has failed on trial: call it for what it has missed.

        Returns
        -------
        Its answer to the last call; `NotImplemented` where nothing is on trial.
        """
        trial, self._trial = self._trial, None
        if trial is None:
            return NotImplemented
        old, new = trial.before.instance, self.instance
        self.instance = replace(
            new,
            strategy=old.strategy,
            plugin=old.plugin,
            wanted=old.wanted,
            warmup=old.warmup,
            digest=old.digest,
            timers=old.timers,
        )
        self.handled, self._looks_back_in = trial.before.handled, None
        self._deciding = trial.before._deciding  # noqa: SLF001
        self.generation = trial.before.generation
        self.rows_to_warm, self._shown_until = trial.before.rows_to_warm, trial.before._shown_until  # noqa: SLF001
        if old.wanted != new.wanted:  # these rows lack what it reads: it resumes with the next batch
            self._is_waiting = True
            self._choose()
            return None
        self._choose()
        answer = None
        for seen in trial.seen:
            _move(seen.listener, seen.event, seen.context, seen.now, seen.price)
            answer = seen.listener.call(seen.event, seen.context.read_only)
        return answer

    def stop(self) -> None:
        """Call the strategy for nothing more, from now on."""
        self.is_running = False
        self._choose()

    def close(self) -> None:
        """Only close what is held, from now on."""
        self.is_closing = True
        self._choose()

    def past(self, batch: Batch, graph: FeatureGraph, contexts: Contexts) -> Iterator[tuple[Handler, Any, Any]]:
        """Rows, and slices, of a batch that was traded before the strategy came: handler, event and context of each."""
        self.look_back_in(graph, contexts)
        places = self.select(batch, graph)
        for (listener, context), event, at, now, price in interleave(self.streams(batch, graph, places, contexts)):
            self._place.at = at
            _move(listener, event, context, now, price)
            yield listener.handler, event, context.read_only

    def warm_up(self, batch: Batch, graph: FeatureGraph, contexts: Contexts) -> None:
        """Show a new strategy a batch that was traded before it came; its answers are dropped."""
        for handler, event, context in self.past(batch, graph, contexts):
            self._on_warm_up(handler)(event, context)

    def given_since(self, context: LiveContext) -> dict[str, int]:
        """How often each decision was made in a symbol since its last row, by hash: to count in."""
        known = self._given.get(context.symbol)
        if known is None or known[0] != context.event_ts:
            known = self._given[context.symbol] = context.event_ts, {}
        return known[1]

    def ends_in(self, after: Subscription | None) -> bool:
        """Whether the strategy of this subscription does not go on in that of the next generation."""
        return after is None or not after._has_started  # noqa: SLF001 - of the same class

    def end(self, contexts: Contexts, now: int) -> None:
        """Call the strategy for the last time."""
        if Handler.ON_STOP in self.handled and self._has_started and self.is_running and not self.is_closing:
            portfolio = self._portfolio_of(contexts)
            portfolio.reach(None, now)
            self._own(Handler.ON_STOP)(None, portfolio.read_only)

    # What an event is handed to.

    def _choose(self) -> None:
        """Give each listener the shortest way for what is to come."""
        for handler, listener in self.listeners.items():
            listener.call = self._way(handler)

    def _way(self, handler: Handler) -> Call:
        if not self.is_running or self._is_waiting:
            return _ignore
        if self.is_closing:
            return getattr(Closing(), handler) if handler in (ON_SIGNAL, ON_SLICE) else _ignore
        return self._off_trial(handler) if self._trial is None else partial(self._on_trial, handler)

    def _off_trial(self, handler: Handler) -> Call:
        """What an event is handed to where no code is on trial."""
        if handler not in self.handled:
            return _ignore
        is_warming = self.rows_to_warm or self._shown_until
        return self._on_warm_up(handler) if is_warming else self._own(handler)

    def _own(self, handler: Handler) -> Call:
        if handler is ON_SIGNAL and self._deciding is not None:
            return self._deciding
        own = bound_method(self.instance.strategy, handler)
        return partial(self._without_event, own) if handler in (Handler.ON_START, Handler.ON_STOP) else own

    def _without_event(self, own: Callable[[Any], Any], _event: Any, context: Any) -> Any:
        """Call a handler that gets a context alone."""
        return own(context)

    def _on_warm_up(self, handler: Handler) -> Call:
        """What an event is handed to where not all symbols are warm."""
        if handler is ON_SIGNAL:
            return self._on_warm_up_signal
        return self._on_warm_up_slice if handler is ON_SLICE else partial(self._on_warm_up_event, handler)

    def _on_warm_up_signal(self, signal: Signal, context: Context) -> Any:
        """Show a row; the answer counts when the symbol is warm. Rows that were shown before are skipped."""
        if signal.event_ts <= self._shown_until.get(signal.symbol, EARLIEST):
            return None
        answer, is_cold = self._own(ON_SIGNAL)(signal, context), signal.symbol in self.rows_to_warm
        self._count(signal.symbol)
        return None if is_cold else answer

    def _on_warm_up_slice(self, slice_: Slice, context: PortfolioContext) -> Any:
        """Show a slice; decisions on symbols that are warm count."""
        answer = _without(self._own(ON_SLICE)(slice_, context), self.rows_to_warm)
        if ON_SIGNAL not in self.handled:  # which counts them, as it comes last
            for symbol in slice_:
                self._count(symbol)
        return answer

    def _on_warm_up_event(self, handler: Handler, event: Any, context: Any) -> Any:
        """Call another handler; decisions on symbols that are warm count."""
        return _without(self._own(handler)(event, context), self.rows_to_warm)

    def _count(self, symbol: str) -> None:
        """Count a row of a symbol."""
        self._shown_until.pop(symbol, None)
        left = self.rows_to_warm.pop(symbol, 0)
        if left > 1:
            self.rows_to_warm[symbol] = left - 1
        if not self.rows_to_warm and not self._shown_until:
            self._choose()

    def _on_trial(self, handler: Handler, event: Any, context: Any) -> Any:
        """Call new code, and keep the event for the old code."""
        trial = self._trial
        if trial is None or len(trial.seen) == TRIAL_CALLS:
            self._trial = None
            self._choose()
            return self.listeners[handler].call(event, context)
        live = context._live  # noqa: SLF001
        price = live.price if handler is ON_SIGNAL else 0.0
        trial.seen.append(Seen(self.listeners[handler], event, live, context.now, price))
        return self._off_trial(handler)(event, context)

    # The events of a batch.

    def select(self, batch: Batch, graph: FeatureGraph, failure: Failure | None = None) -> IntArray:
        """Places, among its frame's rows, of those of its symbols in which every value is known that is not optional.

        From a failure of its features on, and when it only closes, all of its symbols.
        """
        if self._is_waiting:
            self._is_waiting = False
            self._choose()
        wanted = self.instance.wanted
        rows = graph.rows[wanted.frame]
        listed = self._listed(batch.symbols.names)[rows.symbol]
        if self.is_closing:
            return np.flatnonzero(listed)
        mask = listed if failure is None else listed.copy()
        for name, node in zip(wanted.names, wanted.nodes, strict=True):
            if name not in wanted.optional:
                values = graph.values[node]
                mask &= values == values
        if failure is not None:
            mask |= listed & (rows.known >= failure.known)
        places = np.flatnonzero(mask)
        if not len(places) and not self.totals.rows:
            of_each = {name: graph.values[node] for name, node in zip(wanted.names, wanted.nodes, strict=True)}
            self.unshown.add(rows, self._listed(batch.symbols.names)[rows.symbol], of_each)
        return places

    def _listed(self, names: list[str]) -> NDArray[np.bool_]:
        """Whether each symbol of a table is one of its own, shape (symbols,)."""
        if len(self._is_listed) != len(names):
            self._is_listed = np.fromiter((name in self.symbols for name in names), bool, len(names))
        return self._is_listed

    def own_streams(self, batch: Batch, contexts: Contexts, since: int) -> list[Stream]:
        """The events of a batch that are no rows; `since` is the loop's time before it, ns."""
        streams = []
        if not self._has_started:
            self._has_started = True
            if Handler.ON_START in self.handled:
                at = np.array([batch.start])
                streams.append(self._stream(Handler.ON_START, OF_START, [None], contexts, at, batch.now[:1]))
        if self.instance.timers and batch.now[-1] >= self._next:
            streams.append(self._timers(batch, contexts, since))
        if Handler.ON_TRADE in self.handled and len(batch.trades):
            streams.append(self._market(batch, Handler.ON_TRADE, contexts, batch.counting_trades, Trade))
        if Handler.ON_QUOTE in self.handled and len(batch.quotes):
            streams.append(self._market(batch, Handler.ON_QUOTE, contexts, batch.counting_quotes, Quote))
        return streams

    def _stream(
        self, handler: Handler, kind: int, events: Iterable[Any], contexts: Contexts, at: IntArray, now: IntArray
    ) -> Stream:
        """Events of all its symbols, with their positions and the loop's times."""
        caller = self.listeners[handler], self._portfolio_of(contexts)
        whole = zip(repeat(caller), events, at.tolist(), now.tolist(), repeat(0.0), strict=False)
        return self._in_turn(whole, at, kind)

    def _in_turn(self, events: Iterable[Event], at: IntArray, kind: int) -> Stream:
        """Events that have no order of their own at one position."""
        return Stream(events, at, kind, np.zeros(len(at), np.int64), np.full(len(at), self.turn))

    def _timers(self, batch: Batch, contexts: Contexts, since: int) -> Stream:
        """Of each timer the last moment that passes at an event, in the order in which they passed."""
        found: list[tuple[int, int, int]] = []
        timers, until = self.instance.timers, int(batch.now[-1])
        for number, timer in enumerate(timers):
            moments = timer.moments(since, until)
            place = batch.now.searchsorted(moments)
            is_last = np.diff(place, append=len(batch)) != 0
            places = zip(place[is_last].tolist(), moments[is_last].tolist(), strict=True)
            found += ((where, moment, number) for where, moment in places)
        self._next = min(timer.next(until) for timer in timers)
        found.sort()
        at = batch.start + np.array([where for where, _, _ in found], np.int64)
        events = [Timer(timers[number].name, moment) for _, moment, number in found]
        return self._stream(Handler.ON_TIMER, OF_TIMERS, events, contexts, at, batch.now[at - batch.start])

    def _market(self, batch: Batch, handler: Handler, contexts: Contexts, table: Table, kind: type[Any]) -> Stream:
        """The trades, or quotes, of its symbols."""
        names: Any = batch.symbols.names
        rows: Any = table.take(self._listed(names)[table.symbol])  # type: ignore[attr-defined]  # of events
        numbers = rows.symbol.tolist()
        listener = self.listeners[handler]
        callers = {number: (listener, contexts(self.name, names[number])) for number in set(numbers)}
        columns = [getattr(rows, name).tolist() for name in kind.__struct_fields__[1:]]
        events = zip(
            map(callers.__getitem__, numbers),
            map(kind, map(names.__getitem__, numbers), *columns),
            rows.at.tolist(),
            batch.now[rows.at - batch.start].tolist(),
            repeat(0.0),
            strict=False,
        )
        return self._in_turn(events, rows.at, OF_MARKET)

    def streams(
        self, batch: Batch, graph: FeatureGraph, places: IntArray, contexts: Contexts, failure: Failure | None = None
    ) -> list[Stream]:
        """The events of a batch: its rows at these places, by `on_slice` and one by one.

        The first one at or after a failure of its features fails with what was raised there.
        """
        if not len(places):
            return []
        if failure is None:
            streams = self.slices(batch, graph, places, contexts)
            return [*streams, row_stream([(self, places)], batch, graph, contexts)] if self.takes_rows else streams
        first = int(graph.rows[self.instance.wanted.frame].known[places].searchsorted(failure.known))
        before, after = (self.streams(batch, graph, part, contexts) for part in np.split(places, [first]))
        errors = [failure.error]
        return [*before, *[stream._replace(events=self._failing(errors, stream.events)) for stream in after]]

    @property
    def takes_rows(self) -> bool:
        """Whether it is shown rows one by one."""
        return ON_SIGNAL in self.handled or not self._takes_slices

    @property
    def _takes_slices(self) -> bool:
        return ON_SLICE in self.handled and self.instance.wanted.frame.is_sliced

    def look_back_in(self, graph: FeatureGraph, contexts: Contexts) -> None:
        """Give its views the bars of a graph, where it asks for some."""
        history, step = self.instance.wanted.history, self.instance.step_ns
        if not history or graph is self._looks_back_in:
            return
        self._looks_back_in = graph
        bars = StrategyHistory(self.name, history, step, self.symbols, self._place, graph.histories)
        for symbol in self.symbols:
            contexts(self.name, symbol).bars = bars

    def _failing(self, errors: list[BaseException], events: Iterable[Event]) -> Iterator[Event]:
        """Events of which the first fails, of all that have these errors; then none is left.

        Code that is on trial is not to blame for what the old code needs too.
        """
        if errors:
            error = errors.pop()

            def fail(_event: Any, _context: Any) -> None:
                raise error

            if self._trial is not None and self._trial.before.instance.wanted == self.instance.wanted:
                self._trial = None
            for listener in self.listeners.values():
                listener.call = fail
        yield from events

    def slices(self, batch: Batch, graph: FeatureGraph, places: IntArray, contexts: Contexts) -> list[Stream]:
        """Rows in slices, where it takes these: bars of one time that became known together, by symbol."""
        if not self._takes_slices:
            return []
        rows, names = RowsShown(batch, graph, self.instance.wanted, places), batch.symbols.names
        known = graph.rows[self.instance.wanted.frame].known[places]
        firsts = np.flatnonzero(np.diff(known, prepend=known[0] - 1))
        at, now = rows.at[firsts], rows.now[firsts]
        made = rows.make(map(names.__getitem__, rows.symbol.tolist()), slice(None))
        slices = (Slice(islice(made, stop - first)) for first, stop in pairwise([*firsts.tolist(), len(places)]))
        return [self._stream(ON_SLICE, OF_SLICES, slices, contexts, at, now)]

    def decide_on(self, batch: Batch, graph: FeatureGraph, places: IntArray) -> None:
        """Have a strategy that has `decide` decide on the rows at these places."""
        if self._deciding is None:
            return
        rows, names = RowsShown(batch, graph, self.instance.wanted, places), batch.symbols.names
        features = dict(zip(self.instance.wanted.names, rows.columns, strict=True))
        RECORD.memory[LOOP] = self.listeners[ON_SIGNAL].label
        self._deciding.begin(rows.signals, rows.index, [names[number] for number in rows.symbol.tolist()], features)

    def _portfolio_of(self, contexts: Contexts) -> LivePortfolio:
        """The view of all its symbols."""
        if self._portfolio is None:
            views = {symbol: contexts(self.name, symbol) for symbol in sorted(self.symbols)}
            account_view = next(iter(views.values())).account_view
            self._portfolio = LivePortfolio(self.name, views, account_view)
        return self._portfolio

    CALLERS: ClassVar[dict[CodeType, str]] = {
        **Deciding.CALLERS,
        _on_warm_up_signal.__code__: "self",
        _on_warm_up_slice.__code__: "self",
        _on_warm_up_event.__code__: "self",
        _on_trial.__code__: "self",
        revert.__code__: "self",
        _without_event.__code__: "self",
    }
    """The functions here that call a strategy, each with the local variable that names it; see `Watchdog`."""


def _deciding(instance: StrategyInstance) -> Deciding | None:
    """What answers rows for a strategy that has `decide`."""
    strategy = instance.strategy
    has_decide = type(strategy).decide is not Strategy.decide or "decide" in vars(strategy)
    return Deciding(instance.name, strategy) if has_decide else None


def _handled(strategy: Strategy) -> frozenset[Handler]:
    """The handlers that a strategy has."""
    return frozenset(each for each in Handler if type(strategy).handles(each) or each in vars(strategy))


def _unshown(instance: StrategyInstance) -> Unshown:
    wanted = instance.wanted
    needed = [name for name in wanted.names if name not in wanted.optional]
    return Unshown(instance.symbols, needed, instance.step_ns)


def _move(listener: Listener, event: Any, context: Any, now: int, price: float) -> None:
    """Move a view to what its strategy is about to be called for."""
    if listener.is_of_rows:
        context.show(event.event_ts, now, price)
    else:
        context.reach(event, now)


def _without(answer: Any, cold: Collection[str]) -> Any:
    """An answer without the decisions on symbols that are not warm."""
    if not isinstance(answer, list | tuple):
        answer = [answer]
    return [each for each in answer if type(each) is not Decision or each.symbol not in cold]


class RowsShown:
    """Rows of a batch as strategies see them that want the same of one frame: columns of shape (rows,).

    Parameters
    ----------
    places : shape (rows,), their places among the frame's rows.
    """

    def __init__(self, batch: Batch, graph: FeatureGraph, wanted: Wanted, places: IntArray) -> None:
        shown = graph.rows[wanted.frame]
        self.signals, self.index, self.symbol = shown.signals, shown.rows[places], shown.symbol[places]
        self.columns = [graph.values[node][places] for node in wanted.nodes]
        self.at = self.signals.at[self.index]
        self.now = graph.times(batch, self.at)
        self._times = self.signals.event_ts[self.index]
        self._type = signal_type(wanted.names)

    def make(self, symbols: Iterable[str], part: slice) -> Iterator[Signal]:
        """Make the rows of a part, of these symbols."""
        columns = [column[part].tolist() for column in (self._times, *self.columns)]
        return map(self._type, symbols, *columns, repeat(self.signals), self.index[part].tolist())


def row_stream(parts: Sequence[Part], batch: Batch, graph: FeatureGraph, contexts: Contexts) -> Stream:
    """The rows that subscriptions are shown one by one which want the same of one frame, in order."""
    wanted, names = parts[0][0].instance.wanted, batch.symbols.names
    shown = graph.rows[wanted.frame]
    callers: dict[int, tuple[Listener, LiveContext]] = {}
    symbols = {}
    for number, (subscription, places) in enumerate(parts):
        subscription.decide_on(batch, graph, places)
        listener = subscription.listeners[ON_SIGNAL]
        for symbol in np.flatnonzero(np.bincount(shown.symbol[places])).tolist():
            key, name = number * len(names) + symbol, names[symbol]
            callers[key], symbols[key] = (listener, contexts(subscription.name, name)), name
    places = np.concatenate([places for _, places in parts])
    owner = np.repeat(np.arange(len(parts)), [len(places) for _, places in parts])
    if len(parts) > 1:
        order = np.argsort(places, kind="stable")
        places, owner = places[order], owner[order]
    rows = RowsShown(batch, graph, wanted, places)
    keys, closes = owner * len(names) + rows.symbol, rows.signals.close[rows.index]

    def events() -> Iterator[Iterable[Event]]:
        for first in range(0, len(places), CHUNK):
            part = slice(first, first + CHUNK)
            key = keys[part].tolist()
            yield zip(
                _each(callers, key),
                rows.make(_each(symbols, key), part),
                rows.at[part].tolist(),
                rows.now[part].tolist(),
                closes[part].tolist(),
                strict=False,  # `repeat` has no end
            )

    turn = np.array([subscription.turn for subscription, _ in parts])[owner]
    kind, rank = OF_ROWS, rows.index
    if wanted.frame.is_sliced:
        bar = shown.known[places] % (1 << BARS_OF_SLICE)
        kind, rank = OF_SLICED_ROWS, (bar << BARS_OF_SLICE) + batch.symbols.ranks[rows.symbol]
    return Stream(chain.from_iterable(events()), rows.at, kind, rank, turn)


def _each(found: Mapping[int, Any], keys: list[int]) -> Iterator[Any]:
    """What is found by each key."""
    return map(found.__getitem__, keys) if len(found) > 1 else repeat(next(iter(found.values())))


def interleave(streams: list[Stream]) -> Iterable[Event]:
    """Events of several streams in order."""
    if len(streams) < 2:
        return streams[0].events if streams else ()
    iterators = [iter(stream.events) for stream in streams]
    sizes = [len(stream.at) for stream in streams]
    owner, kind = np.repeat(np.arange(len(streams)), sizes), np.repeat([stream.kind for stream in streams], sizes)
    at, rank, turn = (np.concatenate([stream[field] for stream in streams]) for field in (1, 3, 4))
    order = np.lexsort((turn, rank, kind, at))
    return map(next, map(iterators.__getitem__, owner[order].tolist()))


class Closing(Strategy):
    """Stands in for a strategy that is gone and whose positions are to be closed."""

    def __init__(self) -> None:
        super().__init__(None)

    def on_signal(self, signal: Signal, context: Context) -> Decision | None:  # noqa: ARG002 - every row will do
        """Close what is held and is not being closed yet."""
        return context.target(ZERO, because="its strategy is gone (on_remove: flatten)")

    def on_slice(self, slice: Slice, context: PortfolioContext) -> Answer:
        """The same for each row of a slice."""
        return [self.on_signal(row, context[row.symbol]) for row in slice.values()]


def _ignore(_event: Any, _context: Any) -> None:
    return None
