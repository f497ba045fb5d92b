"""One step of the loop: a batch in; decisions, orders and their reports out, through the ports.

The way of a trade, straight through: signal row -> strategy -> decision (hashed) -> gates, advisors, rules -> intent
(written down) -> broker -> report -> position -> the next row's context. Nothing upstream is called from downstream.

Rows are walked in stream order. Before a strategy sees the row at position p, orders that are working have met every
event up to p; an order that it makes there meets the events after p, and no other. So what comes out does not depend
on how the stream was cut into batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import product, repeat
from operator import attrgetter
from types import NoneType
from typing import Any, TypeAlias

import msgspec
import numpy as np

from torghut_core import logs
from torghut_core.context import Books, Context
from torghut_core.errors import IllegalTransition
from torghut_core.generation import Generation, StrategyInstance
from torghut_core.model.market import Batch, IntArray, Signal, signal_type
from torghut_core.model.trading import (
    ZERO,
    Account,
    Decision,
    Fill,
    Intent,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Outcome,
    Position,
    Report,
    Side,
    TimeInForce,
    Verdict,
    client_order_id,
    decision_hash,
    money,
)
from torghut_core.order_state import apply_report, is_done
from torghut_core.ports import AuditStore, RiskContext
from torghut_core.positions import apply_fill
from torghut_core.risk import Desk, Gates

LATE_FILLS = 10_000
"""So many canceled, expired and rejected orders are remembered for fills that were under way."""


class StrategyTotals(msgspec.Struct):
    """What one strategy did so far, counted."""

    rows: int = 0
    """Signal rows that it was shown."""
    decisions: int = 0
    denied: int = 0
    shrunk: int = 0
    fills: int = 0
    failure: str = ""
    """What it raised; it is not asked again then."""


class Totals(msgspec.Struct):
    """What happened so far, counted."""

    events: int = 0
    late: int = 0
    duplicates: int = 0
    excluded: int = 0
    microbars: int = 0
    signals: int = 0
    decisions: int = 0
    denied: int = 0
    repeated: int = 0
    orders: int = 0
    rejected: int = 0
    fills: int = 0
    illegal_reports: int = 0
    fees: Decimal = ZERO
    denials: dict[str, int] = msgspec.field(default_factory=dict)
    """How often each verdict code denied."""
    strategies: dict[str, StrategyTotals] = msgspec.field(default_factory=dict)
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    """Plugins that raised: name -> what, the first time."""


class Working(msgspec.Struct):
    """An order that is out, with the view that it belongs to and the price that it was decided at."""

    order: Order
    context: Context
    price: Decimal
    open_quantity: Decimal
    """Signed units that the order would still add to the position."""


# Reached for every report; a member of an enum, reached through its class, is slow in Python 3.11.
_BUY = Side.BUY
_DENY = Outcome.DENY
_ACCEPT, _REJECTED = OrderEvent.ACCEPT, OrderEvent.REJECTED
_FILLED = OrderState.FILLED


class Engine(Books):
    """Trades one generation on one account.

    Parameters
    ----------
    generation : what trades; its broker is the truth about orders.
    account : the label under which everything is written down.
    audit : where it is written down.
    gates : the kernel's switches.
    allow_shorts : ``TRADING_ALLOW_SHORTS``.
    """

    def __init__(
        self, generation: Generation, account: str, audit: AuditStore, gates: Gates, *, allow_shorts: bool = False
    ) -> None:
        if generation.broker is None:
            raise ValueError("a generation without a broker cannot trade")
        self.totals = Totals()
        self._generation = generation
        self._broker = generation.broker
        self._label = account
        self._audit = audit
        self._allow_shorts = allow_shorts
        self._desk = Desk(gates, self._broker.capabilities, generation.advisors, generation.rules, self._note_failure)
        self._routes = [_Route(instance) for instance in generation.strategies]
        self.totals.strategies = {route.name: route.totals for route in self._routes}
        self._contexts: dict[tuple[str, str], Context] = {}
        self._working: dict[str, Working] = {}
        self._ended: dict[str, Working] = {}
        self._net: dict[str, Decimal] = {}
        self._digest = hashlib.sha256()
        self._lines: list[str] = []
        self._batch: Batch | None = None
        self._shown = 0
        self._position = 0

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
        return len(self._working)

    @property
    def positions(self) -> dict[tuple[str, str], Position]:
        """What each strategy holds, by (strategy, symbol)."""
        return {key: context.position for key, context in self._contexts.items()}

    def account(self) -> Account:
        """The account at the position that the loop has reached."""
        self._show(self._position + 1)
        return self._broker.account()

    def step(self, batch: Batch) -> None:
        """Trade on one batch whose signals are filled in."""
        self._batch = batch
        self._shown = batch.start
        totals = self.totals
        totals.events += len(batch.trades) + len(batch.quotes) + len(batch.bars)
        totals.late += batch.late
        totals.duplicates += batch.duplicates
        totals.excluded += batch.excluded
        totals.microbars += len(batch.microbars)
        totals.signals += len(batch.signals)
        for route, signal, context, at, now, close in self._rows(batch):
            self._position = at
            if self._working:
                self._meet(at + 1)
            context.event_ts = signal.event_ts
            context.now = now
            context.price = close
            try:
                decision = route.on_signal(signal, context)
            except Exception as error:  # a plugin may raise anything; the other strategies trade on
                self._stop_strategy(route, error)
                continue
            if decision is not None:
                self._decide(route, decision, signal, context)
        self._position = batch.stop - 1
        self._meet(batch.stop)
        self._batch = None
        _ = self.digest  # take the batch's lines in

    def _context(self, strategy: str, symbol: str) -> Context:
        """The view of one strategy on one symbol: the same object from the first row on, over reloads too."""
        context = self._contexts.get((strategy, symbol))
        if context is None:
            context = self._contexts[strategy, symbol] = Context(strategy, symbol, self._label, self)
        return context

    def _rows(self, batch: Batch) -> Iterable[_Row]:
        """The rows that strategies are shown, in stream order; strategies by name where they share a row."""
        parts = []
        for route in self._routes:
            if route.is_running and len(batch.signals):
                index = route.select(batch)
                if len(index):
                    route.totals.rows += len(index)
                    parts.append((route, index))
        streams = [route.stream(batch, index, self._context) for route, index in parts]
        if len(streams) < 2:
            return streams[0] if streams else ()
        return _interleave(streams, [index for _, index in parts])

    def _decide(self, route: _Route, proposed: Any, signal: Signal, context: Context) -> None:
        complaint = _complaint(proposed, signal.symbol)
        if complaint:
            self._stop_strategy(route, TypeError(complaint))
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
            generation=self._generation.number,
        )
        if self._audit.is_known(self._label, key):
            self.totals.repeated += 1
            return
        has_price = context.price == context.price  # NaN: no price is known
        verdicts, quantity = self._desk.judge(
            decision,
            signal.event_ts + route.instance.step_ns if has_price else None,
            lambda: self._risk_context(route.instance, decision, context),
            is_enabled=route.instance.enabled,
            is_allowed=signal.symbol in route.symbols,
        )
        intent = self._intend(decision, quantity) if quantity else None
        self._write_down(decision, params, signal, verdicts, intent)
        if intent is None:
            return
        if not self._broker.capabilities.simulated:
            self._audit.commit()  # the intent is durable before the order leaves
        context.last_order_at = decision.decided_at
        self._send(intent, context, decision.price or ZERO)

    def _intend(self, decision: Decision, quantity: Decimal) -> Intent:
        return Intent(
            client_order_id=client_order_id(decision.decision_hash),
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
        )

    def _write_down(
        self,
        decision: Decision,
        params: dict[str, str],
        signal: Signal,
        verdicts: list[Verdict],
        intent: Intent | None,
    ) -> None:
        totals = self.totals
        totals.decisions += 1
        self._audit.record_decision(decision, msgspec.structs.asdict(signal), verdicts, intent)
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
                if verdict.outcome is _DENY:
                    totals.denials[verdict.code] = totals.denials.get(verdict.code, 0) + 1
        elif intent.quantity != decision.quantity:
            strategy.shrunk += 1
        for name, observer in self._generation.observers:
            self._tell(name, observer.on_decision, decision, verdicts, intent)

    def _send(self, intent: Intent, context: Context, price: Decimal) -> None:
        self._show(self._position + 1)
        number = intent.client_order_id
        order = Order(intent=intent)
        working = self._working[number] = Working(order, context, price, _open_quantity(order))
        context.working += working.open_quantity
        self.totals.orders += 1
        self._broker.submit(intent)
        if not self._broker.capabilities.simulated:  # a simulated order cannot be lost on its way
            self._take(working, Report(client_order_id=number, event=OrderEvent.SUBMIT, event_ts=intent.decided_at))
        self._hear()

    def _risk_context(self, instance: StrategyInstance, decision: Decision, context: Context) -> RiskContext:
        symbol = decision.symbol
        account_working = reserved = ZERO
        for working in self._working.values():
            intent = working.order.intent
            rest = working.open_quantity
            if rest > 0:
                reserved += rest * (intent.limit_price or working.price)
            if intent.symbol == symbol:
                account_working += rest
        return RiskContext(
            now=context.now,
            price=money(context.price),
            price_ts=context.event_ts + instance.step_ns,
            position=self._net.get(symbol, ZERO),
            strategy_position=context.position.quantity,
            working=context.working,
            account_working=account_working,
            reserved_cash=reserved,
            account=self.account(),
            limits=instance.limits,
            allow_shorts=self._allow_shorts,
            last_order_at=context.last_order_at,
        )

    def _show(self, stop: int) -> None:
        """Show the broker the events before `stop` that it has not seen."""
        if self._batch is not None and stop > self._shown:
            self._broker.advance(self._batch, self._shown, stop)
            self._shown = stop

    def _meet(self, stop: int) -> None:
        self._show(stop)
        self._hear()

    def _hear(self) -> None:
        """Take in what the broker reports."""
        for report in self._broker.updates():
            number = report.client_order_id
            working = self._working.get(number) or self._ended.get(number)
            if working is None:
                logs.warning("report of an unknown order", client_order_id=number, said=report.event)
                continue
            try:
                self._take(working, report)
            except IllegalTransition as error:
                self.totals.illegal_reports += 1
                logs.warning("report refused", error=str(error), client_order_id=number)

    def _take(self, working: Working, report: Report) -> None:
        order, context = working.order, working.context
        if not apply_report(order, report):
            return  # a fill that was seen before
        if report.event is not _ACCEPT:
            after = _open_quantity(order)
            context.working += after - working.open_quantity
            working.open_quantity = after
        if is_done(order.state):
            self._end(working)
        if report.fill is not None:
            report = msgspec.structs.replace(report, fill=self._fold(report.fill, context, working.price))
        elif report.event is _REJECTED:
            self.totals.rejected += 1
        self._audit.record_report(self._label, order, report, context.position)
        self._lines.append(_line_of(order, report))
        if report.fill is not None:
            for name, observer in self._generation.observers:
                self._tell(name, observer.on_fill, report.fill, context.position)

    def _end(self, working: Working) -> None:
        """Keep an order that is done for a while, because a late fill of it still counts."""
        number = working.order.intent.client_order_id
        if self._working.pop(number, None) is not None and working.order.state is not _FILLED:
            self._ended[number] = working
            if len(self._ended) > LATE_FILLS:
                del self._ended[next(iter(self._ended))]

    def _fold(self, fill: Fill, context: Context, price: Decimal) -> Fill:
        signed = fill.quantity if fill.side is _BUY else -fill.quantity
        context.position = apply_fill(context.position, fill)
        self._net[fill.symbol] = self._net.get(fill.symbol, ZERO) + signed
        self.totals.fills += 1
        self.totals.strategies[context.strategy_id].fills += 1
        self.totals.fees += fill.fee
        if not price:
            return fill
        against_us = fill.price - price if fill.side is _BUY else price - fill.price
        return msgspec.structs.replace(fill, slippage=against_us)

    def _stop_strategy(self, route: _Route, error: Exception) -> None:
        route.is_running = False
        route.totals.failure = f"{type(error).__name__}: {error}"
        self._note_failure(route.name, error)

    def _note_failure(self, name: str, error: Exception) -> None:
        self.totals.failures.setdefault(name, f"{type(error).__name__}: {error}")
        logs.error("plugin failed", plugin=name, error=f"{type(error).__name__}: {error}", exc_info=error)

    def _tell(self, name: str, hear: Callable[..., None], *news: Any) -> None:
        try:
            hear(*news)
        except Exception as error:  # an observer may raise anything; nothing depends on it
            self._note_failure(name, error)


_Row: TypeAlias = "tuple[_Route, Signal, Context, int, int, float]"
"""A signal row on its way to a strategy: with position, loop time and close."""


class _Route:
    """Which signal rows one strategy is shown, and as what."""

    def __init__(self, instance: StrategyInstance) -> None:
        self.instance = instance
        self.name = instance.name
        self.symbols = frozenset(instance.symbols)
        self.on_signal = instance.strategy.on_signal
        self.is_running = instance.enabled
        self.totals = StrategyTotals()
        self._row = signal_type(instance.columns)
        self._wanted = np.zeros(0, bool)

    def select(self, batch: Batch) -> IntArray:
        """Numbers of the rows at this timeframe, of these symbols, in which every column has a value."""
        signals = batch.signals
        names = batch.symbols.names
        if len(self._wanted) != len(names):
            self._wanted = np.fromiter((name in self.symbols for name in names), bool, len(names))
        mask = (signals.step == self.instance.step_ns) & self._wanted[signals.symbol]
        for column in self.instance.columns:
            values = getattr(signals, column)
            mask &= values == values
        return np.flatnonzero(mask)

    def stream(self, batch: Batch, index: IntArray, context: Callable[[str, str], Context]) -> Iterable[_Row]:
        """These rows, each with the strategy's view of its symbol, the position, the loop's time and the close."""
        signals = batch.signals
        names = batch.symbols.names
        numbers = signals.symbol[index].tolist()
        contexts = {number: context(self.name, names[number]) for number in set(numbers)}
        only = next(iter(contexts)) if len(contexts) == 1 else None
        at = signals.at[index]
        rows = map(
            self._row,
            map(names.__getitem__, numbers) if only is None else repeat(names[only]),
            signals.event_ts[index].tolist(),
            *[getattr(signals, column)[index].tolist() for column in self.instance.columns],
        )
        return zip(
            repeat(self),
            rows,
            map(contexts.__getitem__, numbers) if only is None else repeat(contexts[only]),
            at.tolist(),
            batch.now[at - batch.start].tolist(),
            signals.close[index].tolist(),
            strict=False,  # `repeat` has no end
        )


def _interleave(streams: list[Any], indices: list[IntArray]) -> Iterator[Any]:
    """Rows of several streams in order of their row number, streams in the order given where they share one."""
    iterators = [iter(stream) for stream in streams]
    rows = np.concatenate(indices)
    owner = np.repeat(np.arange(len(indices)), [len(index) for index in indices])
    for number in owner[np.argsort(rows, kind="stable")].tolist():
        yield next(iterators[number])


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
        return ""
    wrong = next(name for name, types in _TYPES.items() if type(getattr(proposed, name)) not in types)
    return f"on_signal gave a decision whose {wrong} is {getattr(proposed, wrong)!r:.80}, not a {_TYPES[wrong][0].__name__}"


def _open_quantity(order: Order) -> Decimal:
    """Signed units that an order would still add to the position."""
    if is_done(order.state):
        return ZERO
    return order.remaining if order.intent.side is _BUY else -order.remaining


def _line_of(order: Order, report: Report) -> str:
    """What the digest sees of a report: the order and the fill, without ids."""
    intent = order.intent
    fill = report.fill
    done = "" if fill is None else f" {fill.quantity} {fill.price} {fill.fee}"
    return (
        f"order {intent.strategy_id} {intent.symbol} {intent.side} {intent.quantity} {report.event} "
        f"{report.event_ts}{done}\n"
    )
