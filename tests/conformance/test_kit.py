"""The kit finds what it is meant to find: honest plugins pass its suites, and each broken one fails its check."""

import itertools
import math
from decimal import Decimal
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from hypothesis import given
from torghut_brokers import Simulated
from torghut_testing import (
    BrokerConformance,
    IndicatorConformance,
    RiskRuleConformance,
    SourceConformance,
    StageConformance,
    StrategyConformance,
    exits,
    random_batch,
    random_rows,
    risk_context,
    risk_contexts,
    signal,
    trade_batch,
)

import torghut_core as core
from support.effort import examples
from torghut_core import features
from torghut_core.stages import Stage, kernel


def fails(suite, attribute, cls, check, *arguments, **facts):
    """Run one inherited check on a class; it has to fail."""
    made = type("Suite", (suite,), {attribute: cls, **facts})()
    failures = (
        AssertionError,
        TypeError,
        ValueError,
        LookupError,
        ArithmeticError,
        core.TorghutError,
        pytest.fail.Exception,
    )
    with pytest.raises(failures):
        getattr(made, check)(*arguments)


# Strategies


class Honest(core.Strategy):
    """Buys on every third row of a symbol, closes on the next."""

    columns = ("rsi14",)
    state = ("seen",)

    def __init__(self, params):
        super().__init__(params)
        self.seen = {}

    def on_signal(self, signal, context):
        seen = self.seen[signal.symbol] = self.seen.get(signal.symbol, 0) + 1
        if context.is_long:
            return context.close(because="held")
        return context.buy("0.5", because="third") if seen % 3 == 0 else None


class TestHonestStrategy(StrategyConformance):
    strategy = Honest


class Guarded(Honest):
    """Brings a stop and a take-profit with its entries, lets the stop follow, and never closes itself."""

    def on_signal(self, signal, context):
        seen = self.seen[signal.symbol] = self.seen.get(signal.symbol, 0) + 1
        price = signal.close
        if context.is_flat and seen % 3 == 0:
            return context.buy(1, because="third", stop_loss=price * 0.99, take_profit=price * 1.01)
        stops = [order for order in context.orders if order.intent.order_type == "stop"]
        return [context.replace(stop, because="follow", stop_price=price * 0.99) for stop in stops]


class TestGuardedStrategy(StrategyConformance):
    strategy = Guarded


class TwoStops(Honest):
    """Does not say which of two stops it means."""

    def on_signal(self, signal, context):
        return context.buy(1, because="why not", stop_loss=signal.close / 2, trail=signal.close / 2)


class Unguarded(Honest):
    """Brings a stop that is not a price."""

    def on_signal(self, signal, context):
        return context.buy(1, because="why not", stop_loss=0)


class Silent(Honest):
    class Params(core.Strategy.Params):
        rows: int = 3


class Greedy(Honest):
    """Asks for a column that does not exist."""

    columns = ("rsi41",)


class Elsewhere(Honest):
    """Decides on another symbol."""

    def on_signal(self, signal, context):
        decision = super().on_signal(signal, context)
        return decision and msgspec.structs.replace(decision, symbol="ES")


class Empty(Honest):
    """Buys nothing."""

    def on_signal(self, signal, context):
        return context.buy(0, because="why not")


class Speechless(Honest):
    """Does not say why."""

    def on_signal(self, signal, context):
        return context.buy(1, because=" ")


class AtOnce(core.Strategy):
    """Decides on whole columns, and row by row."""

    columns = ("rsi14",)

    def decide(self, columns):
        return np.where(columns.rsi14 < 45, 1.0, 0.0), np.where(columns.rsi14 < 45, "low", "not low")

    def on_signal(self, signal, context):
        if signal.rsi14 < 45:
            return context.target(1, because="low")
        return context.close(because="not low") if context.is_long else None


class TestHonestAtOnce(StrategyConformance):
    strategy = AtOnce


class OtherAtOnce(AtOnce):
    """Says something else row by row."""

    def on_signal(self, signal, context):
        return context.target(1, because="low") if signal.rsi14 < 44 else None


class Relative(AtOnce):
    """Compares a row with those that come with it."""

    def decide(self, columns):
        return np.where(columns.rsi14 < columns.rsi14.mean(), 1.0, 0.0)


class Idle(Honest):
    """Never decides."""

    def on_signal(self, signal, context):
        return None


class Fragile(Honest):
    """Raises in a market that never moves."""

    columns = ("vol_realized_w60s",)

    def on_signal(self, signal, context):
        return context.buy(Decimal(1 / signal.vol_realized_w60s), because="quiet")


class Forgetful(Honest):
    """Does not declare its state."""

    state = ()


class Mixed(Honest):
    """Counts the rows of all symbols together."""

    def on_signal(self, signal, context):
        seen = self.seen["all"] = self.seen.get("all", 0) + 1
        return context.buy(1, because="fifth") if seen % 5 == 0 else None


class Shared(Honest):
    """Counts the rows of all instances together."""

    count = itertools.count()

    def on_signal(self, signal, context):
        return context.buy(1, because="seventh") if next(self.count) % 7 == 0 else None


class Odd(Honest):
    """Keeps state that is not plain."""

    def __init__(self, params):
        super().__init__(params)
        self.seen = {"rows": {1, 2}}


class Credulous(Honest):
    """Reads any state."""

    def load_state(self, state, version):
        self.seen = state["seen"]


@pytest.mark.parametrize(
    ("cls", "check", "arguments"),
    [
        (Silent, "test_class_says_what_it_does", ()),
        (Silent, "test_parameters_have_help", ()),
        (Greedy, "test_columns_exist", ()),
        (Elsewhere, "test_decisions_are_sound", (0,)),
        (Empty, "test_decisions_are_sound", (0,)),
        (TwoStops, "test_decisions_are_sound", (0,)),
        (Unguarded, "test_decisions_are_sound", (0,)),
        (Speechless, "test_decisions_are_sound", (0,)),
        (Idle, "test_decisions_are_sound", (0,)),
        (OtherAtOnce, "test_decide_agrees_with_on_signal", (0,)),
        (Relative, "test_decide_agrees_with_on_signal", (0,)),
        (Fragile, "test_extreme_markets_are_survived", (1.0, 0.0)),
        (Shared, "test_same_rows_give_same_decisions", (0,)),
        (Forgetful, "test_saved_state_carries_on", (0,)),
        (Mixed, "test_symbols_do_not_affect_each_other", (0,)),
        (Odd, "test_new_state_is_plain", ()),
        (Credulous, "test_state_of_a_later_version_is_refused", ()),
    ],
)
def test_broken_strategy_is_caught(cls, check, arguments):
    """Each of these breaks one promise, and the check of that promise says so."""
    fails(StrategyConformance, "strategy", cls, check, *arguments)


def test_strategy_that_waits_for_a_rare_event_may_say_so():
    """`decides = False` takes back the demand for a decision on noise."""
    suite = type("Suite", (StrategyConformance,), {"strategy": Idle, "decides": False})()
    suite.test_decisions_are_sound(0)


def test_signal_of_an_unknown_column_is_refused():
    """A misspelt column in a test is an error there."""
    with pytest.raises(TypeError, match="rsi41"):
        signal(rsi41=1.0)


def test_signal_has_its_bar_and_features():
    """A row has prices of its own, a price that is left out is the close; features are given as such."""
    row = signal(open=99.0, close=101.0, volume=7.0, rsi14=30.0, features={"top": 100.5})
    assert (row.open, row.high, row.low, row.close, row.volume) == (99.0, 101.0, 99.0, 101.0, 7.0)
    assert (row.rsi14, row.top) == (30.0, 100.5)
    with pytest.raises(TypeError, match=r"\['top'\].*give features as"):
        signal(top=100.5)


class Crossing(core.Strategy):
    """Holds while an average of minutes is above one of hours."""

    def features(self):
        return {
            "fast": features.ema(10),
            "slow": features.ema(3, timeframe="1Hour"),
            "other": features.close.of("SPY").optional,
        }

    def on_signal(self, signal, context):
        if context.is_flat and signal.fast > signal.slow:
            return context.buy(1, because="above")
        return context.close(because="below") if context.is_long and signal.fast < signal.slow else None


class TestStrategyWithFeatures(StrategyConformance):
    strategy = Crossing


def test_rows_have_features_as_a_run_computes_them():
    """The rows begin where they are warm; the close of another symbol is that of the same bar, or missing."""
    rows = random_rows((), 0, 50, timeframe="1Min", features=Crossing.features(None))
    assert len(rows) == 2 * 50
    assert all(row.signal.fast == row.signal.fast and row.price == row.signal.close for row in rows)
    assert len({row.signal.slow for row in rows if row.signal.symbol == "BTC/USD"}) in {1, 2}
    assert all(row.signal.other > 0 for row in rows)


class Misspelt(Crossing):
    """Asks for an indicator that is not installed."""

    def features(self):
        return {"fast": features.emma(10)}


class Moving(Crossing):
    """Asks for something else each time."""

    count = itertools.count(2)

    def features(self):
        return {"fast": features.ema(next(self.count)), "slow": features.ema(30)}


class TooSlow(Crossing):
    """Needs more rows than anyone has."""

    def features(self):
        return {"fast": features.ema(10), "slow": features.ema(5000, timeframe="1Day")}


@pytest.mark.parametrize("cls", [Misspelt, Moving])
def test_features_that_cannot_be_had_are_caught(cls):
    """An unknown name, and answers that change."""
    fails(StrategyConformance, "strategy", cls, "test_features_exist")


def test_features_that_take_too_many_rows_are_an_error():
    """It says what to change."""
    with pytest.raises(ValueError, match="give a larger `timeframe`"):
        type("Suite", (StrategyConformance,), {"strategy": TooSlow})().rows(0)


# Indicators


class Gap(core.Indicator):
    """Gap: open / close of the bar before - 1."""

    inputs = ("open", "close")
    state = ("before",)
    warmup = 2

    def __init__(self, params):
        super().__init__(params)
        self.before = math.nan

    def update(self, open, close):
        before, self.before = self.before, close
        return open / before - 1


class TestHonestIndicator(IndicatorConformance):
    indicator = Gap


class Early(Gap):
    """Says that it is warm at once."""

    warmup = 1


class Late(Gap):
    """Says that it is warm later than it is."""

    warmup = 3


class Unsaved(Gap):
    """Does not name its state."""

    state = ()


class Common(Gap):
    """Keeps its state for all symbols together."""

    last: ClassVar = [math.nan]

    def update(self, open, close):
        before, self.last[0] = self.last[0], close
        return open / before - 1


class Steep(Gap):
    """Divides by what does not move."""

    def update(self, open, close):
        before, self.before = self.before, close
        return 1 / (close - before) if before == before else math.nan


class TwoOutputs(Gap):
    """Names two outputs and gives one."""

    outputs = ("up", "down")


class Unnamed(Gap):
    """Has a list where a tuple belongs."""

    inputs: ClassVar = ["open", "close"]


class Short(Gap):
    """Depends on less than it takes to be warm."""

    memory = 1


def peek(_state, _row, inputs, _numbers, out):
    out[0, :-1] = inputs[0, 1:]
    out[0, -1:] = inputs[0, -1:]


class Peeking(core.Indicator):
    """The close of the next bar, where there is one."""

    kernel = kernel(peek)

    def row(self):
        return np.dtype([("nothing", np.int64)])


@pytest.mark.parametrize(
    ("cls", "check", "arguments"),
    [
        (Early, "test_it_is_warm_when_it_says", (0,)),
        (Late, "test_it_is_warm_when_it_says", (0,)),
        (Unsaved, "test_saved_state_carries_on", (0,)),
        (Common, "test_symbols_do_not_affect_each_other", (0,)),
        (Steep, "test_wild_markets_are_survived", ("flat",)),
        (TwoOutputs, "test_chunking_changes_nothing", (0,)),
        (Unnamed, "test_inputs_and_outputs_are_named", ()),
        (Short, "test_warmup_and_memory_are_numbers_of_bars", ()),
        pytest.param(Peeking, "test_chunking_changes_nothing", (0,), marks=pytest.mark.proof),  # it is compiled
        pytest.param(Peeking, "test_nothing_looks_ahead", (0,), marks=pytest.mark.proof),  # it is compiled
    ],
)
def test_broken_indicator_is_caught(cls, check, arguments):
    """Each of these breaks one law, and the check of that law says so."""
    fails(IndicatorConformance, "indicator", cls, check, *arguments)


# Rules


class Half(core.RiskRule):
    """Halves entries above ten units, once."""

    def check(self, decision, context):
        most = max(Decimal(10), context.closable(decision.action))
        if decision.quantity > most:
            return core.Verdict("half", core.Outcome.SHRINK, "half", quantity=most)
        return core.Verdict("half", core.Outcome.ALLOW, "half")


class TestHonestRule(RiskRuleConformance):
    rule = Half


class Twice(Half):
    """Enlarges."""

    def check(self, decision, context):
        return core.Verdict("twice", core.Outcome.SHRINK, "twice", quantity=decision.quantity * 2)


class Insatiable(Half):
    """Halves every decision."""

    def check(self, decision, context):
        return core.Verdict("half", core.Outcome.SHRINK, "half", quantity=decision.quantity / 2)


class Moody(Half):
    """Denies every other time."""

    count = itertools.count()

    def check(self, decision, context):
        outcome = core.Outcome.DENY if next(self.count) % 2 else core.Outcome.ALLOW
        return core.Verdict("moody", outcome, "moody")


class Jailer(Half):
    """Denies exits."""

    def check(self, decision, context):
        return core.Verdict("jailer", core.Outcome.DENY, "jailer")


class Vague(Half):
    """Has a number where the record has text."""

    def check(self, decision, context):
        return core.Verdict("vague", core.Outcome.ALLOW, "vague", decision.quantity)


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (Twice, "test_verdict_is_whole_and_never_enlarges"),
        (Insatiable, "test_what_was_shrunk_passes"),
        (Moody, "test_same_question_gets_same_answer"),
        (Vague, "test_recorded_inputs_give_the_verdict_again"),
        (Jailer, "test_exit_passes"),
    ],
)
def test_broken_rule_is_caught(cls, check):
    """Each of these breaks one law, and the check of that law says so."""
    fails(RiskRuleConformance, "rule", cls, check)


def test_rule_that_stops_exits_on_purpose_may_say_so():
    """`exits_pass = False` takes back that law."""
    type("Suite", (RiskRuleConformance,), {"rule": Jailer, "exits_pass": False})().test_exit_passes()


def test_working_units_become_orders():
    """A test may state open units, of the strategy and in all; the orders of others are the difference."""
    made = risk_context(50, 10, strategy_position=4, working=2, account_working=-1)
    assert (made.working, made.account_working, made.open_orders) == (2, -1, 2)
    assert [(order.side, order.quantity) for order in made.orders] == [(core.Side.BUY, 2), (core.Side.SELL, 3)]
    assert (made.gross_exposure, made.strategy_exposure) == (750, 300)


def test_orders_are_added_to_working_units():
    """Orders with terms of their own count like the others."""
    order = core.OpenOrder(
        strategy_id="another",
        side=core.Side.SELL,
        quantity=Decimal(3),
        order_type=core.OrderType.LIMIT,
        limit_price=Decimal(60),
    )
    made = risk_context(50, working=2, orders=[order])
    assert (made.working, made.account_working, made.open_orders) == (2, -1, 2)


def test_random_contexts_have_orders_of_several_strategies_on_both_sides():
    """Or the laws of rules prove little: own orders and those of others, of every type."""
    seen, types = set(), set()

    @examples(200, quick=60)  # it asks whether all kinds occur
    @given(context=risk_contexts())
    def look(context):
        for order in context.orders:
            seen.add((order.strategy_id == context.strategy_id, order.side))
            types.add(order.order_type)

    look()
    assert seen == set(itertools.product((True, False), core.Side))
    assert types == set(core.OrderType)


def test_random_exits_close_beside_orders_on_both_sides():
    """Exits are tried while other exits are in flight and entries rest, and each is closable whole."""
    crowded = []

    @examples(200)
    @given(case=exits())
    def look(case):
        proposed, context = case
        assert proposed.quantity <= context.closable(proposed.action)
        crowded.append({order.side for order in context.orders} == set(core.Side))

    look()
    assert any(crowded)


# Stages


class MeanOfCloses(Stage):
    """For each bar, a signal with the mean of all closes of its symbol so far in `ema12`."""

    state = ("closes",)

    def __init__(self, params):
        super().__init__(params)
        self.closes = {}

    def key(self, batch, number):
        return batch.symbols.names[number]

    def update(self, batch):
        means = []
        for number, close in zip(batch.bars.symbol.tolist(), batch.bars.close.tolist(), strict=True):
            closes = self.closes.setdefault(self.key(batch, number), [])
            closes.append(close)
            means.append(sum(closes) / len(closes))
        head = {name: getattr(batch.bars, name) for name in ("at", "event_ts", "symbol", "seq", "step", "series")}
        batch.signals = core.Signals.from_columns(**head, ema12=means)
        return batch


class TestHonestStage(StageConformance):
    stage = MeanOfCloses


class PerBatch(MeanOfCloses):
    """Forgets between batches."""

    def update(self, batch):
        self.closes = {}
        return super().update(batch)


class LookAhead(MeanOfCloses):
    """Knows the last close of the batch from its first row on."""

    def update(self, batch):
        batch = super().update(batch)
        if len(batch.signals):
            batch.signals.ema12[:] = batch.bars.close[-1]
        return batch


class Amnesiac(MeanOfCloses):
    """Does not declare its state."""

    state = ()


class OneForAll(MeanOfCloses):
    """Means over all symbols."""

    def key(self, batch, number):
        return "all"


class Misplaced(MeanOfCloses):
    """Puts its rows outside of the batch."""

    def update(self, batch):
        batch = super().update(batch)
        batch.signals.at[:] = 0
        return batch


@pytest.mark.parametrize(
    ("cls", "check", "arguments"),
    [
        (PerBatch, "test_chunking_changes_nothing", (0, 20)),
        (LookAhead, "test_chunking_changes_nothing", (0, 97)),
        (Amnesiac, "test_saved_state_carries_on", (0,)),
        (OneForAll, "test_symbols_do_not_affect_each_other", (0,)),
        (Misplaced, "test_rows_are_in_order_and_in_the_batch", (0,)),
    ],
)
def test_broken_stage_is_caught(cls, check, arguments):
    """Each of these breaks one law, and the check of that law says so."""
    fails(StageConformance, "stage", cls, check, *arguments)


def test_random_batch_has_everything_in_it():
    """Trades, quotes and bars of both symbols, ties, late trades and duplicates: or the laws prove little."""
    batch = random_batch(0)
    for table in (batch.trades, batch.quotes, batch.bars):
        assert set(table.symbol.tolist()) == {0, 1}
    gaps = np.diff(batch.trades.event_ts)
    assert (gaps < 0).any()
    assert (gaps == 0).any()
    assert len(np.unique(batch.trades.trade_key)) < len(batch.trades)
    assert sorted([*batch.trades.at, *batch.quotes.at, *batch.bars.at]) == list(range(len(batch)))


# Brokers


class Till(core.Broker):
    """Fills market orders at the next trade, limit orders at the next trade that is good enough."""

    capabilities = core.Capabilities(
        order_types=frozenset({core.OrderType.MARKET, core.OrderType.LIMIT}),
        times_in_force=frozenset({core.TimeInForce.DAY}),
        simulated=True,
    )
    state = ("cash", "held", "known")

    def __init__(self, params):
        super().__init__(params)
        self.cash, self.held, self.known = "1000", {}, []
        self._working, self._reports = {}, []

    def submit(self, intent):
        if self.is_new(intent):
            self.known.append(intent.client_order_id)
            self._working[intent.client_order_id] = core.Order(intent=intent)

    def is_new(self, intent):
        return intent.client_order_id not in self.known

    def cancel(self, client_order_id):
        if self._working.pop(client_order_id, None):
            self._reports.append(
                core.Report(client_order_id=client_order_id, event=core.OrderEvent.CANCELED, event_ts=0)
            )

    def replace(self, client_order_id, quantity=None, limit_price=None, stop_price=None):
        raise NotImplementedError

    def orders(self):
        return list(self._working.values())

    def positions(self):
        return {symbol: core.Position(Decimal(quantity)) for symbol, quantity in self.held.items()}

    def account(self):
        cash = Decimal(self.cash)
        return core.Account(cash=cash, equity=cash, buying_power=cash)

    def updates(self):
        reports, self._reports = self._reports, []
        return reports

    def advance(self, batch, first, stop):
        price = core.money(batch.trades.price[0])
        for order in list(self._working.values()):
            intent = order.intent
            if intent.limit_price is None or intent.limit_price >= price:
                self.fill(intent, price)
                self._working.pop(intent.client_order_id, None)

    def fill(self, intent, price):
        self.held[intent.symbol] = str(Decimal(self.held.get(intent.symbol, 0)) + intent.quantity)
        self.cash = str(Decimal(self.cash) - intent.quantity * price)
        fill = core.Fill(
            client_order_id=intent.client_order_id,
            fill_id="1",
            symbol=intent.symbol,
            side=intent.side,
            quantity=intent.quantity,
            price=price,
            fee=Decimal(0),
            event_ts=0,
        )
        report = core.Report(client_order_id=intent.client_order_id, event=core.OrderEvent.FILL, event_ts=0, fill=fill)
        self._reports.append(report)


class TestHonestBroker(BrokerConformance):
    broker = Till


class Doubling(Till):
    """Takes the same order again."""

    def is_new(self, intent):
        return True


class Touchy(Till):
    """Raises on a cancel of an unknown order."""

    def cancel(self, client_order_id):
        del self._working[client_order_id]


class Repeating(Till):
    """Reports everything again."""

    def updates(self):
        return list(self._reports)


class Garbled(Till):
    """Reports a cancel of what it filled."""

    def fill(self, intent, price):
        super().fill(intent, price)
        self._reports.append(msgspec.structs.replace(self._reports[-1], event=core.OrderEvent.CANCELED, fill=None))


class Partial(Till):
    """Fills in two parts with one id."""

    def fill(self, intent, price):
        half = msgspec.structs.replace(intent, quantity=intent.quantity / 2)
        super().fill(half, price)
        super().fill(half, price)


class Deaf(Till):
    """Fills what was canceled."""

    def cancel(self, client_order_id):
        pass


class Careless(Till):
    """Saves its cash and not what it bought."""

    state = ("cash",)


class Unpaired(Simulated):
    """Does not know that two orders are the legs of one bracket."""

    def submit(self, intent):
        super().submit(msgspec.structs.replace(intent, parent="", parent_fill=""))


class Linked(Simulated):
    """Cancels everything at once."""

    def cancel(self, client_order_id):
        for order in self.orders():
            super().cancel(order.intent.client_order_id)


class Stubborn(Simulated):
    """Replaces prices only."""

    def replace(self, client_order_id, quantity=None, limit_price=None, stop_price=None):
        super().replace(client_order_id, None, limit_price, stop_price)


class Undeclared(Till):
    """Does not take market orders."""

    capabilities = core.Capabilities(order_types=frozenset(), times_in_force=frozenset({core.TimeInForce.DAY}))


class Indebted(Till):
    """Starts with an account that is not a number."""

    def account(self):
        return core.Account(cash=Decimal("nan"), equity=Decimal(0), buying_power=Decimal(0))


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (Doubling, "test_same_order_twice_is_one_order"),
        (Touchy, "test_cancel_of_unknown_order_changes_nothing"),
        (Touchy, "test_cancel_of_filled_order_changes_nothing"),
        (Repeating, "test_order_is_filled_and_reported"),
        (Garbled, "test_order_is_filled_and_reported"),
        (Partial, "test_fill_ids_are_unique"),
        (Deaf, "test_canceled_order_is_not_filled"),
        (Careless, "test_saved_state_carries_on"),
        (Unpaired, "test_a_leg_that_fills_cancels_the_other"),
        (Unpaired, "test_a_leg_that_fills_in_part_makes_the_other_smaller"),
        (Linked, "test_a_canceled_leg_leaves_the_other"),
        (Stubborn, "test_replaced_quantity_is_what_is_filled"),
        (Undeclared, "test_capabilities_are_stated"),
        (Indebted, "test_new_account_is_flat"),
    ],
)
def test_broken_broker_is_caught(cls, check):
    """Each of these breaks one promise, and the check of that promise says so."""
    fails(BrokerConformance, "broker", cls, check)


# Sources


class Twenty(core.Source):
    """Twenty trades of one symbol."""

    def __init__(self, params):
        super().__init__(params)
        self.position = 0

    @property
    def total(self):
        return 20

    async def batches(self, size):
        symbols = core.SymbolTable()
        while self.position < 20:
            first, self.position = self.position, min(20, self.position + size)
            rows = [("ES", 1_000 + number, 100.0 + number, 1.0) for number in range(first, self.position)]
            yield trade_batch(rows, symbols, first)

    def cursor(self):
        return {"position": self.position}

    def seek(self, cursor):
        self.position = cursor["position"]


class TestHonestSource(SourceConformance):
    source = Twenty


class Gappy(Twenty):
    """Counts from one."""

    async def batches(self, size):
        async for batch in super().batches(size):
            batch.start += 1
            yield batch


class Lavish(Twenty):
    """Delivers larger batches than it was asked for."""

    async def batches(self, size):
        async for batch in super().batches(size + 1):
            yield batch


class Restless(Twenty):
    """Prices depend on the batch."""

    async def batches(self, size):
        async for batch in super().batches(size):
            batch.trades.price[0] = 0.0
            yield batch


class Short(Twenty):
    """States a larger total than it delivers."""

    @property
    def total(self):
        return 21


class Lost(Twenty):
    """Resumes one event too late."""

    def seek(self, cursor):
        self.position = cursor["position"] + 1


@pytest.mark.parametrize(
    ("cls", "check", "arguments"),
    [
        (Gappy, "test_positions_follow_each_other", (7,)),
        (Lavish, "test_positions_follow_each_other", (7,)),
        (Restless, "test_batch_size_changes_nothing", (7,)),
        (Short, "test_total_is_kept", ()),
        (Lost, "test_source_resumes_at_its_cursor", ()),
    ],
)
def test_broken_source_is_caught(cls, check, arguments):
    """Each of these breaks one promise, and the check of that promise says so."""
    fails(SourceConformance, "source", cls, check, *arguments)
