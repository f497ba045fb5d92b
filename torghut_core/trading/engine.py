"""One step of the loop: a batch in; decisions, orders and their reports out, through the ports.

The way of a trade, straight through: signal row -> strategy -> decision (hashed) -> gates, advisors, rules -> intent
(recorded) -> broker -> report -> position -> the next row's context. Nothing upstream is called from downstream.

Rows are taken in stream order. Before a strategy sees the row at position p, open orders have met every event up to p; an
order that it makes there meets the events after p, and no other. So the result does not depend on how the stream was cut
into batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar, TypeAlias

import msgspec

from torghut_core.boundary import bound_method, from_plugins, without_event_loop
from torghut_core.errors import reason_of
from torghut_core.feature_graph import FeatureGraph, FeaturePlan, PastRows, read_elsewhere
from torghut_core.feature_graph.nodes import PlainIndicator
from torghut_core.generation import Generation, StrategyInstance, hand_over, save_states
from torghut_core.market_data.snapshots import OnFailure
from torghut_core.model.corporate_actions import CorporateAction
from torghut_core.model.market import Batch, Signal, Slice
from torghut_core.model.trading import (
    ZERO,
    Account,
    Cancel,
    Decision,
    Fill,
    Intent,
    Order,
    OrderType,
    Outcome,
    Position,
    Purpose,
    Side,
    Verdict,
    client_order_id,
    decision_hash,
    money,
)
from torghut_core.plugin_host.running_plugin import LOOP, NO_PLUGIN, RECORD, label
from torghut_core.plugin_host.watchdog import Watchdog
from torghut_core.ports import (
    AccountView,
    Closed,
    Handler,
    Journal,
    LiveContext,
    LivePortfolio,
    Observer,
    OrderEntry,
    RiskContext,
)
from torghut_core.telemetry import logs
from torghut_core.timestamps import EARLIEST, MINUTE, SECOND, format_timestamp
from torghut_core.trading.answers import complaint
from torghut_core.trading.books import Books
from torghut_core.trading.gates import KERNEL, Gates, Inputs
from torghut_core.trading.gateway import Gateway, SimulatedGateway, VenueGateway
from torghut_core.trading.recent_prices import RecentPrices
from torghut_core.trading.risk_engine import RiskEngine
from torghut_core.trading.roster import EMPTY, Roster
from torghut_core.trading.series import TradedSeries
from torghut_core.trading.simulated_entry import SimulatedEntry
from torghut_core.trading.subscription import Listener, Subscription
from torghut_core.trading.totals import StrategyTotals, Totals
from torghut_core.trading.working_order import WorkingOrder

MAX_DECISIONS = 10_000
"""A strategy that makes more decisions in one minute of the loop's time is quarantined."""


class Reach(StrEnum):
    """How far a decision goes."""

    PROPOSED = "proposed"
    """It is made, and nobody judges it."""
    JUDGED = "judged"
    """Gates, advisors and rules judge it, and no order follows."""
    SENT = "sent"
    """Its order is sent."""


# A member of an enum, reached through its class, is slow in Python 3.11.
_PROPOSED, _JUDGED = Reach.PROPOSED, Reach.JUDGED
_ENTRY, _EXIT, _SELL, _SHRINK = Purpose.ENTRY, Purpose.EXIT, Side.SELL, Outcome.SHRINK
_AFTER_TRIGGER = {
    OrderType.STOP: OrderType.MARKET,
    OrderType.TRAILING_STOP: OrderType.MARKET,
    OrderType.STOP_LIMIT: OrderType.LIMIT,
}
"""What an order is once its stop was reached."""
_IS_EXIT, _IS_PROTECTION = attrgetter("is_exit"), attrgetter("is_protection")

FLATTEN_AGAIN = 5 * SECOND
"""So long after an order that should have closed a position and did not, another one is sent, ns of wall time."""


FLATTEN_UNSEEN = 60 * SECOND
"""So long a position is not closed again before it was compared with the venue's again, ns of wall time."""


View: TypeAlias = "LiveContext | LivePortfolio"


class Engine(AccountView):
    """Trades one generation on one account.

    Parameters
    ----------
    generation : what trades; its broker is the truth about orders.
    account_label : the account under which everything is recorded.
    audit : where it is recorded.
    gates : the kernel's gates.
    executor : sends the orders to a real venue; the generation's broker itself where None.
    permits : the last check, right before an order goes to a simulated broker; see `SimulatedGateway`.
    allow_shorts : ``TRADING_ALLOW_SHORTS``.
    reach : how far a decision goes; where no order follows, nothing is ever held.
    on_trouble : called when a strategy was quarantined, or went back to its old code.

    Attributes
    ----------
    totals : what happened so far, counted.
    books, gateway, roster : positions and orders, the way to the broker, and the strategies.
    market_time : time of the last event that was traded on, ns; 0 before the first. Never the time of day.
    recent_prices : what the prices of decisions are compared with.
    traded_to : loop time, ns, up to which an earlier process has traded: rows until then are shown, and the answers to
        them are dropped.
    last_decision : the last one, and whether it led to an order; None before the first.
    reverted : strategies whose new code failed on trial, with its digest and the reason; the caller takes them out.
    """

    def __init__(
        self,
        generation: Generation,
        account_label: str,
        audit: Journal,
        gates: Gates,
        *,
        executor: OrderEntry | None = None,
        permits: Callable[[Intent], str] | None = None,
        allow_shorts: bool = False,
        reach: Reach = Reach.SENT,
        on_trouble: Callable[[], None] = lambda: None,
    ) -> None:
        if generation.broker is None:
            raise ValueError("a generation without a broker cannot trade")
        self.totals = Totals()
        self.reverted: dict[str, tuple[str, str]] = {}
        self.market_time, self.traded_to = 0, EARLIEST
        self.last_decision: tuple[Decision, bool] | None = None
        self._generation = generation
        self._broker = generation.broker
        self._is_simulated = self._broker.capabilities.simulated
        self._account_label = account_label
        self._gates = gates
        self._audit = audit
        self._allow_shorts = allow_shorts
        self._reach = reach
        self._on_trouble = on_trouble
        self._risk_engine = self._risk_engine_of(generation)
        self._digest = hashlib.sha256()
        self._lines: list[str] = []
        self._graph = FeatureGraph(generation.features or FeaturePlan())
        self._flattened: dict[str, int] = {}
        """When positions were last closed for an operator, by symbol, ns."""
        broker: OrderEntry = executor or SimulatedEntry(generation.name_of(self._broker), self._broker)
        self._series = TradedSeries()
        self._past: PastRows | None = None
        """The last rows of symbols that are going to be split; None where none is."""
        self.recent_prices = RecentPrices()
        self.recent_prices.follow(generation.strategies)
        self.books = Books(
            account_label,
            audit,
            self.totals,
            self._lines,
            self._notify_fill,
            self,
            broker.usual_time_in_force,
            lambda symbol: broker.instrument(symbol, generation.instruments[symbol]),
            self.recent_prices,
            is_simulated=self._is_simulated,
        )
        self.gateway: Gateway = (
            SimulatedGateway(broker, self.books, permits) if self._is_simulated else VenueGateway(broker, self.books)
        )
        self.roster = Roster(generation, self.gateway, self.totals, on_trouble)
        self.books.listeners = self.roster.listeners
        self.gateway.on_news = self._hand_out
        self._is_handing_out = False

    @property
    def digest(self) -> str:
        """sha256 over all decisions, orders and fills so far, in order, hexadecimal.

        Account labels, ids and generation numbers, which differ by run, are left out.
        """
        self._digest.update("".join(self._lines).encode())
        self._lines.clear()
        return self._digest.hexdigest()

    @property
    def generation(self) -> Generation:
        """What trades."""
        return self._generation

    def account(self) -> Account:
        """The account at the position that the loop has reached."""
        return self.gateway.account()

    def gates(self) -> dict[str, Closed | None]:
        """Check ``resume``, where there was an earlier process: closed while the market's time is one that it has traded."""
        reached, traded_to = self.market_time, self.traded_to
        if not 0 < reached < traded_to:
            return {"resume": None} if traded_to > 0 else {}
        reason = (
            f"an earlier process has traded this account up to {format_timestamp(traded_to)}, and the market data is at "
            f"{format_timestamp(reached)}: no order until it is later (to trade the past, use an account of its own)"
        )
        return {"resume": Closed(reason, "traded-before")}

    def step(self, batch: Batch) -> None:
        """Trade on one batch whose signals are filled in."""
        whole, batch = batch, self._series.choose(batch)
        for jump in self._series.jumps(batch):
            if self._generation.instruments[jump.symbol].adjusted:
                continue
            self.totals.add_jump(str(jump))
            logs.warning("a price jumped as in a split", jump=str(jump))
        graph = self._graph
        self.roster.follow(graph)
        graph.update(batch)
        if self._past is not None:
            self._past.add(batch, graph.plan)
        gateway = self.gateway
        gateway.begin(batch, self.traded_to)
        self.recent_prices.begin(batch)
        working, may_liquidate = self.books.working, gateway.may_liquidate
        memory, last, is_of_rows = RECORD.memory, None, False
        if self.books.news:  # of what was done between two batches
            gateway.at = batch.start - 1
            self._hand_out(self.books.now)
        # The watchdog reads the local `listener`, see `CALLERS`.
        for (listener, context), event, at, now, close in self.roster.events(batch, graph):
            gateway.at = at
            if (working or may_liquidate) and at >= gateway.quiet_to:
                gateway.advance_to(at + 1)
            if listener is not last:
                last, is_of_rows = listener, listener.is_of_rows
                memory[LOOP] = listener.label
            if is_of_rows:
                context.event_ts = event.event_ts
                context.now = now
                context.price = close
            else:
                context.reach(event, now)
            try:
                answer = listener.call(event, context.read_only)
            except from_plugins() as error:  # a plugin may raise anything; the other strategies trade on
                self._contain(listener, error, event, context)
                continue
            if answer is not None and now > self.traded_to:
                self._decide(listener, answer, event, context)
        memory[LOOP] = NO_PLUGIN
        gateway.finish(batch)
        if len(batch):
            self.market_time = int(batch.now[-1])
        self.recent_prices.finish(batch)
        _ = self.digest  # take the batch's lines in
        self.roster.finish(batch)
        self.totals.add(whole)  # last: who reads that events were traded finds what was decided on them

    def announce(self) -> None:
        """Call strategies for what was reported of their orders between two batches."""
        if self.books.news:
            with without_event_loop():
                self._hand_out(self.books.now)

    def _hand_out(self, now: int) -> None:
        """Call strategies for what was reported of their orders, and for what follows from their answers."""
        if self._is_handing_out:
            return
        self._is_handing_out = True
        news, before = self.books.news, RECORD.memory[LOOP]
        while news:
            context, order, fill = news.popleft()
            subscription = self.roster.find(context.strategy_id)
            if subscription is None:
                continue
            if fill is not None:
                self._call(subscription.listeners[Handler.ON_FILL], fill, context, now)
            self._call(subscription.listeners[Handler.ON_ORDER], order, context, now)
        RECORD.memory[LOOP] = before
        self._is_handing_out = False

    def _call(self, listener: Listener, event: Any, context: LiveContext, now: int) -> None:
        """Call a strategy for something that is no row; the watchdog reads the local `listener`, see `CALLERS`."""
        RECORD.memory[LOOP] = listener.label
        context.reach(event, now)
        try:
            answer = listener.call(event, context.read_only)
        except from_plugins() as error:  # a plugin may raise anything; the other strategies trade on
            self._contain(listener, error, event, context)
            return
        if answer is not None and now > self.traded_to:
            self._decide(listener, answer, event, context)

    # Corporate actions.

    def expect_splits(self, symbols: Collection[str]) -> None:
        """Keep of these symbols, which are going to be split, the rows that features are then computed anew from."""
        plan = self._graph.plan
        if symbols:
            self._past = PastRows({*symbols}.union(*read_elsewhere(plan, symbols).values()))

    def apply_actions(self, actions: Sequence[CorporateAction], at: int) -> None:
        """Apply corporate actions that take effect at a time, ns; between two batches.

        Positions and open orders are adjusted, cash is paid, and after a split all that is known of the symbol is in the prices
        of after it: features, history, and what decisions are compared with.
        """
        factors: dict[str, float] = {}
        for action in actions:
            symbol = action.symbol
            applied = self.gateway.apply_action(action, at)
            if applied.changes or symbol in self.books.traded:
                self.totals.actions.append(applied)
                logs.info("a corporate action took effect", action=str(applied))
            if action.is_split:
                factors[symbol] = factors.get(symbol, 1.0) * action.factor
                self._series.rescale(symbol, action.factor)
                self.recent_prices.rescale(symbol, action.factor)
                if self._past is not None:
                    self._past.rescale(symbol, action.factor)
        if factors and self._past is not None:
            self._graph.rescale(factors, self._past)

    # What an operator's control asks for.

    def apply_control(self, flatten: str, now: int) -> None:
        """Cancel orders that the control does not let work, and close positions where it says so.

        Called again and again while the control is in force: between batches, and while nothing comes in.

        Parameters
        ----------
        flatten : why every position is to be closed; "" where none is.
        now : wall time, ns.
        """
        control, books = self._gates.control, self.books
        if control in ("running", "pause_entries"):
            self._flattened.clear()
            return
        if not self._is_simulated:
            books.now = max(books.now, now)
        if not flatten:
            self.gateway.cancel(but=_IS_EXIT if control == "reduce_only" else _IS_PROTECTION)
            return
        self.gateway.cancel_all_but_flattening()
        listed = {symbol for instance in self._generation.strategies for symbol in instance.symbols}
        for symbol in sorted(listed.union(books.traded)):
            if now - self._flattened.get(symbol, -FLATTEN_AGAIN) >= FLATTEN_AGAIN:
                self._flatten_symbol(symbol, flatten, now)

    def _flatten_symbol(self, symbol: str, reason: str, now: int) -> None:
        """Close what the venue holds in a symbol, strategy by strategy; what is none's, in no strategy's name.

        Open orders that would do so count as done, also those that are being canceled: the net never crosses zero.
        """
        books = self.books
        net = books.net_at_venue(symbol)
        side = Side.SELL if net > 0 else Side.BUY
        closing = [order for order in books.open_orders(symbol) if order.side is side]
        left = abs(net) - sum((order.quantity for order in closing), ZERO)
        if left <= 0 or left < books.context("", symbol).smallest_order:
            return
        last = self._flattened.get(symbol, -FLATTEN_UNSEEN)
        is_unseen = not self._is_simulated and books.compared_at.get(symbol, 0) <= last
        if is_unseen and now - last < FLATTEN_UNSEEN:
            return  # what was sent, or a person, may have changed what the venue holds
        self._flattened[symbol] = now
        if symbol in books.differences:
            logs.warning("flattening what the venue holds", symbol=symbol, venue=str(net), books=str(books.net(symbol)))
        for context in books.held:
            is_holder = context.symbol == symbol and (context.position.quantity > 0) is (net > 0)
            if not context.strategy_id or not is_holder:
                continue
            under_way = sum((order.quantity for order in closing if order.strategy_id == context.strategy_id), ZERO)
            quantity = context.instrument.whole(min(left, abs(context.position.quantity) - under_way))
            if quantity > 0:
                self._flatten(context, side, quantity, reason, now)
                left -= quantity
        rest = books.context("", symbol)
        left = rest.instrument.whole(left)
        if left and left >= rest.smallest_order:
            self._flatten(rest, side, left, reason, now)

    def _flatten(self, context: LiveContext, side: Side, quantity: Decimal, reason: str, now: int) -> None:
        """Close some units of what a strategy holds, at the market, whatever gates and rules say."""
        context.event_ts, context.now = now, self.books.now
        propose = context.sell if side is Side.SELL else context.buy
        proposed = propose(quantity, because=reason)
        strategy = context.strategy_id
        key = decision_hash(self._account_label, strategy, context.symbol, now, proposed.action, proposed.params)
        decision = msgspec.structs.replace(proposed, decision_hash=key, generation=self._generation.number)
        intent = decision.to_intent(decision.quantity, Purpose.FLATTEN)
        verdicts = [Verdict(KERNEL, Outcome.ALLOW, "flatten", reason)]
        self.totals.strategies.setdefault(strategy, StrategyTotals())
        self._record(decision, decision.params, {}, verdicts, decision.quantity, intent, None)
        self.gateway.send(intent, context, decision.price or ZERO)

    # From one generation to the next.

    def _risk_engine_of(self, generation: Generation) -> RiskEngine:
        return RiskEngine(
            self._gates,
            bound_method(self._broker, "objection"),
            generation.advisors,
            generation.rules,
            self._log_failure,
            generation=generation.number,
        )

    def adopt(
        self,
        generation: Generation,
        warmed: Mapping[str, Mapping[str, tuple[int, int]]] = EMPTY,
        fresh: Collection[str] = (),
        graph: FeatureGraph | None = None,
    ) -> list[str]:
        """Trade another generation from the next event on, on the same broker; called between two batches.

        Positions and working orders stay with their strategies; those of a strategy that is gone, or of a symbol that
        it no longer trades, follow its `on_remove`. A strategy with the same instance trades on; one with new code and
        the same parameters, which `generation.hand_over` gave the state of the old code, is on trial.

        Parameters
        ----------
        warmed : by strategy and symbol, how many rows new instances were shown, and the `event_ts` of the last.
        fresh : strategies whose new instance does not resume from the state of the old one.
        graph : the generation's features, which were shown the past; a new one where None.

        Returns
        -------
        What happened to positions, a line each.
        """
        if generation.broker is not self._broker:
            raise ValueError("a generation with another broker needs another engine")
        self._generation = generation
        self._risk_engine = self._risk_engine_of(generation)
        self.recent_prices.follow(generation.strategies)
        graph = graph or FeatureGraph(generation.features or FeaturePlan())
        changes = self.roster.adopt(generation, graph, warmed, fresh)
        graph.resume(self._graph)
        self._graph = graph
        self.books.listeners = self.roster.listeners
        for name, observer in generation.observers:
            self._notify(name, observer, "on_generation", generation.number, generation.digest)
        return changes

    # Over a restart.

    def save(self, on_failure: OnFailure) -> dict[str, Any]:
        """What it knows of the market, and how far its strategies and features are, as plain values.

        Parameters
        ----------
        on_failure : called with the name of an indicator whose state cannot be saved, and why.
        """
        return {
            "now": self.market_time,
            "series": self._series.save(),
            "prices": self.recent_prices.save(),
            "strategies": self.roster.save(),
            "graph": self._graph.save(on_failure),
        }

    def resume(
        self,
        saved: Mapping[str, Any],
        graph: FeatureGraph,
        shown: Mapping[str, Mapping[str, tuple[int, int]]],
    ) -> None:
        """Resume where another process was; before the first batch.

        Parameters
        ----------
        saved : what `save` gave; of strategies only those that have their state.
        graph : the features at that moment.
        shown : by strategy and symbol, how many rows it was shown beforehand, and the `event_ts` of the last.
        """
        self._series.load(saved["series"])
        self.recent_prices.load(saved["prices"])
        self.roster.load(saved["strategies"], shown, saved["now"])
        self._graph = graph

    # What plugins do wrong.

    @classmethod
    def watchdog(cls, seconds: float, *, is_of_a_call: bool = False) -> Watchdog:
        """Make what interrupts plugins that take more than `seconds` of a batch, or of a single call."""
        here = Path(__file__).parent
        return Watchdog(
            seconds, cls.CALLERS, kernel=str(here.parent), uninterrupted=str(here), is_of_a_call=is_of_a_call
        )

    def _contain(self, listener: Listener, error: BaseException, event: Any, context: View) -> None:
        """Go back to the old code where new code has failed in its first rows; else quarantine the strategy."""
        subscription = listener.subscription
        try:
            answer = subscription.revert()
        except from_plugins() as second:  # the old code fails too
            error, answer = second, NotImplemented
        if answer is NotImplemented:
            self.roster.quarantine(subscription, error)
            return
        reason = reason_of(error)
        new = next(each for each in self._generation.strategies if each.name == subscription.name)
        self.reverted[subscription.name] = new.plugin.code_digest, reason
        self._generation = self._generation.with_instance(subscription.instance)
        logs.error(
            "new code failed, the old code trades on", strategy_id=subscription.name, error=reason, exc_info=error
        )
        self._on_trouble()
        if answer is not None:
            self._decide(listener, answer, event, context)

    def _log_failure(self, name: str, error: BaseException) -> None:
        self.totals.failures.setdefault(name, reason_of(error))
        logs.error("plugin failed", plugin=name, error=reason_of(error), exc_info=error)

    # From a strategy's answer to an order.

    def _decide(self, listener: Listener, answer: Any, event: Any, view: View) -> None:
        """Judge what a strategy has answered to an event, one decision after the other."""
        subscription = listener.subscription
        answers = answer if type(answer) in (list, tuple) else (answer,)
        contexts = {view.symbol: view} if isinstance(view, LiveContext) else view.contexts
        if view.now // MINUTE != subscription.minute:
            subscription.minute, subscription.decided = view.now // MINUTE, 0
        subscription.decided += len(answers)
        if subscription.decided > MAX_DECISIONS:
            error = ValueError(f"more than {MAX_DECISIONS} decisions within a minute")
            self.roster.quarantine(subscription, error)
            return
        for proposed in answers:
            wrong = complaint(proposed, listener, contexts)
            if wrong:
                self._contain(listener, TypeError(wrong), event, view)
                return
        given: dict[str, int] = {}  # a row that comes again counts from one again, and its decisions are known
        for proposed in answers:
            if proposed is None:
                continue
            context = contexts[proposed.symbol]
            if type(proposed) is Cancel:
                self.gateway.cancel_order(proposed, context)
                continue
            replaced = self.gateway.replaceable(proposed.replaces, context) if proposed.replaces else None
            if proposed.replaces and replaced is None:
                continue
            if not isinstance(event, (Signal, Slice)):
                given = subscription.given_since(context)
            self._judge(listener, proposed, event, context, given, replaced)
        if self.books.news:
            self._hand_out(view.now)

    def _judge(
        self,
        listener: Listener,
        proposed: Decision,
        event: Any,
        context: LiveContext,
        given: dict[str, int],
        replaced: WorkingOrder | None,
    ) -> None:
        """Let the gates, advisors and rules judge a decision, record it, and send its order, or change the one that is `replaced`."""
        if replaced is not None:
            proposed = _with_fixed_terms(proposed, replaced.order.intent)
        subscription, label = listener.subscription, self._account_label
        event_ts, has_price = context.event_ts, context.price == context.price  # NaN: no price is known
        symbol, action = proposed.symbol, proposed.action
        handler = "" if listener.is_of_rows else listener.handler.value
        params = proposed.params_of(handler, 1)
        key = decision_hash(label, subscription.name, symbol, event_ts, action, params)
        number = given[key] = given.get(key, 0) + 1
        if number > 1:
            params = proposed.params_of(handler, number)
            key = decision_hash(label, subscription.name, symbol, event_ts, action, params)
        decision = msgspec.structs.replace(
            proposed,
            account=label,
            strategy_id=subscription.name,
            event_ts=event_ts,
            decided_at=context.now,
            generation=subscription.generation,
            price=money(context.price) if has_price else None,
            handler=handler,
            number=number,
            decision_hash=key,
        )
        if self._audit.is_known(label, key) or (
            not self._is_simulated and self.books.find(client_order_id(key)) is not None
        ):
            self.totals.repeated += 1
            return
        row = event.get(symbol) if type(event) is Slice else event
        price_ts = _bar_end(row, context, subscription.instance.step_ns)
        rounded = context.instrument.rounded(decision)
        if self._reach is _PROPOSED:
            self._record(decision, params, _record_of(row), [], rounded.quantity, None, None)
            return
        verdicts, quantity, inputs = self._risk_engine.judge(
            rounded,
            price_ts if has_price else None,
            lambda: self._risk_context(subscription.instance, rounded, context, price_ts, replaced),
            is_enabled=subscription.instance.enabled,
            is_allowed=symbol in subscription.symbols,
        )
        if self._reach is _JUDGED:
            self._record(decision, params, _record_of(row), verdicts, quantity, None, inputs)
            return
        if replaced is not None:
            quantity = _quantity_to_replace(replaced.order, quantity, inputs.context)
            self._record(decision, params, _record_of(row), verdicts, quantity, None, inputs)
            if quantity:
                self.gateway.replace(replaced, rounded, quantity)
            return
        intents = self._intents(rounded, quantity, inputs.context, verdicts) if quantity else [None]
        self._record(decision, params, _record_of(row), verdicts, quantity, intents[0], inputs)
        if intents[0] is not None:
            context.last_order_at = decision.decided_at
            self.gateway.send(intents[0], context, decision.price or ZERO, *intents[1:], is_close=decision.is_close)

    def _intents(
        self, decision: Decision, quantity: Decimal, seen: RiskContext | None, verdicts: list[Verdict]
    ) -> list[Intent]:
        """The orders of an allowed decision: one that closes what is held, and one that opens the rest.

        The second is sent once the first has filled, and so it has no trigger left to wait for.
        """
        if seen is None:
            return [decision.to_intent(quantity, _ENTRY)]
        instrument = seen.instrument
        closing = min(quantity, instrument.whole(seen.closable(decision.action)))
        opening = quantity - closing
        if closing and opening and min(closing, opening) < instrument.smallest_order:  # one of the two is no order
            closing, opening = (ZERO, opening) if closing < opening else (closing, ZERO)
        highest = self._highest_price(decision, opening, seen, verdicts)
        if not closing:
            return [decision.to_intent(opening, _ENTRY, highest)]
        legs = [decision.to_intent(closing, _EXIT)]
        if opening:
            rest = msgspec.structs.replace(
                decision,
                order_type=_AFTER_TRIGGER.get(decision.order_type, decision.order_type),
                stop_price=None,
                trail_price=None,
                trail_pct=None,
            )
            legs.append(rest.to_intent(opening, _ENTRY, highest, leg=2))
        return legs

    def _highest_price(
        self, decision: Decision, opening: Decimal, seen: RiskContext, verdicts: list[Verdict]
    ) -> Decimal | None:
        """Up to where an entry may be filled and break no limit; None where its own limit price, or nothing, bounds it."""
        if not opening or decision.action is _SELL or decision.limit_price is not None:
            return None
        bounds = [verdict.highest_price for verdict in verdicts if verdict.highest_price is not None]
        if bounds:
            bounds.append(seen.worst_price(decision) * (1 + self._gates.price_band))
        if self._is_simulated:  # a real venue itself refuses what cannot be paid for
            margin = seen.instrument.notional(opening, seen.instrument.margin)
            bounds.append((seen.account.buying_power - seen.reserved_cash) / margin)
        return seen.instrument.price_below(min(bounds)) if bounds else None

    def _record(
        self,
        decision: Decision,
        params: dict[str, str],
        signal: dict[str, Any],
        verdicts: list[Verdict],
        quantity: Decimal,
        intent: Intent | None,
        inputs: Inputs | None,
    ) -> None:
        """Record a decision in audit, digest and totals, and notify observers; `quantity` is what was allowed of it."""
        totals = self.totals
        totals.decisions += 1
        self.last_decision = decision, bool(quantity)
        self._audit.record_decision(decision, signal, verdicts, intent, inputs)
        sent = str(quantity) if quantity else "-"
        self._lines.append(
            f"decision {decision.strategy_id} {decision.symbol} {decision.event_ts} {decision.decided_at} "
            f"{decision.action!s} {params} {sent}\n"
        )
        strategy = totals.strategies[decision.strategy_id]
        strategy.decisions += 1
        if not quantity:
            totals.denied += 1
            strategy.denied += 1
            for verdict in verdicts:
                if verdict.outcome is Outcome.DENY:
                    totals.denials[verdict.code] = totals.denials.get(verdict.code, 0) + 1
        elif quantity != decision.quantity and _SHRINK in [verdict.outcome for verdict in verdicts]:
            strategy.shrunk += 1
        for name, observer in self._generation.observers:
            self._notify(name, observer, "on_decision", decision, verdicts, intent)

    def _risk_context(
        self,
        instance: StrategyInstance,
        decision: Decision,
        context: LiveContext,
        price_ts: int,
        replaced: WorkingOrder | None,
    ) -> RiskContext:
        symbol, books, gateway, recent = decision.symbol, self.books, self.gateway, self.recent_prices
        recent.at = gateway.at
        account = gateway.account()
        gross, own, worth = books.exposures(decision.strategy_id, decision.replaces)
        if self._is_simulated and account.cash + worth < account.equity:  # it values positions at the last print
            account = msgspec.structs.replace(account, equity=account.cash + worth)
        bid, ask = recent.quote(symbol)
        taken_back = context.opposing(decision.action) if decision.is_close else []
        if replaced is not None:  # it is judged as the order that it would be
            taken_back = [decision.replaces]
        return RiskContext(
            now=context.now,
            strategy_id=decision.strategy_id,
            price=decision.price or ZERO,
            price_ts=price_ts,
            bar_ns=instance.step_ns,
            position=books.net_at_venue(symbol),
            strategy_position=context.position.quantity,
            reserved_cash=books.reserved if replaced is None else books.reserved - replaced.reserve,
            account=account,
            limits=instance.limits,
            allow_shorts=self._allow_shorts,
            last_order_at=context.last_order_at,
            orders=books.open_orders(symbol, taken_back),
            day_start_equity=gateway.day_start_equity,
            day_low_equity=gateway.day_low_equity,
            gross_exposure=gross,
            strategy_exposure=own,
            open_orders=len(books.working) - (replaced is not None),
            orders_last_minute=books.orders_since(context.now - MINUTE),
            difference=books.differences.get(symbol, ZERO),
            recent_price=recent.before(symbol),
            bid=bid,
            ask=ask,
            collar=self._gates.price_collar,
            instrument=context.instrument,
        )

    def _notify_fill(self, fill: Fill, position: Position) -> None:
        for name, observer in self._generation.observers:
            self._notify(name, observer, "on_fill", fill, position)

    def _notify(self, name: str, observer: Observer, hook: str, *news: Any) -> None:
        """Call an observer; the watchdog reads the local `name`, see `CALLERS`."""
        before = RECORD.memory[LOOP]
        RECORD.memory[LOOP] = label("observer", name)
        try:
            bound_method(observer, hook)(*news)
        except from_plugins() as error:  # an observer may raise anything; nothing depends on it
            self._log_failure(name, error)
        RECORD.memory[LOOP] = before

    CALLERS: ClassVar[dict[CodeType, str]] = {
        step.__code__: "listener",
        _call.__code__: "listener",
        _notify.__code__: "name",
        hand_over.__code__: "name",
        save_states.__code__: "name",
        **PlainIndicator.CALLERS,
        **RiskEngine.CALLERS,
        **Subscription.CALLERS,
    }
    """The kernel's functions that call plugins, each with the local variable that names the plugin; see `Watchdog`."""


def _with_fixed_terms(proposed: Decision, intent: Intent) -> Decision:
    """A proposed replacement, with what cannot be changed as the order has it."""
    return msgspec.structs.replace(
        proposed,
        action=intent.side,
        order_type=intent.order_type,
        trail_price=intent.trail_price,
        trail_pct=intent.trail_pct,
        time_in_force=intent.time_in_force,
        bracket=intent.bracket,
        is_close=False,
    )


def _quantity_to_replace(order: Order, quantity: Decimal, seen: RiskContext | None) -> Decimal:
    """How much of an order may remain open on new terms, of what was allowed.

    An exit closes no more than is held, and a leg of a bracket no more than its fill. An order whose fills are bounded by a price
    is not enlarged, as that price holds for the quantity that it was judged with.
    """
    intent = order.intent
    if intent.is_exit and seen is not None:
        quantity = min(quantity, seen.instrument.whole(seen.closable(intent.side)))
    may_grow = intent.highest_price is None and not intent.parent
    return quantity if may_grow else min(quantity, order.remaining)


def _bar_end(row: Any, context: LiveContext, step: int) -> int:
    """When the bar that a context's price is from was complete, ns; `row` is what its strategy was called for."""
    if isinstance(row, Signal) and row.bars is not None:
        return row.bars.end.item(row.row)
    return context.event_ts + step


def _record_of(event: Any) -> dict[str, Any]:
    """What a strategy was called for, as JSON values."""
    if event is None:
        return {}
    return event.to_record() if isinstance(event, Signal) else msgspec.to_builtins(event)
