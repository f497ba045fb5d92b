"""Orders that rest: what they cost, and that the way in which the kernel passes them by changes nothing."""

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers.simulated import Simulated

from support.effort import examples
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import OrderType, TimeInForce
from torghut_core.ports import Strategy
from torghut_core.timestamps import SECOND
from torghut_core.trading.engine import Engine
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
    params = {"fee_bps": "1", "slippage_bps": "2", "latency_ms": latency, "cash": "1000000"}
    expected = trade(batch, seed, 10**6, Attentive(Attentive.Params(**params)))
    assert trade(batch, seed, size, Simulated(Simulated.Params(**params))) == expected
    assert expected[2] > 0


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
