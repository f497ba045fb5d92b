"""One step of the loop: a batch in; decisions, orders and their reports out, through the ports.

The way of a trade, straight through: signal row -> strategy -> decision (hashed) -> gates, advisors, rules -> intent
(written down) -> broker -> report -> position -> the next row's context. Nothing upstream is called from downstream.

Rows are walked in stream order. Before a strategy sees the row at position p, orders that are working have met every
event up to p; an order that it makes there meets the events after p, and no other. So what comes out does not depend
on how the stream was cut into batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import chain, product
from operator import attrgetter
from types import CodeType, MappingProxyType, NoneType
from typing import Any

import msgspec

from torghut_core.catalog import OnRemove
from torghut_core.errors import reason_of
from torghut_core.generation import Generation, StrategyInstance, has_same_terms
from torghut_core.model.market import Batch, Signal
from torghut_core.model.trading import (
    ZERO,
    Account,
    Decision,
    Fill,
    Intent,
    OrderType,
    Outcome,
    Position,
    Purpose,
    Side,
    TimeInForce,
    Verdict,
    client_order_id,
    decision_hash,
    money,
)
from torghut_core.plugin_host.watchdog import FROM_PLUGINS, Watchdog
from torghut_core.ports import AuditStore, Broker, Context, RiskContext
from torghut_core.telemetry import logs
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.books import Books, Totals
from torghut_core.trading.risk_engine import KERNEL, Gates, Inputs, RiskEngine
from torghut_core.trading.subscription import Closing, Row, StrategyTotals, Subscription, interleave

EMPTY: Mapping[str, Any] = MappingProxyType({})

MAX_DECISIONS = 10_000
"""A strategy that makes more decisions in one minute of the loop's time is quarantined."""

_ENTRY, _EXIT = Purpose.ENTRY, Purpose.EXIT  # a member of an enum, reached through its class, is slow in Python 3.11

FLATTEN_AGAIN = 5 * SECOND
"""So long after an order that should have closed a position and did not, another one is sent, ns of wall time."""


class Engine:
    """Trades one generation on one account.

    Parameters
    ----------
    generation : what trades; its broker is the truth about orders.
    account : the label under which everything is written down.
    audit : where it is written down.
    gates : the kernel's switches.
    executor : what stands before a real venue; the generation's broker itself where None.
    permits : the last look, right before an order goes to a simulated broker; see `Books`.
    allow_shorts : ``TRADING_ALLOW_SHORTS``.
    on_trouble : called when a strategy was quarantined, or went back to its old code.

    Attributes
    ----------
    totals : what happened so far, counted.
    traded_to : loop time, ns, up to which an earlier process has traded: rows until then are shown, and nothing comes
        of them.
    reverted : strategies whose new code failed on trial, with its digest and the reason; the caller takes them out.
    """

    def __init__(
        self,
        generation: Generation,
        account: str,
        audit: AuditStore,
        gates: Gates,
        *,
        executor: Broker | None = None,
        permits: Callable[[Intent], str] | None = None,
        allow_shorts: bool = False,
        on_trouble: Callable[[], None] = lambda: None,
    ) -> None:
        if generation.broker is None:
            raise ValueError("a generation without a broker cannot trade")
        self.totals = Totals()
        self._generation = generation
        self._broker = generation.broker
        self._is_simulated = self._broker.capabilities.simulated
        self._needs_purpose = not self._is_simulated or permits is not None
        """Whether somebody tells exits from entries later: then the account is looked at for each decision."""
        self._label = account
        self._gates = gates
        self._audit = audit
        self._allow_shorts = allow_shorts
        self._desk = self._desk_of(generation)
        self._routes = [Subscription(instance, generation.number) for instance in generation.strategies]
        self._closing: list[Subscription] = []
        self._gone_by: list[Batch] | None = None
        self.totals.strategies = {route.name: route.totals for route in self._routes}
        self._digest = hashlib.sha256()
        self._lines: list[str] = []
        self.books = Books(executor or self._broker, account, audit, self.totals, self._lines, self._tell_fill, permits)
        self._on_trouble = on_trouble
        self._flattened: dict[tuple[str, str], int] = {}
        self.reverted: dict[str, tuple[str, str]] = {}
        self.traded_to = 0

    @property
    def digest(self) -> str:
        """sha256 over all decisions, orders and fills so far, in order, hexadecimal.

        Account labels, ids and generation numbers, which differ by run, are left out.
        """
        self._digest.update("".join(self._lines).encode())
        self._lines.clear()
        return self._digest.hexdigest()

    @property
    def working(self) -> int:
        """How many orders are out."""
        return len(self.books.working)

    @property
    def positions(self) -> dict[tuple[str, str], Position]:
        """What each strategy holds, by (strategy, symbol)."""
        return self.books.positions

    @property
    def holding(self) -> set[str]:
        """Strategies that hold a position or have an order out."""
        return self.books.holding

    @property
    def now(self) -> int:
        """The loop's time, ns; 0 before the first event."""
        return self.books.now

    @property
    def last_account(self) -> Account:
        """The account when it was last asked for, which costs nothing."""
        return self.books.last_account

    def account(self) -> Account:
        """The account at the position that the loop has reached."""
        return self.books.account()

    def step(self, batch: Batch) -> None:
        """Trade on one batch whose signals are filled in."""
        totals, books = self.totals, self.books
        books.begin(batch)
        working = books.working
        totals.events += len(batch.trades) + len(batch.quotes) + len(batch.bars)
        totals.late += batch.late
        totals.duplicates += batch.duplicates
        totals.excluded += batch.excluded
        totals.microbars += len(batch.microbars)
        totals.signals += len(batch.signals)
        for route, signal, context, at, now, close in self._rows(batch):
            books.position = at
            if working:
                books.advance_to(at + 1)
            context.event_ts = signal.event_ts
            context.now = now
            context.price = close
            try:
                decision = route.on_signal(signal, context)
            except FROM_PLUGINS as error:  # a plugin may raise anything; the other strategies trade on
                self._contain(route, error, signal, context)
                continue
            if decision is not None and now > self.traded_to:
                self._decide(route, decision, signal, context)
        books.finish(batch)
        _ = self.digest  # take the batch's lines in
        if self._gone_by is not None and len(batch.signals):
            rows = Batch.of(batch.symbols, batch.start, batch.now)
            rows.signals = batch.signals
            self._gone_by.append(rows)
        if self._closing:
            self._closing = [route for route in self._closing if books.holds(route.name, route.symbols)]

    # What an operator's control asks for.

    def apply_control(self, flatten: str, now: int) -> None:
        """Take orders back that the control does not let work, and close positions where it says so.

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
        books.cancel(but_exits=control == "reduce_only" or bool(flatten))
        if not flatten:
            return
        working = {(each.context.strategy_id, each.context.symbol) for each in books.working.values()}
        for context in books.held:
            key = (context.strategy_id, context.symbol)
            if key in working or now - self._flattened.get(key, -FLATTEN_AGAIN) < FLATTEN_AGAIN:
                continue
            self._flattened[key] = now
            self._flatten(context, flatten, now)

    def _flatten(self, context: Context, reason: str, at: int) -> None:
        """Close what a strategy holds in a symbol, at the market, whatever gates and rules say."""
        context.event_ts, context.now = at, self.books.now
        proposed = context.close(because=reason)
        if proposed is None:
            return
        key = decision_hash(self._label, context.strategy_id, context.symbol, at, proposed.action, proposed.params)
        decision = msgspec.structs.replace(proposed, decision_hash=key, generation=self._generation.number)
        intent = self._intend(decision, client_order_id(key), decision.quantity, Purpose.FLATTEN)
        verdicts = [Verdict(KERNEL, Outcome.ALLOW, "flatten", reason)]
        self.totals.strategies.setdefault(context.strategy_id, StrategyTotals())
        self._write_down(decision, decision.params, {}, verdicts, intent, None)
        self.books.send(intent, context, decision.price or ZERO)

    # From one generation to the next.

    def _desk_of(self, generation: Generation) -> RiskEngine:
        return RiskEngine(
            self._gates,
            self._broker.objection,
            generation.advisors,
            generation.rules,
            self._note_failure,
            needs_context=self._needs_purpose,
            generation=generation.number,
        )

    @property
    def generation(self) -> Generation:
        """What trades."""
        return self._generation

    @property
    def quarantined(self) -> dict[str, str]:
        """Strategies that are not asked any more, with the reason."""
        return {route.name: route.totals.failure for route in self._routes if route.totals.failure}

    @property
    def closing(self) -> list[StrategyInstance]:
        """What stands in for strategies that are gone, until their positions are closed."""
        names = {route.name for route in self._routes}
        return [route.instance for route in self._closing if route.name not in names]

    def states(self) -> dict[str, str]:
        """What each strategy of the generation does: trading, warming, disabled or quarantined; or closing."""
        states = dict.fromkeys((route.name for route in self._closing), "closing")
        for route in self._routes:
            if route.totals.failure:
                states[route.name] = "quarantined"
            elif not route.instance.enabled:
                states[route.name] = "disabled"
            else:
                states[route.name] = "warming" if route.left else "trading"
        return states

    def watchdog(self, seconds: float) -> Watchdog:
        """Who interrupts plugins that take more than `seconds` of a batch."""
        callers: dict[CodeType, Callable[[Mapping[str, Any]], str]] = {
            self.step.__code__: lambda local: str(local["route"].name),
            self._contain.__code__: lambda local: str(local["route"].name),
            self._route.__code__: lambda local: str(local["instance"].name),
            self._tell.__code__: lambda local: str(local["name"]),
            **self._desk.callers,
        }
        return Watchdog(seconds, callers, frozenset(code.co_filename for code in callers))

    def keep_signals(self) -> None:
        """Keep what goes by from now on, for strategies that the next generation brings: they have to see it too."""
        self._gone_by = []

    def forget_signals(self) -> None:
        """Keep nothing any more."""
        self._gone_by = None

    @property
    def keeps_signals(self) -> bool:
        """Whether what goes by is kept."""
        return self._gone_by is not None

    def adopt(
        self,
        generation: Generation,
        warmed: Mapping[str, Mapping[str, tuple[int, int]]] = EMPTY,
        fresh: Collection[str] = (),
    ) -> list[str]:
        """Trade another generation from the next event on, on the same broker; called between two batches.

        Positions and working orders stay with their strategies; those of a strategy that is gone, or of a symbol that
        it no longer trades, follow its `on_remove`. A strategy with the same instance goes on as it is; one with new
        code and the same parameters, which `generation.hand_over` gave the state of the old code, is on trial.

        Parameters
        ----------
        warmed : by strategy and symbol, how many rows new instances were shown, and the `event_ts` of the last.
        fresh : strategies whose new instance does not go on with the state of the old one.

        Returns
        -------
        What became of positions, a line each.
        """
        if generation.broker is not self._broker:
            raise ValueError("a generation with another broker needs another engine")
        before = {route.name: route for route in self._routes}
        gone_by, self._gone_by = self._gone_by or [], None
        self._generation = generation
        self._desk = self._desk_of(generation)
        self._routes = [
            self._route(
                instance, before.get(instance.name), warmed.get(instance.name, {}), gone_by, instance.name in fresh
            )
            for instance in generation.strategies
        ]
        self.totals.strategies |= {route.name: route.totals for route in self._routes}
        traded = {(route.name, symbol): route for route in self._routes for symbol in route.symbols}
        for route in self._closing:
            route.symbols -= {symbol for symbol in route.symbols if (route.name, symbol) in traded}
        self._closing = [route for route in self._closing if route.symbols]
        told = []
        for route in before.values():
            left = [symbol for symbol in sorted(route.symbols) if (route.name, symbol) not in traded]
            stays = next((each for each in self._routes if each.name == route.name), route)
            told += self._leave(route, left, stays.instance.on_remove)
        for name, observer in generation.observers:
            self._tell(name, observer.on_generation, generation.number, generation.digest)
        return told

    def _route(
        self,
        instance: StrategyInstance,
        before: Subscription | None,
        shown: Mapping[str, tuple[int, int]],
        gone_by: list[Batch],
        is_fresh: bool,
    ) -> Subscription:
        totals = before.totals if before else self.totals.strategies.get(instance.name)
        route = Subscription(instance, self._generation.number, totals)
        if before is not None and before.instance.strategy is instance.strategy:
            route.succeed(before)
            if route.totals.failure:
                route.close() if before.is_closing else route.stop()
            return route
        if before is not None and has_same_terms(before.instance, instance) and not is_fresh:
            route.succeed(before, is_on_trial=True)
        elif instance.warmup:
            route.take(shown)
            try:
                for batch in gone_by:
                    route.teach(batch, self.books.context)
            except FROM_PLUGINS as error:  # a plugin may raise anything
                self._quarantine(route, error)
                return route
        route.totals.failure = ""
        return route

    def _leave(self, route: Subscription, symbols: list[str], on_remove: OnRemove) -> list[str]:
        """Do with positions in these symbols as `on_remove` says; tell what was done."""
        books = self.books
        told, closing = [], []
        for symbol in symbols:
            if not books.holds(route.name, [symbol]):
                continue
            held = f"{route.name} {symbol} {books.context(route.name, symbol).position.quantity}"
            heir = self._heir(route.name, symbol) if on_remove == "handover" else None
            if heir is not None:
                books.hand_over(route.name, heir, symbol)
                told.append(f"{held}: handed over to {heir}")
                continue
            books.cancel(route.name, symbol)
            if on_remove == "flatten":
                closing.append(symbol)
                told.append(f"{held}: being closed")
            else:
                told.append(f"{held}: kept, and nothing trades it")
        if closing:
            instance = replace(
                route.instance, strategy=Closing(), columns=(), warmup=0, symbols=tuple(closing), enabled=True
            )
            self._closing.append(Subscription(instance, self._generation.number, route.totals))
        return told

    def _heir(self, name: str, symbol: str) -> str | None:
        """The first other strategy by name that trades the symbol."""
        return next(
            (
                route.name
                for route in self._routes
                if route.is_running and symbol in route.symbols and route.name != name and not route.is_closing
            ),
            None,
        )

    # What plugins do wrong.

    def _contain(self, route: Subscription, error: BaseException, signal: Signal, context: Context) -> None:
        """Go back to the old code where new code has failed in its first rows; else ask the strategy nothing more."""
        try:
            answer = route.go_back()
        except FROM_PLUGINS as second:  # the old code fails too
            error, answer = second, NotImplemented
        if answer is NotImplemented:
            self._quarantine(route, error)
            return
        reason = reason_of(error)
        new = next(each for each in self._generation.strategies if each.name == route.name)
        self.reverted[route.name] = new.plugin.code_digest, reason
        self._generation = self._generation.with_instance(route.instance)
        logs.error("new code failed, the old code goes on", strategy=route.name, error=reason, exc_info=error)
        self._on_trouble()
        if answer is not None:
            self._decide(route, answer, signal, context)

    def _quarantine(self, route: Subscription, error: BaseException) -> None:
        """Ask a strategy nothing more, and do with its positions as its `on_remove` says."""
        route.totals.failure = reason_of(error)
        self.totals.failures.setdefault(route.name, route.totals.failure)
        logs.error("strategy quarantined", strategy=route.name, error=route.totals.failure, exc_info=error)
        on_remove = route.instance.on_remove
        if on_remove == "flatten" and self.books.holds(route.name, route.symbols):
            for symbol in sorted(route.symbols):
                self.books.cancel(route.name, symbol)
            route.close()
        else:
            route.stop()
            self._leave(route, sorted(route.symbols), on_remove)
        self._on_trouble()

    def _rows(self, batch: Batch) -> Iterable[Row]:
        """The rows that strategies are shown, in stream order; strategies by name where they share a row."""
        parts = []
        for route in chain(self._routes, self._closing):
            if route.is_running and len(batch.signals):
                index = route.select(batch)
                if len(index):
                    route.totals.rows += len(index)
                    parts.append((route, index))
        streams = [route.stream(batch, index, self.books.context) for route, index in parts]
        if len(streams) < 2:
            return streams[0] if streams else ()
        return interleave(streams, [index for _, index in parts])

    def _decide(self, route: Subscription, proposed: Any, signal: Signal, context: Context) -> None:
        complaint = _complaint(proposed, signal.symbol)
        if complaint:
            self._contain(route, TypeError(complaint), signal, context)
            return
        if context.now // MINUTE != route.minute:
            route.minute, route.decided = context.now // MINUTE, 0
        route.decided += 1
        if route.decided > MAX_DECISIONS:
            self._quarantine(route, ValueError(f"more than {MAX_DECISIONS} decisions within a minute"))
            return
        params = proposed.params
        key = decision_hash(self._label, route.name, signal.symbol, signal.event_ts, proposed.action, params)
        decision = msgspec.structs.replace(
            proposed,
            account=self._label,
            strategy_id=route.name,
            event_ts=signal.event_ts,
            decided_at=context.now,
            decision_hash=key,
            generation=route.number,
        )
        number = client_order_id(key)
        if self._audit.is_known(self._label, key) or (not self._is_simulated and self.books.knows(number)):
            self.totals.repeated += 1
            return
        has_price = context.price == context.price  # NaN: no price is known
        verdicts, quantity, inputs = self._desk.judge(
            decision,
            signal.event_ts + route.instance.step_ns if has_price else None,
            lambda: self._risk_context(route.instance, decision, context),
            is_enabled=route.instance.enabled,
            is_allowed=signal.symbol in route.symbols,
        )
        seen = inputs.context
        purpose = _EXIT if seen is not None and quantity <= seen.closable(decision.action) else _ENTRY
        intent = self._intend(decision, number, quantity, purpose) if quantity else None
        self._write_down(decision, params, msgspec.structs.asdict(signal), verdicts, intent, inputs)
        if intent is not None:
            context.last_order_at = decision.decided_at
            self.books.send(intent, context, decision.price or ZERO)

    def _intend(self, decision: Decision, number: str, quantity: Decimal, purpose: Purpose) -> Intent:
        return Intent(
            client_order_id=number,
            decision_hash=decision.decision_hash,
            account=self._label,
            strategy_id=decision.strategy_id,
            symbol=decision.symbol,
            side=decision.action,
            quantity=quantity,
            decided_at=decision.decided_at,
            order_type=decision.order_type,
            limit_price=decision.limit_price,
            stop_price=decision.stop_price,
            trail_price=decision.trail_price,
            trail_pct=decision.trail_pct,
            time_in_force=decision.time_in_force,
            purpose=purpose,
        )

    def _write_down(
        self,
        decision: Decision,
        params: dict[str, str],
        signal: dict[str, Any],
        verdicts: list[Verdict],
        intent: Intent | None,
        inputs: Inputs | None,
    ) -> None:
        totals = self.totals
        totals.decisions += 1
        self._audit.record_decision(decision, signal, verdicts, intent, inputs)
        sent = "-" if intent is None else str(intent.quantity)
        self._lines.append(
            f"decision {decision.strategy_id} {decision.symbol} {decision.event_ts} {decision.decided_at} "
            f"{decision.action} {params} {sent}\n"
        )
        strategy = totals.strategies[decision.strategy_id]
        strategy.decisions += 1
        if intent is None:
            totals.denied += 1
            strategy.denied += 1
            for verdict in verdicts:
                if verdict.outcome is Outcome.DENY:
                    totals.denials[verdict.code] = totals.denials.get(verdict.code, 0) + 1
        elif intent.quantity != decision.quantity:
            strategy.shrunk += 1
        for name, observer in self._generation.observers:
            self._tell(name, observer.on_decision, decision, verdicts, intent)

    def _risk_context(self, instance: StrategyInstance, decision: Decision, context: Context) -> RiskContext:
        symbol, books = decision.symbol, self.books
        account = self.account()
        gross, own = books.exposures(decision.strategy_id)
        return RiskContext(
            now=context.now,
            strategy_id=decision.strategy_id,
            price=money(context.price),
            price_ts=context.event_ts + instance.step_ns,
            position=books.net(symbol),
            strategy_position=context.position.quantity,
            reserved_cash=books.reserved,
            account=account,
            limits=instance.limits,
            allow_shorts=self._allow_shorts,
            last_order_at=context.last_order_at,
            orders=books.open_orders(symbol),
            day_start_equity=books.day_start_equity,
            day_low_equity=books.day_low_equity,
            gross_exposure=gross,
            strategy_exposure=own,
            open_orders=len(books.working),
            orders_last_minute=books.orders_since(context.now - MINUTE),
        )

    def _note_failure(self, name: str, error: BaseException) -> None:
        self.totals.failures.setdefault(name, reason_of(error))
        logs.error("plugin failed", plugin=name, error=reason_of(error), exc_info=error)

    def _tell_fill(self, fill: Fill, position: Position) -> None:
        for name, observer in self._generation.observers:
            self._tell(name, observer.on_fill, fill, position)

    def _tell(self, name: str, hear: Callable[..., None], *news: Any) -> None:
        try:
            hear(*news)
        except FROM_PLUGINS as error:  # an observer may raise anything; nothing depends on it
            self._note_failure(name, error)


_TYPES = {
    "action": (Side,),
    "quantity": (Decimal,),
    "because": (str,),
    "order_type": (OrderType,),
    "limit_price": (Decimal, NoneType),
    "stop_price": (Decimal, NoneType),
    "trail_price": (Decimal, NoneType),
    "trail_pct": (Decimal, NoneType),
    "time_in_force": (TimeInForce,),
}
_read = attrgetter(*_TYPES)
_SOUND = frozenset(product(*_TYPES.values()))


def _complaint(proposed: Any, symbol: str) -> str:
    """What is wrong with what a strategy gave, "" when it is a decision on the symbol that it was shown."""
    if not isinstance(proposed, Decision):
        return f"on_signal gave {proposed!r:.200}, not a Decision"
    if proposed.symbol != symbol:
        return f"on_signal gave a decision on {proposed.symbol} when it was shown {symbol}"
    if tuple(map(type, _read(proposed))) in _SOUND:
        amounts = proposed.quantity, proposed.limit_price, proposed.stop_price, proposed.trail_price, proposed.trail_pct
        endless = [amount for amount in amounts if amount is not None and not amount.is_finite()]
        return f"on_signal gave a decision with the amount {endless[0]}" if endless else ""
    wrong = next(name for name, types in _TYPES.items() if type(getattr(proposed, name)) not in types)
    return f"on_signal gave a decision whose {wrong} is {getattr(proposed, wrong)!r:.80}, not a {_TYPES[wrong][0].__name__}"
