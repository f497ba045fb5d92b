"""Exits in a replay: of what is held, past their own protection, and in two legs where the rest opens a position."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torghut_brokers import Simulated

from support.actions import Plan, buy, close, sell
from support.effort import examples
from support.generations import generation, instance, signal_batch, with_signals
from torghut_core.audit import MemoryAuditStore
from torghut_core.model.trading import OrderState, OrderType, Purpose, Side, TimeInForce
from torghut_core.timestamps import MINUTE, SECOND
from torghut_core.trading.engine import Engine
from torghut_core.trading.gates import Gates

START = 1_767_571_200 * SECOND
STOP, LIMIT = OrderType.STOP, OrderType.LIMIT
ENDS = {
    OrderType.MARKET: {},
    OrderType.LIMIT: {"limit_price": 100},
    OrderType.STOP: {"stop_price": 100},
    OrderType.STOP_LIMIT: {"stop_price": 100, "limit_price": 100},
    OrderType.TRAILING_STOP: {"trail_price": Decimal("0.5")},
}
"""Terms with which an order of each type fills at once in a market at 100."""


def side(context):
    return context.is_flat, context.is_long, context.is_short


def target(quantity):
    return lambda context: context.target(quantity, because="test")


def guard(quantity, price=90):
    """A protective stop below."""
    return sell(quantity, order_type=STOP, stop_price=Decimal(price), time_in_force=TimeInForce.GTC)


def bars(closes):
    """A minute each, from the close before to the close."""
    before, rows = closes[0], []
    for number, price in enumerate(closes):
        high, low = max(before, price), min(before, price)
        rows.append(("ES", START + number * MINUTE, float(before), float(high), float(low), float(price), 10.0))
        before = price
    return signal_batch(rows)


def play(closes, *plans, cuts=(), **broker):
    """The engine after a tape of closes, on which strategies carried out their plans; `cuts` are where batches end."""
    names = "abcdef"
    made = generation(
        *(instance(name, Plan(*acts, sees=side)) for name, acts in zip(names, plans, strict=False)),
        broker=Simulated(Simulated.Params(**broker)),
    )
    audit = MemoryAuditStore()
    engine = Engine(made, "test", audit, Gates(trading_enabled=True), allow_shorts=True)
    batch = bars(closes)
    for cut in sorted(cuts):
        if batch.start < cut < batch.stop:
            head, batch = batch.split(cut)
            engine.step(with_signals(head))
    engine.step(with_signals(batch))
    audit.commit()
    return engine, audit


def held(engine):
    return sum(position.quantity for position in engine.books.positions.values())


def orders(audit):
    return [(row["side"], row["quantity"], OrderState(row["state"])) for row in audit.orders("test")]


EXITS = {"close": close(), "by hand": sell(5), "target": target(0)}


@pytest.mark.parametrize("way", EXITS)
def test_exit_takes_its_own_stop_back(way):
    """The position is closed, and the stop, of which nothing is left to protect, never fires."""
    engine, audit = play([100, 100, 100, 100, 100, 50, 50], [buy(5), guard(5), None, EXITS[way]])
    assert held(engine) == 0
    assert orders(audit) == [("buy", 5, "filled"), ("sell", 5, "canceled"), ("sell", 5, "filled")]


@pytest.mark.parametrize("latency_ms", [0, 90_000])
def test_short_position_is_closed_past_its_stop_too(latency_ms):
    """The same the other way round, also where a cancel takes time and the stop may fire meanwhile."""
    stop = buy(5, order_type=STOP, stop_price=Decimal(110), time_in_force=TimeInForce.GTC)
    for rise in range(5, 9):
        closes = [100] * rise + [150] * 6
        engine, _ = play(closes, [sell(5), None, None, stop, None, close()], latency_ms=latency_ms)
        assert held(engine) == 0
        assert not engine.books.working


def test_state_is_by_what_is_held():
    """A stop counts for neither; a resting entry makes a strategy neither long nor flat."""
    bid = buy(3, order_type=LIMIT, limit_price=Decimal(1), time_in_force=TimeInForce.GTC)
    engine, _ = play([100] * 6, [buy(5), guard(5), None, close(), bid, None])
    (subscription,) = engine.roster._subscriptions
    flat, long, neither = (True, False, False), (False, True, False), (False, False, False)
    assert subscription.instance.strategy.seen == [flat, long, long, long, flat, neither]


def test_part_of_a_position_is_sold_and_the_rest_stays_protected():
    """The stop becomes as small as what is left, and closes that."""
    engine, audit = play([100, 100, 100, 100, 100, 50, 50], [buy(5), guard(5), sell(3)])
    assert held(engine) == 0
    assert orders(audit) == [("buy", 5, "filled"), ("sell", 2, "filled"), ("sell", 3, "filled")]


@pytest.mark.parametrize("act", [close(), target(0)], ids=["close", "target"])
def test_resting_bid_does_not_enlarge_an_exit(act):
    """Nothing is sold that is not held."""
    bid = buy(3, order_type=LIMIT, limit_price=Decimal(1), time_in_force=TimeInForce.GTC)
    engine, audit = play([100] * 5, [bid, act])
    assert (held(engine), len(audit.orders("test"))) == (0, 1)
    engine, audit = play([100] * 5, [buy(5), bid, act])
    assert (held(engine), orders(audit)[-1]) == (0, ("sell", 5, "filled"))


def test_close_beside_a_market_exit_under_way_sends_no_other():
    """What is being sold already is not sold again."""
    engine, audit = play([100] * 9, [buy(5), None, None, close(), close()], latency_ms=90_000)
    assert (held(engine), [row["side"] for row in audit.orders("test")]) == (0, ["buy", "sell"])
    assert engine.totals.decisions == 2


def test_stop_and_take_profit_in_one_bar_close_the_position_once():
    """The stop fills, since what came first is unknown; the other is canceled."""
    profit = sell(5, order_type=LIMIT, limit_price=Decimal(110), time_in_force=TimeInForce.GTC)
    rows = [("ES", START + n * MINUTE, 100.0, 100.0, 100.0, 100.0, 9.0) for n in range(4)]
    rows += [("ES", START + n * MINUTE, 100.0, 120.0, 80.0, 100.0, 9.0) for n in range(4, 6)]
    made = generation(instance("a", Plan(buy(5), profit, guard(5))))
    audit = MemoryAuditStore()
    engine = Engine(made, "test", audit, Gates(trading_enabled=True), allow_shorts=True)
    engine.step(signal_batch(rows))
    audit.commit()
    assert held(engine) == 0
    assert orders(audit)[1:] == [("sell", 5, "canceled"), ("sell", 5, "filled")]


def test_a_bar_fills_every_take_profit_that_it_reaches():
    """As the offers of a grid: each closes a part of what is held; the next bar is not waited for."""
    offers = [
        sell(2, order_type=LIMIT, limit_price=Decimal(price), time_in_force=TimeInForce.GTC) for price in (104, 107)
    ]
    engine, audit = play([100, 100, 100, 100, 110, 110], [buy(4), *offers])
    assert held(engine) == 0
    first, second = audit.fills("test")[1:]
    assert (first["price"], second["price"]) == (104, 107)
    assert first["event_ts"] == second["event_ts"]


def test_a_bar_fills_every_stop_that_it_reaches():
    """Two stops below, each of a part of what is held."""
    engine, audit = play([100, 100, 100, 100, 80, 80], [buy(4), guard(2, 95), guard(2, 90)])
    assert held(engine) == 0
    first, second = audit.fills("test")[1:]
    assert {first["price"], second["price"]} == {95, 90}
    assert first["event_ts"] == second["event_ts"]


def test_take_profit_in_part_leaves_a_smaller_stop():
    """Whichever fills, the other protects what is left and no more."""
    profit = sell(2, order_type=LIMIT, limit_price=Decimal(110), time_in_force=TimeInForce.GTC)
    engine, audit = play([100, 100, 100, 100, 115, 60, 60], [buy(5), guard(5), profit])
    assert held(engine) == 0
    assert orders(audit)[1:] == [("sell", 3, "filled"), ("sell", 2, "filled")]


@pytest.mark.parametrize("is_long", [True, False], ids=["long to short", "short to long"])
@pytest.mark.parametrize("order_type", ENDS)
def test_reversal_is_two_legs(order_type, is_long):
    """Of 5 the wrong way round with 2 held, 2 close; when they have filled, 3 open."""
    terms = {name: Decimal(value) for name, value in ENDS[order_type].items()}
    into, out = (buy, sell) if is_long else (sell, buy)
    if order_type in (OrderType.STOP, OrderType.TRAILING_STOP, OrderType.STOP_LIMIT):
        closes = [100, 100, 100, 99, 100, 101, 100, 99, 100, 100]
    else:
        closes = [100] * 8
    engine, audit = play(closes, [into(2), out(5, order_type=order_type, time_in_force=TimeInForce.GTC, **terms)])
    assert held(engine) == (-3 if is_long else 3)
    first, second = audit.orders("test")[1:]
    assert (first["quantity"], first["purpose"], second["quantity"], second["purpose"]) == (2, "exit", 3, "entry")
    assert second["client_order_id"] == f"{first['client_order_id']}-2"
    fills = audit.fills("test")
    assert fills[1]["event_ts"] < fills[2]["event_ts"]


def test_second_leg_of_a_reversal_is_never_sent_where_the_first_does_not_fill():
    """A limit that is not reached, and is canceled, opens nothing."""
    ask = sell(5, order_type=LIMIT, limit_price=Decimal(200))
    engine, audit = play([100] * 3 + [100] * 3000, [buy(2), ask])
    assert held(engine) == 2
    first, second = audit.orders("test")[1:]
    assert (first["state"], second["state"]) == ("expired", "canceled")
    assert second["reason"] == "not sent: the first leg did not fill"


def test_whole_reversal_is_judged_at_once():
    """What waits counts as an open order: limits are not passed by asking again."""
    engine, _ = play([100] * 3, [buy(2), None, sell(5, order_type=LIMIT, limit_price=Decimal(200))])
    gross, *_ = engine.books.exposures("a")
    assert gross == 2 * 100 + 3 * 200  # what closes counts in none


ACTS = st.one_of(
    st.none(),
    st.builds(buy, st.integers(1, 4)),
    st.builds(sell, st.integers(1, 6)),
    st.just(close()),
    st.just(close(order_type=LIMIT, limit_price=Decimal(101))),
    st.builds(target, st.integers(-3, 3)),
    st.builds(
        lambda quantity, price: lambda context: protect(context, quantity, price), st.integers(1, 4), st.integers(1, 3)
    ),
)


def protect(context, quantity, away):
    """A stop or a take-profit around the price, for some of what is held."""
    long = context.is_long
    if not (long or context.is_short):
        return None
    side = sell if long else buy
    price = Decimal(round(context.price))
    down, up = price - away, price + away
    gtc = {"time_in_force": TimeInForce.GTC}
    if away == 2:
        return side(quantity, order_type=LIMIT, limit_price=up if long else down, **gtc)(context)
    return side(quantity, order_type=STOP, stop_price=down if long else up, **gtc)(context)


@examples(500, quick=60)
@given(
    acts=st.lists(ACTS, min_size=3, max_size=30),
    closes=st.lists(st.integers(96, 104), min_size=5, max_size=40),
    cuts=st.sets(st.integers(1, 39)),
    latency_ms=st.sampled_from([0, 30_000, 150_000]),
    participation=st.sampled_from([None, Decimal("0.2")]),
)
def test_exits_never_open_anything(acts, closes, cuts, latency_ms, participation):
    """No fill of an exit takes a position through zero or enlarges it, and the batches make no difference."""
    broker = {"latency_ms": latency_ms, "participation": participation}
    engine, audit = play(closes, acts, cuts=cuts, **broker)
    whole, _ = play(closes, acts, **broker)
    assert engine.digest == whole.digest
    purposes = {row["client_order_id"]: Purpose(row["purpose"]) for row in audit.orders("test")}
    position = Decimal(0)
    for fill in audit.fills("test"):
        before, units = position, fill["quantity"] if fill["side"] == Side.BUY else -fill["quantity"]
        position += units
        if purposes[fill["client_order_id"]] is not Purpose.ENTRY:
            assert before * units < 0
            assert before * position >= 0
    assert engine.totals.illegal_reports == 0
    for working in engine.books.working.values():
        if working.order.intent.is_protection and not latency_ms:
            assert working.order.remaining <= abs(position)
