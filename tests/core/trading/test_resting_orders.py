"""Orders that rest: what they cost, and that the way in which the kernel passes them by changes nothing."""

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from torghut_brokers.simulated import Simulated
from torghut_testing import intent

from support.effort import examples
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import OrderType, Outcome, Side, TimeInForce, Verdict
from torghut_core.ports import RiskRule, Strategy
from torghut_core.timestamps import SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.exposures import Ladder, rung_of
from torghut_core.trading.gates import Gates

MINUTE = 60 * SECOND
START = 1_767_571_200 * SECOND
GTC = TimeInForce.GTC


class Resting(Strategy):
    """Keeps orders of every kind out, which ones by dice of its own; the price says how far."""

    columns = ("ema12",)

    def __init__(self, seed):
        super().__init__(self.Params())
        self.dice = random.Random(seed)

    def on_signal(self, signal, context):
        if self.dice.random() < 0.5:
            return None
        price, near = Decimal(str(context.price)), Decimal(self.dice.choice(["0.5", "1", "2", "30"]))
        if context.is_long and not context.protecting:
            terms = self.dice.choice(
                [
                    {"order_type": OrderType.STOP, "stop_price": price - near},
                    {"order_type": OrderType.LIMIT, "limit_price": price + near},
                    {"order_type": OrderType.TRAILING_STOP, "trail_price": near},
                    {"order_type": OrderType.STOP_LIMIT, "stop_price": price - near, "limit_price": price - 2 * near},
                    {},
                ]
            )
            return context.sell(1, because="leave", time_in_force=GTC, **terms)
        terms = self.dice.choice([{}, {"order_type": OrderType.LIMIT, "limit_price": price - near}])
        return context.buy(1, because="enter", time_in_force=GTC, **terms)


def bars(seed, symbols, minutes):
    """One-minute bars of random walks, each symbol's after the other's; some are missing."""
    dice = random.Random(seed)
    close, rows = dict.fromkeys(symbols, 100.0), []
    for minute in range(minutes):
        for symbol in symbols:
            opened, close[symbol] = close[symbol], round(close[symbol] + dice.gauss(0, 0.6), 2)
            if dice.random() < 0.9:
                high, low = max(opened, close[symbol]) + 0.25, min(opened, close[symbol]) - 0.25
                rows.append((symbol, START + minute * MINUTE, opened, high, low, close[symbol], 100.0))
    return signal_batch(rows, ema12=1.0)


def trade(batch, seed, size, broker):
    """Digest, counts and account of two strategies that trade three symbols, in batches of a size."""
    made = generation(
        instance("one", Resting(seed), symbols=("ES", "NQ")),
        instance("two", Resting(seed + 1), symbols=("NQ", "YM")),
        broker=broker,
        number=1,
    )
    engine = Engine(made, "test-1", MemoryAuditStore(), Gates(trading_enabled=True), allow_shorts=True)
    for head in cut(batch, size):
        engine.step(head)
    return engine.digest, engine.totals.orders, engine.totals.fills, engine.account()


def cut(batch, size):
    while len(batch) > size:
        head, batch = batch.split(batch.start + size)
        yield with_signals(head)
    yield with_signals(batch)


class Attentive(Simulated):
    """Has to be shown every event, as a broker that cannot look ahead."""

    def quiet_to(self, batch, first):
        return first


@examples(60)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([1, 3, 40, 10**6]), latency=st.sampled_from([0, 90_000]))
def test_passing_by_what_no_order_meets_changes_nothing(seed, size, latency):
    """Whether a broker is shown every row or only those that an order meets, and in any batches, the bits are the same."""
    batch = bars(seed, ["ES", "NQ", "YM"], 60)
    params = {"fees": {"*": {"bps": 1}}, "slippage": {"*": {"bps": 2}}, "latency_ms": latency, "cash": "1000000"}
    expected = trade(batch, seed, 10**6, Attentive(Attentive.Params(**params)))
    assert trade(batch, seed, size, Simulated(Simulated.Params(**params))) == expected
    assert expected[2] > 0


class Walking(RiskRule):
    """Allows everything, and compares the sums that it is shown with what a walk over all positions and orders gives."""

    def __init__(self):
        super().__init__(self.Params())
        self.engine = None
        self.compared = 0

    def check(self, decision, context):
        books = self.engine.books
        low, high = ({symbol: books._prices(symbol)[end] for symbol in books.traded} for end in (0, 1))
        gross, worth = Decimal(0), Decimal(0)
        for symbol, net in books.nets.items():
            gross += abs(net) * high[symbol]
            worth += net * (low if net > 0 else high)[symbol]
        own = Decimal(0)
        for (strategy, symbol), position in books.positions.items():
            own += abs(position.quantity) * high[symbol] if strategy == decision.strategy_id else 0
        for working in books.working.values():
            order = working.order.intent
            if order.is_exit:
                continue
            price = high[order.symbol] * (1 + (order.trail_pct or 0) / Decimal(100)) + (order.trail_price or 0)
            price = max(price, order.limit_price or 0, order.stop_price or 0)
            if order.side is Side.BUY and order.limit_price is not None:
                price = order.limit_price
            gross += price * working.order.remaining
            own += price * working.order.remaining if order.strategy_id == decision.strategy_id else 0
        assert books.exposures(decision.strategy_id) == (gross, own, worth)
        assert (context.gross_exposure, context.strategy_exposure) == (gross, own)
        seen = [each for each in books.working.values() if each.context.symbol == decision.symbol]
        assert [(each.strategy_id, each.quantity) for each in context.orders] == [
            (each.context.strategy_id, each.order.remaining) for each in seen
        ]
        self.compared += 1
        return Verdict("walking", Outcome.ALLOW, "walking")


@examples(40)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([1, 3, 40, 10**6]))
def test_sums_over_positions_and_orders_are_what_a_walk_over_them_gives(seed, size):
    """At each decision, after orders were added, filled in part, made smaller, canceled and filled, and prices moved."""
    rule = Walking()
    made = generation(
        instance("one", Resting(seed), symbols=("ES", "NQ")),
        instance("two", Resting(seed + 1), symbols=("NQ", "YM")),
        broker=Simulated(Simulated.Params(cash="1000000", participation="0.004")),
        rules=[("walking", rule)],
        number=1,
    )
    engine = rule.engine = Engine(made, "test-1", MemoryAuditStore(), Gates(trading_enabled=True), allow_shorts=True)
    for head in cut(bars(seed, ["ES", "NQ", "YM"], 60), size):
        engine.step(head)
    assert not engine.totals.failures
    assert rule.compared > 40


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "limit_price", "stop_price", "trail_pct", "trail_price"]),
            st.sampled_from(list(Side)),
            st.integers(1, 5),
        ),
        min_size=1,
    ),
    st.lists(st.integers(0, 20), min_size=1, max_size=5),
    st.data(),
)
def test_a_ladder_is_the_sum_of_its_orders_at_any_price(orders, prices, data):
    """However the price moves and orders come and go, it is each order's quantity at the highest price that it may have."""
    ladder, rungs = Ladder(), []
    for name, side, quantity in orders:
        order = intent(side=side, quantity=quantity, **({name: Decimal(3 + quantity)} if name else {}))
        rungs.append(rung_of(order, Decimal(quantity)))
        ladder.add(rungs[-1])
    for price in map(Decimal, prices):
        if rungs and data.draw(st.booleans()):
            ladder.remove(rungs.pop(data.draw(st.integers(0, len(rungs) - 1))))
        worst = [rung.quantity * max(price * rung.rate + rung.distance, rung.floor) for rung in rungs]
        fixed = [rung.quantity * rung.floor for rung in rungs]
        bounded = [rung.threshold == Decimal("Infinity") for rung in rungs]
        expected = sum(f if is_bounded else w for w, f, is_bounded in zip(worst, fixed, bounded, strict=True))
        line = ladder.line(price)
        assert line.slope * price + line.rest == expected
        assert line.since <= price < line.until


class Counting(Simulated):
    """Counts what it is called for."""

    def __init__(self, params):
        super().__init__(params)
        self.calls = 0

    def advance_to_report(self, batch, first, stop):
        self.calls += 1
        return super().advance_to_report(batch, first, stop)


@pytest.mark.parametrize(("side", "price"), [("buy", "1"), ("sell", "1000")])
def test_an_order_that_no_row_reaches_does_not_make_rows_walk_the_broker(side, price):
    """One resting order, and thousands of rows of its symbol and another: the broker is called a few times, not for each."""
    sent = []

    class Once(Strategy):
        columns = ("ema12",)

        def on_signal(self, signal, context):
            if sent:
                return None
            sent.append(context.now)
            propose = context.buy if side == "buy" else context.sell
            return propose(1, because="once", order_type=OrderType.LIMIT, limit_price=Decimal(price), time_in_force=GTC)

    broker = Counting(Counting.Params())
    made = generation(instance("once", Once(Once.Params()), symbols=("ES", "NQ")), broker=broker, number=1)
    engine = Engine(made, "test-1", MemoryAuditStore(), Gates(trading_enabled=True), allow_shorts=True)
    engine.step(bars(1, ["ES", "NQ"], 2500))
    assert len(engine.books.working) == 1
    assert broker.calls < 20


def test_the_longer_an_order_rests_the_farther_the_broker_looks_ahead():
    """An order that has met an event, and waits where it was, is not asked about again at each stride."""
    batch = bars(1, ["ES"], 20_000)
    broker = Simulated(Simulated.Params())
    order = intent(symbol="ES", side="sell", order_type="limit", limit_price=Decimal(10**6), time_in_force="gtc")
    broker.submit(replace(order, decided_at=START))
    first, looks = 0, 0
    while first < batch.stop:
        broker.advance(batch, first, first + 1)
        first, looks = max(first + 1, broker.quiet_to(batch, first + 1)), looks + 1
    assert looks < 12
