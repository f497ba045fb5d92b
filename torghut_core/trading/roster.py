"""The strategies that are subscribed to the stream: those of the generation, and those gone that still close positions.

Also what happens to positions when a strategy, or a symbol of it, goes: kept, closed or handed over, as its `on_remove`
says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from torghut_core.boundary import from_plugins
from torghut_core.catalog import OnRemove
from torghut_core.errors import reason_of
from torghut_core.feature_graph import FeatureGraph, Frame, Wanted
from torghut_core.generation import Generation, StrategyInstance, has_same_terms
from torghut_core.model.market import Batch
from torghut_core.plugin_host.running_plugin import LOOP, RECORD, label
from torghut_core.ports import Handler
from torghut_core.telemetry import logs
from torghut_core.trading.gateway import Gateway
from torghut_core.trading.subscription import Closing, Event, Part, Stream, Subscription, interleave, row_stream
from torghut_core.trading.totals import Totals

EMPTY: Mapping[str, Any] = MappingProxyType({})
_IS_PROTECTION = attrgetter("is_protection")


class StrategyState(StrEnum):
    """What a strategy does."""

    TRADING = "trading"
    WARMING = "warming"
    """It is shown rows, and its answers do not count in every symbol yet."""
    DISABLED = "disabled"
    QUARANTINED = "quarantined"
    CLOSING = "closing"
    """It is gone from the catalog, and its positions are being closed."""


class Roster:
    """The subscriptions of one generation after the other.

    Parameters
    ----------
    generation : the first one.
    gateway : cancels the orders of strategies that go; its books say what they hold.
    totals : counts rows and decisions of each strategy.
    on_trouble : called when a strategy was quarantined.
    """

    def __init__(
        self, generation: Generation, gateway: Gateway, totals: Totals, on_trouble: Callable[[], None]
    ) -> None:
        self._generation = generation.number
        self._gateway = gateway
        self._books = gateway.books
        self._totals = totals
        self._on_trouble = on_trouble
        self._subscriptions = [Subscription(instance, gateway, generation.number) for instance in generation.strategies]
        self._closing: list[Subscription] = []
        self._now: int | None = None
        """The loop's time after the last batch, ns; None before the first."""
        self._past: list[Batch] | None = None
        """Batches traded since `keep_signals`."""
        totals.strategies = {subscription.name: subscription.totals for subscription in self._subscriptions}

    @property
    def quarantined(self) -> dict[str, str]:
        """Strategies that are shown no more rows because they failed, with the reason."""
        return {each.name: each.totals.failure for each in self._subscriptions if each.totals.failure}

    @property
    def closing(self) -> list[StrategyInstance]:
        """What stands in for strategies that are gone, until their positions are closed."""
        names = {subscription.name for subscription in self._subscriptions}
        return [subscription.instance for subscription in self._closing if subscription.name not in names]

    @property
    def starved(self) -> dict[str, str]:
        """Running strategies that wait for rows and were shown none, with the reason."""
        return {
            each.name: each.unshown.reason
            for each in self._subscriptions
            if each.is_running and not each.totals.rows and each.handled & {Handler.ON_SIGNAL, Handler.ON_SLICE}
        }

    def states(self) -> dict[str, StrategyState]:
        """What each strategy does: those of the generation, and those that are being closed."""
        states = dict.fromkeys((subscription.name for subscription in self._closing), StrategyState.CLOSING)
        for subscription in self._subscriptions:
            if subscription.totals.failure:
                state = StrategyState.QUARANTINED
            elif not subscription.instance.enabled:
                state = StrategyState.DISABLED
            else:
                state = StrategyState.WARMING if subscription.rows_to_warm else StrategyState.TRADING
            states[subscription.name] = state
        return states

    @property
    def listeners(self) -> frozenset[str]:
        """Strategies that want to know what is reported of their orders."""
        return frozenset(
            each.name for each in self._subscriptions if each.handled & {Handler.ON_FILL, Handler.ON_ORDER}
        )

    # State.

    def save(self) -> dict[str, Any]:
        """How far each strategy is that is shown rows, by name, as plain values."""
        return {each.name: each.save() for each in self._subscriptions if each.is_running and not each.totals.failure}

    def load(self, saved: Mapping[str, Any], shown: Mapping[str, Mapping[str, tuple[int, int]]], now: int) -> None:
        """Resume from what `save` gave at a time of the loop, ns; `shown` are rows of later, see `Subscription.skip`."""
        self._now = now or None
        for subscription in self._subscriptions:
            if subscription.name in saved:
                subscription.load(saved[subscription.name])
            subscription.skip(shown.get(subscription.name, {}))

    def find(self, name: str) -> Subscription | None:
        """A strategy of the generation."""
        return next((each for each in self._subscriptions if each.name == name), None)

    # The events of a batch.

    def events(self, batch: Batch, graph: FeatureGraph) -> Iterable[Event]:
        """What strategies are called for, in stream order; strategies by name where they share an event."""
        streams: list[Stream] = []
        parts: dict[tuple[Any, ...], list[Part]] = {}
        """By what is wanted of which rows, the subscriptions that are shown them one by one."""
        contexts = self._books.context
        if self._now is None:
            self._now = int(batch.now[0])
        for turn, subscription in enumerate(chain(self._subscriptions, self._closing)):
            if not subscription.is_running:
                continue
            subscription.turn, wanted = turn, subscription.instance.wanted
            subscription.look_back_in(graph, contexts)
            if not subscription.is_closing:
                streams += subscription.own_streams(batch, contexts, self._now)
            if not len(graph.rows[wanted.frame].rows):
                continue
            failure = graph.failure(wanted) if graph.failed and not subscription.is_closing else None
            places = subscription.select(batch, graph, failure)
            if not len(places):
                continue
            subscription.totals.rows += len(places)
            if failure is not None:
                streams += subscription.streams(batch, graph, places, contexts, failure)
                continue
            streams += subscription.slices(batch, graph, places, contexts)
            if subscription.takes_rows:
                parts.setdefault((wanted.frame, wanted.names, wanted.nodes), []).append((subscription, places))
        streams += [row_stream(each, batch, graph, contexts) for each in parts.values()]
        self._now = int(batch.now[-1])
        return interleave(streams)

    def follow(self, graph: FeatureGraph) -> None:
        """Have the graph select the rows of strategies that are gone too."""
        for subscription in self._closing:
            graph.follow(subscription.instance.wanted.frame, subscription.symbols)

    def finish(self, batch: Batch) -> None:
        """Keep the batch's signals where the next generation needs them; drop stand-ins that have closed everything."""
        if self._past is not None:
            rows = Batch.of(batch.symbols, batch.start, batch.now)
            rows.signals = batch.signals
            self._past.append(rows)
        if self._closing:
            self._closing = [each for each in self._closing if self._books.holds(each.name, each.symbols)]

    def keep_signals(self) -> None:
        """Keep the signals of the batches to come: strategies that are new in the next generation are shown them too."""
        self._past = []

    def forget_signals(self) -> None:
        """Keep no signals any more."""
        self._past = None

    @property
    def keeps_signals(self) -> bool:
        """Whether signals are kept."""
        return self._past is not None

    # From one generation to the next.

    def adopt(
        self,
        generation: Generation,
        graph: FeatureGraph,
        warmed: Mapping[str, Mapping[str, tuple[int, int]]],
        fresh: Collection[str],
    ) -> list[str]:
        """Subscribe the strategies of another generation; see `Engine.adopt`."""
        before = {subscription.name: subscription for subscription in self._subscriptions}
        past, self._past = self._past or [], None
        self._generation = generation.number
        self._subscriptions = [
            self._subscribe(instance, before.get(instance.name), warmed.get(instance.name, {}), instance.name in fresh)
            for instance in generation.strategies
        ]
        for batch in past:
            graph.update(batch)
            for subscription in self._subscriptions:
                if subscription.is_new and subscription.instance.warmup and not subscription.totals.failure:
                    self._warm_up(subscription, batch, graph)
        after = {each.name: each for each in self._subscriptions}
        for subscription in before.values():
            if subscription.ends_in(after.get(subscription.name)):
                self._end(subscription)
        self._totals.strategies |= {each.name: each.totals for each in self._subscriptions}
        traded = {(each.name, symbol) for each in self._subscriptions for symbol in each.symbols}
        for subscription in self._closing:
            subscription.symbols -= {symbol for symbol in subscription.symbols if (subscription.name, symbol) in traded}
        self._closing = [subscription for subscription in self._closing if subscription.symbols]
        changes = []
        for subscription in before.values():
            gone = [symbol for symbol in sorted(subscription.symbols) if (subscription.name, symbol) not in traded]
            now = next((each for each in self._subscriptions if each.name == subscription.name), subscription)
            changes += self._leave(subscription, gone, now.instance.on_remove)
        return changes

    def _subscribe(
        self,
        instance: StrategyInstance,
        before: Subscription | None,
        shown: Mapping[str, tuple[int, int]],
        is_fresh: bool,
    ) -> Subscription:
        totals = before.totals if before else self._totals.strategies.get(instance.name)
        subscription = Subscription(instance, self._gateway, self._generation, totals)
        if before is not None and before.instance.strategy is instance.strategy:
            subscription.resume(before)
            if subscription.totals.failure:
                subscription.close() if before.is_closing else subscription.stop()
            return subscription
        if before is not None and has_same_terms(before.instance, instance) and not is_fresh:
            subscription.resume(before, is_on_trial=True)
        else:
            subscription.is_new = True
            subscription.skip(shown)
        subscription.totals.failure = ""
        return subscription

    def end(self) -> None:
        """Call each strategy for the last time."""
        for subscription in self._subscriptions:
            self._end(subscription)

    def _end(self, subscription: Subscription) -> None:
        before, RECORD.memory[LOOP] = RECORD.memory[LOOP], label("strategy", subscription.name)
        try:
            subscription.end(self._books.context, self._books.now)
        except from_plugins() as error:  # a plugin may raise anything; nothing depends on it any more
            self._totals.failures.setdefault(subscription.name, reason_of(error))
            logs.error("plugin failed", plugin=subscription.name, error=reason_of(error), exc_info=error)
        RECORD.memory[LOOP] = before

    def _warm_up(self, subscription: Subscription, batch: Batch, graph: FeatureGraph) -> None:
        try:
            subscription.warm_up(batch, graph, self._books.context)
        except from_plugins() as error:  # a plugin may raise anything
            self.quarantine(subscription, error)

    def quarantine(self, subscription: Subscription, error: BaseException) -> None:
        """Show a strategy nothing more, and do with its positions as its `on_remove` says."""
        subscription.totals.failure = reason = reason_of(error)
        self._totals.failures.setdefault(subscription.name, reason)
        logs.error("strategy quarantined", strategy_id=subscription.name, error=reason, exc_info=error)
        on_remove = subscription.instance.on_remove
        if on_remove == "flatten" and self._books.holds(subscription.name, subscription.symbols):
            for symbol in sorted(subscription.symbols):
                self._gateway.cancel(subscription.name, symbol)
            subscription.close()
        else:
            subscription.stop()
            self._leave(subscription, sorted(subscription.symbols), on_remove)
        self._on_trouble()

    def _leave(self, subscription: Subscription, symbols: list[str], on_remove: OnRemove) -> list[str]:
        """Do with positions in these symbols as `on_remove` says; return a line for each."""
        books, name = self._books, subscription.name
        changes, closing = [], []
        for symbol in symbols:
            if not books.holds(name, [symbol]):
                continue
            held = f"{name} {symbol} {books.context(name, symbol).position.quantity}"
            heir = self._heir(name, symbol) if on_remove == "handover" else None
            if heir is not None:
                self._gateway.hand_over(name, heir, symbol)
                changes.append(f"{held}: handed over to {heir}")
                continue
            if on_remove == "flatten":
                self._gateway.cancel(name, symbol)
                closing.append(symbol)
                changes.append(f"{held}: being closed")
            else:
                self._gateway.cancel(name, symbol, but=_IS_PROTECTION)
                changes.append(f"{held}: kept, and nothing trades it")
        if closing:
            frame = Frame(subscription.instance.step_ns, is_sliced=False)
            instance = replace(
                subscription.instance,
                strategy=Closing(),
                wanted=Wanted((), (), frozenset(), frame, 1),
                warmup=0,
                symbols=tuple(closing),
                enabled=True,
            )
            self._closing.append(Subscription(instance, self._gateway, self._generation, subscription.totals))
        return changes

    def _heir(self, name: str, symbol: str) -> str | None:
        """The first other strategy by name that trades the symbol."""
        return next(
            (
                each.name
                for each in self._subscriptions
                if each.is_running and symbol in each.symbols and each.name != name and not each.is_closing
            ),
            None,
        )
